"""Nothing that was paid for is lost, or left out of the account: on a real ComfyUI."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from comfy_client import ComfyClient
from talkinghead.comfy.studio import Studio
from talkinghead.delivery.stores import Stores
from talkinghead.net.guard import UrlGuard
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.render.run import run_job
from talkinghead.settings import Settings
from tests.comfy.proxy import Canned, Proxy


@pytest.fixture
def volume(studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The studio's network volume; what is delivered goes into the result."""
    folder = tmp_path / "volume"
    folder.mkdir()
    stores = Stores(Settings(volume_dir=folder), guard=UrlGuard(blocked=()))
    monkeypatch.setattr(studio, "stores", stores)
    return folder


def job_whose_time_ends_at(stage: str, fields: dict[str, Any], name: str) -> Job:
    """Its time is over as soon as the stage begins."""

    def report(progress: Progress) -> None:
        if progress.stage == stage:
            job.timeout_seconds = min(job.timeout_seconds, job.seconds)

    job = Job(name, fields, report=report)
    return job


@pytest.mark.parametrize("stage", ["collect", "deliver"])
def test_a_video_that_is_made_when_the_time_ends_is_kept_and_the_error_says_where(
    stage: str, volume: Path, studio: Studio, short_job: dict[str, Any]
) -> None:
    failed = run_job(job_whose_time_ends_at(stage, short_job, "late"), studio)
    assert (failed["error_code"], failed["stage"]) == ("deadline_exceeded", "deliver")
    kept = Path(failed["details"]["video_path"])
    assert kept.is_relative_to(volume) and kept.is_file()
    assert str(kept) in failed["error"]
    stages: set[str] = set()
    again = run_job(
        Job("late", short_job, report=lambda progress: stages.add(progress.stage)), studio
    )
    assert again["status"] == "completed" and again["video"]
    assert "render" not in stages
    assert not kept.exists()


def test_without_a_volume_a_video_that_is_made_when_the_time_ends_is_delivered(
    studio: Studio, short_job: dict[str, Any]
) -> None:
    result = run_job(job_whose_time_ends_at("collect", short_job, "late"), studio)
    assert result.get("status") == "completed", result


def test_the_seconds_of_a_failed_attempt_are_counted(
    studio: Studio, short_job: dict[str, Any], control: Callable[..., None]
) -> None:
    seconds = 3.0
    control(WanVideoSampler={"action": "kill", "times": 1, "at_step": 3}, step_seconds=seconds)
    result = run_job(Job("died", short_job), studio)
    assert result.get("status") == "completed", result
    steps = 4 + 3 - 1  # of the second attempt, and of the first before it died
    assert result["timings"]["render"] > steps * seconds
    assert result["generation_time_seconds"] == round(result["timings"]["render"], 1)


def test_a_failure_tells_its_timings_and_counts_the_stage_that_failed(
    studio: Studio, short_job: dict[str, Any], control: Callable[..., None]
) -> None:
    control(WanVideoSampler={"action": "raise"})
    failed = run_job(Job("failed", short_job), studio)
    assert failed["error_code"] == "render_failed"
    assert {"fetch", "prepare", "start", "patch", "render"} <= set(failed["timings"])


def test_a_file_too_large_for_comfyui_is_told_as_that_and_not_rendered_twice(
    settings: Settings, client: ComfyClient, short_job: dict[str, Any]
) -> None:
    with Proxy(urlsplit(client.url).port or 0) as proxy:
        proxy.canned["/upload/image"] = Canned({}, status=413)
        far_settings = settings.model_copy(update={"comfyui_url": proxy.url})
        with Studio(far_settings) as far:
            failed = run_job(Job("large", short_job), far)
    assert (failed["error_code"], failed["retryable"]) == ("media_too_large", False)
    assert "--max-upload-size" in failed["error"]
    assert len([path for path in proxy.paths if path.startswith("/upload/image")]) == 1
