"""A video looked at: each frame shrunk to a small picture of its brightness, and measured.

All of it is in levels of brightness, 0 black to 255 white. What the figures mean, and from where on
they mean a fault, is for `defects`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from PIL import Image

from talkinghead.errors import RenderFailed
from talkinghead.media.heartbeat import beat

Luma: TypeAlias = npt.NDArray[np.uint8]  # [height, width]: 16 black to 235 white, as in a video
Small: TypeAlias = npt.NDArray[np.float32]  # [height, width], levels
Track: TypeAlias = npt.NDArray[np.float64]  # [frames]
Box: TypeAlias = tuple[int, int, int, int]  # left, top, right, bottom

SMALL_SIDE = 96  # about so many pixels: enough to tell a picture from noise, and quick
FINE_EVERY_ROWS = 8
CELL = 8  # pixels of the small picture: a mouth is about one cell
LATENT_SIDE = 8  # pixels, of what one value of the model's latents becomes
STEADY = 0.6  # as like as this where they are, two frames need not be moved to be compared
BLACK, LEVELS = 16, 255 / 219  # of the luma in a video
BT709_LUMA = (0.2126, 0.7152, 0.0722, 0)  # as our videos have it; Pillow's own is BT.601
TO_VIDEO_RANGE = [round(BLACK + level / LEVELS) for level in range(256)]


@dataclass(frozen=True)
class Glance:
    """What is kept of a frame: small, and how much neighbours differ.

    Attributes:
        fine: at full size, levels.
        grain: the same as a share of the contrast, in the direction in which it is less: 1.1 for
            noise, 0 for stripes.
        rough: as `grain`, of what is left if a pixel is as large as one of the latents'.
        chance: how like another frame of noise may be, out of latents, where it lies on it best.
    """

    small: Small
    fine: float
    grain: float
    rough: float
    chance: float


@dataclass(frozen=True)
class Figures:
    """What was measured of frames, one number each.

    Attributes:
        mean, std: brightness and contrast, levels.
        fine, grain, rough: how much neighbours differ, as a `Glance` has it.
        moved: how much the cell changed that changed most since the frame before, levels. Not a
            number for the first frame.
        steady: the likeness to the frame before, wherever that moved to, above that by chance: 0
            for noise. Not a number for the first frame.
    """

    mean: Track
    std: Track
    fine: Track
    grain: Track
    rough: Track
    moved: Track
    steady: Track


@dataclass(frozen=True)
class Seen:
    """Frames as measured, and if it is known what each of them is made from, that beside it.

    `likeness` is the correlation of the two, 1 for the same picture and 0 for another; it does not
    see brightness and contrast. Of a source that is a still picture, `moved` is not a number.
    """

    frames: Figures
    source: Figures | None
    likeness: Track | None

    def __len__(self) -> int:
        return len(self.frames.mean)


class Eye:
    """Sees frames one after another, and measures them."""

    def __init__(self) -> None:
        self._frames, self._source = _Measurer(), _Measurer()
        self._likeness: list[float] = []

    def see(self, frame: Glance, source: Glance | None = None) -> None:
        """Measure the next frame, beside what it is made from: of each frame, or of none."""
        self._frames.add(frame)
        if source is not None:
            self._source.add(source)
            self._likeness.append(likeness(frame.small, source.small))

    def seen(self) -> Seen:
        """All of them."""
        if not self._likeness:
            return Seen(self._frames.figures(), None, None)
        return Seen(self._frames.figures(), self._source.figures(), np.array(self._likeness))


class _Measurer:
    """The figures of frames, as they come. Of one that comes again at once, they are known."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []
        self._last: Glance | None = None

    def add(self, glance: Glance) -> None:
        """Measure the next frame; the same one again stands still, and is no motion."""
        if glance is self._last:
            self._rows.append((*self._rows[-1][:5], np.nan, np.nan))
            return
        small, moved, steady = glance.small, np.nan, np.nan
        if self._last is not None:
            moved = _peak(small - self._last.small)
            steady = (_followed(self._last.small, small) - glance.chance) / (1 - glance.chance)
        self._last = glance
        still = float(small.mean()), float(small.std()), glance.fine, glance.grain, glance.rough
        self._rows.append((*still, moved, steady))

    def figures(self) -> Figures:
        """Those of all frames so far."""
        return Figures(*np.array(self._rows, np.float64).reshape(-1, 7).T)


