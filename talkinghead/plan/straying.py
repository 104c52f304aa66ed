"""Who walks away: speakers whose faces are elsewhere later in the video. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from talkinghead.media.masks import Box, Framing, middle_of
from talkinghead.media.source_video import SourceVideo
from talkinghead.plan.framing import LEAST_HELD, held
from talkinghead.plan.people import People
from talkinghead.plan.request import RenderRequest


@dataclass(frozen=True)
class Stray:
    """A speaker's face that is out of its region, or of the frame, at that second.

    `field` is the speaker's in the request.
    """

    field: str
    second: float
    of_region: bool


def strays_of(
    request: RenderRequest, people: People, video: SourceVideo, framing: Framing
) -> tuple[Stray, ...]:
    """Each speaker's first moment out of the frame, and out of the region if that matters.

    Nobody is recognised: a face is that of whom it is nearest to. Where there is none, somebody may
    only have turned away.
    """
    strays: dict[tuple[str, bool], Stray] = {}
    regions = {person.field: person.region for person in people.speakers}
    places = {
        person.field or f"another {number}": person.face
        for number, person in enumerate(people.everybody)
        if person.face
    }
    for second, faces in video.faces_later:
        now = dict(_followed(places, faces))
        places |= now
        for field, face in now.items():
            if field not in regions:
                continue
            region = regions[field]
            if held(framing, face) < LEAST_HELD:
                strays.setdefault((field, False), Stray(field, second, False))
            if region and _matters(request) and not _holds(region, middle_of(face)):
                strays.setdefault((field, True), Stray(field, second, True))
    return tuple(strays.values())


def stray_notes(request: RenderRequest, strays: Sequence[Stray]) -> Iterator[str]:
    """What to say of them, and what to do; with `keep_outside` a region left is a refusal."""
    for each in strays:
        if each.of_region and request.keep_outside:
            continue
        where, do = "in the frame", 'aspect_ratio "auto" shows all of the source'
        if each.of_region:
            where, do = "in its region", "give a box in speakers that holds the whole way"
        yield f"the face of {each.field} is no longer {where} at {each.second:.1f} s: {do}"


def _matters(request: RenderRequest) -> bool:
    """Whether regions have an effect: the only speaker's, on what is outside alone."""
    return request.keep_outside or len(request.speakers) > 1


def _followed(places: Mapping[str, Box], faces: tuple[Box, ...]) -> Iterator[tuple[str, Box]]:
    """Each person's face now, the nearest first; nobody has two, and no face is of two."""
    pairs = [
        (math.dist(middle_of(place), middle_of(face)), who, face)
        for who, place in places.items()
        for face in faces
    ]
    known: set[str | Box] = set()
    for _, who, face in sorted(pairs):
        if not known & {who, face}:
            known |= {who, face}
            yield who, face


def _holds(box: Box, point: tuple[float, float]) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]
