"""The video's size, and which part of the source it shows: all that is needed of who speaks. Pure.

The crop moves away from the middle as little as it has to. Where no crop of the asked shape holds
everybody, that is said before anything is rendered.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from talkinghead.errors import UnsupportedCombination
from talkinghead.media.masks import TOKEN_PIXELS, Box, Framing
from talkinghead.plan.fields import MAX_SIDE, MIN_SIDE, Crop
from talkinghead.plan.mistakes import Problem
from talkinghead.plan.people import People
from talkinghead.plan.request import SIZES, RenderRequest, invalid

SIZE_MULTIPLE = 16  # the VAE divides by 8, the transformer's patches by 2
SAME_SHAPE = 0.02  # of 1366x768 and 16:9
LEAST_HELD, WHOLE = 0.6, 0.98  # of a face: a speaker is lost with less; cut with less
# Of the width or height of a source in which not everybody was found: with several people each has
# a part of it, unless told a place.
MOST_CUT, MOST_CUT_OF_SEVERAL = 0.5, 0.25
# A head is wider and higher than the face that is found of it, by so much of the face: at each
# side, above. Of several people's heads that much has to be seen, where no size is asked for.
HEAD, LEAST_OF_HEADS = (0.3, 0.35), 0.9
# Kept around a face where there is room: to the left, above, to the right, below, in its own size.
ROOM = (0.6, 0.7, 0.6, 0.9)
# Of what is cut away, the share at the left and at the top.
CUTS: Mapping[Crop, tuple[float, float]] = {
    "faces": (0.5, 0.5),
    "center": (0.5, 0.5),
    "top": (0.5, 0.0),
    "bottom": (0.5, 1.0),
    "left": (0.0, 0.5),
    "right": (1.0, 0.5),
}


@dataclass(frozen=True)
class Framed:
    """The size of the video, how its source becomes it, and what to warn of."""

    width: int
    height: int
    framing: Framing
    notes: tuple[str, ...] = ()


def frame(
    request: RenderRequest, people: People, source: tuple[int, int], *, cropped: bool
) -> Framed:
    """Decide size and crop. `cropped`: the rendered frame is on the model's grid, then cropped.

    Raises:
        InvalidRequest: a side alone, whose other side would be no possible one.
        UnsupportedCombination: a speaker would not be in a frame of the size that is asked for.
    """
    size = _size(request, source)
    framing = _framing(request, people, source, size, cropped=cropped)
    lost = _lost(request, framing, people)
    fault = f"leave out {lost}" if lost else _cut_heads(request, framing, people)
    if not fault or request.crop != "faces" or (request.size_is_named and not lost):
        return Framed(*size, framing, tuple(_cut_notes(request, framing, people)))
    if request.size_is_named:
        raise UnsupportedCombination(_refusal(request, people, source, framing))
    old, size = size, like_source(source, request.resolution or "480p")
    framing = _framing(request, people, source, size, cropped=cropped)
    shapes = f"{size[0]}x{size[1]}, the source's shape, is rendered instead of {old[0]}x{old[1]}"
    note = f"{shapes}: that would {fault}; aspect_ratio or width and height say otherwise"
    return Framed(*size, framing, (note, *_cut_notes(request, framing, people)))


def like_source(source: tuple[int, int], resolution: str) -> tuple[int, int]:
    """A size of the source's shape on the model's grid, of no more pixels than the resolution."""
    shape = source[0] / source[1]
    for (name, each), size in SIZES.items():
        across, down = (int(side) for side in name.split(":"))
        if each == resolution and abs(shape * down / across - 1) < SAME_SHAPE:
            return size
    pixels = math.prod(SIZES["16:9", resolution])
    width, height = math.sqrt(pixels * shape), math.sqrt(pixels / shape)
    sizes = itertools.product(_near(width), _near(height))
    fitting = [(across, down) for across, down in sizes if across * down <= pixels]

    def unlike(size: tuple[int, int]) -> tuple[float, int]:
        return round(abs(math.log(size[0] / size[1] / shape)), 2), -size[0] * size[1]

    return min(fitting, key=unlike)


def in_sight(request: RenderRequest, people: People, framing: Framing) -> People:
    """The people, with regions that can be masks: those of faces, if the frame shows too little.

    What the request says of where somebody is stays, and is refused where it has to be.
    """
    if any(speaker.box or speaker.mask_url for speaker in request.speakers):
        return people
    x0, y0, x1, y1 = framing.crop_box
    for person in people.speakers:
        if region := person.region:
            across = min(region[2], x1) - max(region[0], x0)
            down = min(region[3], y1) - max(region[1], y0)
            # Of twice its size, a token lies in it for sure.
            if min(across, down) / framing.reduction < 2 * TOKEN_PIXELS:
                if len(request.speakers) == 1:  # what is cut away of it is told already
                    return people.without_regions()
                return people.without_regions(
                    f"too little of {person.field} is in the frame: the speakers are taken to "
                    "stand in equal strips from left to right"
                )
    return people


def _size(request: RenderRequest, source: tuple[int, int]) -> tuple[int, int]:
    width, height = request.width, request.height
    if width is None and height is None:
        return like_source(source, request.resolution or "480p")
    if width is None:
        assert height is not None
        width = _other_side("height", height, source[0] / source[1], source)
    if height is None:
        height = _other_side("width", width, source[1] / source[0], source)
    return width - width % 2, height - height % 2  # H.264 video has even sizes


def _other_side(field: str, side: int, times: float, source: tuple[int, int]) -> int:
    """The side that follows from the one that is given, `times` as long, on the model's grid."""
    sides = range(MIN_SIDE, MAX_SIDE + 1)
    others = {each: round(each * times / SIZE_MULTIPLE) * SIZE_MULTIPLE for each in sides}
    if others[side] not in sides:
        possible = [each for each, other in others.items() if other in sides]
        allowed = f"{possible[0]} to {possible[-1]}"
        message = (
            f"{field} is {side}, allowed: {allowed} for the shape of the source, "
            f"{source[0]}x{source[1]}; for another one give width and height"
        )
        raise invalid([Problem(field, message, side, allowed)])
    return others[side]


def _near(side: float) -> tuple[int, ...]:
    below = int(side) // SIZE_MULTIPLE * SIZE_MULTIPLE
    return tuple(_within(below + steps * SIZE_MULTIPLE) for steps in (-1, 0, 1))


def _within(side: int) -> int:
    return min(max(side, MIN_SIDE), MAX_SIDE)


def _framing(
    request: RenderRequest,
    people: People,
    source: tuple[int, int],
    size: tuple[int, int],
    *,
    cropped: bool,
) -> Framing:
    width, height = (_round_up(side) for side in size) if cropped else size
    framing = Framing(*source, width, height, CUTS[request.crop])
    return _moved(request, framing, people) if request.crop == "faces" else framing


def _round_up(size: int) -> int:
    return -size % SIZE_MULTIPLE + size


def _moved(request: RenderRequest, framing: Framing, people: People) -> Framing:
    """The framing, as little away from the middle as the faces, or their boxes, ask for."""
    held = [box for _, box in _targets(request, people)] or list(people.faces)
    if not held:
        return framing
    faces = set(people.faces)
    roomy = [_with_room(box) if box in faces else box for box in held]
    x0, y0, x1, y1 = framing.crop_box
    places = []
    for axis, shown in enumerate([(x0, x1), (y0, y1)]):
        whole = (framing.source_width, framing.source_height)[axis]
        places.append(_place(shown, whole, [_span(boxes, axis, whole) for boxes in (roomy, held)]))
    return framing.at(*places)


def _span(boxes: Sequence[Box], axis: int, whole: int) -> tuple[float, float]:
    """From where to where the boxes reach, within the picture."""
    low, high = min(box[axis] for box in boxes), max(box[axis + 2] for box in boxes)
    return max(0.0, low), min(float(whole), high)


def _place(shown: tuple[float, float], whole: int, spans: Sequence[tuple[float, float]]) -> float:
    """Where a crop begins that holds the first of the spans that it can, moved as little as needed.

    Of what it cannot hold, the middle.
    """
    start, length = shown[0], shown[1] - shown[0]
    for low, high in spans:
        if high - low <= length:
            return min(max(start, high - length), low)
    return min(max((low + high - length) / 2, 0.0), whole - length)


def _with_room(face: Box) -> Box:
    width, height = face[2] - face[0], face[3] - face[1]
    left, above, right, below = ROOM
    x0, y0 = face[0] - left * width, face[1] - above * height
    return x0, y0, face[2] + right * width, face[3] + below * height


def _targets(request: RenderRequest, people: People) -> Iterator[tuple[str, Box]]:
    """What must be in the frame: each speaker's face, box or mask, with words for it."""
    masked = {speaker.field for speaker in request.speakers if speaker.mask_url}
    for person in people.speakers:
        if person.face:
            yield f"the face of {person.field}", person.face
        elif person.region:
            place = "mask" if person.field in masked else "box"
            yield f"the {place} of {person.field}", person.region


def held(framing: Framing, box: Box) -> float:
    """How much of a box of the source is in the frame, 0 to 1; all, where none is in the source."""
    shown = framing.crop_box
    width, height = float(framing.source_width), float(framing.source_height)
    box = max(0.0, box[0]), max(0.0, box[1]), min(box[2], width), min(box[3], height)
    across = min(box[2], shown[2]) - max(box[0], shown[0])
    down = min(box[3], shown[3]) - max(box[1], shown[1])
    area = max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])
    return max(0.0, across) * max(0.0, down) / area if area > 0 else 1.0


def _lost(request: RenderRequest, framing: Framing, people: People) -> str:
    """Whom a frame leaves out, in words; nothing if nobody."""
    shares = [(what, held(framing, box)) for what, box in _targets(request, people)]
    return " and ".join(
        f"{_left_out(each)} of {what}" for what, each in shares if each < LEAST_HELD
    )


def _cut_heads(request: RenderRequest, framing: Framing, people: People) -> str:
    """Of several speakers, whose heads a frame cuts, in words; nothing if nobody's.

    One alone fills the frame as a close-up.
    """
    across, above = HEAD
    cut = []
    for person in people.speakers if len(request.speakers) > 1 else ():
        if person.field and (face := person.face):
            x0, y0, x1, y1 = face
            head = x0 - across * (x1 - x0), y0 - above * (y1 - y0), x1 + across * (x1 - x0), y1
            if held(framing, head) < LEAST_OF_HEADS:
                cut.append(person.field)
    return f"cut the head of {' and of '.join(cut)}" if cut else ""


def _left_out(share: float) -> str:
    return "all" if share == 0 else f"{100 - math.floor(100 * share)} %"


def _cut_notes(request: RenderRequest, framing: Framing, people: People) -> Iterator[str]:
    targets = list(_targets(request, people))
    if len(targets) < len(request.speakers):
        yield from _blind_notes(request, framing, people)
    for what, box in targets:
        if (share := held(framing, box)) < WHOLE:
            instead = 'crop "faces" or another' if request.crop != "faces" else "another"
            yield f"{_left_out(share)} of {what} is cut away: {instead} aspect_ratio shows more"


def _blind_notes(request: RenderRequest, framing: Framing, people: People) -> Iterator[str]:
    """Who stands at the side of a picture whose sides are cut away is not in the video."""
    source, (x0, y0, x1, y1) = (framing.source_width, framing.source_height), framing.crop_box
    shares = ("width", 1 - (x1 - x0) / source[0]), ("height", 1 - (y1 - y0) / source[1])
    side, cut = max(shares, key=lambda each: each[1])
    several = len(request.speakers) > 1
    who = ", and who is there with it" if several else ""
    if several and people.faces and all(held(framing, face) >= WHOLE for face in people.faces):
        who = ", and perhaps who was not found"
    if cut > (MOST_CUT_OF_SEVERAL if several else MOST_CUT):
        yield (
            f"{request.picture_field}: {cut:.0%} of its {side} is cut away{who}: "
            f"it has {source[0]}x{source[1]}; "
            'aspect_ratio "auto" shows all of it'
        )


def _refusal(
    request: RenderRequest, people: People, source: tuple[int, int], framing: Framing
) -> str:
    width, height = request.width, request.height
    asked = f"{width}x{height}" if width and height else "the size"
    instead = " instead of width and height"
    if request.aspect_ratio:
        asked, instead = f'aspect_ratio "{request.aspect_ratio}"', ""
    return (
        f"{asked} would leave out {_lost(request, framing, people)}: "
        f'give aspect_ratio "{_aspect_for_all(request, people, source)}"{instead}, which holds '
        'everybody, or crop "center" to have it as it is'
    )


def _aspect_for_all(request: RenderRequest, people: People, source: tuple[int, int]) -> str:
    """The named shape that shows every speaker; if there is none, the source's own."""
    for (name, resolution), size in SIZES.items():
        if resolution == "480p":
            framing = _framing(request, people, source, size, cropped=True)
            if all(held(framing, box) >= WHOLE for _, box in _targets(request, people)):
                return name
    return "auto"
