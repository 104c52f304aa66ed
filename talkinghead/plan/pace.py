"""How long a window takes: by others' figures for a card, and by what this worker has measured."""

from __future__ import annotations

import re
import statistics
import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import Literal, Self

from talkinghead.plan.frames import MODEL_FPS, WINDOW_FRAMES, frames_of
from talkinghead.plan.plan import Plan
from talkinghead.plan.talk_models import MODELS

# Of an RTX 4090, for 81 frames of 832x480: one pass of the model, and the VAE's work around them.
# docs/tuning.md says whose figures these are, and those below.
STEP_SECONDS, REST_SECONDS = 15.0, 20.0
USUAL_PIXELS, USUAL_STEPS = 832 * 480, 4
SQUARE_SHARE = 0.4  # of a step: attention, which grows with the square of the tokens
MASK_SHARE = 0.05  # of a step, for each mask: one more product of queries and keys

# Of umt5-xxl for a text that is new, on that card: derived, of its 6 GB moved there and one pass.
TEXT_SECONDS = 2.0

REMEMBERED_WINDOWS = 20
TRUSTED_WINDOWS = 3

Source = Literal["published", "derived"]


@dataclass(frozen=True)
class Card:
    """A GPU; `speed` is in RTX 4090. Derived: not from a video of this model on this card.

    `basis` is who published it, with which stack, or from what it is derived. Nothing is measured
    here: what a worker or a bench measures on its own card goes before all of these.
    """

    name: str
    speed: float
    source: Source
    basis: str


BY_PRODUCTS = "fp16 matrix products, {} to the 4090's 157 TFLOPS"
BY_LIGHTX2V = "LightX2V's list, {} of a 4090 D: an upper bound"

CARDS = (
    Card("RTX 3090", 0.42, "derived", BY_PRODUCTS.format(66)),
    Card("L40", 0.74, "derived", BY_PRODUCTS.format(116)),
    Card("RTX 4090", 1.0, "published", "InfiniteTalk's issues 89, 93: bf16, 14 blocks swapped"),
    Card("L40S", 1.1, "derived", BY_PRODUCTS.format(171)),
    Card("A100", 1.25, "derived", BY_PRODUCTS.format(197)),
    Card("RTX 5090", 1.4, "derived", BY_PRODUCTS.format(220)),
    Card("H100", 2.8, "derived", BY_LIGHTX2V.format(3.1)),
    Card("H200", 3.0, "derived", "1.07 of an H100: an upper bound"),
)


def card_named(name: str) -> Card | None:
    """The card that nvidia-smi, ComfyUI or a person calls so; None without a figure for it."""
    words = set(re.findall(r"[a-z0-9]+", name.lower().replace("rtx", " ")))
    if words & {"laptop", "mig"}:  # less of the chip
        return None
    return next((card for card in CARDS if card.name.split()[-1].lower() in words), None)


def window_seconds(plan: Plan) -> float:
    """Seconds that an RTX 4090 takes for one window of the plan, by the published figures."""
    pixels = plan.framing.render_width * plan.framing.render_height / USUAL_PIXELS
    tokens = pixels * _latents(plan.window_frames) / _latents(WINDOW_FRAMES)
    step = STEP_SECONDS * ((1 - SQUARE_SHARE) * tokens + SQUARE_SHARE * tokens**2)
    step *= 1 + MASK_SHARE * _masks(plan)
    rest = REST_SECONDS * pixels * plan.window_frames / WINDOW_FRAMES
    return rest + step * _passes(plan) * (plan.sampling.steps - plan.sampling.start_step)


def _latents(frames: int) -> int:
    """The VAE makes one latent of the first frame, and one of every four after it."""
    return 1 + (frames - 1) // 4


def _passes(plan: Plan) -> int:
    """How often the model runs for a step: as it is, without the text, without the sound."""
    return 1 + (plan.sampling.cfg != 1) + (plan.sampling.audio_cfg != 1)


def _masks(plan: Plan) -> int:
    """One a speaker and the background; for one person, the nodes use none."""
    return 0 if len(plan.offsets) == 1 else len(plan.offsets) + 1


