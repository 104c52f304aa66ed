"""What is seen of a video: for `talkinghead look`, and for the report of what a run made."""

from __future__ import annotations

import shutil
import threading
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from talkinghead.errors import JobError
from talkinghead.media.inspection import Look, look_at
from talkinghead.media.sandbox import Sandbox, Sandboxes
from talkinghead.plan.frames import MODEL_FPS, WINDOW_FRAMES
from talkinghead.plan.talk_models import MODELS
from talkinghead.replay.places import Stopped
from talkinghead.settings import Settings

VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".mov", ".avi")
# Another model's windows are shorter; where they begin is then told a little wrong.
WINDOW_SECONDS = WINDOW_FRAMES / MODEL_FPS, MODELS["infinitetalk"].new_frames() / MODEL_FPS


def look(
    video: Path,
    sandbox: Sandbox,
    *,
    source: Path | None = None,
    sound: Path | None = None,
    sheet: Path | None = None,
    poster: Path | None = None,
) -> Look:
    """Look at a video as a worker does; `sheet` gets the contact sheet, `poster` a frame of it.

    Raises:
        MediaInvalid, MediaTooLarge: a file is not what it should be.
    """
    files = [path for path in (video, source, sound) if path]
    with TemporaryDirectory(prefix="talkinghead-look-") as folder:
        still = Path(folder) / "poster.jpg"
        seen = sandbox.call(
            ", ".join(path.name for path in files),
            look_at,
            video.name,
            video.resolve(),
            Path(folder),
            window_seconds=WINDOW_SECONDS,
            source=source and source.resolve(),
            sound=sound and sound.resolve(),
            sheet=sheet,
            poster=still if poster else None,
            max_megapixels=Settings().max_image_megapixels,
        )
        if poster is not None and still.exists():
            poster.parent.mkdir(exist_ok=True)
            shutil.copyfile(still, poster)
        return seen


class OutputLook:
    """Looks at what runs make, of several threads at once; not any more once `stop` is set."""

    def __init__(self, sandboxes: Sandboxes, stop: threading.Event) -> None:
        self._sandboxes, self._stop = sandboxes, stop

    def of(self, path: Path, poster: Path | None = None) -> dict[str, Any]:
        """What a report says of a file that a run made: of a video, its `look`.

        A frame of it goes to `poster`.
        """
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            return {}
        with self._sandboxes.open(self._check) as sandbox:
            try:
                return {"look": asdict(look(path, sandbox, poster=poster))}
            except JobError as error:
                return {"look": {"error": str(error)}}
            except Stopped:  # what was made is kept all the same
                return {}

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped
