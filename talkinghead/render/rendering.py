"""The two ways to make a video, in one prompt and window by window, behind one interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from talkinghead.comfy.studio import Studio
from talkinghead.errors import DeadlineExceeded
from talkinghead.media.mux import VideoFile
from talkinghead.media.sandbox import Sandbox
from talkinghead.media.sound import Sound
from talkinghead.plan.estimate import can_end_within, too_long_text
from talkinghead.plan.plan import Plan
from talkinghead.plan.request import RenderRequest
from talkinghead.render.execute import Prompt
from talkinghead.render.job import Job
from talkinghead.render.prepare import Tracks, prepare
from talkinghead.render.sources import Sources


@dataclass(frozen=True)
class Task:
    """A job, and what was made ready for it: its files, opened, and a folder for more.

    `pool` is for what can be done beside the job's own thread; what opens the files is called in
    the sandbox.
    """

    job: Job
    request: RenderRequest
    sources: Sources
    voices: Sequence[Sound | None]
    folder: Path
    pool: Executor
    studio: Studio
    sandbox: Sandbox

    def tracks(self, plan: Plan) -> Tracks:
        """The job's files as the nodes take them, for a render by this plan."""
        tracks = prepare(
            self.request,
            plan,
            self.sources,
            self.voices,
            folder=self.folder,
            studio=self.studio,
            pool=self.pool,
            sandbox=self.sandbox,
        )
        self.job.notes += tracks.notes
        return tracks


@dataclass(frozen=True)
class Made:
    """A video, the plan it was really made by, what ran, and the figures of its picture.

    `speech` are the tracks that moved the speakers' mouths.
    """

    plan: Plan
    prompt: Prompt
    video: VideoFile
    quality: Mapping[str, Any]
    speech: tuple[Path, ...]


@dataclass(frozen=True)
class Unfinished:
    """The result of a job that leaves the rest of its render to another."""

    result: dict[str, Any]


class Rendering(Protocol):
    """One render of a job: made ready, entered, made, and told when its video is delivered.

    It is left only after the delivery, or a failure: until then it keeps what it has made.
    """

    def prepare(self) -> None:
        """Make ready what needs nothing but the job's own files; a part of the job's "prepare".

        Raises:
            DeadlineExceeded: the render surely takes longer than the job has left.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...

    def make(self, target: Path) -> Made | Unfinished:
        """Let ComfyUI make the video, and write it to `target`.

        Raises:
            JobError: one of the tree in `talkinghead.errors`.
        """

    def delivered(self) -> None:
        """The video is delivered: nothing of the render need be kept."""


def refuse_too_long(job: Job, plan: Plan, studio: Studio) -> None:
    """Let a render begin only if it can end in the job's time.

    Raises:
        DeadlineExceeded: it surely takes longer than the job has left.
    """
    found = studio.estimate(plan)
    if not can_end_within(found, studio.settings.job_timeout_seconds - job.seconds):
        raise DeadlineExceeded(too_long_text(found))
