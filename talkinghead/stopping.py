"""Ctrl-C: the first asks what is under way to end, a second one ends the process."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def stopping(stop: threading.Event) -> Iterator[list[int]]:
    """The first Ctrl-C or SIGTERM sets `stop`, and is told; gives the signals that came.

    The handler runs in the main thread, wherever that is, in an import, say: it takes no lock of
    ours, and writes past all of Python's layers.
    """
    caught: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            sys.exit(128 + number)
        caught.append(number)
        stop.set()
        with contextlib.suppress(OSError):
            os.write(2, b"\nstopping what is under way; once more to leave it\n")

    before = {s: signal.signal(s, end) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
