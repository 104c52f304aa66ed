"""Where each speaker is, from boxes as text: one line a speaker, four numbers each."""

from __future__ import annotations

import re

import torch

TOKEN_PIXELS = 16  # the model reads a mask at every 16th pixel
MAX_SPEAKERS = 4
ALLOWED = "x0, y0, x1, y1 with 0 <= x0 < x1 and 0 <= y0 < y1"

Box = tuple[float, float, float, float]  # x0, y0, x1, y1


def read_boxes(text: str) -> list[Box]:
    """The boxes, in the order of their lines; empty lines and brackets do not count.

    Raises ValueError, with the line, for what is none, and for none or too many of them.
    """
    lines = [line.strip("[]() \t") for line in text.splitlines()]
    boxes = [_box(line, number) for number, line in enumerate(lines, 1) if line]
    if not 1 <= len(boxes) <= MAX_SPEAKERS:
        raise ValueError(f"there are {len(boxes)} boxes, allowed: 1 to {MAX_SPEAKERS}, one a line")
    return boxes


def box_masks(boxes: list[Box], width: int, height: int) -> torch.Tensor:
    """MASK [speakers + 1, height, width] of 0.0 and 1.0, disjoint; the background is the last.

    Boxes are in pixels of that size, or in fractions of it where all four numbers of one are
    within 0 to 1. Where boxes overlap, the earlier one has the pixels. Raises ValueError for one of
    which nothing is left.
    """
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    free = torch.ones(height, width, dtype=torch.bool)
    masks = []
    for number, box in enumerate(boxes, 1):
        of = (width, height) if all(edge <= 1 for edge in box) else (1, 1)
        x0, y0, x1, y1 = (edge * side for edge, side in zip(box, (*of, *of), strict=True))
        inside = ((y0 <= y) & (y < y1))[:, None] & ((x0 <= x) & (x < x1)) & free
        if not inside[::TOKEN_PIXELS, ::TOKEN_PIXELS].any():
            raise ValueError(f"box {number} is outside of the picture, too small or behind others")
        free &= ~inside
        masks.append(inside)
    if not free[::TOKEN_PIXELS, ::TOKEN_PIXELS].any():
        # In fp16 the model divides 0 by 0 for an empty background, and nobody speaks.
        free[:TOKEN_PIXELS, :TOKEN_PIXELS] = True
        masks = [mask & ~free for mask in masks]
    return torch.stack([*masks, free]).float()


def _box(line: str, number: int) -> Box:
    words = re.split(r"[\s,;]+", line)
    try:
        x0, y0, x1, y1 = (float(word) for word in words)
    except ValueError:
        raise ValueError(f"line {number} is {line!r}, allowed: {ALLOWED}") from None
    if not (0 <= x0 < x1 and 0 <= y0 < y1):
        raise ValueError(f"line {number} is {line!r}, allowed: {ALLOWED}")
    return x0, y0, x1, y1
