"""Runs as jobs of a RunPod endpoint."""

from __future__ import annotations

import base64
import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import runpod

from talkinghead.delivery.place import VIDEO_NAME
from talkinghead.errors import JobError
from talkinghead.files import sha256_of
from talkinghead.net.fetch import Fetcher, Input
from talkinghead.net.guard import UrlGuard
from talkinghead.redact import redact_url
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
METHOD_NOT_ALLOWED = 405
BUSY = (429, 500, 502, 503, 504)


class EndpointPlace:
    """An endpoint, by the SDK's client.

    Args:
        url: of the endpoint, or of a worker that runs with --rp_serve_api.
        api_key: RunPod's.
        width: jobs in flight.
        job_seconds: how long a job may take, its time in the queue included.
        lost_seconds: how long a job's state may be unknown.
        download_seconds: how long one file of a result may take.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        width: int,
        job_seconds: float,
        lost_seconds: float,
        download_seconds: float,
    ) -> None:
        self.name = redact_url(url)
        self.width = width
        # The client makes URLs as <base>/<id>/run: a worker's own API has no id, so its host is it.
        base, self._id = url.rstrip("/").rsplit("/", 1)
        self._client = runpod.Endpoint(self._id, api_key).rp_client
        self._client.endpoint_url_base = base
        self._job_seconds, self._lost_seconds = job_seconds, lost_seconds
        self._fetcher = Fetcher(seconds=download_seconds, guard=UrlGuard(blocked=()))

    def connect(self) -> None:
        """Whether anything answers; a worker's own API has no health."""
        with contextlib.suppress(requests.HTTPError, Failed):
            self._ask("GET", "health")

    def run(self, run: Run, folder: Path, seen: Seen, stop: threading.Event) -> RunResult:
        """Submit the run as a job, follow it, and bring its outputs into `folder`.

        It is Away until a job is submitted. Not later: a job that was taken may be rendered all the
        same, and must not be done twice; one whose state is unknown for too long has failed.
        """
        content = {"workflow": run.content} if run.kind == "workflow" else run.content
        result = _result(self._follow(self._submit({"input": content}, stop), seen, stop))
        facts = read_result(result)
        self._collect(result, folder)
        return facts

    def _submit(self, body: Mapping[str, Any], stop: threading.Event) -> str:
        """The job's id; an endpoint that is too busy to take it is asked again."""
        deadline = time.monotonic() + self._lost_seconds
        while True:
            try:
                job = self._ask("POST", "run", body).get("id")
            except requests.HTTPError as error:
                busy = error.response is not None and error.response.status_code in BUSY
                if not busy or time.monotonic() > deadline:
                    message = f"the endpoint refused the job: {_status(error)}"
                    raise Failed(message, again=True) from None
                if stop.wait(POLL_SECONDS):
                    raise Stopped from None
            else:
                if not isinstance(job, str):
                    raise Failed("the endpoint gave the job no id", again=True)
                return job

    def _follow(self, job: str, seen: Seen, stop: threading.Event) -> Mapping[str, Any]:
        """The job's last state."""
        start = answered = time.monotonic()
        while True:
            try:
                state = self._state(job)
                answered = time.monotonic()
            except (Away, requests.HTTPError) as error:
                if time.monotonic() - answered > self._lost_seconds:
                    raise Failed(f"job {job} is lost: {_status(error)}", again=False) from None
                state = {}
            if state.get("status") in FINAL:
                return state
            _tell(state, seen)
            late = time.monotonic() - start > self._job_seconds
            if late or stop.wait(POLL_SECONDS):
                self._cancel(job)
                if late:
                    raise Failed("took longer than JOB_TIMEOUT_SECONDS", again=False)
                raise Stopped

    def _state(self, job: str) -> Mapping[str, Any]:
        try:
            return self._ask("GET", f"status/{job}")
        except requests.HTTPError as error:
            if error.response is None or error.response.status_code != METHOD_NOT_ALLOWED:
                raise
        # A worker's own API: it renders only now, and answers when it is done.
        return self._ask("POST", f"status/{job}", seconds=self._job_seconds)

    def _cancel(self, job: str) -> None:
        with contextlib.suppress(Away, Failed, requests.HTTPError):
            self._ask("POST", f"cancel/{job}")

    def _ask(
        self, method: str, path: str, data: object = None, *, seconds: float = 30
    ) -> Mapping[str, Any]:
        """The answer; `requests.HTTPError` for one that is a refusal.

        Raises:
            Away: no answer.
            Failed: the API key is not taken, or the answer is not JSON.
        """
        try:
            if method == "GET":
                answer: Mapping[str, Any] = self._client.get(f"{self._id}/{path}", timeout=seconds)
            else:
                answer = self._client.post(f"{self._id}/{path}", data, timeout=seconds)
        except requests.HTTPError:
            raise
        except (requests.ConnectionError, requests.Timeout) as error:
            raise Away(f"{self.name} does not answer ({type(error).__name__})") from None
        except RuntimeError:  # the client's word for HTTP 401
            raise Failed("RUNPOD_API_KEY is not taken by the endpoint", again=False) from None
        except ValueError:
            raise Failed(f"{self.name} did not answer with JSON", again=False) from None
        return answer

    def _collect(self, result: Mapping[str, Any], folder: Path) -> None:
        """Bring everything that the result names into `folder`.

        Raises:
            Failed: something cannot be brought from where it is, or is not what was made.
        """
        found = list(_outputs(result))
        for each in found:
            self._bring(each, folder / each.name)
            if each.sha256 is not None and sha256_of(folder / each.name) != each.sha256:
                raise Failed(f"{each.name} came damaged", again=True)
        if not found:
            raise Failed("the result is not here, but in the place that it names", again=False)

    def _bring(self, each: Output, target: Path) -> None:
        if each.text is not None:
            target.write_text(each.text, encoding="utf-8")
        elif each.place.startswith("data:"):
            target.write_bytes(_decoded(each))
        elif "://" not in each.place:
            raise Failed(f"the result lies on the endpoint's volume: {each.place}", again=False)
        else:
            try:
                self._fetcher.fetch([Input(each.name, each.place, target, MAX_RESULT_MB)])
            except JobError as error:
                raise Failed(str(error), again=False) from None


