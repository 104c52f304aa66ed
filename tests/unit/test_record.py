"""What workers have learned of their machine, as the doctor finds it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from talkinghead.comfy.health import FAILURES_IN_A_ROW, Health
from talkinghead.comfy.record import Record, said_here
from talkinghead.comfy.studio import Studio
from talkinghead.doctor import examine
from talkinghead.errors import GpuFailed
from talkinghead.settings import Settings
from talkinghead.worker import ending

SICK = GpuFailed("CUDA error: an illegal memory access was encountered")
WORKER = """
import sys
from pathlib import Path
from talkinghead.comfy.health import Health
from talkinghead.comfy.record import Record
from talkinghead.errors import GpuFailed
record = Record()
record.keep_in(Path(sys.argv[1]))
health = Health(record)
for _ in range(3):
    health.is_sick(GpuFailed("CUDA error: unspecified launch failure"))
health.asked_for_another_worker()
"""


def sentences(folder: Path) -> list[str]:
    return [sentence for each in said_here(folder) for sentence in each.sentences]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def gone(work: Path) -> str:
    """A worker that asked to be replaced, and ended; its process id."""
    subprocess.run([sys.executable, "-c", WORKER, str(work)], check=True)
    (said,) = said_here(work)
    return said.worker


def test_the_doctor_says_why_a_worker_that_is_gone_asked_to_be_replaced(
    work: Path, gone: str, tmp_path: Path
) -> None:
    studio = Studio(Settings(work_dir=work, comfyui_dir=tmp_path, comfyui_cpu=True))
    found = {each.name: each for each in examine(studio)}[f"worker {gone}"]
    assert found.state == "warning"
    assert found.message.startswith(
        f"it asked RunPod to replace it: {FAILURES_IN_A_ROW} renders in a row failed here"
    )
    assert "unspecified launch failure (said 0 min ago)" in found.message


def test_what_a_worker_that_is_gone_said_holds_until_another_has_computed(
    work: Path, gone: str
) -> None:
    record = Record()
    record.keep_in(work)
    health = Health(record)
    assert health.is_sick(SICK)
    assert len(sentences(work)) == 2
    health.computed()
    assert list(work.iterdir()) == []


def test_what_a_worker_that_lives_said_is_its_own_to_take_back(work: Path) -> None:
    other = work / f"worker-{socket.gethostname()}-{os.getppid()}.json"
    work.mkdir()
    other.write_text('{"health": ["a render failed here"]}')
    record = Record()
    record.keep_in(work)
    record.is_fit()
    assert sentences(work) == ["a render failed here"]


def test_each_subject_is_said_anew_and_alone(work: Path) -> None:
    record = Record()
    record.say("memory", ["before it is kept"])
    record.keep_in(work)
    record.say("memory", ["20 blocks swapped for 480 x 480"])
    Health(record).is_sick(SICK)
    record.is_fit()
    assert sentences(work) == [
        "20 blocks swapped for 480 x 480",
        f"a render failed here, and not for what was asked; the last: {SICK}",
    ]
    record.say("memory", [])
    assert len(sentences(work)) == 1


def test_what_is_no_workers_is_passed_over(work: Path) -> None:
    work.mkdir()
    for name, text in [("1.json", "{"), ("2.json", "[]"), ("x.json", "{}"), ("3.json", "{}")]:
        (work / f"worker-{socket.gethostname()}-{name}").write_text(text)
    assert sentences(work) == []


def test_a_disk_that_is_full_costs_the_word_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "work").write_text("no folder")
    record = Record()
    record.keep_in(tmp_path / "work")
    record.say("memory", ["20 blocks swapped"])
    assert "cannot be written down" in caplog.text


def test_what_fails_while_a_worker_is_ended_is_said_of_nobody(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM ends ComfyUI under the job: that is no fault of the machine."""
    monkeypatch.setattr("talkinghead.worker.os._exit", lambda status: None)
    studio = Studio(Settings(work_dir=work, comfyui_url="http://127.0.0.1:9"))
    studio.record.keep_in(work)
    with pytest.raises(SystemExit):
        ending(studio)(signal.SIGTERM, None)
    studio.health.is_sick(SICK)
    assert sentences(work) == []
