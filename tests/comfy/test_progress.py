"""What is told of real runs, on the doubles; and what RunPod gets of it."""

from __future__ import annotations

import http.server
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from comfy_client import ComfyClient
from talkinghead.comfy.studio import Studio
from talkinghead.render.job import Job
from talkinghead.render.progress import STAGES, Progress
from talkinghead.render.run import run_job
from talkinghead.settings import PROJECT_DIR
from tests.conftest import FileServer, write_pan, write_tone
from tests.timing import LAST_RESORT_SECONDS

pytestmark = pytest.mark.usefixtures("all_events")
WINDOWS, STEPS = 5, 4
EACH_STEP_IS_TOLD_SECONDS = 0.2  # ComfyUI leaves out progress that comes within 0.1 s
FRAMES = 81 + 72 * (WINDOWS - 1)


@dataclass
class Seen:
    """What a job reported, and when: seconds of the monotonic clock."""

    reports: list[tuple[float, Progress]] = field(default_factory=list)

    def __call__(self, progress: Progress) -> None:
        self.reports.append((time.monotonic(), progress))

    @property
    def percents(self) -> list[float]:
        return [progress.percent for _, progress in self.reports]

    @property
    def sampled(self) -> list[tuple[float, Progress]]:
        return [each for each in self.reports if each[1].window is not None]


@pytest.fixture
def served(files: FileServer, portrait: Path) -> FileServer:
    (files.folder / "portrait.jpg").write_bytes(portrait.read_bytes())
    write_tone(files.folder / "voice.wav", seconds=FRAMES / 25)
    return files


def request(served: FileServer, **fields: Any) -> dict[str, Any]:
    return {
        "image_url": served.url("portrait.jpg"),
        "wav_url": served.url("voice.wav"),
        "width": 256,
        "height": 256,
        "seed": 7,
    } | fields


def test_a_render_tells_windows_and_steps_a_rising_percentage_and_when_it_will_be_done(
    studio: Studio, served: FileServer, control: Callable[..., None]
) -> None:
    control(step_seconds=0.2)
    seen = Seen()
    result = run_job(Job("progress", request(served), report=seen), studio)
    assert result["status"] == "completed", result
    assert result["generation_params"]["windows"] == WINDOWS

    assert seen.percents == sorted(seen.percents)
    assert (seen.percents[0], seen.percents[-1]) == (0, 100)
    steps = [(told.window, told.step) for _, told in seen.sampled]
    assert steps == [(w + 1, s + 1) for w in range(WINDOWS) for s in range(STEPS)]
    assert {(told.windows, told.steps) for _, told in seen.sampled} == {(WINDOWS, STEPS)}

    assert all(told.eta_seconds is None for _, told in seen.sampled[: STEPS - 1])
    (first, _), (second, told), *_ = [each for each in seen.sampled if each[1].step == STEPS]
    left = (WINDOWS - 2) * (second - first)  # if the others take as long as the second window
    assert told.eta_seconds is not None
    assert 0.75 * left < told.eta_seconds < 1.25 * (left + second - first)


def test_a_render_from_a_video_counts_the_steps_that_are_left_of_each_window(
    studio: Studio, served: FileServer, portrait: Path, control: Callable[..., None]
) -> None:
    control(step_seconds=EACH_STEP_IS_TOLD_SECONDS)
    write_pan(served.folder / "pan.mp4", portrait)
    fields = request(served, video_url=served.url("pan.mp4"), video_method="denoise")
    del fields["image_url"]
    seen = Seen()
    result = run_job(Job("progress", fields | {"max_frame": 153}, report=seen), studio)
    assert result["status"] == "completed", result
    steps = [(told.window, told.step, told.windows) for _, told in seen.sampled]
    assert steps == [(1, 1, 2), (1, 2, 2), (2, 1, 2), (2, 2, 2)]


def test_a_draft_tells_its_frames_and_a_rising_percentage(
    studio: Studio, served: FileServer
) -> None:
    seen = Seen()
    fields = request(served, draft=True, max_frame=50)
    assert run_job(Job("draft", fields, report=seen), studio)["status"] == "completed"
    assert seen.percents == sorted(seen.percents)
    assert (seen.percents[0], seen.percents[-1]) == (0, 100)
    assert "draft: frame 50 of 50" in [told.message for _, told in seen.reports]


