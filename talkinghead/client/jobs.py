"""What is known of a job, and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from .errors import CODES, JobCancelled, JobFailed, JobTimedOut, TalkingheadError
from .types import Output, Progress

Status = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"]
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")


@dataclass(frozen=True)
class Submitted:
    """A job that was taken: RunPod's id of it, and the request's."""

    id: str
    request_id: str | None = None


@dataclass(frozen=True)
class JobState:
    """A job as RunPod tells of it. Its `output` is progress while it runs, and then the result."""

    id: str
    status: str
    output: Mapping[str, Any] | None = None
    error: str | None = None
    delay_ms: int | None = None
    execution_ms: int | None = None

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> JobState:
        """From the body of /status, or of a webhook.

        Raises:
            ValueError: it is none.
        """
        status, output = body.get("status"), body.get("output")
        if not isinstance(status, str):
            raise ValueError("it does not say how the job is")
        return cls(
            id=str(body.get("id") or ""),
            status=status,
            output=output if isinstance(output, Mapping) else None,
            error=None if body.get("error") is None else str(body["error"]),
            delay_ms=body.get("delayTime"),
            execution_ms=body.get("executionTime"),
        )

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.status in FINAL

    @property
    def progress(self) -> Progress | None:
        """How far the job is, if it runs and has said so."""
        if self.status != "IN_PROGRESS" or not self.output or "percent" not in self.output:
            return None
        return cast("Progress", self.output)

    def result(self, request_id: str | None = None) -> Result:
        """The result of a job that ended well.

        Raises:
            JobFailed, JobCancelled, JobTimedOut: it did not.
        """
        output = dict(self.output or {})
        if self.status != "COMPLETED" or "error" in output:
            raise self._failure(output, request_id)
        return Result(self.id, request_id, cast("Output", output))

    def _failure(self, output: dict[str, Any], request_id: str | None) -> TalkingheadError:
        message = self.error or str(output.get("error") or f"the job is {self.status}")
        if self.status == "CANCELLED":
            return JobCancelled("the job was cancelled", job_id=self.id, request_id=request_id)
        if self.status == "TIMED_OUT":
            return JobTimedOut(message, job_id=self.id, request_id=request_id)
        kind = CODES.get(str(output.get("error_code")), JobFailed)
        return kind(message, job_id=self.id, request_id=request_id, output=output)


@dataclass(frozen=True)
class Result:
    """What a job made: `output` is all that the worker says, as docs/result.schema.json has it."""

    job_id: str
    request_id: str | None
    output: Output

    @property
    def status(self) -> str:
        """`completed`, `incomplete` for a render that is to be continued, or `estimated`."""
        return str(self.output.get("status", "completed"))

    @property
    def video_url(self) -> str | None:
        """Where the video can be had: a URL, or a data: URI of the video itself."""
        return self.output.get("video_url") or self.output.get("video")

    @property
    def cost(self) -> float | None:
        """What the job's time on the GPU cost, where the price of an hour is known."""
        return self.output.get("cost")

    @property
    def warnings(self) -> list[str]:
        """What the worker wants to be known."""
        return list(self.output.get("warnings") or [])
