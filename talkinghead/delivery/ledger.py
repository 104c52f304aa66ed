"""What a long render leaves in the store after each window, for a later job to continue from.

Under the job's key lie, in `checkpoint/`: the segments, the motion states of the last two windows,
and the ledger, which is written last: what it names is there. Every run of the render gives its
files names of its own, so that a worker that was taken for lost overwrites nothing.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import io
import logging
import math
import queue
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

from pydantic import TypeAdapter, ValidationError

from talkinghead import logs
from talkinghead.delivery.parcel import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    PassingFault,
    Patience,
    keep_trying,
)
from talkinghead.errors import NO_ROOM, CheckpointRefused, DeliveryFailed

FOLDER = "checkpoint/"
LEDGER = f"{FOLDER}ledger.json"
# What may be deleted: in a bucket, folders of this name may be somebody else's.
OURS = re.compile(FOLDER + r"(ledger|(segment|motion)_\d{5,}_[0-9a-f]{8})\.(json|mp4|latent|part)")
MARKS = 2  # should the last window's files be damaged, the one before is continued
READ_SECONDS = 60.0  # a file of the checkpoint, with all repetitions
CLOSE_SECONDS = 7.0  # SIGTERM leaves a worker 9 s
DOWNLOADS = 8
CHUNK_BYTES = 1 << 20
OTHERS = {
    "picture": "another picture",
    "voices": "other voices",
    "masks": "other masks",
    "plan": "another plan",
    "workflow": "another workflow",
    "comfyui": "another ComfyUI",
    "packs": "other node packs",
    "models": "other model files",
}


@dataclass(frozen=True)
class Stored:
    """A file of a job in the store; `modified` in seconds since the epoch."""

    name: str
    size: int
    modified: float


class CheckpointStore(Protocol):
    """A place for the files of a render that goes on. Names are those below the job's key."""

    def save(self, job: str, name: str, content: Path | bytes, content_type: str) -> None:
        """Write a file: whole, or not at all.

        Raises:
            DeliveryFailed, PassingFault, OSError
        """

    def load(self, job: str, name: str, into: BinaryIO, patience: Patience) -> bool:
        """Read a file; False if there is none.

        Raises:
            DeliveryFailed, PassingFault, OSError, and what `patience` raises
        """

    def files(self, job: str, folder: str) -> list[Stored]:
        """What lies in a folder of the job's; a folder ends in "/".

        Raises:
            DeliveryFailed
        """

    def remove(self, job: str, names: Iterable[str]) -> None:
        """Delete files.

        Raises:
            DeliveryFailed: not all of them could be.
        """

    def jobs(self) -> list[str]:
        """The keys of all jobs, whatever there is of them.

        Raises:
            DeliveryFailed
        """

    def url(self, job: str, name: str) -> str | None:
        """Where anybody can read the file, if it has such a place."""


@dataclass(frozen=True)
class Mark:
    """A window after which the render can go on.

    `chain` is the sum of all segments up to it, SHA-256(chain before + SHA-256(segment)), as text
    in hex; `motion` is the SHA-256 of its motion state.
    """

    window: int
    chain: str
    motion: str


@dataclass(frozen=True)
class Run:
    """A worker's turn at the render: its files' names hold the token, from window `first` on."""

    first: int
    token: str


@dataclass(frozen=True)
class Ledger:
    """What a checkpoint is of, and how far it is.

    `fit` is what has to be equal to go on, and `state` what may have changed on the way.
    """

    fit: Mapping[str, str]
    seed: int
    windows: int
    state: Mapping[str, Any] = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()
    runs: tuple[Run, ...] = ()
    version: Literal[1] = 1

    @property
    def windows_done(self) -> int:
        """How many windows there are, from the first on."""
        return self.marks[-1].window if self.marks else 0

    @property
    def progress(self) -> str:
        """How far it is, for people."""
        return f"{self.windows_done} of {self.windows} windows"

    def stored(self, name: str, window: int) -> str:
        """What the store calls the segment or motion state of a window."""
        token = next((run.token for run in reversed(self.runs) if run.first <= window), "")
        stem, _, suffix = name.partition(".")
        return f"{FOLDER}{stem}_{token}.{suffix}"


