"""Whole jobs on a real ComfyUI: the CPU draft for real, the talking nodes as doubles."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import requests
from typer.testing import CliRunner

from comfy_client import ComfyClient
from talkinghead.cli.app import app
from talkinghead.comfy.studio import Studio
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.render.run import run_job
from talkinghead.settings import PROJECT_DIR
from talkinghead.workflow.graph import Graph, loaders_only
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.template import load_template
from tests.comfy.proxy import port_of
from tests.comfy.test_faults import process_of
from tests.conftest import FileServer, write_tone
from tests.hostile import half
from tests.sounds import plain
from tests.timing import LAST_RESORT_SECONDS


@pytest.fixture
def served(files: FileServer, portrait: Path, voice: Path) -> FileServer:
    """The example's picture and voice behind HTTP, and files that are not what they say."""
    (files.folder / "portrait.jpg").write_bytes(portrait.read_bytes())
    (files.folder / "voice.wav").write_bytes(voice.read_bytes())
    (files.folder / "text.jpg").write_text("I am a text file")
    return files


def request(served: FileServer, **fields: Any) -> dict[str, Any]:
    return {
        "image_url": served.url("portrait.jpg"),
        "wav_url": served.url("voice.wav"),
        "seed": 7,
    } | fields


def small(served: FileServer, **fields: Any) -> dict[str, Any]:
    """A request that is soon rendered."""
    return request(served, width=256, height=256, max_frame=30) | fields


def run(studio: Studio, fields: dict[str, Any]) -> dict[str, Any]:
    return run_job(Job(id="job/1", input=fields), studio)


def video_bytes(result: dict[str, Any]) -> bytes:
    head, _, content = result["video"].partition(",")
    assert head == "data:video/mp4;base64"
    return base64.b64decode(content)


def files_in_comfyui(studio: Studio) -> set[str]:
    with studio.comfy("unused", lambda: None):  # when it has let go of the last job
        work = next(studio.settings.work_dir.glob("comfyui-*"))
        folders = [work / name for name in ("input", "output", "temp")]
        return {str(p) for folder in folders for p in folder.rglob("*") if p.is_file()}


def test_a_draft_has_the_promised_size_length_sound_and_says_it_is_a_draft(
    studio: Studio, served: FileServer
) -> None:
    result = run(studio, request(served, draft=True))
    info = result["video_info"]
    assert (info["width"], info["height"], info["fps"], info["frames"]) == (480, 854, 25, 143)
    assert result["draft"] is True and "draft" in result["warnings"][0]
    assert result["generation_params"]["seed"] == 7
    assert result["status"] == "completed" and result["job_id"] == "job/1"
    with av.open(io.BytesIO(video_bytes(result)), "r") as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert audio.rate == 22_050
        frames = [frame.to_ndarray(format="gray") for frame in file.decode(video)]
    assert len(frames) == 143
    assert frames[0].mean() > 30, "the first frame is not black"


def test_a_voice_filter_changes_what_the_model_hears_and_not_what_is_delivered(
    studio: Studio, served: FileServer
) -> None:
    """A tone is no speech: with the filter, the mouth rests."""
    (served.folder / "tone.wav").write_bytes(plain("wav", 1.2))
    fields = small(served, draft=True, wav_url=served.url("tone.wav"))
    plainly, filtered = run(studio, fields), run(studio, fields | {"voice_filter": "speech"})
    note = "voice_filter: the model hears of wav_url no speech: the mouth will rest"
    assert note in filtered["warnings"] and note not in plainly["warnings"]
    assert filtered["video_info"]["frames"] == plainly["video_info"]["frames"] == 30
    one, other = video_bytes(plainly), video_bytes(filtered)
    assert packets_of(one, "audio") == packets_of(other, "audio"), "the same to the bit"
    assert packets_of(one, "video") != packets_of(other, "video")


def packets_of(video: bytes, kind: str) -> list[bytes]:
    """The encoded "audio", or "video"."""
    with av.open(io.BytesIO(video), "r") as file:
        return [bytes(packet) for packet in file.demux() if packet.stream.type == kind]


def test_a_draft_at_another_rate_keeps_the_length(studio: Studio, served: FileServer) -> None:
    fields = small(served, draft=True, fps=30, max_audio_duration=2, max_frame=None)
    info = run(studio, fields)["video_info"]
    assert (info["fps"], info["frames"]) == (30, 60)
    assert info["duration_seconds"] == pytest.approx(2, abs=1 / 30)


