"""start.sh as the container runs it: one process, ComfyUI its child, both logs in one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from talkinghead.comfy.studio import Studio
from talkinghead.errors import ComfyUIUnavailable
from talkinghead.settings import PROJECT_DIR, Settings
from tests.timing import LAST_RESORT_SECONDS, wait_until


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    settings = {
        "PYTHON": sys.executable,
        "WORK_DIR": str(tmp_path / "work"),
        "COMFYUI_CPU": "true",
        "MODEL_PROFILE": "tiny",  # with `auto`, a worker without a GPU expects no models
        "OMP_NUM_THREADS": "1",
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    api = ["--rp_serve_api", "--rp_api_host", "127.0.0.1", "--rp_api_port", port]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(PROJECT_DIR / "start.sh"), *api],
            env=os.environ | settings,
            cwd=tmp_path,
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}/docs"
    try:
        wait_until(lambda: process.poll() is not None or answers(url), "the worker answers")
        assert process.poll() is None, (tmp_path / "log").read_text()
        yield process
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=LAST_RESORT_SECONDS).ok
    except requests.RequestException:
        return False


def comfyui_of(worker: subprocess.Popen[bytes]) -> int | None:
    """The id of the worker's ComfyUI, if it lives."""
    found = subprocess.run(
        ["pgrep", "--parent", str(worker.pid), "--full", "main.py"],
        capture_output=True,
        text=True,
        check=False,
    )
    return int(found.stdout) if found.stdout.strip() else None


def test_a_comfyui_that_dies_is_back_and_sigterm_ends_both_with_status_0(
    worker: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    def log() -> str:
        return (tmp_path / "log").read_text()

    # Without the node packs there are no models to load: it says so when it is ready for a job.
    wait_until(lambda: "before the first job" in log(), "ComfyUI is ready, and no job has it")
    wait_until(lambda: "Starting server" in log(), "ComfyUI's log beside the worker's")
    first = comfyui_of(worker)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: comfyui_of(worker) not in {None, first}, "there is another ComfyUI")
    second = comfyui_of(worker)
    assert "ComfyUI died between two jobs" in log()

    worker.send_signal(signal.SIGTERM)
    assert worker.wait(LAST_RESORT_SECONDS) == 0
    assert not Path(f"/proc/{second}").exists()
    assert not list((tmp_path / "work").iterdir())


def counting_studio(folder: Path) -> tuple[Studio, Path]:
    """A studio whose ComfyUI ends at once, and the file with a byte for each of its starts."""
    starts = folder / "starts"
    starts.touch()
    (folder / "main.py").write_text(f"open({str(starts)!r}, 'a').write('.')\n")
    settings = Settings(comfyui_dir=folder, work_dir=folder / "work", comfyui_cpu=True)
    return Studio(settings), starts


def test_a_comfyui_that_died_between_two_jobs_is_revived(tmp_path: Path) -> None:
    studio, starts = counting_studio(tmp_path)

    def is_back() -> bool:
        studio.revive()
        return starts.stat().st_size > 1

    with studio:
        wait_until(is_back, "it is started again")


def test_a_comfyui_that_the_worker_ended_stays_ended(tmp_path: Path) -> None:
    studio, starts = counting_studio(tmp_path)
    with studio:
        wait_until(lambda: starts.stat().st_size == 1, "it is started")
        studio.close()
        studio.revive()
        with pytest.raises(ComfyUIUnavailable, match="not been started"):
            studio.check_alive()
