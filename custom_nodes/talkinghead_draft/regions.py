"""Where each speaker is in the picture: their masks or, without masks, strips of equal width."""

from __future__ import annotations

import cv2
import numpy as np

from .face import Mask, Plane


def speaker_regions(masks: Plane | None, num_speakers: int, height: int, width: int) -> list[Mask]:
    """One region [height, width] per speaker, from the left where no masks say otherwise.

    `masks` [masks, H, W] are the speakers' in their order; more, such as the background's, are
    left over. Inside is over 0.5. Raises ValueError for fewer masks than speakers.
    """
    if masks is None:
        return _strips(num_speakers, height, width)
    if len(masks) < num_speakers:
        raise ValueError(f"{num_speakers} speakers need a mask each, and there are {len(masks)}")
    return [_fitted(mask, height, width) > 0.5 for mask in masks[:num_speakers]]


def _strips(count: int, height: int, width: int) -> list[Mask]:
    strip = np.arange(width) * count // width
    return [np.repeat((strip == each)[np.newaxis], height, axis=0) for each in range(count)]


def _fitted(mask: Plane, height: int, width: int) -> Plane:
    if mask.shape == (height, width):
        return mask
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST))
