"""What was seen of a video on one picture: frames, their brightness, a mouth beside its voice."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from talkinghead.media.contact_sheet import contact_sheet
from talkinghead.media.lip_sync import Mouth

LEAST_WIDTH, HEIGHT, LABEL, MARGIN = 640, 110, 16, 8
LINE_LETTERS, MOST_WORDS = 110, 8  # of the least width; of what is said above
SECONDS_WIDTH = 44  # pixels, of a time beside a line
WHITE, BLACK, GREY, SEAM = "white", "black", "#808080", "#c0c0c0"
RED, BLUE = "#b03030", "#3060b0"


@dataclass(frozen=True)
class Curve:
    """Values of frames in their order, each beside its frame's number; nothing where it is None."""

    frames: Sequence[int]
    values: Sequence[float | None]
    colour: str


@dataclass(frozen=True)
class Chart:
    """Curves over the same frames; `span` is the least and the most, None as each curve has it."""

    label: str
    curves: Sequence[Curve]
    span: tuple[float, float] | None = None


def charts_of(brightness: Sequence[float], mouths: Sequence[Mouth]) -> list[Chart]:
    """The brightness of all frames, 0 to 255, and of each mouth how dark it is beside its voice."""
    shown = Curve(range(len(brightness)), brightness, BLACK)
    charts = [Chart("brightness of the frames, 0 to 255", [shown], (0.0, 255.0))]
    for mouth in mouths:
        sync = mouth.sync
        told = "nothing to be told"
        if sync is not None:
            told = f"the mouth is {sync.lag_frames} frames late, strength {sync.strength:.2f}"
        curves = [
            Curve(mouth.frames, mouth.darkness, RED),
            Curve(mouth.frames, mouth.loudness, BLUE),
        ]
        charts.append(Chart(f"darkness of the mouth (red), the voice (blue): {told}", curves))
    return charts


def draw(
    tiles: Sequence[tuple[str, Image.Image]],
    charts: Sequence[Chart],
    starts: Sequence[int],
    *,
    fps: float,
    words: Sequence[str],
) -> Image.Image:
    """The words, the tiles with their labels, and the charts with a line where a window starts."""
    lines = [line for each in words[:MOST_WORDS] for line in textwrap.wrap(each, LINE_LETTERS)]
    above, first = contact_sheet(tiles), len(lines) * LABEL + MARGIN
    width = max(above.width, LEAST_WIDTH)
    height = first + above.height + len(charts) * (HEIGHT + LABEL)
    sheet = Image.new("RGB", (width, height), WHITE)
    pen = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        pen.text((MARGIN, MARGIN / 2 + number * LABEL), line, fill=BLACK)
    sheet.paste(above, (0, first))
    for number, chart in enumerate(charts):
        top = first + above.height + number * (HEIGHT + LABEL)
        _draw_chart(pen, chart, starts, (width, top), fps)
    return sheet


def _draw_chart(
    pen: ImageDraw.ImageDraw,
    chart: Chart,
    starts: Sequence[int],
    place: tuple[int, int],
    fps: float,
) -> None:
    width, top = place
    pen.text((MARGIN, top), chart.label, fill=BLACK)
    last = max(1, *(curve.frames[-1] for curve in chart.curves if len(curve.frames)), starts[-1])
    bottom = top + LABEL + HEIGHT - MARGIN

    def across(frame: int) -> float:
        return MARGIN + frame / last * (width - 2 * MARGIN)

    said = 0.0  # up to where there are words
    for start in starts:
        at = across(start)
        pen.line([(at, top + LABEL), (at, bottom)], fill=SEAM)
        if start and at > said and at + SECONDS_WIDTH < width:
            pen.text((at + 2, bottom - LABEL), f"{start / fps:.1f} s", fill=GREY)
            said = at + SECONDS_WIDTH
    for curve in chart.curves:
        known = [value for value in curve.values if value is not None]
        low, high = chart.span or (min(known, default=0.0), max(known, default=1.0))
        scale = (HEIGHT - 2 * MARGIN) / ((high - low) or 1.0)
        line: list[tuple[float, float]] = []
        for frame, value, following in zip(
            curve.frames, curve.values, [*curve.frames[1:], math.inf], strict=True
        ):
            if value is not None:
                line.append((across(frame), bottom - (value - low) * scale))
            if value is None or following != frame + 1:  # a gap
                if len(line) > 1:
                    pen.line(line, fill=curve.colour)
                line = []
