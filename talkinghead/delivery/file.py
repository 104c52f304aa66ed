"""Delivery to a path on this machine, for the command line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from talkinghead.delivery.place import FinishedVideo, Place, as_json
from talkinghead.delivery.retry import Patience

BUNDLE_SUFFIX = ".bundle.json"


def bundle_path(video: Path) -> Path:
    """Where the bundle of a video goes."""
    return video.with_name(video.stem + BUNDLE_SUFFIX)


class FilePlace(Place):
    """One path, which may be set anew before each job; a replay bundle goes beside it.

    The bundle of me.mp4 is me.bundle.json: me.json is what a person calls the request.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def deliver(self, video: FinishedVideo, patience: Patience) -> dict[str, Any]:
        """Copy the video there, over what is there.

        Raises:
            OSError
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(video.path, self.path)
        if video.bundle is not None:
            bundle_path(self.path).write_bytes(as_json(video.bundle))
        return {"path": str(self.path)}
