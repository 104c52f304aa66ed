"""Whether the camera of a video moves: what is behind its people is elsewhere some frames later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from talkinghead.media.heartbeat import beat
from talkinghead.media.masks import Box, Framing, inside_box
from talkinghead.media.player import read_index
from talkinghead.media.source_video import SourceVideo, pictures_at

Luma: TypeAlias = npt.NDArray[np.float32]

WIDE_PIXELS = 160  # of the longer side, as it is looked at: a pixel is 5 of 854
BLOCK, REACH = 16, 6  # pixels; a block is looked for so far around its place
LEAST_TEXTURE = 4.0  # levels of deviation: a plain wall looks the same wherever it moves to
STILL_LEVELS, BETTER = 1.5, 0.6  # of noise; a match elsewhere has to be so much better
ANOTHER_SCENE = 0.8  # of its own deviation: nothing of a block is left
MOVING_SHARE = 0.5  # of the blocks: people are fewer
MOST_PLACES, LOOKS = 40, 3  # each looks at a frame and at two after it, within one window


def camera_moves_at(
    name: str,
    source: Path,
    video: SourceVideo,
    *,
    seconds: float,
    span: float,
    people: Sequence[Box],
) -> float | None:
    """When, in seconds, the camera is first seen to have moved, or a cut; None if it stands still.

    It is looked at in the first `seconds`, at up to 40 places, over `span` seconds each. `people`
    are where its people are, in pixels of the video or in fractions of it.

    Raises:
        MediaInvalid: not a video, or no frame of it can be decoded.
    """
    scale = WIDE_PIXELS / max(video.width, video.height)
    width, height = (max(BLOCK, round(side * scale)) for side in (video.width, video.height))
    framing = Framing(video.width, video.height, width, height)
    index = read_index(name, source)
    starts = np.arange(0, max(min(seconds, video.duration) - 0.2, 0.1), span)
    starts = starts[:: max(1, -(-len(starts) // MOST_PLACES))]
    end = video.duration - 1 / video.fps
    times = [float(min(start + span * part, end)) for start in starts for part in (0, 0.5, 1)]
    ticks = (index.tick(time, loop=False) for time in times)
    shown = pictures_at(name, source, index, ticks, framing=framing)
    corners = list(_blocks(framing, people))
    first: Luma | None = None
    for number, (time, picture) in enumerate(zip(times, shown, strict=True)):
        beat()
        luma = np.asarray(picture.convert("L"), np.float32)
        if number % LOOKS == 0:
            first = luma
        elif first is not None and _moved(first, luma, corners):
            return time
    return None


def _blocks(framing: Framing, people: Sequence[Box]) -> Iterator[tuple[int, int]]:
    """Left and top of each block that has room around it and is in front of nobody."""
    width, height = framing.render_width, framing.render_height
    taken = [inside_box(framing, box) for box in people]
    for top in range(REACH, height - BLOCK - REACH + 1, BLOCK):
        for left in range(REACH, width - BLOCK - REACH + 1, BLOCK):
            if not any(mask[top : top + BLOCK, left : left + BLOCK].any() for mask in taken):
                yield left, top


def _moved(first: Luma, later: Luma, corners: Sequence[tuple[int, int]]) -> bool:
    found = [_block_moved(first, later, left, top) for left, top in corners]
    told = [moved for moved in found if moved is not None]
    return sum(told) > MOVING_SHARE * len(told)


def _block_moved(first: Luma, later: Luma, left: int, top: int) -> bool | None:
    """Whether a block is elsewhere later, or nowhere; None of one that looks the same all over.

    Its brightness does not count.
    """
    block = first[top : top + BLOCK, left : left + BLOCK]
    texture = float(block.std())
    if texture < LEAST_TEXTURE:
        return None
    around = later[top - REACH : top + BLOCK + REACH, left - REACH : left + BLOCK + REACH]
    places = sliding_window_view(around, (BLOCK, BLOCK))
    level = places - places.mean((2, 3), keepdims=True)
    differences = np.abs(level - (block - block.mean())).mean((2, 3))
    here, best = float(differences[REACH, REACH]), float(differences.min())
    return here > ANOTHER_SCENE * texture or (here > STILL_LEVELS and best < BETTER * here)
