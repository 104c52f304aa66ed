"""Every way in which a call can fail. `TalkingheadError` is their base.

`JobFailed` and its classes are what the worker says of a job: one class for each of its codes, of
the same name as in README.md's table. The others are what befalls the call itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class TalkingheadError(Exception):
    """A call failed; `str(error)` says why, in a sentence.

    Attributes:
        job_id: RunPod's id of the job, if there is one.
        request_id: the request's; who sends the same request with it goes on with that render.
    """

    def __init__(
        self, message: str, *, job_id: str | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.request_id = request_id


class Unauthorized(TalkingheadError):
    """The endpoint does not take the key."""


class BadRequest(TalkingheadError):
    """The endpoint refused the call; no job was started."""


class EndpointUnavailable(TalkingheadError):
    """Nobody answers, or nothing of use, for `patience_seconds`.

    With a `job_id` the job may still be running: `wait` follows it again.
    """


class AnswerLost(TalkingheadError):
    """A job was sent, and no answer came: it may have been started, so it is not sent again.

    Once the endpoint has no jobs any more (`health`), the same request with this error's
    `request_id` brings the video that the lost job made, if it made one and there is a bucket.
    """


class JobLeft(TalkingheadError):
    """Who waited gave up, and the job may still be running: `cancel` ends it, `wait` follows it.

    It is the `__cause__` of what ended the wait, such as a KeyboardInterrupt.
    """


class JobNotFound(TalkingheadError):
    """The endpoint does not know the job: never, or no longer, since results expire."""


class FileTooLarge(TalkingheadError):
    """A file does not fit into the request, and there is no storage to upload it to."""


class UploadFailed(TalkingheadError):
    """The storage did not take a file; no job was started."""


class ResultElsewhere(TalkingheadError):
    """The video is where this client cannot get it: on the endpoint's volume, or uploaded."""


class ResultDamaged(TalkingheadError):
    """The video that came is not the one that was made."""


class WebhookForged(TalkingheadError):
    """A call of the webhook does not carry our signature."""


class JobCancelled(TalkingheadError):
    """The job was cancelled, by this client or somebody else."""


class JobTimedOut(TalkingheadError):
    """RunPod ended the job: its executionTimeout or ttl was over."""


class JobFailed(TalkingheadError):
    """The job failed. `code` is None where the worker itself said nothing, as when it died.

    Attributes:
        code: the worker's error_code.
        stage: where in the job it happened.
        retryable: whether the same request may succeed later.
        details: more, by code; `problems` lists fields and messages.
        output: all that the worker said.
    """

    code: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        job_id: str | None = None,
        request_id: str | None = None,
        output: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, job_id=job_id, request_id=request_id)
        self.output: Mapping[str, Any] = output or {}
        self.stage: str | None = self.output.get("stage")
        self.retryable: bool = bool(self.output.get("retryable", self.code is None))
        self.details: Mapping[str, Any] = self.output.get("details") or {}


class InvalidRequest(JobFailed):
    """A field is missing, unknown or out of range."""

    code = "invalid_request"


class UnsupportedCombination(JobFailed):
    """Each field is fine, together they are not."""

    code = "unsupported_combination"


class UrlBlocked(JobFailed):
    """The URL, or one it redirects to, may not be fetched."""

    code = "url_blocked"


class DownloadFailed(JobFailed):
    """The URL gave no file."""

    code = "download_failed"


class MediaInvalid(JobFailed):
    """The file is not what its field needs."""

    code = "media_invalid"


class MediaTooLarge(JobFailed):
    """More bytes, pixels or seconds than allowed."""

    code = "media_too_large"


class ModelsMissing(JobFailed):
    """ComfyUI does not find a model file."""

    code = "models_missing"


class ComfyUIUnavailable(JobFailed):
    """ComfyUI does not start, answer or stay alive."""

    code = "comfyui_unavailable"


class WorkflowRejected(JobFailed):
    """The graph does not fit this ComfyUI's nodes."""

    code = "workflow_rejected"


class CheckpointRefused(JobFailed):
    """What this id's render left is of another render, or unreadable: it cannot be continued."""

    code = "checkpoint_refused"


class OutOfMemory(JobFailed):
    """The GPU or the host ran out of memory."""

    code = "out_of_memory"


class RenderFailed(JobFailed):
    """A node raised."""

    code = "render_failed"


class RenderDefective(JobFailed):
    """The picture is black, of one colour or noise, and stays so whatever is tried."""

    code = "render_defective"


class RenderStalled(JobFailed):
    """The render made no progress for too long."""

    code = "render_stalled"


class DeadlineExceeded(JobFailed):
    """The job's time is used up."""

    code = "deadline_exceeded"


class Cancelled(JobFailed):
    """The worker says that the platform stopped the job."""

    code = "cancelled"


class OutputMissing(JobFailed):
    """ComfyUI reported success without a video."""

    code = "output_missing"


class ResultTooLarge(JobFailed):
    """The video does not fit into the result."""

    code = "result_too_large"


class DeliveryFailed(JobFailed):
    """The store did not take the video."""

    code = "delivery_failed"


class DiskFull(JobFailed):
    """A disk of the worker has no room left."""

    code = "disk_full"


class InternalError(JobFailed):
    """A fault of the worker."""

    code = "internal_error"


# By the worker's error_code; a code that a newer worker has makes a plain JobFailed.
CODES: Mapping[str, type[JobFailed]] = {str(each.code): each for each in JobFailed.__subclasses__()}
