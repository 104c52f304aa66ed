"""`talkinghead run --endpoint`: the same render, on a RunPod endpoint or a `talkinghead serve`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from talkinghead.client import Client, EndpointUnavailable, JobState, S3Bucket, Unauthorized
from talkinghead.client.wire import Unanswered, Unheard, Wire, endpoint_url, is_runpods
from talkinghead.delivery.file import new_path
from talkinghead.plan.fields import url_fields
from talkinghead.redact import redact_url
from talkinghead.replay.endpoint_api import key_name
from talkinghead.replay.sources import path_of

Told = Callable[[float, str, float | None], None]  # percent, what is done, seconds left


def render_there(
    fields: dict[str, Any], endpoint: str, out: Path, told: Told, *, overwrite: bool
) -> dict[str, Any]:
    """Render the request on the endpoint and bring the video to `out`; returns its result.

    Its local files go along: in the request, or through the bucket that S3_BUCKET, S3_KEY and
    S3_SECRET name here, where they are too large for it.

    Args:
        fields: the request's, with local files as file:// URLs.
        endpoint: its id, or a URL.
        overwrite: `out` may be written over; else it gets a number where something has come.

    Raises:
        typer.BadParameter: that is no endpoint, or RunPod's key is missing.
        TalkingheadError
    """
    try:
        url = endpoint if "://" in endpoint else endpoint_url(endpoint)
        key = os.environ.get(key_name(url), "")
        client = Client(url=url, api_key=key, storage=S3Bucket.from_env())
    except ValueError as error:
        raise typer.BadParameter(f"--endpoint: {error}") from None
    if is_runpods(url) and not key:
        raise typer.BadParameter("--endpoint needs the environment variable RUNPOD_API_KEY")

    def seen(state: JobState) -> None:
        progress = state.progress
        if progress is None:
            told(100.0 * state.is_final, state.status.lower().replace("_", " "), None)
        else:
            told(progress["percent"], progress["message"], progress["eta_seconds"])

    files = dict(_local_files("", "", fields))
    if not is_runpods(url):
        _check_there(url)
    try:
        result = client.render(fields, files, seen)
    except Unauthorized:
        raise Unauthorized(
            f"{key_name(url)} is not set, or not taken by {redact_url(url)}"
        ) from None
    path = out if overwrite else new_path(out)
    try:
        client.save(result, path)
    except BaseException:
        if not overwrite:
            path.unlink(missing_ok=True)
        raise
    return {**result.output, "path": str(path)}


def _check_there(url: str) -> None:
    """Somebody who mistypes an address hears it at once; what answers anything is waited for."""
    try:
        Wire(url, "").ask("GET", "health")
    except Unheard as error:
        raise EndpointUnavailable(f"nobody answers at {redact_url(url)}: {error}") from None
    except Unanswered:
        return


def _local_files(name: str, field: str, value: object) -> Iterator[tuple[str, Path]]:
    """The local files of a request by the fields that they are for, as the client names these."""
    inner = dict(enumerate(value)) if isinstance(value, list) else value
    for key, item in inner.items() if isinstance(inner, Mapping) else ():
        own = key if isinstance(key, str) else field
        yield from _local_files(f"{name}.{key}".lstrip("."), own, item)
    if field in url_fields() and isinstance(value, str) and value.startswith("file://"):
        yield name, path_of(value)
