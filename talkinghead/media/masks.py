"""Where each speaker is: one mask per speaker and one for the background, in the rendered frame."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from talkinghead.errors import MediaInvalid, UnsupportedCombination

Box: TypeAlias = tuple[float, float, float, float]  # x0, y0, x1, y1
Region: TypeAlias = Box | Image.Image | None
Masks: TypeAlias = npt.NDArray[np.uint8]
Inside: TypeAlias = npt.NDArray[np.bool_]

TOKEN_PIXELS = 16  # the model reads each mask at every 16th pixel: one per token
STRIP_INSET = 0.1  # as the wrapper's own masks for two speakers
REDUCING_GAP = 2  # what Lanczos gets to do after a quick reduction
MASK_THRESHOLD = 127  # brighter is inside
MAX_ASPECT = 6  # of the widest frame that can be asked for, 1536x256
FRAME_MILLISECONDS = 1000  # of a masks file
ASPECT_TOLERANCE = 0.03  # a mask made at 832x480 still fits a 16:9 picture


@dataclass(frozen=True)
class Framing:
    """How a source picture becomes the rendered one: scaled to cover it, the excess cropped.

    Sizes are in pixels. `cut` says how much of what is cut away lies at the left, and at the top:
    0.5 keeps the middle.
    """

    source_width: int
    source_height: int
    render_width: int
    render_height: int
    cut: tuple[float, float] = (0.5, 0.5)

    @property
    def crop_box(self) -> Box:
        """What is shown, x0 y0 x1 y1, in pixels of the source picture."""
        wide = self.source_width * self.render_height, self.render_width * self.source_height
        if wide[0] > wide[1]:
            width = self.render_width * self.source_height / self.render_height
            x0 = (self.source_width - width) * self.cut[0]
            return x0, 0.0, min(x0 + width, self.source_width), float(self.source_height)
        height = self.render_height * self.source_width / self.render_width
        y0 = (self.source_height - height) * self.cut[1]
        return 0.0, y0, float(self.source_width), min(y0 + height, self.source_height)

    @property
    def reduction(self) -> float:
        """How many pixels of the source picture one of the rendered picture spans."""
        x0, _, x1, _ = self.crop_box
        return (x1 - x0) / self.render_width

    def at(self, x: float, y: float) -> Framing:
        """The same, with what is shown beginning at x and y, in pixels of the source picture."""
        x0, y0, x1, y1 = self.crop_box
        across, down = self.source_width - (x1 - x0), self.source_height - (y1 - y0)
        cut = (x / across if across else 0.5, y / down if down else 0.5)
        return replace(self, cut=(min(max(cut[0], 0.0), 1.0), min(max(cut[1], 0.0), 1.0)))

    def apply(
        self, image: Image.Image, resample: Image.Resampling = Image.Resampling.LANCZOS
    ) -> Image.Image:
        """The image in the rendered size. It shows what the source shows, at any size of its own.

        For a mask give `Image.Resampling.NEAREST`.
        """
        x_scale, y_scale = image.width / self.source_width, image.height / self.source_height
        x0, y0, x1, y1 = self.crop_box
        box = (
            x0 * x_scale,
            y0 * y_scale,
            min(x1 * x_scale, image.width),
            min(y1 * y_scale, image.height),
        )
        return image.resize((self.render_width, self.render_height), resample, box=box)


def in_pixels(box: Box, size: tuple[int, int]) -> Box:
    """A request's box in pixels of a picture of this size: within 0 to 1 it is of fractions."""
    if not all(0 <= edge <= 1 for edge in box):
        return box
    return box[0] * size[0], box[1] * size[1], box[2] * size[0], box[3] * size[1]


