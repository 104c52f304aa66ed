"""`talkinghead run --endpoint`: the same render, on a RunPod endpoint or a `talkinghead serve`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from talkinghead.client import Client, EndpointUnavailable, JobState, S3Bucket
from talkinghead.client.wire import Unanswered, Unheard, Wire
from talkinghead.delivery.file import new_path
from talkinghead.plan.fields import url_fields
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
        typer.BadParameter: there is no key.
        TalkingheadError
    """
    is_url = "://" in endpoint
    if not is_url and not os.environ.get("RUNPOD_API_KEY"):
        raise typer.BadParameter("--endpoint needs the environment variable RUNPOD_API_KEY")
    storage = S3Bucket.from_env()
    client = Client(None if is_url else endpoint, endpoint if is_url else None, storage=storage)

    def seen(state: JobState) -> None:
        progress = state.progress
        if progress is None:
            told(100.0 * state.is_final, state.status.lower().replace("_", " "), None)
        else:
            told(progress["percent"], progress["message"], progress["eta_seconds"])

    files = dict(_local_files("", "", fields))
    if is_url:
        _check_there(endpoint)
    result = client.render(fields, files, seen)
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
        Wire(url).ask("GET", "health")
    except Unheard as error:
        raise EndpointUnavailable(f"nobody answers at {url}: {error}") from None
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
