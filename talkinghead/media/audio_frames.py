"""A stranger's sound as blocks of samples: of one track, all that can be decoded, in its time.

Everything streams: memory does not grow with length. Two passes over a file give the same samples.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

import av
import numpy as np
import numpy.typing as npt
from av import codecs_available
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream

from talkinghead.errors import MediaInvalid
from talkinghead.media.containers import all_packets, check_codec, decoding, is_of, open_container
from talkinghead.media.heartbeat import beat
from talkinghead.media.told_length import told_seconds, wav_parts

Samples: TypeAlias = npt.NDArray[np.float32]  # [channels, samples], full scale is 1.0

SOUND_FORMATS = "wav,w64,mp3,flac,ogg,aac,mov,matroska,avi,aiff,au,caf,amr,mpegts,mpeg,asf,flv"
SOUND_CODECS = (
    *("aac", "aac_latm", "alac", "mp3", "mp3float", "mp2", "mp2float", "flac", "opus", "libopus"),
    *("vorbis", "ac3", "eac3", "amrnb", "amrwb", "wmav1", "wmav2", "wmapro", "gsm", "gsm_ms"),
    *("adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt"),
    *sorted(codec for codec in codecs_available if codec.startswith("pcm_")),
)
MIN_RATE_HZ, MAX_RATE_HZ = 1000, 768_000  # a damaged header's rate would ask for endless filters
# A WAV file may leave its layout open; these are what most players take it for.
LAYOUTS = {
    **{1: "mono", 2: "stereo", 3: "3.0", 4: "4.0"},
    **{5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"},
}
OPEN_LAYOUT = re.compile(r"\d+ channels")
CHANNELS_BY_NAME = re.compile(r"\d+ channels \(.*\)")
# After the samples to skip at either end: the number of them all, where no edit list tells it.
ITUNES_SAMPLES = re.compile(r"(?: *[0-9A-F]{8}){3} ([0-9A-F]{16})")
MAX_PEAK = 1e6  # far above any recording, and a sum of four stays finite
BLOCK_SAMPLES = 65_536
# For a file that is known to be PCM, ours or one that was probed: else FFmpeg reads ahead to see
# whether it is DTS that passes for PCM, which takes 5 ms each time that it is opened.
PLAIN_PCM = {"max_probe_packets": "1"}

# Whose packets have times of their own. The others' are counted from bytes, and wrong after damage.
TIMED_FORMATS = ("mov", "matroska", "mpegts", "mpeg", "asf", "flv", "ogg")
LAG_SECONDS = 0.03  # recorders write times that are so far off; lips that are nobody sees
CLOCK_DRIFT = 1e-3  # a recorder's clock may run faster than its sound: that makes no gaps
# A greater leap is another clock and no pause, as FFmpeg has it for what may be cut and joined.
CLOCK_LEAP_SECONDS = {"mpegts": 10.0, "mpeg": 10.0, "ogg": 10.0}
MAX_GAP_SECONDS = 3600.0
TAGS = (b"ID3", b"TAG", b"APE")  # between joined MP3s: no sound is lost with them, or with zeros


@dataclass
class Tally:
    """Seconds of a track, counted while it is decoded: `decoded`, and `damaged` that could not be.

    `paused` are those of which the file has nothing, between what it has. `told` is what its
    headers say, None if they do not. `fault` is the first that was met. `picture` is when the
    file's picture begins, if one was met. `pcm`: the sound is not compressed.
    """

    decoded: float = 0.0
    damaged: float = 0.0
    paused: float = 0.0
    told: float | None = 0.0
    fault: av.FFmpegError | None = None
    picture: float | None = None
    pcm: bool = False


@dataclass(frozen=True)
class Piece:
    """A decoded frame, after so many seconds of `silence`; so many at its end are `padding`."""

    frame: AudioFrame
    silence: float = 0.0
    padding: float = 0.0


def decodable_tracks(name: str, source: Path) -> tuple[list[int], list[int]]:
    """The numbers of the file's audio tracks, the default ones first, and which are default.

    Raises:
        MediaInvalid: it has none, or none for a decoder that is taken.
    """
    with _opened(name, source) as container:
        streams = container.streams.audio
        # A phone's second track may be of a codec that FFmpeg has no name for: it has no context.
        known = [track for track in streams if track.codec_context is not None]
        taken = [track for track in known if track.codec_context.name in SOUND_CODECS]
        if not taken:
            check_codec(name, "sound", streams[0], SOUND_CODECS)
        default = [t for t in taken if t.disposition & Disposition.default]
        others = [track for track in taken if track not in default]
        number = {track.index: number for number, track in enumerate(streams)}
        return [number[t.index] for t in (*default, *others)], [number[t.index] for t in default]


def decode(
    name: str, source: Path, *, track: int = 0, pcm: bool = False, tally: Tally | None = None
) -> Iterator[Piece]:
    """Decode one audio track of the file, or of the WAV files that were joined to make it.

    `pcm` if the sound is known to be that. What no decoder takes is left out, and counted in
    `tally`; where packets have times, pauses between them are kept, and where sound begins after
    the picture, so much silence.

    Raises:
        MediaInvalid: the file cannot be opened or read on.
    """
    tally = tally or Tally()
    parts = wav_parts(name, source)
    for part in parts:
        with _opened(name, part, pcm=pcm) as container:
            stream = container.streams.audio[track]
            _forget_order(stream)
            tally.pcm = stream.codec_context.name.startswith("pcm_")
            told = told_seconds(container, stream, source, is_last=part == parts[-1])
            tally.told = None if told is None or tally.told is None else tally.told + told
            frames = _frames(name, container, stream, tally)
            timed = container.format.name.split(",")[0] in TIMED_FORMATS
            yield from _in_time(container, stream, frames, tally) if timed else map(Piece, frames)


def form_of(name: str, frame: AudioFrame) -> tuple[int, int]:
    """Rate and number of channels, as decoded: a header may tell half of either.

    Raises:
        MediaInvalid: one that is not taken.
    """
    rate, channels = frame.sample_rate, frame.layout.nb_channels
    if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
        allowed = f"{MIN_RATE_HZ} to {MAX_RATE_HZ}"
        raise MediaInvalid(f"{name}: {rate} samples a second, allowed: {allowed}")
    if channels not in LAYOUTS:
        raise MediaInvalid(f"{name}: {channels} audio channels, allowed: 1 to {max(LAYOUTS)}")
    return rate, channels


def own_layout(frame: AudioFrame) -> AudioLayout | str:
    """The frame's layout, the usual one for its number of channels if it leaves that open."""
    is_open = OPEN_LAYOUT.fullmatch(frame.layout.name)
    return LAYOUTS[frame.layout.nb_channels] if is_open else frame.layout


