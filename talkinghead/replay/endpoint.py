"""Runs as jobs of a RunPod endpoint."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from talkinghead.client.flow import SERVER_ERROR, TOO_MANY
from talkinghead.delivery.place import VIDEO_NAME
from talkinghead.errors import JobError
from talkinghead.files import sha256_of
from talkinghead.net.fetch import Fetcher, Input
from talkinghead.net.guard import UrlGuard
from talkinghead.replay.endpoint_api import NOT_FOUND, UNAUTHORIZED, EndpointApi, NoUse, Unheard
from talkinghead.replay.places import (
    Away,
    Failed,
    RunResult,
    Seen,
    Stopped,
    error_of,
    read_result,
)
from talkinghead.replay.runs import Run

FINAL = ("COMPLETED", "FAILED", "TIMED_OUT", "CANCELLED")
POLL_SECONDS = 2.0
MAX_RESULT_MB = 10_000.0


class EndpointPlace:
    """Runs as jobs of an endpoint.

    Args:
        width: jobs in flight.
        job_of: makes a job's input of a run.
        low_priority: the jobs start no worker, and take what is free.
        job_seconds: how long a job may take, its time in the queue included.
        lost_seconds: how long a job's state may be unknown.
        download_seconds: how long one file of a result may take.
    """

    def __init__(
        self,
        api: EndpointApi,
        *,
        width: int,
        job_of: Callable[[Run], dict[str, Any]],
        job_seconds: float,
        lost_seconds: float,
        download_seconds: float,
        low_priority: bool = False,
    ) -> None:
        self.name = api.name
        self.width = width
        self._api, self._job_of, self._low_priority = api, job_of, low_priority
        self._job_seconds, self._lost_seconds = job_seconds, lost_seconds
        self._fetcher = Fetcher(seconds=download_seconds, guard=UrlGuard(blocked=()))
        # By the runs' keys the jobs that were not seen to end, or whose outputs did not come. Each
        # run is in one thread at a time.
        self._jobs: dict[str, str] = {}

    def connect(self) -> None:
        """Whether anything answers.

        Raises:
            Away
        """
        self._api.reach()

    def run(self, run: Run, folder: Path, seen: Seen, stop: threading.Event) -> RunResult:
        """Submit the run as a job, follow it, and bring its outputs into `folder`.

        It is Away until a job is submitted. Not later: a job that was taken may be rendered all the
        same, and must not be done twice. So what an earlier try of the run left behind is asked for
        before another job is submitted.
        """
        state = self._earlier(run, seen, stop) or self._new(run, seen, stop)
        job = self._jobs.pop(run.key)
        result_of(state)
        self._jobs[run.key] = job  # there is more to be had of it, should its outputs not come
        facts = bring(state, folder, self._fetcher)
        del self._jobs[run.key]
        return facts

    def _earlier(self, run: Run, seen: Seen, stop: threading.Event) -> Mapping[str, Any] | None:
        """The last state of an earlier try's job that made something, now or long ago."""
        job = self._jobs.get(run.key)
        if job is None or self._is_forgotten(job):
            return None
        state = self._watch(job, seen, stop)
        return state if state["status"] == "COMPLETED" else None

    def _is_forgotten(self, job: str) -> bool:
        try:
            self._api.state(job, seconds=self._job_seconds)
        except NoUse as error:
            return error.status == NOT_FOUND
        except Away:
            pass
        return False

    def _new(self, run: Run, seen: Seen, stop: threading.Event) -> Mapping[str, Any]:
        """The last state of a new job."""
        job = self._jobs[run.key] = self._submit(self._job_of(run), stop)
        return self._watch(job, seen, stop)

    def _watch(self, job: str, seen: Seen, stop: threading.Event) -> Mapping[str, Any]:
        """The job's last state; whatever else ends the watch, ends the job."""
        try:
            return self._follow(job, seen, stop)
        except BaseException:
            self._api.cancel(job)
            raise

    def _submit(self, content: Mapping[str, Any], stop: threading.Event) -> str:
        """The job's id; an endpoint that is too busy to take it is asked again.

        Raises:
            Unheard, Failed, Stopped
        """
        deadline = time.monotonic() + self._lost_seconds
        while True:
            try:
                return self._api.submit(content, low_priority=self._low_priority)
            except Unheard:
                raise
            except Away as error:
                raise Failed(f"{error}, and may have taken the job", again=True) from None
            except NoUse as error:
                if error.status is not None and error.status >= SERVER_ERROR:  # a gateway's
                    raise Failed(f"{error}, and may have taken the job", again=True) from None
                if error.status != TOO_MANY or time.monotonic() > deadline:
                    again = error.status != UNAUTHORIZED
                    raise Failed(f"the endpoint refused the job: {error}", again=again) from None
                if stop.wait(POLL_SECONDS):
                    raise Stopped from None

    def _follow(self, job: str, seen: Seen, stop: threading.Event) -> Mapping[str, Any]:
        """The job's last state. A poll that says nothing of use is no end of it.

        Raises:
            Failed: it takes too long, or nobody says how it is.
            Stopped
        """
        start = answered = time.monotonic()
        while True:
            try:
                state = self._api.state(job, seconds=self._job_seconds)
            except (Away, NoUse) as error:
                if time.monotonic() - answered > self._lost_seconds:
                    raise Failed(f"job {job} is lost: {error}", again=True) from None
            else:
                answered = time.monotonic()
                if state["status"] in FINAL:
                    return state
                _tell(state, seen)
            if time.monotonic() - start > self._job_seconds:
                raise Failed("took longer than JOB_TIMEOUT_SECONDS", again=False)
            if stop.wait(POLL_SECONDS):
                raise Stopped


