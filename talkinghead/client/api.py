"""The two clients: the same calls, in place or to be awaited."""

from __future__ import annotations

import _thread
import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NoReturn, TypeVar, cast

from .errors import TalkingheadError
from .files import Files, Storage
from .flow import OnProgress, Story, left_behind, prepared
from .jobs import JobState, Result, Submitted
from .steps import Do, Flow, Pace, Pause, Step, Tell
from .types import Estimate, Request
from .wire import Unheard, Wire, endpoint_url, is_runpods

T = TypeVar("T")


@dataclass(frozen=True)
class _Calls:
    """What both clients are made of.

    Args:
        endpoint_id: of a RunPod endpoint.
        url: instead of it, that of an endpoint, or of `talkinghead serve`.
        api_key: RunPod's, or API_TOKEN of `talkinghead serve`. If None: RUNPOD_API_KEY where the
            endpoint is at https://api.runpod.ai, and nothing for any other host.
        storage: where files go that are too large for the request; `S3Bucket`, or your own.
        poll_seconds: from one look at a job to the next.
        patience_seconds: how long an endpoint may say nothing of use.
    """

    endpoint_id: str | None = None
    url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    storage: Storage | None = None
    poll_seconds: float = 2.0
    patience_seconds: float = 300.0

    def __post_init__(self) -> None:
        if bool(self.endpoint_id) == bool(self.url):
            raise ValueError("give endpoint_id, or url: one of the two")
        _ = self._story  # what it is made of is looked at

    @property
    def _story(self) -> Story:
        url = endpoint_url(self.endpoint_id) if self.endpoint_id else str(self.url)
        own = os.environ.get("RUNPOD_API_KEY", "") if is_runpods(url) else ""
        key = (own if self.api_key is None else self.api_key).strip()  # a file's last line ends
        if not (key.isascii() and key.isprintable()):  # http.client's own error would show it
            raise ValueError("the API key has a character that no key has")
        return Story(Wire(url, key), Pace(self.poll_seconds, self.patience_seconds))

    def _start(
        self,
        request: Request | Mapping[str, Any],
        files: Files | None,
        webhook: str | None,
        policy: Mapping[str, Any] | None,
    ) -> Flow[dict[str, Any]]:
        """The body of /run, its files uploaded."""
        body, uploads = yield Do(
            lambda: prepared(request, files or {}, self.storage, webhook=webhook, policy=policy)
        )
        for each in uploads:
            yield from self._story.upload(each)
        return cast("dict[str, Any]", body)

    def _render(
        self,
        request: Request | Mapping[str, Any],
        files: Files | None,
        on_progress: OnProgress | None,
        policy: Mapping[str, Any] | None,
        retries: int,
    ) -> Flow[Result]:
        body = yield from self._start(request, files, None, policy)
        return (yield from self._story.render(body, on_progress, retries))

    def _submit(
        self,
        request: Request | Mapping[str, Any],
        files: Files | None,
        webhook: str | None,
        policy: Mapping[str, Any] | None,
    ) -> Flow[Submitted]:
        body = yield from self._start(request, files, webhook, policy)
        return (yield from self._story.submit(body))

    def _estimate(
        self, request: Request | Mapping[str, Any], files: Files | None
    ) -> Flow[Estimate]:
        asked = {**request, "dry_run": True}
        result = yield from self._render(asked, files, None, None, 0)
        found = result.output.get("estimate")
        if not found:
            text = f"the endpoint gave no estimate: its answer is {result.status}"
            raise TalkingheadError(text, job_id=result.job_id, request_id=result.request_id)
        return found