def resampled(
    name: str, pieces: Iterable[Piece], rate: int, layout: AudioLayout | str
) -> Iterator[Samples]:
    """The sound, block by block, at this rate and layout.

    Raises:
        MediaInvalid: samples that are not finite numbers, or a change that cannot be followed.
    """
    made = _Blocks(name, rate, layout)
    for piece in pieces:
        if piece.silence or made.form != _form(piece.frame):
            yield from made.rest()
            yield from made.pause(piece.silence)
            made.begin(_form(piece.frame))
        yield from made.of(piece)
    yield from made.rest()


def silence(channels: int, samples: int) -> Iterator[Samples]:
    """So many samples of silence, in blocks."""
    for start in range(0, samples, BLOCK_SAMPLES):
        beat()
        yield np.zeros((channels, min(BLOCK_SAMPLES, samples - start)), np.float32)


def peak_of(block: Samples) -> float:
    """The largest of the samples, either way from zero."""
    return float(np.abs(block).max(initial=0))


@contextlib.contextmanager
def _opened(name: str, source: Path | str, *, pcm: bool = False) -> Iterator[InputContainer]:
    """The file, which has an audio stream; `pcm` if that is known of it."""
    with decoding(name, "sound"):
        options = PLAIN_PCM if pcm else {}
        container = open_container(source, SOUND_FORMATS, SOUND_CODECS, options)
    with container:
        if not container.streams.audio:
            raise MediaInvalid(f"{name}: the file has no audio stream")
        yield container


