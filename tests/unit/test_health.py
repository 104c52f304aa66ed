"""When a ComfyUI that does not stay alive is started again, and what outlives a fault."""

from __future__ import annotations

import http.server
import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from talkinghead.comfy import revival, warm_up
from talkinghead.comfy.revival import Pauses
from talkinghead.comfy.studio import Studio
from talkinghead.memory import GIB
from talkinghead.render.job import Job
from talkinghead.render.run import run_job
from talkinghead.settings import Settings
from tests.store import free_port
from tests.timing import LAST_RESORT_SECONDS


class Clock:
    """Time as the test has it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(revival, "time", clock)
    return clock


def test_a_comfyui_that_always_ends_is_started_after_5_s_to_5_minutes(clock: Clock) -> None:
    pauses, starts = Pauses(), []
    for _ in range(1800):
        if pauses.is_over:
            pauses.started()
            starts.append(clock.now)
        clock.now += 1
    gaps = [int(after - before) for before, after in itertools.pairwise(starts)]
    assert gaps == [5, 10, 20, 40, 80, 160, 300, 300, 300, 300]


def test_a_comfyui_that_lived_for_long_is_started_again_at_once(clock: Clock) -> None:
    pauses = Pauses()
    for _ in range(9):
        pauses.started()
    clock.now += 299
    pauses.lives()
    assert pauses.seconds == 300
    clock.now += 1
    pauses.lives()
    assert pauses.is_over
    pauses.started()
    assert pauses.seconds == 5


def own_studio(folder: Path) -> Studio:
    """A studio with a ComfyUI of its own that ends at once."""
    (folder / "main.py").write_text("")
    return Studio(Settings(comfyui_dir=folder, work_dir=folder / "work", comfyui_cpu=True))


def test_a_start_that_fails_between_two_jobs_is_told_with_the_next_pause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with own_studio(tmp_path) as studio:
        assert studio.server is not None
        studio.server.stop()
        (tmp_path / "main.py").unlink()
        studio.revive()
        studio.revive()
    assert caplog.text.count("should it end again, in 5 s") == 1
    assert "ComfyUI cannot be started: there is no ComfyUI in" in caplog.text


class Enough(BaseException):
    """Ends what has no end."""


def test_a_worker_looks_after_its_comfyui_whatever_a_look_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faults = iter([OSError(28, "No space left on device"), ZeroDivisionError(), Enough()])

    def look(studio: Studio) -> None:
        raise next(faults)

    monkeypatch.setattr(warm_up, "warm_up", look)
    monkeypatch.setattr(Studio, "revive", look)
    monkeypatch.setattr(warm_up, "WATCH_SECONDS", 0)
    with pytest.raises(Enough):
        warm_up.stay_ready(own_studio(tmp_path))
    assert "No space left" in caplog.text and "ZeroDivisionError" in caplog.text


@pytest.fixture
def late() -> Iterator[tuple[str, threading.Event]]:
    """The URL of an H100 server that answers from when the event is set."""
    stats = {
        "system": {"ram_total": 200 * GIB},
        "devices": [{"type": "cuda", "name": "H100", "vram_total": 80 * GIB}],
    }

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if answers.is_set() else 502)
            self.end_headers()
            self.wfile.write(json.dumps(stats).encode())

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not part of a test's output."""

    answers, port = threading.Event(), free_port()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{port}", answers
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("asker", ["job", "look"])
def test_a_server_that_answers_late_still_decides_the_models(
    late: tuple[str, threading.Event], asker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("talkinghead.models.gpu.ram_gib", lambda: 200.0)
    url, answers = late
    studio = Studio(Settings(comfyui_url=url, job_timeout_seconds=LAST_RESORT_SECONDS))
    before = studio.profile
    assert studio.host.gpu is None
    answers.set()
    if asker == "job":
        run_job(Job("first", {"nothing": "valid"}), studio)
    else:
        studio.revive()
    assert studio.host.gpu is not None and studio.host.gpu.name == "H100"
    assert studio.profile.slots["Wan model"] != before.slots["Wan model"]
