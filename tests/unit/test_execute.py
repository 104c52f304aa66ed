"""What ends a prompt on ComfyUI before its end, and what a job makes of ComfyUI's errors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import comfy_client
from comfy_client import ComfyError, Event, Place
from talkinghead.comfy.failures import JOB_ERRORS, comfy_errors, kind_of
from talkinghead.comfy.studio import Studio, Turn
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
    RenderStalled,
    WorkflowRejected,
)
from talkinghead.render.execute import Watch, once_more_on_a_new_comfyui
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.settings import Settings


def raised(kind: str, message: str = "boom") -> ComfyError:
    return comfy_client.ExecutionFailed("7", "Sampler", kind, message)


FAILED = "Video generation failed: Sampler (node 7): "


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            comfy_client.PromptRejected("no such node", {}),
            WorkflowRejected,
            "ComfyUI refused the workflow: no such node",
        ),
        (raised("ValueError"), RenderFailed, f"{FAILED}boom"),
        (raised("torch.OutOfMemoryError"), OutOfMemory, f"{FAILED}boom"),
        (
            raised("OSError", "No space left on device"),
            DiskFull,
            f"{FAILED}No space left on device",
        ),
        (
            comfy_client.Interrupted("prompt x"),
            Cancelled,
            "the render was interrupted in ComfyUI",
        ),
        (
            comfy_client.TimedOut("prompt x"),
            DeadlineExceeded,
            "the render took longer than JOB_TIMEOUT_SECONDS",
        ),
        (comfy_client.Unreachable("away"), ComfyUIDied, "away"),
        (
            comfy_client.UploadTooLarge("no file so large"),
            MediaTooLarge,
            "no file so large: start it with a larger --max-upload-size, "
            "or raise its proxy's limit",
        ),
        (comfy_client.PromptLost("restarted?"), ComfyUIDied, "restarted?"),
        (comfy_client.FileMissing("no file"), OutputMissing, "no file"),
        (ComfyError("upload refused"), ComfyUIUnavailable, "upload refused"),
    ],
)
def test_each_error_of_comfyui_is_one_of_the_job(
    error: ComfyError, kind: type[JobError], message: str
) -> None:
    with pytest.raises(JobError) as caught, comfy_errors():
        raise error
    assert (type(caught.value), str(caught.value)) == (kind, message)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "message",
    [
        "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
        'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "../c10/cuda/CUDACachingAllocator.cpp":838',
        "CUDA runtime error (2) : out of memory",
        "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory",
        "[Errno 12] Cannot allocate memory",
    ],
)
def test_memory_that_runs_out_is_known_in_every_spelling(message: str) -> None:
    assert kind_of(comfy_client.ExecutionFailed("7", "Sampler", "RuntimeError", message)) is (
        OutOfMemory
    )


@pytest.mark.parametrize(
    "message",
    [
        "CUDA unknown error - this may be due to an incorrectly set up environment",
        "CUDA driver initialization failed, you might not have a CUDA gpu.",
        "Found no NVIDIA driver on your system.",
        "CUDA call failed lazily at initialization with error: device >= 0",
        "cuda runtime error (59) at THCCachingHostAllocator.cpp:278",
        "CUDA kernel launch failed: invalid argument",
        "ncclInternalError: Internal check failed.",
        "uncorrectable ECC error encountered",
        "an illegal instruction was encountered",
    ],
)
def test_a_gpu_that_fails_is_known_in_every_spelling(message: str) -> None:
    assert kind_of(comfy_client.ExecutionFailed("7", "Sampler", "RuntimeError", message)) is (
        GpuFailed
    )


@pytest.mark.parametrize(
    "message",
    [
        "Expected all tensors to be on the same device, but found cuda:0 and cpu!",
        "Torch not compiled with CUDA enabled",
        "mat1 and mat2 shapes cannot be multiplied (77x768 and 1024x320)",
    ],
)
def test_what_is_wrong_with_a_graph_is_no_fault_of_the_gpu(message: str) -> None:
    assert kind_of(comfy_client.ExecutionFailed("7", "Sampler", "RuntimeError", message)) is (
        RenderFailed
    )


def test_every_error_of_the_client_is_in_the_table() -> None:
    known = [each for each in vars(comfy_client).values() if isinstance(each, type)]
    assert {each for each in known if issubclass(each, ComfyError)} == set(JOB_ERRORS)


class MortalStudio(Studio):
    """A studio whose ComfyUI may be dead."""

    dead = False
    watch: Watch

    def check_alive(self) -> None:
        if self.dead:
            raise ComfyUIUnavailable("ComfyUI ended by SIGKILL")


def watched(job: Job, **settings: Any) -> tuple[Watch, MortalStudio]:
    studio = MortalStudio(Settings(comfyui_url="http://127.0.0.1:9", **settings))
    turn = Turn(studio, "folder", release=lambda: None)
    studio.watch = Watch(job, turn, lambda event: Progress("render", event.type))
    return studio.watch, studio


def cancel(job: Job, studio: MortalStudio) -> None:
    job.cancelled.set()


def use_up_the_time(job: Job, studio: MortalStudio) -> None:
    job.timeout_seconds = -1.0


def die(job: Job, studio: MortalStudio) -> None:
    studio.dead = True


def stall(job: Job, studio: MortalStudio) -> None:
    studio.settings = studio.settings.model_copy(update={"stall_seconds": -1.0})


@pytest.mark.parametrize(
    ("happen", "kind"),
    [
        (cancel, Cancelled),
        (use_up_the_time, DeadlineExceeded),
        (die, ComfyUIUnavailable),
        (stall, RenderStalled),
    ],
)
def test_a_watch_lets_a_prompt_go_on_until_something_ends_it(
    happen: Callable[[Job, MortalStudio], None], kind: type[JobError]
) -> None:
    job = Job("watched", {})
    watch, studio = watched(job)
    watch.check()
    happen(job, studio)
    with pytest.raises(kind):
        watch.check()


def test_a_death_is_said_and_not_the_silence_that_follows() -> None:
    job = Job("watched", {})
    watch, studio = watched(job)
    stall(job, studio)
    die(job, studio)
    with pytest.raises(ComfyUIUnavailable):
        watch.check()


@pytest.mark.parametrize(
    ("place", "stalls"),
    [
        (Place(ahead=0, hears=True), True),
        (Place(ahead=0, hears=False), False),
        (Place(ahead=2, hears=True), False),
    ],
    ids=["executed and silent", "nobody hears it", "behind others"],
)
def test_only_a_prompt_that_is_executed_and_would_be_heard_is_stalled(
    place: Place, stalls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("talkinghead.comfy.stall.time.monotonic", clock)
    seen: list[Progress] = []
    watch, _ = watched(Job("watched", {}, report=seen.append), stall_seconds=300)
    clock.now += 299
    watch.found(place)
    clock.now += 2
    with pytest.raises(RenderStalled) if stalls else contextlib.nullcontext():
        watch.check()
    assert [each.message for each in seen] == (
        ["ComfyUI is at 2 other prompts first"] if place.ahead else []
    )


@pytest.mark.parametrize(("lines", "stalls"), [("aaa", True), ("aab", False), ("bac", False)])
def test_what_nobody_hears_is_stalled_when_the_servers_log_stands_still_too(
    lines: str, stalls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("talkinghead.comfy.stall.time.monotonic", clock)
    watch, _ = watched(Job("watched", {}), stall_seconds=300)
    for line in lines:
        watch.found(Place(ahead=0, hears=False, last_line=line))
        clock.now += 151
    with pytest.raises(RenderStalled) if stalls else contextlib.nullcontext():
        watch.check()


class Clock:
    """Stands for the monotonic clock."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_our_own_comfyui_may_be_silent_for_longer_than_a_render_may_stall(tmp_path: Path) -> None:
    own = Studio(Settings(work_dir=tmp_path, stall_seconds=300))
    assert own.new_client()._unreachable_seconds > 300


