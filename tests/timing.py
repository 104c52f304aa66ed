"""Waiting for what happens: no test fails for want of time."""

from __future__ import annotations

import time
from collections.abc import Callable

LAST_RESORT_SECONDS = 600.0  # after these nothing comes any more, however busy the machine is


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Return when the condition is true; `what` says what is waited for, should it never come."""
    end = time.monotonic() + LAST_RESORT_SECONDS
    while not condition():
        assert time.monotonic() < end, f"did not come in {LAST_RESORT_SECONDS:.0f} s: {what}"
        time.sleep(0.01)
