"""The places that a worker has: which takes a video, and which keeps what that one does not take.

A new kind of place is a file like `volume.py`, its name in `Delivery`, and a line in KINDS.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from talkinghead.delivery.asked import Asked
from talkinghead.delivery.blobs import BlobStore, StoredPlace, StoreError
from talkinghead.delivery.inline import INLINE
from talkinghead.delivery.place import FinishedVideo, Item, ItemPlace, Place
from talkinghead.delivery.retry import Patience
from talkinghead.delivery.s3 import BUCKET
from talkinghead.delivery.upload import UploadPlace
from talkinghead.delivery.volume import VOLUME, VolumePlace
from talkinghead.errors import (
    DeadlineExceeded,
    DeliveryFailed,
    InvalidRequest,
    JobError,
    ResultTooLarge,
    UrlBlocked,
)
from talkinghead.net.guard import PUBLIC_ONLY, UrlGuard
from talkinghead.plan.fields import Delivery
from talkinghead.plan.request import RenderRequest
from talkinghead.settings import Settings

log = logging.getLogger("talkinghead")

T = TypeVar("T")
P = TypeVar("P", bound=Place)

KINDS = (BUCKET, VOLUME, INLINE)  # the first that is there is taken, for a video or a checkpoint
KEEP_SECONDS = 60  # to copy a video that could not be delivered: its time was used up
# After these a video that was paid for is kept; a cancelled job's is not.
UNDELIVERED = (DeliveryFailed, ResultTooLarge, UrlBlocked, DeadlineExceeded)


class Stores:
    """The places that a worker can deliver to. With `only`, all goes there."""

    def __init__(
        self,
        settings: Settings,
        *,
        only: Place | None = None,
        guard: UrlGuard = PUBLIC_ONLY,
    ) -> None:
        self._only = only
        self._guard = guard
        self._settings = settings
        opened = {kind: kind.open(settings) for kind in KINDS}
        self._places = {kind: place for kind, place in opened.items() if place is not None}
        volume = None if only is not None else self._places.get(VOLUME)
        self._volume = volume if isinstance(volume, VolumePlace) else None

    def choose(self, request: RenderRequest) -> Place:
        """The place for a request's video: the one it names, else the bucket, else the result.

        Raises:
            InvalidRequest: the worker has no such place.
            DeliveryFailed: it names the volume, which cannot be written.
        """
        if self._only is not None:
            return self._only
        if request.upload_url is not None:
            return UploadPlace(request.upload_url, self._guard)
        place = self.named(request.delivery)
        if place is self._volume:  # a tiny file tells it now, and not after the render
            VOLUME.check(self._settings)
        return place

    def named(self, delivery: Delivery | None) -> ItemPlace:
        """The place of that name; without one the bucket, else the result.

        Raises:
            InvalidRequest: the worker has no such place.
        """
        for kind, place in self._places.items():
            if kind.name == delivery or (delivery is None and kind.is_default):
                return place
        there = [kind.name for kind in self._places]
        raise InvalidRequest(
            f'delivery is "{delivery}", which this worker does not have; allowed: '
            + ", ".join(f'"{name}"' for name in there),
            problems=[{"field": "delivery", "got": delivery, "allowed": there}],
        )

    def checkpoints(self) -> BlobStore | None:
        """The store for what a later job continues from: the bucket, else the volume, if any."""
        if self._only is not None:
            return None
        places = self._places.values()
        return next((each.store for each in places if isinstance(each, StoredPlace)), None)

    @property
    def has_bucket(self) -> bool:
        """Whether there is a place that a browser can read from."""
        return self._only is None and BUCKET in self._places

    def find(
        self, place: Place, job: str, asked: Asked, patience: Patience
    ) -> dict[str, Any] | None:
        """The result of a job that was rendered before, delivered now if it was only kept.

        Raises:
            DeliveryFailed, ResultTooLarge, DeadlineExceeded, Cancelled
        """
        result = place.find(job, asked, patience)
        if result is not None or self._volume is None or place is self._volume:
            return result
        kept = self._volume.kept(job, asked)
        if kept is None:
            return None
        try:
            where = place.deliver(kept, patience)
        except UNDELIVERED as error:
            raise _kept_video(error, {"video_path": str(kept.path)}) from None
        self._volume.forget(job)
        return {**kept.result, **where}

    def deliver(self, video: FinishedVideo, place: Place, patience: Patience) -> dict[str, Any]:
        """Put the video into the place; if that fails, keep it on the volume, if there is one.

        Raises:
            DeliveryFailed, ResultTooLarge, UrlBlocked, DeadlineExceeded: with the place where it is
                kept.
            Cancelled
        """
        return self._or_keep(
            place, patience, lambda to, patience: to.deliver(video, patience), _kept_video
        )

    def put(
        self, job: str, items: Sequence[Item], place: ItemPlace, patience: Patience
    ) -> list[dict[str, Any]]:
        """Put the items into the place; if that fails, keep them on the volume, if there is one.

        Raises:
            DeliveryFailed, ResultTooLarge: with the places where they are kept.
            Cancelled
        """
        return self._or_keep(
            place, patience, lambda to, patience: to.put(job, items, patience), _kept_items
        )

    def keep(self, job: str, name: str, content: bytes, content_type: str) -> Path | None:
        """Where the file lies on the volume, for people; None: there is none that takes it."""
        if self._volume is None:
            return None
        store = self._volume.store
        try:
            store.put(job, name, content, content_type)
        except StoreError as error:
            log.warning("the volume does not take %s: %s", name, error)
            return None
        return store.path(job, name)

    def drop(self, job: str, name: str) -> None:
        """Remove from the volume what `keep` put there, if it did."""
        if self._volume is None or not self._volume.store.path(job, name).exists():
            return
        try:
            self._volume.store.delete(job, [name])
        except StoreError as error:
            log.warning("the volume does not give up %s: %s", name, error)

    def _or_keep(
        self,
        place: P,
        patience: Patience,
        deliver: Callable[[P | VolumePlace, Patience], T],
        kept: Callable[[JobError, T], JobError],
    ) -> T:
        """What `deliver` says of the place; `kept` is the error with what it says of the volume.

        Where there is no other place, this one has KEEP_SECONDS more than the job has time.
        """
        is_last = self._volume is None or place is self._volume
        if is_last:
            patience = _Overtime(patience)
        try:
            patience.check()
            return deliver(place, patience)
        except UNDELIVERED as error:
            if self._volume is None or place is self._volume:
                raise
            try:
                where = deliver(self._volume, Patience(KEEP_SECONDS))
            except DeliveryFailed as other:
                raise type(error)(f"{error}; {other}", **error.details) from None
            raise kept(error, where) from None


class _Overtime(Patience):
    """Another one's, and KEEP_SECONDS from when that finds the job's time used up."""

    def __init__(self, patience: Patience) -> None:
        super().__init__(KEEP_SECONDS)
        self._patience = patience
        self._is_late = False

    def check(self) -> None:
        """Return if there is time left; of what the other raises, only the deadline has to wait."""
        try:
            self._patience.check()
        except DeadlineExceeded:
            if not self._is_late:
                self._is_late, self._deadline = True, time.monotonic() + KEEP_SECONDS
            if time.monotonic() > self._deadline:
                raise


def _kept_video(error: JobError, where: Mapping[str, Any]) -> JobError:
    path = where["video_path"]
    message = f"{error}; the video is kept at {path}"
    return type(error)(message, **{**error.details, "video_path": path})


def _kept_items(error: JobError, where: Sequence[Mapping[str, Any]]) -> JobError:
    paths = [each["path"] for each in where]
    message = f"{error}; what was made is kept: {', '.join(paths)}"
    return type(error)(message, **{**error.details, "paths": paths})
