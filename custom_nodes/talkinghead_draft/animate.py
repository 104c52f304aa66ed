"""A portrait that moves: mouth, eyelids and head, each a small smooth warp of the picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
import numpy.typing as npt

from .face import Face, Mask, Picture, Plane, Point, bounds
from .voice import Motion, Track

# Lengths are in face sizes: the distance between the eyes as seen from the front.
WIDEST_GAP = 0.22
UPPER_LIP_SHARE = 0.18  # of the gap; the rest is the jaw's
CHIN_BELOW_MOUTH = 0.75
JAW_TRAVEL = 0.72  # of the lower lip's way
CORNER_SHIFT = 0.12  # how far width moves the corners, in half mouth widths
EYE_HALF_WIDTH, UPPER_LID, LOWER_LID, BROW = 0.27, 0.07, 0.085, 0.24
BLINK_SECONDS = 0.2
BLINK_EVERY_SECONDS = (2.0, 6.0)
SWAY_ACROSS, SWAY_DOWN, SWAY_DEGREES = 0.035, 0.02, 0.9
SWAY_HERTZ = (0.07, 0.33)
HEAD_REACH = 0.75  # of the way to the nearest other head, so that neither moves the other
NOD_WITH_VOICE, NOD_WITHOUT_FACE = 0.03, 0.16
DARK, TONGUE, TEETH = (48, 17, 18), (158, 78, 76), (222, 212, 196)  # RGB in full light


@dataclass(frozen=True)
class Sway:
    """The head's motion per frame: shifts in face sizes, the turn in radians."""

    across: Track
    down: Track
    turn: Track


@dataclass(frozen=True)
class Speaker:
    """A voice's motion, where its speaker is [H, W], and the face there, if one was found."""

    motion: Motion
    region: Mask
    face: Face | None


def preview_frames(
    portrait: Picture, speakers: Sequence[Speaker], fps: Fraction, seed: int
) -> Iterator[Picture]:
    """One RGB frame [H, W, 3] for each value of the motions; the same seed gives the same frames.

    Without a face the middle of a speaker's region sways and nods with the voice.
    """
    random = np.random.default_rng(seed)
    people = [_Person(portrait, speakers, one, fps, random) for one in speakers]
    for frame in range(len(speakers[0].motion.openness)):
        picture = portrait.copy()
        for person in people:
            person.draw_face(picture, frame)
        for person in people:
            person.draw_head(picture, frame)
        yield picture


def dubbed_frames(
    followed: Iterable[tuple[Picture, Sequence[Face | None]]], motions: Sequence[Motion]
) -> Iterator[Picture]:
    """The frames of a video with each speaker's mouth opened by that speaker's motion.

    Nothing else moves: the video does so by itself.
    """
    for frame, (picture, faces) in enumerate(followed):
        dubbed = picture.copy()
        for face, motion in zip(faces, motions, strict=True):
            if face and motion.openness[frame]:
                mouth = _MouthWarp(dubbed, face)
                mouth.draw(dubbed, float(motion.openness[frame]), float(motion.width[frame]))
        yield dubbed


def blink_track(num_frames: int, fps: Fraction, random: np.random.Generator) -> Track:
    """How far the lids are closed in each frame, 0 to 1."""
    seconds = np.arange(num_frames) / float(fps)
    closed = np.zeros(num_frames)
    start = float(random.uniform(*BLINK_EVERY_SECONDS))
    while num_frames and start < seconds[-1]:
        first, last = np.searchsorted(seconds, (start, start + BLINK_SECONDS))
        phase = (seconds[first:last] - start) / BLINK_SECONDS
        closed[first:last] = np.clip(1.5 * np.sin(np.pi * phase), 0, 1)
        start += float(random.uniform(*BLINK_EVERY_SECONDS))
    return closed


