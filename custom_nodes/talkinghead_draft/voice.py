"""How a voice moves the mouth: loudness opens it, the colour of the sound widens or rounds it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
Track = npt.NDArray[np.floating[Any]]

WINDOW_SECONDS = 0.05  # two to ten periods of a voice
SILENCE_DB = -66.0  # of full scale: quieter than any recording of speech that was meant to be heard
LOUD_PERCENTILE = 92
RANGE_DB = 24.0  # from the loudest vowels down to what no longer opens the mouth
OPENING_SECONDS, CLOSING_SECONDS = 0.08, 0.14  # a jaw's full way; slower looks sleepy, faster flaps
SPEECH_BAND_HZ = (120.0, 4500.0)
COLOUR_OCTAVES = 0.9  # from a usual vowel to "ee" or "s" on one side, "oo" on the other


@dataclass(frozen=True)
class Motion:
    """One value per video frame: `openness` 0 (at rest) to 1, `width` -1 (round) to 1 (wide)."""

    openness: Track
    width: Track


def at_rest(num_frames: int) -> Motion:
    """The motion of someone who only listens."""
    return Motion(np.zeros(num_frames), np.zeros(num_frames))


def mouth_motion(samples: Samples, sample_rate: int, num_frames: int, fps: Fraction) -> Motion:
    """The mouth's motion for a voice [channels, samples] of full scale 1.0.

    Both tracks are exactly 0 where the voice is silent, after the mouth had time to close.
    """
    level_db, centre_hz = _measure(samples, sample_rate, num_frames, fps)
    gate_db = _gate_db(level_db)
    openness = _ramped(_opening(level_db, gate_db), float(fps))
    colour = _smooth(_colour(centre_hz, level_db > gate_db), float(fps))
    width = colour * np.minimum(1, 4 * openness)  # it fades as the mouth closes
    openness *= 1 - 0.3 * np.maximum(width, 0)
    return Motion(openness.astype(np.float32), width.astype(np.float32))


def _measure(
    samples: Samples, sample_rate: int, num_frames: int, fps: Fraction
) -> tuple[Track, Track]:
    """Level (dB of full scale) and spectral centre (Hz) around the middle of each frame."""
    window = max(16, round(WINDOW_SECONDS * sample_rate))
    taper = np.hanning(window).astype(np.float32)
    hertz = np.fft.rfftfreq(window, 1 / sample_rate)
    band = (hertz >= SPEECH_BAND_HZ[0]) & (hertz <= SPEECH_BAND_HZ[1])
    level, centre = np.full(num_frames, -np.inf), np.zeros(num_frames)
    for frame in range(num_frames):
        start = int((frame + Fraction(1, 2)) * sample_rate / fps) - window // 2
        part = samples[:, max(0, start) : max(0, start + window)].mean(axis=0)
        if not part.any():
            continue
        power = np.abs(np.fft.rfft(part * taper[: len(part)], window)) ** 2 * band
        total = power.sum()
        level[frame] = 10 * np.log10(total / (window * (taper @ taper)) * 2 + 1e-12)
        centre[frame] = (power @ hertz) / max(total, 1e-12)
    return level, centre


def _gate_db(level_db: Track) -> float:
    """The level under which this clip's mouth stays shut; infinite for a silent clip."""
    peak = level_db.max()
    if peak < SILENCE_DB:
        return math.inf
    heard = level_db[level_db > peak - 2 * RANGE_DB]
    return float(np.percentile(heard, LOUD_PERCENTILE)) - RANGE_DB


def _opening(level_db: Track, gate_db: float) -> Track:
    """The level between the gate (0) and the clip's own loud vowels (1)."""
    return np.asarray(np.clip((level_db - gate_db) / RANGE_DB, 0, 1) ** 1.4)


def _colour(centre_hz: Track, voiced: npt.NDArray[np.bool_]) -> Track:
    """From dark (-1) to bright (1) against the clip's own usual sound; 0 where it is silent."""
    if not voiced.any():
        return np.zeros_like(centre_hz)
    octave = np.log2(np.maximum(centre_hz, 50))
    usual = np.median(octave[voiced])
    return np.where(voiced, np.clip((octave - usual) / COLOUR_OCTAVES, -1, 1), 0)


def _ramped(target: Track, fps: float) -> Track:
    """The target followed by a jaw of limited speed; it closes fully, unlike with a decay."""
    up, down = 1 / (OPENING_SECONDS * fps), 1 / (CLOSING_SECONDS * fps)
    followed, now = np.empty_like(target), 0.0
    for frame, goal in enumerate(target):
        now += min(max(goal - now, -down), up)
        followed[frame] = now
    return followed


def _smooth(track: Track, fps: float) -> Track:
    """A centred mean over a tenth of a second."""
    reach = round(0.05 * fps)
    kernel = np.ones(2 * reach + 1) / (2 * reach + 1)
    return np.convolve(np.pad(track, reach, mode="edge"), kernel, mode="valid")


def mixed(voices: Sequence[tuple[Samples, int]]) -> tuple[Samples, int]:
    """The voices at once, each with its rate in Hz; one alone as it is, several in mono.

    They begin together, and get the rate of the first; where they are too loud together, all of it
    is made quieter.
    """
    first, rate = voices[0]
    if len(voices) == 1:
        return first, rate
    tracks = [_at_rate(samples.mean(axis=0), own, rate) for samples, own in voices]
    mix = np.zeros(max(len(track) for track in tracks), np.float32)
    for track in tracks:
        mix[: len(track)] += track
    return (mix / max(1.0, float(np.abs(mix).max(initial=0.0))))[None], rate


def _at_rate(track: Samples, rate: int, wanted: int) -> Samples:
    if rate == wanted:
        return track
    count = round(len(track) * wanted / rate)
    times = np.arange(count) * (rate / wanted)
    return np.asarray(np.interp(times, np.arange(len(track)), track), np.float32)
