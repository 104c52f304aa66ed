"""What is seen of one render: a bar, what it waits for, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from talkinghead.comfy.process import log_tail

if TYPE_CHECKING:
    from talkinghead.render import progress

LOG_CHARACTERS = 48
KNOWN_SHARE = 0.1  # of a stage, after which its pace says how long the rest takes


class Bar:
    """The bar of a render, `report`ed to; `log` is that of the ComfyUI that is being started.

    Args:
        start_seconds: how long its last start took, if that is known.
        tell: gets a line for each stage, where there is no terminal to draw on.
    """

    def __init__(self, console: Console, log: Path | None, start_seconds: float | None) -> None:
        self._console, self._log, self._start_seconds = console, log, start_seconds
        self._stage, self._since, self._fraction = "", time.monotonic(), 0.0
        self._eta: tuple[float, float] | None = None  # the seconds that were told, and when
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            _Shown(self._left),
            _Shown(self._waits_for),
            console=console,
            disable=not console.is_terminal,
        )
        self._bar = self._bars.add_task("starting", total=100)

    def __enter__(self) -> Bar:
        self._bars.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bars.stop()

    def report(self, seen: progress.Progress) -> None:
        """Show how far the job is."""
        if seen.stage != self._stage:
            self._stage, self._since = seen.stage, time.monotonic()
            if not self._console.is_terminal:
                self._console.print(escape(self._words(seen.message)), highlight=False)
        self._fraction = seen.fraction
        self._eta = None if seen.eta_seconds is None else (seen.eta_seconds, time.monotonic())
        words = escape(self._words(seen.message))
        self._bars.update(self._bar, description=words, completed=seen.percent)

    def _words(self, message: str) -> str:
        if self._stage != "start" or self._log is None:
            return message
        return "starting ComfyUI"

    def _left(self) -> str:
        """How long until the end, as far as anybody knows."""
        here = time.monotonic() - self._since
        if self._stage == "start" and self._log is not None:
            took = self._start_seconds
            return _clock(here) + (f" of about {_clock(took)}" if took else ", 30 s is usual")
        if self._eta is not None:
            return f"about {_clock(max(self._eta[0] - (time.monotonic() - self._eta[1]), 0))} left"
        if self._stage == "render" and self._fraction > KNOWN_SHARE:
            return f"about {_clock(here * (1 - self._fraction) / self._fraction)} left"
        return _clock(here)

    def _waits_for(self) -> str:
        """The last line that a ComfyUI said which does not answer yet: what it is doing."""
        if self._stage != "start" or self._log is None:
            return ""
        lines = [line for line in log_tail(self._log).splitlines() if line.strip()]
        return lines[-1].strip()[:LOG_CHARACTERS] if lines else "Python loads PyTorch"


class _Shown(ProgressColumn):
    """A column that is asked anew whenever the bar is drawn."""

    def __init__(self, text: Callable[[], str]) -> None:
        super().__init__()
        self._text = text

    def render(self, task: Task) -> Text:
        """What is to be seen now."""
        return Text(self._text(), style="dim")


def _clock(seconds: float) -> str:
    return f"{round(seconds) // 60}:{round(seconds) % 60:02}"
