"""A video that is made, or was: its job, how far that is, and what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from talkinghead.client import JobCancelled, JobLeft, JobState, Result, TalkingheadError
from talkinghead.page.asked import Asked
from talkinghead.page.place import Place
from talkinghead.page.words import GENERAL, UNHEARD, Fault, fault_of


class Making:
    """One video. `changed` is called whenever there is something new to show.

    Attributes:
        progress: what the job told last, at `told` of the clock; empty before it runs.
        in_queue: how many jobs wait at its place; None while it does not wait.
        result, video: once it has ended well.
        fault: if it has not, and nobody cancelled it; or why it goes on though somebody did.
    """

    def __init__(self, place: Place, asked: Asked, changed: Callable[[], None]) -> None:
        assert asked.source is not None
        self._place, self._changed = place, changed
        self._submitting = asked
        self.shown_request = asked.shown_request()
        self.name = f"{Path(asked.source.name).stem or 'video'}.mp4"
        self.started, self.told = time.monotonic(), 0.0
        self._heard = self.started
        self.progress: Mapping[str, Any] = {}
        self.in_queue: int | None = None
        self.is_cancelled = self.is_over = False
        self.result: Result | None = None
        self.video: Path | None = None
        self.fault: Fault | None = None
        self._job = ""
        self._sending: asyncio.Task[str] | None = None

    async def follow(self, target: Path) -> None:
        """Send the job, and stay with it until its video is in the file."""
        try:
            self._job = await self._send()
            result = await self._place.renders.wait(self._job, self._see)
            await self._place.save(result, target)
            self.result, self.video, self.fault = result, target, None
        except JobCancelled:
            self.is_cancelled, self.fault = True, None
        except (TalkingheadError, OSError) as error:
            self.fault = fault_of(error)
        finally:
            self.is_over = True
            self._changed()

    async def cancel(self) -> None:
        """Have it end, if it has not."""
        if self.is_over:
            return
        self.is_cancelled, self.fault = True, None
        self._changed()
        if self._job:
            await self._cancel()
        elif self._sending is not None:
            self._sending.cancel()

    async def _send(self) -> str:
        """The job's id. Nobody may be there to take it: a cancel is not to wait for that.

        Raises:
            JobCancelled: before it was sent.
            TalkingheadError, OSError
        """
        if self.is_cancelled:
            raise JobCancelled("it was not sent")
        self._sending = asyncio.create_task(self._place.submit(self._submitting))
        try:
            return await self._sending
        except asyncio.CancelledError as error:
            if not self.is_cancelled:  # the page ends
                raise
            if not isinstance(error.__cause__, JobLeft) or error.__cause__.job_id is None:
                raise JobCancelled("it was not sent") from None
            self._job = error.__cause__.job_id
        await self._cancel()
        return self._job

    async def _cancel(self) -> None:
        """Have the job end; if nobody heard it, it goes on, and can be cancelled once more."""
        heard = await self._place.renders.cancel(self._job)
        if heard is None and not self.is_over:
            self.is_cancelled, self.fault = False, Fault({GENERAL: UNHEARD})
            self._changed()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.started

    @property
    def seconds_silent(self) -> float:
        """Since it was heard how the job is."""
        return time.monotonic() - self._heard

    @property
    def seconds_left(self) -> float | None:
        """Until the last window is sampled, as far as the job knows."""
        eta = self.progress.get("eta_seconds")
        return None if eta is None else max(0.0, eta - (time.monotonic() - self.told))

    async def _see(self, state: JobState) -> None:
        self.in_queue, self._heard = None, time.monotonic()
        if state.status == "IN_QUEUE":
            with contextlib.suppress(TalkingheadError):
                jobs = (await self._place.renders.health()).get("jobs") or {}
                self.in_queue = jobs.get("inQueue")
        if state.progress is not None and state.progress != self.progress:
            self.progress, self.told = dict(state.progress), time.monotonic()
        self._changed()
