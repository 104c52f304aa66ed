"""How the steps of a call's story are done: in place, or awaited; and what becomes of who gives up.

Ctrl-C, a signal that raises, a task that is cancelled: each is raised, with a job's id if one was
sent that may still be running.
"""

from __future__ import annotations

import _thread
import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar, cast

from .errors import TalkingheadError
from .flow import left_behind
from .steps import Flow, Pause, Step, Tell
from .wire import Unheard

T = TypeVar("T")


@dataclass
class _Came:
    """What came of a step: a value, or an error; and what interrupted one that is not cut short."""

    value: Any = None
    error: BaseException | None = None
    late: BaseException | None = None
    is_whole: bool = False
    is_handed: bool = False

    def hand(self, flow: Flow[T]) -> Step:
        """The flow's next step."""
        self.is_handed = True
        return flow.send(self.value) if self.error is None else flow.throw(self.error)

    def next(self) -> _Came:
        """What the flow gets instead of its next step: who interrupted this one is heard now."""
        return _Came(error=self.late)

    def after(self, error: BaseException) -> _Came:
        """What the flow gets after a signal that came between two of its steps."""
        if self.is_handed:
            return _Came(error=error)
        self.late = error
        return self

    def failure(self, error: BaseException) -> BaseException:
        """What the call raises, its flow at its end: what is within tells a caller nothing."""
        if isinstance(error, TalkingheadError):
            if self.late is None:
                error.__cause__ = error.__cause__  # and no context
                return error.with_traceback(None)
            self.late.__cause__ = error
            return self.late
        if error.__cause__ is None and self.is_whole:  # a signal right after a job was taken
            error.__cause__ = left_behind(self.value)
        return error


def _has_ended(flow: Flow[T]) -> bool:
    return inspect.getgeneratorstate(flow) == inspect.GEN_CLOSED


def done(flow: Flow[T]) -> T:
    """Do each step, one after the other."""
    came = _Came()
    while True:
        try:
            while True:  # within: a signal may come whenever something is called or begun again
                step = came.hand(flow)
                came = came.next() if came.late is not None else _do(step)
        except StopIteration as end:
            if came.late is not None:
                raise came.late from left_behind(end.value)
            value: T = end.value
            return value
        except BaseException as error:  # noqa: BLE001 - it is raised again, or handed on
            if _has_ended(flow):
                raise came.failure(error)  # noqa: B904 - its cause is in it
            came = came.after(error)


def _do(step: Step) -> _Came:
    try:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return _Came()
        if isinstance(step, Tell):
            return _Came(step.to(step.state))
        return _do_whole(step.what) if step.whole else _Came(step.what())
    except BaseException as error:  # noqa: BLE001 - Ctrl-C, too: it cancels the job
        return _Came(error=error)


def _do_whole(what: Callable[[], Any]) -> _Came:
    """Do it in a thread, so that Ctrl-C, or whatever a signal raises, does not cut it short.

    A signal may come between any two steps here: nothing is held that others wait for (a Future and
    an Event have locks of their own), and to do a step twice does no harm.
    """
    go: SimpleQueue[None] = SimpleQueue()
    done: SimpleQueue[None] = SimpleQueue()
    came: list[_Came] = []

    def work() -> None:
        go.get()
        try:
            came.append(_Came(what()))
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            came.append(_Came(error=error))
        done.put(None)

    _thread.start_new_thread(work, ())  # threading's own start may be interrupted while it is begun
    late: BaseException | None = None
    while True:
        try:
            go.put(None)
            while not came:
                done.get()
            return _with(late, came[0])
        except BaseException as error:  # noqa: BLE001 - see above
            late = error


def _with(late: BaseException | None, came: _Came) -> _Came:
    if late is not None and isinstance(came.error, Unheard):
        return _Came(error=late)  # else it would be sent again, and who gave up not be heard
    return _Came(came.value, came.error, late, is_whole=True)


async def awaited(flow: Flow[T]) -> T:
    """Await each step, one after the other."""
    came = _Came()
    while True:
        try:
            while True:  # within: a signal may come whenever something is called or begun again
                step = came.hand(flow)
                came = came.next() if came.late is not None else await _await_step(step)
        except StopIteration as end:
            if came.late is not None:
                raise came.late from left_behind(end.value)
            value: T = end.value
            return value
        except BaseException as error:  # noqa: BLE001 - it is raised again, or handed on
            if _has_ended(flow):
                raise came.failure(error)  # noqa: B904 - its cause is in it
            came = came.after(error)


async def _await_step(step: Step) -> _Came:
    """As `_do`, of a task that may be cancelled."""
    try:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return _Came()
        if isinstance(step, Tell):
            told = step.to(step.state)
            awaited = inspect.isawaitable(told)
            return _Came(await cast("Awaitable[object]", told) if awaited else told)
        doing = asyncio.ensure_future(asyncio.to_thread(step.what))
        late: BaseException | None = None
        while not doing.done():
            try:
                await asyncio.wait([doing])
            except asyncio.CancelledError as error:
                if not step.whole:
                    raise
                late = error
        failed = doing.exception()
        return _with(late, _Came(error=failed) if failed else _Came(doing.result()))
    except BaseException as error:  # noqa: BLE001 - that the task is cancelled, too
        return _Came(error=error)
