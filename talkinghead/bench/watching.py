"""What is seen of a render while it runs: when each step ended, and the most memory it took."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import threading
import time
from collections.abc import Callable
from typing import Self

from comfy_client import ComfyError
from talkinghead.comfy.studio import Studio
from talkinghead.memory import GIB
from talkinghead.render.progress import Progress

# A peak that is shorter is missed; more often, ComfyUI would be kept from its work.
LOOK_EVERY_SECONDS = 0.5


class Steps:
    """When the sampler's steps ended, by the progress of a job; hands it on."""

    def __init__(
        self, report: Callable[[Progress], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._report = report
        self._clock = clock
        self._ends: list[tuple[int, int, float]] = []  # window, step, when
        self._collected: float | None = None

    def see(self, progress: Progress) -> None:
        """Take note of what is reported."""
        if progress.window is not None and progress.step is not None:
            self._ends.append((progress.window, progress.step, self._clock()))
        if progress.stage == "collect":
            self._collected = self._clock()
        self._report(progress)

    @property
    def step_seconds(self) -> float | None:
        """The median from one step's end to the next one's within a window; None of too few."""
        taken = [
            (after[2] - before[2]) / (after[1] - before[1])
            for before, after in itertools.pairwise(self._ends)
            if before[0] == after[0] and before[1] < after[1]
        ]
        return statistics.median(taken) if taken else None

    @property
    def rest_seconds(self) -> float:
        """From the last step's end to that of the render: what the VAE and the encoder take."""
        return self._collected - self._ends[-1][2] if self._collected and self._ends else 0.0


class Peaks:
    """The most memory that ComfyUI took while this was entered, GiB; None where it does not tell.

    Attributes:
        vram: what is taken of the card, by whomever.
        torch: what of that PyTorch uses.
        ram: what ComfyUI's processes hold, model files mapped from disk not counted.
    """

    def __init__(self, studio: Studio) -> None:
        self.vram: float | None = None
        self.torch: float | None = None
        self.ram: float | None = None
        self._studio = studio
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        client = self._studio.new_client()
        while not self._is_over.wait(LOOK_EVERY_SECONDS):
            if self._studio.server is not None and (held := self._studio.server.memory_mb()):
                self.ram = max(self.ram or 0, held * 1e6 / GIB)
            with contextlib.suppress(ComfyError):
                for device in client.system_stats().get("devices", [])[:1]:
                    self._see(device)

    def _see(self, device: dict[str, object]) -> None:
        def taken(kind: str) -> float:
            total, free = (float(str(device.get(f"{kind}_{of}", 0))) for of in ("total", "free"))
            return (total - free) / GIB

        if device.get("type") != "cpu":
            self.vram = max(self.vram or 0, taken("vram"))
            self.torch = max(self.torch or 0, taken("torch_vram"))
