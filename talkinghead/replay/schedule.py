"""Which run goes to which place now, and what becomes of it. No threads, no clock: times are given.

A run waits, is under way, and is done, failed or cancelled in the end; or it is back in the queue,
because its place died or refused it, or because it failed and may be tried again. A place is
reachable, or it is away, since when and why.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from talkinghead.replay.runs import Run

MAX_DEATHS = 3  # a run that was under way so often when its place died may be why it died
REFUSED = "refused"  # how the reason of what goes to another place begins
FIRST_ANSWER_SECONDS = 0.2  # a place has to answer in, however short the wait for it


class State(Enum):
    """How a run stands; the last three are for good, and are named so in the report."""

    WAITING = "waiting"
    UNDER_WAY = "under way"
    BACK = "back in the queue"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(eq=False)
class Task:
    """A run, and what happened to it so far.

    Attributes:
        why: it is back in the queue, failed or cancelled.
        deaths: how often its place died, or went away, while it was under way.
        failures: how often it failed; a refusal is none.
        refusals: what places said that cannot do it, by their names.
    """

    run: Run
    state: State = State.WAITING
    why: str = ""
    deaths: int = 0
    failures: int = 0
    refusals: dict[str, str] = field(default_factory=dict)

    @property
    def tries(self) -> int:
        """How often it came to an end: in a death, a failure or a success."""
        return self.deaths + self.failures + (self.state is State.DONE)


@dataclass(frozen=True)
class Absence:
    """A place that does not answer: since when, in seconds of the caller's clock, and why."""

    since: float
    why: str


class Schedule:
    """The queue of runs, and the places that do them.

    Places are away until they are `reached`. Which method may be called when follows from the
    state of a task: what `take` gave is UNDER_WAY, and goes to one of `died`, `refused`, `failed`
    and `end`, once.

    Args:
        places: their names.
        in_flight: the most runs at a time.
        retries: how often a run that failed is tried again; deaths do not count.
        wait_seconds: how long all places that could do a run may be away before it fails.
        now: seconds of the clock that all other times are of.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        places: Sequence[str],
        *,
        in_flight: int,
        retries: int,
        wait_seconds: float,
        now: float,
    ) -> None:
        self._queue = deque(Task(run) for run in runs)
        self._places = tuple(places)
        self._absences = {name: Absence(now, "it was never reached") for name in places}
        self._in_flight, self._retries, self._wait_seconds = in_flight, retries, wait_seconds
        self.under_way = 0

    @property
    def is_done(self) -> bool:
        """Whether every run has ended."""
        return not self._queue and not self.under_way

    # ---- Places

    def is_away(self, place: str) -> bool:
        """Whether the place does not answer, as far as is known."""
        return place in self._absences

    def reached(self, place: str) -> None:
        """The place answers."""
        self._absences.pop(place, None)

    def lost(self, place: str, why: str, now: float) -> None:
        """The place does not answer; if it was away before, it is since then, and of this."""
        before = self._absences.get(place)
        self._absences[place] = Absence(before.since if before else now, why)

    # ---- Runs

    def take(self, place: str) -> Task | None:
        """The run that this place is to do now, the first that it did not refuse; None if none."""
        if self.is_away(place) or self.under_way >= self._in_flight:
            return None
        task = next((each for each in self._queue if place not in each.refusals), None)
        if task is not None:
            self._queue.remove(task)
            self.under_way += 1
            task.state = State.UNDER_WAY
        return task

    def died(self, task: Task, place: str, why: str, now: float) -> None:
        """The place went away under the run: it is the next to be done, but for a deadly one."""
        self.lost(place, why, now)
        task.deaths += 1
        if task.deaths < MAX_DEATHS:
            self._put_back(task, why, first=True)
        else:
            what = f"its server died, or went away, {task.deaths} times: {why}"
            self.end(task, State.FAILED, what)

    def refused(self, task: Task, place: str, why: str) -> None:
        """The place cannot do the run: another does it next, if there is one (`end_hopeless`)."""
        task.refusals[place] = why
        self._put_back(task, f"{REFUSED}: {why}", first=True)

    def failed(self, task: Task, why: str, *, again: bool) -> None:
        """The run failed; it is tried once more after all others, if that may help and is asked."""
        task.failures += 1
        if again and task.failures <= self._retries:
            self._put_back(task, why, first=False)
        else:
            self.end(task, State.FAILED, why)

    def end(self, task: Task, state: State, why: str = "") -> None:
        """The run is DONE, FAILED or CANCELLED for good, whatever the settings say."""
        self._leave(task, state, why)

    def _leave(self, task: Task, state: State, why: str) -> None:
        assert task.state is State.UNDER_WAY
        self.under_way -= 1
        task.state, task.why = state, why

    def _put_back(self, task: Task, why: str, *, first: bool) -> None:
        self._leave(task, State.BACK, why)
        (self._queue.appendleft if first else self._queue.append)(task)

    # ---- Runs that no place will do

    def end_hopeless(self, now: float) -> list[Task]:
        """Fail the runs that all places refused, or that have none left which was there lately."""
        hopeless = [task for task in self._queue if self._hopeless_at(task) < now]
        for task in hopeless:
            self._queue.remove(task)
            task.state, task.why = State.FAILED, self._why_hopeless(task)
        return hopeless

    def next_hopeless_at(self) -> float | None:
        """When the next run becomes hopeless if nothing happens until then; None if none does."""
        soonest = min(map(self._hopeless_at, self._queue), default=math.inf)
        return None if soonest == math.inf else soonest

    def _hopeless_at(self, task: Task) -> float:
        """Never, while a place that could do it is there; long ago, if all refused it."""
        wait_seconds = max(self._wait_seconds, FIRST_ANSWER_SECONDS)
        ends = (
            self._absences[name].since + wait_seconds if self.is_away(name) else math.inf
            for name in self._able(task)
        )
        return max(ends, default=-math.inf)

    def _able(self, task: Task) -> list[str]:
        return [name for name in self._places if name not in task.refusals]

    def _why_hopeless(self, task: Task) -> str:
        gone = [f"{name}: {self._absences[name].why}" for name in self._able(task)]
        waited = f"no server answered for {self._wait_seconds:g} s: " if gone else ""
        return waited + "; ".join([*dict.fromkeys(task.refusals.values()), *gone])