def _forget_order(stream: AudioStream) -> None:
    """Take channels in an order of the file's own for the usual ones.

    Such an order is a list in memory, which PyAV would free once for each frame that it shows us.
    """
    layout = stream.codec_context.layout
    if CHANNELS_BY_NAME.fullmatch(layout.name) and layout.nb_channels in LAYOUTS:
        stream.codec_context.layout = LAYOUTS[layout.nb_channels]


def _frames(
    name: str, container: InputContainer, stream: AudioStream, tally: Tally
) -> Iterator[AudioFrame]:
    """What can be decoded of the stream. As FFmpeg's own tools do, what cannot is left out."""
    check_codec(name, "sound", stream, SOUND_CODECS)
    for packet in _packets(name, container, stream, tally):
        try:
            frames = stream.decode(packet)  # a damaged TS's packet may not know its own
        except av.FFmpegError as error:
            content = bytes(packet)
            if content[:3] not in TAGS and any(content):
                tally.damaged += _seconds(packet.duration, packet)
                tally.fault = tally.fault or error
            continue
        for frame in frames:
            tally.decoded += frame.samples / frame.sample_rate
            yield frame


def _packets(
    name: str, container: InputContainer, stream: AudioStream, tally: Tally
) -> Iterator[Packet[AudioStream]]:
    """The stream's packets, up to where the file can be read."""
    try:
        for packet in all_packets(container):
            if is_of(packet, stream):
                yield cast("Packet[AudioStream]", packet)
            elif tally.picture is None and _is_picture(packet.stream) and not packet.is_discard:
                tally.picture = _seconds(packet.pts, packet)
    except av.FFmpegError as error:  # before ValueError: some of FFmpeg's are one
        tally.fault = tally.fault or error
    except ValueError as error:
        raise MediaInvalid(f"{name}: {error}") from None


def _in_time(
    container: InputContainer, stream: AudioStream, frames: Iterable[AudioFrame], tally: Tally
) -> Iterator[Piece]:
    """The frames at their times; what goes back or leaps has another clock, and follows on."""
    kind = container.format.name.split(",")[0]
    leap = CLOCK_LEAP_SECONDS.get(kind, MAX_GAP_SECONDS)
    start: float | None = None
    heard = 0.0
    for frame, following in itertools.pairwise(itertools.chain(frames, [None])):
        assert frame is not None
        length, pause = frame.samples / frame.sample_rate, 0.0
        if frame.pts is not None:
            now = _seconds(frame.pts, frame)
            if start is None:
                start = _picture_start(container, tally, otherwise=now)
            lag = now - start - heard
            if LAG_SECONDS < lag <= leap:
                pause = lag
            elif abs(lag) > LAG_SECONDS:
                start += lag
            else:
                start += max(-CLOCK_DRIFT * length, min(lag, CLOCK_DRIFT * length))
        is_last = following is None and kind == "mov"
        yield Piece(frame, pause, _padding(container, stream, frame) if is_last else 0.0)
        heard += pause + length
        tally.paused += pause


def _picture_start(container: InputContainer, tally: Tally, *, otherwise: float) -> float:
    """When the file's picture begins, by a packet that came before the sound, or an MP4's index."""
    if tally.picture is not None:
        return tally.picture
    starts = [
        _seconds(video.start_time, video)
        for video in container.streams.video
        if video.start_time is not None and _is_picture(video)
    ]
    return min(starts) if starts and container.format.name.startswith("mov") else otherwise


