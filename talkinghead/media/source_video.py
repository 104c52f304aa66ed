"""The video whose people shall speak: probe it, and save the frames that a render needs."""

from __future__ import annotations

import bisect
import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.buffer import Buffer
from av.container import InputContainer, OutputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import (
    ColorPrimaries,
    Colorspace,
    ColorTrc,
    VideoReformatter,
)
from av.video.stream import VideoStream
from PIL import Image

from talkinghead.errors import MediaInvalid, MediaTooLarge
from talkinghead.media.containers import check_codec, decoding, open_container, packets
from talkinghead.media.masks import Framing, check_shape
from talkinghead.media.mux import yuv_frame

# Demuxers that may open a stranger's file: no playlists, which name other files.
VIDEO_FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf"
VIDEO_CODECS = (
    *("h264", "hevc", "av1", "libdav1d", "vp9", "libvpx-vp9", "vp8", "libvpx", "mpeg4", "h263"),
    *("mpeg2video", "mpeg1video", "msmpeg4", "msmpeg4v2", "wmv1", "wmv2", "wmv3", "vc1", "flv"),
    *("mjpeg", "prores", "dnxhd", "cfhd", "dvvideo", "ffv1", "huffyuv", "ffvhuff", "utvideo"),
    *("theora", "qtrle", "png", "rawvideo", "v210"),
)
MAX_MEGAPIXELS = 16  # also where a video grows while it plays
MAX_FPS = 1000  # of the slow motion of phones
DEFAULT_FPS = 25  # of a file that tells neither rate nor times
# Matroska and FLV round times to whole milliseconds: a frame may begin that much later than said.
ROUNDING_SECONDS = 0.001
SEEK_SECONDS = 1.0  # to a nearer keyframe decoding on is as quick: a seek empties the decoder
DECODER_THREADS = 4  # each holds a frame
SD_HEIGHT = 576  # players take a taller video without colour tags for BT.709, others for BT.601
BT709, UNTAGGED = 1, 2  # H.273's codes, the same for primaries, transfer and matrix
LIMITED_RANGE = 1  # libavutil's AVCOL_RANGE_MPEG
HDR_TRANSFERS = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
SAVED_OPTIONS = {"crf": "8", "preset": "veryfast"}  # near lossless: the model encodes it again


@dataclass(frozen=True)
class SourceVideo:
    """What the file really holds.

    Width and height are those of the picture as shown: upright, with square pixels. `duration` is
    in seconds, from the first frame to the end of the last; `fps` is the average.
    """

    width: int
    height: int
    duration: float
    frames: int
    fps: float


def probe_source(
    name: str, path: Path, *, max_megapixels: float, check: Callable[[], None] = lambda: None
) -> SourceVideo:
    """Read every packet's time and decode the first frame. `name` is the request's field.

    What `check` raises ends it.

    Raises:
        MediaInvalid: not a video, a strip, too many frames a second, or none can be decoded.
        MediaTooLarge: more pixels than allowed.
    """
    with decoding(name, "video"), _opened(name, path) as (container, stream):
        _check_pixels(name, stream.width, stream.height, max_megapixels)
        first = _first(name, _decoded(container, stream, check))
        width, height = _shown_size(first.frame, stream)
        _check_pixels(name, width, height, max_megapixels)
        check_shape(name, "video", width, height)
    index = _read_index(name, path, check)
    fps = index.frames / index.seconds
    if index.frames > 1 and fps > MAX_FPS:
        raise MediaInvalid(f"{name}: {fps:.0f} frames a second, allowed: {MAX_FPS}")
    return SourceVideo(width, height, index.seconds, index.frames, fps)


