"""The folder that outputs go to: what a run made gets a name there, and nobody's file is lost."""

from __future__ import annotations

import itertools
import os
import threading
from pathlib import Path
from typing import Any

from talkinghead.delivery.file import BUNDLE_SUFFIX
from talkinghead.files import sha256_of
from talkinghead.replay.look import OutputLook
from talkinghead.replay.page import poster_path
from talkinghead.replay.report import Report
from talkinghead.replay.runs import Run


class OutputFolder:
    """Takes what runs made, of several threads at once.

    A file that is there already is replaced only if the report says that the same run made it; so
    are sources safe that lie in the folder, and what people put there.
    """

    def __init__(self, path: Path, report: Report, look: OutputLook) -> None:
        self.path = path
        self._report, self._look = report, look
        self._lock = threading.Lock()

    def publish(self, made: Path, run: Run, name: str) -> list[dict[str, Any]]:
        """Move a run's outputs to their place; returns path, hash and size of each, and of a
        video what is seen of it.

        Where each has a suffix of its own they are `name` + suffix, else `name`-their own name. To
        one that is taken a number is added.

        Raises:
            OSError
        """
        paths = sorted(made.iterdir())
        short = len({_suffix(path) for path in paths}) == len(paths)
        may_replace = self._report.made(run.key)
        files = []
        for path in paths:
            suffix = _suffix(path)
            stem = name if short else f"{name}-{path.name.removesuffix(suffix)}"
            sha256, size = sha256_of(path), path.stat().st_size
            seen = self._look.of(path, poster_path(self.path, sha256))
            about = {"sha256": sha256, "bytes": size, **seen}
            with self._lock:
                target = self._free(stem, suffix, run, may_replace)
                path.replace(target)
            may_replace.discard(target.name)
            files.append({"path": target.name, **about})
        return files

    def _free(self, stem: str, suffix: str, run: Run, may_replace: set[str]) -> Path:
        numbered = (f"{stem}-{number}" for number in itertools.count(2))
        paths = (self.path / f"{each}{suffix}" for each in itertools.chain([stem], numbered))
        return next(
            path
            for path in paths
            if not os.path.lexists(path) or (path.name in may_replace and not _is_source(path, run))
        )


def _is_source(path: Path, run: Run) -> bool:
    return path.exists() and run.path.exists() and path.samefile(run.path)


def _suffix(path: Path) -> str:
    return BUNDLE_SUFFIX if path.name.endswith(BUNDLE_SUFFIX) else path.suffix
