"""Where the speakers' faces are in each frame of a video: found now and then, tracked between."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, pairwise

import cv2
import numpy as np
import numpy.typing as npt

from .face import Face, Mask, Mouth, Picture, Point, find_face, find_face_near

Motion2D = npt.NDArray[np.float64]  # [3, 3]: a turn, a zoom and a shift in pixels

FIND_EVERY_FRAMES = 12  # so many frames are held in memory; tracking drifts little meanwhile
TRUST_IN_FOUND = 0.4  # the rest is the tracked place's: what is found trembles, tracking does not
HOLD_FINDS = 5  # a face that is not found so often has left the picture, or a cut came
PATCH_SIDE_PX, PATCH_BOX_PX = 256, 160  # what a face is tracked in, and its own width there
UPPER_FACE = (slice(64, 158), slice(64, 192))  # of the patch: brows, eyes and nose
MOST_POINTS, LEAST_POINTS, LEAST_AGREEING = 60, 8, 0.4
MOST_SHIFT_PX, MOST_ZOOM = 64, 1.2  # from one frame to the next


def followed(
    frames: Iterator[Picture], regions: Sequence[Mask]
) -> Iterator[tuple[Picture, tuple[Face | None, ...]]]:
    """Each RGB frame [H, W, 3] with the faces of the speakers of these regions [H, W].

    A region says which face is whose where that face is first found; after that it may leave it.
    At most FIND_EVERY_FRAMES frames are read ahead.
    """
    first = next(frames, None)
    if first is None:
        return
    trails = [_Trail(first, region) for region in regions]
    yield first, tuple(trail.face for trail in trails)
    while batch := list(islice(frames, FIND_EVERY_FRAMES)):
        faces = [trail.through(batch) for trail in trails]
        yield from zip(batch, zip(*faces, strict=True), strict=True)


class _Trail:
    """One speaker's face, from the frames already seen into the next ones."""

    def __init__(self, first: Picture, region: Mask) -> None:
        self.face = find_face(first, region)
        self._last, self._region, self._missed = first, region, 0

    def through(self, batch: Sequence[Picture]) -> list[Face | None]:
        """The face in each frame of a batch, found anew in the last of them."""
        faces: list[Face | None] = [None] * len(batch)
        if self.face:
            faces = [*self._tracked(self.face, batch)]
        else:
            faces[-1] = find_face(batch[-1], self._region)
        self.face, self._last = faces[-1], batch[-1]
        return faces

    def _tracked(self, start: Face, batch: Sequence[Picture]) -> list[Face | None]:
        paths = _paths(start, [self._last, *batch])
        tracked = [moved(start, path) for path in paths]
        if len(tracked) < len(batch):
            gone = [None] * (len(batch) - len(tracked) - 1)
            return [*tracked, *gone, find_face(batch[-1], self._region)]
        found = find_face_near(batch[-1], tracked[-1])
        if found is None:
            return self._held(tracked, batch[-1])
        self._missed = 0
        end = _corrected(tracked[-1], found)
        back = np.linalg.inv(paths[-1])
        shares = np.linspace(0, 1, len(batch) + 1)[1:]
        return [
            between(face, moved(end, path @ back), float(share))
            for face, path, share in zip(tracked, paths, shares, strict=True)
        ]

    def _held(self, tracked: Sequence[Face], last: Picture) -> list[Face | None]:
        """The tracked faces; in the last frame another one of the region, if there is one."""
        found = find_face(last, self._region)
        self._missed = 0 if found else self._missed + 1
        held = tracked[-1] if self._missed < HOLD_FINDS else None
        return [*tracked[:-1], found or held]


def moved(face: Face, path: Motion2D) -> Face:
    """The face after a motion of the picture."""
    zoom, turn = math.hypot(path[0, 0], path[1, 0]), math.atan2(path[1, 0], path[0, 0])
    x, y, width, height = face.box
    middle = _moved_point((x + width / 2, y + height / 2), path)
    width, height = zoom * width, zoom * height
    mouth = replace(
        face.mouth,
        centre=_moved_point(face.mouth.centre, path),
        half_width_px=zoom * face.mouth.half_width_px,
        angle=face.mouth.angle + turn,
        sag_px=zoom * face.mouth.sag_px,
    )
    return replace(
        face,
        box=(middle[0] - width / 2, middle[1] - height / 2, width, height),
        left_eye=_moved_point(face.left_eye, path),
        right_eye=_moved_point(face.right_eye, path),
        mouth=mouth,
    )