def save_frames(
    name: str,
    source: Path,
    target: Path,
    *,
    times: Iterable[float],
    framing: Framing,
    fps: Fraction | float,
    loop: bool,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Save an MP4 of one frame per time: the one that `source` shows then, as `framing` wants it.

    `times` are in seconds from the source's first frame, ascending. Past its end the source is
    repeated from its start if `loop`, else its last frame is held. The picture is upright, H.264 of
    near-lossless quality in BT.709 colours. `check` is called for each; what it raises ends it.

    Raises:
        MediaInvalid: not a video, or no frame of it can be decoded.
    """
    index = _read_index(name, source, check)

    def ticks() -> Iterator[int]:
        for time in times:
            check()
            yield index.tick(time, loop=loop)

    _write_mp4(
        target, _pictures(name, source, index, ticks(), framing=framing, check=check), Fraction(fps)
    )


def save_pictures(
    name: str,
    source: Path,
    folder: Path,
    *,
    times: Iterable[float],
    framing: Framing,
    check: Callable[[], None] = lambda: None,
) -> tuple[Path, ...]:
    """Save one PNG per time into the new folder; the source is repeated from its start.

    All else is as for `save_frames`.
    """
    folder.mkdir()
    index = _read_index(name, source, check)
    ticks = (index.tick(time, loop=True) for time in times)
    paths: list[Path] = []
    for picture in _pictures(name, source, index, ticks, framing=framing, check=check):
        check()
        paths.append(folder / f"frame_{len(paths):05d}.png")
        picture.save(paths[-1], compress_level=1)
    return tuple(paths)


@contextlib.contextmanager
def _opened(name: str, path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    with open_container(path, VIDEO_FORMATS, VIDEO_CODECS) as container:
        stream = next(filter(_is_moving, container.streams.video), None)
        if stream is None:
            raise MediaInvalid(f"{name}: the file has no video stream that can be decoded")
        check_codec(name, "video", stream, VIDEO_CODECS)
        stream.codec_context.options = {"max_pixels": str(MAX_MEGAPIXELS * 10**6)}
        stream.thread_type, stream.codec_context.thread_count = "AUTO", DECODER_THREADS
        yield container, stream


def _is_moving(stream: VideoStream) -> bool:
    """Neither a cover nor of an unknown codec."""
    return stream.codec_context is not None and not stream.disposition & Disposition.attached_pic


def _check_pixels(name: str, width: int, height: int, max_megapixels: float) -> None:
    if width * height > max_megapixels * 1e6:
        allowed = f"{max_megapixels:g} megapixels"
        raise MediaTooLarge(f"{name}: the video has {width}x{height} pixels, allowed: {allowed}")


class _Timed(NamedTuple):
    tick: int
    frame: VideoFrame


def _decoded(
    container: InputContainer, stream: VideoStream, check: Callable[[], None]
) -> Iterator[_Timed]:
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
            yield _Timed(last, frame)


def _first(name: str, frames: Iterator[_Timed]) -> _Timed:
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


class _Orientation(NamedTuple):
    """Whether x and y change places, and then left and right, and top and bottom."""

    swapped: bool
    mirrored: bool
    upended: bool


def _orientation(frame: VideoFrame) -> _Orientation:
    """What the display matrix asks for. It begins a b 0 c d and shows x y at ax + cy, bx + dy.

    To be asked of one frame only: each frame that shows its side data stays in memory with it,
    until Python looks for cycles.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, Buffer):
        return _Orientation(False, False, False)
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    swapped = abs(b) > abs(a)
    return _Orientation(swapped, (c if swapped else a) < 0, (b if swapped else d) < 0)


