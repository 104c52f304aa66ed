"""Stores of files under a job's key, and what delivery means on any of them.

A `BlobStore` puts, gets, lists and deletes, and refuses with a `StoreError` that says why. All else
is here, once: what is written in which order, how long it is tried, what "delivered before" means,
and how a refusal is told.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol

from talkinghead.delivery.asked import Asked
from talkinghead.delivery.place import (
    JSON_TYPE,
    RESULT_NAME,
    VIDEO_NAME,
    VIDEO_TYPE,
    FinishedVideo,
    Item,
    ItemPlace,
    ResultDocument,
)
from talkinghead.delivery.retry import PassingFault, Patience, keep_trying, wait_for
from talkinghead.errors import DeliveryFailed, JobError

log = logging.getLogger("talkinghead")

CHUNK_BYTES = 1 << 20
LOOKS = 4  # at once: one that hangs does not hold up the next job's


@dataclass(frozen=True)
class StoredFile:
    """A file of a job in the store; `modified` in seconds since the epoch."""

    name: str
    size: int
    modified: float


class StoreError(Exception):
    """The store did not do it, and says why.

    Attributes:
        passes: whether it may a moment later.
        misconfigured: whether name or keys of the store are wrong: nothing else will go well.
    """

    def __init__(self, reason: str, *, passes: bool = False, misconfigured: bool = False) -> None:
        super().__init__(reason)
        self.passes = passes
        self.misconfigured = misconfigured


class BlobStore(Protocol):
    """A place for files, each named by a job's key and a name below it, such as "a/b.mp4".

    Its methods may be called from several threads at once.
    """

    @property
    def name(self) -> str:
        """What errors call it."""

    @property
    def keeps_tags(self) -> bool:
        """Whether it remembers the `tag` of a file."""

    def put(
        self,
        job: str,
        name: str,
        content: Path | bytes,
        content_type: str,
        *,
        tag: str | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        """Write a file: whole, or not at all.

        With `check`, a large file is streamed, and what `check` raises ends it at once. Without,
        it is written by this thread, in one go: the only way while the process ends.

        Raises:
            StoreError; OSError: `content` cannot be read
        """

    def get(
        self, job: str, name: str, into: BinaryIO, check: Callable[[], None] = lambda: None
    ) -> bool:
        """Read a file; False if there is none. `check` is called on the way.

        Raises:
            StoreError, OSError, and what `check` raises
        """

    def has(self, job: str, name: str, tag: str) -> bool:
        """Whether the file is there; in a store that keeps tags, with this one.

        Raises:
            StoreError
        """

    def files(self, job: str, folder: str) -> list[StoredFile]:
        """What lies in a folder of the job's; a folder ends in "/".

        Raises:
            StoreError
        """

    def jobs(self) -> list[str]:
        """The keys of all jobs, whatever there is of them.

        Raises:
            StoreError
        """

    def delete(self, job: str, names: Iterable[str]) -> list[str]:
        """Delete files, there or not; returns what the store says of each that it kept.

        Raises:
            StoreError
        """

    def url(self, job: str, name: str) -> str | None:
        """Where anybody can read the file, if the store has such a place."""

    def tidy(self) -> None:
        """Clear away what unfinished uploads left. Never fails; what stays is for the next time."""


@contextlib.contextmanager
def told(store: BlobStore, what: str, *, retried: bool = False) -> Iterator[None]:
    """The store's refusal to do `what`, as an error of the job.

    Raises:
        DeliveryFailed
        PassingFault: it may go well a moment later, and the caller is one who tries again.
    """
    try:
        yield
    except StoreError as error:
        text = f"{store.name} did not {what}: {error}"
        raise (PassingFault if retried and error.passes else DeliveryFailed)(text) from None


class StoredPlace(ItemPlace):
    """Delivery to a blob store; what its result looks like is the business of each kind."""

    items_are: ClassVar[str] = "the outputs"  # to its errors

    def __init__(self, store: BlobStore) -> None:
        self.store = store
        self._aside = ThreadPoolExecutor(LOOKS, thread_name_prefix="store")

    def where(self, job: str, *, bundled: bool) -> dict[str, Any]:
        """The part of a result that says where the video and its bundle are."""
        raise NotImplementedError

    def where_item(self, job: str, name: str) -> dict[str, Any]:
        """The part of a result that says where an item is."""
        raise NotImplementedError

    def deliver(self, video: FinishedVideo, patience: Patience) -> dict[str, Any]:
        """Write the documents, then the video; again from the first, until all are there.

        The video comes last: where it is, the documents beside it are, and of the same request.
        One of another request would not be that, so it goes first, or is known by its tag.

        Raises:
            DeliveryFailed: the store refuses, or does not answer in time.
        """
        put = partial(self.store.put, video.job, check=patience.check)

        def attempt() -> None:
            with told(self.store, "take the video", retried=True):
                if not self.store.keeps_tags:
                    self.store.delete(video.job, [VIDEO_NAME])
                for name, content in video.documents():
                    put(name, content, JSON_TYPE)
                put(VIDEO_NAME, video.path, VIDEO_TYPE, tag=video.asked.signed)

        with self._tidied():
            keep_trying(attempt, patience)
        return self.where(video.job, bundled=video.bundle is not None)

    def put(self, job: str, items: Sequence[Item], patience: Patience) -> list[dict[str, Any]]:
        """Write one item after another, each until it is there.

        Raises:
            DeliveryFailed: the store refuses, or does not answer in time.
        """

        def attempt(item: Item) -> None:
            with told(self.store, f"take {self.items_are}", retried=True):
                self.store.put(
                    job, item.path.name, item.path, item.content_type, check=patience.check
                )

        with self._tidied():
            for item in items:
                keep_trying(partial(attempt, item), patience)
        return [self.where_item(job, item.path.name) for item in items]

    @contextlib.contextmanager
    def _tidied(self) -> Iterator[None]:
        """Tidy up after uploads that went well or ill; after a cancelled job behind its back."""
        try:
            yield
        except DeliveryFailed:
            self.store.tidy()
            raise
        except JobError:
            self._aside.submit(self.store.tidy)
            raise
        self.store.tidy()

    def find(self, job: str, asked: Asked, patience: Patience) -> dict[str, Any] | None:
        """The job's whole result, if its video is there.

        A store that is away has nothing, and may be back when the video is made.

        Raises:
            DeliveryFailed: name or keys of the store are wrong.
        """
        look = self._aside.submit(self._document, job, asked)
        document = wait_for(look, patience)
        if document is None:
            return None
        return {**document.result, **self.where(job, bundled=document.bundled)}

    def _document(self, job: str, asked: Asked) -> ResultDocument | None:
        """What lies beside the job's video, if that is there and of this request."""
        content = io.BytesIO()
        try:
            if not self.store.get(job, RESULT_NAME, content):
                return None
            document = ResultDocument.read(content.getvalue(), asked)
            if document and self.store.has(job, VIDEO_NAME, document.asked.signed):
                return document
        except StoreError as error:
            if error.misconfigured:
                raise DeliveryFailed(f"{self.store.name} did not take the video: {error}") from None
            # The event's name; a folder that is away is an OSError.
            log.warning("the bucket could not be asked for the job: %s", error)
        except OSError:
            pass
        return None
