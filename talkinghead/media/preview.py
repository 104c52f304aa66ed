"""What a page shows of a picture or a video: a small JPEG, and the size of what it stands for."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from talkinghead.media.picture import open_small
from talkinghead.media.source_video import probe_source, small_pictures

JPEG_QUALITY = 88


@dataclass(frozen=True)
class Preview:
    """The source's upright size in pixels; `scale` is its width in widths of what is shown.

    `seconds` is how long a video is, None of a picture.
    """

    width: int
    height: int
    scale: float
    seconds: float | None = None


def picture_preview(
    name: str, source: Path, target: Path, *, side: int, max_megapixels: float
) -> Preview:
    """Save the picture, upright, with a longer side of at most `side` pixels.

    Raises:
        MediaInvalid, MediaTooLarge: as `open_small`.
    """
    small = open_small(name, source, side, max_megapixels=max_megapixels)
    return _saved(small.image, target, small.size, side)


def video_preview(
    name: str, source: Path, target: Path, *, side: int, max_megapixels: float
) -> Preview:
    """Save the video's first frame in the same way.

    Raises:
        MediaInvalid, MediaTooLarge: as `probe_source`.
    """
    video = probe_source(name, source, max_megapixels=max_megapixels)
    size = video.width, video.height
    with contextlib.closing(small_pictures(name, source, size, [0.0], side=side)) as pictures:
        return _saved(next(pictures), target, size, side, video.duration)


def _saved(
    image: Image.Image,
    target: Path,
    size: tuple[int, int],
    side: int,
    seconds: float | None = None,
) -> Preview:
    image.thumbnail((side, side))
    image.save(target, "JPEG", quality=JPEG_QUALITY)
    return Preview(*size, size[0] / image.width, seconds)