def _shown_size(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    width = max(1, round(frame.width * (stream.sample_aspect_ratio or 1)))
    return (frame.height, width) if _orientation(frame).swapped else (width, frame.height)


@dataclass(frozen=True)
class _Index:
    """How a file is turned, and when its frames are shown, in ticks of its own."""

    orientation: _Orientation
    ticks_per_second: Fraction
    start: int
    end: int
    frames: int
    keyframes: Sequence[int]

    @property
    def seconds(self) -> float:
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


def _read_index(name: str, path: Path, check: Callable[[], None]) -> _Index:
    """Read the packets' times; only the first frame is decoded."""
    with decoding(name, "video"), _opened(name, path) as (container, stream):
        start, frame = _first(name, _decoded(container, stream, check))
        orientation = _orientation(frame)
    frames, last, keyframes = 0, (start, 0), []
    with decoding(name, "video"), _opened(name, path) as (container, stream):
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
    return _Index(orientation, rate, start, end, max(1, frames), sorted(keyframes))


class _Player:
    """Finds frames by their ticks: by decoding on, or from a keyframe where that saves much."""

    _frames: Iterator[_Timed]
    _shown: _Timed
    _next: _Timed | None

    def __init__(self, name: str, source: Path, index: _Index, check: Callable[[], None]) -> None:
        self._name, self._source, self._index, self._check = name, source, index, check
        self._file = contextlib.ExitStack()
        self._seekable = True
        self._rewind()

    def close(self) -> None:
        self._file.close()

    def frame_at(self, tick: int) -> _Timed:
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
        opened = self._file.enter_context(_opened(self._name, self._source))
        self._container, self._stream = opened
        frames = _decoded(*opened, self._check)
        self._play(_first(self._name, frames), frames)

    def _seek(self, keyframe: int) -> bool:
        """Go on from the keyframe. False if the file does not lead there: indexes may be wrong."""
        try:
            self._container.seek(keyframe, stream=self._stream)
        except av.FFmpegError:
            return False
        decoded = _decoded(self._container, self._stream, self._check)
        # Frames that are shown before it may refer to what was skipped.
        frames = itertools.dropwhile(lambda timed: timed.tick < keyframe, decoded)
        first = next(frames, None)
        if first is None or first.tick != keyframe or not first.frame.key_frame:
            return False
        self._play(first, frames)
        return True

    def _play(self, first: _Timed, frames: Iterator[_Timed]) -> None:
        self._frames, self._shown, self._next = frames, first, next(frames, None)


def _pictures(
    name: str,
    source: Path,
    index: _Index,
    ticks: Iterator[int],
    *,
    framing: Framing,
    check: Callable[[], None],
) -> Iterator[Image.Image]:
    reformatter = VideoReformatter()  # one for all: its table for HDR takes seconds to make
    player = _Player(name, source, index, check)
    with decoding(name, "video"), contextlib.closing(player):
        drawn: _Timed | None = None
        for tick in ticks:
            shown = player.frame_at(tick)
            if shown is not drawn:
                picture = framing.apply(_upright(shown.frame, index.orientation, reformatter))
                drawn = shown
            yield picture


def _upright(
    frame: VideoFrame, orientation: _Orientation, reformatter: VideoReformatter
) -> Image.Image:
    """The frame as RGB, turned and mirrored."""
    untagged_hd = frame.colorspace == UNTAGGED and frame.height > SD_HEIGHT
    hdr = frame.color_trc in HDR_TRANSFERS
    rgb = reformatter.reformat(
        frame,
        format="rgb24",
        src_colorspace=Colorspace.ITU709 if untagged_hd else None,
        dst_color_trc=ColorTrc.BT709 if hdr else None,
        dst_color_primaries=ColorPrimaries.BT709 if hdr else None,
    )
    image = Image.fromarray(rgb.to_ndarray())
    if orientation.swapped:
        image = image.transpose(Image.Transpose.TRANSPOSE)
    if orientation.mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if orientation.upended else image


def _write_mp4(target: Path, pictures: Iterator[Image.Image], fps: Fraction) -> None:
    rate = fps.limit_denominator(1001)
    with av.open(str(target), "w", format="mp4") as container:
        stream: VideoStream | None = None
        for number, picture in enumerate(pictures):
            stream = stream or _video_stream(container, picture, rate)
            container.mux(stream.encode(_encodable(picture, number, rate)))
        if stream:
            container.mux(stream.encode(None))


def _video_stream(container: OutputContainer, picture: Image.Image, rate: Fraction) -> VideoStream:
    stream = container.add_stream("libx264", rate=rate, options=SAVED_OPTIONS)
    stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "yuv420p"
    stream.time_base = 1 / rate
    context = stream.codec_context
    context.color_primaries = context.color_trc = context.colorspace = BT709
    context.color_range = LIMITED_RANGE
    return stream


def _encodable(picture: Image.Image, number: int, rate: Fraction) -> VideoFrame:
    frame = yuv_frame(picture)
    frame.pts, frame.time_base = number, 1 / rate
    return frame
