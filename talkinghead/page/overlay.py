"""What is drawn over the picture: who was found, who speaks which voice, and boxes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from talkinghead.page.asked import Asked, Voice
from talkinghead.page.words import role, speaker_number

COLOURS = ("#ffb000", "#42b4ff", "#ff6fb5", "#5ee08a")  # of the voices, bright on any picture
STILL = "#e0e0e0"
LETTERS_A_SIDE = 34  # lines of a label's height that the picture's longer side would hold

Corners = Sequence[float]


def overlay(
    asked: Asked,
    found: Sequence[Mapping[str, Any]],
    drawing: Voice | None = None,
    pulled: Corners | None = None,
) -> str:
    """SVG in pixels of the preview.

    Args:
        found: `speakers_found` of the plan.
        drawing: whose box is being drawn.
        pulled: that box as far as it is drawn, in the preview's pixels.
    """
    if asked.source is None:
        return ""
    preview = asked.source.preview
    scale = 1 / preview.scale
    size = preview.width * scale, preview.height * scale
    boxes = {index: voice.box for index, voice in enumerate(asked.voices) if voice.box}
    shapes: list[str] = []
    for person in found:
        alone = drawing is not None or speaker_number(person) in boxes
        words = "" if alone else role(person, found)
        shapes += _person(person, words, scale, max(size))
    for index, box in boxes.items():
        corners = [edge * scale for edge in box.corners()]
        colour = COLOURS[index]
        shapes += [_rect(corners, colour), _tag(f"voice {index + 1}", corners, colour, max(size))]
    if drawing is not None and pulled is not None:
        shapes.append(_rect(pulled, COLOURS[asked.voices.index(drawing)], dashed=True))
    return "".join(shapes)


def _person(person: Mapping[str, Any], words: str, scale: float, side: float) -> Iterator[str]:
    """The face, and with words these and, dashed, the region that moves with the voice."""
    who = speaker_number(person)
    colour = STILL if who is None else COLOURS[who]
    face, region = (
        place and [edge * scale for edge in place] for place in (person["face"], person["box"])
    )
    if face:
        yield _rect(face, colour)
    if region and words:
        yield _rect(region, colour, dashed=True)
    if words and (place := face or region):
        yield _tag(words, place, colour, side)


def _rect(corners: Corners, colour: str, *, dashed: bool = False) -> str:
    x0, y0, x1, y1 = corners
    place = f'x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}"'
    dashes = ' stroke-dasharray="7 5"' if dashed else ""
    common = f'<rect {place} fill="none" vector-effect="non-scaling-stroke"'
    under = f'{common} stroke="#000" stroke-opacity="0.6" stroke-width="5"/>'
    return f'{under}{common} stroke="{colour}" stroke-width="3"{dashes}/>'


def _tag(words: str, corners: Corners, colour: str, side: float) -> str:
    """A label above a place, or within it at the picture's upper edge."""
    size = side / LETTERS_A_SIDE
    x, top = corners[0], max(corners[1] - size * 1.3, 0)
    return (
        f'<rect x="{x:.1f}" y="{top:.1f}" width="{len(words) * size * 0.58 + size * 0.5:.1f}" '
        f'height="{size * 1.3:.1f}" fill="{colour}"/><text x="{x + size * 0.25:.1f}" '
        f'y="{top + size:.1f}" font-size="{size:.1f}" font-weight="600" fill="#000">{words}</text>'
    )
