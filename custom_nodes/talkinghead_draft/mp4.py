"""Frames and sound into an MP4 file, one frame at a time."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from .face import Picture
from .voice import Samples

BT709 = 1  # H.273's code for BT.709, the same for primaries, transfer and matrix
LIMITED_RANGE = 1  # libavutil's AVCOL_RANGE_MPEG
AAC_RATES_HZ = frozenset(
    (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
)
AAC_FALLBACK_HZ = 48000
AAC_BITS_PER_CHANNEL = 96_000
AAC_LAYOUTS = {
    **{1: "mono", 2: "stereo", 3: "3.0", 4: "4.0"},
    **{5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"},
}


def write_mp4(
    path: Path, frames: Iterable[Picture], fps: Fraction, sound: Samples, sample_rate: int
) -> None:
    """Encode RGB frames [H, W, 3] and sound [channels, samples] of full scale 1.0.

    H.264 (BT.709, limited range) and AAC; sound longer than the frames is cut. Raises ValueError
    for an odd size or for more channels than AAC knows. After any error no file is left.
    """
    try:
        with av.open(str(path), "w", format="mp4") as container:
            _encode(container, frames, fps, sound, sample_rate)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _encode(
    container: av.container.OutputContainer,
    frames: Iterable[Picture],
    fps: Fraction,
    sound: Samples,
    sample_rate: int,
) -> None:
    container.metadata["comment"] = "CPU preview: a warped portrait, not a model's render"
    video: av.VideoStream | None = None
    track = _SoundTrack(container, sound, sample_rate)
    for index, picture in enumerate(frames):
        video = video or _video_stream(container, picture, fps)
        container.mux(video.encode(_video_frame(picture, index, fps)))
        track.write_until((index + 1) / fps)
    if video:
        container.mux(video.encode(None))
        track.finish()


def _video_stream(
    container: av.container.OutputContainer, picture: Picture, fps: Fraction
) -> av.VideoStream:
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        raise ValueError(f"H.264 needs an even width and height, not {width}x{height}")
    stream = container.add_stream("libx264", rate=fps, options={"crf": "18", "preset": "veryfast"})
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.time_base = 1 / fps
    context = stream.codec_context
    context.color_primaries = context.color_trc = context.colorspace = BT709
    context.color_range = LIMITED_RANGE
    return stream


def _video_frame(picture: Picture, index: int, fps: Fraction) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
        format="yuv420p",
        src_color_range=ColorRange.JPEG,
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
    )
    frame.pts, frame.time_base = index, 1 / fps
    return frame


class _SoundTrack:
    """The AAC stream, fed in step with the picture so that the muxer holds nothing back."""

    def __init__(
        self, container: av.container.OutputContainer, sound: Samples, sample_rate: int
    ) -> None:
        channels = len(sound)
        if channels not in AAC_LAYOUTS:
            raise ValueError(f"AAC takes {sorted(AAC_LAYOUTS)} channels, not {channels}")
        self._container, self._sound, self._rate = container, sound, sample_rate
        self._layout = AAC_LAYOUTS[channels]
        rate = sample_rate if sample_rate in AAC_RATES_HZ else AAC_FALLBACK_HZ
        self._stream = container.add_stream("aac", rate=rate)
        self._stream.layout = self._layout
        self._stream.bit_rate = AAC_BITS_PER_CHANNEL * channels
        self._resampler = av.AudioResampler(format="fltp", layout=self._layout, rate=rate)
        self._written = 0

    def write_until(self, seconds: Fraction) -> None:
        """Encode the sound up to this time of the picture."""
        end = min(int(seconds * self._rate), self._sound.shape[1])
        if end > self._written:
            # Packed: of eight planes PyAV would write a ninth, beyond the end, and crash.
            part = self._sound[:, self._written : end].T.astype(np.float32).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(part, format="flt", layout=self._layout)
            frame.sample_rate, frame.pts = self._rate, self._written
            frame.time_base = Fraction(1, self._rate)
            self._written = end
            self._encode(frame)

    def finish(self) -> None:
        self._encode(None)
        self._container.mux(self._stream.encode(None))

    def _encode(self, frame: av.AudioFrame | None) -> None:
        for resampled in self._resampler.resample(frame):
            self._container.mux(self._stream.encode(resampled))
