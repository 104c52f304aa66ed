"""Delivery into the result itself, as a data URI, as far as the platform lets results grow."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from talkinghead.delivery.place import VIDEO_TYPE, FinishedVideo, Item, ItemPlace, Place, PlaceKind
from talkinghead.delivery.retry import Patience
from talkinghead.errors import ResultTooLarge
from talkinghead.plan.plan import Plan

# The least that an encode takes, in bits a pixel. Measured with x264 at crf 19: a photo that does
# not move at all 0.006 (720p) to 0.008 (480p), the draft's moving mouth 0.03, a swaying head 0.05
# to 0.1. The model moves the whole head.
LEAST_BITS, LEAST_DRAFT_BITS = 0.010, 0.005
SMALLER = "configure S3 storage, give upload_url, or ask for a shorter or smaller video"


def check_room(plan: Plan, place: Place) -> None:
    """Refuse a render whose result is surely too large.

    Raises:
        ResultTooLarge
    """
    if place.max_mb is None:
        return
    frames = min(plan.frames, plan.delivered_frames)
    bits = LEAST_DRAFT_BITS if plan.request.draft else LEAST_BITS
    least_mb = frames * plan.width * plan.height * bits / 8 * 4 / 3 / 1e6
    if least_mb > place.max_mb:
        raise ResultTooLarge(
            f"{plan.delivered_frames} frames of {plan.width}x{plan.height} make a result of "
            f"{least_mb:.1f} MB or more, allowed: {place.max_mb:g} MB; {SMALLER}"
        )


class InlinePlace(ItemPlace):
    """The result carries the video itself."""

    def __init__(self, max_mb: float) -> None:
        self.max_mb: float | None = max_mb
        self._max_mb = max_mb

    def deliver(self, video: FinishedVideo, patience: Patience) -> dict[str, Any]:
        """The video and its bundle, as fields of the result.

        Raises:
            ResultTooLarge: the platform would drop the result.
        """
        bundle = {} if video.bundle is None else {"bundle": video.bundle}
        size_mb = _encoded_mb([video.path]) + len(json.dumps(bundle)) / 1e6
        if size_mb > self._max_mb:
            raise ResultTooLarge(
                f"the video makes a result of {size_mb:.1f} MB, allowed: {self._max_mb:g} MB; "
                + SMALLER
            )
        return {"video": _data_uri(video.path, VIDEO_TYPE), **bundle}

    def put(self, job: str, items: Sequence[Item], patience: Patience) -> list[dict[str, Any]]:
        """Each item as a field of the result.

        Raises:
            ResultTooLarge: the platform would drop the result.
        """
        size_mb = _encoded_mb(item.path for item in items)
        if size_mb > self._max_mb:
            raise ResultTooLarge(
                f"the outputs make a result of {size_mb:.1f} MB, allowed: {self._max_mb:g} MB; "
                "configure S3 storage, or make fewer or smaller ones"
            )
        return [{"data": _data_uri(item.path, item.content_type)} for item in items]


def _encoded_mb(paths: Iterable[Path]) -> float:
    """The size of the files in base64, MB."""
    return sum(4 * -(-path.stat().st_size // 3) for path in paths) / 1e6


def _data_uri(path: Path, content_type: str) -> str:
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    return f"data:{content_type};base64,{content}"


INLINE = PlaceKind(
    name="inline",
    settings=("max_inline_mb",),
    open=lambda settings: InlinePlace(settings.max_inline_mb),
)
