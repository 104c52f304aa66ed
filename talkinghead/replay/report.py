"""The report: one JSON line for each run that ended."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NAME = "replay.jsonl"


class Report:
    """The lines of a report so far, and more as runs end.

    A line that was torn when its process was killed counts for nothing: its run is done again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = path.parent
        self._entries = list(_read(path))

    def done(self) -> set[str]:
        """Keys of the runs that succeeded, and whose files are all still there."""
        good = (entry for entry in self._entries if entry.get("status") == "done")
        return {entry["key"] for entry in good if self._has_files(entry)}

    def names(self) -> dict[str, str]:
        """Name -> key of the run that has it."""
        return {str(entry.get("name")): entry["key"] for entry in self._entries}

    def _has_files(self, entry: Mapping[str, Any]) -> bool:
        return all((self._folder / file["path"]).is_file() for file in entry["files"])

    def add(self, entry: dict[str, Any]) -> None:
        """Append a line, whole and on disk when this returns."""
        self._entries.append(entry)
        with self.path.open("ab+") as file:
            torn = file.tell() > 0 and not _ends_with_newline(self.path)
            line = json.dumps(entry, ensure_ascii=False).encode()
            file.write((b"\n" if torn else b"") + line + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _read(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_bytes().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and {"key", "status", "files"} <= entry.keys():
            yield entry
