"""Pictures, and the delivered file: probe, frame, retime, mux."""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias

import av
from av.audio.resampler import AudioResampler
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image, ImageOps, UnidentifiedImageError

from talkinghead.errors import MediaInvalid, MediaTooLarge
from talkinghead.masks import Framing
from talkinghead.sound import LAYOUTS

PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
AAC_BITS_PER_CHANNEL = 96_000
RETIME_CRF = "19"  # as VHS_VideoCombine in the templates
PLAIN_PCM = {"max_probe_packets": "1"}  # our own WAV holds no DTS, which FFmpeg would look for
PNG_LEVEL = 1  # it goes no further than ComfyUI: a tenth larger than the default, 3 times as fast

Image.preinit()  # loads Pillow's decoders now, not in the first job


@dataclass(frozen=True)
class Picture:
    """A picture's size in pixels, upright."""

    width: int
    height: int


@dataclass(frozen=True)
class VideoFile:
    """What a video file is. `duration` is in seconds, of the longest stream."""

    width: int
    height: int
    fps: float
    frames: int
    duration: float
    audio_rate: int | None
    audio_channels: int | None
    size: int
    sha256: str


def probe_picture(name: str, source: Path, *, max_megapixels: float) -> Picture:
    """The picture's upright size. `name` is the request's field.

    Raises:
        MediaInvalid: not a picture, a truncated one, or of a format that is not taken.
        MediaTooLarge: more pixels than allowed.
    """
    with _picture(name, source, max_megapixels) as image:
        upright = ImageOps.exif_transpose(image)
        return Picture(upright.width, upright.height)


def save_picture(
    name: str, source: Path, target: Path, framing: Framing, *, max_megapixels: float
) -> None:
    """Save the picture upright and framed, RGB without metadata. Raises as above.

    The format is that of the target's name: a lossless one. Transparency is laid on white, as
    browsers show it; of an animation the first frame is taken.
    """
    with _picture(name, source, max_megapixels) as image:
        framed = framing.apply(_on_white(ImageOps.exif_transpose(image)))
        framed.save(target, compress_level=PNG_LEVEL)


def open_mask(name: str, source: Path, *, max_megapixels: float) -> Image.Image:
    """The picture behind a mask_url, upright, as brightness. Raises as above."""
    with _picture(name, source, max_megapixels) as image:
        return _on_white(ImageOps.exif_transpose(image)).convert("L")


@contextlib.contextmanager
def _picture(name: str, source: Path, max_megapixels: float) -> Iterator[Image.Image]:
    """The opened picture; its faults as MediaInvalid."""
    try:
        with Image.open(source, formats=PICTURE_FORMATS) as image:
            if image.width * image.height > max_megapixels * 1e6:
                size = f"{image.width}x{image.height}"
                limit = f"{max_megapixels:g} megapixels"
                raise MediaTooLarge(f"{name}: the picture has {size} pixels, allowed: {limit}")
            yield image
    except UnidentifiedImageError:
        kinds = ", ".join(PICTURE_FORMATS[:3])
        raise MediaInvalid(f"{name}: the file is not a picture, allowed: {kinds}") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaInvalid(f"{name}: the picture cannot be decoded: {error}") from None


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 256).convert("L")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


def finish_video(rendered: Path, sound: Path, target: Path, *, fps: float, frames: int) -> None:
    """Mux the rendered picture with the full-quality sound into the MP4 that is delivered.

    The picture is copied as it is; only if `fps` differs from the rendered rate is it encoded
    again, as `frames` frames chosen so that lips and sound stay together (`rendered` is lossless
    then).
    No metadata is taken over, and the index comes first, so that browsers play it while it loads.
    """
    with (
        av.open(str(rendered)) as picture,
        av.open(str(sound), options=PLAIN_PCM) as voice,
        av.open(str(target), "w", format="mp4", options={"movflags": "+faststart"}) as output,
    ):
        video = picture.streams.video[0]
        rate = Fraction(fps).limit_denominator(1001)
        packets = (
            _copied(picture, video, output)
            if video.average_rate == rate
            else _retimed(picture, video, output, rate, frames)
        )
        # In the order of their times, so that the muxer holds nothing back in memory.
        for _, packet in heapq.merge(packets, _encoded_sound(voice, output), key=itemgetter(0)):
            output.mux(packet)


Timed: TypeAlias = "tuple[float, Packet[Any]]"  # seconds, packet


def _copied(source: InputContainer, video: VideoStream, output: OutputContainer) -> Iterator[Timed]:
    stream = output.add_stream_from_template(video)
    stream.metadata.clear()

    def packets() -> Iterator[Timed]:
        for packet in source.demux(video):
            if packet.dts is not None:
                timed = next(_timed([packet]))
                packet.stream = stream
                yield timed

    return packets()


def _retimed(
    source: InputContainer, video: VideoStream, output: OutputContainer, rate: Fraction, frames: int
) -> Iterator[Timed]:
    stream = output.add_stream("libx264", rate=rate, options={"crf": RETIME_CRF})
    stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
    context, original = stream.codec_context, video.codec_context
    context.color_primaries, context.color_trc = original.color_primaries, original.color_trc
    context.colorspace, context.color_range = original.colorspace, original.color_range
    step = (video.average_rate or Fraction(25)) / rate

    def packets() -> Iterator[Timed]:
        for index, frame in enumerate(_picked(source.decode(video), step, frames)):
            frame.pts, frame.time_base = index, 1 / rate
            yield from _timed(stream.encode(frame))
        yield from _timed(stream.encode(None))

    return packets()


def _picked(frames: Iterator[VideoFrame], step: Fraction, count: int) -> Iterator[VideoFrame]:
    """`count` frames: each the one that shows at the middle of its time; the last one is held."""
    index, frame = 0, next(frames)
    for wanted in range(count):
        while index < math.floor((wanted + Fraction(1, 2)) * step):
            index, frame = index + 1, next(frames, frame)
        yield frame


def _timed(packets: Iterable[Packet[Any]]) -> Iterator[Timed]:
    for packet in packets:
        yield float((packet.dts or 0) * (packet.time_base or 0)), packet


def _encoded_sound(voice: InputContainer, output: OutputContainer) -> Iterator[Timed]:
    source = voice.streams.audio[0]
    layout = LAYOUTS[source.channels]
    stream = output.add_stream("aac", rate=source.rate, layout=layout)
    stream.bit_rate = AAC_BITS_PER_CHANNEL * source.channels
    resampler = AudioResampler("fltp", layout, source.rate)  # the one format the encoder takes

    def packets() -> Iterator[Timed]:
        for frame in voice.decode(source):
            for block in resampler.resample(frame):
                yield from _timed(stream.encode(block))
        yield from _timed(stream.encode(None))

    return packets()


def probe_video(path: Path) -> VideoFile:
    """What the file really is, read from it.

    Raises:
        MediaInvalid: if it is not a video.
    """
    try:
        with av.open(str(path)) as container:
            video = container.streams.video[0]
            audio = next(iter(container.streams.audio), None)
            return VideoFile(
                width=video.width,
                height=video.height,
                fps=float(video.average_rate or 0),
                frames=video.frames,
                duration=(container.duration or 0) / av.time_base,
                audio_rate=audio.rate if audio else None,
                audio_channels=audio.channels if audio else None,
                size=path.stat().st_size,
                sha256=_sha256(path),
            )
    except (av.FFmpegError, IndexError) as error:
        raise MediaInvalid(f"{path.name} is not a video") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
