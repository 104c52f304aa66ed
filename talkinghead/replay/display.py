"""What is seen of a replay: bars on a terminal, else a line for each run that ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column

from talkinghead.replay.places import Seen
from talkinghead.replay.runs import Run
from talkinghead.replay.schedule import REFUSED
from talkinghead.replay.summary import Tally

COLOURS = {"done": "green", "failed": "red", "cancelled": "yellow"}


class Display:
    """One bar for all runs, one for each that is under way. Its lock guards the bars by run."""

    def __init__(
        self,
        console: Console,
        total: int,
        tally: Tally | None = None,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._console, self._ended = console, ended
        self._tally = tally or Tally(total, None)
        self._bars = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True, ratio=1)),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._total = self._bars.add_task(self._tally.line(), total=total)
        self._running: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bars.stop()

    def started(self, run: Run, place: str) -> Seen:
        """Add a bar for the run; what is returned moves it, from any thread."""
        bar = self._bars.add_task(escape(f"{run.name}  {place}"), total=1.0)
        with self._lock:
            self._running[run.key] = bar

        def seen(fraction: float, message: str) -> None:
            described = escape(f"{run.name}  {place}  {message}")
            self._bars.update(bar, completed=fraction, description=described)

        return seen

    def ended(self, run: Run, place: str, entry: Mapping[str, Any]) -> None:
        """Take the run's bar away, count it, and say in a line how it ended."""
        self._remove(run)
        with self._lock:
            self._tally.add(entry)
            self._bars.update(self._total, advance=1, description=self._tally.line())
        status, error = entry["status"], entry["error"]
        where = f" on {place} in {entry['seconds']} s" if place else ""
        self._line(COLOURS[status], status, run.name + where + (f": {error}" if error else ""))
        self._ended()

    def back_in_queue(self, run: Run, place: str, why: str) -> None:
        """Take the run's bar away, and say in a line why it will be done again."""
        self._remove(run)
        if why.startswith(REFUSED):
            self._line("yellow", "refused", f"{run.name}, by {place}{why.removeprefix(REFUSED)}")
        else:
            self._line("yellow", "queued", f"{run.name}, by {place}, again: {why}")

    def _remove(self, run: Run) -> None:
        with self._lock:
            bar = self._running.pop(run.key, None)
        if bar is not None:
            self._bars.remove_task(bar)

    def _line(self, colour: str, status: str, text: str) -> None:
        self._console.print(
            f"[{colour}]{status}[/] {escape(text)}", soft_wrap=True, highlight=False
        )
