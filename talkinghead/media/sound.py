"""The voices: probe them, one speech track for each speaker, and the mix that is delivered.

Everything streams: memory does not grow with length.
"""

from __future__ import annotations

import itertools
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from talkinghead.errors import MediaInvalid, MediaTooLarge
from talkinghead.media.audio_frames import (
    BLOCK_SAMPLES,
    LAYOUTS,
    Piece,
    Samples,
    Tally,
    decodable_tracks,
    decode,
    form_of,
    own_layout,
    peak_of,
    resampled,
    silence,
)
from talkinghead.media.containers import CUT_SECONDS, decoding
from talkinghead.media.heartbeat import beat
from talkinghead.media.matroska import has_damaged_clusters
from talkinghead.media.told_length import (
    bytes_after_wav,
    has_lost_ogg_pages,
    is_ogg,
    is_torn_ogg,
)

SPEECH_RATE_HZ = 16_000  # what wav2vec2 was trained on
AAC_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
SILENCE_PEAK = 1e-3  # -60 dBFS
MAX_WAV_BYTES = 2**32 - 1024
LOUDNESS_SAMPLES = SPEECH_RATE_HZ // 2
QUIET = 10 ** (-35 / 20)  # a voice that stays so far below its loudest is silent
MAX_DAMAGE = 0.1  # of a file's sound: what has lost more is not what was meant to be heard
LEFT_BYTES = SPEECH_RATE_HZ  # so much is half a second and less
ACTIVE_POWER = 10 ** (-12 / 10)  # of the loudest channel's: fainter ones do not count as speaking
MAX_CANCELLED = 0.02  # of the power: where channels cancel out, the mouth would rest
MAX_LOSS_POWER = 10 ** (-6 / 10)  # of the downmix against the loudest channel

Powers: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sound:
    """What decoding one of a file's audio tracks gave. `duration` is in seconds.

    `silent`: no sample reaches -60 dBFS. `pcm`: it is not compressed. `track` is the track's number
    among the file's audio tracks, `downmix` what each channel weighs in what the model hears (the
    same for all if it is empty). `notes` are sentences for the caller.
    """

    duration: float
    rate: int
    channels: int
    silent: bool
    pcm: bool = False
    track: int = 0
    downmix: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Voice:
    """A file that is heard from `offset` seconds on. `name` is the request's field."""

    name: str
    path: Path
    sound: Sound
    offset: float = 0.0


def probe_sound(name: str, source: Path, *, max_seconds: float) -> Sound:
    """Decode a file's sound to learn its true length, whether it is silent, and what it has lost.

    `name` is the request's field. Of several audio tracks it is the default one, but for silent
    ones if another is heard. Decoding stops a second after `max_seconds`: a longer file is seen to
    be too long, and costs no more.

    Raises:
        MediaInvalid: no audio track, nothing in it, over a tenth of it damaged, a rate or number
            of channels that is not taken, or samples that are not finite numbers.
    """
    tracks, default = decodable_tracks(name, source)
    sounds: list[Sound] = []
    fault: MediaInvalid | None = None
    for track in tracks:
        try:
            sounds.append(_probe_track(name, source, track, max_seconds))
        except MediaInvalid as error:
            fault = fault or error
            continue
        if not sounds[-1].silent:
            break
    if not sounds:
        raise fault or MediaInvalid(f"{name}: the file holds no sound")
    taken = next((sound for sound in sounds if not sound.silent), sounds[0])
    if len(tracks) == 1:
        return taken
    why = "the default one" if default == [taken.track] else "the first that is heard"
    which = f"{name}: number {taken.track + 1} of the file's {len(tracks)} audio tracks is used"
    return replace(taken, notes=(f"{which}, {why}", *taken.notes))


def _probe_track(name: str, source: Path, track: int, max_seconds: float) -> Sound:
    tally, samples, peak = Tally(), 0, 0.0
    pieces = decode(name, source, track=track, tally=tally)
    first = next(pieces, None)
    if first is None:
        if tally.fault:
            with decoding(name, "sound"):
                raise tally.fault
        raise MediaInvalid(f"{name}: the file holds no sound")
    rate, channels = form_of(name, first.frame)
    powers, cancelled = np.zeros((channels, channels)), 0.0
    whole = itertools.chain([first], pieces)
    for block in resampled(name, whole, rate, own_layout(first.frame)):
        samples += block.shape[1]
        peak = max(peak, peak_of(block))
        power = (block @ block.T).astype(np.float64)
        powers += power
        cancelled += power.diagonal().max() if _cancels(power) else 0.0
        if samples > (max_seconds + 1) * rate:
            tally.told = None
            break
    duration = samples / rate
    return Sound(
        duration=duration,
        rate=rate,
        channels=channels,
        silent=peak < SILENCE_PEAK,
        pcm=tally.pcm,
        track=track,
        downmix=_downmix(powers, cancelled),
        notes=tuple(_loss_notes(name, source, tally, duration)),
    )


