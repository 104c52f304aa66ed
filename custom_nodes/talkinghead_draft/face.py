"""Where the face, its eyes and its mouth are in a portrait."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .yunet import Detected, detect

Picture = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Plane = npt.NDArray[np.floating[Any]]
Transform = npt.NDArray[np.integer[Any] | np.floating[Any]]  # [2, 3]
Indices = npt.NDArray[np.intp]
Point = tuple[float, float]
Box = tuple[float, float, float, float]  # x, y, width, height

# The longer side of what is searched, and the least score. The worker's three, and more: a drawn
# face that it has found in the source is in the framed picture often found at one of them alone.
SEARCHES = ((640, 0.7), (400, 0.7), (500, 0.7), (240, 0.7), (1280, 0.8))
NEAR_SEARCHES = ((240, 0.7),)  # the same where the face is known to fill a third of it
# Of the region's longer side: a face is mostly not found without what is around it.
REGION_MARGINS = (0.5, 0.25, 0.0)
NEAR_MARGIN = 1.0
NEAR_SHIFT, NEAR_ZOOM = 0.6, 1.6  # in box widths, and as a ratio: beyond, it is another face
CLOSE_SIDE_PX, CLOSER_LOOKS = 200, 2
SQUARE = 0.93  # the side of a face's box, of the detector's longer one
PATCH_EYES_PX = 80  # distance between the eyes in the upright patch that the mouth is read from
PATCH_WIDTH_PX, PATCH_HEIGHT_PX = 200, 220
PATCH_EYE_LINE_PX = 40
USUAL_MOUTH_ROW = PATCH_EYE_LINE_PX + 84  # the lips part 1.05 eye distances below the eyes
LEAST_MOUTH_PX = 26
MOUTH_ROWS, MOUTH_COLUMNS = slice(90, 170), slice(50, 150)
TEETH_EDGE, TEETH_OVER_SKIN = 24.0, 5.0  # in Lab units (L - 2a)
HALF_EDGE_PX = 1.0  # of the patch: the edge is blurred, and a rest of tooth on the lip is seen


@dataclass(frozen=True)
class Mouth:
    """A mouth as it rests in the portrait, in pixels of the picture.

    `centre` is the middle of the line between the corners. `sag_px` says how far below that line
    the lips part in the middle; under shown teeth it is the edge between teeth and lower lip.
    """

    centre: Point
    half_width_px: float
    angle: float  # radians, clockwise on screen; 0 is level
    sag_px: float
    shows_teeth: bool

    @property
    def corners(self) -> tuple[Point, Point]:
        """The left and the right corner as seen on screen."""
        dx = self.half_width_px * math.cos(self.angle)
        dy = self.half_width_px * math.sin(self.angle)
        x, y = self.centre
        return (x - dx, y - dy), (x + dx, y + dy)


@dataclass(frozen=True)
class Face:
    """A face in pixels of the picture; left and right are as seen on screen."""

    box: Box
    left_eye: Point
    right_eye: Point
    mouth: Mouth

    @property
    def size_px(self) -> float:
        """The distance between the eyes as seen from the front; a turned head shows less of it."""
        return _size_px(self.left_eye, self.right_eye, self.box[2])

    @property
    def angle(self) -> float:
        """The tilt of the line between the eyes, radians, clockwise on screen."""
        return _slope(self.left_eye, self.right_eye)


def find_face(picture: Picture, region: Mask | None = None) -> Face | None:
    """The most certain face in an RGB picture [H, W, 3], or None.

    With a region [H, W], the most certain one whose middle lies in it: near by, or in the whole.
    """
    whole = _whole(picture)
    if region is None:
        return _found(picture, (whole,), SEARCHES, lambda _: True)
    if not region.any():
        return None
    near = [_with_margin(bounds(region), margin, picture) for margin in REGION_MARGINS]
    return _found(picture, (*near, whole), SEARCHES, lambda box: _middle_in(region, box))


def find_face_near(picture: Picture, face: Face) -> Face | None:
    """The same face in another frame of the same scene, or None."""
    part = _with_margin(face.box, NEAR_MARGIN, picture)
    return _found(picture, (part,), NEAR_SEARCHES, lambda box: _is_near(face.box, box))


def bounds(region: Mask) -> Box:
    """The box around a region that is not empty."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y