def middle_of(box: Box) -> tuple[float, float]:
    """Its x and y."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def check_shape(name: str, what: str, width: int, height: int) -> None:
    """Refuse what cannot be framed. `name` is the request's field, `what` it holds.

    Raises:
        MediaInvalid: less than a token of the model, or a strip.
    """
    shape = f"{name}: the {what} has {width}x{height} pixels, allowed:"
    if min(width, height) < TOKEN_PIXELS:
        raise MediaInvalid(f"{shape} {TOKEN_PIXELS}x{TOKEN_PIXELS} or more")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise MediaInvalid(f"{shape} sides up to {MAX_ASPECT}:1")


def speaker_masks(framing: Framing, regions: Sequence[Region]) -> Masks:
    """[speakers + 1, render height, render width] of 0 and 255: disjoint, and together everything.

    The background comes last. A region is a box (pixels of the source picture, or fractions of it
    when all four are within 0 to 1), a mask image of the source's aspect, or None: then all must
    be None, and the speakers stand in equal strips from left to right. Where regions overlap, the
    earlier speaker keeps the pixels.

    Raises:
        UnsupportedCombination: some speakers have a region and some have none.
        MediaInvalid: a region that nothing is left of, or a mask of another aspect.
    """
    _check_all_or_none(regions)
    inside = np.stack([_inside(framing, regions, index) for index in range(len(regions))])
    taken = _first_come(inside)
    if taken[:, ::TOKEN_PIXELS, ::TOKEN_PIXELS].any(0).all():
        # In fp16 the model divides 0 by 0 for an empty background, and nobody speaks.
        taken[:, :TOKEN_PIXELS, :TOKEN_PIXELS] = False
    for index, region in enumerate(regions):
        if region is not None:
            _check_seen(framing, _field(index, region), region, inside[index], taken[index])
    everything = np.concatenate([taken, ~taken.any(0, keepdims=True)])
    return everything.astype(np.uint8) * 255


def white_part(field: str, mask: Image.Image) -> Box:
    """Where a grey mask is white: x0 y0 x1 y1, as fractions of its sides.

    Raises:
        MediaInvalid: it is white nowhere.
    """
    box = mask.point(lambda value: 255 * (value > MASK_THRESHOLD)).getbbox()
    if box is None:
        raise MediaInvalid(f"{field}: the mask is dark all over, allowed: white on the speaker")
    x0, y0, x1, y1 = box
    return x0 / mask.width, y0 / mask.height, x1 / mask.width, y1 / mask.height


def save_masks(masks: Masks, path: Path) -> None:
    """Save [n, height, width] of 0 and 255 as an animated PNG, which LoadImage reads as a batch.

    It is read exactly by Pillow (ComfyUI up to 0.19) and by PyAV (from 0.20), which of a GIF gives
    white as 0.996, and of one without delays the first frame only. PyAV fails on frames of one bit
    and misreads palettes: hence RGB. Each frame stays for a second, so that people see it in the
    GUI, and no reader has to guess.

    Raises:
        ValueError: a mask is the same as the one before it: Pillow would make one frame of both.
    """
    if any(np.array_equal(one, other) for one, other in itertools.pairwise(masks)):
        raise ValueError("two masks in a row are the same")
    first, *others = [Image.fromarray(mask).convert("RGB") for mask in masks]
    first.save(path, "PNG", save_all=True, append_images=others, duration=FRAME_MILLISECONDS)


def _check_all_or_none(regions: Sequence[Region]) -> None:
    without = [f"speakers.{index}" for index, region in enumerate(regions) if region is None]
    if without and len(without) < len(regions):
        verb = "has" if len(without) == 1 else "have"
        raise UnsupportedCombination(
            f"{' and '.join(without)} {verb} neither box nor mask_url, and others do: "
            "give one for every speaker, or for none"
        )


def _inside(framing: Framing, regions: Sequence[Region], index: int) -> Inside:
    region = regions[index]
    if region is None:
        return _strip(framing, index, len(regions))
    if isinstance(region, Image.Image):
        return _inside_mask(framing, _field(index, region), region)
    return inside_box(framing, region)


def _field(index: int, region: Region) -> str:
    return f"speakers.{index}.{'mask_url' if isinstance(region, Image.Image) else 'box'}"


def _strip(framing: Framing, index: int, count: int) -> Inside:
    width, height = framing.render_width / count, framing.render_height
    x, y = np.arange(framing.render_width) + 0.5, np.arange(framing.render_height) + 0.5
    columns = _between(x, (index + STRIP_INSET) * width, (index + 1 - STRIP_INSET) * width)
    rows = _between(y, STRIP_INSET * height, (1 - STRIP_INSET) * height)
    return rows[:, None] & columns


def inside_box(framing: Framing, box: Box) -> Inside:
    """The rendered pixels whose middle is inside of the box."""
    box = in_pixels(box, (framing.source_width, framing.source_height))
    x0, y0, x1, y1 = framing.crop_box
    x = x0 + (np.arange(framing.render_width) + 0.5) * (x1 - x0) / framing.render_width
    y = y0 + (np.arange(framing.render_height) + 0.5) * (y1 - y0) / framing.render_height
    return _between(y, box[1], box[3])[:, None] & _between(x, box[0], box[2])


def _between(values: npt.NDArray[np.floating], low: float, high: float) -> Inside:
    return (low <= values) & (values < high)


def _inside_mask(framing: Framing, field: str, image: Image.Image) -> Inside:
    mask = image.convert("L")
    aspect = (mask.width * framing.source_height) / (mask.height * framing.source_width)
    if abs(aspect - 1) > ASPECT_TOLERANCE:
        raise MediaInvalid(
            f"{field}: the mask has {mask.width}x{mask.height} pixels, allowed: the shape of the "
            f"source picture, {framing.source_width}x{framing.source_height}"
        )
    white_part(field, mask)
    return np.asarray(framing.apply(mask, Image.Resampling.NEAREST)) > MASK_THRESHOLD


def _first_come(inside: Inside) -> Inside:
    before = np.logical_or.accumulate(inside, axis=0)
    before = np.concatenate([np.zeros_like(inside[:1]), before[:-1]])
    return inside & ~before


def _is_beyond(framing: Framing, box: Box) -> bool:
    return box[0] >= framing.source_width or box[1] >= framing.source_height


def _check_seen(
    framing: Framing, field: str, region: Box | Image.Image, inside: Inside, taken: Inside
) -> None:
    if not inside.any():
        if not isinstance(region, Image.Image) and _is_beyond(framing, region):
            size = f"{framing.source_width}x{framing.source_height}"
            raise MediaInvalid(f"{field}: lies outside of the picture, which has {size} pixels")
        x0, y0, x1, y1 = (round(edge) for edge in framing.crop_box)
        raise MediaInvalid(
            f"{field}: lies outside of what is shown, which is x {x0} to {x1} and y {y0} to {y1} "
            "in pixels of the source picture"
        )
    if not taken.any():
        raise MediaInvalid(f"{field}: lies wholly behind the speakers before it")
    if not taken[::TOKEN_PIXELS, ::TOKEN_PIXELS].any():
        size = f"{TOKEN_PIXELS}x{TOKEN_PIXELS}"
        raise MediaInvalid(f"{field}: too small to be seen, allowed: {size} rendered pixels")
