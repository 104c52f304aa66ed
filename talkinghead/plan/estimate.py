"""What a render will take, before it starts: windows, time, price, memory, disk. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from talkinghead.memory import GIB
from talkinghead.plan.limits import PROMPT_BYTES_PER_PIXEL
from talkinghead.plan.pace import (
    CARDS,
    TEXT_SECONDS,
    Card,
    Pace,
    card_named,
    duration_text,
    window_seconds,
)
from talkinghead.plan.plan import LOSSLESS_CRF, Plan
from talkinghead.plan.windows import prompt_changes

Way = Literal["prompt", "chain", "frames", "draft"]

# How much of an estimate a render takes at least. Only what is sure may refuse a job, and figures
# of others are not: another build, other attention, other clocks. Nor is one window of a bench.
LEAST_OF_PUBLISHED, LEAST_OF_MEASURED = 0.5, 0.9

# Frames of 32-bit floats, cached and copied: a source video beside what the render holds itself.
SOURCE_BYTES_PER_PIXEL = 24
TILED_BYTES_PER_PIXEL = 25.5  # the VAE gives 32-bit floats then: listed, and joined into one
# Of what lies on disk. Talking heads change little: crf 19 takes about 1 Mbit/s at 480p.
VIDEO_BITS_PER_PIXEL, LOSSLESS_BITS_PER_PIXEL, PNG_BITS_PER_PIXEL = 0.1, 4.0, 16.0
# Of the render, beside the delivered file: ComfyUI's and the worker's; a chain's segments once.
RENDER_COPIES: Mapping[Way, int] = {"prompt": 2, "chain": 1, "frames": 0, "draft": 2}
MIX_BYTES_PER_SECOND, SPEECH_BYTES_PER_SECOND = 192_000, 32_000
SOUND_COPIES = 2  # the worker's and ComfyUI's


@dataclass(frozen=True)
class Estimate:
    """What a render will take. Times are in seconds, models loaded; sizes in 10^9 bytes.

    `width` and `height` are the delivered video's, in pixels.
    `seconds` are of this worker or of the card that was named, None where nothing is known of it;
    `least_seconds` are what it takes for sure. `ram_gb` is the frames' share alone: the models, and
    what ComfyUI takes by itself, come on top. `host_ram_gb` and `timeout_seconds` are None where
    there is no limit, or none is known. `params` are the settings, as a result tells them.
    """

    way: Way
    frames: int
    windows: int
    delivered_frames: int
    width: int
    height: int
    duration_seconds: float
    card: str | None
    seconds: float | None
    least_seconds: float | None
    seconds_source: str | None
    seconds_by_card: Mapping[str, float]
    price_per_hour: float | None
    ram_gb: float
    host_ram_gb: float | None
    disk_gb: float
    timeout_seconds: float | None
    params: Mapping[str, Any]

    @property
    def price(self) -> float | None:
        """In the currency of `price_per_hour`."""
        if self.seconds is None or self.price_per_hour is None:
            return None
        return self.seconds / 3600 * self.price_per_hour

    @property
    def fits_timeout(self) -> bool | None:
        """Whether the render ends within the timeout, by the estimate; None if nobody knows."""
        if self.seconds is None or self.timeout_seconds is None:
            return None
        return self.seconds <= self.timeout_seconds

    @property
    def fits_ram(self) -> bool | None:
        """Whether the frames alone fit into the host's memory."""
        return None if self.host_ram_gb is None else self.ram_gb <= self.host_ram_gb

    def payload(self) -> dict[str, Any]:
        """What a caller gets."""
        return {
            "way": self.way,
            "frames": self.frames,
            "windows": self.windows,
            "delivered_frames": self.delivered_frames,
            "width": self.width,
            "height": self.height,
            "duration_seconds": round(self.duration_seconds, 3),
            "card": self.card,
            "seconds": _rounded(self.seconds, 0),
            "seconds_source": self.seconds_source,
            "seconds_by_card": {name: round(each) for name, each in self.seconds_by_card.items()},
            "price": _rounded(self.price, 2),
            "price_per_hour": self.price_per_hour,
            "ram_gb": round(self.ram_gb, 2),
            "host_ram_gb": _rounded(self.host_ram_gb, 1),
            "disk_gb": round(self.disk_gb, 2),
            "timeout_seconds": self.timeout_seconds,
            "fits_timeout": self.fits_timeout,
            "fits_ram": self.fits_ram,
            "generation_params": dict(self.params),
        }


