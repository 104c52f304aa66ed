"""Local files of a run on their way to an endpoint, which sees none of this machine's.

Small ones go within the job, as data: URIs; larger ones are put into the bucket that the settings
name, and the job gets URLs that are signed for a while.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from talkinghead.client.files import INLINE_BYTES, Content, those_that_fit
from talkinghead.delivery.blobs import StoreError
from talkinghead.delivery.s3 import S3Store
from talkinghead.replay.places import Failed
from talkinghead.replay.runs import UPLOADS, Run, sha256_of_input
from talkinghead.replay.sources import files_of, with_files
from talkinghead.settings import Settings

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
        urls = self._urls(dict.fromkeys(files_of(run.content)))
        return {name: with_files(item, urls.__getitem__) for name, item in run.content.items()}

    def _workflow_job(self, run: Run) -> dict[str, Any]:
        """The worker takes files by plain names, and puts them wherever a node names one."""
        names = {
            name: f"{sha256_of_input(path)[:8]}-{path.name}" for name, path in run.files.items()
        }
        urls = self._urls(run.files.values())
        graph = copy.deepcopy(run.content)
        for entry in graph.values():
            loaded = UPLOADS.get(entry["class_type"], "")
            if (value := entry["inputs"].get(loaded)) in names:
                entry["inputs"][loaded] = names[value]
        files = {names[name]: urls[path] for name, path in run.files.items()}
        return {"workflow": graph, **({"files": files} if files else {})}

    def _urls(self, paths: Iterable[Path]) -> dict[Path, str]:
        contents = {path: _content(path) for path in paths}
        inline = set(those_that_fit(contents.values()))
        return {
            path: content.data_uri() if content in inline else self._uploaded(path, content)
            for path, content in contents.items()
        }

    def _uploaded(self, path: Path, content: Content) -> str:
        if self._store is None:
            raise Failed(
                f"{path} has {content.size / 1e6:.1f} MB, and a job takes {INLINE_BYTES / 1e6:g} "
                "MB of files: set S3_BUCKET and its keys, and larger ones go there",
                again=False,
            )
        name = f"{sha256_of_input(path)}{path.suffix.lower()}"
        try:
            self._store.put(FOLDER, name, path, content.content_type)
        except (StoreError, OSError) as error:
            raise Failed(f"{path} cannot be uploaded: {error}", again=True) from None
        return self._store.url(FOLDER, name)


def _content(path: Path) -> Content:
    try:
        return Content.of(str(path), path)
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}", again=False) from None
