"""A draft's frames, from a picture or from a video: who is where, and how each one moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain

from .animate import Speaker, dubbed_frames, preview_frames
from .face import Picture, Plane, find_face
from .follow import followed
from .regions import speaker_regions
from .voice import Motion


def picture_draft(
    portrait: Picture, masks: Plane | None, motions: Sequence[Motion], fps: Fraction, seed: int
) -> Iterator[Picture]:
    """RGB frames [H, W, 3] of a picture whose speakers, in the masks' order, move their heads.

    Raises ValueError for fewer masks [masks, H, W] than motions.
    """
    regions = speaker_regions(masks, len(motions), *portrait.shape[:2])
    speakers = [
        Speaker(motion, region, find_face(portrait, region))
        for motion, region in zip(motions, regions, strict=True)
    ]
    return preview_frames(portrait, speakers, fps, seed)


def video_draft(
    frames: Iterator[Picture], masks: Plane | None, motions: Sequence[Motion]
) -> Iterator[Picture]:
    """The frames of a video whose speakers, in the masks' order, move their mouths.

    Raises ValueError for fewer masks [masks, H, W] than motions.
    """
    first = next(frames)
    regions = speaker_regions(masks, len(motions), *first.shape[:2])
    return dubbed_frames(followed(chain((first,), frames), regions), motions)
