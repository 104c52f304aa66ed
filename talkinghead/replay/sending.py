"""Local files of a run on their way to an endpoint, which sees none of this machine's.

Small ones go within the job, as data: URIs; larger ones are put into the bucket that the settings
name, and the job gets URLs that are signed for a while.
"""

from __future__ import annotations

import base64
import copy
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talkinghead.delivery.blobs import StoreError
from talkinghead.delivery.s3 import S3Store
from talkinghead.replay.places import Failed
from talkinghead.replay.runs import UPLOADS, Run, sha256_of_input
from talkinghead.replay.sources import files_of, path_of
from talkinghead.settings import Settings

INLINE_BYTES = 7_000_000  # /run takes 10 MB, of which base64 takes a third
FOLDER = "replay-inputs"


class Sender:
    """Makes jobs of runs, local files included; of several threads at once."""

    def __init__(self, settings: Settings) -> None:
        self._store = S3Store(settings.bucket, settings) if settings.bucket else None

    def job(self, run: Run) -> dict[str, Any]:
        """The job's input.

        Raises:
            Failed: its files are too large, and there is no bucket, or it does not take them.
            BadInput: a file cannot be read.
        """
        if run.kind == "workflow":
            return self._workflow_job(run)
        paths = list(dict.fromkeys(files_of(run.content)))
        urls = self._urls(paths)
        fields = with_urls(run.content, {path.absolute().as_uri(): urls[path] for path in paths})
        return dict(fields)

    def _workflow_job(self, run: Run) -> dict[str, Any]:
        """The worker takes files by plain names, and puts them wherever a node names one."""
        names = {
            name: f"{sha256_of_input(path)[:8]}-{path.name}" for name, path in run.files.items()
        }
        urls = self._urls(list(run.files.values()))
        graph = copy.deepcopy(run.content)
        for entry in graph.values():
            loaded = UPLOADS.get(entry["class_type"], "")
            if (value := entry["inputs"].get(loaded)) in names:
                entry["inputs"][loaded] = names[value]
        files = {names[name]: urls[path] for name, path in run.files.items()}
        return {"workflow": graph, **({"files": files} if files else {})}

    def _urls(self, paths: list[Path]) -> dict[Path, str]:
        room, urls = INLINE_BYTES, {}
        for path in sorted(paths, key=_size):
            room -= _size(path)
            urls[path] = _data_uri(path) if room >= 0 else self._uploaded(path)
        return urls

    def _uploaded(self, path: Path) -> str:
        if self._store is None:
            raise Failed(
                f"{path} has {_size(path) / 1e6:.1f} MB, and a job takes {INLINE_BYTES / 1e6:g} MB "
                "of files: set S3_BUCKET and its keys, and larger ones go there",
                again=False,
            )
        key = sha256_of_input(path)
        try:
            self._store.put(FOLDER, f"{key}{path.suffix.lower()}", path, _type_of(path))
        except (StoreError, OSError) as error:
            raise Failed(f"{path} cannot be uploaded: {error}", again=True) from None
        return self._store.url(FOLDER, f"{key}{path.suffix.lower()}")


def with_urls(value: Any, urls: Mapping[str, str]) -> Any:  # noqa: ANN401 - JSON
    """The JSON value with these URLs in the places of local ones."""
    if isinstance(value, Mapping):
        return {name: with_urls(item, urls) for name, item in value.items()}
    if isinstance(value, list):
        return [with_urls(item, urls) for item in value]
    if isinstance(value, str) and value.startswith("file://"):
        return urls[path_of(value).absolute().as_uri()]
    return value


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}", again=False) from None


def _type_of(path: Path) -> str:
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"


def _data_uri(path: Path) -> str:
    return f"data:{_type_of(path)};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
