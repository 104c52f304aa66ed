"""MultiTalk renders whose frames go to disk, window by window, and are encoded as they are read."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from comfy_client import ComfyClient
from talkinghead.comfy.studio import Studio
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.render.run import run_job
from talkinghead.settings import Settings

Pixels = npt.NDArray[np.float64]
FRAMES = 130  # two windows of 81, 25 of them the same: 137


@pytest.fixture
def fields(short_job: dict[str, Any]) -> dict[str, Any]:
    """One person of MultiTalk; 270 x 310 is cut from 272 x 320."""
    voice = short_job.pop("wav_url")
    size = {"width": 270, "height": 310, "max_frame": FRAMES}
    return short_job | size | {"audio_urls": [voice], "mode": "multitalk", "seed": 7, "long": True}


def render(studio: Studio, fields: dict[str, Any]) -> dict[str, Any]:
    return run_job(Job("on disk", fields), studio)


def delivered(result: dict[str, Any], path: Path) -> Path:
    assert result["status"] == "completed", result
    path.write_bytes(base64.b64decode(result["video"].partition(",")[2]))
    return path


def shown(path: Path) -> list[Pixels]:
    with av.open(str(path)) as file:
        return [f.to_ndarray(format="rgb24").astype(np.float64) for f in file.decode(video=0)]


def left_over(studio: Studio) -> list[Path]:
    with studio.comfy("unused", lambda: None):  # when it has let go of the last job
        return [*studio.settings.work_dir.glob("comfyui-*/output/**/*.*")]


def test_the_frames_become_a_video_of_exact_size_and_length_with_the_sound(
    studio: Studio, fields: dict[str, Any], tmp_path: Path
) -> None:
    result = render(studio, fields)
    info = result["video_info"]
    assert (info["width"], info["height"], info["frames"], info["fps"]) == (270, 310, FRAMES, 25)
    assert info["duration_seconds"] == pytest.approx(FRAMES / 25, abs=1e-3)
    assert (info["audio_rate"], result["warnings"]) == (22_050, [])
    with av.open(str(delivered(result, tmp_path / "o.mp4"))) as file:
        sound = np.concatenate([f.to_ndarray() for f in file.decode(audio=0)], axis=1)
    assert sound.std() > 0.01


def test_nothing_of_it_is_left_on_comfyuis_disk(studio: Studio, fields: dict[str, Any]) -> None:
    assert render(studio, fields)["status"] == "completed"
    assert left_over(studio) == []


@pytest.mark.parametrize("fps", [25, 30])
def test_it_is_the_picture_that_the_render_in_memory_gives(
    studio: Studio, fields: dict[str, Any], tmp_path: Path, fps: int
) -> None:
    fields |= {"fps": fps, "max_frame": 4 * fps}
    disk = delivered(render(studio, fields), tmp_path / "disk.mp4")
    memory = delivered(render(studio, fields | {"long": False}), tmp_path / "memory.mp4")
    differences = [one - other for one, other in zip(shown(disk), shown(memory), strict=True)]
    worst = max(float((difference**2).mean()) for difference in differences)
    assert 10 * np.log10(255**2 / worst) > 35, "decibels: the noise of the two encodes"
    assert abs(np.mean(differences)) < 1, "the node that saves them rounds down, by half a level"
    tags = []
    for path in (disk, memory):
        with av.open(str(path)) as file:
            context = file.streams.video[0].codec_context
            colours = (context.color_primaries, context.color_trc, context.colorspace)
            tags.append((*colours, context.color_range, context.profile, context.pix_fmt))
    assert tags[0] == tags[1]


def test_at_another_rate_it_is_encoded_from_the_same_frames(
    studio: Studio, fields: dict[str, Any]
) -> None:
    info = render(studio, fields | {"fps": 30, "max_frame": 90})["video_info"]
    assert (info["fps"], info["frames"], info["duration_seconds"]) == (30, 90, 3)


def test_the_workflow_that_goes_with_it_makes_a_video_for_whoever_opens_it(
    studio: Studio, fields: dict[str, Any]
) -> None:
    bundle = render(studio, fields | {"bundle": True, "max_frame": 20})["bundle"]
    nodes = {node.get("title"): node for node in bundle["workflow"]["nodes"]}
    assert "Video" in nodes
    assert "Frame folder" not in nodes
    assert nodes["Talking image"]["widgets_values"][-1] == "", "no folder of the worker's disk"
    titles = {entry["_meta"]["title"] for entry in bundle["graph"].values()}
    assert "Frame folder" in titles
    assert not titles & {"Video", "Sound", "Cut to length", "Crop to size"}


def test_collecting_is_seen_and_can_be_cancelled(studio: Studio, fields: dict[str, Any]) -> None:
    job = Job("cancel", fields)
    seen: list[Progress] = []

    def report(progress: Progress) -> None:
        seen.append(progress)
        if progress.message == f"frame 50 of {FRAMES}":
            job.cancelled.set()

    job.report = report
    assert run_job(job, studio)["error_code"] == "cancelled"
    assert (seen[-1].stage, seen[-1].message) == ("collect", f"frame 50 of {FRAMES}")
    assert 97 < seen[-1].percent < 98
    assert left_over(studio) == []


def test_frames_that_are_not_there_fail_the_job(studio: Studio, fields: dict[str, Any]) -> None:
    def lose_one(progress: Progress) -> None:
        if progress.stage == "collect" and progress.fraction == 0:
            for path in studio.settings.work_dir.glob("comfyui-*/output/**/frame_00100.png"):
                path.unlink()

    result = run_job(Job("lost", fields, report=lose_one), studio)
    assert (result["error_code"], result["stage"]) == ("output_missing", "collect")
    assert f"without all {FRAMES} frames: frame_00100.png is not there" in result["error"]


def test_a_full_disk_is_told(
    studio: Studio, fields: dict[str, Any], control: Callable[..., None]
) -> None:
    control(WanVideoSampler={"action": "full"})
    result = render(studio, fields)
    assert (result["error_code"], result["retryable"]) == ("disk_full", True)


def test_a_comfyui_whose_disk_is_not_seen_holds_the_frames_and_the_result_says_so(
    client: ComfyClient, settings: Settings, fields: dict[str, Any]
) -> None:
    with Studio(settings.model_copy(update={"comfyui_url": client.url})) as foreign:
        result = render(foreign, fields | {"max_frame": 20})
    assert (result["status"], result["video_info"]["frames"]) == ("completed", 20)
    assert any("memory of the ComfyUI at COMFYUI_URL" in note for note in result["warnings"])
    for folder in settings.work_dir.glob("comfyui-*/*/on_disk-*"):
        shutil.rmtree(folder)  # a job's files stay behind on a server of somebody else
