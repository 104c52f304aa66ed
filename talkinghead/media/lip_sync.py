"""How the mouths of a video go with the voices: by how many frames they lag, and how closely.

An open mouth is dark. So the darkness of the patch below the nose is held against the loudness of
the voice; docs/quality.md tells what that is worth. Faces are found, never recognised.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from talkinghead.media import sound
from talkinghead.media.containers import decoding
from talkinghead.media.faces import SEARCHES, detector
from talkinghead.media.heartbeat import beat
from talkinghead.media.masks import Box
from talkinghead.media.player import Index, Player, read_index

Curve: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Luma: TypeAlias = npt.NDArray[np.uint8]
Point: TypeAlias = npt.NDArray[np.float64]  # x, y

LOOK_SECONDS = 1.0  # from one look for faces to the next: between them they move evenly
# So much of a longer video is looked at, in stretches that are spread over it.
MOST_SECONDS, STRETCH_SECONDS = 60.0, 10.0
# The patch around the mouth, in pixels: its size, where the mouth is in it, how far below the eyes
# that is, and what of it is judged by darkness and by motion.
PATCH_SIZE, MOUTH, EYES_TO_MOUTH = (64, 48), (32.0, 18.3), 37.6
LIPS, ABOUT_LIPS = np.s_[14:36, 20:44], np.s_[8:40, 12:52]
DARKEST_PERCENT = 10
TREND_SECONDS = 2.0  # slower changes are those of light and pose
BLUR_SECONDS = 0.01  # what is heard just before and after a frame moves the mouth in it, too
MOST_LAG_SECONDS = 0.48
PAUSE_SECONDS = 0.5  # a voice that is silent for no longer still speaks
# Below them nothing is said: so long a voice, and so much change from frame to frame, in the
# twentieth that changes most. A still face that was encoded had 0.01, one that hardly moves 0.15.
LEAST_SECONDS, LEAST_MOTION = 4.0, 0.3
LEAST_SEEN = 0.5  # of the frames
WARNED_FRAMES, WARNED_SECONDS = 2, 0.08  # two frames of the model's: less, few people see


@dataclass(frozen=True)
class LipSync:
    """How a mouth goes with its voice.

    The picture is `lag_frames` late, early if below 0; `strength` is the correlation at that lag,
    up to 1; `windows` of the render were compared.
    """

    lag_frames: int
    strength: float
    windows: int

    def warning(self, voice: str, fps: float) -> str | None:
        """What a caller should know: a lag that a viewer may see."""
        lag = abs(self.lag_frames)
        if lag < WARNED_FRAMES or lag / fps < WARNED_SECONDS:
            return None
        when = "after" if self.lag_frames > 0 else "before"
        return f"{voice}: the mouth moves {lag} frames ({lag / fps * 1000:.0f} ms) {when} the sound"


@dataclass(frozen=True)
class Mouth:
    """What was seen of a mouth, and heard of its voice, in each of `frames` of the video.

    `darkness` is that of the patch, None where no face was found; `loudness` the root of the
    voice's RMS. `sync` is None where they mean nothing.
    """

    frames: tuple[int, ...]
    darkness: tuple[float | None, ...]
    loudness: tuple[float, ...]
    sync: LipSync | None


def watch_mouths(
    name: str,
    video: Path,
    tracks: Sequence[Path],
    *,
    faces: Sequence[Box | None],
    starts: Sequence[int] = (0,),
) -> tuple[Mouth, ...]:
    """Hold each voice's mouth against its track of speech, as `save_speech` writes it.

    `faces` are where their faces are at first, in shares of the frame's sides; where that is not
    known of all of them, the largest are taken from left to right. `starts` are the first frames of
    the render's windows. Of a video of more than a minute, a minute is looked at.

    Raises:
        MediaInvalid: not a video, or no frame of it can be decoded.
    """
    index = read_index(name, video)
    fps = index.frames / index.seconds
    stretches, watched = _stretches(index.frames, fps), [_Watched(fps) for _ in tracks]
    with decoding(name, "video"), contextlib.closing(Player(name, video, index)) as player:
        for stretch in stretches:
            eyes = _Eyes(faces)
            frames = _frames(player, index, stretch, fps)
            for patches in eyes.follow(frames, max(1, round(LOOK_SECONDS * fps)), len(stretch)):
                for each, patch in zip(watched, patches, strict=True):
                    each.see(patch)
            for each in watched:
                each.end()
    both = zip(watched, tracks, strict=True)
    return tuple(
        each.mouth(stretches, _loudness(track, stretches, fps), starts) for each, track in both
    )


def _stretches(frames: int, fps: float) -> list[range]:
    """The frames that are looked at."""
    if frames <= MOST_SECONDS * fps:
        return [range(frames)]
    count, length = round(MOST_SECONDS / STRETCH_SECONDS), round(STRETCH_SECONDS * fps)
    firsts = np.linspace(0, frames - length, count).astype(int).tolist()
    return [range(first, first + length) for first in firsts]


def _frames(player: Player, index: Index, stretch: range, fps: float) -> Iterator[VideoFrame]:
    for number in stretch:
        yield player.frame_at(index.tick((number + 0.5) / fps, loop=False)).frame


def _loudness(track: Path, stretches: Sequence[range], fps: float) -> Curve:
    """The root of the RMS around each frame: so, loud vowels do not outweigh all else."""
    powers = []
    with wave.open(str(track)) as file:
        length, rate = file.getnframes(), file.getframerate()
        for number in itertools.chain(*stretches):
            beat()
            first = max(0, round((number / fps - BLUR_SECONDS) * rate))
            file.setpos(min(first, length))
            data = file.readframes(
                max(0, round(((number + 1) / fps + BLUR_SECONDS) * rate) - first)
            )
            samples = np.frombuffer(data, "<i2") / 32768
            powers.append(float(np.mean(samples**2)) if len(samples) else 0.0)
    return np.array(powers) ** 0.25


# ---- Where the mouths are


@dataclass(frozen=True)
class _Pose:
    """A face upright: the middle of its eyes, the way from one to the other, and to the mouth."""

    eyes: Point
    across: Point
    to_mouth: float

    def towards(self, other: _Pose, share: float) -> _Pose:
        """The pose between this one and another."""
        own = 1 - share
        return _Pose(
            own * self.eyes + share * other.eyes,
            own * self.across + share * other.across,
            own * self.to_mouth + share * other.to_mouth,
        )

    def patch(self, luma: Luma) -> Luma | None:
        """The part of the frame around the mouth, upright and of one size; None if it is cut."""
        down = np.array((-self.across[1], self.across[0])) / max(1.0, np.linalg.norm(self.across))
        x, y = self.eyes + self.to_mouth * down
        room, (height, width) = self.to_mouth / 2, luma.shape
        if min(x, y, width - x, height - y) < room:
            return None
        scale = EYES_TO_MOUTH / self.to_mouth
        degrees = math.degrees(math.atan2(self.across[1], self.across[0]))
        turn = cv2.getRotationMatrix2D((float(self.eyes[0]), float(self.eyes[1])), degrees, scale)
        turn[:, 2] = turn[:, 2] + np.array(MOUTH) - (0, EYES_TO_MOUTH) - self.eyes
        return np.asarray(cv2.warpAffine(luma, turn, PATCH_SIZE, flags=cv2.INTER_LINEAR), np.uint8)


class _Eyes:
    """Follows the faces through one stretch of the video, beginning where they are at first."""

    def __init__(self, faces: Sequence[Box | None]) -> None:
        self._faces = faces
        self._places: list[Point] | None = None  # the middles of the faces, when last seen
        self._reaches: list[list[float]] = [[] for _ in faces]

    def follow(
        self, frames: Iterator[VideoFrame], every: int, count: int
    ) -> Iterator[list[Luma | None]]:
        """Each frame's patches, of one mouth each; None where no face was found nearby."""
        before: list[_Pose | None] = [None] * len(self._faces)
        waiting: list[Luma] = []
        for number, frame in enumerate(frames):
            waiting.append(_luma(frame))
            if number % every and number + 1 < count:
                continue
            now = self._poses(frame)
            for step, luma in enumerate(waiting, 1):
                pairs = zip(before, now, strict=True)
                yield [_patch(luma, old, new, step / len(waiting)) for old, new in pairs]
            before, waiting = now, []

    def _poses(self, frame: VideoFrame) -> list[_Pose | None]:
        rows = _detect(frame)
        middles = [row[:2] + row[2:4] / 2 for row in rows]
        places = self._places or self._first_places(frame, rows)
        poses: list[_Pose | None] = []
        for number, place in enumerate(places or [None] * len(self._faces)):
            row = _nearest(rows, middles, place)
            poses.append(None if row is None else self._pose(number, row))
            if places is not None and row is not None:
                places[number] = row[:2] + row[2:4] / 2
        self._places = places
        return poses

    def _first_places(self, frame: VideoFrame, rows: Sequence[Curve]) -> list[Point] | None:
        known = [face for face in self._faces if face is not None]
        if len(known) == len(self._faces):
            boxes = [np.array(box) * ([frame.width, frame.height] * 2) for box in known]
            return [(box[:2] + box[2:]) / 2 for box in boxes]
        largest = sorted(rows, key=lambda row: row[2] * row[3])[-len(self._faces) :]
        if len(largest) < len(self._faces):
            return None
        return [row[:2] + row[2:4] / 2 for row in sorted(largest, key=lambda row: row[0])]

    def _pose(self, number: int, row: Curve) -> _Pose:
        """Eyes steer. The mouth's own points move with it: only their usual distance is taken."""
        right, left, _, one, other = row[4:14].reshape(5, 2)
        eyes = (right + left) / 2
        reaches = self._reaches[number]
        reaches.append(max(1.0, float(np.linalg.norm((one + other) / 2 - eyes))))
        return _Pose(eyes, left - right, float(np.median(reaches)))


