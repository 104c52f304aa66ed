"""A job ends in each of its stages, by its deadline or cancelled: soon, and the next one runs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
from pydantic import SecretStr

from talkinghead.comfy.studio import Studio
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.render.run import run_job
from talkinghead.settings import Settings
from tests.comfy.proxy import port_of
from tests.comfy.test_faults import process_of
from tests.conftest import FileServer, write_tone

End = Literal["cancelled", "deadline_exceeded"]
SLOW_SECONDS = 3.0
DEAF = {"action": "sleep", "seconds": SLOW_SECONDS, "times": 1}  # to an interrupt
ends = pytest.mark.parametrize("end", ["cancelled", "deadline_exceeded"])


def still_works(studio: Studio, fields: dict[str, Any]) -> bool:
    result = run_job(Job("next", fields | {"draft": True}), studio)
    return bool(result["status"] == "completed")


def ended(
    end: End, fields: dict[str, Any], studio: Studio, *, at: str, seconds: float, after: float = 0.0
) -> dict[str, Any]:
    """The result of a job that is ended `after` seconds in a stage, or in a node by its title.

    It must have its end within `seconds` from then.
    """
    job = Job(f"ends-{end}", fields)
    asked: list[float] = []

    def ask() -> None:
        asked.append(time.monotonic())
        if end == "cancelled":
            job.cancelled.set()
        else:
            job.timeout_seconds = job.seconds

    def report(progress: Progress) -> None:
        if at in (progress.stage, progress.message) and not asked:
            threading.Timer(after, ask).start() if after else ask()

    job.report = report
    result = run_job(job, studio)
    took = time.monotonic() - asked[0]
    assert result.get("error_code") == end, result
    assert took < seconds
    return result


@ends
def test_a_job_ends_while_a_server_drips(
    studio: Studio, short_job: dict[str, Any], end: End
) -> None:
    with dripping() as url:
        slow = short_job | {"image_url": url}
        result = ended(end, slow, studio, at="fetch", after=0.5, seconds=1.5)
    assert result["stage"] == "fetch"
    assert still_works(studio, short_job)


@ends
def test_a_job_ends_while_a_long_sound_is_decoded(
    studio: Studio, files: FileServer, short_job: dict[str, Any], end: End
) -> None:
    write_tone(files.folder / "long.wav", seconds=390, rate=48_000)
    slow = {k: v for k, v in short_job.items() if k != "max_frame"}
    slow |= {"wav_url": files.url("long.wav"), "draft": True}
    result = ended(end, slow, studio, at="prepare", after=0.2, seconds=1)
    assert result["stage"] == "prepare"
    assert still_works(studio, short_job)


@ends
def test_a_job_ends_while_it_waits_for_another(
    studio: Studio, short_job: dict[str, Any], end: End
) -> None:
    with studio.comfy("other", lambda: None):
        result = ended(end, short_job, studio, at="start", after=0.5, seconds=1)
    assert result["stage"] == "start"
    assert still_works(studio, short_job)


def test_a_job_ends_while_comfyui_starts(studio: Studio, short_job: dict[str, Any]) -> None:
    os.killpg(comfyui(studio), signal.SIGKILL)
    end: End
    for end in ("cancelled", "deadline_exceeded"):
        result = ended(end, short_job, studio, at="start", after=0.3, seconds=1)
        assert result["stage"] == "start"
    assert still_works(studio, short_job)


@ends
def test_a_job_ends_while_its_files_are_handed_over(
    studio: Studio, short_job: dict[str, Any], end: End
) -> None:
    result = ended(end, short_job, studio, at="patch", seconds=2)
    assert result["stage"] == "patch"
    assert still_works(studio, short_job)


@ends
@pytest.mark.parametrize(
    ("title", "faults"),
    [
        ("rendering", {"WanVideoModelLoader": DEAF}),
        ("Video", {"VHS_VideoCombine": DEAF | {"at_step": 3}}),
    ],
)
def test_a_job_ends_while_a_node_does_not_listen(
    short_job: dict[str, Any],
    studio: Studio,
    control: Callable[..., None],
    *,
    title: str,
    faults: dict[str, Any],
    end: End,
) -> None:
    studio.free_memory()  # so that the loaders run
    control(**faults)
    result = ended(end, short_job, studio, at=title, after=0.5, seconds=SLOW_SECONDS + 2)
    assert result["stage"] == "render"
    assert still_works(studio, short_job)


@ends
def test_a_job_ends_while_it_samples(
    studio: Studio, short_job: dict[str, Any], control: Callable[..., None], end: End
) -> None:
    control(step_seconds=1.0)
    slow = short_job | {"steps": 50, "scheduler": "unipc"}
    result = ended(end, slow, studio, at="Sampler", after=0.5, seconds=4)
    assert result["stage"] == "render"
    assert still_works(studio, short_job)


@ends
def test_a_job_ends_while_its_video_is_collected(
    studio: Studio, short_job: dict[str, Any], end: End
) -> None:
    result = ended(end, short_job, studio, at="collect", seconds=2)
    assert result["stage"] == "collect"
    assert still_works(studio, short_job)


@ends
def test_a_job_ends_while_the_store_is_silent(
    studio: Studio, short_job: dict[str, Any], end: End
) -> None:
    with silent() as port, studio.comfy("unused", lambda: None) as turn:
        settings = Settings(
            comfyui_url=turn.client.url,
            s3_endpoint=f"http://127.0.0.1:{port}",
            s3_bucket="videos",
            s3_region="us-east-1",
            s3_key=SecretStr("key"),
            s3_secret=SecretStr("secret"),
            allow_private_urls=True,
        )
        other = Studio(settings)
        result = ended(end, short_job | {"draft": True}, other, at="deliver", after=0.5, seconds=1)
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
def dripping() -> Iterator[str]:
    """The URL of a file that comes for ever, ten bytes a second."""

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            connection.sendall(b"x")
            time.sleep(0.1)

    with listening(drip) as port:
        yield f"http://127.0.0.1:{port}/portrait.jpg"


def silent() -> contextlib.AbstractContextManager[int]:
    """The port of a store that is empty, takes small documents, and is silent about the video."""

    def take(connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(1 << 16)
        if b"talkinghead.mp4" not in head.split(b"\r\n")[0]:
            status = b"404 Not Found" if head.startswith(b"GET") else b"200 OK"
            answer = b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            connection.sendall(answer)
        while connection.recv(1 << 16):
            pass

    return listening(take)
