"""The sums of model files, remembered: gigabytes are read once, and not at every start."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import NamedTuple


class Sum(NamedTuple):
    """A file's sha256, and its size and time when it was taken."""

    sha256: str
    stamp: list[int]


def stamp_of(path: Path) -> list[int]:
    """Size in bytes and time of change in ns: a file with the same is not summed again."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


class KnownSums:
    """Notes in a folder, one for each file that was summed.

    Files below `root`, which the folder is in, are known by their places there: a volume is
    mounted elsewhere on a Pod that fills it than on the workers.
    Workers of a shared volume share them: a note appears whole, by a rename, and the last one wins,
    which says the same as the others.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder = folder
        self._root = root

    def known(self, path: Path) -> Sum | None:
        """What was noted of the file, whether or not it has changed since."""
        try:
            note = json.loads(self._note(path).read_text(encoding="utf-8"))
            return Sum(str(note["sha256"]), list(note["stamp"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember(self, path: Path, found: Sum) -> None:
        """Note the sum; in a folder that is only read nothing is, and the file is summed again."""
        note = self._note(path)
        partial = note.with_suffix(f".{os.getpid()}")
        content = {"path": str(path), "stamp": found.stamp, "sha256": found.sha256}
        with contextlib.suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(content), encoding="utf-8")
            partial.replace(note)

    def forget(self, path: Path) -> None:
        """Remove the note, if there is one.

        Raises:
            OSError: it cannot be removed.
        """
        self._note(path).unlink(missing_ok=True)

    def _note(self, path: Path) -> Path:
        place, root = path.resolve(), self._root.resolve()
        if place.is_relative_to(root):
            place = place.relative_to(root)
        key = hashlib.sha256(str(place).encode()).hexdigest()[:32]
        return self._folder / f"{key}.json"
