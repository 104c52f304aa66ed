"""A prompt on ComfyUI, for a job: checked, executed, watched, begun again if ComfyUI dies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from comfy_client import Event, Outcome, Place
from talkinghead import logs
from talkinghead.comfy.failures import comfy_errors
from talkinghead.comfy.stall import StallLimit
from talkinghead.comfy.studio import Studio, Turn
from talkinghead.errors import (
    ComfyUIDied,
    ComfyUIKilled,
    GpuFailed,
    JobError,
    RenderStalled,
    WorkflowRejected,
)
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.workflow.check import check, rejection
from talkinghead.workflow.graph import Graph, loaders_only
from talkinghead.workflow.gui_file import Workflow
from talkinghead.workflow.lint import traps

T = TypeVar("T")

# Why a job is rendered once more: ComfyUI is at fault, and is replaced before.
REPLACED = (ComfyUIDied, GpuFailed, RenderStalled)
# The same where nothing is left to render with less memory.
REPLACED_OR_KILLED = (*REPLACED, ComfyUIKilled)


@dataclass(frozen=True)
class Prompt:
    """What ComfyUI is asked to run: under our id, as GUI workflow (or {}) and as API graph."""

    id: str
    workflow: Workflow
    graph: Graph


def once_more_on_a_new_comfyui(
    job: Job,
    studio: Studio,
    produce: Callable[[], T],
    reasons: tuple[type[JobError], ...] = REPLACED,
) -> T:
    """What `produce` returns; called again if it ends in one of `reasons`: ComfyUI was replaced.

    `produce` takes a turn at ComfyUI of its own: with that it gets the new one.
    """
    begun = job.seconds
    try:
        return produce()
    except reasons as error:
        if not worth_another_try(error, job, studio, begun):
            raise
        logs.retry("on a new ComfyUI", error.code, error)
        job.notes.append(f"{first_line(error)}; ComfyUI was started again: rendered twice")
        return produce()


def worth_another_try(error: JobError, job: Job, studio: Studio, begun: float) -> bool:
    """Whether what ended in this error may come out well if it is begun again.

    Somebody else's ComfyUI is not replaced: it gets again what it has lost, and nothing else. The
    job needs as much time as it took till the failure: it began when the job was `begun` s old.
    """
    replaced = studio.server is not None or isinstance(error, ComfyUIDied)
    return replaced and job.timeout_seconds - job.seconds > job.seconds - begun


def first_line(error: JobError) -> str:
    """What happened, without the log that follows."""
    return str(error).partition("; the end of its log")[0].partition("\n")[0]


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
        outcome = turn.client.run(
            turn.with_models(prompt.graph),
            prompt_id=prompt.id,
            deadline_seconds=watch.seconds_left,
            workflow=prompt.workflow,
            on_event=watch.saw,
            on_place=watch.found,
            watch=watch.check,
        )
        if loaders_only(prompt.graph, turn.schemas()):  # others, such as drafts, need no GPU
            turn.studio.health.computed()
            turn.studio.is_warm = True
        return outcome


class Watch:
    """Over one prompt on ComfyUI: reports how far it is, and ends it when it shall not go on.

    A stall is no progress of our own prompt while it executes (`StallLimit`). A ComfyUI that does
    not answer at all has as long as one that makes no progress.

    The client calls `saw` with each event, `found` with each answer to a poll, and `check` about
    twice a second, all in the thread that runs the prompt; what they raise makes it interrupt the
    prompt.
    """

    def __init__(self, job: Job, turn: Turn, see: Callable[[Event], Progress | None]) -> None:
        self._job = job
        self._studio = turn.studio
        self._see = see
        self._limit = StallLimit("the render")

    @property
    def seconds_left(self) -> float:
        """Of the job's time; for the client, which has a deadline too. That of `check` is first."""
        return self._studio.settings.job_timeout_seconds - self._job.seconds

    def saw(self, event: Event) -> None:
        """Take note of an event: the render goes on."""
        self._limit.sign()
        if (progress := self._see(event)) is not None:
            self._job.tell(progress)

    def found(self, place: Place) -> None:
        """Take note of where the prompt is: it waits, or is executed and may be heard."""
        self._limit.found(place)
        if place.ahead:
            others = "another prompt" if place.ahead == 1 else f"{place.ahead} other prompts"
            self._job.tell(Progress("render", f"ComfyUI is at {others} first"))

    def check(self) -> None:
        """Let the prompt go on, or not.

        Raises:
            Cancelled, DeadlineExceeded: the job shall end.
            ComfyUIUnavailable: our ComfyUI has died.
            RenderStalled: it made no progress for `stall_seconds` of the settings.
        """
        self._job.check()
        self._studio.check_alive()  # before the stall: it says why nothing comes
        self._limit.check(self._studio.settings.stall_seconds)
