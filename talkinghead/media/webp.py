"""Animated WebP, which FFmpeg does not read: frames by Pillow, times by the file's own chunks."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

HEAD_BYTES = 12
MAX_CHUNKS = 100_000  # a frame is one
# What browsers, and FFmpeg in a GIF, show for so long: a delay of none was never meant.
SHORTEST_MS, INSTEAD_MS = 11, 100


class Animation(NamedTuple):
    """The size of the picture, and when each frame is shown, then the end: in milliseconds."""

    width: int
    height: int
    times: tuple[int, ...]


def is_webp(path: Path) -> bool:
    """Whether the file begins as a WebP does."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return head[:4] == b"RIFF" and head[8:] == b"WEBP"


def read_animation(path: Path) -> Animation:
    """The animation's size and times; nothing is decoded.

    Raises:
        ValueError: it is not animated.
    """
    size, delays = (0, 0), list[int]()
    for kind, data in _chunks(path):
        if kind == b"VP8X" and not delays:
            size = _number(data[4:7]) + 1, _number(data[7:10]) + 1
        elif kind == b"ANMF":
            delay = _number(data[12:15])
            delays.append(delay if delay >= SHORTEST_MS else INSTEAD_MS)
    if not delays:
        raise ValueError("it is a WebP without animation, a picture")
    return Animation(*size, (0, *itertools.accumulate(delays)))


def read_frames(path: Path) -> Iterator[VideoFrame]:
    """The frames on white, as browsers show them, up to the first that is damaged.

    Raises:
        ValueError: the file is cut off: the decoder takes none but whole ones.
    """
    try:
        opened = Image.open(path, formats=["WEBP"])
    except (OSError, Image.DecompressionBombError):
        raise ValueError("it is an animated WebP that is damaged") from None
    with opened as image:
        for number in itertools.count():
            try:
                image.seek(number)
                image.load()
            except (EOFError, OSError, ValueError):
                return
            yield VideoFrame.from_ndarray(np.asarray(_on_white(image)), format="rgb24")


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Each chunk's kind and the beginning of its data."""
    with path.open("rb") as file, contextlib.suppress(OSError):
        file.seek(HEAD_BYTES)
        for _ in range(MAX_CHUNKS):
            head = file.read(8)
            size = _number(head[4:])
            data = file.read(min(size, 16))
            if not head:
                return
            yield head[:4], data
            file.seek(size + size % 2 - len(data), 1)
