"""What the doctor says of a host, as far as no ComfyUI is needed; the rest is in tests/comfy."""

from __future__ import annotations

import http.server
import importlib.metadata
import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from talkinghead.cli.app import app
from talkinghead.comfy.studio import Studio
from talkinghead.delivery.stores import Stores
from talkinghead.doctor import Unfit, ensure_fit, examine
from talkinghead.errors import DeliveryFailed
from talkinghead.plan.request import parse_request
from talkinghead.settings import PROJECT_DIR, Settings
from tests.store import S3Server

NO_SERVER = "http://127.0.0.1:9"
URLS = {"image_url": "http://a/a.png", "wav_url": "http://a/a.wav"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without ComfyUI, models and GPU."""
    monkeypatch.setenv("COMFYUI_DIR", str(tmp_path / "comfy"))
    monkeypatch.setenv("WORK_DIR", str(tmp_path))
    monkeypatch.setenv("COMFYUI_CPU", "1")


def states(settings: Settings) -> dict[str, str]:
    return {each.name: f"{each.state}: {each.message}" for each in examine(Studio(settings))}


def test_a_host_without_gpu_needs_no_models() -> None:
    found = states(Settings())
    assert found["GPU"].startswith("skipped: none here: only drafts")
    assert found["model files"] == "skipped: drafts need none"
    assert found["disk"].startswith("ok: ")


def test_missing_models_are_named_with_what_to_do() -> None:
    found = states(Settings(model_profile="fp8"))["model files"]
    assert found.startswith("failed: missing or damaged: Wan2_1-I2V-14B-480p_fp8")
    assert "FETCH_MODELS=true, or run `talkinghead models fetch`" in found


def test_a_volume_that_cannot_take_a_video_is_told_before_the_render(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "talkinghead").write_text("no folder")
    settings = Settings(volume_dir=tmp_path / "volume")
    assert states(settings)["storage"].startswith("warning: the volume at ")
    request = parse_request({**URLS, "delivery": "volume"})
    with pytest.raises(DeliveryFailed, match=r"the volume at .* cannot be written"):
        Stores(settings).choose(request)
    assert Stores(settings).choose(parse_request(URLS))


def test_a_volume_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    found = states(Settings(volume_dir=tmp_path / "volume"))["storage"]
    assert found == f"ok: the volume at {tmp_path}/volume can be written"
    assert list((tmp_path / "volume").rglob("*")) == [tmp_path / "volume" / "talkinghead"]


def test_a_gpu_that_does_not_answer_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert states(Settings(comfyui_cpu=False))["GPU"].startswith("failed: nvidia-smi")


def test_a_comfyui_that_is_not_there_is_a_fault() -> None:
    assert states(Settings())["ComfyUI"].startswith("failed: there is no ComfyUI in")
    found = states(Settings(comfyui_url=NO_SERVER))
    assert found["ComfyUI"].startswith("failed: ")
    assert found["model files"].startswith("skipped: those of the server")


def test_a_bucket_is_written_and_left_as_it_was(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    assert states(Settings())["storage"] == "ok: the bucket videos can be written"
    listed = s3.client().list_objects_v2(Bucket="videos", Prefix="doctor/")
    assert listed["KeyCount"] == 0


def test_a_bucket_that_cannot_be_written_is_a_fault(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (s3.environment | {"S3_SECRET": "another"}).items():
        monkeypatch.setenv(name, value)
    found = states(Settings())["storage"]
    assert found.startswith("failed: the bucket videos cannot be written: ")
    assert "another" not in found


def test_a_worker_that_is_not_fit_says_everything_that_is_missing() -> None:
    settings = Settings(comfyui_cpu=False, model_profile="fp8")
    with pytest.raises(Unfit, match=r"GPU: nvidia-smi .*; ComfyUI: there is no ComfyUI"):
        ensure_fit(Studio(settings))


def test_a_worker_whose_models_cannot_be_fetched_says_it_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "comfy").mkdir()
    (tmp_path / "comfy" / "main.py").write_text("import time; time.sleep(60)")
    env = {**os.environ, "MODEL_PROFILE": "fp8", "FETCH_MODELS": "true", "HF_ENDPOINT": NO_SERVER}
    command = [sys.executable, "handler.py"]
    done = subprocess.run(
        command, cwd=PROJECT_DIR, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "thrown while requesting" not in done.stderr
    assert re.search(r"^the worker cannot start: .* cannot be fetched from", done.stderr, re.M)


def test_the_command_shows_a_table_and_fails() -> None:
    result = CliRunner().invoke(app, ["doctor"], env={"COMFYUI_URL": NO_SERVER})
    assert result.exit_code == 1
    assert "ComfyUI" in result.output and "failed" in result.output


def test_the_command_does_not_fetch_the_models_before_it_tells(tmp_path: Path) -> None:
    """docker-compose.yml has FETCH_MODELS, and the doctor is asked there of a new host."""
    (tmp_path / "comfy").mkdir()
    (tmp_path / "comfy" / "main.py").write_text("raise SystemExit('no ComfyUI')")
    env = {"MODEL_PROFILE": "fp8", "FETCH_MODELS": "true", "HF_ENDPOINT": NO_SERVER}
    said = CliRunner().invoke(app, ["doctor"], env=env).output
    assert "model files" in said and "missing or damaged" in " ".join(said.split())


def test_the_command_tells_of_settings_that_are_wrong() -> None:
    result = CliRunner().invoke(app, ["doctor"], env={"MODEL_PROFILE": "fp99"})
    assert result.exit_code == 1
    assert "'fp99', allowed: auto, gguf-q4" in " ".join(result.output.split())


# --- what runs, and with what -------------------------------------------------------------------


def python_with(path: Path, says: str) -> Path:
    """Stands for ComfyUI's Python: prints a version, or fails."""
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        ("echo 4.57.6", "ok: 4.57.6"),
        ("echo 5.0.0.dev0", "failed: 5.0.0.dev0, with which MultiTalkWav2VecEmbeds fails: "),
        ("exit 1", "skipped: ComfyUI's Python does not tell"),
    ],
)
def test_transformers_is_that_of_comfyuis_python(tmp_path: Path, says: str, expected: str) -> None:
    python = python_with(tmp_path / "python", says)
    found = states(Settings(comfyui_python=python, model_profile="fp8"))["transformers"]
    assert found.startswith(expected)
    if "failed" in found:
        assert found.endswith(f"`pip install 'transformers<5'` for {python}")


