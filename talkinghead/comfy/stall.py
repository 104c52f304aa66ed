"""When a prompt on ComfyUI is stalled: it is executed, and makes no progress."""

from __future__ import annotations

import time

from comfy_client import Place
from talkinghead.errors import RenderStalled


class StallLimit:
    """Ends a prompt of ours that makes no progress for too long while it is executed.

    Progress are its events, and where none would be heard the lines of the server's log: a node
    that gets on says so there, too. Of a server that shows neither, nothing is known, and that is
    no stall; nor is the time behind another client's prompt.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._last_sign = time.monotonic()  # that it goes on, or has not begun
        self._last_line: str | None = None

    def sign(self, event: object = None) -> None:
        """Take note that it goes on."""
        self._last_sign = time.monotonic()

    def found(self, place: Place) -> None:
        """Take note of where the prompt is: it waits, or is executed and may be heard."""
        if place.ahead:
            self.sign()
        elif not place.hears:
            if place.last_line is None or place.last_line != self._last_line:
                self.sign()
            self._last_line = place.last_line

    def check(self, seconds: float) -> None:
        """Let the prompt go on, or not.

        Raises:
            RenderStalled: there was no sign of life for so many seconds.
        """
        if time.monotonic() - self._last_sign > seconds:
            raise RenderStalled(f"{self._what} made no progress for {seconds:g} s and was stopped")
