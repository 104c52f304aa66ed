"""A contact sheet: small pictures of a video side by side, each with its words."""

from __future__ import annotations

from collections.abc import Sequence

from av.video.frame import VideoFrame
from PIL import Image, ImageDraw

TILE_SIDE = 160  # pixels, of a tile's longer side
LABEL_HEIGHT = 14  # of Pillow's own font
COLUMNS = 6
GAP = 6  # pixels, about each tile: two that are alike are still two


def tile(frame: VideoFrame | Image.Image, side: int = TILE_SIDE) -> Image.Image:
    """A small picture of a frame, its longer side that of a tile."""
    scale = side / max(frame.width, frame.height)
    width, height = (max(2, round(side * scale)) for side in (frame.width, frame.height))
    if isinstance(frame, Image.Image):
        return frame.convert("RGB").resize((width, height), reducing_gap=2)
    return Image.fromarray(frame.reformat(width=width, height=height, format="rgb24").to_ndarray())


def contact_sheet(tiles: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """The tiles in rows, each below its words; there is one at least."""
    width = max(picture.width for _, picture in tiles) + GAP
    height = max(picture.height for _, picture in tiles) + LABEL_HEIGHT + GAP
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (width * min(COLUMNS, len(tiles)) + GAP, height * rows), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (words, picture) in enumerate(tiles):
        left, top = index % COLUMNS * width + GAP, index // COLUMNS * height
        draw.text((left, top + 1), words, fill="black")
        sheet.paste(picture, (left, top + LABEL_HEIGHT))
    return sheet