def sway_track(openness: Track, fps: Fraction, random: np.random.Generator, nod: float) -> Sway:
    """A slow wander that starts from rest, and a nod that follows the voice softly."""
    seconds = np.arange(len(openness)) / float(fps)
    reach = max(1, round(0.25 * float(fps)))
    softly = np.convolve(np.pad(openness, reach, mode="edge"), np.hanning(2 * reach + 3)[1:-1])
    voice = softly[2 * reach : len(softly) - 2 * reach] / (reach + 1)
    return Sway(
        across=SWAY_ACROSS * _wander(seconds, random),
        down=SWAY_DOWN * _wander(seconds, random) + nod * voice,
        turn=math.radians(SWAY_DEGREES) * _wander(seconds, random),
    )


def _wander(seconds: Track, random: np.random.Generator) -> Track:
    hertz, sign = random.uniform(*SWAY_HERTZ, 3), random.choice((-1.0, 1.0), 3)
    return np.asarray((np.sin(2 * np.pi * np.outer(seconds, hertz)) @ sign) / 2)


@dataclass(frozen=True)
class _Region:
    """A part of the picture, with each pixel's place in a turned frame of reference.

    `across` and `down` are in pixels from the origin, along and square to the given angle.
    """

    part: tuple[slice, slice]
    x: Plane
    y: Plane
    across: Plane
    down: Plane
    angle: float

    def pulled(self, picture: Picture, across: Plane, down: Plane) -> Picture:
        """The region with each pixel taken from (across, down) away, of the same region."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        x, y = self.x + across * cos - down * sin, self.y + across * sin + down * cos
        taken = cv2.remap(
            picture[self.part], x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(taken, np.uint8)


def _region(picture: Picture, origin: Point, angle: float, reach: tuple[float, ...]) -> _Region:
    """The part within reach (left, up, right, down; pixels) of the origin."""
    height, width = picture.shape[:2]
    left, top = _within(origin[0] - reach[0], width - 1), _within(origin[1] - reach[1], height - 1)
    right = max(left + 1, _within(origin[0] + reach[2], width))
    bottom = max(top + 1, _within(origin[1] + reach[3], height))
    y, x = np.mgrid[0 : bottom - top, 0 : right - left].astype(np.float32)
    dx, dy = x + (left - origin[0]), y + (top - origin[1])
    cos, sin = math.cos(angle), math.sin(angle)
    part = (slice(top, bottom), slice(left, right))
    across, down = (dx * cos + dy * sin), (dy * cos - dx * sin)
    return _Region(part, x, y, across.astype(np.float32), down.astype(np.float32), angle)


def _within(value: float, last: int) -> int:
    return int(min(max(value, 0), last))


class _MouthWarp:
    """Opens the portrait's mouth along the line where its lips part."""

    def __init__(self, portrait: Picture, face: Face) -> None:
        self._size = size = face.size_px
        self._mouth = face.mouth
        reach = (1.5 * size, 1.1 * size, 1.5 * size, 1.8 * size)
        self._region = region = _region(portrait, face.mouth.centre, face.mouth.angle, reach)
        self._jaw = JAW_TRAVEL * np.exp(-((region.across / (0.75 * size)) ** 4))
        near = (region.across / (1.6 * face.mouth.half_width_px)) ** 2
        self._near_lips = np.exp(-(near**2) - (region.down / (0.45 * size)) ** 2)
        self._chin_fade = 1 - _step((region.down / size - CHIN_BELOW_MOUTH) / 0.6)
        skin = np.median(portrait[region.part][abs(region.across) < size], axis=0)
        self._palette = _palette(skin)

    def draw(self, picture: Picture, openness: float, width: float) -> None:
        if openness == 0 and width == 0:
            return
        gap = openness * WIDEST_GAP * self._size
        upper = 0.0 if self._mouth.shows_teeth else gap * UPPER_LIP_SHARE
        region = self._region
        shift = -CORNER_SHIFT * width * self._near_lips * region.across
        along = (region.across + shift) / self._mouth.half_width_px
        level = np.minimum(along**2, 1)
        below = region.down - self._mouth.sag_px * (1 - level)
        lips = np.maximum(0, 1 - level / 0.85) ** 0.8
        top, bottom = -upper * lips, (gap - upper) * lips
        pull = np.where(
            below > 0,
            -self._lower(below - bottom, lips) * (gap - upper),
            self._upper(below - top) * -top,
        )
        warped = region.pulled(picture, shift, pull.astype(np.float32))
        picture[region.part] = self._inside(warped, along, below - top, bottom - below)

    def _lower(self, under_lip: Plane, lips: Plane) -> Plane:
        """The share of the lower lip's way that each pixel goes down: lip, then jaw, then none."""
        jaw = _step(under_lip / (0.32 * self._size))
        return np.asarray((lips + (self._jaw - lips) * jaw) * self._chin_fade)

    def _upper(self, over_lip: Plane) -> Plane:
        return _step(1 + over_lip / (0.35 * self._size))

    def _inside(self, warped: Picture, along: Plane, under: Plane, over: Plane) -> Picture:
        """Paint the inner mouth between `under` the upper lip and `over` the lower one (pixels)."""
        rows, columns = np.nonzero(np.minimum(under, over) > 0)
        if not rows.size:
            return warped
        box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
        along, under, over = along[box], under[box], over[box]
        size, height = self._size, np.maximum(under + over, 1e-3)
        dark, tongue, teeth = self._palette
        raised = np.exp(-((over / (0.5 * height)) ** 2)) * np.clip(height / (0.18 * size), 0, 1)
        paint = _mix(dark, tongue, 0.85 * raised * np.clip(1 - along**2, 0, 1))
        paint = paint * (0.5 + 0.5 * _step(under / (0.12 * size)))[..., None]
        if not self._mouth.shows_teeth:
            row = _step((0.08 * size - under) / (0.03 * size)) * _step(1.9 - 2.2 * abs(along))
            shade = (0.7 + 0.3 * _step(under / (0.05 * size)))[..., None]
            paint = _mix(paint, teeth * shade, 0.85 * row * np.clip(height / (0.13 * size), 0, 1))
        softness = max(1.0, 0.035 * size)
        cover = _step(np.minimum(under, over) / softness)
        warped[box] = _mix(warped[box], paint, cover).round().astype(np.uint8)
        return warped


