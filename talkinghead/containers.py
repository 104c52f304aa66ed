"""Strangers' media files: opened so that they lead nowhere else, their faults told as ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import av
from av.container import InputContainer

from talkinghead.errors import MediaInvalid


def open_container(path: Path, formats: str) -> InputContainer:
    """Open a file with one of FFmpeg's demuxers in `formats`, and no file or URL besides it."""
    options = {"protocol_whitelist": "file", "format_whitelist": formats}
    # Titles in an old encoding are no reason to refuse a file.
    return av.open(str(path), options=options, metadata_errors="replace")


@contextlib.contextmanager
def decoding(name: str, what: str) -> Iterator[None]:
    """Faults of the file as MediaInvalid. `name` is the request's field, `what` it should hold."""
    try:
        yield
    except (av.FFmpegError, ValueError) as error:
        reason = error.strerror if isinstance(error, av.FFmpegError) else str(error)
        raise MediaInvalid(f"{name}: the {what} cannot be decoded: {reason}") from None
