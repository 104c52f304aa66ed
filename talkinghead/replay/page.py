"""A page to look at results with: one file that needs no server, written from the report."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import threading
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from talkinghead.delivery.file import BUNDLE_SUFFIX
from talkinghead.replay.look import VIDEO_SUFFIXES
from talkinghead.replay.report import lines_of

NAME = "index.html"
TEMPLATE = "page.html"
EVERY_SECONDS = 5.0
POSTERS = ".posters"  # a folder beside it: a JPEG of each video, which the page then holds itself
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif")
COPIED = ("key", "status", "name", "file", "row", "repeat", "seed", "set", "server", "seconds")


def poster_path(folder: Path, sha256: str) -> Path:
    """Where the still of a video lies that has this sum."""
    return folder / POSTERS / f"{sha256[:16]}.jpg"


def write_page(report: Path, page: Path, *, left: int = 0) -> None:
    """Write the page of all that a report tells; who reads it meanwhile sees the old one or this.

    Args:
        left: how many runs are still to come.

    Raises:
        OSError
    """
    entries = [_shown(entry, report.parent) for entry in latest(lines_of(report))]
    now = datetime.now().astimezone().strftime("%H:%M")
    told = f"as of {now}, {left} to come: reload the page" if left else f"complete at {now}"
    # No "<" in a script: what stands in a prompt cannot end it.
    data = json.dumps({"entries": entries, "told": told}).replace("<", "\\u003c")
    template = Path(__file__).with_name(TEMPLATE).read_text("utf-8")
    fresh = page.with_name(f".{page.name}.{os.getpid()}")
    fresh.write_text(template.replace("DATA", data, 1), encoding="utf-8")
    fresh.replace(page)


def latest(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last line of each run; what a file was once refused for is gone when it is run."""
    last: dict[tuple[str, str, int | None], dict[str, Any]] = {}
    for line in lines:
        at = str(line.get("file")), line.get("row")
        if line.get("kind") is not None:
            last.pop(("not run", *at), None)
        key = "not run" if line.get("kind") is None else line["key"]
        last.pop((key, *at), None)
        last[(key, *at)] = line
    return list(last.values())


def _shown(entry: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What the page is told of an entry."""
    files = [file for file in entry["files"] if isinstance(file, dict)]
    paths = [str(file["path"]) for file in files]
    videos = [file for file in files if str(file["path"]).lower().endswith(VIDEO_SUFFIXES)]
    images = [path for path in paths if path.lower().endswith(IMAGE_SUFFIXES)]
    look = (videos[0].get("look") or {}) if videos else {}
    warnings = [*(entry.get("warnings") or []), *(look.get("warnings") or [])]
    defect = look.get("defect") or look.get("error")
    return {
        **{name: entry.get(name) for name in COPIED},
        # What does the same has the name of what was run: a person looks for its own.
        **({"name": Path(str(entry["file"])).stem} if entry.get("same_as") else {}),
        "error": entry.get("error"),
        "same_as": entry.get("same_as"),
        "warnings": list(dict.fromkeys([*([f"defective: {defect}"] if defect else []), *warnings])),
        "quality": look.get("quality"),
        "video": videos[0]["path"] if videos else None,
        "image": images[0] if images and not videos else None,
        "poster": _poster(folder, videos[0]) if videos else None,
        "files": sorted(paths, key=lambda path: path.endswith(BUNDLE_SUFFIX)),
        "source": _relative(str(entry.get("file")), folder),
    }


def _poster(folder: Path, video: Mapping[str, Any]) -> str | None:
    try:
        content = poster_path(folder, str(video["sha256"])).read_bytes()
    except (OSError, KeyError):
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode('ascii')}"


def _relative(file: str, folder: Path) -> str:
    """The way from the page to a source file."""
    return quote(os.path.relpath(Path(file).absolute(), folder.absolute()))


class PageWriter:
    """Writes the page from a thread of its own while runs end, now and then.

    Args:
        total: how many runs there are.
    """

    def __init__(self, report: Path, total: int) -> None:
        self._report, self._left = report, total
        self._changed, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped.set()
        self._changed.set()
        self._thread.join()

    def ended(self) -> None:
        """A run ended: the page is written soon."""
        self._left -= 1
        self._changed.set()

    def _run(self) -> None:
        while self._changed.wait() and not self._stopped.is_set():
            self._changed.clear()
            with contextlib.suppress(OSError):  # a full disk is told by what it costs
                write_page(self._report, self._report.with_name(NAME), left=self._left)
            self._stopped.wait(EVERY_SECONDS)