def _peak(difference: Small) -> float:
    """The largest mean change of a cell of CELL x CELL pixels."""
    height, width = (side // CELL * CELL for side in difference.shape)
    if not height or not width:
        return float(np.abs(difference).mean())
    cells = np.abs(difference[:height, :width]).reshape(height // CELL, CELL, width // CELL, CELL)
    return float(cells.mean((1, 3)).max())


def likeness(one: Small, other: Small) -> float:
    """The correlation of two pictures of one size, -1 to 1; 0 where one of them is flat."""
    one, other = one - one.mean(), other - other.mean()
    norm = float(np.sqrt(np.vdot(one, one) * np.vdot(other, other)))
    return float(np.vdot(one, other)) / norm if norm > 1e-3 else 0.0


def _followed(one: Small, other: Small) -> float:
    """The likeness of two pictures where one was moved to lie best on the other."""
    at_rest = likeness(one, other)
    if at_rest > STEADY:
        return at_rest
    one, other = one - one.mean(), other - other.mean()
    norm = float(np.sqrt(np.vdot(one, one) * np.vdot(other, other)))
    if norm <= 1e-3:
        return 0.0
    moves = np.fft.irfft2(np.fft.rfft2(one).conj() * np.fft.rfft2(other), s=one.shape)
    return float(moves.max()) / norm


# ---- Frames


def glance(luma: Luma) -> Glance:
    """What is kept of a frame."""
    height, width = luma.shape
    picture, factor = Image.fromarray(luma), _factor(width, height)
    small = np.asarray(picture.reduce(factor), np.float32)
    coarse = small
    if (more := round(LATENT_SIDE / factor)) > 1:
        coarse = np.asarray(picture.reduce(more * factor), np.float32)
    rows, below = luma[::FINE_EVERY_ROWS], luma[1::FINE_EVERY_ROWS]
    across = _apart(rows[:, 1:], rows[:, :-1]) if width > 1 else 0.0
    down = _apart(rows[: len(below)], below) if height > 1 else 0.0
    contrast = float(cv2.meanStdDev(rows)[1][0, 0])
    return Glance(
        np.asarray((small - BLACK) * np.float32(LEVELS)),
        across * LEVELS,
        min(across, down) / max(contrast, 1.0),
        _roughness(coarse),
        _chance(width, height),
    )


def _apart(one: Luma, other: Luma) -> float:
    """The mean difference; OpenCV has no need of wider integers, and takes a tenth of the time."""
    return float(cv2.mean(cv2.absdiff(one, other))[0])


def _chance(width: int, height: int) -> float:
    """The largest of as many correlations of noise as there are places to move it to."""
    latents = max(8.0, width * height / LATENT_SIDE**2)
    return math.sqrt(2 * math.log(latents) / latents)


def _roughness(picture: Small) -> float:
    """How much neighbours differ, in the direction in which it is less, of the contrast."""
    if min(picture.shape) < 2:
        return 0.0
    steps = min(float(np.abs(np.diff(picture, axis=axis)).mean()) for axis in (0, 1))
    return steps / max(float(picture.std()), 1.0)


def _factor(width: int, height: int) -> int:
    return max(1, round(max(width, height) / SMALL_SIDE))


def luma_of(frame: VideoFrame | Image.Image) -> Luma:
    """The brightness of a decoded frame, or of a picture. That of a frame must not be changed."""
    if isinstance(frame, Image.Image):
        rgb = frame.convert("RGB")
        return np.asarray(rgb.convert("L", matrix=BT709_LUMA).point(TO_VIDEO_RANGE))
    if frame.format.name not in ("yuv420p", "yuv422p", "yuv444p", "nv12") or (
        frame.color_range == ColorRange.JPEG
    ):
        frame = frame.reformat(format="yuv420p", dst_color_range=ColorRange.MPEG)
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height, : frame.width]


def frames_of(path: Path, check: Callable[[], None] = lambda: None) -> Iterator[VideoFrame]:
    """The frames of a video of ours, decoded one by one. What `check` raises ends it.

    Raises:
        RenderFailed: it cannot be decoded.
    """
    try:
        with av.open(str(path)) as container:
            video = container.streams.video[0]
            video.thread_type = "FRAME"
            for frame in container.decode(video):
                check()
                yield frame
    except av.FFmpegError as error:
        raise RenderFailed(f"what was rendered cannot be decoded: {error.strerror}") from error


# ---- What frames are made from
#
# Strangers' pictures: they are opened in the sandbox, which leaves what is kept of each as numbers.


def save_glances(sources: Sequence[Path], target: Path, *, box: Box) -> None:
    """Write what is kept of pictures, or of the frames of a video, to the target.

    Args:
        sources: pictures, or one .mp4.
        box: what of each becomes the video's picture.
    """
    with target.open("wb") as file:
        for frame in _opened(sources):
            beat()
            left, top, right, bottom = box
            kept = glance(np.ascontiguousarray(luma_of(frame)[top:bottom, left:right]))
            file.write(kept.small.astype("<f2").tobytes())
            file.write(np.array([kept.fine, kept.grain, kept.rough], "<f4").tobytes())


def _opened(sources: Sequence[Path]) -> Iterator[VideoFrame | Image.Image]:
    for path in sources:
        if path.suffix == ".mp4":
            yield from frames_of(path)
        else:
            with Image.open(path) as image:
                yield image


class Glances:
    """What `save_glances` wrote of frames of this size, one at a time; past the end, the last."""

    def __init__(self, path: Path, width: int, height: int) -> None:
        factor = _factor(width, height)
        self._path = path
        self._shape = -(-height // factor), -(-width // factor)
        self._chance = _chance(width, height)
        self._pixels = self._shape[0] * self._shape[1] * 2  # bytes, of its record
        self._bytes = self._pixels + 3 * 4
        self._last: tuple[int, Glance] | None = None
        with contextlib.suppress(FileNotFoundError):
            self._count = path.stat().st_size // self._bytes

    def __getitem__(self, index: int) -> Glance:
        index = min(index, self._count - 1)
        if self._last is None or self._last[0] != index:
            with self._path.open("rb") as file:
                file.seek(index * self._bytes)
                record = file.read(self._bytes)
            pixels, rest = record[: self._pixels], np.frombuffer(record[self._pixels :], "<f4")
            small = np.frombuffer(pixels, "<f2").astype(np.float32).reshape(self._shape)
            fine, grain, rough = map(float, rest)
            self._last = index, Glance(small, fine, grain, rough, self._chance)
        return self._last[1]
