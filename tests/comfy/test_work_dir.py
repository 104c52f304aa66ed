"""A worker's ComfyUI and its folders: nobody else's, and gone when the worker is."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from talkinghead.comfy import claim
from talkinghead.comfy.process import log_tail
from talkinghead.comfy.server import ComfyServer
from talkinghead.settings import PROJECT_DIR, Settings
from tests.timing import LAST_RESORT_SECONDS, wait_until

SLEEP = "import os, time; print(os.getpid(), flush=True); time.sleep(3600)"
WORKER = """
import sys, threading, time
from pathlib import Path
from talkinghead.comfy.server import ComfyServer
from talkinghead.settings import Settings
server = ComfyServer.from_settings(
    Settings(comfyui_dir=Path(sys.argv[1]), work_dir=Path(sys.argv[2]), comfyui_cpu=True))
thread = threading.Thread(target=server.start)
thread.start()
thread.join()
time.sleep(3600)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of workers that share a volume; in the place of ComfyUI, something that sleeps."""
    comfyui = tmp_path / "comfyui"
    comfyui.mkdir()
    (comfyui / "main.py").write_text(SLEEP)
    return Settings(comfyui_dir=comfyui, work_dir=tmp_path / "volume", comfyui_cpu=True)


def test_two_workers_with_one_work_dir_leave_each_others_files_alone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)  # as in every container
    one, other = ComfyServer.from_settings(settings), ComfyServer.from_settings(settings)
    one.start()
    kept = [one.folders.temp / "frames", one.folders.output / "video.mp4"]
    for path in kept:
        path.write_bytes(b"x")
    other.start()
    other.folders.clear("a-job")
    other.stop()
    assert one.is_running() and all(path.exists() for path in kept)
    one.stop()
    assert list(settings.work_dir.iterdir()) == []


def test_a_worker_that_is_killed_takes_comfyui_along_and_the_next_one_sweeps_up(
    settings: Settings,
) -> None:
    """The thread that started ComfyUI has ended before: nothing ends with it."""
    command = [sys.executable, "-c", WORKER, str(settings.comfyui_dir), str(settings.work_dir)]
    worker = subprocess.Popen(command, cwd=PROJECT_DIR)
    wait_until(lambda: any(map(log_tail, logs(settings))), "ComfyUI says its id")
    (log,) = logs(settings)
    comfyui = int(log_tail(log))
    assert is_there(comfyui), "its thread has ended, and it lives"
    worker.send_signal(signal.SIGKILL)
    worker.wait(LAST_RESORT_SECONDS)
    wait_until(lambda: not is_there(comfyui), "ComfyUI ends")
    assert log.exists()
    server = ComfyServer.from_settings(settings)
    server.start()
    assert [*settings.work_dir.iterdir()] == [server.folders.work_dir]
    server.stop()


@pytest.mark.parametrize("locks", [True, False])
def test_only_what_a_dead_worker_of_another_machine_left_on_a_shared_volume_is_swept(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    days = claim.DEAD_SECONDS + 1
    folders = {
        "dead": ("comfyui-0a0b0c0d-402-1", days),
        "silent for a night": ("comfyui-0a0b0c0e-402-1", 12 * 3600),
        "of an older version": ("comfyui-0a0b0c0f-402-1", None),
        "somebody else's": ("their-comfyui", days),
    }
    for name, age in folders.values():
        beat = settings.work_dir / name / claim.HEARTBEAT
        beat.parent.mkdir(parents=True)
        (beat.parent / "comfyui.log").touch()
        if age is not None:
            beat.touch()
            os.utime(beat, (time.time() - age,) * 2)
    if not locks:
        monkeypatch.setattr(fcntl, "flock", no_locks)
    server = ComfyServer.from_settings(settings)
    server.start()
    kept = {path.name for path in settings.work_dir.iterdir()} - {server.folders.work_dir.name}
    server.stop()
    assert kept == {name for name, _ in folders.values()} - {"comfyui-0a0b0c0d-402-1"}


def no_locks(*_: object) -> None:
    raise OSError(errno.ENOSYS, "Function not implemented")


def test_a_worker_that_lives_and_holds_its_folder_keeps_it_however_old_its_heartbeat(
    settings: Settings,
) -> None:
    one, other = ComfyServer.from_settings(settings), ComfyServer.from_settings(settings)
    one.start()
    os.utime(one.folders.work_dir / claim.HEARTBEAT, (0, 0))
    other.start()
    assert one.folders.log.exists()
    other.stop()
    one.stop()


def test_a_folder_that_is_held_has_a_heartbeat_until_it_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "BEAT_SECONDS", 0.01)
    hold = claim.Hold(tmp_path / "held")
    beat = tmp_path / "held" / claim.HEARTBEAT
    os.utime(beat, (0, 0))
    wait_until(lambda: beat.stat().st_mtime > 0, "it beats")
    hold.release()


def test_a_comfyui_that_died_by_itself_leaves_no_process(settings: Settings) -> None:
    server = ComfyServer.from_settings(settings)
    server.start()
    comfyui = server.check().pid
    os.kill(comfyui, signal.SIGKILL)
    wait_until(server.has_died, "it has died")
    server.stop()
    with pytest.raises(ProcessLookupError):
        os.killpg(comfyui, 0)


def logs(settings: Settings) -> list[Path]:
    return list(settings.work_dir.glob("comfyui-*/comfyui.log"))


def is_there(number: int) -> bool:
    """Whether the process is there, and not only waits for its parent to ask how it ended."""
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
