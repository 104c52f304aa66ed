"""The voices: probe them, one speech track for each speaker, and the mix that is delivered.

Everything streams: memory does not grow with length.
"""

from __future__ import annotations

import contextlib
import itertools
import wave
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from av import codecs_available
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import InputContainer

from talkinghead.errors import MediaInvalid, MediaTooLarge
from talkinghead.media.containers import check_codec, decoding, open_container, packets
from talkinghead.media.heartbeat import beat

Samples: TypeAlias = npt.NDArray[np.float32]  # [channels, samples], full scale is 1.0

SPEECH_RATE_HZ = 16_000  # what wav2vec2 was trained on
SOUND_FORMATS = "wav,w64,mp3,flac,ogg,aac,mov,matroska,avi,aiff,au,caf,amr,mpegts,asf"
SOUND_CODECS = (
    *("aac", "aac_latm", "alac", "mp3", "mp3float", "mp2", "mp2float", "flac", "opus", "libopus"),
    *("vorbis", "ac3", "eac3", "amrnb", "amrwb", "wmav1", "wmav2", "wmapro", "gsm", "gsm_ms"),
    *("adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt"),
    *sorted(codec for codec in codecs_available if codec.startswith("pcm_")),
)
AAC_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
MIN_RATE_HZ, MAX_RATE_HZ = 1000, 768_000  # a damaged header's rate would ask for endless filters
# What AAC calls each number of channels; a WAV file may leave its layout open.
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
SILENCE_PEAK = 1e-3  # -60 dBFS
MAX_PEAK = 1e6  # far above any recording, and a sum of four stays finite
MAX_WAV_BYTES = 2**32 - 1024
BLOCK_SAMPLES = 65_536
LOUDNESS_SAMPLES = SPEECH_RATE_HZ // 2
QUIET = 10 ** (-35 / 20)  # a voice that stays so far below its loudest is silent
# For a file that is known to be PCM, ours or one that was probed: else FFmpeg reads ahead to see
# whether it is DTS that passes for PCM, which takes 5 ms each time that it is opened.
PLAIN_PCM = {"max_probe_packets": "1"}


@dataclass(frozen=True)
class Sound:
    """What decoding a file's first audio stream gave. `duration` is in seconds.

    `silent`: no sample reaches -60 dBFS. `pcm`: it is not compressed.
    """

    duration: float
    rate: int
    channels: int
    silent: bool
    pcm: bool = False


@dataclass(frozen=True)
class Voice:
    """A file that is heard from `offset` seconds on. `name` is the request's field."""

    name: str
    path: Path
    sound: Sound
    offset: float = 0.0


def probe_sound(
    name: str, source: Path, *, max_seconds: float, check: Callable[[], None] = lambda: None
) -> Sound:
    """Decode the file's first audio stream to learn its true length and whether it is silent.

    `name` is the request's field. Decoding stops a second after `max_seconds`: a longer file is
    seen to be too long, and costs no more. `check` is called for each packet; what it raises ends
    it.

    Raises:
        MediaInvalid: no audio stream, nothing in it, a rate or number of channels that is not
            taken, or samples that are not finite numbers.
    """
    samples, peak = 0, 0.0
    with _opened(name, source) as container:
        frames = _frames(name, container, check)
        first = next(frames, None)
        if first is None:
            raise MediaInvalid(f"{name}: the file holds no sound")
        rate, channels = _form(name, first)
        for block in _resampled(name, itertools.chain([first], frames), rate, LAYOUTS[channels]):
            samples += block.shape[1]
            peak = max(peak, _peak(block))
            if samples > (max_seconds + 1) * rate:
                break
        pcm = container.streams.audio[0].codec_context.name.startswith("pcm_")
    return Sound(samples / rate, rate, channels, silent=peak < SILENCE_PEAK, pcm=pcm)


