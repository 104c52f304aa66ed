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

LEAST_MISSED = 2  # looks of the four: at one, somebody has turned away
MOST_LARGER = 2.5  # times: whose face is that much larger or smaller is somebody else


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
    only have turned away: `absences`.
    """
    strays: dict[tuple[str, bool], Stray] = {}
    regions = {person.field: person.region for person in people.speakers}
    for second, now in _walked(people, video):
        for field, face in now.items():
            if field not in regions:
                continue
            region = regions[field]
            if held(framing, face) < LEAST_HELD:
                strays.setdefault((field, False), Stray(field, second, False))
            if region and _matters(request) and not _holds(region, middle_of(face)):
                strays.setdefault((field, True), Stray(field, second, True))
    return tuple(strays.values())


def absences(people: People, video: SourceVideo) -> Iterator[str]:
    """Whose face is not found for a good part of the video, in words."""
    missed: dict[str, list[float]] = {
        person.field: [] for person in people.speakers if person.field and person.face
    }
    for second, now in _walked(people, video):
        for field in missed.keys() - now.keys():
            missed[field].append(second)
    for field, seconds in missed.items():
        if len(seconds) >= LEAST_MISSED:
            times = ", ".join(f"{second:.1f}" for second in seconds)
            yield (
                f"the face of {field} is not found at {times} s: who only turns away does no harm, "
                "but who has left, or a cut to another scene, is rendered as it is: use another "
                "part of the video"
            )


def stray_notes(request: RenderRequest, strays: Sequence[Stray]) -> Iterator[str]:
    """What to say of them, and what to do; with `keep_outside` a region left is a refusal."""
    for each in strays:
        if each.of_region and request.keep_outside:
            continue
        where, do = "in the frame", 'aspect_ratio "auto" shows all of the source'
        if each.of_region:
            where, do = "in its region", "give a box in speakers that holds the whole way"
        yield f"the face of {each.field} is no longer {where} at {each.second:.1f} s: {do}"


def _walked(people: People, video: SourceVideo) -> Iterator[tuple[float, dict[str, Box]]]:
    """Whose faces are found, and where, at each look."""
    places = {
        person.field or f"another {number}": person.face
        for number, person in enumerate(people.everybody)
        if person.face
    }
    for second, faces in video.faces_later:
        now = dict(_followed(places, faces))
        places |= now
        yield second, now


def _matters(request: RenderRequest) -> bool:
    """Whether regions have an effect: the only speaker's, on what is outside alone."""
    return request.keep_outside or len(request.speakers) > 1


def _followed(places: Mapping[str, Box], faces: tuple[Box, ...]) -> Iterator[tuple[str, Box]]:
    """Each person's face now, the nearest first; nobody has two, and no face is of two."""
    pairs = [
        (math.dist(middle_of(place), middle_of(face)), who, face)
        for who, place in places.items()
        for face in faces
        if 1 / MOST_LARGER <= (face[3] - face[1]) / (place[3] - place[1]) <= MOST_LARGER
    ]
    known: set[str | Box] = set()
    for _, who, face in sorted(pairs):
        if not known & {who, face}:
            known |= {who, face}
            yield who, face


def _holds(box: Box, point: tuple[float, float]) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]