def _is_picture(stream: Stream) -> bool:
    """Whether the stream is shown; a cover has no time."""
    is_cover = stream.disposition & Disposition.attached_pic
    return stream.type == "video" and not is_cover


def _padding(container: InputContainer, stream: AudioStream, last: AudioFrame) -> float:
    """How many seconds of an MP4's last frame lie after the track's end: AAC fills its frames.

    A track in fragments does not tell its length. An end that is not within the frame is not right.
    """
    if not stream.frames or stream.duration is None or last.pts is None:
        return 0.0
    duration = _seconds(stream.duration, stream)
    if told := ITUNES_SAMPLES.match(container.metadata.get("iTunSMPB", "")):
        duration = int(told[1], 16) / stream.sample_rate
    length = last.samples / last.sample_rate
    end = _seconds(stream.start_time, stream) + duration
    after = _seconds(last.pts, last) + length - end
    return after if 0 < after < length else 0.0


def _seconds(ticks: int | None, of: Packet[Any] | AudioFrame | Stream) -> float:
    base = of.time_base
    return ticks * base.numerator / base.denominator if ticks and base else 0.0


def _form(frame: AudioFrame) -> tuple[str, str, int]:
    """What may change in the middle of a file, and asks for another resampler."""
    return frame.format.name, frame.layout.name, frame.sample_rate


class _Blocks:
    """A sound's blocks at one rate and layout, counted: a thousand pauses shift nothing."""

    def __init__(self, name: str, rate: int, layout: AudioLayout | str) -> None:
        self._name, self._rate, self._channels = name, rate, AudioLayout(layout).nb_channels
        # Packed: of eight planes PyAV would read a ninth, beyond the end, and crash. Large blocks:
        # an MP3's own are so small that Python would take longer over them than the decoder.
        self._fresh = partial(AudioResampler, "flt", layout, rate, frame_size=BLOCK_SAMPLES // 4)
        self._resampler = self._fresh()
        self._due_seconds = 0.0
        self._made_samples = 0
        self.form: tuple[str, str, int] | None = None

    def begin(self, form: tuple[str, str, int]) -> None:
        """From now on, frames are of this form."""
        self._resampler, self.form = self._fresh(), form

    def of(self, piece: Piece) -> Iterator[Samples]:
        """What the frame gives, and held before; after padding nothing may follow but a pause."""
        frame = piece.frame
        self._due_seconds += frame.samples / frame.sample_rate - piece.padding
        yield from self.rest(frame) if piece.padding else map(self._counted, self._blocks(frame))

    def pause(self, seconds: float) -> Iterator[Samples]:
        """So much silence."""
        self._due_seconds += seconds
        missing = round(self._due_seconds * self._rate) - self._made_samples
        if seconds and missing > 0:
            yield from map(self._counted, silence(self._channels, missing))

    def rest(self, last: AudioFrame | None = None) -> Iterator[Samples]:
        """What is still held, and of a last frame what is due; then another begins."""
        if self.form is not None:
            held = [*self._blocks(last)] if last else []
            held += self._blocks(None)
            self.form = None
            due = round(self._due_seconds * self._rate) - self._made_samples
            if held:
                yield self._counted(np.concatenate(held, axis=1)[:, : max(0, due)])

    def _blocks(self, frame: AudioFrame | None) -> Iterator[Samples]:
        with decoding(self._name, "sound"):
            frames = self._resampler.resample(frame)
        for each in frames:
            packed = cast("Samples", each.to_ndarray())
            if not peak_of(packed) <= MAX_PEAK:  # false for NaN as well
                raise MediaInvalid(
                    f"{self._name}: the sound holds samples that are not finite numbers"
                )
            yield packed.reshape(-1, self._channels).T

    def _counted(self, block: Samples) -> Samples:
        self._made_samples += block.shape[1]
        return block
