"""A decoded frame as the picture that is rendered from: upright, in BT.709's colours, framed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import (
    ColorPrimaries,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)
from PIL import Image

from talkinghead.media.masks import REDUCING_GAP, Framing
from talkinghead.media.readers import Orientation, TimedFrame

SD_HEIGHT = 576  # players take a taller video without colour tags for BT.709, others for BT.601
UNTAGGED = 2  # H.273's code
HDR_TRANSFERS = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
SAME_SHAPE = 0.02  # what two sizes of one recording may differ in shape: they are rounded


class Drawer:
    """Draws a video's frames, each as `framing` wants the first one's shape to be shown.

    A frame of another shape, of a phone that was turned meanwhile, is shown whole within that
    shape, as players do.
    """

    def __init__(self, framing: Framing, pixel_aspect: Fraction) -> None:
        self._framing, self._pixel_aspect = framing, pixel_aspect
        # One for all frames: its table for HDR takes seconds to make.
        self._reducer, self._converter = VideoReformatter(), VideoReformatter()
        self._shape = Fraction(framing.source_width, framing.source_height)

    def draw(self, timed: TimedFrame) -> Image.Image:
        """The frame in the rendered size."""
        frame, turned = timed.frame, timed.orientation
        shape = frame.width * self._pixel_aspect / frame.height
        image = _upright(self._rgb(frame, self._reduced(frame)), turned)
        return self._framing.apply(
            _within(image, 1 / shape if turned.swapped else shape, self._shape)
        )

    def _reduced(self, frame: VideoFrame) -> VideoFrame:
        """A much larger frame reduced, before its colours are converted: that takes less time."""
        factor = self._framing.reduction / REDUCING_GAP
        if factor <= 1 or not frame.format.name.startswith("yuv"):
            return frame
        width, height = round(frame.width / factor), round(frame.height / factor)
        return self._reducer.reformat(frame, width, height, interpolation=Interpolation.AREA)

    def _rgb(self, frame: VideoFrame, reduced: VideoFrame) -> Image.Image:
        """RGB on white; what was made for HDR screens, in BT.709 colours."""
        untagged_hd = frame.colorspace == UNTAGGED and frame.height > SD_HEIGHT
        hdr = frame.color_trc in HDR_TRANSFERS
        mode = "rgba" if _has_alpha(frame.format) else "rgb24"
        pixels = self._converter.reformat(
            reduced,
            format=mode,
            src_colorspace=Colorspace.ITU709 if untagged_hd else None,
            dst_color_trc=ColorTrc.BT709 if hdr else None,
            dst_color_primaries=ColorPrimaries.BT709 if hdr else None,
        ).to_ndarray()
        if mode == "rgb24":
            return Image.fromarray(pixels)
        white = np.full_like(pixels, 255)
        return Image.alpha_composite(Image.fromarray(white), Image.fromarray(pixels)).convert("RGB")


def _upright(image: Image.Image, turned: Orientation) -> Image.Image:
    """The image turned and mirrored."""
    if turned.swapped:
        image = image.transpose(Image.Transpose.TRANSPOSE)
    if turned.mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if turned.upended else image


def _has_alpha(kind: VideoFormat) -> bool:
    return any(component.is_alpha for component in kind.components)


def _within(image: Image.Image, shape: Fraction, wanted: Fraction) -> Image.Image:
    """The image, which is to be shown with one ratio of width to height, in the middle of another.

    It is as it came if they are the same, but for rounding.
    """
    if abs(shape / wanted - 1) <= SAME_SHAPE:
        return image
    height = max(image.height, round(image.width / wanted))
    width = round(height * wanted)
    shown = (width, round(width / shape)) if shape > wanted else (round(height * shape), height)
    canvas = Image.new("RGB", (width, height))
    canvas.paste(image.resize(shown), ((width - shown[0]) // 2, (height - shown[1]) // 2))
    return canvas