def save_speech(
    voice: Voice | None,
    target: Path,
    *,
    seconds: float,
    padded_samples: int,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Save what the model hears of one speaker: mono, 16 kHz, 16 bits, `padded_samples` long.

    The voice ends where `seconds` end, its offset counted in; the rest is silence. None is a
    speaker who only listens. `check` is called for each block; what it raises ends it.

    Raises:
        MediaInvalid: the voice cannot be decoded.
    """
    heard = min(round(seconds * SPEECH_RATE_HZ), padded_samples)
    voices = [] if voice is None else [voice]

    def blocks() -> Iterator[Samples]:
        yield from _mixed(voices, rate=SPEECH_RATE_HZ, channels=1, samples=heard)
        yield from _silence(channels=1, samples=padded_samples - heard)

    _write_wav(target, blocks, rate=SPEECH_RATE_HZ, channels=1, check=check)


def save_mix(
    voices: Sequence[Voice],
    target: Path,
    *,
    seconds: float,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Save the sum of the voices as 16-bit WAV of `seconds`, at the best rate and most channels.

    The rate is one that AAC takes. Left and right stay apart; a mono voice, and in a mix of more
    than two channels a stereo one, plays on the front left and right. A sum over full scale is
    turned down as a whole; one voice alone stays as it is. `check` is called for each block; what
    it raises ends it.

    Raises:
        MediaInvalid: a voice cannot be decoded.
        MediaTooLarge: they make more sound than a WAV file holds.
    """
    best = max(voice.sound.rate for voice in voices)
    channels = max(voice.sound.channels for voice in voices)
    rate = min((r for r in AAC_RATES_HZ if r >= best), default=AAC_RATES_HZ[-1])
    samples = round(seconds * rate)
    if samples * channels * 2 > MAX_WAV_BYTES:
        names = ", ".join(voice.name for voice in voices)
        raise MediaTooLarge(
            f"{names}: {seconds:.0f} s at {rate} Hz on {channels} channels make "
            f"{samples * channels * 2 / 1e9:.1f} GB of sound; allowed: {MAX_WAV_BYTES / 1e9:.1f} "
            "GB: give it at a lower rate, on fewer channels, or set max_audio_duration"
        )
    mixed = partial(_mixed, voices, rate=rate, channels=channels, samples=samples)
    _write_wav(target, mixed, rate=rate, channels=channels, check=check)


def loudest(track: Path) -> float:
    """The RMS of the loudest half second of a speech track of ours; full scale is 1."""
    with wave.open(str(track)) as file:
        samples = file.getnframes()
    return max(map(_rms, _blocks(track, 0, samples)), default=0.0)


def save_stretch(track: Path, target: Path, *, first: int, samples: int, loudest: float) -> None:
    """Save `samples` samples of a speech track from `first` on: what the model hears at a time.

    It weighs what it hears by the loudest of it, so that in a stretch in which nobody speaks, noise
    would move the mouth: one that stays 35 dB below the track's `loudest` becomes silence.
    """
    is_silent = max(map(_rms, _blocks(track, first, samples)), default=0.0) < QUIET * loudest
    with wave.open(str(target), "wb") as file:
        file.setparams((1, 2, SPEECH_RATE_HZ, 0, "NONE", ""))
        for block in _blocks(track, first, samples):
            file.writeframes(bytes(len(block)) if is_silent else block)


def _blocks(track: Path, first: int, samples: int) -> Iterator[bytes]:
    """The track's 16-bit samples from `first` on, half a second at a time."""
    with wave.open(str(track)) as file:
        file.setpos(first)
        for start in range(0, samples, LOUDNESS_SAMPLES):
            yield file.readframes(min(LOUDNESS_SAMPLES, samples - start))


def _rms(pcm: bytes) -> float:
    samples = np.frombuffer(pcm, "<i2") / 32768
    return float(np.sqrt(np.mean(np.square(samples)))) if len(samples) else 0.0


def _form(name: str, frame: AudioFrame) -> tuple[int, int]:
    """Rate and number of channels, as decoded: a header may tell half of either."""
    rate, channels = frame.sample_rate, frame.layout.nb_channels
    if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
        allowed = f"{MIN_RATE_HZ} to {MAX_RATE_HZ}"
        raise MediaInvalid(f"{name}: {rate} samples a second, allowed: {allowed}")
    if channels not in LAYOUTS:
        allowed = ", ".join(map(str, LAYOUTS))
        raise MediaInvalid(f"{name}: {channels} audio channels, allowed: {allowed}")
    return rate, channels


@contextlib.contextmanager
def _opened(name: str, source: Path, *, pcm: bool = False) -> Iterator[InputContainer]:
    """The file, which has an audio stream; `pcm` if that is known of it."""
    with decoding(name, "sound"):
        options = PLAIN_PCM if pcm else {}
        container = open_container(source, SOUND_FORMATS, SOUND_CODECS, options)
    with container:
        if not container.streams.audio:
            raise MediaInvalid(f"{name}: the file has no audio stream")
        check_codec(name, "sound", container.streams.audio[0], SOUND_CODECS)
        yield container


def _frames(
    name: str, container: InputContainer, check: Callable[[], None] = lambda: None
) -> Iterator[AudioFrame]:
    with decoding(name, "sound"):
        for packet in packets(container, container.streams.audio[0], check):
            yield from packet.decode()


def _resampled(
    name: str, frames: Iterable[AudioFrame], rate: int, layout: str
) -> Iterator[Samples]:
    """The sound, block by block, at this rate and layout."""
    for _, alike in itertools.groupby(frames, key=_frame_form):
        resampler = AudioResampler("fltp", layout, rate)
        for frame in itertools.chain(alike, [None]):
            with decoding(name, "sound"):
                blocks = resampler.resample(frame)
            for block in blocks:
                yield _checked(name, block.to_ndarray())


def _frame_form(frame: AudioFrame) -> tuple[str, str, int]:
    """What may change in the middle of a file, and asks for another resampler."""
    return frame.format.name, frame.layout.name, frame.sample_rate


def _checked(name: str, block: npt.NDArray[Any]) -> Samples:
    if not _peak(block) <= MAX_PEAK:  # false for NaN as well
        raise MediaInvalid(f"{name}: the sound holds samples that are not finite numbers")
    return block


def _peak(block: Samples) -> float:
    return float(np.abs(block).max(initial=0))


def _mixed(voices: Sequence[Voice], *, rate: int, channels: int, samples: int) -> Iterator[Samples]:
    """The sum of the voices in blocks, `samples` long in all."""
    tracks = [_track(voice, rate, channels, samples) for voice in voices]
    for silence, *parts in zip(_silence(channels, samples), *tracks, strict=True):
        yield sum(parts, silence)


def _track(voice: Voice, rate: int, channels: int, samples: int) -> Iterator[Samples]:
    """One voice at its offset, between silence, in blocks as large as those of `_silence`."""
    parts = itertools.chain(
        _silence(channels, round(voice.offset * rate)),
        _heard(voice, rate, channels),
        _silence(channels, samples),
    )
    left = np.zeros((channels, 0), np.float32)
    for start in range(0, samples, BLOCK_SAMPLES):
        size = min(BLOCK_SAMPLES, samples - start)
        held = [left]
        while sum(part.shape[1] for part in held) < size:
            held.append(next(parts))
        joined = np.concatenate(held, axis=1)
        left = joined[:, size:]
        yield joined[:, :size]


def _silence(channels: int, samples: int) -> Iterator[Samples]:
    for start in range(0, samples, BLOCK_SAMPLES):
        yield np.zeros((channels, min(BLOCK_SAMPLES, samples - start)), np.float32)


def _heard(voice: Voice, rate: int, channels: int) -> Iterator[Samples]:
    """The voice on so many channels: one, or at least as many as it has."""
    own = voice.sound.channels
    layout = LAYOUTS[1 if own == 1 else max(channels, 2)]
    with _opened(voice.name, voice.path, pcm=voice.sound.pcm) as container:
        for block in _resampled(voice.name, _frames(voice.name, container), rate, layout):
            if channels == 1:
                yield block.mean(axis=0, keepdims=True)
            elif own == 1:
                yield _on_the_front_pair(block, channels)
            else:
                yield block


def _on_the_front_pair(mono: Samples, channels: int) -> Samples:
    """Mono as a stereo set plays it. (swresample would take 3 dB off, or use the centre alone.)"""
    spread = np.zeros((channels, mono.shape[1]), np.float32)
    spread[:2] = mono
    return spread


def _write_wav(
    target: Path,
    blocks: Callable[[], Iterator[Samples]],
    *,
    rate: int,
    channels: int,
    check: Callable[[], None],
) -> None:
    """Write the blocks; if they pass full scale, once more with one gain for all.

    `blocks` makes them anew for the second time: kept, they would take memory as long as they are.
    """

    def watched() -> Iterator[Samples]:
        for block in blocks():
            check()
            yield block

    peak = _write_blocks(target, watched(), rate=rate, channels=channels, gain=1)
    if peak > 1:
        _write_blocks(target, watched(), rate=rate, channels=channels, gain=1 / peak)


def _write_blocks(
    target: Path, blocks: Iterator[Samples], *, rate: int, channels: int, gain: float
) -> float:
    """Write 16 bits of the blocks, made louder by `gain`; returns the peak from before that."""
    peak = 0.0
    with wave.open(str(target), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        for block in blocks:
            beat()
            peak = max(peak, _peak(block))
            whole = np.rint(block.T * (gain * 32768)).clip(-32768, 32767)
            file.writeframes(whole.astype("<i2").tobytes())
    return peak
