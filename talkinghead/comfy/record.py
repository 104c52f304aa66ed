"""What workers have learned of their machine, in files that `talkinghead doctor` reads.

The doctor is another process than the worker that it is asked about. So each worker says what it
knows in a file of its own, `worker-HOST-PID.json` in WORK_DIR: JSON, sentences by subject. What a
worker that is gone has said of the machine holds until another has found that it computes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from talkinghead.files import read_json

log = logging.getLogger("talkinghead")


class Record:
    """What this process says of itself; kept from `keep_in` on, which only a worker calls."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._said: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    def keep_in(self, work_dir: Path) -> None:
        """Write what is said from now on into the folder."""
        self._path = work_dir / f"{_prefix()}{os.getpid()}.json"

    def stop(self) -> None:
        """Write nothing more: for a worker that is ended, all that it ends seems to fail."""
        self._path = None

    def say(self, subject: str, sentences: Sequence[str]) -> None:
        """Say this of the subject, in place of what was said of it before; none: nothing more."""
        with self._lock:
            known = self._said.get(subject, [])
            self._said[subject] = list(sentences)
            if known != self._said[subject]:
                self._write()

    def is_fit(self) -> None:
        """This worker has found that its machine computes: what those that are gone said is old."""
        path = self._path
        if path is None:
            return
        with contextlib.suppress(OSError):  # the folder is away: then the next time
            for each in said_here(path.parent):
                if each.path == path or not Path(f"/proc/{each.worker}").exists():
                    each.path.unlink(missing_ok=True)
        with self._lock:
            self._write()

    def _write(self) -> None:
        path = self._path
        if path is None:
            return
        said = {subject: sentences for subject, sentences in self._said.items() if sentences}
        fresh = path.with_suffix(".new")
        try:
            if not said:
                path.unlink(missing_ok=True)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps(said, indent=1), encoding="utf-8")
            fresh.replace(path)
        except OSError as error:  # it costs the doctor's word, and no job
            log.warning("what this worker has learned cannot be written down: %s", error)


@dataclass(frozen=True)
class Said:
    """What a worker of this machine said last, so many seconds ago; `worker` is its process id."""

    path: Path
    worker: str
    seconds: float
    sentences: list[str]


def said_here(work_dir: Path) -> Iterator[Said]:
    """What workers of this machine have said, by their files in the folder."""
    for path in sorted(work_dir.glob(f"{_prefix()}*.json")):
        worker = path.stem.removeprefix(_prefix())
        # One that is just now deleted, or that nobody of ours wrote, says nothing.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            seconds, said = time.time() - path.stat().st_mtime, read_json(path)
            if worker.isdigit():
                sentences = [str(each) for subject in said.values() for each in subject]
                yield Said(path, worker, max(0.0, seconds), sentences)


def _prefix() -> str:
    """A container's host name is its own, and stays when it is started again."""
    return f"worker-{re.sub(r'[^A-Za-z0-9.-]', '_', socket.gethostname())}-"
