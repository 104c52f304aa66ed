"""Pictures, sound and video files: probe, decode, convert, mux."""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import math
import wave
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image, ImageOps, UnidentifiedImageError

from talkinghead.errors import MediaInvalid, MediaTooLarge

SPEECH_RATE_HZ = 16_000  # what wav2vec2 was trained on
PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
# Demuxers that may open a stranger's file: no playlists, which name other files.
SOUND_FORMATS = "wav,w64,mp3,flac,ogg,aac,mov,matroska,avi,aiff,au,caf,amr,mpegts,asf"
AAC_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
AAC_BITS_PER_CHANNEL = 96_000
# What AAC calls each number of channels; a WAV file may leave its layout open.
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
RETIME_CRF = "19"  # as VHS_VideoCombine in the templates


@dataclass(frozen=True)
class Picture:
    """A picture's size in pixels, upright."""

    width: int
    height: int


@dataclass(frozen=True)
class Sound:
    """What decoding a file's first audio stream gave. `duration` is in seconds."""

    duration: float
    rate: int
    channels: int


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


def save_picture(name: str, source: Path, target: Path, *, max_megapixels: float) -> Picture:
    """Save the picture upright, as RGB PNG without metadata. `name` is the request's field.

    Transparency is laid on white, as browsers show it; of an animation the first frame is taken.

    Raises:
        MediaInvalid: not a picture, a truncated one, or of a format that is not taken.
        MediaTooLarge: more pixels than allowed.
    """
    try:
        with Image.open(source, formats=PICTURE_FORMATS) as image:
            if image.width * image.height > max_megapixels * 1e6:
                size = f"{image.width}x{image.height}"
                limit = f"{max_megapixels:g} megapixels"
                raise MediaTooLarge(f"{name}: the picture has {size} pixels, allowed: {limit}")
            upright = ImageOps.exif_transpose(image)
            rgb = _on_white(upright)
    except UnidentifiedImageError:
        kinds = ", ".join(PICTURE_FORMATS[:3])
        raise MediaInvalid(f"{name}: the file is not a picture, allowed: {kinds}") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaInvalid(f"{name}: the picture cannot be decoded: {error}") from None
    rgb.save(target, "PNG", compress_level=1)
    return Picture(rgb.width, rgb.height)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 256).convert("L")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


def probe_sound(name: str, source: Path, *, max_seconds: float) -> Sound:
    """Decode the file's first audio stream to learn its true length.

    Decoding stops a second after `max_seconds`.

    Raises:
        MediaInvalid: no audio stream, or nothing in it.
    """
    samples = 0
    with _decoding(name, source) as (stream, frames):
        rate, channels = stream.rate, stream.channels
        for frame in frames:
            samples += frame.samples
            if samples > (max_seconds + 1) * rate:
                break
    if not samples:
        raise MediaInvalid(f"{name}: the file holds no sound")
    if channels not in LAYOUTS:
        allowed = ", ".join(map(str, LAYOUTS))
        raise MediaInvalid(f"{name}: {channels} audio channels, allowed: {allowed}")
    return Sound(samples / rate, rate, channels)


def save_sound(name: str, source: Path, target: Path, *, seconds: float) -> None:
    """Save the first `seconds` as 16-bit WAV, all channels, at its own rate where AAC takes it."""
    with _decoding(name, source) as (stream, frames):
        rate = min((r for r in AAC_RATES_HZ if r >= stream.rate), default=AAC_RATES_HZ[-1])
        resampler = AudioResampler("s16", LAYOUTS[stream.channels], rate)
        count = round(seconds * rate) * 2 * stream.channels
        blocks = _exactly(_resampled(frames, resampler), count)
        _write_wav(target, blocks, rate=rate, channels=stream.channels)


def save_speech(
    name: str, source: Path, target: Path, *, seconds: float, padded_samples: int
) -> None:
    """Save the first `seconds` mono at 16 kHz, then silence up to `padded_samples`."""
    with _decoding(name, source) as (_, frames):
        blocks = _resampled(frames, AudioResampler("s16", "mono", SPEECH_RATE_HZ))
        samples = round(seconds * SPEECH_RATE_HZ)
        exact = _exactly(blocks, 2 * samples, 2 * padded_samples)
        _write_wav(target, exact, rate=SPEECH_RATE_HZ, channels=1)


@contextlib.contextmanager
def _decoding(name: str, source: Path) -> Iterator[tuple[AudioStream, Iterator[AudioFrame]]]:
    """The first audio stream of the file and its frames; faults of the file as MediaInvalid."""
    options = {"protocol_whitelist": "file", "format_whitelist": SOUND_FORMATS}
    try:
        with av.open(str(source), options=options) as container:
            if not container.streams.audio:
                raise MediaInvalid(f"{name}: the file has no audio stream")
            stream = container.streams.audio[0]
            yield stream, container.decode(stream)
    except (av.FFmpegError, ValueError) as error:
        reason = error.strerror if isinstance(error, av.FFmpegError) else str(error)
        raise MediaInvalid(f"{name}: the sound cannot be decoded: {reason}") from None


def _resampled(frames: Iterator[AudioFrame], resampler: AudioResampler) -> Iterator[bytes]:
    for frame in frames:
        for block in resampler.resample(frame):
            yield block.to_ndarray().tobytes()
    for block in resampler.resample(None):
        yield block.to_ndarray().tobytes()


def _write_wav(target: Path, blocks: Iterator[bytes], *, rate: int, channels: int) -> None:
    with wave.open(str(target), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        for block in blocks:
            file.writeframes(block)


def _exactly(blocks: Iterator[bytes], count: int, padded: int = 0) -> Iterator[bytes]:
    """The first `count` bytes, then zeros up to `count` or `padded`, whichever is more."""
    left = count
    for block in blocks:
        yield block[:left]
        left -= min(left, len(block))
        if not left:
            break
    yield bytes(left + max(0, padded - count))


def finish_video(rendered: Path, sound: Path, target: Path, *, fps: float, frames: int) -> None:
    """Mux the rendered picture with the full-quality sound into the MP4 that is delivered.

    The picture is copied as it is; only if `fps` differs from the rendered rate is it encoded
    again, as `frames` frames chosen so that lips and sound stay together (`rendered` is lossless
    then).
    No metadata is taken over, and the index comes first, so that browsers play it while it loads.
    """
    with (
        av.open(str(rendered)) as picture,
        av.open(str(sound)) as voice,
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