@dataclass(frozen=True)
class Output:
    """One thing of a result: at a URL, a data URI or a path of the worker; or a text itself."""

    name: str
    place: str = ""
    sha256: str | None = None
    text: str | None = None


def bring(state: Mapping[str, Any], folder: Path, fetcher: Fetcher) -> RunResult:
    """Bring what a job made into `folder`; its last state tells.

    Raises:
        Refused, Failed
    """
    result = result_of(state)
    facts = replace(read_result(result), paid_seconds=paid_seconds(state))
    collect(result, folder, fetcher)
    return facts


def collect(result: Mapping[str, Any], folder: Path, fetcher: Fetcher) -> None:
    """Bring everything that the result names into `folder`.

    Raises:
        Failed: something cannot be brought from where it is, or is not what was made.
    """
    found = list(_outputs(result))
    for each in found:
        _bring(each, folder / each.name, fetcher)
        if each.sha256 is not None and sha256_of(folder / each.name) != each.sha256:
            raise Failed(f"{each.name} came damaged", again=True)
    if not found:
        raise Failed("the result is not here, but in the place that it names", again=False)


def _bring(each: Output, target: Path, fetcher: Fetcher) -> None:
    if each.text is not None:
        target.write_text(each.text, encoding="utf-8")
    elif each.place.startswith("data:"):
        target.write_bytes(_decoded(each))
    elif "://" not in each.place:
        raise Failed(f"the result lies on the endpoint's volume: {each.place}", again=False)
    else:
        try:
            fetcher.fetch([Input(each.name, each.place, target, MAX_RESULT_MB)])
        except JobError as error:
            raise Failed(str(error), again=True) from None


def _decoded(each: Output) -> bytes:
    try:
        return base64.b64decode(each.place.partition(",")[2], validate=True)
    except ValueError:
        raise Failed(f"{each.name} came damaged", again=True) from None


def _outputs(result: Mapping[str, Any]) -> Iterator[Output]:
    """What a job made: a video, or all outputs of a workflow job."""
    video = result.get("video_url") or result.get("video") or result.get("video_path")
    if isinstance(video, str):
        info = result.get("video_info")
        yield Output(VIDEO_NAME, video, info.get("sha256") if isinstance(info, dict) else None)
    outputs = result.get("outputs")
    for number, each in enumerate(outputs if isinstance(outputs, list) else (), 1):
        if not isinstance(each, dict):
            continue
        if "text" in each:
            yield Output(f"{number}.txt", text=str(each["text"]))
        else:
            place = each.get("url") or each.get("data") or each.get("path") or ""
            name = Path(str(each.get("filename") or "output")).name
            yield Output(f"{number}-{name}", str(place), each.get("sha256"))


def result_of(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The result of a job that ended well."""
    output = state.get("output")
    result = output if isinstance(output, dict) else {}
    if state["status"] == "COMPLETED" and "error" not in result:
        return result
    message = state.get("error") or result.get("error") or f"the job is {state['status']}"
    raise error_of(str(message), result.get("error_code"))


def paid_seconds(state: Mapping[str, Any]) -> float | None:
    """How long a worker had the job, without the queue; RunPod tells milliseconds."""
    milliseconds = state.get("executionTime")
    return milliseconds / 1000 if isinstance(milliseconds, int | float) else None


def _tell(state: Mapping[str, Any], seen: Seen) -> None:
    progress = state.get("output")
    if isinstance(progress, dict) and isinstance(progress.get("percent"), int | float):
        seen(progress["percent"] / 100, str(progress.get("message") or ""))
    else:
        seen(0.0, str(state.get("status") or "").lower().replace("_", " "))