def _nearest(rows: Sequence[Curve], middles: Sequence[Point], place: Point | None) -> Curve | None:
    """The face at the place, if one is no more than its own width away."""
    if place is None or not rows:
        return None
    away = [float(np.linalg.norm(middle - place)) for middle in middles]
    nearest = int(np.argmin(away))
    return rows[nearest] if away[nearest] <= rows[nearest][2] else None


def _patch(luma: Luma, old: _Pose | None, new: _Pose | None, share: float) -> Luma | None:
    pose = old.towards(new, share) if old and new else old or new
    return None if pose is None else pose.patch(luma)


def _luma(frame: VideoFrame) -> Luma:
    grey = frame if frame.format.name == "yuv420p" else frame.reformat(format="gray")
    plane = grey.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return np.array(rows[: frame.height, : frame.width])


def _detect(frame: VideoFrame) -> list[Curve]:
    """The detector's rows, in pixels of the frame: a box, and five points as x and y."""
    side, least = SEARCHES[0]
    scale = side / max(frame.width, frame.height)
    size = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
    finder = detector()
    finder.setInputSize(size)
    finder.setScoreThreshold(least)
    found: Any = finder.detect(frame.reformat(*size, "bgr24").to_ndarray())[1]
    back = np.tile((frame.width / size[0], frame.height / size[1]), 7)
    return [] if found is None else [row[:14] * back for row in found.astype(np.float64)]


