"""The threads that do the runs: one for each run that a place can do at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from talkinghead.plan.shown import without_secrets
from talkinghead.redact import redact_urls
from talkinghead.replay.outputs import OutputFolder
from talkinghead.replay.places import Away, Failed, Place, Refused, RunResult, Seen, Stopped
from talkinghead.replay.report import Report
from talkinghead.replay.runs import Run
from talkinghead.replay.schedule import Schedule, State, Task
from talkinghead.replay.sources import BadInput

STOP_SECONDS = 0.2  # a stop notifies nobody: so soon it is seen by who pauses
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0  # between two looks for a place that is away


class Watcher(Protocol):
    """Who is told of the runs; called from any thread, of one run in the order of its states."""

    def started(self, run: Run, place: str) -> Seen:
        """The place begins with the run. Returns what is to be told how far the run is."""

    def ended(self, run: Run, place: str, entry: Mapping[str, Any]) -> None:
        """The run ended for good, as the report's `entry` says. `place` is empty if none did it."""

    def back_in_queue(self, run: Run, place: str, why: str) -> None:
        """The place did not do the run; it will be done again, there or elsewhere."""


@dataclass
class Try:
    """One try of a run: where and since when, and what was made, or the fault of the place.

    With no `place` it is the end of a run that none took.
    """

    place: str = ""
    result: RunResult = field(default_factory=RunResult)
    files: Sequence[Mapping[str, Any]] = ()
    fault: Exception | None = None
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long it took until now."""
        return round(time.monotonic() - self.began, 2)


class Work:
    """Does all runs, each once. What goes where is decided by a `Schedule`.

    Each place has as many threads as runs at a time; the caller's thread gives up what no place
    will do. All of them share the schedule, under the lock of `_changed`, which is notified
    whenever a run or a place changed its state: that is what they wait for.

    A stop notifies nobody, and needs not: a place that is doing a run, and one that is away and
    looked for again, watch the stop themselves, and their threads notify the others when they end.
    While there is work to do, there is at least one of these.

    Args:
        in_flight: the most runs at a time.
        retries: how often a failed run is tried again.
        wait_seconds: how long all places that could do a run may be away before it fails.
        stop: set from outside, ends what is under way and starts nothing more.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        places: Sequence[Place],
        *,
        outputs: OutputFolder,
        report: Report,
        watcher: Watcher,
        in_flight: int,
        retries: int,
        wait_seconds: float,
        stop: threading.Event,
    ) -> None:
        self._places, self._report, self._watcher = places, report, watcher
        self._outputs, self._stop = outputs, stop
        self._schedule = Schedule(
            runs,
            [place.name for place in places],
            in_flight=in_flight,
            retries=retries,
            wait_seconds=wait_seconds,
            now=time.monotonic(),
        )
        self._changed = threading.Condition()
        self.failed = 0

    def do(self) -> None:
        """Return when all runs ended, or were stopped."""
        serving = [place for place in self._places for _ in range(place.width)]
        with ThreadPoolExecutor(len(serving)) as pool:
            threads = [pool.submit(self._serve, place) for place in serving]
            for thread in threads:
                thread.add_done_callback(self._wake_all)
            try:
                self._oversee(threads)
            except BaseException:
                self._stop.set()
                raise
            finally:
                self._wake_all()
        for thread in threads:
            thread.result()  # no run is left, but the last report of one may have failed

    def _wake_all(self, ended: Future[None] | None = None) -> None:
        with self._changed:
            self._changed.notify_all()

    # ---- The caller's thread

    def _oversee(self, threads: Sequence[Future[None]]) -> None:
        """Give up hopeless runs, until all is over. What a thread raises is a bug, and ends it."""
        with self._changed:
            while not self._is_over():
                for thread in threads:
                    if thread.done():
                        thread.result()
                hopeless = self._schedule.end_hopeless(time.monotonic())
                for task in hopeless:
                    self._tell_end(task, Try())
                if not hopeless:
                    self._changed.wait(self._seconds_until_hopeless())

    def _is_over(self) -> bool:
        stopped = self._stop.is_set() and not self._schedule.under_way
        return stopped or self._schedule.is_done

    def _seconds_until_hopeless(self) -> float | None:
        at = self._schedule.next_hopeless_at()
        return None if at is None else min(max(at - time.monotonic(), 0), threading.TIMEOUT_MAX)

    # ---- A place's thread

    def _serve(self, place: Place) -> None:
        pause_seconds = FIRST_PAUSE_SECONDS
        while self._has_more():
            if not self._reach(place):
                _pause(pause_seconds, self._changed, self._has_more)
                pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)
            elif (task := self._take(place)) is not None:
                pause_seconds = FIRST_PAUSE_SECONDS
                self._try(task, place)

    def _has_more(self) -> bool:
        with self._changed:
            return not self._stop.is_set() and not self._schedule.is_done

    def _reach(self, place: Place) -> bool:
        """Whether the place answers; it is asked only if it was away."""
        with self._changed:
            if not self._schedule.is_away(place.name):
                return True
        try:
            place.connect()
        except (Away, Failed) as error:
            with self._changed:
                self._schedule.lost(place.name, str(error), time.monotonic())
                self._changed.notify_all()
            return False
        except Stopped:
            return False
        with self._changed:
            self._schedule.reached(place.name)
            self._changed.notify_all()
        return True

    def _take(self, place: Place) -> Task | None:
        """The next run for the place, once there is one; None if it went away, or all is over."""
        with self._changed:
            while self._has_more() and not self._schedule.is_away(place.name):
                if (task := self._schedule.take(place.name)) is not None:
                    return task
                self._changed.wait()
        return None

    def _try(self, task: Task, place: Place) -> None:
        seen = self._watcher.started(task.run, place.name)
        ended = attempt(task.run, place, seen, self._outputs, self._stop)
        # One lock for both: once a run is back in the queue, the next place may take it, and the
        # watcher must hear of that start after this end.
        with self._changed:
            settle(self._schedule, task, ended)
            if task.state is State.BACK:
                self._watcher.back_in_queue(task.run, place.name, redact_urls(task.why))
            else:
                self._tell_end(task, ended)
            self._changed.notify_all()

    def _tell_end(self, task: Task, last: Try) -> None:
        entry = entry_of(task, last)
        self._report.add(entry)  # first: what is told to have ended is not done again after a kill
        self.failed += task.state is State.FAILED
        self._watcher.ended(task.run, last.place, entry)


