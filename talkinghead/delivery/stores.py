"""Where the finished video goes: a bucket, the caller's own URL, a volume, or into the result."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import math
import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from talkinghead.delivery.checkpoint import CHUNK_BYTES, CheckpointStore, Stored
from talkinghead.delivery.parcel import (
    BUNDLE_NAME,
    RESULT_NAME,
    VIDEO_NAME,
    Item,
    ItemStore,
    Parcel,
    PassingFault,
    Patience,
    Store,
    read_kept,
)
from talkinghead.delivery.s3 import S3Store
from talkinghead.delivery.upload import UploadStore
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
from talkinghead.plan.plan import Plan
from talkinghead.plan.request import RenderRequest
from talkinghead.settings import Settings

KEEP_SECONDS = 60  # to copy a video that could not be delivered: its time was used up
# The least that an encode takes, in bits a pixel. Measured with x264 at crf 19: a photo that does
# not move at all 0.006 (720p) to 0.008 (480p), the draft's moving mouth 0.03, a swaying head 0.05
# to 0.1. The model moves the whole head.
LEAST_BITS, LEAST_DRAFT_BITS = 0.010, 0.005


# After these a video that was paid for is kept; a cancelled job's is not.
UNDELIVERED = (DeliveryFailed, ResultTooLarge, UrlBlocked, DeadlineExceeded)


class Stores:
    """The places that a worker can deliver to. With `only`, all goes there."""

    def __init__(
        self,
        settings: Settings,
        *,
        only: Store | None = None,
        guard: UrlGuard = PUBLIC_ONLY,
    ) -> None:
        self._only = only
        self._guard = guard
        bucket = settings.bucket
        self._s3 = None if bucket is None else S3Store.from_settings(bucket, settings)
        there = only is None and settings.volume_dir.is_dir()
        self._volume = VolumeStore(settings.volume_dir / "talkinghead") if there else None
        self._inline = InlineStore(settings.max_inline_mb)

    def choose(self, request: RenderRequest) -> Store:
        """The place for a request's video: the one it names, else the bucket, else the result.

        Raises:
            InvalidRequest: the worker has no such place.
        """
        if self._only is not None:
            return self._only
        if request.upload_url is not None:
            return UploadStore(request.upload_url, self._guard)
        return self.named(request.delivery)

    def named(self, delivery: Delivery | None) -> S3Store | VolumeStore | InlineStore:
        """The place of that name; without one the bucket, else the result.

        Raises:
            InvalidRequest: the worker has no such place.
        """
        places = {"s3": self._s3, "volume": self._volume, "inline": self._inline}
        store = places[delivery] if delivery else self._s3 or self._inline
        if store is None:
            there = [name for name, place in places.items() if place is not None]
            raise InvalidRequest(
                f'delivery is "{delivery}", which this worker does not have; allowed: '
                + ", ".join(f'"{name}"' for name in there),
                problems=[{"field": "delivery", "got": delivery, "allowed": there}],
            )
        return store

    def checkpoints(self) -> CheckpointStore | None:
        """The place for what a later job continues from: the bucket, else the volume, if any."""
        return None if self._only is not None else self._s3 or self._volume

    @property
    def has_bucket(self) -> bool:
        """Whether there is a place that a browser can read from."""
        return self._only is None and self._s3 is not None

    def find(self, store: Store, job: str, asked: str, patience: Patience) -> dict[str, Any] | None:
        """The result of a job that was rendered before, delivered now if it was only kept.

        Raises:
            DeliveryFailed, ResultTooLarge, DeadlineExceeded, Cancelled
        """
        result = store.find(job, asked, patience)
        if result is not None or self._volume is None or store is self._volume:
            return result
        kept = self._volume.kept(job, asked)
        if kept is None:
            return None
        try:
            place = store.deliver(kept, patience)
        except UNDELIVERED as error:
            raise _kept(error, kept.video) from None
        self._volume.forget(job)
        return {**kept.result, **place}

    def deliver(self, parcel: Parcel, store: Store, patience: Patience) -> dict[str, Any]:
        """Put the parcel into the store; if that fails, keep it on the volume, if there is one.

        Raises:
            DeliveryFailed, ResultTooLarge, UrlBlocked, DeadlineExceeded: with the place where it is
                kept.
            Cancelled
        """
        try:
            return store.deliver(parcel, patience)
        except UNDELIVERED as error:
            if self._volume is None or store is self._volume:
                raise
            try:
                place = self._volume.deliver(parcel, Patience(KEEP_SECONDS))
            except DeliveryFailed as other:
                raise type(error)(f"{error}; {other}", **error.details) from None
            raise _kept(error, place["video_path"]) from None

    def put(
        self, job: str, items: Sequence[Item], store: ItemStore, patience: Patience
    ) -> list[dict[str, Any]]:
        """Put the items into the store; if that fails, keep them on the volume, if there is one.

        Raises:
            DeliveryFailed, ResultTooLarge: with the places where they are kept.
            Cancelled
        """
        try:
            return store.put(job, items, patience)
        except UNDELIVERED as error:
            if self._volume is None or store is self._volume:
                raise
            try:
                places = self._volume.put(job, items, Patience(KEEP_SECONDS))
            except DeliveryFailed as other:
                raise type(error)(f"{error}; {other}", **error.details) from None
            paths = [place["path"] for place in places]
            message = f"{error}; what was made is kept: {', '.join(paths)}"
            raise type(error)(message, **{**error.details, "paths": paths}) from None


def _kept(error: JobError, path: Path | str) -> JobError:
    message = f"{error}; the video is kept at {path}"
    return type(error)(message, **{**error.details, "video_path": str(path)})


def check_room(plan: Plan, store: Store) -> None:
    """Refuse a render whose result is surely too large.

    Raises:
        ResultTooLarge
    """
    if store.max_mb is None:
        return
    frames = min(plan.frames, plan.delivered_frames)
    bits = LEAST_DRAFT_BITS if plan.request.draft else LEAST_BITS
    least_mb = frames * plan.width * plan.height * bits / 8 * 4 / 3 / 1e6
    if least_mb > store.max_mb:
        raise ResultTooLarge(
            f"{plan.delivered_frames} frames of {plan.width}x{plan.height} make a result of "
            f"{least_mb:.1f} MB or more, allowed: {store.max_mb:g} MB; {SMALLER}"
        )


SMALLER = "configure S3 storage, give upload_url, or ask for a shorter or smaller video"


class InlineStore:
    """The result carries the video itself."""

    def __init__(self, max_mb: float) -> None:
        self.max_mb: float | None = max_mb
        self._max_mb = max_mb

    def deliver(self, parcel: Parcel, patience: Patience) -> dict[str, Any]:
        """Raises:
        ResultTooLarge: the platform would drop the result.
        """
        bundle = {} if parcel.bundle is None else {"bundle": parcel.bundle}
        size_mb = (4 * -(-parcel.video.stat().st_size // 3) + len(json.dumps(bundle))) / 1e6
        if size_mb > self._max_mb:
            raise ResultTooLarge(
                f"the video makes a result of {size_mb:.1f} MB, allowed: {self._max_mb:g} MB; "
                + SMALLER
            )
        return {"video": _data_uri(parcel.video, "video/mp4"), **bundle}

    def put(self, job: str, items: Sequence[Item], patience: Patience) -> list[dict[str, Any]]:
        """Raises:
        ResultTooLarge: the platform would drop the result.
        """
        size_mb = sum(4 * -(-item.path.stat().st_size // 3) for item in items) / 1e6
        if size_mb > self._max_mb:
            raise ResultTooLarge(
                f"the outputs make a result of {size_mb:.1f} MB, allowed: {self._max_mb:g} MB; "
                "configure S3 storage, or make fewer or smaller ones"
            )
        return [{"data": _data_uri(item.path, item.content_type)} for item in items]

    def find(self, job: str, asked: str, patience: Patience) -> None:
        """Nothing is kept."""


def _data_uri(path: Path, content_type: str) -> str:
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    return f"data:{content_type};base64,{content}"


class VolumeStore:
    """A folder for each job, on a network volume."""

    max_mb: float | None = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def deliver(self, parcel: Parcel, patience: Patience) -> dict[str, Any]:
        """Raises:
        DeliveryFailed: the volume is full, or not to be written to.
        """
        folder = self._folder / parcel.job
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / VIDEO_NAME).unlink(missing_ok=True)  # that of another request
            for name, content in parcel.documents():
                (folder / name).write_bytes(content)
            _copy(parcel.video, folder / VIDEO_NAME, patience)
        except OSError as error:
            raise DeliveryFailed(
                f"the volume did not take the video: {error.strerror or error}"
            ) from None
        return self._place(parcel.job, bundled=parcel.bundle is not None)

    def put(self, job: str, items: Sequence[Item], patience: Patience) -> list[dict[str, Any]]:
        """Raises:
        DeliveryFailed: the volume is full, or not to be written to.
        """
        folder = self._folder / job
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for item in items:
                _copy(item.path, folder / item.path.name, patience)
        except OSError as error:
            raise DeliveryFailed(
                f"the volume did not take the outputs: {error.strerror or error}"
            ) from None
        return [{"path": str(folder / item.path.name)} for item in items]

    def find(self, job: str, asked: str, patience: Patience) -> dict[str, Any] | None:
        """The job's whole result, if its video is there."""
        kept = self.kept(job, asked)
        if kept is None:
            return None
        return {**kept.result, **self._place(job, bundled=kept.bundle is not None)}

    def kept(self, job: str, asked: str) -> Parcel | None:
        """The job's parcel, if its video is there."""
        folder = self._folder / job
        try:
            kept = read_kept((folder / RESULT_NAME).read_bytes(), asked)
            bundle = (folder / BUNDLE_NAME).read_bytes() if kept and kept.bundled else b"null"
        except OSError:
            return None
        if kept is None or not (folder / VIDEO_NAME).is_file():
            return None
        return Parcel(job, asked, folder / VIDEO_NAME, kept.result, json.loads(bundle))

    def forget(self, job: str) -> None:
        """Delete the job's folder."""
        shutil.rmtree(self._folder / job, ignore_errors=True)

    def save(self, job: str, name: str, content: Path | bytes, content_type: str) -> None:
        """Raises:
        PassingFault: the volume is full, or not to be written to.
        """
        path = self._folder / job / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as read:
                _write(read, path, Patience(math.inf))
        except OSError as error:
            raise PassingFault(
                f"the volume did not take the checkpoint: {error.strerror or error}"
            ) from None

    def load(self, job: str, name: str, into: BinaryIO, patience: Patience) -> bool:
        """Raises:
        OSError, and what `patience` raises
        """
        try:
            with (self._folder / job / name).open("rb") as read:
                _copy_chunks(read, into, patience)
        except FileNotFoundError:
            return False
        return True

    def files(self, job: str, folder: str) -> list[Stored]:
        """What lies in a folder of the job's."""
        found = []
        for path in (self._folder / job / folder).glob("*"):
            with contextlib.suppress(FileNotFoundError):  # the job is being rendered
                state = path.stat()
                if stat.S_ISREG(state.st_mode):
                    found.append(Stored(folder + path.name, state.st_size, state.st_mtime))
        return found

    def jobs(self) -> list[str]:
        """The keys of all jobs."""
        return [path.name for path in self._folder.glob("*") if path.is_dir()]

    def remove(self, job: str, names: Iterable[str]) -> None:
        """Raises:
        DeliveryFailed: not all could be deleted.
        """
        paths = [self._folder / job / name for name in names]
        try:
            for path in paths:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise DeliveryFailed(
                f"the volume did not delete the checkpoint: {error.strerror or error}"
            ) from None
        for folder in [*{path.parent for path in paths}, self._folder / job]:
            with contextlib.suppress(OSError):  # there is more in it
                folder.rmdir()

    def url(self, job: str, name: str) -> None:
        """A volume is nobody else's to read."""

    def _place(self, job: str, *, bundled: bool) -> dict[str, Any]:
        folder = self._folder / job
        bundle = {"bundle_path": str(folder / BUNDLE_NAME)} if bundled else {}
        return {"video_path": str(folder / VIDEO_NAME), **bundle}


def _copy(source: Path, target: Path, patience: Patience) -> None:
    with source.open("rb") as read:
        _write(read, target, patience)


def _write(read: BinaryIO, target: Path, patience: Patience) -> None:
    """Copy so that the target is whole when it is there."""
    partial = target.with_suffix(".part")
    try:
        with partial.open("wb") as written:
            _copy_chunks(read, written, patience)
            written.flush()
            os.fsync(written.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _copy_chunks(read: BinaryIO, written: BinaryIO, patience: Patience) -> None:
    while chunk := read.read(CHUNK_BYTES):
        patience.check()
        written.write(chunk)
