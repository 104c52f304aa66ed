"""A job ends in each of its stages, by its deadline or cancelled: soon, and the next one runs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import SecretStr

from comfy_client import ComfyClient
from talkinghead.comfy.server import ComfyServer
from talkinghead.comfy.studio import Studio
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.render.run import run_job
from talkinghead.settings import Settings
from tests.comfy.proxy import port_of
from tests.comfy.test_faults import process_of
from tests.conftest import FileServer, write_tone
from tests.timing import wait_until

End = Literal["cancelled", "deadline_exceeded"]
ends = pytest.mark.parametrize("end", ["cancelled", "deadline_exceeded"])


def still_works(studio: Studio, fields: dict[str, Any]) -> bool:
    result = run_job(Job("next", fields | {"draft": True}), studio)
    return bool(result["status"] == "completed")


def ask(job: Job, end: End) -> None:
    """Have the job end."""
    if end == "cancelled":
        job.cancelled.set()
    else:
        job.timeout_seconds = job.seconds


def ended(
    end: End,
    fields: dict[str, Any],
    studio: Studio,
    *,
    at: str,
    once: Callable[[], object] = lambda: True,
) -> dict[str, Any]:
    """The result of a job that is ended in a stage, or in a node by its title.

    It is asked to end as the stage begins, or later, `once` this holds. What it would wait for
    never comes: that it has a result at all tells that it did not wait.
    """
    job = Job(f"ends-{end}", fields)

    def wait_and_ask() -> None:
        wait_until(once, f"the job is well into {at}")
        ask(job, end)

    def report(progress: Progress) -> None:
        if at in (progress.stage, progress.message):
            if once():
                ask(job, end)
            else:
                threading.Thread(target=wait_and_ask, daemon=True).start()

    job.report = report
    result = run_job(job, studio)
    assert result.get("error_code") == end, result
    return result


@ends
def test_a_job_ends_while_a_server_drips(
    studio: Studio, short_job: dict[str, Any], end: End
) -> None:
    with dripping() as (url, dripped):
        slow = short_job | {"image_url": url}
        result = ended(end, slow, studio, at="fetch", once=lambda: len(dripped) > 3)
    assert result["stage"] == "fetch"
    assert still_works(studio, short_job)


@ends
def test_a_job_ends_while_a_long_sound_is_decoded(
    studio: Studio, files: FileServer, short_job: dict[str, Any], end: End
) -> None:
    write_tone(files.folder / "long.wav", seconds=390, rate=48_000)
    slow = {k: v for k, v in short_job.items() if k != "max_frame"}
    slow |= {"wav_url": files.url("long.wav"), "draft": True}
    whole = CountingJob("whole", slow | {"dry_run": True})
    assert run_job(whole, studio)["status"] == "estimated"
    job = CountingJob("ends", slow, end=end, at_check=whole.checks // 3)
    result = run_job(job, studio)
    assert (result["error_code"], result["stage"]) == (end, "prepare")
    assert 0 < job.checks < whole.checks / 2
    assert still_works(studio, short_job)


class CountingJob(Job):
    """A job that counts how often it looks whether it shall end while it prepares its files.

    With `end`, it is asked to at one of these looks.
    """

    def __init__(
        self, id: str, fields: object, *, end: End | None = None, at_check: int = 0
    ) -> None:
        super().__init__(id, fields)
        self.checks = 0
        self._end, self._at_check = end, at_check

    def check(self) -> None:
        if self.stage == "prepare":
            self.checks += 1
            if self._end is not None and self.checks == self._at_check:
                ask(self, self._end)
        super().check()


@ends
def test_a_job_ends_while_it_waits_for_another(
    studio: Studio, short_job: dict[str, Any], end: End
) -> None:
    with studio.comfy("other", lambda: None):
        result = ended(end, short_job, studio, at="start")
    assert result["stage"] == "start"
    assert still_works(studio, short_job)


def test_a_job_ends_while_comfyui_starts(
    studio: Studio, short_job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.killpg(comfyui(studio), signal.SIGKILL)
    stopped: list[int] = []
    start = ComfyServer.start

    def start_stopped(server: ComfyServer) -> None:
        start(server)
        assert server.process is not None
        stopped.append(server.process.pid)
        os.killpg(stopped[-1], signal.SIGSTOP)

    monkeypatch.setattr(ComfyServer, "start", start_stopped)
    end: End
    for end in ("cancelled", "deadline_exceeded"):
        result = ended(end, short_job, studio, at="start", once=lambda: stopped)
        assert result["stage"] == "start"
    (started,) = stopped
    os.killpg(started, signal.SIGCONT)
    assert still_works(studio, short_job)


@ends
def test_a_job_ends_while_its_files_are_handed_over(
    studio: Studio, short_job: dict[str, Any], end: End
) -> None:
    result = ended(end, short_job, studio, at="patch")
    assert result["stage"] == "patch"
    assert still_works(studio, short_job)


@ends
@pytest.mark.parametrize(
    ("title", "node", "fault"),
    [("rendering", "WanVideoModelLoader", {}), ("Video", "VHS_VideoCombine", {"at_step": 3})],
)
def test_a_job_ends_while_a_node_does_not_listen(
    short_job: dict[str, Any],
    studio: Studio,
    control: Callable[..., None],
    control_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    title: str,
    node: str,
    fault: dict[str, Any],
    end: End,
) -> None:
    """The job is over while the node is still at work; ComfyUI comes to rest when that ends."""
    before = comfyui(studio)
    studio.free_memory()  # so that the loaders run
    control(**{node: {"action": "hang", "times": 1} | fault})
    released: list[str] = []
    wait_idle = ComfyClient.wait_idle

    def release(client: ComfyClient, prompt_id: str, *, deadline_seconds: float) -> None:
        assert client.is_queued(prompt_id) or released
        released.append(prompt_id)
        control()
        wait_idle(client, prompt_id, deadline_seconds=deadline_seconds)

    monkeypatch.setattr(ComfyClient, "wait_idle", release)

    def hangs() -> bool:
        return bool(json.loads(control_file.read_text())[node]["times"] == 0)

    result = ended(end, short_job, studio, at=title, once=hangs)
    assert (result["stage"], len(released)) == ("render", 1)
    assert still_works(studio, short_job)
    assert comfyui(studio) == before


@ends
def test_a_job_ends_while_it_samples(
    studio: Studio,
    short_job: dict[str, Any],
    control: Callable[..., None],
    held: Callable[[], None],
    end: End,
) -> None:
    def samples() -> bool:
        held()
        return True

    result = ended(end, short_job, studio, at="Sampler", once=samples)
    assert result["stage"] == "render"
    control()
    assert still_works(studio, short_job)


def test_a_cancelled_job_ends_while_its_video_is_collected(
    studio: Studio, short_job: dict[str, Any]
) -> None:
    """One whose time ends then is brought home: tests/comfy/test_paid_for.py."""
    result = ended("cancelled", short_job, studio, at="collect")
    assert result["stage"] == "collect"
    assert still_works(studio, short_job)


@ends
def test_a_job_ends_while_the_store_is_silent(
    studio: Studio, short_job: dict[str, Any], monkeypatch: pytest.MonkeyPatch, end: End
) -> None:
    monkeypatch.setattr("talkinghead.delivery.stores.KEEP_SECONDS", 0.0)
    with silent() as (port, asked), studio.comfy("unused", lambda: None) as turn:
        settings = Settings(
            comfyui_url=turn.client.url,
            s3_endpoint=f"http://127.0.0.1:{port}",
            s3_bucket="videos",
            s3_region="us-east-1",
            s3_key=SecretStr("key"),
            s3_secret=SecretStr("secret"),
            allow_private_urls=True,
        )
        job = short_job | {"draft": True}
        result = ended(end, job, Studio(settings), at="deliver", once=asked.is_set)
    assert result["stage"] == "deliver"
    assert still_works(studio, short_job)


def comfyui(studio: Studio) -> int:
    """The id of its process."""
    with studio.comfy("unused", lambda: None) as turn:
        return process_of(port_of(turn.client.url))


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port whose connections are served in threads, until `serve` returns or fails."""

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            serve(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=one, args=[server.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]


@contextlib.contextmanager
def dripping() -> Iterator[tuple[str, list[bytes]]]:
    """The URL of a file that comes for ever, ten bytes a second; and the bytes that were sent."""
    dripped: list[bytes] = []

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            connection.sendall(b"x")
            dripped.append(b"x")
            time.sleep(0.1)

    with listening(drip) as port:
        yield f"http://127.0.0.1:{port}/portrait.jpg", dripped


@contextlib.contextmanager
def silent() -> Iterator[tuple[int, threading.Event]]:
    """The port of a store that is empty, takes small documents, and is silent about the video.

    The event tells that it was asked to take the video.
    """
    asked = threading.Event()

    def take(connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(1 << 16)
        if b"talkinghead.mp4" not in head.split(b"\r\n")[0]:
            status = b"404 Not Found" if head.startswith(b"GET") else b"200 OK"
            answer = b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            connection.sendall(answer)
        elif head.startswith(b"PUT"):
            asked.set()
        while connection.recv(1 << 16):
            pass

    with listening(take) as port:
        yield port, asked