def _pause(seconds: float, changed: threading.Condition, has_more: Callable[[], bool]) -> None:
    """Wait so long, or until there is nothing left to do."""
    end = time.monotonic() + seconds
    with changed:
        while has_more() and (left := end - time.monotonic()) > 0:
            changed.wait(min(left, STOP_SECONDS))


def attempt(
    run: Run, place: Place, seen: Seen, outputs: OutputFolder, stop: threading.Event
) -> Try:
    """Let the place do the run. Its outputs lie in their folder then, or the try has a fault."""
    this = Try(place.name)
    try:
        with TemporaryDirectory(prefix=".part-", dir=outputs.path) as name:
            result = place.run(run, Path(name), seen, stop)
            files = outputs.publish(Path(name), run, run.named(result.seed))
        this.result, this.files = result, files
    except (Away, Refused, Failed, Stopped, OSError, BadInput) as error:
        this.fault = error
    return this


def settle(schedule: Schedule, task: Task, ended: Try) -> None:
    """Enter into the schedule how the try of a run ended."""
    fault, why = ended.fault, str(ended.fault)
    match fault:
        case None:
            schedule.end(task, State.DONE)
        case Away():
            schedule.died(task, ended.place, why, time.monotonic())
        case Refused():
            schedule.refused(task, ended.place, why)
        case Failed():
            schedule.failed(task, why, again=fault.again)
        case Stopped():
            schedule.end(task, State.CANCELLED, "the replay was stopped")
        case _:  # of this machine's disk: no other place would do better
            schedule.end(task, State.FAILED, why)


def entry_of(task: Task, last: Try) -> dict[str, Any]:
    """What the report says of a run that ended with this try; no secret is in it."""
    run, drawn = task.run, last.result.seed
    return {
        "key": run.key,
        "status": task.state.value,
        "name": run.named(drawn),
        "file": str(run.path),
        "kind": run.kind,
        "row": run.row,
        "set": without_secrets(run.changes),
        "repeat": run.repeat,
        "seed": run.seed if drawn is None else drawn,
        "server": last.place,
        "tries": task.tries,
        "started": last.started.isoformat(timespec="seconds"),
        "seconds": last.seconds,
        "paid_seconds": last.result.paid_seconds,
        "timings": dict(last.result.timings),
        "warnings": [redact_urls(each) for each in last.result.warnings],
        "files": list(last.files),
        "error": None if task.state is State.DONE else redact_urls(task.why),
    }
