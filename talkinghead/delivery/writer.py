"""Writes behind a render's back: in order, one at a time, each until it is done."""

from __future__ import annotations

import contextvars
import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from functools import partial

from talkinghead import logs
from talkinghead.delivery.retry import PassingFault, Patience, keep_trying
from talkinghead.errors import DeliveryFailed

CLOSE_SECONDS = 7.0  # SIGTERM leaves a worker 9 s
CLOSING_PAUSE_SECONDS = 0.5

log = logging.getLogger("talkinghead")
Write = Callable[[], None]


class BackgroundWriter:
    """A thread that does the writes it is given, each tried until it is done or all is over.

    A write may be done more than once, and fails with DeliveryFailed, PassingFault or OSError;
    whichever it is, the next try may go well: in hours, a full or broken store is mended.
    """

    def __init__(self) -> None:
        self._closing = threading.Event()
        self._patience = _UntilClosed(self._closing)
        self._writes: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._last: Write | None = None
        self._thread: threading.Thread | None = None
        self._failing = False

    def add(self, write: Write) -> None:
        """Have it done after all that came before. Returns at once."""
        self._start()
        self._writes.put(write)

    def close(self, last: Write | None = None) -> None:
        """Wait up to CLOSE_SECONDS for what is pending, and then for `last`, which is tried once.

        Of what takes longer, the rest is done as long as this process lives. Done once: what is
        asked of one that was closed before is nothing.
        """
        if self._closing.is_set():
            return
        if last is not None:
            self._start()  # it may not have had anything to write
        if self._thread is None:
            return
        # In this order: who hears of the closing, and of the end of the writes, has to know all.
        self._last = last
        self._patience.end_in(CLOSE_SECONDS)
        self._closing.set()
        self._writes.put(None)
        self._thread.join(CLOSE_SECONDS)

    def _start(self) -> None:
        """Start the thread; no exit of the process waits for it."""
        if self._thread is None:
            run = contextvars.copy_context().run  # its lines in the log carry the job's id
            self._thread = threading.Thread(target=run, args=[self._work], daemon=True)
            self._thread.start()

    def _work(self) -> None:
        lost = 0
        while (write := self._writes.get()) is not None:
            try:
                keep_trying(partial(self._attempt, write), self._patience)
            except DeliveryFailed:
                lost += 1
            except Exception:  # a fault of ours costs this write, not those that come after
                lost += 1
                log.exception("a window was not kept")
        if self._last is not None:
            self._last()
        elif lost:
            logs.tell("checkpoint ended before all was written", level=logging.WARNING, lost=lost)

    def _attempt(self, write: Write) -> None:
        """Try it, and say in the log when that begins to fail, and when it works again."""
        self._patience.check()
        try:
            write()
        except (DeliveryFailed, PassingFault, OSError) as fault:
            if not self._failing:
                warn("checkpoint is not saved", fault)
            self._failing = True
            raise PassingFault(str(fault)) from None
        if self._failing:
            logs.tell("checkpoint is saved again")
        self._failing = False


class _UntilClosed(Patience):
    """As long as the writer is open, and a while longer."""

    def __init__(self, closing: threading.Event) -> None:
        super().__init__(math.inf, what="the checkpoint was not written")
        self._closing = closing

    def end_in(self, seconds: float) -> None:
        """Be over in so many seconds; called before `closing` is set."""
        self._deadline = time.monotonic() + seconds

    def sleep(self, seconds: float) -> None:
        """Pause; ends early when the writer is closed: that is a reason to try again at once."""
        if self._closing.is_set():
            time.sleep(CLOSING_PAUSE_SECONDS)
        else:
            self._closing.wait(seconds)
        self.check()


def warn(event: str, error: Exception) -> None:
    """Tell of a fault that costs the job nothing."""
    logs.tell(event, level=logging.WARNING, sentence=logs.sentence(error))
