"""The windows of a video, looked at one after another and each judged beside those before it."""

from __future__ import annotations

from collections.abc import Callable

from av.video.frame import VideoFrame
from PIL import Image

from talkinghead.media.defects import Flags, judge
from talkinghead.media.looking import Eye, Glance, Seen, glance, luma_of
from talkinghead.media.quality import Quality, Sight


class Watch:
    """Sees the frames of a window, judges it, and goes on to the next if that one is kept.

    Attributes:
        quality: the figures of the windows that were kept.
        count: how many frames of the present window it has seen.
    """

    def __init__(self, fps: float, quality: Quality) -> None:
        self.quality = quality
        self.count = 0
        self._fps = fps
        self._eye = Eye()

    def see(
        self, frame: VideoFrame | Image.Image, beside: Callable[[Glance], Glance | None]
    ) -> None:
        """Look at the window's next frame; `beside` tells what it is made from, if that is known.

        It is known of all the window's frames, or of none.
        """
        seen = glance(luma_of(frame))
        self._eye.see(seen, beside(seen))
        self.count += 1

    def judged(self, window: int, voiced: Flags | None, *, is_last: bool) -> tuple[Sight, Seen]:
        """The window whose frames were seen, as `judge` has it, and what was measured of them."""
        seen, before = self._eye.seen(), self.quality
        sight = judge(seen, window, before, fps=self._fps, voiced=voiced, is_last=is_last)
        return sight, seen

    def keep(self, sight: Sight) -> None:
        """Take the window, and go on to the next."""
        self.quality = self.quality.with_window(sight)
        self.forget()

    def forget(self) -> None:
        """Begin the window anew."""
        self._eye, self.count = Eye(), 0
