"""RunPod ends a worker in the middle of a job: SIGTERM, and 10 s later SIGKILL."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from talkinghead.settings import PROJECT_DIR
from tests.conftest import FileServer
from tests.contract.conftest import environment_of

RUNPOD_SECONDS = 10


class RunPod:
    """Gives one job to a worker, as RunPod's API does, and takes what it posts."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.jobs = [job]
        self.posted: list[dict[str, Any]] = []
        runpod = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if "/job-take/" in self.path and runpod.jobs:
                    self._answer(200, runpod.jobs.pop())
                elif "/ping" in self.path:
                    self._answer(200, {})
                else:
                    time.sleep(20)  # a long poll
                    self._answer(204)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                runpod.posted.append(json.loads(body))
                self._answer(200, {})

            def _answer(self, status: int, content: dict[str, Any] | None = None) -> None:
                body = b"" if content is None else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Requests are not part of a test's output."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{self._server.server_port}"
        self.environment = {
            "RUNPOD_WEBHOOK_GET_JOB": f"{url}/v2/me/job-take/$ID?gpu=none",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{url}/v2/me/job-done/$RUNPOD_POD_ID/$ID?gpu=none",
            "RUNPOD_WEBHOOK_PING": f"{url}/v2/me/ping/$RUNPOD_POD_ID",
            "RUNPOD_POD_ID": "pod",
            "RUNPOD_AI_API_KEY": "key",
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
            "RUNPOD_SKIP_GPU_CHECK": "true",
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def slow_job(files: FileServer, portrait: Path, voice: Path) -> dict[str, Any]:
    (files.folder / "portrait.jpg").write_bytes(portrait.read_bytes())
    (files.folder / "voice.wav").write_bytes(voice.read_bytes())
    urls = {"image_url": files.url("portrait.jpg"), "wav_url": files.url("voice.wav")}
    return {"id": "job-1", "input": urls | {"steps": 50, "scheduler": "unipc"}}


@contextlib.contextmanager
def worker(
    folder: Path, environment: dict[str, str], *arguments: str
) -> Iterator[subprocess.Popen[bytes]]:
    """handler.py, whose renders take a minute, in its own temporary folder."""
    (folder / "tmp").mkdir()
    (folder / "control.json").write_text('{"step_seconds": 1.0}')
    more = {"DOUBLES_CONTROL": str(folder / "control.json"), "TMPDIR": str(folder / "tmp")}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "handler.py", *arguments],
            cwd=PROJECT_DIR,
            env=os.environ | environment_of(folder) | more | environment,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()  # not kill: ComfyUI, and the SDK's own child, would stay
        process.wait(2 * RUNPOD_SECONDS)


def wait_until(true: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def comfyuis(folder: Path) -> list[int]:
    """The processes of a worker's ComfyUI, whose folders are below `folder`."""
    paths = list(Path("/proc").glob("[0-9]*/cmdline"))
    return [int(p.parent.name) for p in paths if str(folder / "work") in _command_line(p)]


def _command_line(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def is_rendering(folder: Path) -> bool:
    return "name=patch" in (folder / "log").read_text()


def end(process: subprocess.Popen[bytes], folder: Path) -> None:
    """SIGTERM in the middle of a render: all is gone before RunPod would lose its patience."""
    wait_until(lambda: is_rendering(folder))
    time.sleep(1)
    assert comfyuis(folder) and temporary(folder)
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(RUNPOD_SECONDS) == 0
    print("ended after", round(time.monotonic() - start, 2), "s")
    assert comfyuis(folder) == []
    assert temporary(folder) == []
    assert list((folder / "work").iterdir()) == []


def temporary(folder: Path) -> list[Path]:
    """The folders of jobs."""
    return list((folder / "tmp").glob("talkinghead-*"))


def test_a_worker_of_runpod_leaves_nothing_and_gives_the_job_back(
    tmp_path: Path, slow_job: dict[str, Any]
) -> None:
    runpod = RunPod(slow_job)
    with worker(tmp_path, runpod.environment) as process:
        end(process, tmp_path)
    runpod.close()
    assert {body["status"] for body in runpod.posted} == {"IN_PROGRESS"}, "no result, no failure"


def test_a_comfyui_that_does_not_hear_keeps_nobody(
    tmp_path: Path, slow_job: dict[str, Any]
) -> None:
    """The render hangs in a node, and ComfyUI is stopped: only SIGKILL ends it."""
    with worker(tmp_path, {}, "--test_input", json.dumps(slow_job)) as process:
        wait_until(lambda: is_rendering(tmp_path))
        for number in comfyuis(tmp_path):
            os.kill(number, signal.SIGSTOP)
        end(process, tmp_path)
