"""A video's frames, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from itertools import islice, repeat

import av
import numpy as np

from .face import Picture


def read_frames(source: str | BytesIO, size: tuple[int, int] | None = None) -> Iterator[Picture]:
    """The RGB frames [H, W, 3] of a video as it is shown, scaled to a size (width, height).

    Raises ValueError where the source holds no video.
    """
    with av.open(source, "r") as container:
        if not container.streams.video:
            raise ValueError("the video has no picture: it holds sound only")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            yield _picture(frame, size)


def held(frames: Iterator[Picture], num_frames: int) -> Iterator[Picture]:
    """Exactly so many frames, the last one repeated as often as needed.

    Raises ValueError where there is none.
    """
    frame, missing = None, num_frames
    for frame in islice(frames, num_frames):
        missing -= 1
        yield frame
    if frame is None:
        raise ValueError("the video has no frames")
    yield from repeat(frame, missing)


def _picture(frame: av.VideoFrame, size: tuple[int, int] | None) -> Picture:
    # A phone's upright video lies on its side, with a note how to turn it.
    quarters = round(frame.rotation / 90) % 4
    width, height = size or (None, None)
    if quarters % 2:
        width, height = height, width
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
    return np.ascontiguousarray(np.rot90(pixels, quarters), np.uint8)
