"""What is seen of a job while it runs, and how it gets to the caller."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from comfy_client import Event
from talkinghead.render.clock import SamplerClock, WindowClock
from talkinghead.render.window_log import WindowLog
from talkinghead.workflow.graph import Graph

log = logging.getLogger("talkinghead")

# Where a stage begins and ends in the whole, in percent: rendering takes nearly all of the time.
STAGES = {
    "understand": (0, 0),
    "fetch": (0, 2),
    "prepare": (2, 4),
    "start": (4, 5),
    "patch": (5, 6),
    "render": (6, 97),
    "collect": (97, 99),
    "deliver": (99, 100),
    "done": (100, 100),
}
# The same within the render, for the nodes that count: by title, from 0 to 1.
COUNTED = {
    "Wan model": (0.0, 0.05),
    "Sampler": (0.05, 0.95),
    "Video": (0.95, 1.0),
    "Draft": (0.0, 1.0),
}
SAMPLED_SHARE = 0.9  # of a window's time; the rest goes to the VAE
SEND_EVERY_SECONDS = 1.0  # each is a request, and a person who looks does not see more
DRAIN_SECONDS = 4.0  # longer than one sending may take; the job's result waits for it


@dataclass(frozen=True)
class Progress:
    """How far a job is: `fraction` of the `stage`, 0 to 1. `message` is for people.

    While the sampler works, `window` and `step` are those just done or under way, from 1.
    `eta_seconds` are left until the sampler is done; the encode and the delivery after it are not
    in them. It is None until one window is done. `playlist_url` is where the windows that are done
    can be watched. `least_percent` is how far the job was already: work that is done again does not
    take it back.
    """

    stage: str
    message: str
    fraction: float = 0.0
    window: int | None = None
    windows: int | None = None
    step: int | None = None
    steps: int | None = None
    eta_seconds: float | None = None
    playlist_url: str | None = None
    least_percent: float = 0.0

    @property
    def percent(self) -> float:
        """How far the whole job is, 0 to 100."""
        begin, end = STAGES[self.stage]
        return max(self.least_percent, round(begin + (end - begin) * self.fraction, 1))

    def payload(self) -> dict[str, Any]:
        """What a caller gets."""
        return {
            "stage": self.stage,
            "percent": self.percent,
            "message": self.message,
            "window": self.window,
            "windows": self.windows,
            "eta_seconds": None if self.eta_seconds is None else round(self.eta_seconds),
            **({"playlist_url": self.playlist_url} if self.playlist_url else {}),
        }


Report = Callable[[Progress], None]


class RenderProgress:
    """ComfyUI's events about one prompt, as progress of the stage "render".

    Several nodes count, each something else: the loader tensors, the sampler those too as it takes
    the weights to the GPU, and then the steps of all windows; the draft and the video node frames.
    The node's title and how far it counts tell which.

    Args:
        graph: whose titles name the nodes.
        windows: how many the sampler makes; its own count can be one or two too many.
        steps: steps of one window.
        clock: seconds since whenever.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        windows: int,
        steps: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._graph = graph
        self._sampler = SamplerClock(windows, steps, clock)
        self._fraction = 0.0

    @property
    def window_seconds(self) -> float | None:
        """What one window takes here, without what comes once; None before the second begins."""
        return self._sampler.window_seconds

    def see(self, event: Event) -> Progress | None:
        """What the event says of the render; None if nothing."""
        node = self._graph.get(str(event.data.get("node")), {})
        title = node.get("_meta", {}).get("title")
        if title is None:
            return None
        if event.type == "executing":
            if title == "Sampler":
                self._sampler.begin()
            return self._at(title)
        if event.type == "progress" and event.data.get("max"):
            return self._count(title, int(event.data["value"]), int(event.data["max"]))
        return None

    def _at(self, message: str) -> Progress:
        return Progress("render", message, self._fraction, eta_seconds=self._sampler.eta_seconds)

    def _count(self, title: str, value: int, total: int) -> Progress | None:
        if title == "Sampler":
            if self._sampler.counts_to(total):
                return self._sampled(value)
            self._sampler.begin()  # weights still go to the GPU, which is no part of a window
            return None
        self._advance(title, value / total)
        if title in ("Draft", "Video"):
            return self._at(f"{title.lower()}: frame {value} of {total}")
        return self._at(title)

    def _sampled(self, value: int) -> Progress:
        sampler = self._sampler
        sampler.step(value)
        self._advance("Sampler", value / (sampler.windows * sampler.steps))
        window, step = divmod(max(value, 1) - 1, sampler.steps)
        window = min(window + 1, sampler.windows)
        return Progress(
            "render",
            f"window {window} of {sampler.windows}, step {step + 1} of {sampler.steps}",
            self._fraction,
            window,
            sampler.windows,
            step + 1,
            sampler.steps,
            sampler.eta_seconds,
        )

    def _advance(self, title: str, fraction: float) -> None:
        begin, end = COUNTED.get(title, (0.0, 0.0))
        self._fraction = max(self._fraction, begin + (end - begin) * min(fraction, 1.0))