def between(one: Face, other: Face, share: float) -> Face:
    """The face that has gone this share (0 to 1) of the way from one to the other."""

    def mix(a: float, b: float) -> float:
        return a + share * (b - a)

    def mix_points(a: Point, b: Point) -> Point:
        return mix(a[0], b[0]), mix(a[1], b[1])

    lips, other_lips = one.mouth, other.mouth
    mouth = Mouth(
        centre=mix_points(lips.centre, other_lips.centre),
        half_width_px=mix(lips.half_width_px, other_lips.half_width_px),
        angle=mix(lips.angle, other_lips.angle),
        sag_px=mix(lips.sag_px, other_lips.sag_px),
        shows_teeth=(lips if share < 0.5 else other_lips).shows_teeth,
    )
    return Face(
        box=(*mix_points(one.box[:2], other.box[:2]), *mix_points(one.box[2:], other.box[2:])),
        left_eye=mix_points(one.left_eye, other.left_eye),
        right_eye=mix_points(one.right_eye, other.right_eye),
        mouth=mouth,
    )


def _corrected(tracked: Face, found: Face) -> Face:
    """The tracked face, nearer to the found one; how the lips part is news, and not mixed."""
    face, lips = between(tracked, found, TRUST_IN_FOUND), found.mouth
    mouth = replace(face.mouth, sag_px=lips.sag_px, shows_teeth=lips.shows_teeth)
    return replace(face, mouth=mouth)


def _paths(face: Face, frames: Sequence[Picture]) -> list[Motion2D]:
    """The face's motion from the first frame to each of the others, until it is lost from view."""
    path, paths = np.eye(3), []
    for before, after in pairwise(frames):
        step = _step(before, after, moved(face, path))
        if step is None:
            break
        path = step @ path
        paths.append(path)
    return paths


def _step(before: Picture, after: Picture, face: Face) -> Motion2D | None:
    """How the upper part of a face, which speaking leaves still, moves to the next frame.

    None where too little of it is seen again, as after a cut.
    """
    if before is after:  # a video's last frame, held
        return np.eye(3)
    to_patch = _patch(face)
    small, next_small = (_grey_patch(frame, to_patch) for frame in (before, after))
    mask = np.zeros_like(small)
    mask[UPPER_FACE] = 1
    points = cv2.goodFeaturesToTrack(small, MOST_POINTS, 0.01, 4, mask=mask)
    if points is None or len(points) < LEAST_POINTS:
        return None
    ahead, seen, _ = cv2.calcOpticalFlowPyrLK(small, next_small, points, np.empty_like(points))
    again = seen.ravel() == 1
    if again.sum() < LEAST_POINTS:
        return None
    step, agreeing = cv2.estimateAffinePartial2D(points[again], ahead[again])
    if step is None or agreeing.sum() < LEAST_AGREEING * len(points) or not _is_small(step):
        return None
    return np.asarray(np.linalg.inv(to_patch) @ np.vstack((step, (0, 0, 1))) @ to_patch)


def _patch(face: Face) -> Motion2D:
    """From the picture to a patch with the face in its middle."""
    x, y, width, height = face.box
    zoom, half = PATCH_BOX_PX / width, PATCH_SIDE_PX / 2
    across, down = half - zoom * (x + width / 2), half - zoom * (y + height / 2)
    return np.array(((zoom, 0, across), (0, zoom, down), (0, 0, 1)))


def _grey_patch(picture: Picture, to_patch: Motion2D) -> Picture:
    size, border = (PATCH_SIDE_PX, PATCH_SIDE_PX), cv2.BORDER_REPLICATE
    patch = cv2.warpAffine(picture, to_patch[:2], size, flags=cv2.INTER_AREA, borderMode=border)
    return np.asarray(cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY), np.uint8)


def _is_small(step: npt.NDArray[np.float64]) -> bool:
    """Whether a motion [2, 3] in the patch is one that a face makes from frame to frame."""
    half = PATCH_SIDE_PX / 2
    x, y = step @ (half, half, 1)
    zoom = math.hypot(step[0, 0], step[1, 0])
    return math.dist((x, y), (half, half)) < MOST_SHIFT_PX and 1 / MOST_ZOOM < zoom < MOST_ZOOM


def _moved_point(point: Point, path: Motion2D) -> Point:
    x, y, _ = path @ (*point, 1.0)
    return float(x), float(y)
