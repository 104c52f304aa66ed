"""Every way in which a job can fail. `JobError` is their base, and each has a code of its own.

Codes are part of the interface: they are added to, never renamed. What a class's docstring says is
what docs/result.md says of its code. A class of a class has its base's code, and is for us to
act on.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)  # an OSError's number when a disk, or a quota, is full


class JobError(Exception):
    """The job ends here, and the caller is told `str(error)` and `code`.

    `retryable` says whether the same request may succeed later.
    """

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details: Mapping[str, Any] = details


class InvalidRequest(JobError):
    """A field is missing, unknown or out of range."""

    code = "invalid_request"


class UnsupportedCombination(JobError):
    """Each field is fine, together they are not."""

    code = "unsupported_combination"


class SettingsExcluded(UnsupportedCombination):
    """Settings of the worker that the nodes refuse together."""


class UrlBlocked(JobError):
    """The URL, or one it redirects to, may not be fetched."""

    code = "url_blocked"


class DownloadFailed(JobError):
    """The URL gave no file."""

    code = "download_failed"
    retryable = True


class MediaInvalid(JobError):
    """The file is not what its field needs."""

    code = "media_invalid"


class MediaTooLarge(JobError):
    """More bytes, pixels or seconds than allowed."""

    code = "media_too_large"


class ModelsMissing(JobError):
    """ComfyUI does not find a model file."""

    code = "models_missing"


class ComfyUIUnavailable(JobError):
    """ComfyUI does not start, answer or stay alive."""

    code = "comfyui_unavailable"
    retryable = True


class ComfyUIDied(ComfyUIUnavailable):
    """The ComfyUI that had the prompt is gone, or no longer knows it."""


class WorkflowRejected(JobError):
    """The graph does not fit this ComfyUI's nodes."""

    code = "workflow_rejected"


class CheckpointRefused(JobError):
    """What this id's render left is of another render, or unreadable: it cannot be continued."""

    code = "checkpoint_refused"


class OutOfMemory(JobError):
    """The GPU or the host ran out of memory."""

    code = "out_of_memory"


class ComfyUIKilled(OutOfMemory):
    """ComfyUI was ended by SIGKILL: so the kernel does when the host has no memory left."""


class RenderFailed(JobError):
    """A node raised."""

    code = "render_failed"


class GpuFailed(RenderFailed):
    """A node raised what CUDA or one of its libraries says: the process may not compute again."""

    retryable = True


class RenderDefective(JobError):
    """The picture is black, of one colour or noise, and stays so whatever is tried."""

    code = "render_defective"


class RenderStalled(JobError):
    """No progress for `STALL_SECONDS`."""

    code = "render_stalled"
    retryable = True


class DeadlineExceeded(JobError):
    """The job's time is used up."""

    code = "deadline_exceeded"


class Cancelled(JobError):
    """The caller, or the platform, stopped the job."""

    code = "cancelled"


class OutputMissing(JobError):
    """ComfyUI reported success without a video."""

    code = "output_missing"


class ResultTooLarge(JobError):
    """The video does not fit into the result."""

    code = "result_too_large"


class DeliveryFailed(JobError):
    """The store did not take the video."""

    code = "delivery_failed"
    retryable = True


class DiskFull(JobError):
    """A disk of the worker has no room left."""

    code = "disk_full"
    retryable = True


class InternalError(JobError):
    """A fault of this worker."""

    code = "internal_error"


FILE_FAULTS = (UrlBlocked, DownloadFailed, MediaInvalid, MediaTooLarge)  # of one of a job's files


def together(faults: Sequence[tuple[str, JobError]]) -> JobError:
    """What is wrong with several files as one error: one answer tells of all.

    Its code is that of the first fault which stays however often the job is tried, if there is
    one. `details["problems"]` has all of them: field, message, error_code, and url if it has one.

    Args:
        faults: at least one; the request's field, and the error, whose text names the field. One
            may be of several files, made here.
    """
    field, first = next((each for each in faults if not each[1].retryable), faults[0])
    problems = [problem for name, error in faults for problem in _problems(name, error)]
    text = "; ".join(dict.fromkeys(str(error) for _, error in faults))
    return type(first)(text, **{"field": field, **first.details, "problems": problems})


def _problems(field: str, error: JobError) -> list[dict[str, Any]]:
    """The entries of `details["problems"]` for an error."""
    if "problems" in error.details:
        return list(error.details["problems"])
    url = {"url": error.details["url"]} if "url" in error.details else {}
    return [{"field": field, "message": str(error), "error_code": error.code} | url]


class Faults:
    """What is wrong with a job's files, gathered so that one answer tells of all.

    Look into each file within `of`, and `tell` at the end. `first` is what was found before.
    """

    def __init__(self, first: JobError | None = None) -> None:
        self._found = [(str(first.details["field"]), first)] if first else []

    @contextlib.contextmanager
    def of(self, field: str) -> Iterator[None]:
        """Keep an error of the field's file, which names the field; any other error passes."""
        try:
            yield
        except FILE_FAULTS as error:
            self._found.append((field, error))

    def tell(self) -> None:
        """Raise what was found, if anything was, as `together` makes it."""
        if self._found:
            raise self.together()

    def together(self) -> JobError:
        """What was found, of which there is something, as one error."""
        return together(self._found)
