"""A stranger's video, played: which frame it shows at which time, and how that is turned.

Times in a file are ticks of its own. An index of all of them is read first, without decoding; the
player then decodes only what leads to the frames that are asked for.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.buffer import Buffer
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from talkinghead.errors import MediaInvalid
from talkinghead.media.containers import (
    MAX_MEGAPIXELS,
    check_codec,
    decoding,
    open_container,
    packets,
)

VIDEO_FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf"
VIDEO_CODECS = (
    *("h264", "hevc", "av1", "libdav1d", "vp9", "libvpx-vp9", "vp8", "libvpx", "mpeg4", "h263"),
    *("mpeg2video", "mpeg1video", "msmpeg4", "msmpeg4v2", "wmv1", "wmv2", "wmv3", "vc1", "flv"),
    *("mjpeg", "prores", "dnxhd", "cfhd", "dvvideo", "ffv1", "huffyuv", "ffvhuff", "utvideo"),
    *("theora", "qtrle", "png", "rawvideo", "v210"),
)
DEFAULT_FPS = 25  # of a file that tells neither rate nor times
# Matroska and FLV round times to whole milliseconds: a frame may begin that much later than said.
ROUNDING_SECONDS = 0.001
SEEK_SECONDS = 1.0  # to a nearer keyframe decoding on is as quick: a seek empties the decoder
DECODER_THREADS = 4  # each holds a frame


@contextlib.contextmanager
def open_video(name: str, path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video for decoding: the container, and its first stream that is no still picture.

    Raises:
        MediaInvalid: there is no such stream, or it is for a decoder that is not allowed.
        av.FFmpegError: of FFmpeg's own; `decoding` makes MediaInvalid of it.
    """
    with open_container(path, VIDEO_FORMATS, VIDEO_CODECS) as container:
        stream = next(filter(_is_moving, container.streams.video), None)
        if stream is None:
            raise MediaInvalid(f"{name}: the file has no video stream that can be decoded")
        check_codec(name, "video", stream, VIDEO_CODECS)
        # The size in the header was looked at, but a stream may change its size as it plays.
        stream.codec_context.options = {"max_pixels": str(MAX_MEGAPIXELS * 10**6)}
        stream.thread_type, stream.codec_context.thread_count = "AUTO", DECODER_THREADS
        yield container, stream


def _is_moving(stream: VideoStream) -> bool:
    """Whether it is neither a cover nor of an unknown codec."""
    return stream.codec_context is not None and not stream.disposition & Disposition.attached_pic


class TimedFrame(NamedTuple):
    """A decoded frame, and the tick of the file from which on it is shown."""

    tick: int
    frame: VideoFrame


def timed_frames(
    container: InputContainer, stream: VideoStream, check: Callable[[], None]
) -> Iterator[TimedFrame]:
    """The frames that can be decoded, none earlier than the one before it."""
    last: int | None = None
    for packet in packets(container, stream, check):
        try:
            frames = packet.decode()
        except av.InvalidDataError:
            continue  # damaged: the frame before it stays longer
        for frame in frames:
            following = 0 if last is None else last + _step(stream)
            tick = following if frame.pts is None else frame.pts
            last = tick if last is None else max(tick, last)
            yield TimedFrame(last, frame)


def first_frame(name: str, frames: Iterator[TimedFrame]) -> TimedFrame:
    """The first of `timed_frames`.

    Raises:
        MediaInvalid: there is none.
    """
    first = next(frames, None)
    if first is None:
        raise MediaInvalid(f"{name}: no frame of the video can be decoded")
    return first


def _ticks_per_second(stream: VideoStream) -> Fraction:
    return 1 / (stream.time_base or Fraction(1, av.time_base))


def _step(stream: VideoStream) -> int:
    """The ticks from one frame to the next, where the file does not tell."""
    fps = stream.average_rate or stream.guessed_rate or DEFAULT_FPS
    return max(1, round(_ticks_per_second(stream) / fps))


