"""A call's story, without waiting and sending: it yields what is to be done, and gets what came.

So one story serves both clients: `Client` does each step in place, `AsyncClient` in a thread.
"""

from __future__ import annotations

import base64
import hashlib
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from .errors import (
    AnswerLost,
    BadRequest,
    EndpointUnavailable,
    JobLeft,
    JobNotFound,
    ResultDamaged,
    ResultElsewhere,
    TalkingheadError,
    Unauthorized,
    UploadFailed,
)
from .files import Attached, Files, Storage, Upload
from .jobs import JobState, Result, Submitted
from .steps import Do, Flow, Pace, Tell
from .wire import Answer, Unanswered, Unheard, Wire, get_file, is_job_id, put_file

OnProgress = Callable[[JobState], object]

# Ask again later. Only the first says that a job was not taken: gateways say 503 also when they
# lost the one behind them after the job was sent (Envoy: "disconnect/reset before headers").
TOO_MANY, UNAVAILABLE = 429, 503
BUSY = (TOO_MANY, UNAVAILABLE)
REFUSED_KEY = (401, 403)
REDIRECTED, NOT_FOUND, SERVER_ERROR = 300, 404, 500
# In a row: right after /run the platform may not know its own job yet.
UNKNOWN_POLLS, REFUSED_POLLS = 5, 3
CANCELS, TRANSFERS = 3, 3


class CallersOwn(Exception):
    """What a caller's `on_progress` raised, though it looks like an error of the job's."""

    def __init__(self, error: TalkingheadError) -> None:
        super().__init__(str(error))
        self.error = error