def _found(
    picture: Picture,
    parts: Sequence[Box],
    searches: Sequence[tuple[int, float]],
    fits: Callable[[Box], bool],
) -> Face | None:
    """The most certain face in a part of the picture whose box, in the whole picture, fits.

    The first search that finds one counts; each looks at one part after another.
    """
    for (side_px, least), part in product(searches, parts):
        x, y, width, height = (int(value) for value in part)
        within = picture[y : y + height, x : x + width]
        sure = (one for one in detect(within, side_px) if one.score >= least)
        found = [one for one in sure if fits(_moved(_square(one), x, y))]
        if found:
            return _face(picture, (x, y), within, max(found, key=lambda one: one.score))
    return None


def _face(picture: Picture, origin: tuple[int, int], within: Picture, best: Detected) -> Face:
    """What was found in a part of the picture that begins there, in the whole picture's pixels."""
    x, y = origin
    grey = np.asarray(cv2.cvtColor(within, cv2.COLOR_RGB2GRAY), np.uint8)
    left, right = _eyes(within, best)
    reach = 0.13 * math.dist(left, right)
    left, right = (_iris(grey, eye, reach) for eye in (left, right))
    left, right = (left[0] + x, left[1] + y), (right[0] + x, right[1] + y)
    box = _moved(_square(best), x, y)
    mouth = find_mouth(picture, left, right, _size_px(left, right, box[2]))
    return Face(box, left, right, mouth)


def _eyes(picture: Picture, found: Detected) -> tuple[Point, Point]:
    """The eyes of a face, looked at again upright: of a tilted one they are told a fifth off."""
    left, right = found.left_eye, found.right_eye
    for _ in range(CLOSER_LOOKS):
        to_patch = _closer(_square(found), _slope(left, right))
        patch = _warped(*_not_finer(picture, to_patch), (CLOSE_SIDE_PX, CLOSE_SIDE_PX))
        again = detect(patch, CLOSE_SIDE_PX)
        if not again:
            break
        middle = CLOSE_SIDE_PX / 2, CLOSE_SIDE_PX / 2
        nearest = min(again, key=lambda one: math.dist(_middle(one.box), middle))
        back = cv2.invertAffineTransform(to_patch)
        left, right = _apply(back, nearest.left_eye), _apply(back, nearest.right_eye)
    return left, right


def _closer(box: Box, angle: float) -> Transform:
    """From the picture to a patch with the face in its middle, upright, a third as wide."""
    middle = _middle(box)
    turn = cv2.getRotationMatrix2D(middle, math.degrees(angle), CLOSE_SIDE_PX / 3 / box[2])
    half = CLOSE_SIDE_PX / 2
    return np.column_stack((turn[:, :2], turn[:, 2] + (half - middle[0], half - middle[1])))


def _not_finer(picture: Picture, to_patch: Transform) -> tuple[Picture, Transform]:
    """The picture, smaller where a patch of it would be much, and the transform from that."""
    share = 2 * math.hypot(to_patch[0, 0], to_patch[1, 0])
    if share >= 1:
        return picture, to_patch
    small = cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), np.column_stack((to_patch[:, :2] / share, to_patch[:, 2]))


def _square(one: Detected) -> Box:
    """The box of a face as wide as it is high, so that a turned head has the size of another."""
    x, y, width, height = one.box
    side = SQUARE * max(width, height)
    return x + (width - side) / 2, y + (height - side) / 2, side, side


def _moved(box: Box, x: float, y: float) -> Box:
    return box[0] + x, box[1] + y, box[2], box[3]


def _whole(picture: Picture) -> Box:
    return 0, 0, picture.shape[1], picture.shape[0]


def _with_margin(box: Box, margin: float, picture: Picture) -> Box:
    """The box with a margin, in its own longer sides, on all sides; cut at the picture's edge."""
    (x, y, width, height), (rows, columns) = box, picture.shape[:2]
    more = margin * max(width, height)
    left, top = min(max(0, x - more), columns - 1), min(max(0, y - more), rows - 1)
    right = max(left + 1, min(x + width + more, columns))
    bottom = max(top + 1, min(y + height + more, rows))
    return left, top, right - left, bottom - top


def _middle_in(region: Mask, box: Box) -> bool:
    """Whether most of the box's inner half lies in the region: so for one of several at most."""
    x, y, width, height = box
    top, left = max(0, round(y + height / 4)), max(0, round(x + width / 4))
    inner = region[top : top + round(height / 2), left : left + round(width / 2)]
    return bool(inner.size and inner.mean() > 0.5)


