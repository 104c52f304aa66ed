"""The frames of a stranger's video as they are decoded, each with the time from which on it shows.

Times in a file are ticks of its own.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.buffer import Buffer
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from talkinghead.errors import MediaInvalid
from talkinghead.media import webp
from talkinghead.media.containers import (
    MAX_MEGAPIXELS,
    check_codec,
    open_container,
    packets,
)
from talkinghead.media.heartbeat import beat

VIDEO_FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,gif"
VIDEO_CODECS = (
    *("h264", "hevc", "av1", "libdav1d", "vp9", "libvpx-vp9", "vp8", "libvpx", "mpeg4", "h263"),
    *("mpeg2video", "mpeg1video", "msmpeg4", "msmpeg4v2", "wmv1", "wmv2", "wmv3", "vc1", "flv"),
    *("mjpeg", "prores", "dnxhd", "cfhd", "dvvideo", "ffv1", "huffyuv", "ffvhuff", "utvideo"),
    *("theora", "qtrle", "png", "rawvideo", "v210", "gif"),
)
DEFAULT_FPS = 25  # of a file that tells neither rate nor times
DECODER_THREADS = 4  # each holds a frame
# Files of these may be joined as they are, and then the clock of each part is its own. In some, a
# leap of so many seconds is one too, as ffmpeg has it.
LEAPING_FORMATS, LEAP_SECONDS = ("mpegts", "mpeg"), 10
RESTARTING_FORMATS = ("matroska,webm",)

TELLING_FORMATS = ("mov",)
LEAST_BYTES = 16  # of less, MPEG-4 says that the frame before it stays


class Orientation(NamedTuple):
    """Whether x and y change places, and then left and right, and top and bottom."""

    swapped: bool
    mirrored: bool
    upended: bool


UPRIGHT = Orientation(False, False, False)


class TimedFrame(NamedTuple):
    """A decoded frame, the tick of the file from which on it is shown, and how it is turned."""

    tick: int
    frame: VideoFrame
    orientation: Orientation = UPRIGHT


def _orientation(frame: VideoFrame) -> Orientation:
    """What the display matrix asks for. It begins a b 0 c d and shows x y at ax + cy, bx + dy.

    To be asked of few frames: each that shows its side data stays in memory with it, until Python
    looks for cycles.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, Buffer):
        return UPRIGHT
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    swapped = abs(b) > abs(a)
    return Orientation(swapped, (c if swapped else a) < 0, (b if swapped else d) < 0)


