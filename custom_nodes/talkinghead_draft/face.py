"""Where the face, its eyes and its mouth are in a portrait, from OpenCV's own cascades."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import median
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from cv2.data import haarcascades

Picture = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Plane = npt.NDArray[np.floating[Any]]
Transform = npt.NDArray[np.integer[Any] | np.floating[Any]]  # [2, 3]
Indices = npt.NDArray[np.intp]
Point = tuple[float, float]
Box = tuple[float, float, float, float]  # x, y, width, height

DETECTION_SIDE_PX = 640  # longer side while searching: a face of 1/12 of it still has 50 px
NEAR_SIDE_PX = 240  # the same where the face is known to fill a third of it
REGION_MARGIN = 0.5  # of the region's longer side: a face is not found without what is around it
NEAR_MARGIN = 1.0
NEAR_SHIFT, NEAR_ZOOM = 0.6, 1.6  # in box widths, and as a ratio: beyond, it is another face
TILTS_DEG = (0, -18, 18, -36, 36)  # the cascades themselves bear about 12 degrees
PATCH_EYES_PX = 80  # distance between the eyes in the upright patch that the mouth is read from
PATCH_WIDTH_PX, PATCH_HEIGHT_PX = 200, 220
PATCH_EYE_LINE_PX = 40
USUAL_MOUTH_ROW = PATCH_EYE_LINE_PX + 84  # the lips part 1.05 eye distances below the eyes
LEAST_MOUTH_PX = 26
MOUTH_ROWS, MOUTH_COLUMNS = slice(90, 170), slice(50, 150)
TEETH_EDGE, TEETH_OVER_SKIN = 24.0, 5.0  # in Lab units (L - 2a)
HALF_EDGE_PX = 1.0  # of the patch: the edge is blurred, and a rest of tooth on the lip is seen
LEAST_SCORE = 14.0  # false faces get three to six votes and no eyes
EYES_ACROSS, EYES_DOWN = (0.29, 0.71), 0.38  # of the face cascade's box
# Where in the cascade's box the iris is: the "2splits" boxes reach up to the brow.
EYE_CASCADES = (("eye_tree_eyeglasses", 0.5), ("lefteye_2splits", 0.62), ("righteye_2splits", 0.62))


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
    eyes_seen: bool  # False when their place is only guessed from the box, as behind sunglasses
    mouth: Mouth

    @property
    def size_px(self) -> float:
        """The distance between the eyes as seen from the front; a turned head shows less of it."""
        return _size_px(self.left_eye, self.right_eye, self.box[2])

    @property
    def angle(self) -> float:
        """The tilt of the line between the eyes, radians, clockwise on screen."""
        return _slope(self.left_eye, self.right_eye)


@dataclass(frozen=True)
class _Candidate:
    box: Box
    eyes: tuple[Point, Point]
    eyes_seen: int
    votes: float

    @property
    def score(self) -> float:
        return self.votes * (1 + self.eyes_seen)


def find_face(picture: Picture, region: Mask | None = None) -> Face | None:
    """The most certain face in an RGB picture [H, W, 3], or None.

    With a region [H, W], the most certain one whose middle lies in it.
    """
    if region is None:
        return _found(picture, _whole(picture), DETECTION_SIDE_PX, lambda _: True)
    if not region.any():
        return None
    part = _with_margin(bounds(region), REGION_MARGIN, picture)
    return _found(picture, part, DETECTION_SIDE_PX, lambda box: _middle_in(region, box))


def find_face_near(picture: Picture, face: Face) -> Face | None:
    """The same face in another frame of the same scene, or None."""
    part = _with_margin(face.box, NEAR_MARGIN, picture)
    return _found(picture, part, NEAR_SIDE_PX, lambda box: _is_near(face.box, box))


def bounds(region: Mask) -> Box:
    """The box around a region that is not empty."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y