_LEDGER = TypeAdapter(Ledger)


def segment_name(window: int) -> str:
    """The file of a window's frames; windows are counted from 1."""
    return f"segment_{window:05}.mp4"


def motion_name(window: int) -> str:
    """The file of a window's motion state."""
    return f"motion_{window:05}.latent"


def read_ledger(store: CheckpointStore, job: str, check: Callable[[], None]) -> Ledger | None:
    """The ledger of a job, if it has one.

    Raises:
        CheckpointRefused: it is no ledger that this worker can read.
        DeliveryFailed: the store does not answer.
    """
    content = io.BytesIO()
    if not _read(store, job, LEDGER, content, check):
        return None
    try:
        return _LEDGER.validate_json(content.getvalue())
    except ValidationError:
        raise CheckpointRefused(
            f"the checkpoint of {job} cannot be read: it is damaged, or another version of the "
            f"worker made it; {_anew(job)}"
        ) from None


def checkpoint_files(store: CheckpointStore, job: str) -> list[Stored]:
    """What the store has of a job's checkpoint.

    Raises:
        DeliveryFailed
    """
    return [file for file in store.files(job, FOLDER) if OURS.fullmatch(file.name)]


def remove_checkpoint(store: CheckpointStore, job: str) -> None:
    """Delete it, the ledger first: one that is half deleted shall not seem whole.

    Raises:
        DeliveryFailed: some files could not be deleted.
    """
    names = sorted(file.name for file in checkpoint_files(store, job))
    if LEDGER in names:
        names.remove(LEDGER)
        store.remove(job, [LEDGER])
    store.remove(job, names)


