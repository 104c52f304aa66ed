"""How far one video's picture is from another's: PSNR and SSIM of the brightness."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from talkinghead.media.looking import BLACK, LEVELS, frames_of, luma_of

Levels: TypeAlias = npt.NDArray[np.float32]  # [height, width], 0 to 255

# As Wang and others defined it (2004): a Gaussian of 11 pixels, and constants against zeros.
WINDOW, SIGMA = (11, 11), 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


@dataclass(frozen=True)
class Distance:
    """Over all frames: PSNR in dB, None of equal frames, and the mean SSIM, 1 of equal ones."""

    psnr_db: float | None
    ssim: float


def distance(one: Path, other: Path) -> Distance | None:
    """How far apart two videos of ours are; None if they differ in size or number of frames."""
    errors, likenesses = [], []
    try:
        for ours, theirs in zip(frames_of(one), frames_of(other), strict=True):
            a, b = _levels(luma_of(ours)), _levels(luma_of(theirs))
            if a.shape != b.shape:
                return None
            errors.append(float(np.mean((a - b) ** 2)))
            likenesses.append(ssim(a, b))
    except ValueError:  # one ends before the other
        return None
    if not errors:
        return None
    error = float(np.mean(errors))
    psnr = 10 * float(np.log10(255**2 / error)) if error else None
    return Distance(psnr, float(np.mean(likenesses)))


def ssim(a: Levels, b: Levels) -> float:
    """The mean structural similarity of two pictures."""
    mean_a, mean_b = _blurred(a), _blurred(b)
    var_a = _blurred(a * a) - mean_a**2
    var_b = _blurred(b * b) - mean_b**2
    both = _blurred(a * b) - mean_a * mean_b
    above = (2 * mean_a * mean_b + C1) * (2 * both + C2)
    below = (mean_a**2 + mean_b**2 + C1) * (var_a + var_b + C2)
    return float(np.mean(above / below))


def _levels(luma: npt.NDArray[np.uint8]) -> Levels:
    return (luma.astype(np.float32) - BLACK) * np.float32(LEVELS)


def _blurred(picture: Levels) -> Levels:
    return np.asarray(cv2.GaussianBlur(picture, WINDOW, SIGMA), np.float32)
