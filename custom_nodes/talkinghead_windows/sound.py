"""All voices as one sound, and how many frames it lasts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
import torchaudio

Track = tuple[torch.Tensor, int]  # [channels, samples] of full scale 1.0, and their rate in Hz


def together(tracks: Sequence[Track]) -> Track:
    """The tracks at once; one alone as it is, several in mono at the highest of their rates.

    They begin together; where they are too loud together, all of it is made quieter.
    """
    if len(tracks) == 1:
        return tracks[0]
    rate = max(own for _, own in tracks)
    voices = [torchaudio.functional.resample(samples.mean(0), own, rate) for samples, own in tracks]
    mix = torch.zeros(max(len(voice) for voice in voices))
    for voice in voices:
        mix[: len(voice)] += voice
    return (mix / max(1.0, float(mix.abs().max())))[None], rate


def frames_of(track: Track, fps: float) -> int:
    """As many frames as the track lasts, a begun one included; at least 1."""
    samples, rate = track
    exact = Fraction(fps).limit_denominator(1001)  # for the step's cents and for NTSC's
    return max(1, math.ceil(Fraction(samples.shape[-1], rate) * exact))
