"""The hub of the models, or a mirror of it: what it says of a file, and the file itself."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import logging as hub_logging

from talkinghead.errors import ModelsMissing
from talkinghead.models.manifest import ModelFile

# It warns of each attempt, with the URL, which may be a signed one: the last one's failure is told.
hub_logging.set_verbosity(logging.ERROR)

SHA256_DIGITS = 64  # the hub's ETag of a large file is its sha256, of a small one a shorter sum


@dataclass(frozen=True)
class HubFile:
    """What the hub says of a file; `sha256` is None for small files, which it sums otherwise.

    `revision` is the commit that was asked, so that what is fetched then is the same.
    """

    bytes: int
    sha256: str | None
    revision: str


def ask_hub(name: str, file: ModelFile) -> HubFile:
    """Size and sum at the hub, which must be those of the manifest.

    Raises:
        ModelsMissing: the hub does not have the file, or has another, or does not answer.
    """
    if file.repo is None or file.path is None:
        raise ModelsMissing(f"{name} is nowhere to be fetched: scripts/make-tiny-models makes it")
    url = hf_hub_url(file.repo, file.path, revision=file.revision, endpoint=_endpoint())
    try:
        seen = get_hf_file_metadata(url, token=_token())
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise _failure(name, file, error) from None
    sha256 = seen.etag if seen.etag and len(seen.etag) == SHA256_DIGITS else None
    hub = HubFile(seen.size or 0, sha256, seen.commit_hash or file.revision)
    for what, ours, theirs in (
        ("bytes", file.bytes, hub.bytes),
        ("sha256", file.sha256, hub.sha256),
    ):
        if ours is not None and theirs is not None and ours != theirs:
            raise ModelsMissing(
                f"{name}: {what} is {theirs} at {file.repo}, revision {file.revision}, and {ours} "
                "in the manifest"
            )
    return hub


def download(name: str, file: ModelFile, hub: HubFile, folder: Path, *, afresh: bool) -> Path:
    """Bring the file into `folder`, at its path in the repo; returns where it is.

    It goes on with what an earlier attempt left in `folder`, unless `afresh`. Whether it is whole
    is not looked at.

    Raises:
        ModelsMissing: the hub does not give it.
    """
    try:
        path = hf_hub_download(
            str(file.repo),
            str(file.path),
            revision=hub.revision,
            local_dir=folder,
            force_download=afresh,
            endpoint=_endpoint(),
            token=_token(),
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise _failure(name, file, error) from None
    return Path(path)


def _endpoint() -> str | None:
    """The hub, or a mirror of it."""
    return os.environ.get("HF_ENDPOINT") or None


def _token() -> str | bool:
    """From the environment alone, not one that lies in a home folder."""
    return os.environ.get("HF_TOKEN") or False


def _failure(name: str, file: ModelFile, error: Exception) -> ModelsMissing:
    """Without the error's own text, which may hold a signed URL."""
    response = getattr(error, "response", None)
    status = f"HTTP {response.status_code}" if response is not None else type(error).__name__
    reason = getattr(error, "strerror", None)
    hint = ": is HF_TOKEN set?" if status in ("HTTP 401", "HTTP 403") else ""
    return ModelsMissing(
        f"{name} cannot be fetched from {file.repo}, revision {file.revision}: "
        f"{reason or status}{hint}"
    )