def _loss_notes(name: str, source: Path, tally: Tally, duration: float) -> Iterator[str]:
    """What the caller should know of a file that is not whole.

    Raises:
        MediaInvalid: over a tenth of what is there is damaged.
    """
    damaged = tally.damaged
    if tally.paused and _has_lost_parts(source):
        damaged += tally.paused
    share = damaged / ((tally.decoded + damaged) or 1)
    lost = f"{damaged:.2f} s of the sound ({share:.0%}) are damaged"
    if share > MAX_DAMAGE:
        raise MediaInvalid(f"{name}: {lost}, allowed: {MAX_DAMAGE:.0%}")
    if damaged:
        yield f"{name}: {lost} and left out"
    there = max(duration, tally.decoded + damaged)
    if tally.told and tally.told - there > CUT_SECONDS:
        told = f"{there:.1f} s of the {tally.told:.1f} s of sound that it tells of are there"
        yield f"{name}: the file is not whole: {told}"
    elif (left := bytes_after_wav(source)) > LEFT_BYTES:
        yield f"{name}: {left} bytes after the end of its sound are left out"
    elif tally.told is not None and is_torn_ogg(source):
        yield f"{name}: the file is not whole: it ends in the middle of a page"


def _has_lost_parts(source: Path) -> bool:
    """Whether FFmpeg may have left out what is damaged: then pauses are none."""
    return has_lost_ogg_pages(source) if is_ogg(source) else has_damaged_clusters(source)


def _downmix(powers: Powers, cancelled: float) -> tuple[float, ...]:
    """The channels' weights in what the model hears; none for the mean of all.

    `powers` are the channels' products with one another, summed over the whole file: one set of
    weights for all of it, so that nothing pumps; `cancelled` is the power of where they cancel out.
    It is the mean of the channels that are heard, as loud as the loudest where it would be over
    6 dB fainter; or that one alone if they cancel out, if only at times.
    """
    own = powers.diagonal()
    loudest = own.max(initial=0)
    if not loudest:
        return ()
    weights = _mean_of_heard(own)
    mixed = weights @ powers @ weights
    if _cancels(powers) or cancelled > MAX_CANCELLED * loudest:
        weights = np.eye(len(own))[own.argmax()]
    elif mixed < MAX_LOSS_POWER * loudest:
        weights *= np.sqrt(loudest / mixed)
    is_mean = np.allclose(weights, 1 / len(own))
    return () if is_mean else tuple(map(float, weights))


def _cancels(powers: Powers) -> bool:
    """Whether the channels' mean is far fainter than if they had nothing to do with one another."""
    own = powers.diagonal()
    weights = _mean_of_heard(own)
    return bool(weights @ powers @ weights < np.square(weights) @ own / 4)


def _mean_of_heard(own: Powers) -> Powers:
    """The same weight for each of the channels of these powers that is heard beside the loudest."""
    heard: Powers = (own >= ACTIVE_POWER * own.max(initial=0)).astype(np.float64)
    weights: Powers = heard / heard.sum()
    return weights


def save_speech(voice: Voice | None, target: Path, *, seconds: float, padded_samples: int) -> None:
    """Save what the model hears of one speaker: mono, 16 kHz, 16 bits, `padded_samples` long.

    The voice ends where `seconds` end, its offset counted in; the rest is silence. None is a
    speaker who only listens.

    Raises:
        MediaInvalid: the voice cannot be decoded.
    """
    heard = min(round(seconds * SPEECH_RATE_HZ), padded_samples)
    voices = [] if voice is None else [voice]

    def blocks() -> Iterator[Samples]:
        yield from _mixed(voices, rate=SPEECH_RATE_HZ, channels=1, samples=heard)
        yield from silence(channels=1, samples=padded_samples - heard)

    _write_wav(target, blocks, rate=SPEECH_RATE_HZ, channels=1)