def _is_near(one: Box, other: Box) -> bool:
    shift = math.dist(_middle(one), _middle(other))
    zoom = other[2] / one[2]
    return shift < NEAR_SHIFT * one[2] and 1 / NEAR_ZOOM < zoom < NEAR_ZOOM


def _middle(box: Box) -> Point:
    x, y, width, height = box
    return x + width / 2, y + height / 2


def find_mouth(picture: Picture, left_eye: Point, right_eye: Point, size_px: float) -> Mouth:
    """The mouth under two eyes, read from lip colour and from the line where the lips part.

    `size_px` is the distance between the eyes as seen from the front.
    """
    to_patch = _upright(left_eye, right_eye, size_px)
    patch = _warped(picture, to_patch, (PATCH_WIDTH_PX, PATCH_HEIGHT_PX))
    lab = np.asarray(cv2.cvtColor(patch.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
    corners = _lip_corners(_lip_evidence(lab))
    sag, shows_teeth = _parting(lab, corners)
    back = cv2.invertAffineTransform(to_patch)
    left, right = (_apply(back, corner) for corner in corners)
    return Mouth(
        centre=((left[0] + right[0]) / 2, (left[1] + right[1]) / 2),
        half_width_px=math.dist(left, right) / 2,
        angle=_slope(left, right),
        sag_px=sag * size_px / PATCH_EYES_PX,
        shows_teeth=shows_teeth,
    )


def _iris(grey: Picture, near: Point, reach_px: float) -> Point:
    """The darkest spot of an iris' size within reach of a point, weighted towards the point."""
    side = max(9, int(4 * reach_px) | 1)
    spot = cv2.getRectSubPix(grey, (side, side), near).astype(np.float32)
    dark = 255 - _blurred(spot, max(0.8, 0.6 * reach_px))
    offset = np.arange(side, dtype=np.float32) - side // 2
    weight = np.exp(-(offset**2) / (2 * reach_px**2))
    row, column = np.unravel_index(int(np.argmax(dark * np.outer(weight, weight))), dark.shape)
    return near[0] + float(offset[column]), near[1] + float(offset[row])


def _upright(left_eye: Point, right_eye: Point, size_px: float) -> Transform:
    """The transform [2, 3] from the picture to a patch with level eyes and a known face size."""
    zoom = PATCH_EYES_PX / size_px
    middle = ((left_eye[0] + right_eye[0]) / 2, (left_eye[1] + right_eye[1]) / 2)
    turn = cv2.getRotationMatrix2D(middle, math.degrees(_slope(left_eye, right_eye)), zoom)
    shift = (PATCH_WIDTH_PX / 2 - middle[0], PATCH_EYE_LINE_PX - middle[1])
    return np.column_stack((turn[:, :2], turn[:, 2] + shift))


def _lip_evidence(lab: Plane) -> Plane:
    """How much redder than the skin, and how much a thin dark level line, each pixel is: 0..6."""
    light, redness = lab[..., 0], _blurred(lab[..., 1], 1.2)
    upright = np.ones((13, 1), np.uint8)
    dark = cv2.morphologyEx(light, cv2.MORPH_BLACKHAT, upright) - 0.5 * cv2.morphologyEx(
        light, cv2.MORPH_BLACKHAT, upright.T
    )
    return np.asarray(_above_usual(redness, 2.0) + _above_usual(dark, 4.0), np.float32)


def _above_usual(plane: Plane, least_spread: float) -> Plane:
    usual = plane[MOUTH_ROWS, MOUTH_COLUMNS]
    spread = max(least_spread, float(np.percentile(usual, 90) - np.median(usual)))
    return np.clip((plane - np.median(usual)) / spread, 0, 3)


def _lip_corners(evidence: Plane) -> tuple[Point, Point]:
    """The two ends of the lips; where a mouth usually is if what was found is too narrow."""
    rows, columns = _lips(evidence).T
    if not columns.size or columns.max() - columns.min() < LEAST_MOUTH_PX:
        middle = PATCH_WIDTH_PX / 2
        return (middle - 32, USUAL_MOUTH_ROW), (middle + 32, USUAL_MOUTH_ROW)
    left, right = int(columns.min()), int(columns.max())
    rows = np.arange(rows.min(), rows.max() + 1)
    return (
        (left, _strongest_row(evidence[rows, left : left + 4], rows)),
        (right, _strongest_row(evidence[rows, right - 3 : right + 1], rows)),
    )


def _lips(evidence: Plane) -> Indices:
    """Row and column [n, 2] of each pixel of the strongest patch around the likeliest place."""
    column, row = np.meshgrid(np.arange(PATCH_WIDTH_PX), np.arange(PATCH_HEIGHT_PX))
    across, down = (column - PATCH_WIDTH_PX / 2) / 16, (row - USUAL_MOUTH_ROW) / 14
    wide = cv2.blur(evidence, (35, 9)) * np.exp(-(across**2 + down**2) / 2)
    middle_row, middle_column = np.unravel_index(int(np.argmax(wide)), wide.shape)
    near = (abs(row - middle_row) < 16) & (abs(column - middle_column) < 44)
    smooth = _blurred(evidence, 1.5) * near
    lips = (smooth > 0.3 * np.percentile(smooth[near], 98)).astype(np.uint8)
    lips = np.asarray(cv2.morphologyEx(lips, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)), np.uint8)
    labels = np.asarray(cv2.connectedComponents(lips)[1])
    mass = np.bincount(labels.ravel(), weights=wide.ravel())
    mass[0] = 0
    return np.argwhere((labels == np.argmax(mass)) & (labels > 0))


def _strongest_row(evidence: Plane, rows: Indices) -> float:
    """The middle of some rows, weighted by the evidence [rows, columns] in each."""
    return float(np.average(rows, weights=evidence.sum(axis=1) ** 2 + 1e-6))


def _parting(lab: Plane, corners: tuple[Point, Point]) -> tuple[float, bool]:
    """How far the lips part below the corners' line (patch pixels), and whether under teeth.

    The line is a parabola through the corners: of all such, the one that lies best on the edge
    between white teeth and a red lip or, where there is none, on the darkest line.
    """
    whiteness = _blurred(lab[..., 0] - 2 * lab[..., 1], 1.0)
    skin = float(np.median(whiteness[MOUTH_ROWS, MOUTH_COLUMNS]))
    smiles = np.arange(1.0, 20.5, 0.5)
    teeth = [_along(whiteness, corners, sag - 3) for sag in smiles]
    edge = [
        white - _along(whiteness, corners, sag + 3) if white > skin + TEETH_OVER_SKIN else 0.0
        for white, sag in zip(teeth, smiles, strict=True)
    ]
    best = int(np.argmax(edge))
    if edge[best] > TEETH_EDGE:
        return float(smiles[best]) + HALF_EDGE_PX, True
    return _darkest_sag(_blurred(lab[..., 0], 1.0), corners), False


def _darkest_sag(light: Plane, corners: tuple[Point, Point]) -> float:
    sags = np.arange(-6.0, 12.5, 0.5)
    light_around = [
        _along(light, corners, sag - 5) + _along(light, corners, sag + 5) - abs(sag) for sag in sags
    ]
    light_on = [2 * _along(light, corners, sag) for sag in sags]
    return float(sags[int(np.argmax(np.subtract(light_around, light_on)))])


def _along(plane: Plane, corners: tuple[Point, Point], sag: float) -> float:
    """The mean of a plane along the middle of the parabola through the corners."""
    (left, top), (right, bottom) = corners
    across = np.linspace(-0.7, 0.7, 25, dtype=np.float32)
    x = (left + right) / 2 + across * (right - left) / 2
    y = (top + bottom) / 2 + across * (bottom - top) / 2 + sag * (1 - across**2)
    return float(cv2.remap(plane, x, y.astype(np.float32), cv2.INTER_LINEAR).mean())


def _size_px(left_eye: Point, right_eye: Point, box_width: float) -> float:
    return max(math.dist(left_eye, right_eye), 0.4 * box_width)


def _blurred(plane: Plane, sigma_px: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma_px), np.float32)


def _slope(left: Point, right: Point) -> float:
    return math.atan2(right[1] - left[1], right[0] - left[0])


def _apply(transform: Transform, point: Point) -> Point:
    x, y = transform @ (*point, 1.0)
    return float(x), float(y)


def _warped(picture: Picture, transform: Transform, size: tuple[int, int]) -> Picture:
    border = cv2.BORDER_REPLICATE
    warped = cv2.warpAffine(picture, transform, size, flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(warped, np.uint8)
