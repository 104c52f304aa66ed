"""What a dubbed video keeps of its source: the pixels outside of the speakers' regions."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np
import numpy.typing as npt
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace
from PIL import Image, ImageFilter

from talkinghead.media.heartbeat import beat
from talkinghead.media.masks import Framing
from talkinghead.media.mux import EncodedTrack, count_frames, picked, yuv_frame
from talkinghead.media.player import read_index
from talkinghead.media.rates import exact
from talkinghead.media.source_video import pictures_at

FEATHER_SHARE = 1 / 24  # of the picture's shorter side: 20 pixels at 480p

Weights: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Outside:
    """What is put back around the speakers of a render, and where.

    `field` is the request's field of the `source` video, and `inside` a picture in the rendered
    size, white where the model's pixels stay. `framing` and `box` (left, top, right, bottom) give
    the delivered picture, as the plan has them. The render has `rendered_fps` frames a second, the
    delivered file `fps`.
    """

    field: str
    source: Path
    inside: Path
    framing: Framing
    box: tuple[int, int, int, int]
    rendered_fps: float
    fps: float


def put_back(
    outside: Outside, rendered: Path, target: Path, *, shown: range, first: int = 0
) -> None:
    """Encode the delivered frames `shown`, once: the render's, and around its speakers the source.

    `rendered` begins with frame `first` of the whole video as it is rendered; past its last frame
    that one is held. Each has around it what the source shows at the time of the rendered frame;
    past its end the source is repeated, as in what the model saw. There is no sound in the file.

    Raises:
        MediaInvalid: the source is no video, or no frame of it can be decoded.
        RenderFailed: there are no rendered frames.
    """
    step = exact(outside.rendered_fps) / exact(outside.fps)
    index = read_index(outside.field, outside.source)
    last = first + count_frames(rendered) - 1
    numbers = (min(math.floor((each + Fraction(1, 2)) * step), last) for each in shown)
    ticks = (index.tick(number / outside.rendered_fps, loop=True) for number in numbers)
    sources = pictures_at(outside.field, outside.source, index, ticks, framing=outside.framing)
    weights = _weights(outside)
    with av.open(str(rendered)) as made, av.open(str(target), "w", format="mp4") as output:
        frames = picked(made.decode(made.streams.video[0]), step, shown, first)
        with contextlib.closing(sources):
            drawn = (
                _drawn(frame, source.crop(outside.box), weights)
                for frame, source in zip(frames, sources, strict=True)
            )
            _encode(drawn, output, exact(outside.fps))


def _encode(frames: Iterator[VideoFrame], output: OutputContainer, rate: Fraction) -> None:
    head = next(frames)
    track = EncodedTrack(output, rate, like=head)
    for packet in track.packets(itertools.chain([head], frames)):
        output.mux(packet)


def _drawn(frame: VideoFrame, source: Image.Image, weights: Weights) -> VideoFrame:
    """The rendered frame, whose colours are BT.709, with the source where its weight is 0."""
    beat()
    made = frame.to_ndarray(format="rgb24", src_colorspace=Colorspace.ITU709)
    around = np.asarray(source, np.float32)
    mixed = around + (made - around) * weights
    return yuv_frame(Image.fromarray(np.rint(mixed).astype(np.uint8)))


def _weights(outside: Outside) -> Weights:
    """[height, width, 1] of the delivered picture: 1 in the regions, 0 beyond the feather.

    The feather is around a region, not in it: there is the speaker. At a corner it is in it, too.
    """
    with Image.open(outside.inside) as image:
        mask = image.convert("L")
        radius = max(1, round(min(mask.size) * FEATHER_SHARE))
        # The blur of a straight edge is a half there, and 0 a radius away from it.
        blurred = mask.filter(ImageFilter.BoxBlur(radius)).crop(outside.box)
    ramp = np.clip(2 * np.asarray(blurred, np.float32) / 255, 0, 1)
    weights: Weights = (ramp * ramp * (3 - 2 * ramp))[..., None].astype(np.float32)
    return weights