def estimate(
    plan: Plan,
    *,
    gpu_name: str | None,
    ram_gib: float,
    pace: Pace,
    price_per_hour: float | None = None,
    timeout_seconds: float = math.inf,
) -> Estimate:
    """What the plan will take on this worker: `ram_gib` and the timeout may be infinite."""
    way = way_of(plan)
    windows = 0 if plan.request.draft else plan.windows
    card = card_named(gpu_name) if gpu_name else None
    seconds, least, source = _time(plan, windows, card, pace)
    return Estimate(
        way=way,
        frames=plan.frames,
        windows=windows,
        delivered_frames=plan.delivered_frames,
        width=plan.width,
        height=plan.height,
        duration_seconds=plan.duration,
        card=card.name if card else gpu_name,
        seconds=seconds,
        least_seconds=least,
        seconds_source=source,
        seconds_by_card={} if plan.request.draft else _by_card(plan),
        price_per_hour=price_per_hour,
        ram_gb=_ram_bytes(plan, way) / 1e9,
        host_ram_gb=_known(ram_gib * GIB / 1e9),
        disk_gb=_disk_bytes(plan, way) / 1e9,
        timeout_seconds=_known(timeout_seconds),
        params=plan.params() | {"seed": plan.request.seed},  # one that is drawn is drawn anew
    )


def can_end_within(estimate: Estimate, seconds_left: float) -> bool:
    """False only for what surely takes longer."""
    return estimate.least_seconds is None or estimate.least_seconds <= seconds_left


def too_long_text(estimate: Estimate) -> str:
    """Why a job that cannot end within its time is refused, and what to do."""
    assert estimate.seconds is not None
    windows = f"{estimate.windows} window{'s take' if estimate.windows > 1 else ' takes'}"
    here = f"on this {estimate.card}" if estimate.card else "on this worker"
    takes = f"{windows} about {duration_text(estimate.seconds)} {here} ({estimate.seconds_source})"
    later = "" if estimate.way == "frames" else ", or set continue_later"
    return (
        f"{takes}, JOB_TIMEOUT_SECONDS is {estimate.timeout_seconds:g} s: raise it"
        f"{',' if later else ' or'} shorten the sound{later}"
    )


def way_of(plan: Plan) -> Way:
    """How the plan is rendered."""
    if plan.request.draft:
        return "draft"
    if plan.chained:
        return "chain"
    return "frames" if plan.frames_on_disk else "prompt"


def _time(
    plan: Plan, windows: int, card: Card | None, pace: Pace
) -> tuple[float | None, float | None, str | None]:
    """How long, how long at least, and who says so."""
    if plan.request.draft:
        return None, None, None
    texts = prompt_changes(plan) * TEXT_SECONDS
    of_4090 = windows * window_seconds(plan) + texts
    published = of_4090 / card.speed if card else None
    measured, benched = pace.measured(plan), pace.benched
    if measured is None and benched is None:
        source = f"{card.source} for {card.name}" if card else None
        return published, published and LEAST_OF_PUBLISHED * published, source
    if measured is None:
        assert benched is not None
        seconds = of_4090 * benched.times_published
        source = f"measured by talkinghead bench on {benched.date}"
        return seconds, LEAST_OF_PUBLISHED * min(published or seconds, seconds), source
    seconds = windows * measured.window_seconds + texts
    if measured.least_seconds is not None:
        least: float | None = LEAST_OF_MEASURED * windows * measured.least_seconds
    else:  # windows of other kinds may show that this worker is faster, but never that it is slower
        least = published and LEAST_OF_PUBLISHED * min(published, seconds)
    return seconds, least, "measured on this worker"


def _by_card(plan: Plan) -> dict[str, float]:
    seconds = plan.windows * window_seconds(plan) + prompt_changes(plan) * TEXT_SECONDS
    return {card.name: seconds / card.speed for card in CARDS}


def _ram_bytes(plan: Plan, way: Way) -> float:
    """What the frames take in the host's memory at most: of the whole video, or of one window."""
    if way == "draft":
        return 0  # it holds the frame it draws
    pixels = plan.framing.render_width * plan.framing.render_height
    each = TILED_BYTES_PER_PIXEL if plan.tiled_vae else PROMPT_BYTES_PER_PIXEL
    if way != "prompt":
        return plan.window_frames * pixels * each
    made = plan.window_frames + (plan.windows - 1) * (plan.window_frames - plan.model.motion_frames)
    source = plan.source.count if plan.source else 0
    return pixels * (made * each + source * SOURCE_BYTES_PER_PIXEL)


def _disk_bytes(plan: Plan, way: Way) -> float:
    """What lies in the temporary folders at most, beside the files that the request names."""
    pixels = plan.frames * plan.framing.render_width * plan.framing.render_height
    render = LOSSLESS_BITS_PER_PIXEL if plan.crf == LOSSLESS_CRF else VIDEO_BITS_PER_PIXEL
    bits = VIDEO_BITS_PER_PIXEL + RENDER_COPIES[way] * render
    if way == "frames":
        bits += PNG_BITS_PER_PIXEL
    sound = MIX_BYTES_PER_SECOND + SPEECH_BYTES_PER_SECOND * len(plan.offsets)
    return pixels * bits / 8 + plan.duration * sound * SOUND_COPIES


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits or None)
