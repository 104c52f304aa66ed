"""A stranger's video, played: which frame it shows at which time.

An index of all times is read first, without decoding; the player then decodes only what leads to
the frames that are asked for.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from talkinghead.media.containers import decoding
from talkinghead.media.readers import (
    TimedFrame,
    VideoReader,
    WebpReader,
    first_frame,
    open_reader,
)

# Matroska and FLV round times to whole milliseconds: a frame may begin that much later than said.
ROUNDING_SECONDS = 0.001
SEEK_SECONDS = 1.0  # to a nearer keyframe decoding on is as quick: a seek empties the decoder


@dataclass(frozen=True)
class Index:
    """When the frames of a file are shown, in ticks of its own; how wide a pixel is for its height.

    `start` is the first frame's tick, `end` where the last one's time is over; `keyframes` ascend,
    and are none where the file is to be read from its start.
    """

    pixel_aspect: Fraction
    ticks_per_second: Fraction
    start: int
    end: int
    frames: int
    keyframes: Sequence[int]

    @property
    def seconds(self) -> float:
        """How long the video is shown."""
        return float((self.end - self.start) / self.ticks_per_second)

    def tick(self, time: float, *, loop: bool) -> int:
        """The tick of a time in seconds from the first frame, which may lie past the end."""
        position = max(time, 0.0) + ROUNDING_SECONDS
        if loop:
            position %= self.seconds
        return self.start + math.floor(position * self.ticks_per_second)

    def keyframe(self, tick: int) -> int:
        """The last keyframe that is not after `tick`."""
        place = bisect.bisect_right(self.keyframes, tick)
        return self.keyframes[place - 1] if place else self.start


def read_index(name: str, path: Path) -> Index:
    """Read the times of all packets; only the first frame is decoded.

    Raises:
        MediaInvalid: not a video, or no frame of it can be decoded.
    """
    with decoding(name, "video"), open_reader(name, path) as reader:
        start = first_frame(name, reader.frames()).tick
        if isinstance(reader, WebpReader):
            times = reader.animation.times
            return Index(reader.pixel_aspect, Fraction(1000), 0, times[-1], len(times) - 1, ())
    # Opened once more: the decoder has taken packets, and not every file leads back to its start.
    with decoding(name, "video"), open_reader(name, path) as reader:
        assert isinstance(reader, VideoReader)
        return _index_of(reader, start)


def _index_of(reader: VideoReader, start: int) -> Index:
    frames, last, keyframes = 0, (start, 0), []
    for packet in reader.packets():
        tick = packet.dts if packet.pts is None else packet.pts
        if tick is None or tick < start or packet.is_discard:
            continue
        frames += 1
        last = max(last, (tick, max(0, packet.duration or 0)))
        if packet.is_keyframe:
            keyframes.append(tick)
    average = round((last[0] - start) / (frames - 1)) if frames > 1 else reader.step
    return Index(
        pixel_aspect=reader.pixel_aspect,
        ticks_per_second=reader.ticks_per_second,
        start=start,
        end=last[0] + (last[1] or max(1, average)),
        frames=max(1, frames),
        keyframes=() if reader.is_joined else sorted(keyframes),
    )


class Player:
    """Finds frames by their ticks: by decoding on, or from a keyframe where that saves much.

    It keeps the frame that is shown and the next one: only that tells how long the first is shown.
    To be closed.
    """

    _frames: Iterator[TimedFrame]
    _shown: TimedFrame
    _next: TimedFrame | None

    def __init__(self, name: str, source: Path, index: Index) -> None:
        self._name, self._source, self._index = name, source, index
        self._file = contextlib.ExitStack()
        self._seekable = bool(index.keyframes)
        self._rewind()

    def close(self) -> None:
        """Close the file; the frames that were given out stay."""
        self._file.close()

    def frame_at(self, tick: int) -> TimedFrame:
        """The frame that is shown at `tick`; the last one if `tick` is past the end."""
        self._approach(tick)
        while self._next is not None and self._next.tick <= tick:
            self._shown, self._next = self._next, next(self._frames, None)
        return self._shown

    def _approach(self, tick: int) -> None:
        back = tick < self._shown.tick
        keyframe = self._index.keyframe(tick)
        saved_seconds = (keyframe - self._shown.tick) / self._index.ticks_per_second
        if self._seekable and (back or saved_seconds > SEEK_SECONDS):
            self._seekable = self._seek(keyframe)
            if not self._seekable:
                self._rewind()
        elif back:
            self._rewind()

    def _rewind(self) -> None:
        self._file.close()
        self._reader = self._file.enter_context(open_reader(self._name, self._source))
        frames = self._reader.frames()
        self._play(first_frame(self._name, frames), frames)

    def _seek(self, keyframe: int) -> bool:
        """Go on from the keyframe. False if the file does not lead there: indexes may be wrong."""
        if not self._reader.seek(keyframe):
            return False
        decoded = self._reader.frames()
        # Frames that are shown before it may refer to what was skipped.
        frames = itertools.dropwhile(lambda timed: timed.tick < keyframe, decoded)
        first = next(frames, None)
        if first is None or first.tick != keyframe or not first.frame.key_frame:
            return False
        self._play(first, frames)
        return True

    def _play(self, first: TimedFrame, frames: Iterator[TimedFrame]) -> None:
        self._frames, self._shown, self._next = frames, first, next(frames, None)
