"""How a decoder tells that it gets on: to whom, `sandbox` decides, and in a worker it is nobody."""

from __future__ import annotations

import time
from collections.abc import Callable

BEAT_SECONDS = 1.0  # between two that are told: thousands of packets may come in that time


class _Heart:
    """Whom this process tells, and when it did last."""

    def __init__(self) -> None:
        self.tell: Callable[[], None] | None = None
        self.next_at = 0.0


_heart = _Heart()


def tell_beats(tell: Callable[[], None]) -> None:
    """From now on, have `tell` called while this process decodes, once in BEAT_SECONDS."""
    _heart.tell = tell


def beat() -> None:
    """To be called for each packet, frame or block of samples: who is silent for long hangs."""
    if _heart.tell is not None and (now := time.monotonic()) >= _heart.next_at:
        _heart.next_at = now + BEAT_SECONDS
        _heart.tell()