class _EyeWarp:
    """Pulls the skin above one eye down over it."""

    def __init__(self, portrait: Picture, eye: Point, angle: float, size: float) -> None:
        reach = (0.45 * size, 0.45 * size, 0.45 * size, 0.35 * size)
        self._region = _region(portrait, eye, angle, reach)
        bow = np.clip(1 - (self._region.across / (EYE_HALF_WIDTH * size)) ** 2, 0, 1)
        self._lid, self._open = -UPPER_LID * size * bow, (UPPER_LID + LOWER_LID) * size * bow
        self._brow = -BROW * size
        self._softness = max(1.0, 0.03 * size)

    def draw(self, picture: Picture, closed: float) -> None:
        if closed == 0:
            return
        down, brow = self._region.down, self._brow
        edge = self._lid + closed * self._open
        skin = np.clip(down - brow, 0, None) * (self._lid - brow) / (edge - brow) + brow
        pull = np.where(down > brow, np.minimum(skin, self._lid) - down, 0)
        pulled = self._region.pulled(picture, np.zeros_like(pull), pull.astype(np.float32))
        cover = 1 - _step((down - edge) / self._softness + 0.5)
        here = picture[self._region.part]
        picture[self._region.part] = _mix(here, pulled, cover).round().astype(np.uint8)


class _HeadWarp:
    """Moves the head as a whole; a soft edge around it keeps the background still."""

    def __init__(self, portrait: Picture, middle: Point, size: float, reach: float) -> None:
        self._size = size
        across, down = min(3.0 * size, reach), min(3.6 * size, 1.2 * reach)
        self._region = _region(portrait, middle, 0.0, (across, down, across, down))
        distance = np.hypot(self._region.across / across, self._region.down / down)
        self._weight = 1 - _step((distance - 0.5) / 0.5)
        self._from_neck = self._region.down - 1.6 * self._size

    def draw(self, picture: Picture, sway: Sway, frame: int) -> None:
        across = self._size * float(sway.across[frame])
        down = self._size * float(sway.down[frame])
        turn = float(sway.turn[frame])
        if across == down == turn == 0:
            return
        x = (turn * self._from_neck - across) * self._weight
        y = (-turn * self._region.across - down) * self._weight
        picture[self._region.part] = self._region.pulled(picture, x, y)


