"""A prompt on ComfyUI, for a job: checked, executed, watched, begun again if ComfyUI dies."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import comfy_client
from comfy_client import ComfyClient, Event, Outcome
from talkinghead import logs
from talkinghead.comfy.studio import Studio
from talkinghead.errors import (
    Cancelled,
    ComfyUIUnavailable,
    DeadlineExceeded,
    DiskFull,
    JobError,
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


def surviving(job: Job, produce: Callable[[], T]) -> T:
    """What `produce` returns; once more, on a new ComfyUI, if the first one dies of it."""
    try:
        return produce()
    except ComfyUIUnavailable as error:
        if job.stage == "start":
            raise
        logs.retry("on a new ComfyUI", error.code, error)
        job.notes.append("ComfyUI died while rendering and was started again: rendered twice")
        return produce()


def check_graph(graph: Graph, studio: Studio, client: ComfyClient) -> None:
    """Raises:
    WorkflowRejected, ModelsMissing: ComfyUI would refuse the graph, or it would go wrong.
    """
    with comfy_errors():
        schemas = studio.schemas(client)
        if check(graph, schemas):  # perhaps of a model file that came since
            schemas = studio.schemas(client, fresh=True)
    if problems := check(graph, schemas):
        raise rejection(problems)
    if errors := [str(finding) for finding in traps(graph) if finding.severity == "error"]:
        raise WorkflowRejected(f"the workflow would fail or render wrongly: {'; '.join(errors)}")


def execute(
    job: Job,
    prompt: Prompt,
    studio: Studio,
    client: ComfyClient,
    see: Callable[[Event], Progress | None],
) -> Outcome:
    """Let ComfyUI execute the prompt. `see` makes progress of its events.

    Raises:
        RenderFailed, OutOfMemory, RenderStalled, DeadlineExceeded, Cancelled, ComfyUIUnavailable
    """
    last_event = time.monotonic()

    def tell(event: Event) -> None:
        nonlocal last_event
        last_event = time.monotonic()
        if (progress := see(event)) is not None:
            job.report(progress)

    def watch() -> None:
        job.check()
        studio.check_alive()
        if time.monotonic() - last_event > studio.settings.stall_seconds:
            seconds = f"{studio.settings.stall_seconds:g} s"
            raise RenderStalled(f"the render made no progress for {seconds} and was stopped")

    with comfy_errors():
        return client.run(
            prompt.graph,
            prompt_id=prompt.id,
            deadline_seconds=studio.settings.job_timeout_seconds - job.seconds,
            workflow=prompt.workflow,
            on_event=tell,
            watch=watch,
        )


@contextlib.contextmanager
def comfy_errors() -> Iterator[None]:
    """ComfyUI's errors as those of the job."""
    try:
        yield
    except comfy_client.PromptRejected as error:
        raise WorkflowRejected(f"ComfyUI refused the workflow: {error}") from error
    except comfy_client.ExecutionFailed as error:
        raise _execution_error(error) from error
    except comfy_client.Interrupted as error:
        raise Cancelled("the render was interrupted in ComfyUI") from error
    except comfy_client.TimedOut as error:
        raise DeadlineExceeded("the render took longer than JOB_TIMEOUT_SECONDS") from error
    except comfy_client.ComfyError as error:
        raise ComfyUIUnavailable(str(error)) from error


def _execution_error(error: comfy_client.ExecutionFailed) -> JobError:
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
