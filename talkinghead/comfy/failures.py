"""ComfyUI's errors as those of a job: by their class, and what a node raised by what it says."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from comfy_client import (
    ComfyError,
    ExecutionFailed,
    FileMissing,
    Interrupted,
    PromptLost,
    PromptRejected,
    TimedOut,
    Unreachable,
    UploadTooLarge,
)
from talkinghead.errors import (
    Cancelled,
    ComfyUIDied,
    ComfyUIUnavailable,
    DeadlineExceeded,
    DiskFull,
    GpuFailed,
    JobError,
    MediaTooLarge,
    OutOfMemory,
    OutputMissing,
    RenderFailed,
    WorkflowRejected,
)

# By the type's name and the message. The first that fits tells: CUDA's errors of memory are errors
# of CUDA, too.
SAID: Mapping[type[JobError], re.Pattern[str]] = {
    # PyTorch's class, CUDA's words and constants, cuBLAS's, cuDNN's and others', and what PyTorch
    # says where NVML does not tell it who has the memory; and on the host Python's, NumPy's,
    # PyTorch's allocator's, C++'s, and the kernel's ENOMEM.
    OutOfMemory: re.compile(
        r"out.?of.?memory|ALLOC(ATION)?_FAILED|cudaErrorMemoryAllocation|MemoryError"
        r"|NVML_SUCCESS == r|DefaultCPUAllocator|enforce fail at alloc_cpu|not enough memory"
        r"|bad_alloc|cannot allocate memory|unable to allocate [\d.]+ \wi?B",
        re.IGNORECASE,
    ),
    # A tensor's device is named "cuda:0" in errors of the graph: the name alone says nothing.
    GpuFailed: re.compile(
        r"\b(CUDA|cuDNN|cuBLAS|cuFFT|cuSPARSE|cuSOLVER|NCCL|NVRTC|HIP)( \w+)? error"
        r"|\b(CUDA_ERROR|(CUDNN|CUBLAS|CUSPARSE|CUSOLVER)_STATUS|CUFFT)_|cudaError|AcceleratorError"
        r"|\bnccl\w+Error|Triton Error \[|CUDA (driver )?initialization|CUDA call failed"
        r"|CUDA kernel (launch )?failed|No CUDA GPUs|no NVIDIA driver|GPU is lost|ECC error"
        r"|device-side assert|illegal memory access|illegal instruction|misaligned address"
        r"|unspecified launch failure|launch timed out",
        re.IGNORECASE,
    ),
    # What Python says of a full disk, and FFmpeg too.
    DiskFull: re.compile(re.escape(os.strerror(errno.ENOSPC))),
}


@contextlib.contextmanager
def comfy_errors() -> Iterator[None]:
    """ComfyUI's errors as those of the job, by `JOB_ERRORS`."""
    try:
        yield
    except ComfyError as error:
        raise JOB_ERRORS[type(error)](error) from error


def kind_of(error: ExecutionFailed) -> type[JobError]:
    """What a node's failure is of: memory, the GPU, the disk; else it is the node's own."""
    said = f"{error.exception_type}: {error.message}"
    return next((kind for kind, words in SAID.items() if words.search(said)), RenderFailed)


def _execution_error(error: ExecutionFailed) -> JobError:
    return kind_of(error)(
        f"Video generation failed: {error}",
        node=error.node_id,
        node_type=error.node_type,
        exception=error.exception_type,
    )


def _died(error: ComfyError) -> JobError:
    return ComfyUIDied(str(error))


def _unavailable(error: ComfyError) -> JobError:
    return ComfyUIUnavailable(str(error))


# By the class itself: a new error of the client needs a line here. After ComfyUIDied the job is
# done once more, on a ComfyUI that answers.
JOB_ERRORS: Mapping[type[ComfyError], Callable[[Any], JobError]] = {
    PromptRejected: lambda error: WorkflowRejected(f"ComfyUI refused the workflow: {error}"),
    ExecutionFailed: _execution_error,
    Interrupted: lambda error: Cancelled("the render was interrupted in ComfyUI"),
    TimedOut: lambda error: DeadlineExceeded("the render took longer than JOB_TIMEOUT_SECONDS"),
    UploadTooLarge: lambda error: MediaTooLarge(
        f"{error}: start it with a larger --max-upload-size, or raise its proxy's limit"
    ),
    Unreachable: _died,
    PromptLost: _died,
    FileMissing: lambda error: OutputMissing(str(error)),
    ComfyError: _unavailable,  # a refused upload, or an answer that is no JSON
}
