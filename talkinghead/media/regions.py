"""The masks file of a job: from the boxes and pictures that say who is where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from talkinghead.media.masks import Box, Framing, Masks, save_masks, speaker_masks, white_part
from talkinghead.media.picture import open_mask


def mask_box(field: str, source: Path, *, max_megapixels: float) -> Box:
    """Where the picture behind a mask_url is white, as fractions of its sides.

    Raises:
        MediaInvalid, MediaTooLarge: it is no picture, or white nowhere.
    """
    return white_part(field, open_mask(field, source, max_megapixels=max_megapixels))


def save_regions(
    regions: Sequence[tuple[str, Path | Box | None]],
    framing: Framing,
    target: Path,
    *,
    max_megapixels: float,
) -> None:
    """Save a mask for each speaker and one for the background, as `save_masks` does.

    Each region comes with the request's field; a path is that of a picture behind a mask_url.

    Raises:
        UnsupportedCombination: some speakers have a region and some have none.
        MediaInvalid, MediaTooLarge: a picture is none, or does not suit the source picture.
    """
    save_masks(_masks(regions, framing, max_megapixels), target)


def save_inside(
    regions: Sequence[tuple[str, Path | Box | None]],
    framing: Framing,
    target: Path,
    *,
    max_megapixels: float,
) -> None:
    """Save one picture in the rendered size that is white wherever a speaker is.

    It takes and raises what `save_regions` does.
    """
    *speakers, _ = _masks(regions, framing, max_megapixels)
    Image.fromarray(np.max(speakers, axis=0)).save(target)


def _masks(
    regions: Sequence[tuple[str, Path | Box | None]], framing: Framing, max_megapixels: float
) -> Masks:
    opened = [
        open_mask(field, region, max_megapixels=max_megapixels)
        if isinstance(region, Path)
        else region
        for field, region in regions
    ]
    return speaker_masks(framing, opened)