def test_a_watch_reports_what_an_event_says() -> None:
    seen: list[Progress] = []
    watch, _ = watched(Job("watched", {}, report=seen.append), job_timeout_seconds=60)
    watch.saw(Event("executing", {}))
    assert seen == [Progress("render", "executing")]
    assert watch.seconds_left <= 60


SPELLINGS = {
    OutOfMemory: [
        "torch.OutOfMemoryError: Allocation on device",
        "RuntimeError: CUDA error: out of memory",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "torch.AcceleratorError: CUDA error: out of memory",
        "RuntimeError: CUDA driver error: out of memory",
        "RuntimeError: Triton Error [CUDA]: out of memory",
        "RuntimeError: CUDA_ERROR_OUT_OF_MEMORY",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't "
        "allocate memory: you tried to allocate 123 bytes",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 1.2 GiB for an array",
        "MemoryError: ",
        "RuntimeError: std::bad_alloc",
        "OSError: [Errno 12] Cannot allocate memory",
    ],
    GpuFailed: [
        "RuntimeError: CUDA error: an illegal memory access was encountered",
        "torch.AcceleratorError: CUDA error: device-side assert triggered",
        "RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "RuntimeError: CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`",
        "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1970",
        "RuntimeError: CUDA driver error: unknown error",
        "RuntimeError: Triton Error [CUDA]: an illegal instruction was encountered",
        "RuntimeError: No CUDA GPUs are available",
        "RuntimeError: CUDA error: unspecified launch failure",
        "RuntimeError: cuFFT error: CUFFT_INTERNAL_ERROR",
    ],
    RenderFailed: [
        "RuntimeError: Expected all tensors to be on the same device, but found cuda:0 and cpu!",
        "AssertionError: Torch not compiled with CUDA enabled",
        "RuntimeError: mat1 and mat2 shapes cannot be multiplied (77x4096 and 5120x5120)",
        "KeyError: 'memory'",
    ],
}


@pytest.mark.parametrize(
    ("kind", "said"), [(kind, said) for kind, all_ in SPELLINGS.items() for said in all_]
)
def test_memory_and_the_gpu_are_known_in_every_spelling(kind: type[JobError], said: str) -> None:
    name, _, message = said.partition(": ")
    with pytest.raises(JobError) as caught, comfy_errors():
        raise raised(name, message)
    assert type(caught.value) is kind


class OwnStudio(Studio):
    """A studio with a ComfyUI of its own, which is not started."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Settings(comfyui_dir=folder, work_dir=folder, comfyui_cpu=True))


def calls_of(error: JobError, studio: Studio, **job_options: Any) -> int:
    """How often a render that always ends so is begun."""
    job, called = Job("mortal", {}, **job_options), []

    def produce() -> None:
        called.append(1)
        raise error

    with contextlib.suppress(JobError):
        once_more_on_a_new_comfyui(job, studio, produce)
    assert len(job.notes) == len(called) - 1
    return len(called)


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (ComfyUIDied("it died"), 2),
        (GpuFailed("CUDA error"), 2),
        (RenderStalled("no progress"), 2),
        (ComfyUIUnavailable("it does not start, or refuses an upload"), 1),
        (OutputMissing("no file"), 1),
        (RenderFailed("a node raised"), 1),
        (OutOfMemory("has a ladder of its own"), 1),
    ],
)
def test_what_is_comfyuis_fault_is_rendered_once_more_and_nothing_else(
    error: JobError, calls: int, tmp_path: Path
) -> None:
    assert calls_of(error, OwnStudio(tmp_path)) == calls


def test_somebody_elses_comfyui_gets_again_only_what_it_lost() -> None:
    studio = Studio(Settings(comfyui_url="http://127.0.0.1:9"))
    assert calls_of(ComfyUIDied("was it restarted?"), studio) == 2
    assert calls_of(RenderStalled("no progress"), studio) == 1


def test_a_job_without_time_for_it_is_not_rendered_once_more(tmp_path: Path) -> None:
    assert calls_of(ComfyUIDied("it died"), OwnStudio(tmp_path), timeout_seconds=0.0) == 1