def test_without_a_python_of_its_own_transformers_is_that_of_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"6.1 of {name}")
    found = states(Settings(model_profile="fp8"))["transformers"]
    assert found.startswith("failed: 6.1 of transformers, with")


def test_a_host_that_renders_drafts_alone_is_only_warned_of_transformers(tmp_path: Path) -> None:
    python = python_with(tmp_path / "python", "echo 5.1.0")
    assert states(Settings(comfyui_python=python))["transformers"].startswith("warning: 5.1.0, ")


def test_of_a_server_elsewhere_transformers_is_not_known() -> None:
    assert states(Settings(comfyui_url=NO_SERVER))["transformers"].startswith("skipped: ")


@pytest.fixture
def foreign() -> Iterator[tuple[str, dict[str, Any]]]:
    """A ComfyUI that somebody else runs: its URL, and what it tells as `system`."""
    system: dict[str, Any] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stats = {"system": system, "devices": []}
            body = json.dumps(stats if self.path == "/system_stats" else {}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not part of a test's output."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", system
    server.shutdown()
    server.server_close()


def test_a_server_that_keeps_frames_is_warned_of(foreign: tuple[str, dict[str, Any]]) -> None:
    url, system = foreign
    system |= {"comfyui_version": "0.33.0", "argv": ["main.py"]}
    found = states(Settings(comfyui_url=url))
    assert found["ComfyUI"] == "ok: 0.33.0 with 0 node classes"
    assert found["cache"].startswith("warning: the server at COMFYUI_URL keeps the frames")
    assert found["cache"].endswith("start it with --cache-classic")
    system["argv"] = ["main.py", "--cache-classic"]
    assert states(Settings(comfyui_url=url))["cache"].startswith("ok: ")


def test_a_worker_logs_what_it_is_warned_of(
    foreign: tuple[str, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    url, system = foreign
    system |= {"comfyui_version": "0.33.0", "argv": ["main.py"]}
    with caplog.at_level(logging.WARNING), pytest.raises(Unfit, match="workflow ") as caught:
        ensure_fit(Studio(Settings(comfyui_url=url)))
    assert "cache: the server at COMFYUI_URL keeps the frames" in caplog.text
    assert "cache" not in str(caught.value)
