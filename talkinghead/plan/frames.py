"""How many frames a sound takes, and which of them are shown at another rate."""

from __future__ import annotations

import math
from fractions import Fraction

from talkinghead.media.rates import exact

MODEL_FPS = 25  # InfiniteTalk and MultiTalk were trained at this rate; another changes the motion
WINDOW_FRAMES = 81  # what the sampler makes at a time


def frames_of(duration: float, fps: float) -> int:
    """Frames that cover the sound to its end."""
    return max(1, math.ceil(round(duration * fps, 6)))


def frames_shown(delivered: int, fps: float, delivered_fps: float) -> int:
    """Frames at `fps` that the delivered ones show: each the one at the middle of its time."""
    return math.floor((delivered - Fraction(1, 2)) * exact(fps) / exact(delivered_fps)) + 1