class Client(_Calls):
    """Calls that return when they are done."""

    def render(
        self,
        request: Request | Mapping[str, Any],
        files: Files | None = None,
        on_progress: Callable[[JobState], object] | None = None,
        *,
        policy: Mapping[str, Any] | None = None,
        retries: int = 0,
    ) -> Result:
        """Send a request, follow its job, and return its result; Ctrl-C cancels the job.

        Where nobody hears that, what is raised has a `JobLeft` as its `__cause__`.

        Args:
            files: local files by the fields that they are for: `{"image_url": "me.jpg"}`, also
                `audio_urls.0` or `speakers.1.audio_url`. They go into the request, 7 MB in all,
                what is larger into `storage`.
            on_progress: is told every state that is seen.
            policy: RunPod's `executionTimeout` and `ttl`, in milliseconds.
            retries: how often a job that failed, and may succeed later, is followed by another.

        Raises:
            TalkingheadError: one of the tree in `errors`; `JobFailed` by the worker's code.
        """
        return _done(self._render(request, files, on_progress, policy, retries))

    def submit(
        self,
        request: Request | Mapping[str, Any],
        files: Files | None = None,
        *,
        webhook: str | None = None,
        policy: Mapping[str, Any] | None = None,
    ) -> Submitted:
        """Send a request and return at once: its job's id is for `wait`, `state` and `cancel`.

        Raises:
            KeyboardInterrupt: Ctrl-C. If the job was sent by then it runs, and `__cause__` is a
                `JobLeft`, which has its id.
        """
        return _done(self._submit(request, files, webhook, policy))

    def wait(self, job_id: str, on_progress: Callable[[JobState], object] | None = None) -> Result:
        """The result of a job that was sent before, by whomever; Ctrl-C leaves it running."""
        return _done(self._story.wait(job_id, None, on_progress))

    def state(self, job_id: str) -> JobState:
        """How a job is now."""
        return _done(self._story.state(job_id))

    def cancel(self, job_id: str) -> JobState | None:
        """Have a job end; None if nobody heard it."""
        return _done(self._story.cancel(job_id))

    def estimate(
        self, request: Request | Mapping[str, Any], files: Files | None = None
    ) -> Estimate:
        """What a render would take; nothing is rendered.

        Raises:
            TalkingheadError: as `render`; and if there is no estimate in the answer.
        """
        return _done(self._estimate(request, files))

    def health(self) -> Mapping[str, Any]:
        """How many jobs and workers the endpoint has."""
        return _done(self._story.health())

    def save(self, result: Result, target: str | os.PathLike[str]) -> Path:
        """Bring a result's video to a file."""
        return _done(self._story.save(result, Path(target)))


class AsyncClient(_Calls):
    """The same calls, to be awaited; who cancels a `render` cancels its job."""

    async def render(
        self,
        request: Request | Mapping[str, Any],
        files: Files | None = None,
        on_progress: Callable[[JobState], object] | None = None,
        *,
        policy: Mapping[str, Any] | None = None,
        retries: int = 0,
    ) -> Result:
        """As `Client.render`; `on_progress` may be a coroutine function."""
        return await _awaited(self._render(request, files, on_progress, policy, retries))

    async def submit(
        self,
        request: Request | Mapping[str, Any],
        files: Files | None = None,
        *,
        webhook: str | None = None,
        policy: Mapping[str, Any] | None = None,
    ) -> Submitted:
        """As `Client.submit`."""
        return await _awaited(self._submit(request, files, webhook, policy))

    async def wait(
        self, job_id: str, on_progress: Callable[[JobState], object] | None = None
    ) -> Result:
        """As `Client.wait`."""
        return await _awaited(self._story.wait(job_id, None, on_progress))

    async def state(self, job_id: str) -> JobState:
        """As `Client.state`."""
        return await _awaited(self._story.state(job_id))

    async def cancel(self, job_id: str) -> JobState | None:
        """As `Client.cancel`."""
        return await _awaited(self._story.cancel(job_id))

    async def estimate(
        self, request: Request | Mapping[str, Any], files: Files | None = None
    ) -> Estimate:
        """As `Client.estimate`."""
        return await _awaited(self._estimate(request, files))

    async def health(self) -> Mapping[str, Any]:
        """As `Client.health`."""
        return await _awaited(self._story.health())

    async def save(self, result: Result, target: str | os.PathLike[str]) -> Path:
        """As `Client.save`."""
        return await _awaited(self._story.save(result, Path(target)))


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

    def last(self, value: T) -> T:
        """What the call gives, its flow at its end."""
        if self.late is not None:
            raise self.late from left_behind(value)
        return value

    def after(self, error: BaseException, flow: Flow[T]) -> _Came:
        """What the flow gets after an error that is not a step's: a signal, or else its own end."""
        if inspect.getgeneratorstate(flow) == inspect.GEN_CLOSED:
            self._fail(error)
        if self.is_handed:
            return _Came(error=error)
        self.late = error
        return self

    def _fail(self, error: BaseException) -> NoReturn:
        if isinstance(error, TalkingheadError):
            if self.late is not None:
                raise self.late from error
            raise error.with_traceback(None) from error.__cause__  # what is within tells nothing
        if error.__cause__ is None and self.is_whole:  # a signal right after a job was taken
            raise error from left_behind(self.value)
        raise error


def _done(flow: Flow[T]) -> T:
    """Do each step, one after the other."""
    came = _Came()
    while True:
        try:
            step = came.hand(flow)
            came = came.next() if came.late is not None else _do(step)
        except StopIteration as end:
            return came.last(cast("T", end.value))
        except BaseException as error:  # noqa: BLE001 - it is raised again, or handed on
            came = came.after(error, flow)


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


async def _awaited(flow: Flow[T]) -> T:
    """Await each step, one after the other."""
    came = _Came()
    while True:
        try:
            step = came.hand(flow)
            came = came.next() if came.late is not None else await _await_step(step)
        except StopIteration as end:
            return came.last(cast("T", end.value))
        except BaseException as error:  # noqa: BLE001 - it is raised again, or handed on
            came = came.after(error, flow)


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