class VideoReader:
    """What FFmpeg reads."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container, self._stream = container, stream
        self.width, self.height = stream.width, stream.height
        self.pixel_aspect = Fraction(stream.sample_aspect_ratio or 1)
        self.ticks_per_second = 1 / (stream.time_base or Fraction(1, av.time_base))
        fps = stream.average_rate or stream.guessed_rate or DEFAULT_FPS
        # The ticks from one frame to the next, where the file does not tell.
        self.step = max(1, round(self.ticks_per_second / fps))
        self.is_joined = False  # as far as it was read
        # How long it is by the file's headers, if they tell; fragments have none of all of it.
        telling = container.format.name.startswith(TELLING_FORMATS) and stream.frames
        ticks = stream.duration if telling else None
        self.told_seconds = None if ticks is None else float(ticks / self.ticks_per_second)

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """The stream's packets on one clock: it goes on where the file's starts anew or leaps."""
        as_they_come = packets(self._container, self._stream)
        kind = self._container.format.name
        if kind in LEAPING_FORMATS:
            return self._without_leaps(as_they_come)
        return self._in_a_row(as_they_come) if kind in RESTARTING_FORMATS else as_they_come

    def _without_leaps(
        self, as_they_come: Iterator[Packet[VideoStream]]
    ) -> Iterator[Packet[VideoStream]]:
        offset, last = 0, None
        for packet in as_they_come:
            if packet.dts is not None:
                tick = packet.dts + offset
                if last is not None and not 0 <= tick - last < LEAP_SECONDS * self.ticks_per_second:
                    offset += last + self.step - tick
                    self.is_joined = True
                last = packet.dts + offset
                packet.dts = last
                packet.pts = None if packet.pts is None else packet.pts + offset
            yield packet

    def _in_a_row(
        self, as_they_come: Iterator[Packet[VideoStream]]
    ) -> Iterator[Packet[VideoStream]]:
        """A keyframe that is no later than the one before it begins another part."""
        offset, end, keyframe = 0, 0, None
        for packet in as_they_come:
            if packet.pts is not None:
                if packet.is_keyframe:
                    if keyframe is not None and packet.pts <= keyframe:
                        offset = end - packet.pts
                        self.is_joined = True
                    keyframe = packet.pts
                packet.pts += offset
                packet.dts = None if packet.dts is None else packet.dts + offset
                end = max(end, packet.pts + (packet.duration or self.step))
            yield packet

    def frames(self) -> Iterator[TimedFrame]:
        """The frames that can be decoded, none earlier than the one before it."""
        last: int | None = None
        rotation, turned = None, UPRIGHT
        for packet in self.packets():
            try:
                frames = self._stream.decode(packet)  # a damaged TS's packet may not know its own
            except (av.InvalidDataError, av.EOFError):
                continue  # damaged, or of no stream that is known: the frame before it stays longer
            for frame in frames:
                following = 0 if last is None else last + self.step
                tick = following if frame.pts is None else frame.pts
                last = tick if last is None else max(tick, last)
                # A stream may say it at its keyframes alone.
                if rotation is None or (frame.key_frame and frame.rotation != rotation):
                    rotation, turned = frame.rotation, _orientation(frame)
                yield TimedFrame(last, frame, turned)

    def damaged_share(self, packets: int) -> float:
        """Which share of the stream's first packets gives no frame that is whole.

        Of the damage that its decoder sees: VP8's sees little. To be asked instead of for frames.
        """
        whole = asked = 0
        for packet in itertools.islice(self.packets(), packets):
            asked += packet.size >= LEAST_BYTES
            whole += self._whole_frames(packet)
        whole += self._whole_frames(None)
        return max(0.0, 1 - whole / asked) if asked else 0.0

    def _whole_frames(self, packet: Packet[VideoStream] | None) -> int:
        try:
            frames = self._stream.decode(packet)
        except (av.InvalidDataError, av.EOFError):
            return 0
        return sum(not frame.is_corrupt for frame in frames)

    def seek(self, keyframe: int) -> bool:
        """Go to the packet of that tick. False if the file knows no way there."""
        try:
            self._container.seek(keyframe, stream=self._stream)
        except av.FFmpegError:
            return False
        return True


class WebpReader:
    """What Pillow reads. A tick is a millisecond."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.animation = webp.read_animation(path)
        self.width, self.height = self.animation.width, self.animation.height
        self.pixel_aspect = Fraction(1)
        self.told_seconds = None  # one that is cut off is refused

    def frames(self) -> Iterator[TimedFrame]:
        """The frames that can be decoded."""
        if self.width * self.height > MAX_MEGAPIXELS * 10**6:
            raise ValueError(f"more than {MAX_MEGAPIXELS} megapixels")
        # There is a time more than frames: the end's.
        for timed in map(TimedFrame, self.animation.times[:-1], webp.read_frames(self._path)):
            beat()
            yield timed

    def seek(self, keyframe: int) -> bool:
        """Never: it is read from its start."""
        return False


@contextlib.contextmanager
def open_reader(name: str, path: Path) -> Iterator[VideoReader | WebpReader]:
    """Open a video for decoding: its first stream that is no still picture.

    Raises:
        MediaInvalid: there is no such stream, or it is for a decoder that is not allowed.
        av.FFmpegError, ValueError: it cannot be opened; `decoding` makes MediaInvalid of it.
    """
    if webp.is_webp(path):
        yield WebpReader(path)
        return
    with open_container(path, VIDEO_FORMATS, VIDEO_CODECS) as container:
        stream = next(filter(_is_moving, container.streams.video), None)
        if stream is None:
            raise MediaInvalid(f"{name}: the file has no video stream that can be decoded")
        check_codec(name, "video", stream, VIDEO_CODECS)
        # The size in the header was looked at, but a stream may change its size as it plays.
        stream.codec_context.options = {"max_pixels": str(MAX_MEGAPIXELS * 10**6)}
        stream.thread_type, stream.codec_context.thread_count = "AUTO", DECODER_THREADS
        yield VideoReader(container, stream)


def _is_moving(stream: VideoStream) -> bool:
    """Whether it is neither a cover nor of an unknown codec."""
    return stream.codec_context is not None and not stream.disposition & Disposition.attached_pic


def first_frame(name: str, frames: Iterator[TimedFrame]) -> TimedFrame:
    """The first of a reader's frames.

    Raises:
        MediaInvalid: there is none.
    """
    first = next(frames, None)
    if first is None:
        raise MediaInvalid(f"{name}: no frame of the video can be decoded")
    return first