class ChainProgress:
    """ComfyUI's events about the prompts of a chain, a window each, as progress of the "render".

    Args:
        log: which windows are made; those of an earlier job count too.
        playlist_url: where these can be watched.
        clock: seconds since whenever.
    """

    def __init__(
        self,
        log: WindowLog,
        *,
        playlist_url: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._playlist_url = playlist_url
        self._pace = WindowClock(clock)
        self._graph: Graph = {}

    @property
    def window_seconds(self) -> float | None:
        """What one window takes here; None before the first is done."""
        return self._pace.window_seconds

    def start(self) -> None:
        """A ComfyUI is about to get the windows that are left, and has perhaps no model yet."""
        self._pace.start()

    def begin(self, graph: Graph) -> None:
        """The prompt of the next window is queued."""
        self._graph = graph
        self._pace.queue()

    def end(self) -> float | None:
        """That window is done, and in the log; returns its seconds, None if models were loaded.

        Without those behind other clients' prompts: they say nothing of this worker.
        """
        return self._pace.end()

    def now(self) -> Progress:
        """How far it is, between two windows."""
        return self._at(f"window {self._log.made} of {self._windows} is done", self._log.made, 0)

    def see(self, event: Event) -> Progress | None:
        """What the event says of the render; None if nothing."""
        if event.type == "execution_start":
            self._pace.execute()
        node = self._graph.get(str(event.data.get("node")), {})
        if node.get("_meta", {}).get("title") != "Sampler":
            return None
        if event.type != "progress" or event.data.get("max") != self._steps:
            self._pace.load()  # it begins, or counts the model's tensors on their way to the GPU
            return None
        window, step = self._log.made + 1, int(event.data["value"])
        message = f"window {window} of {self._windows}, step {step} of {self._steps}"
        return self._at(message, window, step)

    @property
    def _windows(self) -> int:
        return self._log.plan.windows

    @property
    def _steps(self) -> int:
        return self._log.plan.sampling.steps

    def _at(self, message: str, window: int, step: int) -> Progress:
        sampled = SAMPLED_SHARE * step / self._steps
        return Progress(
            "render",
            message,
            min((self._log.made + sampled) / self._windows, 1.0),
            window,
            self._windows,
            step or None,
            self._steps,
            self._pace.eta_seconds(self._windows - self._log.made, sampled),
            self._playlist_url,
        )


class ProgressSender:
    """Sends what is reported last, from a thread of its own, now and then.

    The job never waits for it, and what goes wrong in sending does not reach the job. When it is
    closed, what was not sent is dropped, and a sending under way is waited for: nothing may arrive
    after the job's result, and overwrite it.

    Args:
        send: called with `Progress.payload()`, one call at a time; must end by itself.
        every_seconds: at least so long from one sending to the next.
    """

    def __init__(
        self,
        send: Callable[[dict[str, Any]], None],
        *,
        every_seconds: float = SEND_EVERY_SECONDS,
    ) -> None:
        self._send = send
        self._every_seconds = every_seconds
        self._changed = threading.Condition()
        self._latest: Progress | None = None
        self._closed = False

    def __enter__(self) -> Self:
        run = contextvars.copy_context().run  # the job's id, for the log
        self._thread = threading.Thread(target=run, args=(self._run,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def report(self, progress: Progress) -> None:
        """Have this sent soon, instead of what was reported before."""
        with self._changed:
            self._latest = progress
            self._changed.notify()

    def close(self) -> None:
        """Send no more; returns when nothing is under way, or after DRAIN_SECONDS."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(DRAIN_SECONDS)

    def _run(self) -> None:
        failed = False
        while (progress := self._next()) is not None:
            try:
                self._send(progress.payload())
            except Exception as error:  # noqa: BLE001 - whatever it is, the job goes on
                if not failed:
                    log.warning("progress cannot be sent: %s", type(error).__name__)
                failed = True
            with self._changed:
                self._changed.wait_for(lambda: self._closed, self._every_seconds)

    def _next(self) -> Progress | None:
        """Wait for something to send; None when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._latest is not None or self._closed)
            latest, self._latest = self._latest, None
            return None if self._closed else latest
