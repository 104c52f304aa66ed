"""A draft's frames, from a picture or from a video: who is where, and how each one moves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import chain

from .animate import Speaker, dubbed_frames, preview_frames
from .face import Face, Picture, Plane, find_face
from .follow import followed
from .regions import speaker_regions
from .voice import Motion


def picture_draft(
    portrait: Picture,
    masks: Plane | None,
    motions: Sequence[Motion],
    fps: Fraction,
    seed: int,
    *,
    seen: set[int] | None = None,
) -> Iterator[Picture]:
    """RGB frames [H, W, 3] of a picture whose speakers, in the masks' order, move their heads.

    `seen` gets the numbers, from 0, of the speakers whose faces are found. Raises ValueError for
    fewer masks [masks, H, W] than motions.
    """
    regions = speaker_regions(masks, len(motions), *portrait.shape[:2])
    speakers = [
        Speaker(motion, region, find_face(portrait, region))
        for motion, region in zip(motions, regions, strict=True)
    ]
    if seen is not None:
        seen |= {number for number, speaker in enumerate(speakers) if speaker.face}
    return preview_frames(portrait, speakers, fps, seed)


def video_draft(
    frames: Iterator[Picture],
    masks: Plane | None,
    motions: Sequence[Motion],
    *,
    seen: set[int] | None = None,
) -> Iterator[Picture]:
    """The frames of a video whose speakers, in the masks' order, move their mouths.

    `seen` gets, frame by frame, the numbers, from 0, of the speakers whose faces are found. Raises
    ValueError for fewer masks [masks, H, W] than motions.
    """
    first = next(frames)
    regions = speaker_regions(masks, len(motions), *first.shape[:2])
    faces = _noted(followed(chain((first,), frames), regions), set() if seen is None else seen)
    return dubbed_frames(faces, motions)


def _noted(
    faces: Iterable[tuple[Picture, tuple[Face | None, ...]]], seen: set[int]
) -> Iterator[tuple[Picture, tuple[Face | None, ...]]]:
    for picture, found in faces:
        seen |= {number for number, face in enumerate(found) if face}
        yield picture, found
