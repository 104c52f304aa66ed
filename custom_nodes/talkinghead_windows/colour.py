"""Colours that stay those of the reference, however many windows follow one another."""

from __future__ import annotations

import torch

MAX_GAIN = 1.5  # of a channel's contrast: beyond, the picture differs for other reasons


def with_colours_of(reference: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """The images [N, H, W, 3], 0..1, with mean and contrast of the reference [M, H, W, 3].

    Each channel gets one gain and one offset for all images: they do not flicker.
    """
    mean, spread = images.mean((0, 1, 2)), images.std((0, 1, 2))
    wanted_mean, wanted_spread = reference.mean((0, 1, 2)), reference.std((0, 1, 2))
    gain = (wanted_spread / spread.clamp(min=1e-6)).clamp(1 / MAX_GAIN, MAX_GAIN)
    return ((images - mean) * gain + wanted_mean).clamp(0, 1)