class Orientation(NamedTuple):
    """Whether x and y change places, and then left and right, and top and bottom."""

    swapped: bool
    mirrored: bool
    upended: bool


def _orientation(frame: VideoFrame) -> Orientation:
    """What the display matrix asks for. It begins a b 0 c d and shows x y at ax + cy, bx + dy.

    To be asked of one frame only: each frame that shows its side data stays in memory with it,
    until Python looks for cycles.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, Buffer):
        return Orientation(False, False, False)
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    swapped = abs(b) > abs(a)
    return Orientation(swapped, (c if swapped else a) < 0, (b if swapped else d) < 0)


def shown_size(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Width and height of the picture as players show it: upright, with square pixels."""
    width = max(1, round(frame.width * (stream.sample_aspect_ratio or 1)))
    return (frame.height, width) if _orientation(frame).swapped else (width, frame.height)


@dataclass(frozen=True)
class Index:
    """How a file is turned, and when its frames are shown, in ticks of its own.

    `start` is the first frame's tick, `end` where the last one's time is over; `keyframes` ascend.
    """

    orientation: Orientation
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


def read_index(name: str, path: Path, check: Callable[[], None]) -> Index:
    """Read the times of all packets; only the first frame is decoded.

    What `check` raises ends it.

    Raises:
        MediaInvalid: not a video, or no frame of it can be decoded.
    """
    with decoding(name, "video"), open_video(name, path) as (container, stream):
        start, frame = first_frame(name, timed_frames(container, stream, check))
        orientation = _orientation(frame)
    # Opened once more: the decoder has taken packets, and not every file leads back to its start.
    frames, last, keyframes = 0, (start, 0), []
    with decoding(name, "video"), open_video(name, path) as (container, stream):
        for packet in packets(container, stream, check):
            tick = packet.dts if packet.pts is None else packet.pts
            if tick is None or tick < start or packet.is_discard:
                continue
            frames += 1
            last = max(last, (tick, max(0, packet.duration or 0)))
            if packet.is_keyframe:
                keyframes.append(tick)
        average = round((last[0] - start) / (frames - 1)) if frames > 1 else _step(stream)
        end = last[0] + (last[1] or max(1, average))
        rate = _ticks_per_second(stream)
    return Index(orientation, rate, start, end, max(1, frames), sorted(keyframes))


class Player:
    """Finds frames by their ticks: by decoding on, or from a keyframe where that saves much.

    It keeps the frame that is shown and the next one: only that tells how long the first is shown.
    To be closed; `check` is called for every packet.
    """

    _frames: Iterator[TimedFrame]
    _shown: TimedFrame
    _next: TimedFrame | None

    def __init__(self, name: str, source: Path, index: Index, check: Callable[[], None]) -> None:
        self._name, self._source, self._index, self._check = name, source, index, check
        self._file = contextlib.ExitStack()
        self._seekable = True
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
        opened = open_video(self._name, self._source)
        self._container, self._stream = self._file.enter_context(opened)
        frames = timed_frames(self._container, self._stream, self._check)
        self._play(first_frame(self._name, frames), frames)

    def _seek(self, keyframe: int) -> bool:
        """Go on from the keyframe. False if the file does not lead there: indexes may be wrong."""
        try:
            self._container.seek(keyframe, stream=self._stream)
        except av.FFmpegError:
            return False
        decoded = timed_frames(self._container, self._stream, self._check)
        # Frames that are shown before it may refer to what was skipped.
        frames = itertools.dropwhile(lambda timed: timed.tick < keyframe, decoded)
        first = next(frames, None)
        if first is None or first.tick != keyframe or not first.frame.key_frame:
            return False
        self._play(first, frames)
        return True

    def _play(self, first: TimedFrame, frames: Iterator[TimedFrame]) -> None:
        self._frames, self._shown, self._next = frames, first, next(frames, None)
