"""Pictures, and the delivered file: probe, frame, retime, mux."""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import json
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias

import av
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from talkinghead.convert import Workflow
from talkinghead.errors import MediaInvalid, MediaTooLarge
from talkinghead.masks import Framing, check_shape
from talkinghead.sound import LAYOUTS, PLAIN_PCM

PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
PIXEL_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I;16", "I;16B")
COMPRESSIONS = {  # not Pillow's slow run lengths, nor libtiff's rarer decoders
    "BMP": (0, 3),  # BI_RGB, BI_BITFIELDS
    "TIFF": ("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "jpeg"),
}
MAX_SCANS = 100  # of a progressive JPEG: each costs time for all of its pixels; 10 are usual
REDUCING_GAP = 2  # what Lanczos gets to do after a quick reduction
BAND_PIXELS = 2**20
MASK_SIDE = 2048  # more than is rendered
AAC_BITS_PER_CHANNEL = 96_000
RETIME_CRF = "19"  # as VHS_VideoCombine in the templates
QUARTER_TURNS = (5, 6, 7, 8)  # EXIF's orientations that swap width and height
# A marker that a length follows, or the end; not the stuffing and restarts inside of a scan.
JPEG_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
JPEG_SCAN, JPEG_END = 0xDA, 0xD9
# What Pillow's decoders raise for a damaged file.
PICTURE_FAULTS = (
    *(OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error),
    *(LookupError, TypeError, ArithmeticError, MemoryError),
)

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
    """The picture's upright size, by its header. `name` is the request's field.

    Raises:
        MediaInvalid: not a picture, or of a format that is not taken.
        MediaTooLarge: more pixels than allowed.
    """
    with _picture(name, source, max_megapixels) as image:
        turned = image.getexif().get(ExifTags.Base.Orientation) in QUARTER_TURNS
        if turned and image.format != "TIFF":  # whose size Pillow gives upright
            return Picture(image.height, image.width)
        return Picture(image.width, image.height)


def save_picture(
    name: str, source: Path, target: Path, framing: Framing, *, max_megapixels: float
) -> None:
    """Save the picture upright and framed, RGB without metadata.

    The format is that of the target's name: a lossless one. Transparency is laid on white, as
    browsers show it; of an animation the first frame is taken. It takes up to about 6 bytes of
    memory for each pixel allowed.

    Raises:
        MediaInvalid: also one that is truncated.
    """
    with _picture(name, source, max_megapixels) as image:
        x0, _, x1, _ = framing.crop_box
        framed = framing.apply(_upright(image, (x1 - x0) / framing.render_width))
    framed.save(target)


def open_mask(name: str, source: Path, *, max_megapixels: float) -> Image.Image:
    """The picture behind a mask_url, upright, as brightness; a huge one is reduced. Raises so."""
    with _picture(name, source, max_megapixels) as image:
        return _upright(image, REDUCING_GAP * min(image.size) / MASK_SIDE).convert("L")


@contextlib.contextmanager
def _picture(name: str, source: Path, max_megapixels: float) -> Iterator[Image.Image]:
    """The opened picture; its faults as MediaInvalid."""
    try:
        with Image.open(source, formats=PICTURE_FORMATS) as image:
            _check_size(name, image, max_megapixels)
            _check_kind(name, image, source)
            yield image
    except Image.DecompressionBombError:
        allowed = f"{max_megapixels:g} megapixels"
        raise MediaTooLarge(f"{name}: the picture is far too large, allowed: {allowed}") from None
    except UnidentifiedImageError:
        kinds = ", ".join(PICTURE_FORMATS[:3])
        raise MediaInvalid(f"{name}: the file is not a picture, allowed: {kinds}") from None
    except PICTURE_FAULTS as error:
        raise MediaInvalid(f"{name}: the picture cannot be decoded: {error}") from None


def _check_size(name: str, image: Image.Image, max_megapixels: float) -> None:
    size = f"{image.width}x{image.height}"
    cost, kind = _decoding_cost(image)
    if image.width * image.height * cost > max_megapixels * 1e6:
        limit = f"{max_megapixels / cost:g} megapixels{kind}"
        raise MediaTooLarge(f"{name}: the picture has {size} pixels, allowed: {limit}")
    check_shape(name, "picture", image.width, image.height)


def _decoding_cost(image: Image.Image) -> tuple[int, str]:
    """The memory for a pixel at its worst, in multiples of four bytes, and why more than one."""
    if image.format == "WEBP":
        return 4, " of WebP"
    if image.format == "TIFF":
        return 3, " of TIFF"
    if image.info.get("progressive"):
        return 3 if image.mode == "CMYK" else 2, " of progressive JPEG"
    if image.has_transparency_data or image.mode not in ("1", "L", "P", "RGB"):
        return 2, f" of {image.mode}"
    return 1, ""


def _check_kind(name: str, image: Image.Image, source: Path) -> None:
    kind, compression = image.format or "", image.info.get("compression")
    if kind in COMPRESSIONS and compression not in COMPRESSIONS[kind]:
        allowed = ", ".join(map(str, COMPRESSIONS[kind]))
        raise MediaInvalid(f"{name}: {kind} of compression {compression}, allowed: {allowed}")
    if image.mode not in PIXEL_MODES:
        allowed = "RGB, grey or CMYK of 8 bits, or grey of 16"
        raise MediaInvalid(f"{name}: the picture's pixels are {image.mode}, allowed: {allowed}")
    if image.info.get("progressive") and (scans := _scans(source.read_bytes())) > MAX_SCANS:
        raise MediaInvalid(f"{name}: a JPEG of {scans} scans, allowed: {MAX_SCANS}")


def _scans(jpeg: bytes) -> int:
    """How many scans the JPEG file has, at most: all that begin before its end."""
    scans, place = 0, 2
    while match := JPEG_MARKER.search(jpeg, place):
        marker, place = match[0][-1], match.end()
        if marker == JPEG_END:
            break
        scans += marker == JPEG_SCAN
        place += int.from_bytes(jpeg[place : place + 2], "big")
    return scans


def _upright(image: Image.Image, scale: float) -> Image.Image:
    """The picture as RGB, upright. It may be reduced where `scale` source pixels become one."""
    width, factor = image.width, max(1, int(scale / REDUCING_GAP))
    image.draft(None, (image.width // factor, image.height // factor))  # a JPEG is decoded smaller
    factor //= round(width / image.width)
    image.load()  # turns a TIFF upright
    reduced = _reduced(image, factor)
    reduced.getexif()[ExifTags.Base.Orientation] = image.getexif().get(ExifTags.Base.Orientation, 1)
    ImageOps.exif_transpose(reduced, in_place=True)
    return reduced


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    """On white and so much smaller, in bands: a copy of all of it might not fit into memory."""
    if factor == 1 and image.mode == "RGB" and not image.has_transparency_data:
        return image
    reduced = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    rows = max(1, BAND_PIXELS // (image.width * factor)) * factor
    for top in range(0, image.height, rows):
        band = _on_white(image.crop((0, top, image.width, min(top + rows, image.height))))
        reduced.paste(band.reduce(factor), (0, top // factor))
    return reduced


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 256).convert("L")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


def encode_sound(source: Path, target: Path, check: Callable[[], None] = lambda: None) -> Path:
    """Encode our own WAV to AAC, as an M4A file; returns its path. What `check` raises ends it."""
    with (
        av.open(str(source), options=PLAIN_PCM) as voice,
        av.open(str(target), "w", format="ipod") as output,
    ):
        samples = voice.streams.audio[0]
        layout = LAYOUTS[samples.channels]
        stream = output.add_stream("aac", rate=samples.rate, layout=layout)
        stream.bit_rate = AAC_BITS_PER_CHANNEL * samples.channels
        resampler = AudioResampler("fltp", layout, samples.rate)  # the one format the encoder takes
        for frame in voice.decode(samples):
            check()
            for block in resampler.resample(frame):
                output.mux(stream.encode(block))
        output.mux(stream.encode(None))
    return target


def finish_video(
    rendered: Path,
    sound: Path,
    target: Path,
    *,
    fps: float,
    frames: int,
    workflow: Workflow | None = None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Mux the rendered picture with the encoded sound into the MP4 that is delivered.

    The picture is copied as it is; only if `fps` differs from the rendered rate is it encoded
    again, as `frames` frames chosen so that lips and sound stay together (`rendered` is lossless
    then).
    No metadata is taken over, and the index comes first, so that browsers play it while it loads.
    A `workflow` is written where ComfyUI's GUI looks for it when the file is dropped there.
    `check` is called for each packet; what it raises ends it.
    """
    # Without the second flag FFmpeg keeps only the keys that it knows.
    flags = "+faststart+use_metadata_tags" if workflow else "+faststart"
    with (
        av.open(str(rendered)) as picture,
        av.open(str(sound)) as voice,
        av.open(str(target), "w", format="mp4", options={"movflags": flags}) as output,
    ):
        if workflow:
            output.metadata["workflow"] = json.dumps(workflow)
        video = picture.streams.video[0]
        rate = Fraction(fps).limit_denominator(1001)
        packets = (
            _copied(picture, video, output)
            if video.average_rate == rate
            else _retimed(picture, video, output, rate, frames)
        )
        # In the order of their times, so that the muxer holds nothing back in memory.
        heard = _copied(voice, voice.streams.audio[0], output)
        for _, packet in heapq.merge(packets, heard, key=itemgetter(0)):
            check()
            output.mux(packet)


Timed: TypeAlias = "tuple[float, Packet[Any]]"  # seconds, packet


def _copied(
    source: InputContainer, original: VideoStream | AudioStream, output: OutputContainer
) -> Iterator[Timed]:
    stream = output.add_stream_from_template(original)
    stream.metadata.clear()

    def packets() -> Iterator[Timed]:
        for packet in source.demux(original):
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