class Checkpoints:
    """A render's checkpoint, written behind its back. Without a store nothing is kept.

    Windows are counted from 1 and saved in order, each once.
    """

    def __init__(self, store: CheckpointStore | None, job: str) -> None:
        self._store = store
        self._job = job
        self._token = uuid.uuid4().hex[:8]
        self._marks: tuple[Mark, ...] = ()
        self._runs: tuple[Run, ...] = ()
        self._motion: Path | None = None
        self._writes: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._deadline = math.inf
        self._delivered = False
        self._failing = False
        self._littering = False

    def open(self, fit: Mapping[str, str], check: Callable[[], None]) -> Ledger | None:
        """The ledger that an earlier job left, if there is one. What `check` raises ends it.

        Raises:
            CheckpointRefused: it is of another render, or cannot be read.
            DeliveryFailed: the store does not answer: to start anew would overwrite it.
        """
        ledger = read_ledger(self._store, self._job, check) if self._store else None
        if ledger is not None and dict(ledger.fit) != dict(fit):
            raise _refused(self._job, ledger, fit)
        return ledger

    def restore(self, ledger: Ledger, folder: Path, check: Callable[[], None]) -> Ledger | None:
        """Bring the segments and the newest motion state into the folder, and verify them.

        Returns the ledger, shortened if the last window's files are damaged; None if the render
        has to start anew. What `check` raises ends it.

        Raises:
            DeliveryFailed: the store does not answer.
        """
        windows = range(1, ledger.windows_done + 1)
        fetch = partial(self._fetch, ledger, folder, check)
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            sums = list(pool.map(fetch, map(segment_name, windows), windows))
        chains = list(_chained(sums))
        for count in range(len(ledger.marks), 0, -1):
            mark = ledger.marks[count - 1]
            if chains[mark.window - 1 : mark.window] != [mark.chain]:
                continue
            if fetch(motion_name(mark.window), mark.window) == mark.motion:
                return self._restored(replace(ledger, marks=ledger.marks[:count]), ledger, folder)
        _clear(folder, windows)
        done = ledger.progress
        logs.tell("checkpoint is damaged, the render starts anew", level=logging.WARNING, done=done)
        return None

    def save(self, window: int, segment: Path, motion: Path, ledger: Ledger) -> None:
        """Write a window's files and the ledger, in the background. Returns at once.

        The files must stay where they are. The motion state is deleted here when that of a later
        window is saved. Marks and runs of the ledger are filled in.
        """
        if self._store is None:
            self._forget_motion_before(motion)
        else:
            self._write(partial(self._save, window, segment, motion, ledger))

    def put(self, name: str, content: Path | str, content_type: str) -> None:
        """Write another file of the job's, in the background, after all that came before.

        It lies below the job's key, beside the video, and is not part of the checkpoint. A path
        must stay where it is.
        """
        data = content.encode() if isinstance(content, str) else content
        if self._store is not None:
            self._write(partial(self._store.save, self._job, name, data, content_type))

    def url(self, name: str) -> str | None:
        """Where anybody can read such a file, if the store is a bucket."""
        return self._store.url(self._job, name) if self._store else None

    def close(self, *, delivered: bool) -> None:
        """End it within 7 s: what is pending is written; if delivered, the checkpoint is removed.

        Of what takes longer the rest is done as long as this process lives.
        """
        if delivered:
            self._start()  # it may not have had anything to write
        if self._thread is None:
            return
        self._delivered = delivered
        self._deadline = time.monotonic() + CLOSE_SECONDS
        self._closing.set()
        self._writes.put(None)
        self._thread.join(CLOSE_SECONDS)

    def _fetch(
        self, ledger: Ledger, folder: Path, check: Callable[[], None], name: str, window: int
    ) -> str | None:
        """Its SHA-256; None if it is not there."""
        assert self._store is not None
        with (folder / name).open("w+b") as file:
            if not _read(self._store, self._job, ledger.stored(name, window), file, check):
                return None
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _restored(self, good: Ledger, ledger: Ledger, folder: Path) -> Ledger:
        done = good.windows_done
        _clear(folder, range(done + 1, ledger.windows_done + 1))
        self._marks, self._runs = good.marks, good.runs
        self._motion = folder / motion_name(done)
        shortened = {} if done == ledger.windows_done else {"damaged_from": done + 1}
        logs.tell("the render goes on from a checkpoint", done=good.progress, **shortened)
        return good

    def _write(self, write: Callable[[], None]) -> None:
        """Have it done after all that came before."""
        self._start()
        self._writes.put(write)

    def _start(self) -> None:
        """Start the thread that writes; no exit of the process waits for it."""
        if self._store is None or self._thread is not None:
            return
        run = contextvars.copy_context().run  # its lines in the log carry the job's id
        self._thread = threading.Thread(target=run, args=[self._work], daemon=True)
        self._thread.start()

    def _work(self) -> None:
        lost = 0
        while (write := self._writes.get()) is not None:
            lost += not self._keep_trying(write)
        if self._delivered:
            self._remove()
        elif lost:
            logs.tell("checkpoint ended before all was written", level=logging.WARNING, lost=lost)

    def _keep_trying(self, write: Callable[[], None]) -> bool:
        """Try it until it is done, or the time after the end is over."""
        pause = FIRST_PAUSE_SECONDS
        while time.monotonic() < self._deadline:
            if self._done(write):
                return True
            if self._closing.is_set():
                time.sleep(FIRST_PAUSE_SECONDS)
            elif not self._closing.wait(pause):  # the end is a reason to try again at once
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        return False

    def _done(self, write: Callable[[], None]) -> bool:
        """Try it, and say in the log when that begins to fail, and when it works again."""
        try:
            write()
        except (DeliveryFailed, PassingFault, OSError) as fault:
            if not self._failing:
                _warn("checkpoint is not saved", fault)
            self._failing = True
            return False
        if self._failing:
            logs.tell("checkpoint is saved again")
        self._failing = False
        return True

    def _save(self, window: int, segment: Path, motion: Path, ledger: Ledger) -> None:
        assert self._store is not None
        if self._delivered:
            return
        before = self._marks[-1].chain if self._marks else ""
        mark = Mark(window, _chain(before, _sha256(segment)), _sha256(motion))
        mine = any(run.token == self._token for run in self._runs)
        runs = self._runs if mine else (*self._runs, Run(window, self._token))
        marks = (*self._marks, mark)
        new = replace(ledger, marks=marks[-MARKS:], runs=runs)
        save = partial(self._store.save, self._job)
        save(new.stored(segment_name(window), window), segment, "video/mp4")
        save(new.stored(motion_name(window), window), motion, "application/octet-stream")
        save(LEDGER, _LEDGER.dump_json(new), "application/json")
        self._marks, self._runs = new.marks, new.runs
        self._drop([new.stored(motion_name(old.window), old.window) for old in marks[:-MARKS]])
        self._forget_motion_before(motion)

    def _forget_motion_before(self, newest: Path) -> None:
        if self._motion is not None:
            with contextlib.suppress(OSError):
                self._motion.unlink()
        self._motion = newest

    def _drop(self, names: list[str]) -> None:
        """Delete what is no longer needed, if that is allowed."""
        assert self._store is not None
        try:
            self._store.remove(self._job, names)
        except DeliveryFailed as error:
            if not self._littering:
                _warn("old motion states stay", error)
            self._littering = True

    def _remove(self) -> None:
        assert self._store is not None
        try:
            remove_checkpoint(self._store, self._job)
        except DeliveryFailed as error:
            _warn("the checkpoint stays", error)


