"""A chain of windows: which frames and which sound each of its prompts works on. Pure.

Window k covers the 81 frames from 72 k on. Its first 9 repeat the last ones of the window before,
as WanVideoWrapper's own loop has it; the first window repeats none.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from talkinghead.media.rates import exact
from talkinghead.plan.fields import MAX_SEED
from talkinghead.plan.plan import Plan

# wav2vec listens to one stretch at a time: its memory grows with the length. It weighs each sound
# against all others that it hears, so a stretch is long, and begins and ends within its neighbours.
STRETCH_WINDOWS = 25
CONTEXT_FRAMES = 250


@dataclass(frozen=True)
class Stretch:
    """What wav2vec listens to at once: `frames` of the sound, from frame `first` on."""

    number: int
    first: int
    frames: int


@dataclass(frozen=True)
class Window:
    """One prompt of a chain. Its frames are counted from frame `start` of the video.

    `repeated` of them are those of the window before; the `new` ones after them are its segment.
    """

    index: int
    start: int
    repeated: int
    new: int
    seed: int
    stretch: Stretch

    @property
    def first(self) -> int:
        """The first new frame, counted in the video."""
        return self.start + self.repeated


def windows(plan: Plan) -> Iterator[Window]:
    """The windows of the plan, in order."""
    return (window(plan, index) for index in range(plan.windows))


def delivered(plan: Plan, window: Window) -> range:
    """The frames of the delivered file that show the window's new frames.

    Each shows the rendered frame at the middle of its time; past the last one, that is held.
    """
    first = _shown_from(window.first, _step(plan))
    is_last = window.index + 1 == plan.windows
    after = _shown_from(window.first + window.new, _step(plan))
    return range(first, plan.delivered_frames if is_last else after)


def prompt_of(plan: Plan, window: Window) -> str:
    """The prompt that holds when the window's first new frame is shown."""
    return plan.request.prompt_at(window.first / plan.fps)


def prompt_changes(plan: Plan) -> int:
    """How many windows have another prompt than the one before: the text encoder runs for each."""
    if not plan.request.prompts:
        return 0
    texts = [prompt_of(plan, each) for each in windows(plan)]
    return sum(one != other for one, other in itertools.pairwise(texts))


def prompt_notes(plan: Plan) -> Iterator[str]:
    """Which prompts no window takes: it holds one from its beginning to its end."""
    prompts = plan.request.prompts
    if not prompts or not plan.chained:
        return
    begins = [each.first / plan.fps for each in windows(plan)]
    ends = [each.at for each in prompts[1:]] + [math.inf]
    for index, (timed, end) in enumerate(zip(prompts, ends, strict=True)):
        if not any(timed.at <= begin < end for begin in begins):
            why = f"no window begins from {timed.at:g} s on"
            if end < begins[-1]:
                why = f"no window begins between {timed.at:g} s and {end:g} s"
            yield f"prompts.{index} is not used: {why}"


def _step(plan: Plan) -> Fraction:
    """Rendered frames to one that is delivered."""
    return exact(plan.fps) / exact(plan.request.fps)


def _shown_from(frame: int, step: Fraction) -> int:
    """The first delivered frame that shows the rendered `frame` or a later one."""
    return max(0, math.ceil(frame / step - Fraction(1, 2)))


def window(plan: Plan, index: int) -> Window:
    """The window of this index, from 0."""
    start = index * (plan.window_frames - plan.model.motion_frames)
    repeated = plan.model.motion_frames if index else 0
    end = min(start + plan.window_frames, plan.frames)
    new = end - start - repeated
    return Window(index, start, repeated, new, seed_of(plan.seed, index), _stretch(plan, index))


def seed_of(seed: int, index: int) -> int:
    """The seed of a window. That of the first is the render's; the others look unrelated."""
    return seed if index == 0 else random.Random(f"{seed}/{index}").randint(1, MAX_SEED)


def _stretch(plan: Plan, index: int) -> Stretch:
    number = index // STRETCH_WINDOWS
    step = plan.window_frames - plan.model.motion_frames
    first = max(0, number * STRETCH_WINDOWS * step - CONTEXT_FRAMES)
    last_start = ((number + 1) * STRETCH_WINDOWS - 1) * step
    end = min(plan.frames, last_start + plan.window_frames + CONTEXT_FRAMES)
    return Stretch(number, first, end - first)