class Story:
    """What can be asked of an endpoint, each as steps.

    Args:
        clock: seconds since whenever.
    """

    def __init__(self, wire: Wire, pace: Pace, clock: Callable[[], float] = time.monotonic) -> None:
        self._wire, self._pace, self._clock = wire, pace, clock

    def submit(self, body: Mapping[str, Any]) -> Flow[Submitted]:
        """Send a job, and again only while it surely was not taken.

        Raises:
            AnswerLost, EndpointUnavailable, Unauthorized, BadRequest
        """
        request_id = body["input"].get("request_id")
        deadline, troubles = self._clock() + self._pace.patience_seconds, 0
        while True:
            try:
                answer: Answer = yield Do(lambda: self._wire.ask("POST", "run", body), whole=True)
            except Unheard as error:
                problem = str(error)
            except Unanswered as error:
                raise self._lost(str(error), request_id) from None
            else:
                if answer.is_ok:
                    return self._taken(answer, request_id)
                if answer.status != TOO_MANY:
                    raise self._refusal(answer, request_id)
                problem = answer.reason
            if self._clock() > deadline:
                raise EndpointUnavailable(f"the endpoint took no job: {problem}")
            troubles += 1
            yield self._pace.pause(troubles)

    def _taken(self, answer: Answer, request_id: str | None) -> Submitted:
        job = answer.content.get("id")
        if not isinstance(job, str) or not is_job_id(job):
            raise self._lost("the answer gives the job no id", request_id)
        return Submitted(job, request_id)

    def _lost(self, problem: str, request_id: str | None) -> AnswerLost:
        return AnswerLost(
            f"the job may have been started, but no answer came ({problem}): it was not sent again",
            request_id=request_id,
        )

    def _refusal(self, answer: Answer, request_id: str | None) -> TalkingheadError:
        if answer.status in REFUSED_KEY:
            return Unauthorized(self._wire.key_refused(answer.reason))
        if answer.status >= SERVER_ERROR:  # a gateway's: what is behind it may have the job
            return self._lost(answer.reason, request_id)
        if answer.status == NOT_FOUND:
            return BadRequest(f"there is no such endpoint ({answer.reason})")
        return BadRequest(answer.reason)

    def state(self, job_id: str) -> Flow[JobState]:
        """How a job is; asked until an answer is of use.

        Raises:
            JobNotFound, EndpointUnavailable, Unauthorized, BadRequest
        """
        _check_id(job_id)
        deadline, troubles = self._clock() + self._pace.patience_seconds, 0
        refusals: list[int] = []  # the same one, in a row
        while True:
            problem, status = "", 0
            try:
                answer: Answer = yield self._do("GET", f"status/{job_id}")
                if answer.is_ok:
                    return JobState.read({"id": job_id, **answer.content})
                problem, status = answer.reason, answer.status
            except (Unheard, Unanswered, ValueError) as error:
                problem = str(error)
            refusals = [*refusals, status] if refusals[-1:] == [status] else [status]
            if (end := _end_of_polls(self._wire, job_id, refusals, problem)) is not None:
                raise end
            if self._clock() > deadline:
                raise EndpointUnavailable(
                    f"nobody says how the job {job_id} is: {problem}", job_id=job_id
                )
            troubles += 1
            yield self._pace.pause(troubles)

    def wait(
        self, job_id: str, request_id: str | None, on_progress: OnProgress | None
    ) -> Flow[Result]:
        """The result of a job, once it has ended; each state that is seen is told.

        Raises:
            JobFailed, JobCancelled, JobTimedOut, and what `state` and `on_progress` raise.
        """
        try:
            return (yield from self._follow(job_id, request_id, on_progress))
        except CallersOwn as own:
            raise own.error from None

    def _follow(
        self, job_id: str, request_id: str | None, on_progress: OnProgress | None
    ) -> Flow[Result]:
        while True:
            state = yield from self.state(job_id)
            if on_progress is not None:
                try:
                    yield Tell(on_progress, state)
                except TalkingheadError as error:
                    raise CallersOwn(error) from None
            if state.is_final:
                return state.result(request_id)
            yield self._pace.pause(0)

    def cancel(self, job_id: str) -> Flow[JobState | None]:
        """Have a job end: one that nobody waits for is paid for all the same.

        The state that the endpoint tells, or None if it did not hear: no failure of its own.

        Raises:
            JobNotFound: it is no job's id.
        """
        _check_id(job_id)
        for number in range(CANCELS):
            if number:
                yield self._pace.pause(number)
            try:
                answer: Answer = yield self._do("POST", f"cancel/{job_id}")
                if answer.is_ok:
                    return JobState.read({"id": job_id, **answer.content})
                if answer.status < SERVER_ERROR and answer.status not in BUSY:
                    return None
            except (Unheard, Unanswered, ValueError):
                continue
        return None

    def health(self) -> Flow[Mapping[str, Any]]:
        """How many jobs and workers the endpoint has.

        Raises:
            EndpointUnavailable, Unauthorized
        """
        try:
            answer: Answer = yield self._do("GET", "health")
        except (Unheard, Unanswered) as error:
            raise EndpointUnavailable(f"the endpoint does not answer: {error}") from None
        if answer.status in REFUSED_KEY:
            raise Unauthorized(self._wire.key_refused(answer.reason))
        if not answer.is_ok:
            raise EndpointUnavailable(f"the endpoint does not answer: {answer.reason}")
        return answer.content

    def render(
        self, body: Mapping[str, Any], on_progress: OnProgress | None, retries: int
    ) -> Flow[Result]:
        """Send a job and wait for its result; one that stopped to be continued is continued.

        Whoever ends the wait, by Ctrl-C or by cancelling the task, ends the job.
        """
        done = -1
        while True:
            job = yield from self.submit(body)
            try:
                result = yield from self._follow(job.id, job.request_id, on_progress)
            except CallersOwn as own:
                yield from self._give_up(job, own.error)
            except TalkingheadError as error:
                error.request_id = job.request_id
                if not getattr(error, "retryable", False) or not retries:
                    raise
                retries -= 1  # that job has ended: another one with this id is no second one
                continue
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - it is raised again
                yield from self._give_up(job, error)
            made = int(result.output.get("windows_done") or 0)
            if result.status != "incomplete" or made <= done:
                return result
            done = made

    def _give_up(self, job: Submitted, why: BaseException) -> Flow[NoReturn]:
        """Have the job end, and raise why nobody waits for it; if nobody hears, with its id."""
        try:
            heard = yield from self.cancel(job.id)
        except GeneratorExit:
            raise
        except BaseException as once_more:
            raise once_more from left_behind(job)
        raise why from (why.__cause__ if heard else left_behind(job))

    def upload(self, upload: Upload) -> Flow[None]:
        """Put a file where it shall go.

        Raises:
            UploadFailed
        """
        where, content = upload.where, upload.content
        problem = ""
        for number in range(TRANSFERS):
            if number:
                yield self._pace.pause(number)
            try:
                yield Do(lambda: put_file(where.put_url, content.data, where.headers))
                return
            except OSError as error:
                problem = str(error)
        raise UploadFailed(f"the storage did not take {content.name}: {problem}")

    def save(self, result: Result, target: Path) -> Flow[Path]:
        """Bring the video to a file, unless its sum is not the one that the result has.

        Raises:
            ResultElsewhere, ResultDamaged, EndpointUnavailable
        """
        url = result.video_url
        if url is None:
            raise _elsewhere(result)
        new = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}")
        info = result.output.get("video_info")
        wanted = info.get("sha256") if info else None
        try:
            if url.startswith("data:"):
                yield Do(lambda: _decode(url, new))
            else:
                yield from self._download(url, new, result)
            found = yield Do(lambda: _sum_of(new))
            if wanted and found != wanted:
                raise ResultDamaged("the video that came is not the one that was made")
            new.replace(target)
        finally:
            new.unlink(missing_ok=True)
        return target

    def _download(self, url: str, target: Path, result: Result) -> Flow[None]:
        problem = ""
        for number in range(TRANSFERS):
            if number:
                yield self._pace.pause(number)
            try:
                yield Do(lambda: get_file(url, target))
                return
            except OSError as error:
                problem = str(error)
        raise EndpointUnavailable(f"the video did not come: {problem}", job_id=result.job_id)

    def _do(self, method: str, path: str, body: object = None) -> Do:
        return Do(lambda: self._wire.ask(method, path, body))


