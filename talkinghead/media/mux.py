"""The delivered file: sound encoded, picture retimed or joined, both muxed, and what came out."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from av.video.stream import VideoStream
from PIL import Image

from talkinghead.errors import MediaInvalid, RenderFailed
from talkinghead.files import sha256_of
from talkinghead.media.audio_frames import LAYOUTS, PLAIN_PCM
from talkinghead.media.heartbeat import beat
from talkinghead.media.rates import exact

AAC_BITS_PER_CHANNEL = 96_000
ENCODED_CRF = "19"  # as VHS_VideoCombine in the templates


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


def encode_sound(source: Path, target: Path) -> Path:
    """Encode our own WAV to AAC, as an M4A file; returns its path."""
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
            beat()
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
    workflow: Mapping[str, Any] | None = None,
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
    with av.open(str(rendered)) as source, _new_mp4(target, workflow) as output:
        video, rate = source.streams.video[0], exact(fps)
        if video.average_rate == rate:
            packets = CopiedTrack(output, like=video).packets(source.demux(video))
        else:
            step = (video.average_rate or Fraction(25)) / rate
            track = EncodedTrack(output, rate, like=video.codec_context)
            packets = track.packets(picked(source.decode(video), step, range(frames)))
        _write_with_sound(output, packets, sound, check)


def finish_pictures(
    pictures: Iterable[Image.Image],
    sound: Path,
    target: Path,
    *,
    rendered_fps: float,
    fps: float,
    frames: int,
    workflow: Mapping[str, Any] | None = None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Encode RGB pictures, of even size and `rendered_fps` a second, and mux them with the sound.

    `frames` of them are chosen for the times at `fps`, and they are encoded as they come: few are
    in memory at a time. A `workflow` is written for ComfyUI's GUI to open, and the index comes
    first. `check` is called for each packet; what it raises ends it.

    Raises:
        RenderFailed: there are no pictures.
    """
    rate = exact(fps)
    drawn = (yuv_frame(picture) for picture in pictures)
    shown = picked(drawn, exact(rendered_fps) / rate, range(frames))
    with _new_mp4(target, workflow) as output:
        first = next(shown)
        track = EncodedTrack(output, rate, like=first)
        packets = track.packets(itertools.chain([first], shown))
        _write_with_sound(output, packets, sound, check)


