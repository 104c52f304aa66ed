"""Long renders, window by window, on a real ComfyUI with the doubles."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
import requests

from talkinghead.comfy.studio import Studio
from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.models.gpu import Tuning
from talkinghead.models.manifest import load_manifest
from talkinghead.models.speedups import Speedups
from talkinghead.plan.pace import Pace
from talkinghead.plan.plan import make_plan
from talkinghead.plan.request import parse_request
from talkinghead.render import chain as render_chain
from talkinghead.render import long as long_render
from talkinghead.render.execute import Prompt
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.render.run import run_job
from talkinghead.settings import Settings
from tests.conftest import FileServer, write_pan, write_tone
from tests.store import BUCKET, S3Server
from tests.timing import LAST_RESORT_SECONDS

SECONDS = 9.0  # 225 frames: three windows
SIZE = {"width": 256, "height": 256}


@pytest.fixture
def long_job(files: FileServer, portrait: Path) -> dict[str, Any]:
    (files.folder / "portrait.jpg").write_bytes(portrait.read_bytes())
    write_tone(files.folder / "a.wav", seconds=SECONDS, rate=48_000, channels=2)
    write_tone(files.folder / "b.wav", seconds=SECONDS - 2, hz=500)
    write_pan(files.folder / "v.mp4", portrait, seconds=4)
    urls = {"image_url": files.url("portrait.jpg"), "wav_url": files.url("a.wav")}
    return urls | SIZE | {"long": True, "seed": 7}


def finished(job: dict[str, Any], studio: Studio, folder: Path) -> tuple[dict[str, Any], Path]:
    result = run_job(Job("long", job), studio)
    assert result.get("status") == "completed", result
    video = folder / "video.mp4"
    video.write_bytes(base64.b64decode(result["video"].partition(",")[2]))
    return result, video


def frames_of(video: Path) -> npt.NDArray[np.uint8]:
    with av.open(str(video), "r") as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def test_a_long_render_is_exact_and_says_which_way_it_ran(
    long_job: dict[str, Any], studio: Studio, tmp_path: Path
) -> None:
    result, video = finished(long_job, studio, tmp_path)
    info = result["video_info"]
    assert (info["width"], info["height"], info["fps"]) == (256, 256, 25)
    assert (info["frames"], info["duration_seconds"]) == (225, 9.0)
    assert result["generation_params"]["windows"] == 3
    assert result["generation_params"]["way"] == "chain"
    assert len(frames_of(video)) == 225
    with av.open(str(video), "r") as file:
        times = [frame.time for frame in file.decode(video=0)]
    assert times == pytest.approx([number / 25 for number in range(225)])


def test_the_chain_shows_what_one_prompt_shows(
    long_job: dict[str, Any], studio: Studio, tmp_path: Path
) -> None:
    _, chained = finished(long_job, studio, tmp_path)
    chain = frames_of(chained)
    result, whole = finished(long_job | {"long": False}, studio, tmp_path)
    assert result["generation_params"]["way"] == "prompt"
    one = frames_of(whole)
    lower = slice(64, None)  # below the doubles' bar, whose colour is that of the seed
    apart = np.abs(chain[:, lower].astype(int) - one[:, lower]).mean(axis=(1, 2, 3))
    assert apart.max() < 2
    assert np.ptp(one[:, lower].mean(axis=(1, 2, 3))) > 0.2  # the mouth moves


def test_a_chain_with_all_that_renders_quicker_shows_the_same(
    long_job: dict[str, Any], studio: Studio, tmp_path: Path
) -> None:
    """The doubles compute the same whatever is switched on: what is asked is whether it runs."""
    _, plain = finished(long_job, studio, tmp_path)
    before = frames_of(plain)
    profile = load_manifest().profile("fp8-distill")
    speedups = Speedups(
        "fp16_fast", True, torch_compile=True, step_cache="magcache", light_vae=True
    )
    studio.profile = Tuning("", "sageattn", 0, True, speedups=speedups).apply(profile)
    result, quick = finished(long_job, studio, tmp_path)
    assert result["generation_params"]["windows"] == 3
    assert np.abs(frames_of(quick).astype(int) - before).mean((1, 2, 3)).max() < 1
    _, slow = finished(long_job | {"use_speed_lora": False, "steps": 12}, studio, tmp_path)
    assert np.abs(frames_of(slow).astype(int) - before).mean((1, 2, 3)).max() < 1


@pytest.mark.parametrize(
    ("fields", "fps"),
    [
        ({"fps": 30}, 30),
        ({"fps": 12.5}, 12.5),
        ({"speakers": ["a.wav", "b.wav"]}, 25),
        ({"video": True}, 25),
        ({"color_match": True}, 25),
        ({"max_audio_duration": 2.0}, 25),
        ({"width": 262, "height": 270}, 25),
    ],
    ids=["30 fps", "12.5 fps", "two speakers", "keyframes", "colours", "one window", "crop"],
)
def test_every_form_of_a_long_render_has_its_length(
    fields: dict[str, Any], fps: float, long_job: dict[str, Any], studio: Studio, tmp_path: Path
) -> None:
    job = long_job | fields
    if job.pop("video", False):
        job["video_url"] = job.pop("image_url").replace("portrait.jpg", "v.mp4")
    if "speakers" in fields:
        voice = job.pop("wav_url")
        names = fields["speakers"]
        job["speakers"] = [{"audio_url": voice.replace("a.wav", name)} for name in names]
    seconds = fields.get("max_audio_duration", SECONDS)
    result, video = finished(job, studio, tmp_path)
    info = result["video_info"]
    assert (info["width"], info["height"]) == (job["width"], job["height"])
    assert info["fps"] == fps
    assert len(frames_of(video)) == info["frames"] == -(-seconds * fps // 1)
    assert info["duration_seconds"] == pytest.approx(seconds, abs=1 / fps)


def test_progress_counts_the_windows(long_job: dict[str, Any], studio: Studio) -> None:
    seen: list[Progress] = []
    run_job(Job("long", long_job, report=seen.append), studio)
    windows = [each.window for each in seen if each.window]
    assert windows == sorted(windows)
    assert set(windows) == {1, 2, 3}
    assert {each.windows for each in seen if each.window} == {3}
    percents = [each.percent for each in seen]
    assert percents == sorted(percents)


def test_nothing_of_a_long_job_is_left_on_comfyui(
    long_job: dict[str, Any], studio: Studio, settings: Settings
) -> None:
    run_job(Job("long", long_job), studio)
    with studio.comfy("unused", lambda: None):
        left = [path for path in settings.work_dir.rglob("*") if "long-" in path.name]
    assert left == []


def test_a_comfyui_that_dies_costs_one_window(
    long_job: dict[str, Any],
    studio: Studio,
    tmp_path: Path,
    control: Callable[..., None],
) -> None:
    control(WanVideoSampler={"action": "exit", "times": 1, "at_step": 2})
    result, _ = finished(long_job, studio, tmp_path)
    assert "and window 1 rendered twice" in " ".join(result["warnings"])
    assert result["video_info"]["frames"] == 225


def test_a_window_without_memory_is_rendered_with_less(
    long_job: dict[str, Any], studio: Studio, tmp_path: Path, control: Callable[..., None]
) -> None:
    control(WanVideoSampler={"action": "oom", "times": 2})
    result, _ = finished(long_job, studio, tmp_path)
    told = " ".join(result["warnings"])
    assert "ran out of memory in window 1; from there on rendered with 20 blocks swapped" in told
    assert result["generation_params"]["blocks_to_swap"] == 20


def test_a_job_goes_on_after_the_last_window_of_the_one_that_failed(
    long_job: dict[str, Any], on_s3: Studio, s3: S3Server, control: Callable[..., None]
) -> None:
    job = long_job | {"request_id": "resumed"}
    del job["seed"]
    fail_in_window(2, control)
    failed = run_job(Job("first", job), on_s3)
    assert failed["error_code"] == "render_failed"
    assert "2 of 3 windows are kept" in failed["error"]
    assert failed["details"]["windows_done"] == 2
    control()
    seen: list[Progress] = []
    result = run_job(Job("second", job, report=seen.append), on_s3)
    assert result["status"] == "completed"
    assert {each.window for each in seen if each.window} == {3}
    assert "2 of 3 windows were rendered by an earlier job" in result["warnings"]
    assert result["video_info"]["frames"] == 225
    names = [key.rpartition("/")[2] for key in s3.keys("resumed/")]
    assert names == ["result.json", "talkinghead.mp4"]


def test_what_was_left_behind_after_delivery_goes_with_the_next_try(
    long_job: dict[str, Any], on_s3: Studio, s3: S3Server, control: Callable[..., None]
) -> None:
    job = long_job | {"request_id": "littered"}
    fail_in_window(1, control)
    run_job(Job("first", job), on_s3)
    left = s3.keys("littered/")
    kept = {key: s3.client().get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in left}
    control()
    run_job(Job("second", job), on_s3)
    for key, content in kept.items():
        s3.client().put_object(Bucket=BUCKET, Key=key, Body=content)
    run_job(Job("third", job), on_s3)
    assert left
    names = [key.rpartition("/")[2] for key in s3.keys("littered/")]
    assert names == ["result.json", "talkinghead.mp4"]


def test_a_job_that_was_interrupted_gives_the_frames_of_one_that_was_not(
    long_job: dict[str, Any], on_s3: Studio, control: Callable[..., None], tmp_path: Path
) -> None:
    whole = fetched(run_job(Job("whole", long_job), on_s3), tmp_path / "whole.mp4")
    job = long_job | {"request_id": "parts"}
    for window in (1, 2):
        fail_in_window(1, control)
        assert run_job(Job("part", job), on_s3)["details"]["windows_done"] == window
    control()
    parts = fetched(run_job(Job("part", job), on_s3), tmp_path / "parts.mp4")
    assert np.array_equal(frames_of(whole), frames_of(parts))


def test_what_another_request_left_under_the_id_is_refused(
    long_job: dict[str, Any], on_s3: Studio, control: Callable[..., None]
) -> None:
    job = long_job | {"request_id": "taken"}
    fail_in_window(1, control)
    run_job(Job("first", job), on_s3)
    control()
    other = run_job(Job("second", job | {"prompt": "another"}), on_s3)
    assert other["error_code"] == "checkpoint_refused"
    assert "1 of 3 windows" in other["error"]
    assert "another plan" in other["error"]
    assert "talkinghead checkpoints remove taken" in other["error"]
    assert run_job(Job("third", job), on_s3)["status"] == "completed"


def test_a_job_that_may_be_continued_stops_in_time(
    long_job: dict[str, Any], on_s3: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = long_job | {"request_id": "later", "continue_later": True}
    monkeypatch.setattr(long_render, "SPARE_SECONDS", LAST_RESORT_SECONDS)
    results = [run_job(Job("part", job), on_s3) for _ in range(3)]
    assert [each["status"] for each in results] == ["incomplete", "incomplete", "completed"]
    assert [each.get("windows_done") for each in results] == [1, 2, None]
    assert results[0]["request_id"] == "later"


def test_the_playlist_shows_the_windows_that_are_done(
    long_job: dict[str, Any], on_s3: Studio, s3: S3Server, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    job = long_job | {"request_id": "watched", "playlist": True}
    result = run_job(Job("watched", job, report=seen.append), on_s3)
    assert result["status"] == "completed"
    urls = {each.playlist_url for each in seen if each.stage == "render" and each.window}
    assert len(urls) == 1
    text = requests.get(urls.pop() or "", timeout=LAST_RESORT_SECONDS).text
    assert text.count("#EXTINF") == 3
    assert text.rstrip().endswith("#EXT-X-ENDLIST")
    init = text.partition('URI="')[2].partition('"')[0]
    pieces = [init, *(line for line in text.splitlines() if line and not line.startswith("#"))]
    film = tmp_path / "film.mp4"
    film.write_bytes(
        b"".join(requests.get(url, timeout=LAST_RESORT_SECONDS).content for url in pieces)
    )
    assert len(frames_of(film)) == 225


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"playlist": True}, "playlist"), ({"continue_later": True}, "continue_later")],
)
def test_without_a_place_to_keep_windows_what_needs_it_is_refused(
    fields: dict[str, Any], field: str, long_job: dict[str, Any], studio: Studio
) -> None:
    refused = run_job(Job("refused", long_job | fields), studio)
    assert refused["error_code"] == "invalid_request"
    assert refused["error"].startswith(field)


def test_a_dry_run_renders_nothing_and_tells_what_it_would_take(
    long_job: dict[str, Any], studio: Studio
) -> None:
    seen: list[Progress] = []
    job = long_job | {"dry_run": True, "price_per_hour": 2.0}
    result = run_job(Job("dry", job, report=seen.append), studio)
    assert result["status"] == "estimated"
    assert result["estimate"]["way"] == "chain"
    assert result["estimate"]["windows"] == 3
    assert {each.stage for each in seen} == {"fetch", "prepare"}


def test_a_job_that_surely_takes_too_long_is_refused_before_the_first_window(
    long_job: dict[str, Any], studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    voice = Sound(SECONDS, 48_000, 2, False)
    plan = make_plan(parse_request(long_job), [voice], Picture(512, 512))
    monkeypatch.setattr(studio, "pace", Pace())
    for _ in range(3):
        studio.pace.saw(plan, LAST_RESORT_SECONDS)
    refused = run_job(Job("refused", long_job | {"request_id": "long"}), studio)
    assert refused["error_code"] == "deadline_exceeded"
    assert "3 windows take about" in refused["error"]
    assert "JOB_TIMEOUT_SECONDS" in refused["error"]
    assert refused["stage"] in ("fetch", "prepare")


def fail_in_window(done: int, control: Callable[..., None]) -> None:
    """Have the sampler raise after so many windows of the next job are done."""
    control(WanVideoSampler={"action": "raise", "after": done})


def fetched(result: dict[str, Any], target: Path) -> Path:
    assert result.get("status") == "completed", result
    target.write_bytes(requests.get(result["video_url"], timeout=LAST_RESORT_SECONDS).content)
    return target


def test_each_window_is_rendered_by_the_prompt_of_its_beginning(
    long_job: dict[str, Any], studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[set[str]] = []
    patched = render_chain._patched

    def read(*given: Any) -> Prompt:
        prompt = patched(*given)
        inputs = [node["inputs"] for node in prompt.graph.values()]
        texts.append({each["text"] for each in inputs if isinstance(each.get("text"), str)})
        return prompt

    monkeypatch.setattr(render_chain, "_patched", read)
    later = [{"at": 3, "text": "she laughs"}, {"at": 6, "text": "rain"}]
    del long_job["long"]
    result, _ = finished(long_job | {"prompts": later}, studio, tmp_path)
    same = set.intersection(*texts)  # the negative prompt
    assert [each - same for each in texts] == [
        {"A person talking naturally"},
        {"she laughs"},
        {"rain"},
    ]
    assert result["generation_params"]["prompts"] == later