@dataclass(frozen=True)
class Output:
    """One thing of a result: at a URL, a data URI or a path of the worker; or a text itself."""

    name: str
    place: str = ""
    sha256: str | None = None
    text: str | None = None


def _decoded(each: Output) -> bytes:
    try:
        return base64.b64decode(each.place.partition(",")[2], validate=True)
    except ValueError:
        raise Failed(f"{each.name} came damaged", again=True) from None


def _outputs(result: Mapping[str, Any]) -> Iterator[Output]:
    """What a job made: a video, or all outputs of a workflow job."""
    video = result.get("video_url") or result.get("video") or result.get("video_path")
    if isinstance(video, str):
        yield Output(VIDEO_NAME, video, (result.get("video_info") or {}).get("sha256"))
    for number, each in enumerate(result.get("outputs") or (), 1):
        if "text" in each:
            yield Output(f"{number}.txt", text=str(each["text"]))
        else:
            place = each.get("url") or each.get("data") or each.get("path") or ""
            name = Path(str(each.get("filename") or "output")).name
            yield Output(f"{number}-{name}", str(place), each.get("sha256"))


def _result(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The result of a job that ended well."""
    output = state.get("output")
    result = output if isinstance(output, dict) else {}
    if state["status"] == "COMPLETED" and "error" not in result:
        return result
    message = state.get("error") or result.get("error") or f"the job is {state['status']}"
    raise error_of(str(message), result.get("error_code"))


def _tell(state: Mapping[str, Any], seen: Seen) -> None:
    progress = state.get("output")
    if isinstance(progress, dict) and isinstance(progress.get("percent"), int | float):
        seen(progress["percent"] / 100, str(progress.get("message") or ""))
    else:
        seen(0.0, str(state.get("status") or "").lower().replace("_", " "))


def _status(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code}"
    return str(error)