def _found(picture: Picture, part: Box, side_px: int, fits: Callable[[Box], bool]) -> Face | None:
    """The most certain face in a part of the picture whose box, in the whole picture, fits."""
    x, y, width, height = (int(value) for value in part)
    scale = min(1.0, side_px / max(width, height))
    grey = np.asarray(cv2.cvtColor(picture[y : y + height, x : x + width], cv2.COLOR_RGB2GRAY))
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    to_part, to_picture = _zoomed(1 / scale, (0, 0)), _zoomed(1 / scale, (x, y))
    best = _best_candidate(np.asarray(small, np.uint8), lambda b: fits(_apply_to(to_picture, b)))
    if best is None:
        return None
    left, right = (_apply(to_part, eye) for eye in best.eyes)
    if best.eyes_seen == 2:
        reach = 0.13 * math.dist(left, right)
        left, right = (_iris(np.asarray(grey, np.uint8), eye, reach) for eye in (left, right))
    left, right = (left[0] + x, left[1] + y), (right[0] + x, right[1] + y)
    box = _apply_to(to_picture, best.box)
    mouth = find_mouth(picture, left, right, _size_px(left, right, box[2]))
    return Face(box, left, right, best.eyes_seen == 2, mouth)


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


def _best_candidate(grey: Picture, fits: Callable[[Box], bool]) -> _Candidate | None:
    height, width = grey.shape
    for tilt in TILTS_DEG:
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), tilt, 1.0)
        back = cv2.invertAffineTransform(turn)
        turned = _candidates(_warped(grey, turn, (width, height)))
        candidates = [_turned_back(one, back) for one in turned]
        fitting = [one for one in candidates if one.score >= LEAST_SCORE and fits(one.box)]
        if fitting:
            return max(fitting, key=lambda one: one.score)
    return None


def _candidates(grey: Picture) -> list[_Candidate]:
    least = max(24, max(grey.shape) // 14)
    boxes, votes = _cascade("frontalface_alt2").detectMultiScale2(
        grey, scaleFactor=1.08, minNeighbors=3, minSize=(least, least)
    )
    return [_candidate(grey, box, float(vote)) for box, vote in zip(boxes, votes, strict=True)]


def _candidate(grey: Picture, box: Sequence[int], votes: float) -> _Candidate:
    x, y, width, height = (int(value) for value in box)
    seen = [_eye(grey, (x + side * width // 2, y, width // 2, height)) for side in (0, 1)]
    usual = [(x + across * width, y + EYES_DOWN * height) for across in EYES_ACROSS]
    left, right = (eye or other for eye, other in zip(seen, usual, strict=True))
    return _Candidate((x, y, width, height), (left, right), 2 - seen.count(None), votes)


def _eye(grey: Picture, half_face: tuple[int, int, int, int]) -> Point | None:
    """The middle of what the eye cascades find in one half of a face box."""
    x, y, width, height = half_face
    top = y + height // 5
    part = grey[top : y + height * 3 // 5, x : x + width]
    zoom = max(1.0, 60 / width)  # the eye cascades want eyes of 20 px
    part = np.asarray(cv2.resize(part, None, fx=zoom, fy=zoom), np.uint8)
    hits = [
        (x + (left + side / 2) / zoom, top + (above + side * down) / zoom)
        for name, down in EYE_CASCADES
        for left, above, side, _ in _cascade(name).detectMultiScale(part, 1.05, 2)
    ]
    return (median(hit[0] for hit in hits), median(hit[1] for hit in hits)) if hits else None


def _turned_back(one: _Candidate, back: Transform) -> _Candidate:
    _, _, width, height = one.box
    middle_x, middle_y = _apply(back, _middle(one.box))
    left, right = (_apply(back, eye) for eye in one.eyes)
    box = (middle_x - width / 2, middle_y - height / 2, width, height)
    return replace(one, box=box, eyes=(left, right))


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


def _zoomed(zoom: float, origin: Point) -> Transform:
    return np.array(((zoom, 0, origin[0]), (0, zoom, origin[1])))


def _apply_to(zoomed: Transform, box: Box) -> Box:
    zoom = float(zoomed[0, 0])
    return (*_apply(zoomed, box[:2]), zoom * box[2], zoom * box[3])


def _warped(picture: Picture, transform: Transform, size: tuple[int, int]) -> Picture:
    border = cv2.BORDER_REPLICATE
    warped = cv2.warpAffine(picture, transform, size, flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(warped, np.uint8)


@cache
def _cascade(name: str) -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(f"{haarcascades}haarcascade_{name}.xml")
