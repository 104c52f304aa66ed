"""ComfyUI dies, wedges, leaks, or is used by others too: the job at hand, and the next one."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from comfy_client import ComfyClient
from talkinghead.comfy import process, server
from talkinghead.comfy.server import ComfyServer
from talkinghead.comfy.studio import Studio
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.render.run import run_job
from talkinghead.settings import Settings
from talkinghead.workflow.graph import Graph
from tests.comfy.proxy import port_of
from tests.comfy.test_faults import process_of, queued
from tests.timing import LAST_RESORT_SECONDS, wait_until

Control = Callable[..., None]


def run(studio: Studio, fields: dict[str, Any], **options: Any) -> dict[str, Any]:
    return run_job(Job("faulty", fields, **options), studio)


def completes(studio: Studio, fields: dict[str, Any]) -> bool:
    return bool(run(studio, fields | {"draft": True})["status"] == "completed")


def comfyui(studio: Studio) -> int:
    """The id of its process."""
    with studio.comfy("unused", lambda: None) as turn:
        return process_of(port_of(turn.client.url))


@pytest.mark.parametrize(
    "faults",
    [
        {"WanVideoModelLoader": {"action": "exit", "times": 1}},
        {"VHS_VideoCombine": {"action": "exit", "times": 1, "at_step": 3}},
    ],
    ids=["loading", "writing"],
)
def test_a_comfyui_that_dies_is_started_again_and_the_job_is_delivered(
    studio: Studio, short_job: dict[str, Any], control: Control, faults: dict[str, Any]
) -> None:
    studio.free_memory()  # no loader is to be answered from the cache
    control(**faults)
    result = run(studio, short_job)
    assert result["status"] == "completed", result
    assert any("rendered twice" in warning for warning in result["warnings"])


@pytest.mark.parametrize(
    ("node", "fault"),
    [
        ("WanVideoModelLoader", {}),
        ("MultiTalkWav2VecEmbeds", {}),
        ("VHS_VideoCombine", {"at_step": 3}),
    ],
)
def test_a_node_of_any_kind_that_raises_is_named(
    studio: Studio,
    short_job: dict[str, Any],
    control: Control,
    *,
    node: str,
    fault: dict[str, Any],
) -> None:
    studio.free_memory()  # so that the loaders run
    # Once: ComfyUI is not to fail in loading the models again after the job, and be ended.
    control(**{node: {"action": "raise", "message": "no more", "times": 1} | fault})
    result = run(studio, short_job)
    assert (result["error_code"], result["details"]["node_type"]) == ("render_failed", node)
    assert "no more" in result["error"]
    control()
    assert completes(studio, short_job)


def test_a_render_that_somebody_interrupts_in_comfyui_is_cancelled(
    studio: Studio, short_job: dict[str, Any], control: Control, held: Callable[[], None]
) -> None:
    with studio.comfy("unused", lambda: None) as turn:
        url = f"{turn.client.url}/interrupt"

    def interrupt(progress: Progress) -> None:
        if progress.message == "Sampler":
            held()
            requests.post(url, json={}, timeout=LAST_RESORT_SECONDS)

    result = run(studio, short_job, report=interrupt)
    assert (result["error_code"], result["stage"]) == ("cancelled", "render")
    assert result["error"] == "the render was interrupted in ComfyUI"
    control()
    assert completes(studio, short_job)


def test_a_job_waits_for_a_prompt_of_somebody_else(
    settings: Settings,
    client: ComfyClient,
    short_job: dict[str, Any],
    slow_graph: Graph,
    control: Control,
) -> None:
    other = str(uuid.uuid4())
    client.submit(slow_graph, other, client_id="somebody")
    shared = Studio(settings.model_copy(update={"comfyui_url": client.url}))
    result: dict[str, Any] = {}
    job = threading.Thread(target=lambda: result.update(run(shared, short_job | {"draft": True})))
    job.start()
    wait_until(lambda: queued(client) == 2, "the job's prompt is queued")
    control()  # the other goes on
    job.join()
    assert result["status"] == "completed", result
    history = client.history(other)
    assert history is not None and history["status"]["status_str"] == "success"


def test_a_comfyui_that_wedges_between_two_jobs_is_replaced_within_the_next_one(
    studio: Studio, short_job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wedged = comfyui(studio)
    os.kill(wedged, signal.SIGSTOP)
    with monkeypatch.context() as hurried:
        hurried.setattr(server, "UNRESPONSIVE_SECONDS", 1)
        hurried.setattr(process, "STOP_SECONDS", 1)
        assert completes(studio, short_job)
    assert comfyui(studio) != wedged


def test_a_comfyui_that_leaks_past_its_limit_is_replaced_between_jobs(
    studio: Studio, short_job: dict[str, Any], control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = studio.settings.model_copy(update={"comfyui_max_memory_gb": 1.5})
    assert ComfyServer.from_settings(allowed)._max_memory_mb == 1500
    first, ours = comfyui(studio), studio.server
    assert ours is not None
    monkeypatch.setattr(ours, "_max_memory_mb", ours.memory_mb() + 1000)
    assert completes(studio, short_job)
    assert comfyui(studio) == first
    control(WanVideoSampler={"action": "leak", "mb": 1500, "times": 1})
    assert run(studio, short_job)["status"] == "completed"
    assert comfyui(studio) != first
    assert completes(studio, short_job)


def test_a_memory_limit_that_no_comfyui_can_keep_is_told(
    settings: Settings, short_job: dict[str, Any], tmp_path: Path
) -> None:
    few = {"comfyui_max_memory_gb": 0.05, "work_dir": tmp_path / "work"}
    with Studio(settings.model_copy(update=few)) as studio:
        for fields in (short_job, short_job | {"long": True}):
            result = run(studio, fields)
            assert (result["error_code"], result["stage"]) == ("comfyui_unavailable", "start")
            assert (
                "before its first prompt, allowed: 50 MB: raise COMFYUI_MAX_MEMORY_GB"
                in (result["error"])
            )


def test_a_long_render_goes_on_though_each_comfyui_may_hold_one_window_only(
    studio: Studio, short_job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studio, "is_bloated", lambda: True)
    assert completes(studio, short_job | {"long": True})


def test_a_full_disk_under_comfyui_is_told_and_the_next_job_has_room(
    studio: Studio, short_job: dict[str, Any], control: Control
) -> None:
    control(VHS_VideoCombine={"action": "full"})
    result = run(studio, short_job)
    assert (result["error_code"], result["stage"]) == ("disk_full", "render")
    assert "VHS_VideoCombine" in result["error"] and "No space left on device" in result["error"]
    control()
    assert run(studio, short_job)["status"] == "completed"


def test_a_full_disk_of_the_worker_is_told_and_blames_nobody(
    studio: Studio, short_job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for file, stage in (("source_image_url", "fetch"), ("sound.wav", "prepare")):

        def fill(progress: Progress, file: str = file, stage: str = stage) -> None:
            if progress.stage == stage:
                (folder,) = tmp_path.glob("talkinghead-*")
                (folder / file).symlink_to("/dev/full")

        result = run(studio, short_job, report=fill)
        assert (result["error_code"], result["stage"]) == ("disk_full", stage)
        assert result["error"] == "the worker's temporary folder has no room left"
        assert result["retryable"] is True
        assert not list(tmp_path.glob("talkinghead-*"))
    assert completes(studio, short_job)