def test_the_talking_graph_is_accepted_and_finished(studio: Studio, served: FileServer) -> None:
    result = run(studio, request(served))
    info, params = result["video_info"], result["generation_params"]
    assert (info["width"], info["height"], info["frames"]) == (480, 854, 143)
    assert (params["steps"], params["scheduler"], params["seed"]) == (4, "flowmatch_distill", 7)
    assert (params["attention"], params["force_offload"]) == ("sdpa", True)
    assert params["workflow_version"].startswith("infinitetalk_i2v-")
    assert result["warnings"] == [] and result["draft"] is False
    assert b"A person talking" not in video_bytes(result), "no prompt in the file's metadata"


def test_the_talking_graph_at_30_fps_is_delivered_at_30_fps(
    studio: Studio, served: FileServer
) -> None:
    info = run(studio, small(served, fps=30, max_frame=90))["video_info"]
    assert (info["fps"], info["frames"], info["duration_seconds"]) == (30, 90, 3)


def test_nothing_of_a_job_is_left(studio: Studio, served: FileServer) -> None:
    run(studio, small(served, draft=True, max_frame=10))
    before = files_in_comfyui(studio)
    run(studio, small(served))
    run(studio, small(served, draft=True, max_frame=10))
    run(studio, small(served, wav_url=served.url("portrait.jpg")))
    assert files_in_comfyui(studio) <= before


def test_the_same_job_twice_gives_the_same_picture(studio: Studio, served: FileServer) -> None:
    fields = small(served, draft=True)
    one, other = run(studio, fields), run(studio, fields)
    assert one["video_info"]["sha256"] == other["video_info"]["sha256"]


