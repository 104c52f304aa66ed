"""What a job renders is looked at before it is kept or delivered."""

from __future__ import annotations

import io
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

from talkinghead.comfy.studio import Studio
from talkinghead.errors import RenderDefective
from talkinghead.media.contact_sheet import contact_sheet, tile
from talkinghead.media.defects import Flags
from talkinghead.media.looking import Glance, Glances, frames_of
from talkinghead.media.mux import count_frames
from talkinghead.media.quality import Quality
from talkinghead.media.sound import frame_levels
from talkinghead.media.watching import Watch
from talkinghead.plan.plan import Plan
from talkinghead.plan.windows import Window
from talkinghead.render.job import Job
from talkinghead.render.prepare import Tracks, check_of

log = logging.getLogger("talkinghead")

Frame = TypeVar("Frame", VideoFrame, Image.Image)
P = ParamSpec("P")

VOICED_RMS = 10 ** (-45 / 20)  # louder is somebody who speaks
TILES_EVERY_FRAMES = 8  # of a window, for the contact sheet; and the second frame
SHEET_NAME = "defective.png"
UNSEEN_NOTE = (
    "the picture could not be looked at, by a fault of the worker (its log has the details): "
    "whether it is black, frozen or noise was not found out"
)


class Looker:
    """Looks at the windows of one render, one after another.

    What goes wrong with looking itself costs no render: it is a note, and no more is looked at.

    Attributes:
        notes: what is not right about the windows, for the caller.
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
        self._plan = plan
        self._tracks = tracks
        self._studio = studio
        self._check = check_of(plan.request, studio)
        self._glances: Glances | None = None
        self._watch = Watch(plan.fps, quality or Quality())
        self._tiles: list[tuple[str, Image.Image]] = []
        self._is_blind = tracks.glances is None

    @property
    def quality(self) -> Quality:
        """The figures of the windows that may be kept, and of those before."""
        return self._watch.quality

    def look_at(self, video: Path, windows: Iterable[Window]) -> None:
        """Look at the windows of a file, and keep them. All of it is decoded in any case.

        Raises:
            RenderDefective: one is black, of one colour, or noise.
            RenderFailed: it cannot be decoded.
        """
        frames = self.through(frames_of(video, self.job.check_finishing), windows)
        decoded, rendered = sum(1 for _ in frames), count_frames(video)
        if decoded < rendered:
            self.notes.append(f"only {decoded} of {rendered} rendered frames can be decoded")

    def through(self, frames: Iterator[Frame], windows: Iterable[Window]) -> Iterator[Frame]:
        """Let the frames of the windows pass, look at them, and keep them if they may be.

        Raises:
            RenderDefective: a window is black, of one colour, or noise.
        """
        for at in windows:
            self._watch.forget()  # what an attempt that failed left
            self._tiles = []
            for place, frame in enumerate(itertools.islice(frames, at.new)):
                self._survive(self._see, at, place, frame)
                yield frame
            self._survive(self._judge, at)
        yield from frames

    def _survive(self, look: Callable[P, None], *args: P.args, **options: P.kwargs) -> None:
        if self._is_blind:
            return
        try:
            look(*args, **options)
        except RenderDefective:
            raise
        except Exception:  # a finished video is worth more than what is said of it
            log.exception("the picture could not be looked at")
            self.notes.append(UNSEEN_NOTE)
            self._is_blind = True

    def _see(self, at: Window, place: int, frame: VideoFrame | Image.Image) -> None:
        number = at.first + place
        self._watch.see(frame, partial(self._source, at, number))
        if place == 1 or place % TILES_EVERY_FRAMES == 0:
            self._tiles.append((f"frame {number + 1}", tile(frame)))

    def _judge(self, at: Window) -> None:
        """Take the window, with a note of what is not right about it; or refuse it."""
        if not self._watch.count:
            return
        voiced = self._voiced(at.first, self._watch.count)
        number = at.index + 1
        sight, _ = self._watch.judged(number, voiced, is_last=number == self._plan.windows)
        if sight.defect and self._check == "fail":
            raise RenderDefective(sight.defect.text, **self._shown())
        self._watch.keep(sight)
        self.notes.extend(finding.text for finding in sight.findings)

    def _shown(self) -> dict[str, Any]:
        """Where people can see the frames: on the volume, if there is one that takes them."""
        try:
            contact_sheet(self._tiles).save(file := io.BytesIO(), "PNG")
            content, stores = file.getvalue(), self._studio.stores
            path = stores.keep(self.job.place, SHEET_NAME, content, "image/png")
        except Exception:  # the window is no better for it
            log.exception("no contact sheet of the picture")
            path = None
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
