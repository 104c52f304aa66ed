"""What is delivered, for how long it is tried, and what every place for it can do."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from talkinghead.errors import DeliveryFailed

T = TypeVar("T")

VIDEO_NAME = "talkinghead.mp4"
BUNDLE_NAME = "talkinghead.json"
RESULT_NAME = "result.json"
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 15.0
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Parcel:
    """A finished video and what is said of it.

    `job` is the job's id, safe as a part of a path; `asked` the hash of what was asked: a retried
    job has the same two. `result` is the job's result but for where the video is.
    """

    job: str
    asked: str
    video: Path
    result: dict[str, Any]
    bundle: dict[str, Any] | None = None

    def documents(self) -> Iterator[tuple[str, bytes]]:
        """What lies beside the video: names and contents."""
        kept = {"asked": self.asked, "bundled": self.bundle is not None, "result": self.result}
        yield RESULT_NAME, as_json(kept)
        if self.bundle is not None:
            yield BUNDLE_NAME, as_json(self.bundle)


@dataclass(frozen=True)
class Item:
    """One of the files that a workflow job made; its name is that of the delivered file."""

    path: Path
    content_type: str


@dataclass(frozen=True)
class Kept:
    """What a RESULT_NAME document says: the result, and whether a bundle lies beside it."""

    result: dict[str, Any]
    bundled: bool


def read_kept(document: bytes, asked: str) -> Kept | None:
    """The document, if it is of this request."""
    try:
        content = json.loads(document)
        kept = Kept(content["result"], content["bundled"])
    except (ValueError, TypeError, KeyError):
        return None
    return kept if content.get("asked") == asked else None


def hash_request(data: object) -> str:
    """SHA-256 of a job's input, whatever the order of its fields."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def as_json(content: object) -> bytes:
    """The content of a JSON file."""
    return json.dumps(content, ensure_ascii=False, indent=1).encode()


class Patience:
    """How long a delivery may take: `seconds`, and as long as `check` does not raise."""

    def __init__(
        self,
        seconds: float,
        check: Callable[[], None] = lambda: None,
        what: str = "the video was not taken",
    ) -> None:
        self._seconds = seconds
        self._what = what
        self._deadline = time.monotonic() + seconds
        self._check = check

    def check(self) -> None:
        """Raises:
        DeliveryFailed: the time is over.
        Cancelled: the job is.
        """
        self._check()
        if time.monotonic() > self._deadline:
            raise DeliveryFailed(f"{self._what} within {self._seconds:.0f} s")

    def sleep(self, seconds: float) -> None:
        """Pause; ends early as `check` does."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, POLL_SECONDS))


def wait_for(running: Future[T], patience: Patience) -> T:
    """What the other thread returns or raises; it is left behind when the patience ends."""
    while not wait([running], POLL_SECONDS).done:
        patience.check()
    return running.result()


class PassingFault(Exception):
    """The place may take the video a moment later."""


def keep_trying(attempt: Callable[[], None], patience: Patience) -> None:
    """Repeat what ends in a PassingFault, with longer and longer pauses.

    Raises:
        DeliveryFailed: the time is over; it tells of the last fault.
        Cancelled, and what `attempt` raises
    """
    faults: list[str] = []
    while True:
        try:
            if faults:
                patience.sleep(min(FIRST_PAUSE_SECONDS * 2 ** len(faults), LONGEST_PAUSE_SECONDS))
            return attempt()
        except PassingFault as fault:
            faults.append(str(fault))
        except DeliveryFailed as error:
            message = "; ".join([str(error), *faults[-1:]])
            raise DeliveryFailed(message, **error.details) from None


class Store(Protocol):
    """A place for finished videos. `max_mb` is the size of the largest result, if it has one."""

    max_mb: float | None

    def deliver(self, parcel: Parcel, patience: Patience) -> dict[str, Any]:
        """Put the parcel there; returns the part of the result that says where it is.

        Raises:
            DeliveryFailed, ResultTooLarge, Cancelled
        """

    def find(self, job: str, asked: str, patience: Patience) -> dict[str, Any] | None:
        """The whole result of a job that was delivered before, if the request was the same.

        Raises:
            DeliveryFailed, UrlBlocked: it will not take the video, so that none need be made.
            Cancelled
        """


class ItemStore(Protocol):
    """A place for whatever a workflow job made."""

    def put(self, job: str, items: Sequence[Item], patience: Patience) -> list[dict[str, Any]]:
        """Put the items there; returns the part of the result that says where each is.

        Raises:
            DeliveryFailed, ResultTooLarge, Cancelled
        """
