"""Who speaks where: the speakers of a request, and the faces that were found. Pure.

Speakers without box or mask get a face each, from left to right, and the part of the picture around
it; what the request says of where they are always wins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from talkinghead.media.faces import Face
from talkinghead.media.masks import Box, in_pixels, middle_of
from talkinghead.plan.request import RenderRequest, Speaker

# A region: how far from the face it goes to the sides, and above it, in face sizes. Down it goes to
# the picture's edge: a tight mask would take the body's motion from the model.
ASIDE, ABOVE = 2.0, 1.0
ALIKE = 0.9  # of the size of the largest face: who is in the middle is meant then
MOST_RATIO = 2.5  # of two speakers' faces; a larger one is a poster's, or the other a passer-by's


@dataclass(frozen=True)
class Person:
    """Somebody in the source picture; boxes are x0 y0 x1 y1 in its pixels.

    `field` is the speaker's in the request; None is somebody who stays still. `face` is None where
    none was found, `region` where nothing tells it; of a mask it is the box around what is white.
    """

    field: str | None
    face: Box | None
    region: Box | None

    def payload(self) -> dict[str, Any]:
        """What a caller is told, so that `box` can say better where a speaker is."""
        face, region = (box and [round(edge) for edge in box] for box in (self.face, self.region))
        return {"speaker": self.field, "face": face, "box": region}


@dataclass(frozen=True)
class People:
    """Everybody of a picture, the speakers first and in their order, and what to warn of."""

    everybody: tuple[Person, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def speakers(self) -> tuple[Person, ...]:
        """Those who were told apart."""
        return tuple(person for person in self.everybody if person.field is not None)

    def without_regions(self, *notes: str) -> People:
        """The same, each of whom only the face is known, and what to say of it."""
        everybody = tuple(replace(person, region=None) for person in self.everybody)
        return People(everybody, (*self.notes, *notes))

    @property
    def faces(self) -> tuple[Box, ...]:
        """The faces that the frame should hold: the speakers', or if nobody knows them, all."""
        known = self.speakers if any(person.face for person in self.speakers) else self.everybody
        return tuple(person.face for person in known if person.face)


def people_of(
    request: RenderRequest,
    faces: Sequence[Face] | None,
    size: tuple[int, int],
    masks: Sequence[Box | None] = (),
) -> People:
    """Who is where in a source of `size` pixels. None for `faces`: nobody looked for any.

    `masks` are where the speakers' masks are white, in pixels or fractions.
    """
    speakers = request.speakers
    if any(speaker.box or speaker.mask_url for speaker in speakers):
        return _told_people(request, faces, size, masks or (None,) * len(speakers))
    if faces is None:
        return People()
    middle = size[0] / 2, size[1] / 2
    chosen = (
        [_main(faces, middle)] if faces and len(speakers) == 1 else _largest(faces, len(speakers))
    )
    others = [face for face in faces if face not in chosen]
    if len(chosen) < len(speakers):
        unknown = tuple(Person(None, face.box, None) for face in chosen)
        return People(unknown, (_too_few(request, len(chosen)),))
    everybody = [
        Person(speaker.field, face.box, _region(face, faces, size))
        for speaker, face in zip(speakers, chosen, strict=True)
    ]
    notes = (*_others_notes(request, len(faces)), *_doubts(request, chosen))
    return People((*everybody, *(Person(None, face.box, None) for face in others)), notes)


def bodies_of(
    request: RenderRequest, faces: Sequence[Face], size: tuple[int, int]
) -> tuple[Box, ...]:
    """What may move before a camera that stands still: the boxes that are given, or who is found.

    Less than a region, which has the background on both sides of somebody.
    """
    if told := [in_pixels(speaker.box, size) for speaker in request.speakers if speaker.box]:
        return tuple(told)
    return tuple(_body(face, size) for face in faces)


def outside_notes(request: RenderRequest, people: People) -> Iterator[str]:
    """What is to be said of `keep_outside` where nobody knows where the speakers are."""
    known = any(person.region for person in people.speakers)
    known = known or any(speaker.mask_url for speaker in request.speakers)
    if request.keep_outside and not request.draft and not known:
        yield (
            "keep_outside: nobody knows where the speakers are: nearly all the picture is rendered"
        )


def _told_people(
    request: RenderRequest,
    faces: Sequence[Face] | None,
    size: tuple[int, int],
    masks: Sequence[Box | None],
) -> People:
    """Those of whom the request says where."""
    told = tuple(
        _told(speaker, mask, faces or (), size)
        for speaker, mask in zip(request.speakers, masks, strict=True)
    )
    return People(told, () if faces is None else tuple(_box_notes(request, told)))


def _largest(faces: Sequence[Face], count: int) -> list[Face]:
    """So many of them, from left to right."""
    return sorted(sorted(faces, key=_area)[-count:], key=lambda face: face.middle)


