"""A prompt on ComfyUI, for a job: checked, executed, watched, begun again if ComfyUI dies."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from comfy_client import (
    ComfyError,
    Event,
    ExecutionFailed,
    FileMissing,
    Interrupted,
    Outcome,
    Place,
    PromptLost,
    PromptRejected,
    TimedOut,
    Unreachable,
    UploadTooLarge,
)
from talkinghead import logs
from talkinghead.comfy.studio import Turn
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
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.workflow.check import check, rejection
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.gui_file import Workflow
from talkinghead.workflow.lint import traps

T = TypeVar("T")

NO_ROOM_TEXT = os.strerror(errno.ENOSPC)  # what Python says of a full disk, and FFmpeg too


@dataclass(frozen=True)
class Prompt:
    """What ComfyUI is asked to run: under our id, as GUI workflow (or {}) and as API graph."""

    id: str
    workflow: Workflow
    graph: Graph


def once_more_if_comfyui_dies(job: Job, produce: Callable[[], T]) -> T:
    """What `produce` returns; it is called again, on a new ComfyUI, if the first one dies of it.

    `produce` takes a turn at ComfyUI of its own: with that it gets one that was started again.
    """
    try:
        return produce()
    except ComfyUIUnavailable as error:
        if job.stage == "start":
            raise
        logs.retry("on a new ComfyUI", error.code, error)
        job.notes.append("ComfyUI died while rendering and was started again: rendered twice")
        return produce()


def check_graph(graph: Graph, turn: Turn) -> None:
    """Refuse a graph that this ComfyUI would not take, or that would go wrong.

    Raises:
        WorkflowRejected, ModelsMissing
    """
    with comfy_errors():
        schemas = turn.schemas()
        if check(graph, schemas):  # perhaps of a model file that came since
            schemas = turn.schemas(fresh=True)
    if problems := check(graph, schemas):
        raise rejection(problems)
    if errors := [str(finding) for finding in traps(graph) if finding.severity == "error"]:
        raise WorkflowRejected(f"the workflow would fail or render wrongly: {'; '.join(errors)}")


def execute(
    job: Job, prompt: Prompt, turn: Turn, see: Callable[[Event], Progress | None]
) -> Outcome:
    """Let ComfyUI execute the prompt. `see` makes progress of its events.

    Raises:
        RenderFailed, OutOfMemory, RenderStalled, DeadlineExceeded, Cancelled, ComfyUIUnavailable
    """
    watch = Watch(job, turn, see)
    with comfy_errors():
        return turn.client.run(
            turn.with_models(prompt.graph),
            prompt_id=prompt.id,
            deadline_seconds=watch.seconds_left,
            workflow=prompt.workflow,
            on_event=watch.saw,
            on_place=watch.found,
            watch=watch.check,
        )


class Watch:
    """Over one prompt on ComfyUI: reports how far it is, and ends it when it shall not go on.

    A stall is no progress of our own prompt while it executes. Nothing else is one: neither the
    time behind another client's prompt, nor the silence of a socket that is lost or deaf. A ComfyUI
    that does not answer at all has as long as one that makes no progress.

    The client calls `saw` with each event, `found` with each answer to a poll, and `check` about
    twice a second, all in the thread that runs the prompt; what they raise makes it interrupt the
    prompt.
    """

    def __init__(self, job: Job, turn: Turn, see: Callable[[Event], Progress | None]) -> None:
        self._job = job
        self._studio = turn.studio
        self._see = see
        self._last_sign = time.monotonic()  # that it goes on, or has not begun

    @property
    def seconds_left(self) -> float:
        """Of the job's time; for the client, which has a deadline too. That of `check` is first."""
        return self._studio.settings.job_timeout_seconds - self._job.seconds

    def saw(self, event: Event) -> None:
        """Take note of an event: the render goes on."""
        self._last_sign = time.monotonic()
        if (progress := self._see(event)) is not None:
            self._job.tell(progress)

    def found(self, place: Place) -> None:
        """Take note of where the prompt is: it waits, or is executed and may be heard."""
        if place.ahead or not place.hears:
            self._last_sign = time.monotonic()
        if place.ahead:
            others = "another prompt" if place.ahead == 1 else f"{place.ahead} other prompts"
            self._job.tell(Progress("render", f"ComfyUI is at {others} first"))

    def check(self) -> None:
        """Let the prompt go on, or not.

        Raises:
            Cancelled, DeadlineExceeded: the job shall end.
            ComfyUIUnavailable: our ComfyUI has died.
            RenderStalled: there was no sign of life for `stall_seconds` of the settings.
        """
        self._job.check()
        self._studio.check_alive()  # before the stall: it says why nothing comes
        stall_seconds = self._studio.settings.stall_seconds
        if time.monotonic() - self._last_sign > stall_seconds:
            raise RenderStalled(
                f"the render made no progress for {stall_seconds:g} s and was stopped"
            )


@contextlib.contextmanager
def comfy_errors() -> Iterator[None]:
    """ComfyUI's errors as those of the job, by `JOB_ERRORS`."""
    try:
        yield
    except ComfyError as error:
        raise JOB_ERRORS[type(error)](error) from error


def _execution_error(error: ExecutionFailed) -> JobError:
    kind: type[JobError] = RenderFailed
    if "OutOfMemory" in error.exception_type:
        kind = OutOfMemory
    elif NO_ROOM_TEXT in error.message:
        kind = DiskFull
    return kind(
        f"Video generation failed: {error}",
        node=error.node_id,
        node_type=error.node_type,
        exception=error.exception_type,
    )


def _unavailable(error: ComfyError) -> JobError:
    return ComfyUIUnavailable(str(error))


# By the class itself: a new error of the client needs a line here. After ComfyUIUnavailable the
# job is done once more, on a ComfyUI that answers.
JOB_ERRORS: Mapping[type[ComfyError], Callable[[Any], JobError]] = {
    PromptRejected: lambda error: WorkflowRejected(f"ComfyUI refused the workflow: {error}"),
    ExecutionFailed: _execution_error,
    Interrupted: lambda error: Cancelled("the render was interrupted in ComfyUI"),
    TimedOut: lambda error: DeadlineExceeded("the render took longer than JOB_TIMEOUT_SECONDS"),
    UploadTooLarge: lambda error: MediaTooLarge(
        f"{error}: start it with a larger --max-upload-size, or raise its proxy's limit"
    ),
    Unreachable: _unavailable,
    PromptLost: _unavailable,
    FileMissing: _unavailable,
    ComfyError: _unavailable,  # a refused upload, or an answer that is no JSON
}