def test_a_render_that_is_done_again_tells_it_by_starting_again(
    studio: Studio, served: FileServer, control: Callable[..., None]
) -> None:
    control(WanVideoSampler={"action": "oom", "times": 1, "at_step": STEPS})
    seen = Seen()
    result = run_job(Job("again", request(served), report=seen), studio)
    assert result["status"] == "completed", result
    stages = [told.stage for _, told in seen.reports]
    assert stages.count("start") == 2
    assert seen.percents == sorted(seen.percents)
    assert seen.percents[-1] == 100


def test_the_percentage_of_a_chain_never_falls_at_a_window_or_when_comfyui_dies(
    studio: Studio, served: FileServer, control: Callable[..., None]
) -> None:
    control(
        step_seconds=EACH_STEP_IS_TOLD_SECONDS,
        WanVideoSampler={"action": "kill", "times": 1, "after": 2, "at_step": 2},
    )
    seen = Seen()
    result = run_job(Job("chain", request(served, long=True), report=seen), studio)
    assert result["status"] == "completed", result
    assert [told.stage for _, told in seen.reports].count("start") == 2
    assert seen.percents == sorted(seen.percents)
    assert {told.step for _, told in seen.sampled} <= {None, *range(1, STEPS + 1)}
    assert all(told.eta_seconds for _, told in seen.sampled if told.window in (3, 4))


@pytest.fixture
def runpod() -> Iterator[tuple[str, list[tuple[float, dict[str, Any]]]]]:
    """Stands for RunPod where results and updates go: its URL, and what came when."""
    came: list[tuple[float, dict[str, Any]]] = []

    class Recorder(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            came.append((time.monotonic(), json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not part of a test's output."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/$RUNPOD_POD_ID/$ID?gpu=none", came
    server.shutdown()
    server.server_close()


def handle_one(client: ComfyClient, fields: dict[str, Any], **environment: str) -> str:
    """One job by handler.py, as `--test_input` starts it; its log."""
    worker = subprocess.run(
        [sys.executable, "handler.py", "--test_input", json.dumps({"input": fields})],
        cwd=PROJECT_DIR,
        env=os.environ | {"COMFYUI_URL": client.url, "ALLOW_PRIVATE_URLS": "true"} | environment,
        capture_output=True,
        text=True,
        timeout=LAST_RESORT_SECONDS,
        check=False,
    )
    assert worker.returncode == 0, worker.stdout + worker.stderr
    return worker.stderr


def test_runpod_gets_updates_in_their_order_and_not_more_than_one_a_second(
    client: ComfyClient,
    served: FileServer,
    control: Callable[..., None],
    runpod: tuple[str, list[tuple[float, dict[str, Any]]]],
) -> None:
    control(step_seconds=0.25)
    url, came = runpod
    log = handle_one(client, request(served), RUNPOD_WEBHOOK_POST_OUTPUT=url, LOG_FORMAT="json")
    assert {body["status"] for _, body in came} == {"IN_PROGRESS"}
    payloads = [body["output"] for _, body in came]
    percents = [payload["percent"] for payload in payloads]
    assert percents == sorted(percents) and len(payloads) >= 4
    assert set(payloads[0]) == {"stage", "percent", "message", "window", "windows", "eta_seconds"}
    assert {payload["stage"] for payload in payloads} <= set(STAGES)
    assert any(payload["windows"] == WINDOWS and payload["eta_seconds"] for payload in payloads)
    times = [at for at, _ in came]
    assert all(after - before > 0.9 for before, after in itertools.pairwise(times))

    told = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert [each["event"] for each in told][:1] == ["job started"]
    assert told[-1]["event"] == "job completed" and told[-1]["job_id"]
    ended = [each["name"] for each in told if each["event"] == "stage ended"]
    assert ended == ["fetch", "prepare", "start", "patch", "render", "collect", "deliver"]


def test_a_runpod_that_does_not_answer_does_not_hurt_the_job(
    client: ComfyClient, served: FileServer
) -> None:
    fields = request(served, draft=True, max_frame=10)
    log = handle_one(client, fields, RUNPOD_WEBHOOK_POST_OUTPUT="http://127.0.0.1:9/x?gpu=none")
    assert " job=local_test job completed: " in log
