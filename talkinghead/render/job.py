"""One call of the worker, and what is known of it while it runs."""

from __future__ import annotations

import contextlib
import functools
import math
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from talkinghead import logs
from talkinghead.delivery.asked import Asked, asked_by
from talkinghead.delivery.retry import Patience
from talkinghead.errors import Cancelled, DeadlineExceeded
from talkinghead.render.progress import Progress, Report
from talkinghead.settings import Settings

# What was rendered may be collected and muxed for so long after the job's time: it was paid for.
FINISHING_SECONDS = 60.0


@dataclass
class Job:
    """One call of the worker, and what is known of it while it runs."""

    id: str
    input: object
    report: Report = lambda progress: None
    cancelled: threading.Event = field(default_factory=threading.Event)
    stage: str = "understand"
    timings: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    timeout_seconds: float = math.inf

    request_id: str | None = None
    price_per_hour: float | None = None  # of the worker; each answer then tells the job's cost
    percent: float = 0.0

    def tell(self, progress: Progress) -> None:
        """Report how far it is. What is done once more, after a failure, takes no percent back."""
        told = replace(progress, least_percent=self.percent)
        self.percent = told.percent
        self.report(told)

    @property
    def key(self) -> str:
        """The request's id, else the job's, as part of a file name or a storage key."""
        return self.request_id or re.sub(r"[^A-Za-z0-9_-]", "_", self.id)[:64] or "job"

    @property
    def place(self) -> str:
        """Below which its video lies in a store.

        An id that a caller chose may be somebody else's, too: there, each request has a folder.
        """
        return f"{self.key}/{self.asked.video[:32]}" if self.request_id else self.key

    @functools.cached_property
    def asked(self) -> Asked:
        """What its input asks for: a job that RunPod gives out again asks for the same."""
        return asked_by(self.input)

    def fetched(self, sums: Mapping[str, str]) -> None:
        """Its files' sha256, by the fields that named them: they are part of what was asked."""
        self.asked = replace(self.asked, files=sums)

    @property
    def seconds(self) -> float:
        """Time since the job began."""
        return time.monotonic() - self.started

    @property
    def cost(self) -> float | None:
        """What the job's time on the worker cost so far, if an hour's price is known."""
        if self.price_per_hour is None:
            return None
        return round(self.seconds / 3600 * self.price_per_hour, 6)

    def new_subfolder(self) -> str:
        """A name that never comes twice: ComfyUI would answer from its cache."""
        return f"{self.key}-{uuid.uuid4().hex[:8]}"

    @contextlib.contextmanager
    def at(
        self, stage: str, message: str, check: Callable[[], None] | None = None
    ) -> Iterator[None]:
        """A stage of the story: said, timed, and not begun once `check`, or the job's own, raises.

        One that fails was paid for, too: its time counts, and that of each attempt.
        """
        (check or self.check)()
        self.stage = stage
        self.tell(Progress(stage, message))
        start = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - start
            self.timings[stage] = round(self.timings.get(stage, 0.0) + seconds, 3)
        logs.tell("stage ended", name=stage, seconds=round(seconds, 3))

    def check(self) -> None:
        """Raise `Cancelled` if the job was, `DeadlineExceeded` if its time is used up."""
        self._check(spare_seconds=0.0)

    def check_finishing(self) -> None:
        """`check`, once something is rendered: it has a while longer to be brought home."""
        self._check(FINISHING_SECONDS)

    def _check(self, spare_seconds: float) -> None:
        if self.cancelled.is_set():
            raise Cancelled("the job was cancelled")
        if self.seconds > self.timeout_seconds + spare_seconds:
            seconds = f"{self.timeout_seconds:g} s"
            raise DeadlineExceeded(f"the job took longer than JOB_TIMEOUT_SECONDS, {seconds}")


def patience(job: Job, settings: Settings) -> Patience:
    """How long a delivery may take, and as long as the job may."""
    return Patience(settings.delivery_seconds, job.check)
