"""Local files in a request: within it as data: URIs while they are small, else uploaded first."""

from __future__ import annotations

import base64
import copy
import mimetypes
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Union

from .errors import FileTooLarge

LocalFile = Union[str, "os.PathLike[str]", bytes]
Files = Mapping[str, LocalFile]

# /run takes 10 MiB, and base64 makes 4 bytes of 3; the rest is for the request itself.
INLINE_BYTES = 7_000_000
FILES = "files."  # of a workflow job, each by its name
_FIELD = re.compile(r"[a-z]\w*(\.([a-z]\w*|[0-9]{1,3}))*", re.ASCII)
_UNKNOWN_TYPE = "application/octet-stream"
# What mimetypes does not know everywhere.
_TYPES = {
    ".webp": "image/webp",
    ".heic": "image/heic",
    ".opus": "audio/opus",
    ".flac": "audio/flac",
}


@dataclass(frozen=True)
class Presigned:
    """Where a file may be put, and where the worker gets it from."""

    put_url: str
    get_url: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Storage(Protocol):
    """Somewhere to upload files to, such as `S3Bucket`, or your own server that signs URLs."""

    def presign(self, name: str, content_type: str, size: int) -> Presigned:
        """A place for a file of this name, type and size in bytes."""


@dataclass(frozen=True)
class Content:
    """A local file of a request, and its field, such as `wav_url` or `speakers.0.audio_url`."""

    field: str
    name: str
    data: Path | bytes
    size: int

    @classmethod
    def of(cls, name: str, given: LocalFile) -> Content:
        """The file that was given for the field.

        Raises:
            OSError: it is not there.
        """
        if isinstance(given, bytes):
            own = name.removeprefix(FILES) if name.startswith(FILES) else name.replace(".", "-")
            return cls(name, own, given, len(given))
        path = Path(given)
        return cls(name, path.name, path, path.stat().st_size)

    @property
    def content_type(self) -> str:
        """By its name."""
        known = _TYPES.get(Path(self.name).suffix.lower())
        return known or mimetypes.guess_type(self.name)[0] or _UNKNOWN_TYPE

    def data_uri(self) -> str:
        """The file itself, as a URI."""
        data = self.data if isinstance(self.data, bytes) else self.data.read_bytes()
        return f"data:{self.content_type};base64,{base64.b64encode(data).decode('ascii')}"


@dataclass(frozen=True)
class Upload:
    """A file to be put somewhere, whose URL then stands in the request."""

    content: Content
    where: Presigned


class Attached:
    """A request with its files: `uploads` are to be done before `request` is sent.

    Raises:
        FileTooLarge: they do not fit into the request, and there is no storage.
        OSError: a file is not there.
    """

    def __init__(self, request: Mapping[str, Any], files: Files, storage: Storage | None) -> None:
        self.request: dict[str, Any] = copy.deepcopy(dict(request))
        self.uploads: list[Upload] = []
        contents = [Content.of(name, given) for name, given in files.items()]
        inline = set(those_that_fit(contents))
        for content in contents:
            if content in inline:
                _set(self.request, content.field, content.data_uri())
                continue
            if storage is None:
                raise FileTooLarge(
                    f"{content.name} has {content.size / 1e6:.1f} MB: requests take "
                    f"{INLINE_BYTES / 1e6:g} MB of files in all. Give a storage to upload it to, "
                    "or its URL"
                )
            where = storage.presign(content.name, content.content_type, content.size)
            self.uploads.append(Upload(content, where))
            _set(self.request, content.field, where.get_url)


def those_that_fit(contents: Iterable[Content]) -> Iterator[Content]:
    """Those that go into the request itself: the small ones, as many as it holds."""
    room = INLINE_BYTES
    for content in sorted(contents, key=lambda each: each.size):
        room -= content.size
        if room >= 0:
            yield content


def _steps_to(name: str) -> list[str]:
    """`speakers.1.audio_url` in parts; what a workflow job calls a file may have dots, too.

    Raises:
        ValueError: it names no field.
    """
    if name.startswith(FILES) and name != FILES:
        return ["files", name.removeprefix(FILES)]
    if not _FIELD.fullmatch(name):
        raise ValueError(
            f"{name!r} is no field of a request: image_url, audio_urls.0, speakers.1.audio_url, or "
            "files.NAME of a workflow job"
        )
    return name.split(".")


def _set(request: dict[str, Any], name: str, url: str) -> None:
    """Put the URL into the field, as `speakers.0.audio_url`; what leads to it is made."""
    *way, last = _steps_to(name)
    inner: Any = request
    for step, after in zip(way, [*way, last][1:], strict=True):
        inner = _within(inner, step, name, [] if after.isdecimal() else {})
    _within(inner, last, name, "")
    inner[int(last) if isinstance(inner, list) else last] = url


def _within(inner: Any, step: str, name: str, empty: Any) -> Any:  # noqa: ANN401 - JSON values
    """What the step leads to; it is made, if nothing is there."""
    if isinstance(inner, list) and step.isdecimal():
        while len(inner) <= int(step):
            inner.append(copy.copy(empty))
        return inner[int(step)]
    if not isinstance(inner, dict):
        raise ValueError(f"{name!r} is no field of a request: it leads into {inner!r:.40}")
    if inner.get(step) is None:
        inner[step] = empty
    return inner[step]
