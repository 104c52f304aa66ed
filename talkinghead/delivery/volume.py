"""Delivery to a network volume: a folder for each job."""

from __future__ import annotations

import contextlib
import glob
import io
import json
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from talkinghead.delivery.asked import Asked
from talkinghead.delivery.blobs import CHUNK_BYTES, StoredFile, StoredPlace, StoreError
from talkinghead.delivery.place import BUNDLE_NAME, VIDEO_NAME, FinishedVideo, PlaceKind
from talkinghead.errors import DeliveryFailed
from talkinghead.settings import Settings

FOLDER_TRIES = 5  # of a folder that vanishes as it is written into
TOKEN_DIGITS = 8  # in the name of an unfinished copy; other files may end in .part, too
ABANDONED_SECONDS = 3600.0  # since a write went on; a slow volume writes some each minute


class VolumeStore:
    """A folder for each job, in `folder`, which need not be there yet."""

    name = "the volume"
    keeps_tags = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, job: str, name: str) -> Path:
        """Where the file is, on this machine."""
        return self._folder / job / name

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
        """Copy it beside its place, and then there; a file has neither type nor tag.

        Raises:
            StoreError: the volume is full, or not to be written to; or `content` is gone.
        """
        path = self.path(job, name)
        for tries_left in reversed(range(FOLDER_TRIES)):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                source = content.open("rb") if isinstance(content, Path) else io.BytesIO(content)
                with source as read:
                    _write(read, path, check or (lambda: None))
                return
            except OSError as error:
                # Another worker may delete the folder while it is still empty.
                if isinstance(error, FileNotFoundError) and tries_left:
                    continue
                raise StoreError(error.strerror or str(error)) from None

    def get(
        self, job: str, name: str, into: BinaryIO, check: Callable[[], None] = lambda: None
    ) -> bool:
        """Copy it out; False if there is none.

        Raises:
            OSError, and what `check` raises
        """
        try:
            with self.path(job, name).open("rb") as read:
                _copy(read, into, check)
        except FileNotFoundError:
            return False
        return True

    def has(self, job: str, name: str, tag: str) -> bool:
        """Whether the file is there."""
        return self.path(job, name).is_file()

    def files(self, job: str, folder: str) -> list[StoredFile]:
        """The files of a folder of the job's, and of all folders in it."""
        found, base = [], self.path(job, "")
        for path in self.path(job, folder).rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # the job is being rendered
                state = path.stat()
                if stat.S_ISREG(state.st_mode):
                    name = path.relative_to(base).as_posix()
                    found.append(StoredFile(name, state.st_size, state.st_mtime))
        return found

    def jobs(self) -> list[str]:
        """The names of the jobs' folders."""
        return [path.name for path in self._folder.glob("*") if path.is_dir()]

    def delete(self, job: str, names: Iterable[str]) -> list[str]:
        """Delete the files, and the folders that are empty then.

        Raises:
            StoreError: at the first that could not be deleted.
        """
        paths = [self.path(job, name) for name in names]
        try:
            for path in paths:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(error.strerror or str(error)) from None
        self._forget_empty({path.parent for path in paths})
        return []

    def check(self) -> None:
        """Write a tiny file, and delete it.

        Raises:
            StoreError: the volume cannot be written.
        """
        folder = f"doctor-{uuid.uuid4().hex}"  # others look at the same time, and delete theirs
        self.put(folder, "written", b"", "")
        self.delete(folder, ["written"])

    def _forget_empty(self, folders: Iterable[Path]) -> None:
        """Delete the folders that nothing is in, and those above them up to the store's own."""
        for folder in folders:
            with contextlib.suppress(OSError):  # there is more in it
                for each in (folder, *folder.parents):
                    if each == self._folder:
                        break
                    each.rmdir()

    def url(self, job: str, name: str) -> None:
        """None: a volume is nobody else's to read."""

    def tidy(self) -> None:
        """Do nothing: whoever writes takes his own unfinished file away."""

    def forget(self, job: str) -> None:
        """Delete the job's folder, whatever is in it."""
        shutil.rmtree(self._folder / job, ignore_errors=True)
        self._forget_empty([(self._folder / job).parent])


def _write(read: BinaryIO, target: Path, check: Callable[[], None]) -> None:
    """Copy so that the target is whole when it is there, after a loss of power, too.

    The copy has a name of its own: another worker may be writing the same file. What one that was
    killed left of it goes.
    """
    for left in target.parent.glob(f"{glob.escape(target.name)}.{'[0-9a-f]' * TOKEN_DIGITS}.part"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                left.unlink()
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex[:TOKEN_DIGITS]}.part")
    try:
        with partial.open("wb") as written:
            _copy(read, written, check)
            written.flush()
            os.fsync(written.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _copy(read: BinaryIO, written: BinaryIO, check: Callable[[], None]) -> None:
    while chunk := read.read(CHUNK_BYTES):
        check()
        written.write(chunk)


class VolumePlace(StoredPlace):
    """A network volume; the last resort for a video that another place does not take, too."""

    store: VolumeStore

    def where(self, job: str, *, bundled: bool) -> dict[str, Any]:
        """The paths of the video and its bundle."""
        bundle = {"bundle_path": str(self.store.path(job, BUNDLE_NAME))} if bundled else {}
        return {"video_path": str(self.store.path(job, VIDEO_NAME)), **bundle}

    def where_item(self, job: str, name: str) -> dict[str, Any]:
        """The item's path."""
        return {"path": str(self.store.path(job, name))}

    def kept(self, job: str, asked: Asked) -> FinishedVideo | None:
        """The job's finished video, if it is here."""
        document = self._document(job, asked)
        if document is None:
            return None
        bundle = b"null"
        if document.bundled:
            try:
                bundle = self.store.path(job, BUNDLE_NAME).read_bytes()
            except OSError:
                return None
        path = self.store.path(job, VIDEO_NAME)
        return FinishedVideo(job, document.asked, path, document.result, json.loads(bundle))

    def forget(self, job: str) -> None:
        """Keep nothing more of the job."""
        self.store.forget(job)


def _open(settings: Settings) -> VolumePlace | None:
    if not settings.volume_dir.is_dir():
        return None
    return VolumePlace(VolumeStore(settings.volume_dir / "talkinghead"))


def _check(settings: Settings) -> str | None:
    place = _open(settings)
    if place is None:
        return None
    try:
        place.store.check()
    except StoreError as error:
        raise DeliveryFailed(
            f"the volume at {settings.volume_dir} cannot be written ({error}), neither by "
            f'`delivery: "volume"` nor with what cannot be delivered: let user {os.getuid()} write'
        ) from None
    return f"the volume at {settings.volume_dir} can be written"


VOLUME = PlaceKind(
    name="volume", settings=("volume_dir",), open=_open, is_default=False, check=_check
)