def _main(faces: Sequence[Face], middle: tuple[float, float]) -> Face:
    """The largest; of several that are about as large, the one that is nearest the middle."""
    least = ALIKE**2 * max(map(_area, faces))
    large = [face for face in faces if _area(face) >= least]
    return min(large, key=lambda face: math.dist(face.middle, middle))


def _told(
    speaker: Speaker, mask: Box | None, faces: Sequence[Face], size: tuple[int, int]
) -> Person:
    """A speaker of whom the request says where; the face is the main one that is there."""
    place = speaker.box or mask
    if place is None:
        return Person(speaker.field, None, None)
    box = in_pixels(place, size)
    within = [face for face in faces if _holds(box, face.middle)]
    return Person(speaker.field, _main(within, middle_of(box)).box if within else None, box)


def _holds(box: Box, point: tuple[float, float]) -> bool:
    return box[0] <= point[0] < box[2] and box[1] <= point[1] < box[3]


def _area(face: Face) -> float:
    return face.width * face.height


def _region(face: Face, faces: Sequence[Face], size: tuple[int, int]) -> Box:
    """The part of the picture around a face, up to the middle between it and each other one."""
    x0, y0, x1, y1 = face.box
    left, right = max(0.0, x0 - ASIDE * face.width), min(size[0], x1 + ASIDE * face.width)
    top, bottom = max(0.0, y0 - ABOVE * face.height), float(size[1])
    for other in faces:
        if other is face:
            continue
        across, down = _gaps(face, other)
        if across >= down:  # side by side; else one above the other
            if other.middle[0] > face.middle[0]:
                right = min(right, (x1 + other.box[0]) / 2)
            else:
                left = max(left, (other.box[2] + x0) / 2)
        elif other.middle[1] > face.middle[1]:
            bottom = min(bottom, (y1 + other.box[1]) / 2)
        else:
            top = max(top, (other.box[3] + y0) / 2)
    return left, top, right, bottom


def _body(face: Face, size: tuple[int, int]) -> Box:
    """Head and shoulders, down to the picture's edge."""
    x0, y0, x1, _ = face.box
    left, right = max(0.0, x0 - face.width), min(size[0], x1 + face.width)
    return left, max(0.0, y0 - face.height / 2), right, float(size[1])


def _gaps(one: Face, other: Face) -> tuple[float, float]:
    """How far two faces are apart, across and down; less than 0 where they overlap."""
    (a, b, c, d), (e, f, g, h) = one.box, other.box
    return max(e - c, a - g), max(f - d, b - h)


def _box_notes(request: RenderRequest, told: Sequence[Person]) -> Iterator[str]:
    for speaker, person in zip(request.speakers, told, strict=True):
        if person.region and speaker.audio_url and not person.face:
            place = "mask" if speaker.mask_url else "box"
            yield f"{speaker.field}: no face was found in its {place}{_still(request)}"


def _still(request: RenderRequest) -> str:
    return ", and this draft moves a mouth only where it finds a face" if request.draft else ""


def _too_few(request: RenderRequest, found: int) -> str:
    voices, field = len(request.speakers), request.picture_field
    faces = "no face was" if not found else f"{found} face{' was' if found == 1 else 's were'}"
    if voices > 1:
        return (
            f"{field}: {faces} found for {voices} speakers: they are taken to stand in equal "
            f"strips from left to right{_still(request)}; give each a box, or a mask_url, in "
            "speakers"
        )
    return (
        f"{field}: {faces} found{_still(request) or ', and the mouth may not follow the voice'}: "
        "give a source that shows the face from the front"
    )


def _others_notes(request: RenderRequest, found: int) -> Iterator[str]:
    speakers = len(request.speakers)
    if found <= speakers:
        return
    told = f"{request.picture_field}: {found} faces were found"
    if speakers == 1:
        yield (
            f"{told} for one voice: the largest, of equal ones that nearest the middle, is kept in "
            "the frame, and others may speak along; to keep them still, give speakers, those "
            "without audio_url for them"
        )
    else:
        yield (
            f"{told} for {speakers} speakers: the largest speak, from left to right, and the "
            "others stay still; a box for each speaker says it otherwise (see speakers_found)"
        )


def _doubts(request: RenderRequest, chosen: Sequence[Face]) -> Iterator[str]:
    named = zip(request.speakers, chosen, strict=True)
    advice = "give each a box, or a mask_url, in speakers"
    for (one, face), (other, second) in combinations(named, 2):
        pair = f"{request.picture_field}: the faces of {one.field} and {other.field}"
        if max(_gaps(face, second)) < 0:
            yield f"{pair} overlap, and a mouth may follow the wrong voice: {advice}"
        small, large = sorted((face.width, second.width))
        if large > MOST_RATIO * small:
            times = f"{large / small:.1f} times"
            yield f"{pair} differ in size by {times}, as on a poster or far behind: {advice}"