def finish_segments(
    segments: Sequence[Path],
    sound: Path,
    target: Path,
    *,
    starts: Sequence[int],
    fps: float,
    workflow: Mapping[str, Any] | None = None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Join segments of the picture, copied one after another, and mux them with the sound.

    Each segment is an MP4 of `fps` frames a second that begins with a keyframe; `starts` are their
    first frames' numbers in the video. Of their metadata nothing is taken over; a `workflow` is
    written for ComfyUI's GUI to open, and the index comes first. `check` is called for each packet;
    what it raises ends it.

    Raises:
        RenderFailed: they come from different encoders, and no player could show them all.
    """
    with av.open(str(segments[0])) as first, _new_mp4(target, workflow) as output:
        video = first.streams.video[0]
        track = CopiedTrack(output, like=video)
        joined = _joined(segments, starts, exact(fps), setup=video.codec_context.extradata)
        packets = track.packets(joined)
        _write_with_sound(output, packets, sound, check)


def retime_segment(
    rendered: Path,
    target: Path,
    *,
    rendered_fps: float,
    rendered_first: int,
    fps: float,
    shown: range,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Encode a segment at another rate: the frames `shown` of the delivered video, at `fps`.

    `rendered` begins with frame `rendered_first` of the whole video as it is rendered, at
    `rendered_fps`. There is no sound in it. `check` is called for each packet; what it raises ends
    it.
    """
    step = exact(rendered_fps) / exact(fps)
    with av.open(str(rendered)) as source, av.open(str(target), "w", format="mp4") as output:
        video = source.streams.video[0]
        frames = picked(source.decode(video), step, shown, rendered_first)
        track = EncodedTrack(output, exact(fps), like=video.codec_context)
        for packet in track.packets(frames):
            check()
            output.mux(packet)


def count_frames(path: Path) -> int:
    """How many frames a video of ours has, by its index: nothing is decoded.

    Raises:
        RenderFailed: it has none that can be read.
    """
    try:
        with av.open(str(path)) as container:
            return container.streams.video[0].frames
    except (av.FFmpegError, IndexError) as error:
        raise RenderFailed(f"what was rendered cannot be read: {error}") from error


def yuv_frame(picture: Image.Image) -> VideoFrame:
    """The RGB picture as an encoder takes it, in the colours of BT.709."""
    return VideoFrame.from_ndarray(np.asarray(picture), format="rgb24").reformat(
        format="yuv420p",
        src_color_range=ColorRange.JPEG,
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        dst_color_primaries=ColorPrimaries.BT709,
        dst_color_trc=ColorTrc.BT709,
        interpolation=Interpolation.BICUBIC,  # of the chroma, as ffmpeg has it
    )


# ---- Tracks
#
# An MP4's header lists all of its tracks, and is written with the first packet. So a file is made
# in this order: every track is added (`CopiedTrack`, `EncodedTrack`: making one adds it), then the
# packets of all are muxed. Packets are made only when they are asked for.


class CopiedTrack:
    """A track of packets that are taken from other files as they are, without those' metadata.

    `like` is a stream of one of them: the others must have been encoded alike.
    """

    def __init__(self, output: OutputContainer, *, like: VideoStream | AudioStream) -> None:
        self._stream = output.add_stream_from_template(like)
        self._stream.metadata.clear()

    def packets(self, others: Iterable[Packet[Any]]) -> Iterator[Packet[Any]]:
        """The demuxed packets, for this track; their files must stay open meanwhile."""
        for packet in others:
            if packet.dts is not None:  # only the empty one that ends a stream has none
                packet.stream = self._stream
                yield packet


class EncodedTrack:
    """A track of H.264, of the size and colours of `like`, with `rate` frames a second."""

    def __init__(
        self, output: OutputContainer, rate: Fraction, *, like: VideoFrame | VideoCodecContext
    ) -> None:
        self._frame_seconds = 1 / rate
        self._stream = output.add_stream("libx264", rate=rate, options={"crf": ENCODED_CRF})
        self._stream.width, self._stream.height = like.width, like.height
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.thread_type = "FRAME"  # as ffmpeg: slices, the library's choice, cost size
        context.color_primaries, context.color_trc = like.color_primaries, like.color_trc
        context.colorspace, context.color_range = like.colorspace, like.color_range

    def packets(self, frames: Iterable[VideoFrame]) -> Iterator[Packet[Any]]:
        """The frames, encoded one after another. The encoder looks some tens of them ahead."""
        for index, frame in enumerate(frames):
            frame.pts, frame.time_base = index, self._frame_seconds
            yield from self._stream.encode(frame)
        yield from self._stream.encode(None)


@contextlib.contextmanager
def _new_mp4(target: Path, workflow: Mapping[str, Any] | None) -> Iterator[OutputContainer]:
    # Without the second flag FFmpeg keeps only the keys that it knows.
    flags = "+faststart+use_metadata_tags" if workflow else "+faststart"
    with av.open(str(target), "w", format="mp4", options={"movflags": flags}) as output:
        if workflow:
            output.metadata["workflow"] = json.dumps(workflow)
        yield output


def _write_with_sound(
    output: OutputContainer,
    picture: Iterator[Packet[Any]],
    sound: Path,
    check: Callable[[], None],
) -> None:
    """Add the sound's track to that of the picture, and write the packets of both.

    They go in the order of their times, so that the muxer holds nothing back in memory.
    """
    with av.open(str(sound)) as voice:
        heard = voice.streams.audio[0]
        track = CopiedTrack(output, like=heard)
        both = heapq.merge(picture, track.packets(voice.demux(heard)), key=_decoded_at_seconds)
        for packet in both:
            check()
            output.mux(packet)


def _decoded_at_seconds(packet: Packet[Any]) -> float:
    return float((packet.dts or 0) * (packet.time_base or 0))


def _joined(
    segments: Sequence[Path], starts: Sequence[int], rate: Fraction, *, setup: bytes | None
) -> Iterator[Packet[Any]]:
    """The packets of the segments, moved to their times in the video; one file is open at a time.

    Raises:
        RenderFailed: a segment's parameter sets are not `setup`, the only ones that the track has:
            what another encoder made would be shown as noise.
    """
    for path, start in zip(segments, starts, strict=True):
        with av.open(str(path)) as segment:
            video = segment.streams.video[0]
            if video.codec_context.extradata != setup:
                raise RenderFailed(f"{path.name} and {segments[0].name} do not join")
            yield from _moved(segment.demux(video), start / rate)


def picked(
    frames: Iterator[VideoFrame], step: Fraction, wanted: range, first: int = 0
) -> Iterator[VideoFrame]:
    """For each of the wanted numbers the frame at the middle of its time; the last one is held.

    `frames` are counted from `first`; `step` of them pass for one that is wanted.

    Raises:
        RenderFailed: there are none.
    """
    index, frame = first, next(frames, None)
    if frame is None:
        raise RenderFailed("the render has no pictures")
    for number in wanted:
        while index < math.floor((number + Fraction(1, 2)) * step):
            index, frame = index + 1, next(frames, frame)
        yield frame


def _moved(packets: Iterator[Packet[Any]], seconds: Fraction) -> Iterator[Packet[Any]]:
    """The packets, so much later."""
    for packet in packets:
        if packet.dts is None or packet.pts is None or packet.time_base is None:
            continue
        later = round(seconds / packet.time_base)
        packet.pts, packet.dts = packet.pts + later, packet.dts + later
        yield packet


def probe_video(path: Path) -> VideoFile:
    """What the file really is, read from it.

    Raises:
        MediaInvalid: it is not a video.
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
                sha256=sha256_of(path),
            )
    except (av.FFmpegError, IndexError) as error:
        raise MediaInvalid(f"{path.name} is not a video") from error
