"""Every way in which a job can fail.

    JobError
     +- InvalidRequest  invalid_request: a field is missing, unknown or out of range
     +- UnsupportedCombination  unsupported_combination: each field is fine, together they are not
     +- UrlBlocked  url_blocked: the URL may not be fetched
     +- DownloadFailed  download_failed: the URL gave no file
     +- MediaInvalid  media_invalid: the file is not what its field needs
     +- MediaTooLarge  media_too_large: more bytes, pixels or seconds than allowed
     +- ModelsMissing  models_missing: ComfyUI does not find a model file
     +- ComfyUIUnavailable  comfyui_unavailable: ComfyUI does not start, answer or stay alive
     +- WorkflowRejected  workflow_rejected: the graph does not fit this ComfyUI's nodes
     +- CheckpointRefused  checkpoint_refused: what this id's render left cannot be continued
     +- OutOfMemory  out_of_memory: the GPU or the host ran out of memory
     +- RenderFailed  render_failed: a node raised
     +- RenderStalled  render_stalled: no progress for too long
     +- DeadlineExceeded  deadline_exceeded: the job's time is used up
     +- Cancelled  cancelled: the caller, or the platform, stopped the job
     +- OutputMissing  output_missing: ComfyUI reported success without a video
     +- ResultTooLarge  result_too_large: the video does not fit into the result
     +- DeliveryFailed  delivery_failed: the store did not take the video
     +- DiskFull  disk_full: a disk of the worker has no room left
     +- InternalError  internal_error: a fault of this worker

Codes are part of the interface: they are added to, never renamed.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
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
    code = "invalid_request"


class UnsupportedCombination(JobError):
    code = "unsupported_combination"


class UrlBlocked(JobError):
    code = "url_blocked"


class DownloadFailed(JobError):
    code = "download_failed"
    retryable = True


class MediaInvalid(JobError):
    code = "media_invalid"


class MediaTooLarge(JobError):
    code = "media_too_large"


class ModelsMissing(JobError):
    code = "models_missing"


class ComfyUIUnavailable(JobError):
    code = "comfyui_unavailable"
    retryable = True


class WorkflowRejected(JobError):
    code = "workflow_rejected"


class CheckpointRefused(JobError):
    code = "checkpoint_refused"


class OutOfMemory(JobError):
    code = "out_of_memory"


class RenderFailed(JobError):
    code = "render_failed"


class RenderStalled(JobError):
    code = "render_stalled"
    retryable = True


class DeadlineExceeded(JobError):
    code = "deadline_exceeded"


class Cancelled(JobError):
    code = "cancelled"


class OutputMissing(JobError):
    code = "output_missing"


class ResultTooLarge(JobError):
    code = "result_too_large"


class DeliveryFailed(JobError):
    code = "delivery_failed"
    retryable = True


class DiskFull(JobError):
    code = "disk_full"
    retryable = True


class InternalError(JobError):
    code = "internal_error"