def _read(
    store: CheckpointStore, job: str, name: str, into: BinaryIO, check: Callable[[], None]
) -> bool:
    found = False
    patience = Patience(READ_SECONDS, check, what=f"the checkpoint of {job} was not read")

    def attempt() -> None:
        nonlocal found
        into.seek(0)
        into.truncate()
        try:
            found = store.load(job, name, into, patience)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
            raise PassingFault(str(error.strerror or error)) from None

    keep_trying(attempt, patience)
    return found


def _warn(event: str, error: Exception) -> None:
    logs.tell(event, level=logging.WARNING, sentence=logs.sentence(error))


def _clear(folder: Path, windows: Iterable[int]) -> None:
    for window in windows:
        (folder / segment_name(window)).unlink(missing_ok=True)
        (folder / motion_name(window)).unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _chain(before: str, sha256: str) -> str:
    return hashlib.sha256((before + sha256).encode()).hexdigest()


def _chained(sums: Iterable[str | None]) -> Iterator[str]:
    """The chain up to each window, as far as none is missing."""
    chain = ""
    for sha256 in sums:
        if sha256 is None:
            return
        chain = _chain(chain, sha256)
        yield chain


def _refused(job: str, ledger: Ledger, fit: Mapping[str, str]) -> CheckpointRefused:
    names = [name for name in {**ledger.fit, **fit} if ledger.fit.get(name) != fit.get(name)]
    differs = {name: [ledger.fit.get(name), fit.get(name)] for name in names}
    told = ", ".join(
        f"{OTHERS.get(name, f'another {name}')} ({name}: {then or 'none'} there, {now or 'none'} "
        "here)"
        for name, (then, now) in differs.items()
    )
    return CheckpointRefused(
        f"the checkpoint of {job}, {ledger.progress}, was made with {told}; to finish it, use the "
        f"same again; {_anew(job)}",
        differs=differs,
        windows=ledger.windows,
        windows_done=ledger.windows_done,
    )


def _anew(job: str) -> str:
    return (
        "to start anew, give another request_id, or remove it with `talkinghead checkpoints "
        f"remove {job}`"
    )
