"""Frame rates."""

from __future__ import annotations

from fractions import Fraction


def exact(fps: float | Fraction) -> Fraction:
    """Frames a second as a fraction: exact for the usual rates, NTSC's too."""
    return Fraction(fps).limit_denominator(1001)