# ---- What they do


class _Watched:
    """A mouth and its voice, stretch by stretch."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._darkness: list[float] = []
        self._motion: list[float] = []
        self._last: Curve | None = None

    def see(self, patch: Luma | None) -> None:
        """The next frame's patch."""
        if patch is None:
            self._darkness.append(math.nan)
            self._last = None
            return
        self._darkness.append(-float(np.percentile(patch[LIPS], DARKEST_PERCENT)))
        part = patch[ABOUT_LIPS].astype(np.float64)
        part -= part.mean()
        if self._last is not None:
            self._motion.append(float(np.abs(part - self._last).mean()))
        self._last = part

    def end(self) -> None:
        """The next frame is of another stretch."""
        self._last = None

    def mouth(self, stretches: Sequence[range], loudness: Curve, starts: Sequence[int]) -> Mouth:
        """All that was seen, and what was heard meanwhile."""
        frames = list(itertools.chain(*stretches))
        darkness = np.array(self._darkness)
        ends = np.cumsum([len(stretch) for stretch in stretches])[:-1]
        return Mouth(
            frames=tuple(frames),
            darkness=tuple(None if math.isnan(dark) else dark for dark in self._darkness),
            loudness=tuple(round(loud, 4) for loud in loudness.tolist()),
            sync=self._sync(np.array(frames), darkness, loudness, ends, starts),
        )

    def _sync(
        self,
        frames: npt.NDArray[np.int_],
        darkness: Curve,
        loudness: Curve,
        ends: npt.NDArray[np.int_],
        starts: Sequence[int],
    ) -> LipSync | None:
        seen = ~np.isnan(darkness)
        speaks = _speaks(loudness, self._fps) & seen
        seconds = speaks.sum() / self._fps
        moves = np.percentile(self._motion, 95) if self._motion else 0
        if seconds < LEAST_SECONDS or moves < LEAST_MOTION or seen.mean() < LEAST_SEEN:
            return None
        pairs = [
            (self._even(mouth), self._even(voice))
            for mouth, voice in zip(np.split(darkness, ends), np.split(loudness, ends), strict=True)
        ]
        most = round(MOST_LAG_SECONDS * self._fps)
        strengths = {lag: _correlation(pairs, lag) for lag in range(-most, most + 1)}
        lag = max(strengths, key=strengths.__getitem__)
        # At the end of the range it is a slope, as another's voice has it, and no peak.
        if abs(lag) == most or strengths[lag] <= 1 / math.sqrt(seconds):
            return None
        windows = set(np.searchsorted(starts, frames[speaks], side="right").tolist())
        return LipSync(lag, round(strengths[lag], 2), len(windows))

    def _even(self, curve: Curve) -> Curve:
        """The curve less its mean about each frame; what was not seen is as usual."""
        seen = ~np.isnan(curve)
        whole = np.where(seen, curve, curve[seen].mean() if seen.any() else 0)
        reach = min(round(TREND_SECONDS * self._fps / 2), max(1, (len(whole) - 1) // 2))
        kernel = np.full(2 * reach + 1, 1 / (2 * reach + 1))
        trend = np.convolve(np.pad(whole, reach, mode="edge"), kernel, mode="valid")
        return np.where(seen, whole - trend, 0)


def voiced(track: Path, frames: int, fps: float) -> Flags:
    """The frames of a video near which a voice is heard."""
    return _speaks(_loudness(track, [range(frames)], fps), fps)


def _speaks(loudness: Curve, fps: float) -> Flags:
    heard = loudness**2 > sound.QUIET * np.max(loudness, initial=0) ** 2
    reach = round(PAUSE_SECONDS / 2 * fps)
    # Not mode="same": that is as long as the longer of the two, which a short video is not.
    return np.convolve(heard, np.ones(2 * reach + 1))[reach : reach + len(heard)] > 0


def _correlation(pairs: Sequence[tuple[Curve, Curve]], lag: int) -> float:
    """Of the mouth's curve with the voice's, that one so many frames later."""
    products = np.zeros(3)
    for mouth, voice in pairs:
        late = mouth[max(0, lag) : len(mouth) + min(0, lag)]
        early = voice[max(0, -lag) : len(voice) - max(0, lag)]
        late, early = late - late.mean(), early - early.mean()
        products += late @ early, late @ late, early @ early
    return float(products[0] / math.sqrt(products[1] * products[2] + 1e-9))
