"""Waiting for what happens: the clock is the last resort, on the busiest of machines too."""

from __future__ import annotations

import time
from collections.abc import Callable

LAST_RESORT_SECONDS = 600.0
POLL_SECONDS = 0.02


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Return when the condition holds."""
    deadline = time.monotonic() + LAST_RESORT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to this: {what}"
        time.sleep(POLL_SECONDS)
