"""What ends a prompt on ComfyUI before its end, and what a job makes of ComfyUI's errors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import comfy_client
from comfy_client import ComfyError, Event, Place
from talkinghead.comfy.studio import Studio, Turn
from talkinghead.errors import (
    Cancelled,
    ComfyUIUnavailable,
    DeadlineExceeded,
    DiskFull,
    JobError,
    MediaTooLarge,
    OutOfMemory,
    RenderFailed,
    RenderStalled,
    WorkflowRejected,
)
from talkinghead.render.execute import JOB_ERRORS, Watch, comfy_errors, once_more_if_comfyui_dies
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.settings import Settings


def raised(kind: str, message: str = "boom") -> ComfyError:
    return comfy_client.ExecutionFailed("7", "Sampler", kind, message)


FAILED = "Video generation failed: Sampler (node 7): "


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            comfy_client.PromptRejected("no such node", {}),
            WorkflowRejected,
            "ComfyUI refused the workflow: no such node",
        ),
        (raised("ValueError"), RenderFailed, f"{FAILED}boom"),
        (raised("torch.OutOfMemoryError"), OutOfMemory, f"{FAILED}boom"),
        (
            raised("OSError", "No space left on device"),
            DiskFull,
            f"{FAILED}No space left on device",
        ),
        (
            comfy_client.Interrupted("prompt x"),
            Cancelled,
            "the render was interrupted in ComfyUI",
        ),
        (
            comfy_client.TimedOut("prompt x"),
            DeadlineExceeded,
            "the render took longer than JOB_TIMEOUT_SECONDS",
        ),
        (comfy_client.Unreachable("away"), ComfyUIUnavailable, "away"),
        (
            comfy_client.UploadTooLarge("no file so large"),
            MediaTooLarge,
            "no file so large: start it with a larger --max-upload-size, "
            "or raise its proxy's limit",
        ),
        (comfy_client.PromptLost("restarted?"), ComfyUIUnavailable, "restarted?"),
        (comfy_client.FileMissing("no file"), ComfyUIUnavailable, "no file"),
        (ComfyError("upload refused"), ComfyUIUnavailable, "upload refused"),
    ],
)
def test_each_error_of_comfyui_is_one_of_the_job(
    error: ComfyError, kind: type[JobError], message: str
) -> None:
    with pytest.raises(JobError) as caught, comfy_errors():
        raise error
    assert (type(caught.value), str(caught.value)) == (kind, message)
    assert caught.value.__cause__ is error


def test_every_error_of_the_client_is_in_the_table() -> None:
    known = [each for each in vars(comfy_client).values() if isinstance(each, type)]
    assert {each for each in known if issubclass(each, ComfyError)} == set(JOB_ERRORS)


class MortalStudio(Studio):
    """A studio whose ComfyUI may be dead."""

    dead = False

    def check_alive(self) -> None:
        if self.dead:
            raise ComfyUIUnavailable("ComfyUI ended by SIGKILL")


def watched(job: Job, **settings: Any) -> tuple[Watch, MortalStudio]:
    studio = MortalStudio(Settings(comfyui_url="http://127.0.0.1:9", **settings))
    turn = Turn(studio, "folder", release=lambda: None)
    return Watch(job, turn, lambda event: Progress("render", event.type)), studio


def cancel(job: Job, studio: MortalStudio) -> None:
    job.cancelled.set()


def use_up_the_time(job: Job, studio: MortalStudio) -> None:
    job.timeout_seconds = -1.0


def die(job: Job, studio: MortalStudio) -> None:
    studio.dead = True


def stall(job: Job, studio: MortalStudio) -> None:
    studio.settings = studio.settings.model_copy(update={"stall_seconds": -1.0})


@pytest.mark.parametrize(
    ("happen", "kind"),
    [
        (cancel, Cancelled),
        (use_up_the_time, DeadlineExceeded),
        (die, ComfyUIUnavailable),
        (stall, RenderStalled),
    ],
)
def test_a_watch_lets_a_prompt_go_on_until_something_ends_it(
    happen: Callable[[Job, MortalStudio], None], kind: type[JobError]
) -> None:
    job = Job("watched", {})
    watch, studio = watched(job)
    watch.check()
    happen(job, studio)
    with pytest.raises(kind):
        watch.check()


def test_a_death_is_said_and_not_the_silence_that_follows() -> None:
    job = Job("watched", {})
    watch, studio = watched(job)
    stall(job, studio)
    die(job, studio)
    with pytest.raises(ComfyUIUnavailable):
        watch.check()


@pytest.mark.parametrize(
    ("place", "stalls"),
    [
        (Place(ahead=0, hears=True), True),
        (Place(ahead=0, hears=False), False),
        (Place(ahead=2, hears=True), False),
    ],
    ids=["executed and silent", "nobody hears it", "behind others"],
)
def test_only_a_prompt_that_is_executed_and_would_be_heard_is_stalled(
    place: Place, stalls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("talkinghead.render.execute.time.monotonic", clock)
    seen: list[Progress] = []
    watch, _ = watched(Job("watched", {}, report=seen.append), stall_seconds=300)
    clock.now += 299
    watch.found(place)
    clock.now += 2
    with pytest.raises(RenderStalled) if stalls else contextlib.nullcontext():
        watch.check()
    assert [each.message for each in seen] == (
        ["ComfyUI is at 2 other prompts first"] if place.ahead else []
    )


class Clock:
    """Stands for the monotonic clock."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_our_own_comfyui_may_be_silent_for_longer_than_a_render_may_stall(tmp_path: Path) -> None:
    own = Studio(Settings(work_dir=tmp_path, stall_seconds=300))
    assert own.new_client()._unreachable_seconds > 300


def test_a_watch_reports_what_an_event_says() -> None:
    seen: list[Progress] = []
    watch, _ = watched(Job("watched", {}, report=seen.append), job_timeout_seconds=60)
    watch.saw(Event("executing", {}))
    assert seen == [Progress("render", "executing")]
    assert watch.seconds_left <= 60


@pytest.mark.parametrize(("stage", "calls"), [("render", 2), ("start", 1)])
def test_a_comfyui_that_dies_of_a_job_gets_it_once_more_and_one_that_does_not_start_not(
    stage: str, calls: int
) -> None:
    job, called = Job("mortal", {}, stage=stage), []

    def produce() -> None:
        called.append(1)
        raise ComfyUIUnavailable("it died")

    with contextlib.suppress(ComfyUIUnavailable):
        once_more_if_comfyui_dies(job, produce)
    assert len(called) == calls
    assert len(job.notes) == calls - 1
