"""Delivery to a path on this machine, for the command line."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from pathlib import Path
from typing import Any

from talkinghead.delivery.place import FinishedVideo, Place, as_json
from talkinghead.delivery.retry import Patience
from talkinghead.errors import DeliveryFailed
from talkinghead.files import numbered

BUNDLE_SUFFIX = ".bundle.json"


def bundle_path(video: Path) -> Path:
    """Where the bundle of a video goes."""
    return video.with_name(video.stem + BUNDLE_SUFFIX)


def new_path(path: Path) -> Path:
    """The path, or with a number if it is taken; an empty file holds it, of two at once for one.

    Raises:
        OSError
    """
    for each in numbered(path):
        if not bundle_path(each).exists():
            with contextlib.suppress(FileExistsError):
                each.open("xb").close()
                return each
    raise AssertionError("numbers end")


class FilePlace(Place):
    """One path, which may be set anew before each job; a replay bundle goes beside it.

    The bundle of me.mp4 is me.bundle.json: me.json is what a person calls the request. Without
    `overwrite` the path gets a number where something has come meanwhile.
    """

    def __init__(self, path: Path, *, overwrite: bool = True) -> None:
        self.path, self._overwrite = path, overwrite

    def deliver(self, video: FinishedVideo, patience: Patience) -> dict[str, Any]:
        """Bring the video there, whole or not at all.

        Raises:
            DeliveryFailed
        """
        part = self.path.with_name(f".{uuid.uuid4().hex[:8]}.part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(video.path, part)
            path = self.path if self._overwrite else new_path(self.path)
            part.replace(path)
            if video.bundle is not None:
                bundle_path(path).write_bytes(as_json(video.bundle))
        except OSError as error:
            raise DeliveryFailed(f"{self.path} cannot be written: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                part.unlink()
        return {"path": str(path)}
