"""How long a place is tried: with longer and longer pauses, until it is over or the job is."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from talkinghead.errors import DeliveryFailed

T = TypeVar("T")

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 15.0
POLL_SECONDS = 0.2  # a cancelled job is heard so soon, whatever it waits for


class PassingFault(Exception):
    """The place did not do it, and may a moment later: for `keep_trying`, never for a caller."""


class Patience:
    """How long a delivery may take: `seconds`, and as long as `check` does not raise."""

    def __init__(
        self,
        seconds: float,
        check: Callable[[], None] = lambda: None,
        what: str = "the video was not taken",
    ) -> None:
        self._seconds = seconds
        self._what = what
        self._deadline = time.monotonic() + seconds
        self._check = check

    def check(self) -> None:
        """Return if there is time left.

        Raises:
            DeliveryFailed: the time is over.
            Cancelled: the job is.
        """
        self._check()
        if time.monotonic() > self._deadline:
            raise DeliveryFailed(f"{self._what} within {self._seconds:.0f} s")

    def sleep(self, seconds: float) -> None:
        """Pause; ends early as `check` does."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, POLL_SECONDS))


def wait_for(running: Future[T], patience: Patience) -> T:
    """What the other thread returns or raises; it is left behind when the patience ends."""
    while not wait([running], POLL_SECONDS).done:
        patience.check()
    return running.result()


def keep_trying(attempt: Callable[[], T], patience: Patience) -> T:
    """What `attempt` returns, repeated while it ends in a PassingFault.

    It has to be one that may be done again from its beginning: a fault may come after the place
    has taken everything.

    Raises:
        DeliveryFailed: the time is over; it tells of the last fault.
        Cancelled, and what `attempt` raises
    """
    last: list[str] = []
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            if last:
                patience.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            return attempt()
        except PassingFault as fault:
            last = [str(fault)]
        except DeliveryFailed as error:
            raise DeliveryFailed("; ".join([str(error), *last]), **error.details) from None