class _Person:
    """One speaker's mouth, eyes and head, and how they move."""

    def __init__(
        self,
        portrait: Picture,
        speakers: Sequence[Speaker],
        speaker: Speaker,
        fps: Fraction,
        random: np.random.Generator,
    ) -> None:
        self._motion, face = speaker.motion, speaker.face
        self._blinks = blink_track(len(self._motion.openness), fps, random)
        nod = NOD_WITH_VOICE if face else NOD_WITHOUT_FACE
        self._sway = sway_track(self._motion.openness, fps, random, nod)
        self._mouth = _MouthWarp(portrait, face) if face else None
        self._eyes = _eye_warps(portrait, face) if face else ()
        others = [head for other in speakers if other is not speaker and (head := _head(other))]
        self._head = _head_warp(portrait, _head(speaker), others)

    def draw_face(self, picture: Picture, frame: int) -> None:
        if self._mouth:
            openness, width = self._motion.openness[frame], self._motion.width[frame]
            self._mouth.draw(picture, float(openness), float(width))
        for eye in self._eyes:
            eye.draw(picture, float(self._blinks[frame]))

    def draw_head(self, picture: Picture, frame: int) -> None:
        if self._head:
            self._head.draw(picture, self._sway, frame)


def _head(speaker: Speaker) -> tuple[Point, float] | None:
    """The middle of a speaker's head and its face size, pixels; None in an empty region."""
    if face := speaker.face:
        ends = (face.left_eye, face.right_eye, face.mouth.centre, face.mouth.centre)
        return (sum(x for x, _ in ends) / 4, sum(y for _, y in ends) / 4), face.size_px
    if not speaker.region.any():
        return None
    x, y, width, height = bounds(speaker.region)
    return (x + width / 2, y + 0.42 * height), 0.18 * min(width, height)


def _head_warp(
    portrait: Picture, head: tuple[Point, float] | None, others: Sequence[tuple[Point, float]]
) -> _HeadWarp | None:
    if head is None:
        return None
    middle, size = head
    reach = HEAD_REACH * min((math.dist(middle, other) for other, _ in others), default=math.inf)
    return _HeadWarp(portrait, middle, size, max(reach, size))


def _eye_warps(portrait: Picture, face: Face) -> tuple[_EyeWarp, ...]:
    eyes = (face.left_eye, face.right_eye)
    return tuple(_EyeWarp(portrait, eye, face.angle, face.size_px) for eye in eyes)


def _palette(skin: npt.NDArray[np.float64]) -> tuple[Plane, ...]:
    """Dark, tongue and teeth [3] in the portrait's light, and grey where the portrait is grey."""
    light = np.clip(skin.mean() / 175, 0.35, 1.1)
    colour = np.clip((skin.max() - skin.min()) / 40, 0, 1)
    full = (
        np.array((DARK, TONGUE, TEETH), np.float32)
        * light
        * np.sqrt((skin + 1) / (skin + 1).mean())
    )
    grey = full.mean(axis=1, keepdims=True)
    return tuple((grey + colour * (full - grey)).clip(0, 255).astype(np.float32))


def _step(x: Plane) -> Plane:
    """A smooth step from 0 at x = 0 to 1 at x = 1."""
    x = np.clip(x, 0, 1)
    return np.asarray(x * x * (3 - 2 * x), np.float32)


def _mix(under: Plane | Picture, over: Plane | Picture, cover: Plane) -> Plane:
    cover = cover[..., None]
    return np.asarray(under * (1 - cover) + over * cover, np.float32)