@dataclass(frozen=True)
class Kind:
    """What decides how long a window of a plan takes on a worker.

    The attention does, too; it is the worker's, and the same for all that it renders.
    """

    mode: str
    size: tuple[int, int]
    window_frames: int
    passes: int  # all steps of a window
    speakers: int
    blocks_to_swap: int
    tiled_vae: bool
    chained: bool

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """That of a window of the plan."""
        return cls(
            mode=plan.request.mode,
            size=(plan.framing.render_width, plan.framing.render_height),
            window_frames=plan.window_frames,
            passes=_passes(plan) * (plan.sampling.steps - plan.sampling.start_step),
            speakers=len(plan.offsets),
            blocks_to_swap=plan.blocks_to_swap,
            tiled_vae=plan.tiled_vae,
            chained=plan.chained,
        )


@dataclass(frozen=True)
class Seen:
    """A window that was rendered: its kind, its published seconds, and its own."""

    kind: Kind
    published_seconds: float
    seconds: float


@dataclass(frozen=True)
class Measured:
    """What this worker's windows say of a plan's, in seconds.

    `least_seconds` is what the quickest of its kind took; None if there were too few of them.
    """

    window_seconds: float
    least_seconds: float | None


@dataclass(frozen=True)
class Benched:
    """What `talkinghead bench` measured on a host like this, on a day (ISO).

    `times_published` is how many times as long as an RTX 4090's published figures a window took.
    """

    times_published: float
    date: str


class Pace:
    """How fast this worker is, by the windows that it has rendered. Threads may share it.

    `benched` is what is known before the first.
    """

    def __init__(self, benched: Benched | None = None) -> None:
        self.benched = benched
        self._seen: deque[Seen] = deque(maxlen=REMEMBERED_WINDOWS)
        # Of all its life: a card that is hot, or shared for a while, will be as quick again.
        self._quickest: dict[Kind, float] = {}
        self._counts: Counter[Kind] = Counter()
        self._lock = threading.Lock()

    def saw(self, plan: Plan, seconds: float) -> None:
        """A window of the plan took so long, without what comes once, as the models' loading."""
        if not plan.request.draft:
            with self._lock:
                kind = Kind.of(plan)
                self._seen.append(Seen(kind, window_seconds(plan), seconds))
                self._quickest[kind] = min(seconds, self._quickest.get(kind, seconds))
                self._counts[kind] += 1

    def measured(self, plan: Plan) -> Measured | None:
        """Seconds of a window of the plan: the median of its kind, else by all others; or None."""
        kind = Kind.of(plan)
        with self._lock:
            seen = list(self._seen)
            least = self._quickest[kind] if self._counts[kind] >= TRUSTED_WINDOWS else None
        alike = [each for each in seen if each.kind == kind]
        if not seen:
            return None
        ratio = statistics.median(each.seconds / each.published_seconds for each in alike or seen)
        return Measured(ratio * window_seconds(plan), least)


# ---- The table of docs/tuning.md


def table() -> str:
    """What the usual render takes on each card, as a Markdown table."""
    rows = [
        "| card | one step | the rest | a window | 1 min of sound | 10 min | 1 h | figures |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for card in CARDS:
        step, rest = STEP_SECONDS / card.speed, REST_SECONDS / card.speed
        window = rest + USUAL_STEPS * step
        lengths = " | ".join(_of_sound(minutes, window) for minutes in (1, 10, 60))
        times = f"{step:.1f} s | {rest:.0f} s | {window:.0f} s | {lengths}"
        rows.append(f"| {card.name} | {times} | {card.source}: {card.basis} |")
    return "\n".join(rows) + "\n"


def _of_sound(minutes: int, window: float) -> str:
    frames = frames_of(minutes * 60, MODEL_FPS)
    return duration_text(MODELS["infinitetalk"].windows(frames) * window)


def duration_text(seconds: float) -> str:
    """A duration as people say it: 45 s, 28 min, 3 h 10 min, 28 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if not hours:
        return f"{minutes} min"
    if seconds >= 36_000 or not minutes:
        return f"{round(seconds / 3600)} h"
    return f"{hours} h {minutes} min"
