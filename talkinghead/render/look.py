"""What a job renders is looked at before it is kept or delivered."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

from talkinghead.comfy.studio import Studio
from talkinghead.errors import RenderDefective
from talkinghead.media.contact_sheet import contact_sheet, tile
from talkinghead.media.defects import Flags, Quality, judge
from talkinghead.media.looking import Eye, Glance, Glances, Seen, frames_of, glance, luma_of
from talkinghead.media.sound import frame_levels
from talkinghead.plan.plan import Plan
from talkinghead.plan.windows import Window
from talkinghead.render.job import Job
from talkinghead.render.prepare import Tracks, check_of

Frame = TypeVar("Frame", VideoFrame, Image.Image)

VOICED_RMS = 10 ** (-45 / 20)  # louder is somebody who speaks
TILES_EVERY_FRAMES = 8  # of a window, for the contact sheet; and the second frame
SHEET_NAME = "defective.png"


class Looker:
    """Looks at the windows of one render, one after another.

    Attributes:
        quality: the figures of the windows that may be kept, and of those before.
        notes: what is not right about them, for the caller.
    """

    def __init__(
        self,
        job: Job,
        plan: Plan,
        tracks: Tracks,
        studio: Studio,
        *,
        notes: list[str],
        quality: Quality | None = None,
    ) -> None:
        self.job = job
        self.notes = notes
        self.quality = quality or Quality()
        self._plan = plan
        self._tracks = tracks
        self._studio = studio
        self._check = check_of(plan.request, studio)
        self._glances: Glances | None = None

    def look_at(self, video: Path, windows: Iterable[Window]) -> None:
        """Look at the windows of a file, and keep them.

        Raises:
            RenderDefective: one is black, of one colour, or noise.
        """
        if self._tracks.glances is not None:
            for _ in self.through(frames_of(video, self.job.check_finishing), windows):
                """A frame that was looked at."""

    def through(self, frames: Iterator[Frame], windows: Iterable[Window]) -> Iterator[Frame]:
        """Let the frames of the windows pass, look at them, and keep them if they may be.

        Raises:
            RenderDefective: a window is black, of one colour, or noise.
        """
        if self._tracks.glances is not None:
            for at in windows:
                yield from self._window(at, itertools.islice(frames, at.new))
        yield from frames

    def _window(self, at: Window, frames: Iterator[Frame]) -> Iterator[Frame]:
        eye, tiles, count = Eye(), list[tuple[str, Image.Image]](), 0
        for count, frame in enumerate(frames, 1):
            seen = glance(luma_of(frame))
            eye.see(seen, self._source(at, at.first + count - 1, seen))
            if count == 2 or count % TILES_EVERY_FRAMES == 1:
                tiles.append((f"frame {at.first + count}", tile(frame)))
            yield frame
        if count:
            self._judge(eye.seen(), at, tiles)

    def _judge(self, seen: Seen, at: Window, tiles: Sequence[tuple[str, Image.Image]]) -> None:
        """Take the window, with a note of what is not right about it; or refuse it."""
        voiced = self._voiced(at.first, len(seen))
        sight = judge(seen, at.index + 1, self.quality, fps=self._plan.fps, voiced=voiced)
        if sight.defect and self._check == "fail":
            raise RenderDefective(sight.defect.text, **self._shown(tiles))
        self.quality = self.quality.with_window(sight)
        self.notes.extend(finding.text for finding in sight.findings)

    def _shown(self, tiles: Sequence[tuple[str, Image.Image]]) -> dict[str, Any]:
        """Where people can see the frames: on the volume, if there is one."""
        file = io.BytesIO()
        contact_sheet(tiles).save(file, "PNG")
        content = file.getvalue()
        path = self._studio.stores.keep(self.job.place, SHEET_NAME, content, "image/png")
        return {"contact_sheet": str(path)} if path else {}

    def _source(self, at: Window, number: int, seen: Glance) -> Glance | None:
        """What a frame is made from; None of a video in another size than planned."""
        plan, ready = self._plan, self._tracks.glances
        assert ready is not None, "else nothing is looked at"
        if self._glances is None:
            self._glances = Glances(ready.result(), plan.width, plan.height)
        source = self._glances[_index(plan, at, number)]
        return source if source.small.shape == seen.small.shape else None

    def _voiced(self, first: int, frames: int) -> Flags:
        """[frames], whether anybody speaks."""
        levels = [
            frame_levels(track, fps=self._plan.fps, first=first, frames=frames)
            for track in self._tracks.speech
        ]
        return np.asarray(np.array(levels).max(axis=0) > VOICED_RMS)


def _index(plan: Plan, at: Window, number: int) -> int:
    """Of the pictures that a render is made from, the one of this frame."""
    if plan.source is None:
        return 0
    by_frame = plan.request.draft or plan.video_method == "denoise"
    return number if by_frame else at.index