def left_behind(found: object) -> JobLeft | None:
    """What to tell who gave up, if what was found meanwhile is a job that was sent."""
    if isinstance(found, Answer) and found.is_ok and is_job_id(str(found.content.get("id"))):
        found = Submitted(str(found.content["id"]))
    if not isinstance(found, Submitted):
        return None
    text = f"the job {found.id} was sent and may still be running: cancel() ends it, by this id"
    return JobLeft(text, job_id=found.id, request_id=found.request_id)


def _end_of_polls(
    wire: Wire, job_id: str, refusals: list[int], problem: str
) -> TalkingheadError | None:
    """What a job's polls say for good, if they say the same again and again."""
    status = refusals[-1]
    if status == NOT_FOUND and len(refusals) >= UNKNOWN_POLLS:
        return JobNotFound(
            f"the endpoint does not know the job {job_id}: it never did, or its result has expired",
            job_id=job_id,
        )
    if status in REFUSED_KEY and len(refusals) >= REFUSED_POLLS:
        return Unauthorized(wire.key_refused(problem), job_id=job_id)
    is_refused = REDIRECTED <= status < SERVER_ERROR and status not in (*BUSY, NOT_FOUND)
    if is_refused and len(refusals) >= REFUSED_POLLS:
        return BadRequest(f"nobody says how the job {job_id} is: {problem}", job_id=job_id)
    return None


def _check_id(job_id: str) -> None:
    if not is_job_id(job_id):
        raise JobNotFound(f"{job_id[:40]!r} is no job's id, such as submit() gives", job_id=job_id)


def prepared(
    request: Mapping[str, Any],
    files: Files,
    storage: Storage | None,
    *,
    webhook: str | None,
    policy: Mapping[str, Any] | None,
) -> tuple[dict[str, Any], list[Upload]]:
    """The body of /run, and what has to be uploaded first.

    A request without an id gets one, by which it can be continued: a workflow job has none.
    """
    attached = Attached(request, files, storage)
    fields = attached.request
    if "workflow" not in fields and not fields.get("request_id"):
        fields["request_id"] = uuid.uuid4().hex
    body: dict[str, Any] = {"input": fields}
    if webhook is not None:
        body["webhook"] = webhook
    if policy is not None:
        body["policy"] = dict(policy)
    return body, attached.uploads


def _elsewhere(result: Result) -> ResultElsewhere:
    output = result.output
    where = output.get("video_path") or output.get("uploaded_to")
    if where:
        text = f"the video is at {where}"
    else:
        text = f"the result has no video: its status is {result.status}"
    return ResultElsewhere(text, job_id=result.job_id)


def _decode(uri: str, target: Path) -> None:
    try:
        target.write_bytes(base64.b64decode(uri.partition(",")[2]))
    except ValueError:
        raise ResultDamaged("the video that came is no base64, or was cut off") from None


def _sum_of(path: Path) -> str:
    sum_ = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            sum_.update(piece)
    return sum_.hexdigest()