def save_mix(voices: Sequence[Voice], target: Path, *, seconds: float) -> None:
    """Save the sum of the voices as 16-bit WAV of `seconds`, at the best rate and most channels.

    The rate is one that AAC takes. Left and right stay apart; a mono voice, and in a mix of more
    than two channels a stereo one, plays on the front left and right. A sum over full scale is
    turned down as a whole; one voice alone stays as it is.

    Raises:
        MediaInvalid: a voice cannot be decoded.
        MediaTooLarge: they make more sound than a WAV file holds.
    """
    best = max(voice.sound.rate for voice in voices)
    channels = max(voice.sound.channels for voice in voices)
    channels = 8 if channels == 7 else channels  # AAC has no usual name for seven
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
    _write_wav(target, mixed, rate=rate, channels=channels)


def loudest(track: Path) -> float:
    """The RMS of the loudest half second of a speech track of ours; full scale is 1."""
    with wave.open(str(track)) as file:
        samples = file.getnframes()
    return max(map(_rms, _blocks(track, 0, samples)), default=0.0)


def frame_levels(track: Path, *, fps: float, first: int, frames: int) -> list[float]:
    """The RMS of a speech track of ours during each frame from `first` on; full scale is 1."""
    marks = [round((first + index) / fps * SPEECH_RATE_HZ) for index in range(frames + 1)]
    pcm = b"".join(_blocks(track, marks[0], marks[-1] - marks[0]))
    bounds = [2 * (mark - marks[0]) for mark in marks]
    return [_rms(pcm[start:stop]) for start, stop in itertools.pairwise(bounds)]


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


def _mixed(voices: Sequence[Voice], *, rate: int, channels: int, samples: int) -> Iterator[Samples]:
    """The sum of the voices in blocks, `samples` long in all."""
    tracks = [_track(voice, rate, channels, samples) for voice in voices]
    for empty, *parts in zip(silence(channels, samples), *tracks, strict=True):
        yield sum(parts, empty)


def _track(voice: Voice, rate: int, channels: int, samples: int) -> Iterator[Samples]:
    """One voice at its offset, between silence, in blocks as large as those of `silence`."""
    parts = itertools.chain(
        silence(channels, round(voice.offset * rate)),
        _heard(voice, rate, channels),
        silence(channels, samples),
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


def _heard(voice: Voice, rate: int, channels: int) -> Iterator[Samples]:
    """The voice on so many channels: one, or at least as many as it has."""
    sound = voice.sound
    pieces = decode(voice.name, voice.path, track=sound.track, pcm=sound.pcm)
    if channels == 1:
        yield from _downmixed(voice, pieces, rate)
        return
    layout = LAYOUTS[1 if sound.channels == 1 else channels]
    for block in resampled(voice.name, pieces, rate, layout):
        yield _on_the_front_pair(block, channels) if sound.channels == 1 else block


def _downmixed(voice: Voice, pieces: Iterator[Piece], rate: int) -> Iterator[Samples]:
    first = next(pieces, None)
    if first is None:
        return
    weights = np.array(voice.sound.downmix, np.float32)
    whole = itertools.chain([first], pieces)
    for block in resampled(voice.name, whole, rate, own_layout(first.frame)):
        yield weights[None] @ block if len(weights) else block.mean(axis=0, keepdims=True)


def _on_the_front_pair(mono: Samples, channels: int) -> Samples:
    """Mono as a stereo set plays it. (swresample would take 3 dB off, or use the centre alone.)"""
    spread = np.zeros((channels, mono.shape[1]), np.float32)
    spread[:2] = mono
    return spread


def _write_wav(
    target: Path, blocks: Callable[[], Iterator[Samples]], *, rate: int, channels: int
) -> None:
    """Write the blocks; if they pass full scale, once more with one gain for all.

    `blocks` makes them anew for the second time: kept, they would take memory as long as they are.
    """
    peak = _write_blocks(target, blocks(), rate=rate, channels=channels, gain=1)
    if peak > 1:
        _write_blocks(target, blocks(), rate=rate, channels=channels, gain=1 / peak)


def _write_blocks(
    target: Path, blocks: Iterator[Samples], *, rate: int, channels: int, gain: float
) -> float:
    """Write 16 bits of the blocks, made louder by `gain`; returns the peak from before that."""
    peak = 0.0
    with wave.open(str(target), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        for block in blocks:
            beat()
            peak = max(peak, peak_of(block))
            whole = np.rint(block.T * (gain * 32768)).clip(-32768, 32767)
            file.writeframes(whole.astype("<i2").tobytes())
    return peak
