"""What is delivered, and what every place for it can do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talkinghead.delivery.retry import Patience
from talkinghead.plan.fields import Delivery
from talkinghead.plan.shown import with_sums
from talkinghead.settings import Settings

VIDEO_NAME = "talkinghead.mp4"
BUNDLE_NAME = "talkinghead.json"
RESULT_NAME = "result.json"
VIDEO_TYPE, JSON_TYPE = "video/mp4", "application/json"


@dataclass(frozen=True)
class ResultDocument:
    """What RESULT_NAME says: of which request, whether a bundle lies beside it, and the result."""

    request_hash: str
    bundled: bool
    result: dict[str, Any]

    def as_json(self) -> bytes:
        """The file's content. The hash's name there, "asked", is older than ours."""
        return as_json({"asked": self.request_hash, "bundled": self.bundled, "result": self.result})

    @classmethod
    def read(cls, content: bytes, request_hash: str) -> ResultDocument | None:
        """The document in a file's content; None if there is none, or one of another request."""
        try:
            fields = json.loads(content)
            document = cls(fields.get("asked"), fields["bundled"], fields["result"])
        except (ValueError, TypeError, KeyError, AttributeError):
            return None
        return document if document.request_hash == request_hash else None


@dataclass(frozen=True)
class FinishedVideo:
    """A finished video, and what is said of it.

    `job` is the job's id, safe as a part of a path; a retried job has the same `job` and
    `request_hash`. `result` is the job's result but for where the video is.
    """

    job: str
    request_hash: str
    path: Path
    result: dict[str, Any]
    bundle: dict[str, Any] | None = None

    def documents(self) -> Iterator[tuple[str, bytes]]:
        """What lies beside the video: names and contents."""
        document = ResultDocument(self.request_hash, self.bundle is not None, self.result)
        yield RESULT_NAME, document.as_json()
        if self.bundle is not None:
            yield BUNDLE_NAME, as_json(self.bundle)


@dataclass(frozen=True)
class Item:
    """One of the files that a workflow job made; its name is that of the delivered file."""

    path: Path
    content_type: str


def hash_request(data: object) -> str:
    """SHA-256 of a job's input, whatever the order of its fields."""
    return hashlib.sha256(json.dumps(with_sums(data), sort_keys=True).encode()).hexdigest()


def as_json(content: object) -> bytes:
    """The content of a JSON file."""
    return json.dumps(content, ensure_ascii=False, indent=1).encode()


class Place:
    """Where a finished video can go. `max_mb` is the size of the largest result, if it has one."""

    max_mb: float | None = None

    def deliver(self, video: FinishedVideo, patience: Patience) -> dict[str, Any]:
        """Put the video there; returns the part of the result that says where it is.

        Raises:
            DeliveryFailed, ResultTooLarge, UrlBlocked, Cancelled
        """
        raise NotImplementedError

    def find(self, job: str, request_hash: str, patience: Patience) -> dict[str, Any] | None:
        """The whole result of a job that was delivered here before, if the request was the same.

        It is asked before anything is rendered: a place that surely takes no video says so now.
        One that keeps nothing finds nothing.

        Raises:
            DeliveryFailed, UrlBlocked: it will not take the video.
            Cancelled
        """


class ItemPlace(Place):
    """A place for whatever a workflow job made, too."""

    def put(self, job: str, items: Sequence[Item], patience: Patience) -> list[dict[str, Any]]:
        """Put the items there; returns the part of the result that says where each is.

        Raises:
            DeliveryFailed, ResultTooLarge, Cancelled
        """
        raise NotImplementedError


@dataclass(frozen=True)
class PlaceKind:
    """A kind of place that a worker's settings open, and the `delivery` of a request names.

    Attributes:
        name: what `delivery` calls it.
        settings: the fields of Settings that it reads.
        credentials: those of them that nobody else may see.
        open: the place that the settings want; None if they name none.
        is_default: whether it takes a video whose request names no place.
        check: write there, for doctor; returns what is right with it, None if nothing is to be
            checked. Raises DeliveryFailed.
    """

    name: Delivery
    settings: tuple[str, ...]
    open: Callable[[Settings], ItemPlace | None]
    credentials: tuple[str, ...] = ()
    is_default: bool = True
    check: Callable[[Settings], str | None] = lambda settings: None
