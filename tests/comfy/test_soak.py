"""Many jobs in a row, good and bad: none hangs, none ends in a wrong state, nothing is left.

In CI each kind once; `make soak` runs SOAK_JOBS=200.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from talkinghead.comfy.studio import Studio
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.render.run import run_job
from tests.comfy.proxy import Kind, Proxy, SocketFault
from tests.comfy.test_faults import process_of
from tests.conftest import FileServer
from tests.timing import LAST_RESORT_SECONDS, wait_until

Control = Callable[..., None]


@pytest.fixture
def fields(files: FileServer, portrait: Path, voice: Path) -> dict[str, Any]:
    """A short job."""
    (files.folder / "portrait.jpg").write_bytes(portrait.read_bytes())
    (files.folder / "voice.wav").write_bytes(voice.read_bytes())
    urls = {"image_url": files.url("portrait.jpg"), "wav_url": files.url("voice.wav")}
    return urls | {"max_frame": 20, "width": 256, "height": 256}


@pytest.fixture
def losing(studio: Studio, control: Control, monkeypatch: pytest.MonkeyPatch) -> Iterator[Control]:
    """As `control`, but ComfyUI is behind a proxy, where `socket` says how a WebSocket is lost."""
    assert studio.server is not None
    with Proxy(studio.server.port) as proxy:
        monkeypatch.setattr(studio.server, "url", proxy.url)

        def tell(socket: Kind | None = None, **faults: Any) -> None:
            proxy.websocket = SocketFault(socket, after='"progress"') if socket else None
            control(**faults)

        yield tell


def succeed(job: Job, control: Control) -> str:
    return "completed"


def draft(job: Job, control: Control) -> str:
    job.input = {**as_dict(job), "draft": True}
    return "completed"


def two_speak(job: Job, control: Control) -> str:
    voice = as_dict(job)["wav_url"]
    job.input = {k: v for k, v in as_dict(job).items() if k != "wav_url"} | {
        "audio_urls": [voice, voice]
    }
    return "completed"


def bad_input(job: Job, control: Control) -> str:
    job.input = {**as_dict(job), "steps": 0}
    return "invalid_request"


def node_fails(job: Job, control: Control) -> str:
    control(WanVideoSampler={"action": "raise"})
    return "render_failed"


def memory_once(job: Job, control: Control) -> str:
    control(WanVideoSampler={"action": "oom", "times": 1})
    return "completed"


def cancelled(job: Job, control: Control) -> str:
    control(WanVideoSampler={"action": "hold", "at_step": 1})

    def report(progress: Progress) -> None:
        if progress.step:
            job.cancelled.set()

    job.report = report
    return "cancelled"


def crash(job: Job, control: Control) -> str:
    control(WanVideoSampler={"action": "exit", "times": 1, "at_step": 1})
    return "completed"


def memory_in_other_words(job: Job, control: Control) -> str:
    said = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    control(WanVideoSampler={"action": "raise", "message": said, "times": 1})
    return "completed"


def killed(job: Job, control: Control) -> str:
    control(WanVideoSampler={"action": "kill", "times": 1, "at_step": 1})
    return "completed"


def sick_gpu(job: Job, control: Control) -> str:
    said = "CUDA error: an illegal memory access was encountered"
    control(WanVideoSampler={"action": "raise", "message": said, "times": 1})
    return "completed"


def long_job_of_a_sick_gpu(job: Job, control: Control) -> str:
    job.input = {**as_dict(job), "long": True, "max_frame": 100}
    said = "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"
    control(WanVideoSampler={"action": "raise", "message": said, "times": 1, "after": 1})
    return "completed"


def lost_socket(job: Job, control: Control) -> str:
    control(socket="cut")
    return "completed"


def deaf_socket(job: Job, control: Control) -> str:
    job.input = {**as_dict(job), "long": True, "max_frame": 100}
    control(socket="deaf")
    return "completed"


def crash_that_nobody_hears(job: Job, control: Control) -> str:
    control(socket="cut", WanVideoSampler={"action": "exit", "times": 1, "at_step": 1})
    return "completed"


KINDS = (
    *(succeed, draft, lost_socket, node_fails, two_speak, cancelled, bad_input, memory_once, crash),
    *(draft, memory_in_other_words, deaf_socket, killed, sick_gpu, long_job_of_a_sick_gpu),
    crash_that_nobody_hears,
)
JOBS = int(os.environ.get("SOAK_JOBS", len(KINDS)))
LAST_RESORT = max(3600, 120 * JOBS)  # seconds, for a machine that others use, too


def as_dict(job: Job) -> dict[str, Any]:
    assert isinstance(job.input, dict)
    return job.input


def run_kind(
    kind: Callable[[Job, Control], str], fields: dict[str, Any], studio: Studio, control: Control
) -> None:
    job = Job(id=f"soak-{kind.__name__}", input=dict(fields))
    control()
    expected = kind(job, control)
    result = run_job(job, studio)
    assert expected in (result["status"], result.get("error_code")), result


def files_of(studio: Studio) -> set[str]:
    with studio.comfy("unused", lambda: None):  # when it has let go of the last job
        work = next(studio.settings.work_dir.glob("comfyui-*"))
        found = (p for name in ("input", "output", "temp") for p in (work / name).rglob("*"))
        return {str(path) for path in found if path.is_file()}


def threads_now() -> int:
    return threading.active_count()


def processes_now() -> int:
    """Our children, and theirs, that live or nobody waited for."""
    own = os.getpid()
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            text = path.read_text()
            parents[int(path.parent.name)] = int(text.rpartition(")")[2].split()[1])
    ours, found = {own}, set[int]()
    while ours:
        ours = {child for child, parent in parents.items() if parent in ours}
        found |= ours
    return len(found)


def rss_mb(studio: Studio) -> float:
    with studio.comfy("unused", lambda: None):
        assert studio.server is not None
        comfyui = process_of(studio.server.port)
    status = Path(f"/proc/{comfyui}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@pytest.mark.timeout(LAST_RESORT)
def test_mixed_jobs_end_as_they_should_and_leave_nothing(
    studio: Studio, losing: Control, fields: dict[str, Any]
) -> None:
    run_kind(succeed, fields, studio, losing)
    before, threads, processes = files_of(studio), threads_now(), processes_now()
    folders = set(studio.settings.work_dir.iterdir())
    for kind in itertools.islice(itertools.cycle(KINDS), JOBS):
        studio.lighter_ways.clear()  # so that memory runs out anew
        run_kind(kind, fields, studio, losing)
    losing()
    assert files_of(studio) <= before
    wait_until(lambda: threads_now() <= threads, "no thread more is left")
    assert processes_now() <= processes
    assert set(studio.settings.work_dir.iterdir()) <= folders
    assert not studio.health.is_lost
    with studio.comfy("unused", lambda: None) as turn:
        queue = requests.get(f"{turn.client.url}/queue", timeout=LAST_RESORT_SECONDS).json()
    assert queue == {"queue_running": [], "queue_pending": []}


@pytest.mark.timeout(LAST_RESORT)
def test_comfyui_is_no_larger_after_many_jobs_than_after_the_second(
    studio: Studio, control: Control, fields: dict[str, Any]
) -> None:
    sizes = []
    for _ in range(max(JOBS // 3, 4)):
        run_kind(succeed, fields | {"max_frame": 100, "width": 480, "height": 480}, studio, control)
        sizes.append(rss_mb(studio))
    print("ComfyUI's RSS after each job, MB:", [round(size) for size in sizes])
    assert sizes[-1] < 1.02 * sizes[1], "the frames of one such job are 270 MB"
