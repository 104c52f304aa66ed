"""The report: one JSON line for each run that ended."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from talkinghead.files import hash_of
from talkinghead.redact import redact_urls
from talkinghead.replay.runs import Same
from talkinghead.replay.sources import Problem

NAME = "replay.jsonl"


@dataclass(frozen=True)
class Entry:
    """What a line says: of which run, how it ended, and the names of its files."""

    key: str
    status: str
    name: str
    files: tuple[str, ...]


class Report:
    """The lines of a report so far, and more as runs end.

    Whatever a line is, it does no harm: one that was torn when its process was killed, or that
    somebody edited, counts for nothing if it is no entry, and its run is done again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = path.parent
        self._entries = [*_read(path)]
        self._said = {
            (line["key"], line["status"], line.get("file"), line.get("row"))
            for line in lines_of(path)
        }

    def done(self) -> set[str]:
        """Keys of the runs that succeeded, and whose files are all still there."""
        good = (entry for entry in self._entries if entry.status == "done")
        return {entry.key for entry in good if self._has_files(entry)}

    def names(self) -> dict[str, str]:
        """Name -> key of the run that has it."""
        return {entry.name: entry.key for entry in self._entries}

    def made(self, key: str) -> set[str]:
        """The names of all files that the run of this key made, now or before."""
        return {name for entry in self._entries if entry.key == key for name in entry.files}

    def add_once(self, entry: dict[str, Any]) -> None:
        """Append a line about a file that is not run, unless an earlier call said the same."""
        said = (entry["key"], entry["status"], entry["file"], entry["row"])
        if said not in self._said:
            self.add(entry)

    def _has_files(self, entry: Entry) -> bool:
        return all((self._folder / name).is_file() for name in entry.files)

    def add(self, entry: dict[str, Any]) -> None:
        """Append a line, whole and on disk when this returns."""
        line = _line(entry)
        self._entries += _entries_in(line)
        with self.path.open("ab+") as file:
            torn = file.tell() > 0 and not _ends_with_newline(self.path)
            file.write((b"\n" if torn else b"") + line + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _line(entry: dict[str, Any]) -> bytes:
    """The entry as JSON; half a character, as of a file name that is no UTF-8, is escaped in it."""
    return json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _read(path: Path) -> Iterator[Entry]:
    if path.exists():
        for line in path.read_bytes().split(b"\n"):
            yield from _entries_in(line)


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a report, whole; a line that is none is left out."""
    if path.exists():
        for line in path.read_bytes().split(b"\n"):
            if any(_entries_in(line)):
                yield json.loads(line)


def not_run(problem: Problem) -> dict[str, Any]:
    """The entry of a file that cannot be run as asked."""
    key = hash_of({"file": str(problem.path), "row": problem.row, "why": problem.why})
    return _about(key, "failed", problem.path, problem.row) | {"error": redact_urls(problem.why)}


def left_out(same: Same, name: str) -> dict[str, Any]:
    """The entry of a file that does the same as the run of this name."""
    return _about(same.key, "duplicate", same.path, same.row) | {"name": name, "same_as": name}


def _about(key: str, status: str, path: Path, row: int | None) -> dict[str, Any]:
    about = {"key": key, "status": status, "name": path.stem, "file": str(path), "row": row}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return about | {"kind": None, "started": now, "seconds": 0.0, "files": [], "error": None}


def _entries_in(line: bytes) -> Iterator[Entry]:
    """What a line says, if it is an entry."""
    try:
        fields = json.loads(line)
        files = tuple(file["path"] for file in fields["files"])
        entry = Entry(fields["key"], fields["status"], str(fields.get("name")), files)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return
    if isinstance(entry.key, str) and all(isinstance(name, str) for name in files):
        yield entry
