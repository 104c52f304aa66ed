"""MP4 files as VHS_VideoCombine's video/h264-mp4 writes them, through PyAV."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np
import torch
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from numpy.typing import NDArray

from .speech import Audio

VideoPacket: TypeAlias = "av.Packet[VideoStream]"

LAYOUTS = {
    **{1: "mono", 2: "stereo", 3: "3.0", 4: "4.0"},
    **{5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"},
}
BT709 = 1  # the same number for matrix, primaries and transfer
AAC_SAMPLES = 1024  # of one packet
KEEP_TAGS = {"movflags": "use_metadata_tags"}


@dataclass(frozen=True)
class Encoding:
    """What the format's widgets and the node's inputs say of the picture."""

    frame_rate: Fraction
    crf: int
    pix_fmt: str
    tags: dict[str, str]


def write_video(path: Path, images: Iterator[torch.Tensor], encoding: Encoding) -> int:
    """Encode HWC images in 0..1 without sound; the number of frames written."""
    frames = 0
    with av.open(str(path), "w", options=KEEP_TAGS) as container:
        container.metadata.update(encoding.tags)
        stream: VideoStream | None = None
        for image in images:
            stream = stream or _video_stream(container, image, encoding)
            container.mux(stream.encode(_video_frame(image, encoding.pix_fmt, frames)))
            frames += 1
        if stream:
            container.mux(stream.encode(None))
    return frames


def _video_stream(
    container: OutputContainer, image: torch.Tensor, encoding: Encoding
) -> VideoStream:
    options = {"crf": str(encoding.crf), "preset": "veryfast"}
    stream = container.add_stream("libx264", rate=encoding.frame_rate, options=options)
    stream.height, stream.width = image.shape[0], image.shape[1]
    stream.pix_fmt = encoding.pix_fmt
    context = stream.codec_context
    context.color_range = ColorRange.MPEG.value
    context.colorspace = context.color_primaries = context.color_trc = BT709
    return stream


def _video_frame(image: torch.Tensor, pix_fmt: str, number: int) -> av.VideoFrame:
    rgb = av.VideoFrame.from_ndarray(as_bytes(image), format="rgb24")
    frame = rgb.reformat(
        format=pix_fmt,
        src_color_range=ColorRange.JPEG,
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
    )
    frame.pts = number
    return frame


def add_sound(
    silent: Path, target: Path, audio: Audio, frame_rate: Fraction, trim_to_audio: bool
) -> None:
    """Copy the picture and add AAC as `ffmpeg -c:v copy -c:a aac -shortest` does.

    Cutting goes by whole packets: of sound that is too long the last partial one of 1024 samples
    goes, of picture that is too long all from the first packet that ends after the sound, in
    coded order, so up to a group of B-frames more than was asked (measured with ffmpeg 9.0.2).
    """
    waveform = audio["waveform"][0]
    rate = audio["sample_rate"]
    with av.open(str(silent)) as source, av.open(str(target), "w", options=KEEP_TAGS) as container:
        video_in = source.streams.video[0]
        video_end = video_in.frames / frame_rate
        if not trim_to_audio:
            waveform = torch.nn.functional.pad(waveform, (0, round((video_end + 1) * rate)))
        sound_end = Fraction(waveform.shape[1], rate)
        if sound_end > video_end:
            packets = int(video_end * rate) // AAC_SAMPLES
            waveform = waveform[:, : packets * AAC_SAMPLES]
        container.metadata.update(source.metadata)
        video_out = container.add_stream_from_template(video_in)
        audio_out = _audio_stream(container, rate, len(waveform))
        for packet in _packets_until(source.demux(video_in), sound_end):
            packet.stream = video_out
            container.mux(packet)
        _mux_audio(container, audio_out, waveform)


def _packets_until(packets: Iterator[VideoPacket], end: Fraction) -> Iterator[VideoPacket]:
    for packet in packets:
        if packet.pts is None or packet.duration is None:
            continue  # demuxing ends with an empty packet
        if (packet.pts + packet.duration) * packet.time_base > end:
            return
        yield packet


def _audio_stream(container: OutputContainer, rate: int, channels: int) -> AudioStream:
    stream = container.add_stream("aac", rate=rate)
    stream.codec_context.layout = LAYOUTS[channels]
    return stream


def _mux_audio(container: OutputContainer, stream: AudioStream, waveform: torch.Tensor) -> None:
    packed = waveform.numpy().T.astype(np.float32).reshape(1, -1)  # PyAV takes no eight planes
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=LAYOUTS[len(waveform)])
    frame.sample_rate = stream.codec_context.sample_rate
    frame.pts = 0
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def as_bytes(image: torch.Tensor) -> NDArray[np.uint8]:
    """8-bit pixels, rounded the way the real node rounds."""
    scaled = image.float().cpu().numpy() * 255 + 0.5
    pixels: NDArray[np.uint8] = np.clip(scaled, 0, 255).astype(np.uint8)
    return pixels
