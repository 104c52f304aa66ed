"""What a long render leaves in the store after each window, for a later job to continue from.

`ledger.py` says what that is and whether it fits, `restore.py` brings it back, `writer.py` writes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from talkinghead.delivery.blobs import BlobStore, told
from talkinghead.delivery.ledger import Ledger, motion_name, segment_name
from talkinghead.delivery.place import VIDEO_TYPE
from talkinghead.delivery.restore import (
    Found,
    delete,
    files_of_render,
    find_ledgers,
    remove_checkpoint,
    restore,
)
from talkinghead.delivery.writer import BackgroundWriter, warn
from talkinghead.errors import DeliveryFailed


class Checkpoints:
    """A render's checkpoint, written behind its back. Without a store nothing is kept.

    `fit` is what has to be equal to go on, and names the render's folder; `request_hash` is the
    job's, and finds what earlier ones with the same request left in other folders. Windows are
    counted from 1 and saved in order, each once. `restore` is called before the first `save`: from
    there on `_stored`, and all that writes or deletes, is the writer's thread's.
    """

    def __init__(
        self, store: BlobStore | None, job: str, fit: Mapping[str, str], request_hash: str
    ) -> None:
        self._store = store
        self._job = job
        self._fit = fit
        self._request_hash = request_hash
        self._token = uuid.uuid4().hex[:8]
        self._found: Found | None = None  # what was there when it was opened
        self._stored: Ledger | None = None  # as far as the store has it
        self._writer = BackgroundWriter()
        self._delivered = False
        self._littering = False

    def open(self, check: Callable[[], None]) -> Ledger | None:
        """The ledger that an earlier job left, if there is one. What `check` raises ends it.

        Raises:
            CheckpointRefused: it is of another render, or cannot be read.
            DeliveryFailed: the store does not answer: hours of a GPU may be in it.
        """
        if self._store is None:
            return None
        self._found = find_ledgers(self._store, self._job, self._fit, check)
        return self._found.of(self._job, self._fit)

    def restore(self, ledger: Ledger, folder: Path, check: Callable[[], None]) -> Ledger | None:
        """Bring the segments and the newest motion state into the folder, and verify them.

        Returns the ledger, shortened if the last window's files are damaged, or that of another run
        of this render if they all are; None if the render has to start anew. What is saved from now
        on follows it. What `check` raises ends it.

        Raises:
            DeliveryFailed: the store does not answer.
        """
        assert self._store is not None, "there was a ledger in it"
        for each in self._found.runs_of(ledger.fit) if self._found else [ledger]:
            self._stored = restore(self._store, self._job, each, folder, check)
            if self._stored is not None:
                break
        return self._stored

    def save(self, window: int, segment: Path, motion: Path, ledger: Ledger) -> None:
        """Write a window's files and the ledger, in the background. Returns at once.

        The files must stay where they are. The motion state before it, which lies beside it, is
        deleted when this one is saved. Marks and runs of the ledger are filled in.
        """
        if self._store is None:
            _forget_motion(window - 1, motion.parent)
        else:
            self._writer.add(
                partial(self._write_window, self._store, window, segment, motion, ledger)
            )

    def put(self, name: str, make: Callable[[], Path | bytes | None], content_type: str) -> None:
        """Write another file of the job's, in the background, after all that came before.

        It lies below the job's key, beside the video, and is not part of the checkpoint. `make`
        gives its content when its turn has come, in the writer's thread, and once, however often
        the writing is tried; None is nothing to write. A path must stay where it is.
        """
        if self._store is not None:
            made = functools.cache(make)
            self._writer.add(partial(self._write_made, self._store, name, made, content_type))

    def url(self, name: str) -> str | None:
        """Where anybody can read such a file, if the store is a bucket."""
        return self._store.url(self._job, name) if self._store else None

    @property
    def windows_done(self) -> int:
        """How many windows are in the store: by now, or after `close`."""
        return self._stored.windows_done if self._stored else 0

    def close(self, *, delivered: bool) -> None:
        """End it within 7 s: what is pending is written; if delivered, the checkpoint is removed.

        Of what takes longer the rest is done as long as this process lives.
        """
        if self._store is None:
            return
        self._delivered = delivered  # before the closing: windows that wait are no longer written
        self._writer.close(partial(self._remove, self._store) if delivered else None)

    def _write_window(
        self, store: BlobStore, window: int, segment: Path, motion: Path, ledger: Ledger
    ) -> None:
        """Write the files, and then the ledger that names them: it is true at any moment.

        What only the ledger before named is deleted last. Done again from the beginning if any of
        it fails.
        """
        if self._delivered:
            return
        before = replace(ledger, request_hash=self._request_hash).going_on(self._stored)
        new = before.with_window(
            window, segment=_sha256(segment), motion=_sha256(motion), token=self._token
        )
        self._write(store, new.stored(segment_name(window), window), segment, VIDEO_TYPE)
        motion_type = "application/octet-stream"
        self._write(store, new.stored(motion_name(window), window), motion, motion_type)
        name = new.name(self._token if self._found is None or self._found.may_list else None)
        self._write(store, name, new.as_json(), "application/json")
        self._stored = new
        old = [mark.window for mark in before.marks if mark not in new.marks]
        self._drop(store, [new.stored(motion_name(each), each) for each in old])
        _forget_motion(window - 1, motion.parent)

    def _write_made(
        self,
        store: BlobStore,
        name: str,
        make: Callable[[], Path | bytes | None],
        content_type: str,
    ) -> None:
        content = make()
        if content is not None:
            self._write(store, name, content, content_type)

    def _write(self, store: BlobStore, name: str, content: Path | bytes, content_type: str) -> None:
        with told(store, "take the checkpoint"):
            store.put(self._job, name, content, content_type)

    def _drop(self, store: BlobStore, names: list[str]) -> None:
        """Delete what is no longer needed, if that is allowed."""
        try:
            delete(store, self._job, names)
        except DeliveryFailed as error:
            if not self._littering:
                warn("old motion states stay", error)
            self._littering = True

    def _remove(self, store: BlobStore) -> None:
        try:
            ours = {run.token for run in self._stored.runs} if self._stored else set()
            files = files_of_render(
                store,
                self._job,
                self._fit,
                self._request_hash,
                tokens=ours,
                own=self._token,
                before=self._found,
            )
            remove_checkpoint(store, self._job, files)
        except DeliveryFailed as error:
            warn("the checkpoint stays", error)


def _forget_motion(window: int, folder: Path) -> None:
    """Delete a motion state from the worker's disk, if it is there."""
    with contextlib.suppress(OSError):
        (folder / motion_name(window)).unlink()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
