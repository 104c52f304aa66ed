"""The ComfyUI process that the worker owns."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from talkinghead.comfy import process
from talkinghead.comfy.process import log_tail
from talkinghead.comfy.server import ComfyServer
from talkinghead.errors import ComfyUIUnavailable
from talkinghead.settings import PROJECT_DIR, Settings
from tests.timing import LAST_RESORT_SECONDS, wait_until

COMFYUI_DIR = Settings().comfyui_dir


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return state != "Z"


def wait_gone(pid: int) -> None:
    """What sleeps for an hour does not end by itself."""
    wait_until(lambda: not is_alive(pid), f"process {pid} ends")


def fake_comfyui(folder: Path, code: str) -> Path:
    """A folder whose main.py does something else: for how ComfyUI's process can misbehave."""
    folder.mkdir()
    (folder / "main.py").write_text(code)
    return folder


def test_a_folder_without_comfyui_is_said_with_what_to_do(tmp_path: Path) -> None:
    server = ComfyServer(tmp_path / "none", tmp_path / "work")
    with pytest.raises(ComfyUIUnavailable, match=r"no ComfyUI in .*scripts/install-comfyui"):
        server.start()


def test_a_process_that_dies_at_start_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    server = ComfyServer(
        COMFYUI_DIR, tmp_path / "work", args=["--no-such-option"], start_seconds=math.inf
    )
    server.start()
    with pytest.raises(ComfyUIUnavailable, match=r"(?s)exit code 2.*--no-such-option") as caught:
        server.ensure_ready()
    assert "unrecognized arguments" in caught.value.details["log_tail"]
    server.stop()


def test_a_process_that_never_answers_is_given_up(tmp_path: Path) -> None:
    folder = fake_comfyui(tmp_path / "comfyui", "import time; print('dreaming'); time.sleep(3600)")
    server = ComfyServer(folder, tmp_path / "work", start_seconds=0.5)
    server.start()
    with pytest.raises(ComfyUIUnavailable, match=r"did not answer within 0\.5 s"):
        server.ensure_ready()
    server.stop()


def test_stopping_ends_the_children_too_and_those_that_ignore_sigterm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "STOP_SECONDS", 1)
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(3600)\n"
    )
    server = ComfyServer(fake_comfyui(tmp_path / "comfyui", code), tmp_path / "work")
    server.start()
    wait_until(lambda: log_tail(server.folders.log), "it says its child's id")
    child = int(log_tail(server.folders.log))
    server.stop()
    wait_gone(child)
    assert not (tmp_path / "work").exists()


def test_a_worker_that_gets_sigterm_takes_comfyui_with_it(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time\n"
        "from talkinghead.comfy.server import ComfyServer\n"
        "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        f"server = ComfyServer(pathlib.Path({str(tmp_path / 'comfyui')!r}), "
        f"pathlib.Path({str(tmp_path / 'work')!r}))\n"
        "server.start()\n"
        "time.sleep(3600)\n"
    )
    fake_comfyui(
        tmp_path / "comfyui", "import os, time; print(os.getpid(), flush=True); time.sleep(3600)"
    )
    worker = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT_DIR)
    log = tmp_path / "work" / "comfyui.log"
    wait_until(lambda: log.exists() and log.read_text(), "it says its id")
    pid = int(log.read_text())
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(LAST_RESORT_SECONDS) == 0
    wait_gone(pid)


def test_comfyui_does_not_get_the_workers_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_SECRET", "canary-one")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-two")
    monkeypatch.setenv("RUNPOD_AI_API_KEY", "canary-three")
    folder = fake_comfyui(tmp_path / "comfyui", "import os; print(dict(os.environ))")
    server = ComfyServer(folder, tmp_path / "work")
    server.start()
    with pytest.raises(ComfyUIUnavailable):
        server.ensure_ready()
    log = server.folders.log.read_text()
    assert "PATH" in log and "canary" not in log
    server.stop()


@pytest.mark.parametrize(("limit_mb", "runs"), [(100, False), (1000, True)])
def test_a_process_that_holds_more_memory_than_allowed_is_ended_between_jobs(
    tmp_path: Path, limit_mb: float, runs: bool
) -> None:
    code = (
        "import subprocess, sys, time\n"
        'code = \'held = bytearray(b"x") * 200_000_000; print(1, flush=True); '
        "import time; time.sleep(3600)'\n"
        "subprocess.run([sys.executable, '-c', code])\n"
    )
    folder = fake_comfyui(tmp_path / "comfyui", code)
    server = ComfyServer(folder, tmp_path / "work", max_memory_mb=limit_mb)
    assert server.memory_mb() == 0
    server.start()
    wait_until(lambda: log_tail(server.folders.log), "its child holds the memory")
    assert 200 < server.memory_mb() < 300, "what its child holds counts too"
    server.recycle()
    assert server.is_running() is runs
    server.stop()
