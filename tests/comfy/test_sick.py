"""A ComfyUI, or a GPU, that is sick: it is replaced, and at last the worker; no job pays for it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from comfy_client import ComfyClient
from talkinghead.comfy.health import FAILURES_IN_A_ROW
from talkinghead.comfy.studio import Studio
from talkinghead.comfy.warm_up import warm_up
from talkinghead.doctor import Check, examine
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.render.run import run_job
from talkinghead.settings import Settings
from talkinghead.worker import handle
from tests.comfy.proxy import Canned, Proxy, port_of
from tests.comfy.test_process_faults import Control, comfyui
from tests.conftest import FileServer

STICKY = "CUDA error: an illegal memory access was encountered"


def run(studio: Studio, fields: dict[str, Any], **options: Any) -> dict[str, Any]:
    return run_job(Job("sick", fields, **options), studio)


def test_a_job_whose_cuda_context_broke_is_rendered_again_by_another_comfyui(
    studio: Studio, short_job: dict[str, Any], control: Control
) -> None:
    first = comfyui(studio)
    control(WanVideoSampler={"action": "raise", "message": STICKY, "times": 1})
    result = run(studio, short_job)
    assert result["status"] == "completed", result
    assert any(STICKY in told and "rendered twice" in told for told in result["warnings"])
    assert comfyui(studio) != first
    assert not studio.health.is_lost


def test_a_window_whose_cuda_context_broke_is_rendered_again_by_another_comfyui(
    studio: Studio, long_job: dict[str, Any], control: Control
) -> None:
    first = comfyui(studio)
    control(WanVideoSampler={"action": "raise", "message": STICKY, "times": 1, "after": 1})
    result = run(studio, long_job)
    assert result["status"] == "completed", result
    assert "and window 2 rendered twice" in " ".join(result["warnings"])
    assert comfyui(studio) != first


def test_a_gpu_that_fails_every_job_has_runpod_replace_the_worker_and_the_doctor_says_why(
    studio: Studio, short_job: dict[str, Any], control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studio.record, "_path", None)  # a worker keeps it, no other test does
    studio.record.keep_in(studio.settings.work_dir)
    control(WanVideoSampler={"action": "raise", "message": STICKY})
    first, second = (
        asyncio.run(handle({"id": name, "input": short_job}, studio)) for name in ("one", "two")
    )
    assert (first["error_code"], first["retryable"]) == ("render_failed", True)
    assert "refresh_worker" not in first
    assert second["refresh_worker"] is True
    device = next(each for each in examine(studio) if each.name == "device")
    assert device.state == "failed" and STICKY in device.message
    assert f"{FAILURES_IN_A_ROW + 1} renders in a row" in device.message

    told = worker_as_another_process_sees_it(studio)
    assert told is not None and told.state == "warning"
    assert f"asked RunPod to replace it: {FAILURES_IN_A_ROW + 1} renders in a row" in told.message
    assert STICKY in told.message

    control()
    healed = asyncio.run(handle({"id": "three", "input": short_job}, studio))
    assert healed["status"] == "completed" and "refresh_worker" not in healed
    assert worker_as_another_process_sees_it(studio) is None


def worker_as_another_process_sees_it(studio: Studio) -> Check | None:
    """What `talkinghead doctor` says of the worker, by a studio that has not rendered."""
    assert studio.server is not None
    here = {"comfyui_url": studio.server.url}
    other = Studio(studio.settings.model_copy(update=here))
    found = (each for each in examine(other) if each.name == f"worker {os.getpid()}")
    return next(found, None)


def test_a_draft_that_needs_no_gpu_does_not_speak_for_it(
    studio: Studio, short_job: dict[str, Any], control: Control
) -> None:
    control(WanVideoSampler={"action": "raise", "message": STICKY})
    run(studio, short_job)
    assert run(studio, short_job | {"draft": True})["status"] == "completed"
    run(studio, short_job)
    assert studio.health.is_lost


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_memory_that_runs_out_in_other_words_is_met_with_less_at_a_time(
    studio: Studio, short_job: dict[str, Any], control: Control, message: str
) -> None:
    control(WanVideoSampler={"action": "raise", "message": message, "times": 2})
    result = run(studio, short_job)
    assert result["status"] == "completed", result
    assert result["generation_params"]["blocks_to_swap"] == 20


def test_a_comfyui_that_the_kernel_kills_for_memory_goes_on_with_less_at_a_time(
    studio: Studio, short_job: dict[str, Any], control: Control
) -> None:
    control(WanVideoSampler={"action": "kill", "times": 2})
    result = run(studio, short_job)
    assert result["status"] == "completed", result
    assert result["generation_params"]["blocks_to_swap"] == 20
    assert "ComfyUI ran out of memory; rendered with 20 blocks swapped" in result["warnings"]


def test_a_job_that_the_kernel_always_kills_says_that_memory_ran_out_and_what_was_tried(
    studio: Studio, long_job: dict[str, Any], control: Control
) -> None:
    control(WanVideoSampler={"action": "kill"})
    result = run(studio, long_job)
    assert (result["error_code"], result["stage"]) == ("out_of_memory", "render")
    assert "SIGKILL" in result["error"] and len(result["details"]["tried"]) == 4


def test_a_long_render_whose_memory_runs_out_now_and_then_comes_to_its_end(
    studio: Studio,
    long_job: dict[str, Any],
    files: FileServer,
    control: Control,
    *,
    tone: Callable[..., Path],
) -> None:
    (files.folder / "long.wav").write_bytes(tone("longer.wav", seconds=20.0).read_bytes())
    starved: set[int | None] = set()

    def starve(progress: Progress) -> None:
        if progress.message.endswith(" is done") and progress.window not in starved:
            starved.add(progress.window)
            control(WanVideoSampler={"action": "oom", "times": 1})

    result = run(studio, long_job, report=starve)
    assert result["status"] == "completed", result
    assert len(starved) > 5, "more often than there are ways to take less"
    assert result["generation_params"]["blocks_to_swap"] == 40


def test_a_draft_whose_comfyui_is_killed_is_rendered_once_more(
    studio: Studio, short_job: dict[str, Any]
) -> None:
    left = [comfyui(studio)]

    def kill(progress: Progress) -> None:
        if progress.stage == "render" and left:
            os.kill(left.pop(), signal.SIGKILL)

    result = run(studio, short_job | {"draft": True}, report=kill)
    assert result["status"] == "completed", result
    assert any("rendered twice" in told for told in result["warnings"])


def test_what_memory_sufficed_for_is_where_the_next_job_of_that_kind_begins(
    studio: Studio, short_job: dict[str, Any], control: Control
) -> None:
    control(WanVideoSampler={"action": "oom", "times": 2})
    assert run(studio, short_job)["generation_params"]["blocks_to_swap"] == 20
    again = run(studio, short_job)
    assert again["generation_params"]["blocks_to_swap"] == 20
    assert (
        "an earlier render of this kind ran out of memory here; rendered with 20 blocks swapped"
        in again["warnings"]
    )
    another = run(studio, short_job | {"width": 320})
    assert another["generation_params"]["blocks_to_swap"] == 0
    forbidden = run(studio, short_job | {"retry_out_of_memory": False})
    assert forbidden["generation_params"]["blocks_to_swap"] == 0


def test_an_upload_that_is_refused_is_not_taken_for_a_death_and_not_rendered_twice(
    settings: Settings, client: ComfyClient, short_job: dict[str, Any]
) -> None:
    with Proxy(port_of(client.url)) as proxy:
        proxy.canned["/upload/image"] = Canned({"error": "no"}, status=500)
        job = Job("refused", short_job)
        result = run_job(job, Studio(settings.model_copy(update={"comfyui_url": proxy.url})))
    assert "refused the upload" in result["error"]
    assert job.notes == []
    assert proxy.paths.count("/upload/image") == 1


def test_a_loader_that_fails_in_every_job_does_not_cost_its_comfyui(
    studio: Studio, short_job: dict[str, Any], control: Control
) -> None:
    studio.free_memory()
    first = comfyui(studio)
    control(WanVideoModelLoader={"action": "raise", "message": "no such file"})
    assert run(studio, short_job)["error_code"] == "render_failed"
    assert comfyui(studio) == first


def test_a_loader_that_hangs_in_the_warm_up_is_given_up_after_the_stall_limit(
    settings: Settings, control: Control, short_job: dict[str, Any], tmp_path: Path
) -> None:
    control(WanVideoModelLoader={"action": "hang"})
    hasty = settings.model_copy(update={"stall_seconds": 3.0, "work_dir": tmp_path / "work"})
    with Studio(hasty) as own:
        warming = threading.Thread(target=warm_up, args=(own,))
        warming.start()
        warming.join()
        assert own.server is not None and own.server.process is None
        control()
        own.settings = settings
        assert run(own, short_job)["status"] == "completed"


def test_a_comfyui_that_dies_in_the_warm_up_is_back_before_a_job_comes(
    settings: Settings, control: Control, tmp_path: Path
) -> None:
    control(WanVideoModelLoader={"action": "kill", "times": 1})
    with Studio(settings.model_copy(update={"work_dir": tmp_path / "work"})) as own:
        warm_up(own)
        assert own.server is not None and not own.server.is_running()
        own.revive()
        assert own.server.is_running()
