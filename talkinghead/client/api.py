"""The two clients: the same calls, in place or to be awaited."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from .doing import awaited, done
from .errors import TalkingheadError
from .files import Files, Storage
from .flow import OnProgress, Story, prepared
from .jobs import JobState, Result, Submitted
from .steps import Do, Flow, Pace
from .types import Estimate, Request
from .wire import Wire, endpoint_url, is_runpods

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
        return done(self._render(request, files, on_progress, policy, retries))

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
        return done(self._submit(request, files, webhook, policy))

    def wait(self, job_id: str, on_progress: Callable[[JobState], object] | None = None) -> Result:
        """The result of a job that was sent before, by whomever; Ctrl-C leaves it running."""
        return done(self._story.wait(job_id, None, on_progress))

    def state(self, job_id: str) -> JobState:
        """How a job is now."""
        return done(self._story.state(job_id))

    def cancel(self, job_id: str) -> JobState | None:
        """Have a job end; None if nobody heard it."""
        return done(self._story.cancel(job_id))

    def estimate(
        self, request: Request | Mapping[str, Any], files: Files | None = None
    ) -> Estimate:
        """What a render would take; nothing is rendered.

        Raises:
            TalkingheadError: as `render`; and if there is no estimate in the answer.
        """
        return done(self._estimate(request, files))

    def health(self) -> Mapping[str, Any]:
        """How many jobs and workers the endpoint has."""
        return done(self._story.health())

    def save(self, result: Result, target: str | os.PathLike[str]) -> Path:
        """Bring a result's video to a file."""
        return done(self._story.save(result, Path(target)))


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
        return await awaited(self._render(request, files, on_progress, policy, retries))

    async def submit(
        self,
        request: Request | Mapping[str, Any],
        files: Files | None = None,
        *,
        webhook: str | None = None,
        policy: Mapping[str, Any] | None = None,
    ) -> Submitted:
        """As `Client.submit`."""
        return await awaited(self._submit(request, files, webhook, policy))

    async def wait(
        self, job_id: str, on_progress: Callable[[JobState], object] | None = None
    ) -> Result:
        """As `Client.wait`."""
        return await awaited(self._story.wait(job_id, None, on_progress))

    async def state(self, job_id: str) -> JobState:
        """As `Client.state`."""
        return await awaited(self._story.state(job_id))

    async def cancel(self, job_id: str) -> JobState | None:
        """As `Client.cancel`."""
        return await awaited(self._story.cancel(job_id))

    async def estimate(
        self, request: Request | Mapping[str, Any], files: Files | None = None
    ) -> Estimate:
        """As `Client.estimate`."""
        return await awaited(self._estimate(request, files))

    async def health(self) -> Mapping[str, Any]:
        """As `Client.health`."""
        return await awaited(self._story.health())

    async def save(self, result: Result, target: str | os.PathLike[str]) -> Path:
        """As `Client.save`."""
        return await awaited(self._story.save(result, Path(target)))
