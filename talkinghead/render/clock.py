"""When a render will be done, judged by its windows: in one prompt, and one prompt each."""

from __future__ import annotations

import statistics
from collections.abc import Callable

PACE_WINDOWS = 30
MOST_TOO_MANY = 2  # windows of 49 frames, of which MultiTalk repeats 25


class SamplerClock:
    """When the sampler will be done with the windows of one prompt.

    A window's time goes from one window's end to the next, so that the VAE's work between them is
    in it. The first is timed from the sampler's start, and left out once the second has begun: it
    holds what comes once, and no decode.

    ComfyUI leaves out events that come fast, or tell of less than half a percent: a window's end
    may be known by a step of the next one only.

    Attributes:
        window_seconds: what one window takes; None before the second has begun.
    """

    def __init__(self, windows: int, steps: int, clock: Callable[[], float]) -> None:
        self.windows = windows
        self.steps = steps
        self.window_seconds: float | None = None
        self._clock = clock
        self._from: tuple[int, float] | None = None  # a number of steps done, and when
        self._begun: tuple[int, float] | None = None  # the same, of the first step of all
        self._first: tuple[int, float] | None = None  # and of the first of the window under way
        self._step_seconds: float | None = None
        self._ended = 0  # windows
        self._done_at: float | None = None

    @property
    def eta_seconds(self) -> float | None:
        """Seconds until the last window is decoded; None before the first one is sampled."""
        return None if self._done_at is None else max(0.0, self._done_at - self._clock())

    def counts_to(self, total: int) -> bool:
        """Whether who counts so far counts steps; the sampler expects windows too many at times.

        It divides all frames by a window's new ones, and the first window has more of these. What
        else its node counts goes to the number of the model's tensors.
        """
        windows, rest = divmod(total, self.steps)
        return not rest and self.windows <= windows <= self.windows + MOST_TOO_MANY

    def begin(self) -> None:
        """The sampler starts, or has to start yet."""
        self._from = (0, self._clock())

    def step(self, count: int) -> None:
        """So many steps are done, over all windows."""
        now = self._clock()
        if self._begun is None:
            self._begun = count, now
        is_next = self._first is not None and self._window(count) != self._window(self._first[0])
        if self._first is None or is_next:
            self._first = (count, now)
        elif count > self._first[0]:
            self._step_seconds = (now - self._first[1]) / (count - self._first[0])
        if count // self.steps > self._ended:
            self._ended = count // self.steps
            self._end(count, now)
        elif is_next:
            self._judge(count, self._begun, now)

    def _window(self, count: int) -> int:
        """The window whose step was done last, from 0."""
        return (count - 1) // self.steps

    def _end(self, count: int, now: float) -> None:
        """One window more is done, and perhaps some steps of the next one."""
        if self._from is not None:
            self._judge(count, self._from, now)
        if self._from is None or self._from[0] == 0:
            self._from = (count, now)

    def _judge(self, count: int, since: tuple[int, float], now: float) -> None:
        """From what was done since then, say when all will be."""
        if count <= since[0]:
            return
        seconds = self.steps * (now - since[1]) / (count - since[0])
        if since[0]:
            self.window_seconds = seconds
        # The VAE's work is nearly all behind a window's steps: more than their share is to come.
        at = self._window(count)
        each = self._step_seconds or seconds / self.steps
        self._done_at = now + (self.windows - at) * seconds - (count - at * self.steps) * each


class WindowClock:
    """When a chain will be done.

    A window's time goes from the end of the one before to its own. Into the first that a ComfyUI
    makes falls the model's way from the disk: of that one only what comes after it is timed, and
    only until there is another.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seconds: list[float] = []  # of the last windows, but for first ones
        self._first_seconds: float | None = None
        self.start()

    @property
    def window_seconds(self) -> float | None:
        """What one window takes here; None before the first is done."""
        return statistics.median(self._seconds) if self._seconds else self._first_seconds

    def start(self) -> None:
        """The next window is the first of a ComfyUI."""
        self._is_first = True
        self._began = self._clock()
        self.queue()

    def queue(self) -> None:
        """The window's prompt is queued: other clients' may be before it."""
        self._queued, self._waited = self._clock(), 0.0

    def execute(self) -> None:
        """Its turn has come."""
        self._waited = self._clock() - self._queued

    def load(self) -> None:
        """The model is on its way to the GPU, as it is in each window, if only a short one."""
        if self._is_first:
            self._began = self._clock()

    def end(self) -> float | None:
        """The window is done; returns its seconds, without those in the queue; None of a first one.

        For when the chain is done, those count: the next ones are likely to wait as long.
        """
        now = self._clock()
        seconds = now - self._began
        was_first, self._is_first, self._began = self._is_first, False, now
        if was_first:
            self._first_seconds = seconds
            return None
        self._seconds = [*self._seconds, seconds][-PACE_WINDOWS:]
        return seconds - self._waited

    def eta_seconds(self, windows: int, done: float) -> float | None:
        """Seconds until so many are done; of the first of them, a share is `done`, by its steps."""
        each = self.window_seconds
        if each is None:
            return None
        # A window that takes longer than the others does not take its time from theirs.
        under_way = max(each - (self._clock() - self._began), each * (1 - done))
        return max(0.0, (windows - 1) * each + under_way) if windows else 0.0
