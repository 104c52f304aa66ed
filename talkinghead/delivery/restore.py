"""A checkpoint out of a store: read, verified against its ledger, listed, removed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
from collections.abc import Callable, Iterable, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from talkinghead import logs
from talkinghead.delivery.blobs import BlobStore, StoredFile, told
from talkinghead.delivery.ledger import (
    ANY_LEDGER,
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


@dataclass(frozen=True)
class Found:
    """The ledgers that jobs of one id have left, by name; of one that cannot be read, why not."""

    ledgers: Mapping[str, Ledger | CheckpointRefused] = field(default_factory=dict)
    may_list: bool = True

    def of(self, job: str, fit: Mapping[str, str]) -> Ledger | None:
        """That of the render with this `fit`: of several runs of it, the one that is furthest.

        Raises:
            CheckpointRefused: it is no ledger that this worker can read; or there is none, and
                there is one of another render.
        """
        if runs := self.runs_of(fit):
            return runs[0]
        own = [each for name, each in self.ledgers.items() if name.startswith(folder_of(fit))]
        for other in own or self.ledgers.values():
            raise other.refusal(job, fit) if isinstance(other, Ledger) else other
        return None

    def runs_of(self, fit: Mapping[str, str]) -> list[Ledger]:
        """Those of the render with this `fit` that can be read, the furthest first.

        Of two that are as far, the one that went on from the other: that may be damaged.
        """
        own = [each for name, each in self.ledgers.items() if name.startswith(folder_of(fit))]
        readable = [each for each in own if isinstance(each, Ledger)]
        return sorted(readable, key=lambda each: (each.windows_done, len(each.runs)), reverse=True)

    def is_at_rest(self, name: str, ledger: Ledger) -> bool:
        """Whether nobody has gone on with it since it was found."""
        found = self.ledgers.get(name)
        return isinstance(found, Ledger) and found.marks == ledger.marks


def find_ledgers(
    store: BlobStore, job: str, fit: Mapping[str, str], check: Callable[[], None]
) -> Found:
    """All ledgers of the id; that of this `fit` alone, if the keys may not list.

    Raises:
        DeliveryFailed: the store does not answer.
    """
    shared = folder_of(fit) + LEDGER
    ledgers = {shared: _ledger_or_refusal(store, job, shared, check)}
    listed = _listed(store, job, check)
    for name in ledgers_in(listed or []):
        if name != shared:
            ledgers[name] = _ledger_or_refusal(store, job, name, check)
    found = {name: ledger for name, ledger in ledgers.items() if ledger is not None}
    return Found(found, may_list=listed is not None)


def _ledger_or_refusal(
    store: BlobStore, job: str, name: str, check: Callable[[], None]
) -> Ledger | CheckpointRefused | None:
    try:
        return read_ledger(store, job, name, check)
    except CheckpointRefused as refusal:
        return refusal


def _listed(store: BlobStore, job: str, check: Callable[[], None]) -> list[StoredFile] | None:
    """The files of a job's checkpoint; None if the keys may not list.

    Raises:
        DeliveryFailed: the store does not answer.
    """

    def attempt() -> list[StoredFile] | None:
        try:
            with told(store, "list what it holds", retried=True):
                return _ours(store.files(job, FOLDER))
        except OSError as error:
            raise PassingFault(str(error.strerror or error)) from None
        except DeliveryFailed as error:
            logs.tell(
                "other checkpoints are not known",
                level=logging.WARNING,
                sentence=logs.sentence(error),
            )
            return None

    return keep_trying(attempt, _patience(job, check))


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
    return [file.name for file in files if ANY_LEDGER.fullmatch(file.name)]


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
    patience = _patience(job, check)

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


def _patience(job: str, check: Callable[[], None]) -> Patience:
    return Patience(READ_SECONDS, check, what=f"the checkpoint of {job} was not read")


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
        return _ours(store.files(job, FOLDER))


def _ours(files: Iterable[StoredFile]) -> list[StoredFile]:
    return [file for file in files if OURS.fullmatch(file.name)]


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
    store: BlobStore,
    job: str,
    fit: Mapping[str, str],
    request_hash: str,
    *,
    tokens: Set[str],
    own: str,
    before: Found | None,
) -> list[StoredFile]:
    """What is there of the render with this `fit`, and of those that this request left.

    Of others under the same id, nothing: they may go on. So may other runs of the same render, by
    what their ledgers name: some of it is none of our `tokens`, of which `own` is this run's. Those
    of this request have ended if they are as they were `before`, when ours began; None: all have.

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
            has_ended = before is None or before.is_at_rest(name, ledger)
            if ledger.request_hash == request_hash and has_ended:
                folders.add(folder_of(ledger.fit))
            elif not (runs <= tokens and (has_ended or f"_{own}." in name)):
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
