"""A ComfyUI that ends between two jobs is started again: soon, and not for ever at once."""

from __future__ import annotations

import logging
import time

from talkinghead.comfy.server import ComfyServer
from talkinghead.errors import ComfyUIUnavailable

log = logging.getLogger("talkinghead")

# Between two starts of a ComfyUI that ends again and again; the worker is idle, and paid for.
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 5.0, 300.0


def revive(server: ComfyServer, pauses: Pauses) -> None:
    """Start it if it does not run, and the pause since the last start is over."""
    if server.is_running():
        pauses.lives()
    elif pauses.is_over:
        pauses.started()
        log.warning(
            "ComfyUI %s between two jobs, and is started again; should it end again, in %g s",
            "died" if server.has_died() else "was ended",
            pauses.seconds,
        )
        try:
            server.start()
        except (ComfyUIUnavailable, OSError) as error:
            log.warning("ComfyUI cannot be started: %s", error)


class Pauses:
    """Between the starts of a ComfyUI that does not stay alive: each twice the one before."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last_start = time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether it may be started now."""
        return time.monotonic() - self._last_start >= self.seconds

    def started(self) -> None:
        """It is started now: the next time is after a pause of `seconds`."""
        self._last_start = time.monotonic()
        self.seconds = min(max(2 * self.seconds, FIRST_PAUSE_SECONDS), LAST_PAUSE_SECONDS)

    def lives(self) -> None:
        """It lives now: if it has for the longest pause, the next is the shortest."""
        if time.monotonic() - self._last_start >= LAST_PAUSE_SECONDS:
            self.seconds = 0.0
