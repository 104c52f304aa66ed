"""A checkpoint out of a store: read, verified against its ledger, listed, removed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
from collections.abc import Callable, Iterable, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from talkinghead import logs
from talkinghead.delivery.blobs import BlobStore, StoredFile, told
from talkinghead.delivery.ledger import (
    FOLDER,
    LEDGER,
    OLDER_LEDGER,
    OURS,
    Ledger,
    folder_of,
    motion_name,
    parse_ledger,
    segment_name,
    unreadable,
)
from talkinghead.delivery.retry import PassingFault, Patience, keep_trying
from talkinghead.errors import NO_ROOM, CheckpointRefused, DeliveryFailed

READ_SECONDS = 60.0  # a file of the checkpoint, with all repetitions
DOWNLOADS = 8


def find_ledger(
    store: BlobStore, job: str, fit: Mapping[str, str], check: Callable[[], None]
) -> Ledger | None:
    """The ledger of the render with this `fit`, if it left one.

    Raises:
        CheckpointRefused: it is no ledger that this worker can read; or there is none, and there
            is one of another render.
        DeliveryFailed: the store does not answer.
    """
    ledger = read_ledger(store, job, folder_of(fit) + LEDGER, check)
    if ledger is not None:
        return ledger
    try:
        others = ledgers_in(checkpoint_files(store, job))
    except DeliveryFailed as error:  # keys that may not list; nothing of others is overwritten
        logs.tell(
            "other checkpoints are not known",
            level=logging.WARNING,
            sentence=logs.sentence(error),
        )
        return None
    for name in others:
        if (other := read_ledger(store, job, name, check)) is not None:
            raise other.refusal(job, fit)
    return None


def read_ledger(
    store: BlobStore, job: str, name: str, check: Callable[[], None] = lambda: None
) -> Ledger | None:
    """The ledger of this name, if it is there.

    Raises:
        CheckpointRefused: it is no ledger that this worker can read.
        DeliveryFailed: the store does not answer.
    """
    content = io.BytesIO()
    if not _read(store, job, name, content, check):
        return None
    if name == OLDER_LEDGER:
        raise unreadable(job, "was made by an older version of the worker")
    return parse_ledger(job, content.getvalue())


def ledgers_in(files: Iterable[StoredFile]) -> list[str]:
    """The names of the ledgers among a job's files."""
    return [file.name for file in files if file.name.endswith(f"/{LEDGER}")]


def restore(
    store: BlobStore, job: str, ledger: Ledger, folder: Path, check: Callable[[], None]
) -> Ledger | None:
    """Bring the segments and the newest motion state into the folder, and verify them.

    Returns the ledger, shortened if the last window's files are damaged; None, and nothing in the
    folder, if the render has to start anew. What `check` raises ends it.

    Raises:
        DeliveryFailed: the store does not answer.
    """
    windows = range(1, ledger.windows_done + 1)

    def fetch(name: str, window: int) -> str | None:
        """Bring a window's file into the folder; its SHA-256, None if it is not there."""
        with (folder / name).open("w+b") as file:
            if not _read(store, job, ledger.stored(name, window), file, check):
                return None
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()

    with ThreadPoolExecutor(DOWNLOADS) as pool:
        sums = list(pool.map(fetch, map(segment_name, windows), windows))
    for mark, good in ledger.whole_marks(sums):
        if fetch(motion_name(mark.window), mark.window) == mark.motion:
            _clear(folder, range(mark.window + 1, ledger.windows_done + 1))
            shortened = {} if good.marks == ledger.marks else {"damaged_from": mark.window + 1}
            logs.tell("the render goes on from a checkpoint", done=good.progress, **shortened)
            return good
    _clear(folder, windows)
    done = ledger.progress
    logs.tell("checkpoint is damaged, the render starts anew", level=logging.WARNING, done=done)
    return None


def _clear(folder: Path, windows: Iterable[int]) -> None:
    for window in windows:
        (folder / segment_name(window)).unlink(missing_ok=True)
        (folder / motion_name(window)).unlink(missing_ok=True)


def _read(store: BlobStore, job: str, name: str, into: BinaryIO, check: Callable[[], None]) -> bool:
    """Read a file, again and again until it is whole; False if there is none.

    Raises:
        DeliveryFailed, what `check` raises; OSError: our own disk is full
    """
    patience = Patience(READ_SECONDS, check, what=f"the checkpoint of {job} was not read")

    def attempt() -> bool:
        into.seek(0)
        into.truncate()
        try:
            with told(store, "give the checkpoint", retried=True):
                return store.get(job, name, into, patience.check)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
            raise PassingFault(str(error.strerror or error)) from None

    return keep_trying(attempt, patience)


def jobs_in(store: BlobStore) -> list[str]:
    """The keys of all jobs, with checkpoints or without.

    Raises:
        DeliveryFailed
    """
    with told(store, "list what it holds"):
        return store.jobs()


def checkpoint_files(store: BlobStore, job: str) -> list[StoredFile]:
    """What the store has of a job's checkpoint.

    Raises:
        DeliveryFailed
    """
    with told(store, "list what it holds"):
        return [file for file in store.files(job, FOLDER) if OURS.fullmatch(file.name)]


def remove_checkpoint(store: BlobStore, job: str, files: Iterable[StoredFile]) -> None:
    """Delete these files, the ledgers first: one that is half deleted shall not seem whole.

    Raises:
        DeliveryFailed: some files could not be deleted.
    """
    listed = [*files]
    ledgers = ledgers_in(listed)
    if ledgers:
        delete(store, job, ledgers)
    delete(store, job, sorted({file.name for file in listed} - {*ledgers}))


def files_of_render(
    store: BlobStore, job: str, fit: Mapping[str, str], request_hash: str, tokens: Set[str]
) -> list[StoredFile]:
    """What is there of the render with this `fit`, and of those that this request left.

    Of others under the same id, nothing: they may go on. So may another request's render with the
    same `fit`, by the runs that its ledger names: some of these are none of our `tokens`.

    Raises:
        DeliveryFailed
    """
    files = checkpoint_files(store, job)
    folders, theirs = {folder_of(fit)}, list[str]()
    for name in ledgers_in(files):
        with contextlib.suppress(CheckpointRefused):
            ledger = read_ledger(store, job, name)
            if ledger is None:
                continue
            runs = {run.token for run in ledger.runs}
            if ledger.request_hash == request_hash:
                folders.add(folder_of(ledger.fit))
            elif not runs <= tokens:
                theirs += [name, *(f"_{token}." for token in runs)]
    return [
        file
        for file in files
        if file.name.startswith(tuple(folders)) and not any(each in file.name for each in theirs)
    ]


def delete(store: BlobStore, job: str, names: list[str]) -> None:
    """Delete files of a checkpoint.

    Raises:
        DeliveryFailed: some could not be deleted.
    """
    with told(store, "delete the checkpoint"):
        stay = store.delete(job, names)
    if stay:
        raise DeliveryFailed(
            f"{store.name} did not delete {len(stay)} files of the checkpoint: {stay[0]}"
        )
