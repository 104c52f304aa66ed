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

from talkinghead.comfy.process import STOP_SECONDS
from talkinghead.settings import PROJECT_DIR
from talkinghead.worker import CANCEL_SECONDS, EXIT_SECONDS
from tests.conftest import FileServer
from tests.contract.conftest import environment_of
from tests.timing import LAST_RESORT_SECONDS, wait_until

RUNPOD_SECONDS = 10
IDLE_SECONDS = 3
# handler.py, which leaves work undone only after this: on a busy machine, all takes longer.
UNHURRIED = f"""
import runpy
from talkinghead import worker
worker.CANCEL_SECONDS = worker.EXIT_SECONDS = {LAST_RESORT_SECONDS}
runpy.run_path("handler.py", run_name="__main__")
"""


class RunPod:
    """Gives one job to a worker, as RunPod's API does, and takes what it posts."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.jobs = [job]
        self.posted: list[dict[str, Any]] = []
        self.polled: Callable[[], None] = lambda: None  # called at each poll for a job
        self._closed = threading.Event()
        self._answered = threading.Event()
        runpod = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if "/job-take/" in self.path:
                    self._take()
                elif "/ping" in self.path:
                    self._answer(200, {})
                else:
                    runpod._closed.wait(LAST_RESORT_SECONDS)  # a long poll
                    self._answer(204)

            def _take(self) -> None:
                runpod.polled()
                if not runpod.jobs:
                    runpod._answered.wait(LAST_RESORT_SECONDS)  # a long poll
                    runpod._answered.clear()
                if runpod.jobs:
                    self._answer(200, runpod.jobs.pop())
                else:
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

    def answer(self) -> None:
        """Answer the poll that is open: with a job, if there is one by now."""
        self._answered.set()

    def close(self) -> None:
        self._closed.set()
        self._answered.set()
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
    """handler.py, whose renders take a quarter of an hour, in its own temporary folder."""
    (folder / "tmp").mkdir()
    control = {"step_seconds": 20.0, "seeds_log": str(folder / "seeds")}
    (folder / "control.json").write_text(json.dumps(control))
    more = {"DOUBLES_CONTROL": str(folder / "control.json"), "TMPDIR": str(folder / "tmp")}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", UNHURRIED, *arguments],
            cwd=PROJECT_DIR,
            env=os.environ | environment_of(folder) | more | environment,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()  # not kill: ComfyUI, and the SDK's own child, would stay
        process.wait(LAST_RESORT_SECONDS)


def comfyuis(folder: Path) -> list[int]:
    """The processes of a worker's ComfyUI, whose folders are below `folder`."""
    paths = list(Path("/proc").glob("[0-9]*/cmdline"))
    return [int(p.parent.name) for p in paths if str(folder / "work") in _command_line(p)]


def _command_line(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def wait_for_the_sampler(process: subprocess.Popen[bytes], folder: Path) -> None:
    def samples() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        return (folder / "seeds").exists()

    wait_until(samples, "the sampler's beginning")


@contextlib.contextmanager
def slowness() -> Iterator[Callable[[], float]]:
    """How many seconds here, from now on, a second of work takes: 1 on a quiet machine."""
    start = time.monotonic()
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])

    def measured() -> float:
        seconds = time.monotonic() - start
        busy.kill()
        _, _, used = os.wait4(busy.pid, 0)
        return seconds / (used.ru_utime + used.ru_stime)

    try:
        yield measured
    finally:
        busy.kill()
        busy.wait()


def end(process: subprocess.Popen[bytes], folder: Path) -> None:
    """SIGTERM in the middle of a render: all is gone before RunPod would lose its patience."""
    assert comfyuis(folder) and temporary(folder)
    with slowness() as slowness_here:
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(LAST_RESORT_SECONDS) == 0
        seconds = time.monotonic() - start
        allowed = RUNPOD_SECONDS * max(1.0, slowness_here())
    print(f"ended after {seconds:.2f} s of {allowed:.2f} s")
    assert seconds < allowed
    assert comfyuis(folder) == []
    assert temporary(folder) == []
    assert list((folder / "work").iterdir()) == []


def temporary(folder: Path) -> list[Path]:
    """The folders of jobs."""
    return list((folder / "tmp").glob("talkinghead-*"))


def test_the_worker_gives_up_what_it_cannot_end_before_runpod_does() -> None:
    assert max(STOP_SECONDS, CANCEL_SECONDS, EXIT_SECONDS) < RUNPOD_SECONDS


def test_a_worker_of_runpod_leaves_nothing_and_gives_the_job_back(
    tmp_path: Path, slow_job: dict[str, Any]
) -> None:
    runpod = RunPod(slow_job)
    with worker(tmp_path, runpod.environment) as process:
        wait_for_the_sampler(process, tmp_path)
        wait_until(lambda: runpod.posted, "the worker's progress")
        end(process, tmp_path)
    runpod.close()
    assert {body["status"] for body in runpod.posted} == {"IN_PROGRESS"}, "no result, no failure"


def test_an_idle_worker_ends_at_once_and_leaves_the_job_that_comes_meanwhile(
    tmp_path: Path, slow_job: dict[str, Any]
) -> None:
    """It has had no job yet; its open poll would bring one."""
    runpod = RunPod(slow_job)
    job, taken = runpod.jobs.pop(), threading.Event()
    runpod.polled = taken.set
    with worker(tmp_path, runpod.environment) as process:
        wait_until(taken.is_set, "the worker polls for its first job")
        with slowness() as slowness_here:
            start = time.monotonic()
            process.send_signal(signal.SIGTERM)
            runpod.jobs.append(job)
            runpod.answer()
            assert process.wait(LAST_RESORT_SECONDS) == 0
            seconds, allowed = time.monotonic() - start, IDLE_SECONDS * max(1.0, slowness_here())
        assert seconds < allowed, f"ended after {seconds:.2f} s of {allowed:.2f} s"
        assert comfyuis(tmp_path) == [] and list((tmp_path / "work").iterdir()) == []
    runpod.close()
    assert runpod.posted == [] and not (tmp_path / "seeds").exists()


def test_a_comfyui_that_does_not_hear_keeps_nobody(
    tmp_path: Path, slow_job: dict[str, Any]
) -> None:
    """The render hangs in a node, and ComfyUI is stopped: only SIGKILL ends it."""
    with worker(tmp_path, {}, "--test_input", json.dumps(slow_job)) as process:
        wait_for_the_sampler(process, tmp_path)
        for number in comfyuis(tmp_path):
            os.kill(number, signal.SIGSTOP)
        end(process, tmp_path)
