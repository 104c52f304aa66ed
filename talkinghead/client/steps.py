"""The steps of a call's story: what a client is to do, and to hand back what came of it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from .jobs import JobState

T = TypeVar("T")
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0


@dataclass(frozen=True)
class Do:
    """Something that takes time: a call, an upload, a download.

    `whole`: it is not cut short. Who gives up meanwhile is heard with the next step: a job that is
    being started can then be cancelled.
    """

    what: Callable[[], Any]
    whole: bool = False


@dataclass(frozen=True)
class Pause:
    """Wait for so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Tell:
    """Hand a value to what the caller gave; if that gives something to wait for, wait for it."""

    to: Callable[[JobState], object]
    state: JobState


Step = Do | Pause | Tell
Flow = Generator[Step, Any, T]


@dataclass(frozen=True)
class Pace:
    """How often is asked how a job is, and how long an endpoint may say nothing of use; seconds."""

    poll_seconds: float = 2.0
    patience_seconds: float = 300.0

    def pause(self, troubles: int) -> Pause:
        """What to wait after so many troubles in a row; after none, until the next poll."""
        if not troubles:
            return Pause(self.poll_seconds)
        shortest = min(FIRST_PAUSE_SECONDS, self.poll_seconds)
        return Pause(min(shortest * 2 ** min(troubles - 1, 10), LONGEST_PAUSE_SECONDS))
