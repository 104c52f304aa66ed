"""The jobs of the local API: one at a time, in the order in which they came.

Their states and bodies are RunPod's: progress is in `output` while a job runs, a failed job has its
sentence as `error` and the rest as `output`, and a result is kept for a while only.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from talkinghead.render.job import Job
from talkinghead.render.progress import Progress

Status = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"]
Run = Callable[[Job], dict[str, Any]]
Told = Callable[[str, dict[str, Any]], None]

FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})
MOST_QUEUED = 500  # RunPod's for one worker; from then on it says 429
MOST_QUEUED_BYTES = 2 * 1024**3  # their files wait in memory
ASYNC_RESULT_SECONDS, SYNC_RESULT_SECONDS = 1800.0, 60.0
TTL_SECONDS = 86_400.0
LOOK_SECONDS = 30.0  # how often what has expired is looked for
CANCEL_SECONDS = 8.0  # what a job that is cancelled may take to let go, when all ends
WORKER_ID = "local"


class TooManyJobs(Exception):
    """The queue is full."""


@dataclass(frozen=True)
class Submission:
    """A job as it was sent: its input, and what stands beside it. Times are in seconds.

    `is_sync` says that somebody waits for it: such a result is kept for a minute only. `size` is in
    bytes.
    """

    input: Mapping[str, Any]
    is_sync: bool = False
    webhook: str | None = None
    execution_seconds: float | None = None
    ttl_seconds: float = TTL_SECONDS
    size: int = 0


@dataclass
class _Entry:
    """A job and what became of it; times are those of the clock, in seconds."""

    id: str
    sent: Submission
    created: float
    status: Status = "IN_QUEUE"
    started: float | None = None
    ended: float | None = None
    output: object = None
    error: str | None = None
    job: Job | None = None

    def time_left(self, now: float) -> float:
        """Seconds until its executionTimeout is over, while it runs."""
        if self.status != "IN_PROGRESS" or self.sent.execution_seconds is None:
            return math.inf
        return (self.started or 0.0) + self.sent.execution_seconds - now

    def body(self) -> dict[str, Any]:
        """What RunPod says of a job in this state."""
        told: dict[str, Any] = {"id": self.id, "status": self.status}
        if self.started is not None:
            told |= {"delayTime": _ms(self.started - self.created), "workerId": WORKER_ID}
            if self.ended is not None:
                told["executionTime"] = _ms(self.ended - self.started)
        if self.output is not None:
            told["output"] = self.output
        if self.error is not None:
            told["error"] = self.error
        return told


def _ms(seconds: float) -> int:
    return round(1000 * max(seconds, 0.0))


class JobQueue:
    """Takes jobs, and has `run` do them one by one in a thread of its own.

    It starts no thread after `start`: where none is to be had any more, jobs go on.

    Args:
        run: does a job, and returns its result, or the account of its failure; never raises.
        tell: called with a webhook's URL and a body, once a job that has one has ended.
        clock: seconds since whenever.
    """

    def __init__(
        self, run: Run, tell: Told, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._run, self._tell, self._clock = run, tell, clock
        self._entries: dict[str, _Entry] = {}
        self._ended: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Begin to do jobs."""
        threading.Thread(target=self._watch, daemon=True).start()
        self._thread.start()

    def close(self) -> None:
        """Cancel the job that runs, and do no more."""
        with self._changed:
            self._closed = True
            running = [entry.job for entry in self._entries.values() if entry.job is not None]
            self._changed.notify_all()
        for job in running:
            job.cancelled.set()
        if self._thread.is_alive():
            self._thread.join(CANCEL_SECONDS)

    def submit(self, sent: Submission) -> dict[str, Any]:
        """Queue a job; returns its id and state.

        Raises:
            TooManyJobs
        """
        with self._changed:
            self._drop_expired()
            waiting = [e.sent.size for e in self._entries.values() if e.status == "IN_QUEUE"]
            if len(waiting) >= MOST_QUEUED or sum(waiting) + sent.size > MOST_QUEUED_BYTES:
                raise TooManyJobs
            # RunPod's ids, so that who reads them by their form is not surprised there.
            name = f"{'sync-' if sent.is_sync else ''}{uuid.uuid4()}-u1"
            entry = self._entries[name] = _Entry(name, sent, self._clock())
            self._changed.notify_all()
            return entry.body()

    def state(self, name: str) -> dict[str, Any] | None:
        """The job's state; None for one that is not known, or no longer."""
        with self._changed:
            self._drop_expired()
            entry = self._entries.get(name)
            return entry.body() if entry else None

    def wait(self, name: str, seconds: float) -> dict[str, Any] | None:
        """The job's state once it has ended, or after so many seconds."""
        with self._changed:
            entry = self._entries.get(name)
            if entry is None:
                return None
            self._changed.wait_for(lambda: entry.status in FINAL, seconds)
            return entry.body()

    def cancel(self, name: str) -> dict[str, Any] | None:
        """Have the job end; its state, CANCELLED unless it had ended; None if it is not known."""
        with self._changed:
            self._drop_expired()
            entry = self._entries.get(name)
            if entry is None:
                return None
            self._finish(entry, "CANCELLED")
            return entry.body()

    def health(self) -> dict[str, Any]:
        """How many jobs there are in each state, and the one worker."""
        with self._changed:
            running = self._count("IN_PROGRESS")
            return {
                "jobs": {
                    "completed": self._ended["COMPLETED"],
                    "failed": self._ended["FAILED"] + self._ended["TIMED_OUT"],
                    "inProgress": running,
                    "inQueue": self._count("IN_QUEUE"),
                    "retried": 0,
                },
                "workers": {
                    "idle": 1 - running,
                    "initializing": 0,
                    "ready": 1,
                    "running": running,
                    "throttled": 0,
                    "unhealthy": 0,
                },
            }

    def _count(self, status: Status) -> int:
        return sum(entry.status == status for entry in self._entries.values())

    def _drop_expired(self) -> None:
        now = self._clock()
        for name, entry in list(self._entries.items()):
            kept = SYNC_RESULT_SECONDS if entry.sent.is_sync else ASYNC_RESULT_SECONDS
            if entry.ended is not None and now > entry.ended + kept:
                del self._entries[name]
            elif entry.status == "IN_QUEUE" and now > entry.created + entry.sent.ttl_seconds:
                self._finish(entry, "TIMED_OUT", error="it was not begun within its ttl")
            elif entry.time_left(now) < 0:
                self._finish(entry, "TIMED_OUT", error="executionTimeout exceeded")

    def _work(self) -> None:
        while (entry := self._next()) is not None:
            assert entry.job is not None
            result = self._run(entry.job)
            with self._changed:
                entry.job = None
                self._end(entry, result)

    def _next(self) -> _Entry | None:
        """The job whose turn it is, begun; None when all ends."""
        with self._changed:
            while not self._closed:
                self._drop_expired()
                for entry in self._entries.values():
                    if entry.status == "IN_QUEUE":
                        return self._begin(entry)
                self._changed.wait(LOOK_SECONDS)
        return None

    def _begin(self, entry: _Entry) -> _Entry:
        def report(progress: Progress) -> None:
            with self._changed:
                if entry.status == "IN_PROGRESS":
                    entry.output = progress.payload()
                self._drop_expired()

        entry.status, entry.started = "IN_PROGRESS", self._clock()
        entry.job = Job(id=entry.id, input=dict(entry.sent.input), report=report)
        self._changed.notify_all()  # who watches its time
        return entry

    def _watch(self) -> None:
        """End a job when its executionTimeout is over, also while nobody asks how it is."""
        with self._changed:
            while not self._closed:
                self._drop_expired()
                now = self._clock()
                left = [entry.time_left(now) for entry in self._entries.values()]
                self._changed.wait(min([LOOK_SECONDS, *left]))

    def _end(self, entry: _Entry, result: dict[str, Any]) -> None:
        """The job is done; RunPod's SDK parts the result in this way."""
        output = {name: value for name, value in result.items() if name != "error"}
        output.pop("refresh_worker", None)
        error = result.get("error")
        self._finish(entry, "FAILED" if error else "COMPLETED", output or None, error)

    def _finish(
        self,
        entry: _Entry,
        status: Status,
        output: object = None,
        error: str | None = None,
    ) -> None:
        """The job has ended so, if it had not already; whoever renders it hears of it."""
        if entry.status in FINAL:
            return
        entry.status, entry.output, entry.error = status, output, error
        entry.ended = self._clock()
        entry.sent = replace(entry.sent, input={})  # its files: only the state is kept
        self._ended[status] += 1
        if entry.job is not None:
            entry.job.cancelled.set()
        if entry.sent.webhook is not None:
            self._tell(entry.sent.webhook, entry.body())
        self._changed.notify_all()
