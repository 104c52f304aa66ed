"""Whether the camera of a video moves: all that is behind its people moves together, or is gone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from talkinghead.media.heartbeat import beat
from talkinghead.media.masks import Box, Framing, inside_box
from talkinghead.media.player import read_index
from talkinghead.media.source_video import SourceVideo, pictures_at

Luma: TypeAlias = npt.NDArray[np.float32]
Ways: TypeAlias = npt.NDArray[np.uint8]

WIDE_PIXELS = 160  # of the longer side, as it is looked at: a pixel is 5 of 854
BLOCK, MARGIN, REACH = 16, 6, 12  # pixels; a block is looked for so far around its place
LEAST_TEXTURE = 4.0  # levels of deviation: a plain wall looks the same wherever it moves to
STILL_LEVELS, BETTER = 1.5, 0.36  # of noise; a match elsewhere is to be unlike by so much less
ANOTHER_SCENE = 0.5  # of likeness: there is nothing left of a block
# A camera moves where more of the background than this goes one way: those who walk by are fewer,
# or go different ways. With a cut nearly all of it is another.
MOVING_SHARE, CUT_SHARE = 0.7, 0.85
ZOOMS = np.arange(-0.12, 0.13, 0.02)  # pixels that a pixel's distance from the middle grows by
LOOK_SECONDS = 0.25  # a picture that cuts away for half a second is seen
MOST_PLACES = 40  # of one window each: of a long video, some


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

    It is looked at in the first `seconds`, four times a second, in up to 40 stretches of `span`
    seconds, beside the first frame of each. `people` are where its people are, in pixels of the
    video or in fractions of it.

    Raises:
        MediaInvalid: not a video, or no frame of it can be decoded.
    """
    scale = WIDE_PIXELS / max(video.width, video.height)
    width, height = (max(BLOCK, round(side * scale)) for side in (video.width, video.height))
    framing = Framing(video.width, video.height, width, height)
    index = read_index(name, source)
    starts = np.arange(0, max(min(seconds, video.duration) - 0.2, 0.1), span)
    starts = starts[:: max(1, -(-len(starts) // MOST_PLACES))]
    looks = [*np.arange(0, span, LOOK_SECONDS), span]
    end = video.duration - 1 / video.fps
    times = [float(min(start + look, end)) for start in starts for look in looks]
    ticks = (index.tick(time, loop=False) for time in times)
    shown = pictures_at(name, source, index, ticks, framing=framing)
    corners = list(_blocks(framing, people))
    first: Luma | None = None
    with contextlib.closing(shown):
        for number, (time, picture) in enumerate(zip(times, shown, strict=True)):
            beat()
            luma = np.asarray(picture.convert("L"), np.float32)
            if number % len(looks) == 0:
                first = luma
            elif first is not None and _moved(first, luma, corners):
                return time
    return None


def _blocks(framing: Framing, people: Sequence[Box]) -> Iterator[tuple[int, int]]:
    """Left and top of each block that has room around it and is in front of nobody."""
    width, height = framing.render_width, framing.render_height
    taken = [inside_box(framing, box) for box in people]
    for top in range(MARGIN, height - BLOCK - MARGIN + 1, BLOCK):
        for left in range(MARGIN, width - BLOCK - MARGIN + 1, BLOCK):
            if not any(mask[top : top + BLOCK, left : left + BLOCK].any() for mask in taken):
                yield left, top


@dataclass(frozen=True)
class _Block:
    """What became of a block: whether it is `gone`, or where it may be now.

    `ways` is 1 at each displacement where it is found, down and to the right, -REACH to REACH each;
    nowhere if it stands still.
    """

    left: int
    top: int
    gone: bool
    ways: Ways


def _moved(first: Luma, later: Luma, corners: Sequence[tuple[int, int]]) -> bool:
    found = [_found(first, later, left, top) for left, top in corners]
    told = [block for block in found if block is not None]
    changed = sum(block.gone or bool(block.ways.any()) for block in told)
    if changed > CUT_SHARE * len(told):
        return True
    least = MOVING_SHARE * len(told)
    return changed > least and _going_together(told, first.shape) > least


def _going_together(blocks: Sequence[_Block], shape: Sequence[int]) -> int:
    """How many of them may have gone the same way, or to or from the same point."""
    most, side = 0, 2 * REACH + 1
    for zoom in ZOOMS:
        votes = np.zeros((3 * side, 3 * side), np.uint8)
        for block in blocks:
            # The ways less the zoom's part of them: what remains is common to all.
            down = side - round(zoom * (block.top + BLOCK / 2 - shape[0] / 2))
            right = side - round(zoom * (block.left + BLOCK / 2 - shape[1] / 2))
            votes[down : down + side, right : right + side] += block.ways
        most = max(most, int(votes.max()))
    return most


def _found(first: Luma, later: Luma, left: int, top: int) -> _Block | None:
    """What became of a block of the first; None of one that looks the same all over.

    Neither its brightness counts nor its contrast.
    """
    block = first[top : top + BLOCK, left : left + BLOCK]
    if float(block.std()) < LEAST_TEXTURE:
        return None
    ways = np.zeros((2 * REACH + 1, 2 * REACH + 1), np.uint8)
    there = later[top : top + BLOCK, left : left + BLOCK]
    difference = (there - there.mean()) - (block - block.mean())
    if float(np.abs(difference).mean()) <= STILL_LEVELS:
        return _Block(left, top, False, ways)
    x0, y0 = max(0, left - REACH), max(0, top - REACH)
    around = later[y0 : top + BLOCK + REACH, x0 : left + BLOCK + REACH]
    likeness = cv2.matchTemplate(around, block, cv2.TM_CCOEFF_NORMED)
    here = float(likeness[top - y0, left - x0])
    better = (1 - likeness < BETTER * (1 - here)).astype(np.uint8)
    down, right = REACH - (top - y0), REACH - (left - x0)
    ways[down : down + better.shape[0], right : right + better.shape[1]] = better
    # A pixel more to all sides: a way is seldom of whole pixels.
    wider = np.asarray(cv2.dilate(ways, np.ones((3, 3), np.uint8)), np.uint8)
    return _Block(left, top, here < ANOTHER_SCENE, wider)
