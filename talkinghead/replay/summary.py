"""What became of a replay's runs: while they go on in a line, at the end in a few."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from talkinghead.plan.pace import duration_text

CAUSE_CHARACTERS = 200
NAMES_SHOWN = 5


class Tally:
    """Counts runs as they end; of one thread at a time.

    Args:
        total: how many there are.
        price_per_hour: of what renders them, if it is known.
        clock: seconds since whenever.
    """

    def __init__(
        self,
        total: int,
        price_per_hour: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._price_per_hour, self._clock = total, price_per_hour, clock
        self._began = clock()
        self._entries: list[Mapping[str, Any]] = []

    def add(self, entry: Mapping[str, Any]) -> None:
        """A run ended, as the report's entry says."""
        self._entries.append(entry)

    @property
    def counts(self) -> Counter[str]:
        """How many ended in which state."""
        return Counter(entry["status"] for entry in self._entries)

    @property
    def cost(self) -> float | None:
        """What the runs cost so far: the seconds that they were under way, on whatever did them."""
        if self._price_per_hour is None:
            return None
        seconds = sum(float(each.get("paid_seconds") or each["seconds"]) for each in self._entries)
        return self._price_per_hour * seconds / 3600

    def line(self) -> str:
        """How far it is."""
        counts, ended = self.counts, len(self._entries)
        parts = [f"{ended} of {self._total}"]
        parts += [f"{counts[state]} {state}" for state in ("failed", "cancelled") if counts[state]]
        if 0 < ended < self._total:
            left = (self._clock() - self._began) / ended * (self._total - ended)
            parts.append(f"about {duration_text(left)} left")
        if self.cost is not None:
            parts.append(f"{self.cost:.2f} so far")
        return ", ".join(parts)

    def lines(self, unfit: int = 0) -> list[str]:
        """How it ended: counts, time, cost, and the failures by their causes.

        Args:
            unfit: what could not be begun, and failed as well.
        """
        counts, seconds = self.counts, self._clock() - self._began
        told = [f"{counts['done']} done", f"{counts['failed'] + unfit} failed"]
        told += [f"{counts['cancelled']} cancelled"] if counts["cancelled"] else []
        rest = self._total - len(self._entries)
        told += [f"{rest} not begun"] if rest > 0 else []
        each = [entry["seconds"] for entry in self._entries if entry["status"] == "done"]
        mean = f", {sum(each) / len(each):.1f} s each" if each else ""
        cost = "" if self.cost is None else f", for about {self.cost:.2f}"
        first = f"{', '.join(told)}, in {duration_text(seconds)}{mean}{cost}"
        return [first, *failures_by_cause(self._entries)]


def failures_by_cause(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each cause of failures, the commonest first: how many, which, and why."""
    causes: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        if entry["status"] == "failed":
            causes.setdefault(_cause(entry), []).append(entry)
    lines = []
    for same in sorted(causes.values(), key=len, reverse=True):
        names = list(dict.fromkeys(_at(entry) for entry in same))
        shown = ", ".join(names[:NAMES_SHOWN])
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        why = str(same[0]["error"]).partition("\n")[0][:CAUSE_CHARACTERS]
        lines.append(f"  {len(same)} failed: {why}\n      {shown}{more}")
    return lines


def _cause(entry: Mapping[str, Any]) -> str:
    """The error without what differs from file to file: numbers, names in quotes, its own file."""
    text = str(entry["error"]).partition("\n")[0]
    for own in (entry.get("file"), entry.get("name")):
        text = text.replace(str(own), "") if own else text
    return re.sub(r"'[^']*'|\"[^\"]*\"|\d+(\.\d+)?", "…", text)[:CAUSE_CHARACTERS]


def _at(entry: Mapping[str, Any]) -> str:
    row = f", row {entry['row']}" if entry.get("row") else ""
    return f"{entry['file']}{row}"