@pytest.mark.parametrize(
    ("fields", "code", "expected"),
    [
        ({"wav_url": None}, "invalid_request", "Missing required parameter: wav_url"),
        ({"resolution": "4k"}, "invalid_request", "resolution is '4k', allowed"),
        (
            {"image_url": "none.jpg"},
            "download_failed",
            r"image_url: .*none\.jpg\?\.\.\. gave HTTP 404",
        ),
        ({"image_url": "text.jpg"}, "media_invalid", "image_url: the file is not a picture"),
        ({"wav_url": "silent.mp4"}, "media_invalid", "wav_url: the file has no audio stream"),
        ({"wav_url": "text.jpg"}, "media_invalid", "wav_url: the sound cannot be decoded"),
    ],
)
def test_bad_input_is_told_at_once_and_queues_nothing(
    studio: Studio,
    served: FileServer,
    fields: dict[str, Any],
    code: str,
    expected: str,
) -> None:
    with av.open(str(served.folder / "silent.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        file.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        file.mux(stream.encode(None))
    urls = {
        name: served.url(value) if value and name.endswith("_url") else value
        for name, value in fields.items()
    }
    stages: list[str] = []
    result = run_job(
        Job("bad", request(served) | urls, report=lambda p: stages.append(p.stage)), studio
    )
    assert (result["status"], result["error_code"]) == ("failed", code)
    assert pytest.raises(AssertionError, match=expected).matches(AssertionError(result["error"]))
    assert "start" not in stages and "render" not in stages


def test_a_node_that_raises_fails_the_job_with_its_message(
    studio: Studio, served: FileServer, control: Callable[..., None]
) -> None:
    control(WanVideoSampler={"action": "raise", "message": "the tensors are upset"})
    before = files_in_comfyui(studio)
    result = run(studio, small(served))
    assert (result["error_code"], result["stage"]) == ("render_failed", "render")
    assert result["error"].startswith("Video generation failed: WanVideoSampler")
    assert "the tensors are upset" in result["error"]
    assert files_in_comfyui(studio) <= before


@pytest.mark.parametrize(
    "case",
    [
        (1, "with ComfyUI's memory freed", 0),
        (2, "with 20 blocks swapped", 20),
        (4, "with windows of 49 frames", 40),
    ],
)
def test_out_of_memory_is_met_with_less_at_a_time_and_the_result_says_how(
    studio: Studio,
    served: FileServer,
    control: Callable[..., None],
    case: tuple[int, str, int],
) -> None:
    times, how, blocks = case
    control(WanVideoSampler={"action": "oom", "times": times})
    result = run(studio, small(served, max_frame=100))
    assert result["status"] == "completed"
    assert any(f"ran out of memory; rendered {how}" in warning for warning in result["warnings"])
    assert result["generation_params"]["blocks_to_swap"] == blocks


def test_out_of_memory_always_ends_with_what_was_tried(
    studio: Studio, served: FileServer, control: Callable[..., None]
) -> None:
    control(WanVideoSampler={"action": "oom"})
    result = run(studio, small(served, max_frame=100))
    assert result["error_code"] == "out_of_memory"
    assert len(result["details"]["tried"]) == 5
    assert "so it did as planned, with ComfyUI's memory freed, with 20 blocks" in result["error"]


def test_a_caller_can_forbid_a_second_try(
    studio: Studio, served: FileServer, control: Callable[..., None]
) -> None:
    control(WanVideoSampler={"action": "oom", "times": 1})
    result = run(studio, small(served, retry_out_of_memory=False))
    assert (result["error_code"], result["details"]["tried"]) == ("out_of_memory", ["as planned"])


def test_a_comfyui_that_dies_is_started_again_and_the_job_with_it(
    studio: Studio, served: FileServer, control: Callable[..., None]
) -> None:
    control(WanVideoSampler={"action": "exit", "times": 1, "at_step": 1})
    result = run(studio, small(served))
    assert result["status"] == "completed"
    assert any("rendered twice" in warning for warning in result["warnings"])


def test_a_job_that_kills_comfyui_twice_fails_and_the_next_one_runs(
    studio: Studio, served: FileServer, control: Callable[..., None]
) -> None:
    control(WanVideoSampler={"action": "exit", "times": 2, "at_step": 1})
    result = run(studio, small(served))
    assert (result["error_code"], result["stage"]) == ("comfyui_unavailable", "render")
    assert "exit code 1; the end of its log" in result["error"]
    result = run(studio, small(served))
    assert result["status"] == "completed", result


def test_a_render_without_progress_is_stopped_and_a_deaf_comfyui_ended(
    studio: Studio,
    served: FileServer,
    control: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    control(WanVideoSampler={"action": "hang"})
    with studio.comfy("unused", lambda: None) as turn:
        deaf = process_of(port_of(turn.client.url))

    def lose_patience(progress: Progress) -> None:
        if progress.message == "Sampler":
            impatient = studio.settings.model_copy(update={"stall_seconds": 1.0})
            hurried.setattr(studio, "settings", impatient)
            hurried.setattr(studio, "idle_seconds", 1.0)

    with monkeypatch.context() as hurried:
        result = run_job(Job("deaf", small(served), report=lose_patience), studio)
    assert (result["error_code"], result["retryable"]) == ("render_stalled", True)
    assert not Path(f"/proc/{deaf}").exists()
    control()
    result = run(studio, small(served))
    assert result["status"] == "completed", result


@pytest.mark.usefixtures("all_events")
def test_after_a_job_comfyui_keeps_the_models_and_nothing_of_the_job(
    studio: Studio, served: FileServer, client: ComfyClient
) -> None:
    """The last prompt's outputs are what ComfyUI keeps: it must be that of the loaders."""
    loaded: list[str] = []
    graph = loaders_of(studio, client)
    client.run(
        graph, deadline_seconds=LAST_RESORT_SECONDS, on_event=lambda e: loaded.append(e.type)
    )
    assert {entry["class_type"] for entry in graph.values()} >= {
        "WanVideoModelLoader",
        "WanVideoVAELoader",
        "CLIPLoader",
        "Wav2VecModelLoader",
        "CLIPVisionLoader",
    }
    assert "LoadImage" not in {entry["class_type"] for entry in graph.values()}
    assert "execution_success" in loaded


def test_no_history_of_a_job_is_left(studio: Studio, served: FileServer) -> None:
    before = history(studio)
    run(studio, small(served))
    run(studio, small(served, draft=True, max_frame=10))
    assert history(studio) == before


def test_a_cancelled_job_stops_the_render_and_the_next_one_runs(
    studio: Studio, served: FileServer, control: Callable[..., None], held: Callable[[], None]
) -> None:
    job = Job("cancel", small(served))

    def cancel_at_the_sampler(progress: Progress) -> None:
        if progress.message == "Sampler":
            held()
            job.cancelled.set()

    job.report = cancel_at_the_sampler
    assert run_job(job, studio)["error_code"] == "cancelled"
    control()
    result = run(studio, small(served))
    assert result["status"] == "completed", result


def test_jobs_that_come_at_once_take_turns(studio: Studio, served: FileServer) -> None:
    results: list[dict[str, Any]] = []
    fields = small(served, draft=True, max_frame=20)
    threads = [
        threading.Thread(target=lambda: results.append(run(studio, fields))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result["status"] for result in results] == ["completed"] * 3


def test_two_stereo_voices_are_delivered_as_their_mix_left_and_right_apart(
    studio: Studio, served: FileServer, tmp_path: Path
) -> None:
    one = write_tone(served.folder / "one.wav", seconds=2, rate=44_100, channels=2)
    other = write_tone(served.folder / "two.wav", seconds=1.5, rate=44_100, channels=2, hz=1000)
    speakers = [{"audio_url": served.url(path.name)} for path in (one, other)]
    fields = {"image_url": served.url("portrait.jpg"), "speakers": speakers, "draft": True}
    (tmp_path / "out.mp4").write_bytes(video_bytes(run(studio, fields)))
    delivered, expected = samples(tmp_path / "out.mp4"), samples(one)
    expected[:, : round(1.5 * 44_100)] += samples(other)
    delivered = delivered[:, : expected.shape[1]]
    for channel in (0, 1):
        assert np.corrcoef(delivered[channel], expected[channel])[0, 1] > 0.99
    assert abs(np.corrcoef(delivered[0], expected[1])[0, 1]) < 0.1


@pytest.mark.parametrize("draft", [True, False])
def test_a_voice_of_eight_channels_is_delivered_with_all_of_them(
    studio: Studio, served: FileServer, draft: bool
) -> None:
    (served.folder / "eight.flac").write_bytes(plain("flac", channels=8))
    result = run(studio, small(served, wav_url=served.url("eight.flac"), draft=draft))
    with av.open(io.BytesIO(video_bytes(result)), "r") as file:
        assert file.streams.audio[0].channels == 8


def test_what_a_voice_has_lost_is_told_in_the_result(studio: Studio, served: FileServer) -> None:
    (served.folder / "half.mp3").write_bytes(half(plain("mp3")))
    result = run(studio, small(served, wav_url=served.url("half.mp3")))
    assert result["warnings"] == [
        "wav_url: the file is not whole: 1.0 s of the 2.0 s of sound that it tells of are there"
    ]


def history(studio: Studio) -> set[str]:
    with studio.comfy("unused", lambda: None) as turn:
        return set(requests.get(f"{turn.client.url}/history", timeout=LAST_RESORT_SECONDS).json())


def loaders_of(studio: Studio, client: ComfyClient) -> Graph:
    schemas = studio.schemas(client)
    return loaders_only(to_api(load_template("infinitetalk_i2v"), schemas), schemas)


def samples(path: Path) -> np.ndarray[Any, Any]:
    """[channels, samples] of the file's sound at its own rate."""
    with av.open(str(path), "r") as file:
        resampler = av.AudioResampler("fltp", "stereo")
        blocks = [b for frame in file.decode(audio=0) for b in resampler.resample(frame)]
    return np.concatenate([block.to_ndarray() for block in blocks], axis=1)


def test_a_box_outside_of_the_picture_is_told_before_anything_is_queued(
    studio: Studio, served: FileServer
) -> None:
    boxes = [[0, 0, 200, 500], [600, 0, 700, 500]]
    voice = served.url("voice.wav")
    speakers = [{"audio_url": voice, "box": box} for box in boxes]
    result = run(studio, {"image_url": served.url("portrait.jpg"), "speakers": speakers})
    assert result["error_code"] == "media_invalid"
    assert (
        "speakers.1.box: lies outside of the picture, which has 512x512 pixels" in result["error"]
    )


def test_the_templates_lint_clean_on_the_live_server(studio: Studio, client: ComfyClient) -> None:
    files = sorted(str(path) for path in (PROJECT_DIR / "workflows").glob("*.json"))
    result = CliRunner().invoke(app, ["lint", *files, "--server", client.url])
    assert result.exit_code == 0, result.output
