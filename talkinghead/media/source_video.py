"""The video whose people shall speak: probe it, and save the frames that a render needs."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from talkinghead.errors import MediaInvalid, MediaTooLarge
from talkinghead.media.containers import CUT_SECONDS, decoding
from talkinghead.media.drawing import Drawer
from talkinghead.media.heartbeat import beat
from talkinghead.media.masks import Box, Framing, check_shape
from talkinghead.media.mux import yuv_frame
from talkinghead.media.player import Index, Player, read_index
from talkinghead.media.rates import exact
from talkinghead.media.readers import TimedFrame, VideoReader, first_frame, open_reader

MAX_FPS = 1000  # of the slow motion of phones
BT709 = 1  # H.273's code, the same for primaries, transfer and matrix
# So much of a video's beginning is looked through for damage: a second's work.
LOOK_MEGAPIXELS, LOOK_FRAMES, MAX_DAMAGED = 200, 1000, 0.1
LIMITED_RANGE = 1  # libavutil's AVCOL_RANGE_MPEG
SAVED_OPTIONS = {"crf": "8", "preset": "veryfast"}  # near lossless: the model encodes it again


@dataclass(frozen=True)
class SourceVideo:
    """What the file really holds.

    Width and height are those of the picture as shown: upright, with square pixels. `duration` is
    in seconds, from the first frame to the end of the last; `fps` is the average. `notes` are
    sentences for the caller. `camera_moves_at` is when the camera was seen to have moved, in
    seconds; None if not, or if nobody looked. `faces_later` are the boxes of the faces at a few
    moments of what is used, with their seconds.
    """

    width: int
    height: int
    duration: float
    frames: int
    fps: float
    notes: tuple[str, ...] = ()
    camera_moves_at: float | None = None
    faces_later: tuple[tuple[float, tuple[Box, ...]], ...] = ()


def probe_source(name: str, path: Path, *, max_megapixels: float) -> SourceVideo:
    """Read every packet's time and decode the first frames. `name` is the request's field.

    Raises:
        MediaInvalid: not a video, a strip, too many frames a second, or none can be decoded.
        MediaTooLarge: more pixels than allowed.
    """
    with decoding(name, "video"), open_reader(name, path) as reader:
        _check_pixels(name, reader.width, reader.height, max_megapixels)
        first = first_frame(name, reader.frames())
        width, height = _shown_size(first, reader.pixel_aspect)
        _check_pixels(name, width, height, max_megapixels)
        check_shape(name, "video", width, height)
        told = reader.told_seconds
    index = read_index(name, path)
    fps = index.frames / index.seconds
    if index.frames > 1 and fps > MAX_FPS:
        raise MediaInvalid(f"{name}: {fps:.0f} frames a second, allowed: {MAX_FPS}")
    notes = (*_cut_notes(name, told, index), *_damage_notes(name, path))
    return SourceVideo(width, height, index.seconds, index.frames, fps, notes)


def _cut_notes(name: str, told: float | None, index: Index) -> Iterator[str]:
    if told is not None and told - index.seconds > CUT_SECONDS:
        there = f"{index.seconds:.1f} s of the {told:.1f} s that it tells of are there"
        yield f"{name}: the file is not whole: {there}"


def _damage_notes(name: str, path: Path) -> Iterator[str]:
    with decoding(name, "video"), open_reader(name, path) as reader:
        if isinstance(reader, VideoReader):
            pixels = max(1, reader.width * reader.height)
            frames = min(max(1, LOOK_MEGAPIXELS * 10**6 // pixels), LOOK_FRAMES)
            share = reader.damaged_share(frames)
            if share > MAX_DAMAGED:
                looked = f"of its first {frames} frames, or of all if it has fewer"
                damage = f"{100 * share:.0f} % are damaged: they are missing, or look smeared"
                yield f"{name}: {looked}, {damage}"


def save_frames(
    name: str,
    source: Path,
    target: Path,
    *,
    times: Iterable[float],
    framing: Framing,
    fps: Fraction | float,
    loop: bool,
) -> None:
    """Save an MP4 of one frame per time: the one that `source` shows then, as `framing` wants it.

    `times` are in seconds from the source's first frame, ascending. Past its end the source is
    repeated from its start if `loop`, else its last frame is held. The picture is upright, H.264 of
    near-lossless quality in BT.709 colours.

    Raises:
        MediaInvalid: not a video, or no frame of it can be decoded.
    """
    index = read_index(name, source)
    ticks = (index.tick(time, loop=loop) for time in times)
    pictures = pictures_at(name, source, index, ticks, framing=framing)
    _write_mp4(target, pictures, exact(fps))


def save_pictures(
    name: str,
    source: Path,
    folder: Path,
    *,
    times: Iterable[float],
    framing: Framing,
) -> tuple[Path, ...]:
    """Save one PNG per time into the new `folder`, frame_00000.png and so on; returns their paths.

    `times` are in seconds from the source's first frame, ascending; past its end the source is
    repeated from its start. Each picture is upright, RGB, as `framing` wants it.

    Raises:
        MediaInvalid: not a video, or no frame of it can be decoded.
    """
    folder.mkdir()
    index = read_index(name, source)
    ticks = (index.tick(time, loop=True) for time in times)
    paths: list[Path] = []
    for picture in pictures_at(name, source, index, ticks, framing=framing):
        beat()
        paths.append(folder / f"frame_{len(paths):05d}.png")
        picture.save(paths[-1], compress_level=1)
    return tuple(paths)


def _check_pixels(name: str, width: int, height: int, max_megapixels: float) -> None:
    if width * height > max_megapixels * 1e6:
        allowed = f"{max_megapixels:g} megapixels"
        raise MediaTooLarge(f"{name}: the video has {width}x{height} pixels, allowed: {allowed}")


def _shown_size(timed: TimedFrame, pixel_aspect: Fraction) -> tuple[int, int]:
    """Width and height of the picture as players show it: upright, with square pixels."""
    width, height = max(1, round(timed.frame.width * pixel_aspect)), timed.frame.height
    return (height, width) if timed.orientation.swapped else (width, height)


def pictures_at(
    name: str, source: Path, index: Index, ticks: Iterator[int], *, framing: Framing
) -> Generator[Image.Image]:
    """The framed picture of each tick. A frame that is shown for several is drawn once."""
    drawer = Drawer(framing, index.pixel_aspect)
    with decoding(name, "video"), contextlib.closing(Player(name, source, index)) as player:
        drawn: TimedFrame | None = None
        for tick in ticks:
            shown = player.frame_at(tick)
            if shown is not drawn:
                picture = drawer.draw(shown)
                drawn = shown
            yield picture


def small_pictures(
    name: str, source: Path, size: tuple[int, int], times: Iterable[float], *, side: int
) -> Generator[Image.Image]:
    """The picture of each time, in seconds, with a longer side of at most `side` pixels.

    `size` is the video's.

    Raises:
        MediaInvalid: not a video, or no frame of it can be decoded.
    """
    scale = min(1.0, side / max(size))
    shown = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    index = read_index(name, source)
    ticks = (index.tick(time, loop=False) for time in times)
    yield from pictures_at(name, source, index, ticks, framing=Framing(*size, *shown))


def _write_mp4(target: Path, pictures: Iterator[Image.Image], rate: Fraction) -> None:
    with av.open(str(target), "w", format="mp4") as container:
        stream: VideoStream | None = None
        for number, picture in enumerate(pictures):
            beat()
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
