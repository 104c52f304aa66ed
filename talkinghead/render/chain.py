"""A long render: one prompt a window, in constant memory, kept as it goes.

Each window's picture is encoded once, as a segment of its own; what the next one continues from are
its last frames, as latents. Both are files here, and in the store of checkpoints if there is one,
so that another job goes on where this one ends.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from comfy_client import ComfyClient, Outcome, OutputFile
from talkinghead import logs
from talkinghead.comfy.studio import Studio, Turn
from talkinghead.delivery.ledger import motion_name, segment_name
from talkinghead.errors import ComfyUIUnavailable, OutOfMemory, OutputMissing
from talkinghead.media import sound
from talkinghead.media.mux import count_frames, retime_segment
from talkinghead.media.sound import SPEECH_RATE_HZ
from talkinghead.plan.frames import MODEL_FPS
from talkinghead.plan.plan import Plan, lighter_plans
from talkinghead.plan.windows import Stretch, Window, delivered, window
from talkinghead.render.execute import Prompt, check_graph, comfy_errors, execute
from talkinghead.render.job import Job
from talkinghead.render.prepare import Tracks
from talkinghead.render.progress import ChainProgress
from talkinghead.workflow.graph import loaders_only
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.schemas import load_schemas
from talkinghead.workflow.slots import WindowInputs
from talkinghead.workflow.template import fill_window


@dataclass(frozen=True)
class Done:
    """How far a chain is: its first `windows` are made, by `plan`.

    `motion` is what the last one left for the next.
    """

    plan: Plan
    windows: int = 0
    motion: Path | None = None


class Chain:
    """One render, as a chain of windows on the studio's ComfyUI. Its files lie in `folder`.

    Args:
        done: what was made before.
        keep: called with each window that was just made.
        stop: asked before each window, with the seconds that one takes here, None if that is not
            known: True ends the render for now.
    """

    def __init__(
        self,
        job: Job,
        tracks: Tracks,
        folder: Path,
        studio: Studio,
        *,
        done: Done,
        keep: Callable[[Window, Done], None],
        stop: Callable[[float | None], bool],
    ) -> None:
        self.done = done
        steps = done.plan.sampling.steps
        self.progress = ChainProgress(done.plan.windows, steps, done=done.windows)
        self._job = job
        self._tracks = tracks
        self._folder = folder
        self._studio = studio
        self._keep = keep
        self._stop = stop
        self._ladder = lighter_plans(done.plan)
        self._tried: list[str] = []
        self._loudest = [sound.loudest(track) for track in tracks.speech]

    @property
    def finished(self) -> bool:
        """Whether every window is made."""
        return self.done.windows == self.done.plan.windows

    @property
    def segments(self) -> list[Path]:
        """The files of the windows that are made."""
        return [self._folder / segment_name(n) for n in range(1, self.done.windows + 1)]

    def render(self) -> None:
        """Make the windows that are left; a ComfyUI that dies of one gets it once more.

        Raises:
            what `execute` raises, and OutputMissing; `done` tells how far it came.
        """
        died_at: int | None = None
        while not self._is_over():
            try:
                self._render_on_one_comfyui()
            except ComfyUIUnavailable as error:
                if self._job.stage == "start" or died_at == self.done.windows:
                    raise
                died_at = self.done.windows
                logs.retry("on a new ComfyUI", error.code, error)
                self._job.notes.append(
                    f"ComfyUI died in window {died_at + 1} and was started again: "
                    "that window was rendered twice"
                )
            except OutOfMemory as error:
                self._lighten(error)

    def first_prompt(self) -> Prompt:
        """The prompt of the first window: that one, people can run as it is."""
        tracks, plan = self._tracks, self.done.plan
        names = WindowInputs(
            picture=tracks.picture.name,
            reference=tracks.picture.name,
            speech=tuple(track.name for track in tracks.speech),
            masks=tracks.masks.name if tracks.masks else None,
            motion=None,
            output_prefix="talkinghead",
        )
        schemas = load_schemas()
        gui = fill_window(plan, window(plan, 0), names, self._studio.profile, schemas)
        return Prompt("", gui, to_api(gui, schemas))

    def _is_over(self) -> bool:
        return self.finished or self._stop(self.progress.window_seconds)

    def _lighten(self, error: OutOfMemory) -> None:
        """From this window on, take less memory at a time."""
        how, plan = next(self._ladder, (None, self.done.plan))
        if how is None:
            raise OutOfMemory(
                f"{error}; so it did {', '.join(self._tried)}" if self._tried else str(error),
                **error.details,
                tried=["as planned", *self._tried],
            )
        logs.retry(how, error.code)
        self._tried.append(how)
        self._studio.free_memory()
        self._job.notes.append(
            f"the GPU ran out of memory in window {self.done.windows + 1}; from there on rendered "
            + how
        )
        self.done = replace(self.done, plan=plan)

    def _render_on_one_comfyui(self) -> None:
        job, subfolder = self._job, self._job.new_subfolder()
        with contextlib.ExitStack() as stack:
            with job.at("start", "waiting for ComfyUI"):
                turn = stack.enter_context(self._studio.comfy(subfolder, job.check))
            with job.at("patch", "handing the files to ComfyUI"):
                session = _Session(turn, subfolder, self._tracks, self._folder, self._loudest)
            with job.at("render", "rendering"):
                while not self._is_over() and not self._studio.is_bloated():
                    self._render_window(session)

    def _render_window(self, session: _Session) -> None:
        plan, turn = self.done.plan, session.turn
        at = window(plan, self.done.windows)
        place = f"{session.subfolder}/{at.index}"
        prompt = self._patched(at, session.inputs(at, self.done.motion, place), turn)
        loaders = loaders_only(prompt.graph, turn.schemas())
        turn.set_last_prompt(prompt.id, loaders)
        self.progress.begin(prompt.graph)
        outcome = execute(self._job, prompt, turn, self.progress.see)
        motion = self._collect(at, outcome, turn.client)
        turn.between_prompts(prompt.id, place)
        self._studio.pace.saw(plan, self.progress.end())
        self.done = Done(plan, at.index + 1, motion)
        self._keep(at, self.done)
        self._job.report(self.progress.now())

    def _patched(self, at: Window, inputs: WindowInputs, turn: Turn) -> Prompt:
        with comfy_errors():
            schemas = turn.schemas()
        gui = fill_window(self.done.plan, at, inputs, self._studio.profile, schemas)
        graph = to_api(gui, schemas)
        check_graph(graph, turn)
        return Prompt(str(uuid.uuid4()), gui, graph)

    def _collect(self, at: Window, outcome: Outcome, client: ComfyClient) -> Path:
        """Bring the window's segment here, and what the next continues from; returns that."""
        plan, number, check = self.done.plan, at.index + 1, self._job.check
        rendered, motion = self._folder / "rendered.mp4", self._folder / motion_name(number)
        with comfy_errors():
            client.download(_only(outcome, ".mp4"), rendered, watch=check)
            client.download(_only(outcome, ".latent"), motion, watch=check)
        made = count_frames(rendered)
        if made != at.new:
            raise OutputMissing(f"window {number} has {made} frames, not {at.new}")
        segment = self._folder / segment_name(number)
        if plan.fps == plan.request.fps:
            rendered.replace(segment)
        else:
            retime_segment(
                *(rendered, segment),
                rendered_fps=plan.fps,
                rendered_first=at.first,
                fps=plan.request.fps,
                shown=delivered(plan, at),
                check=check,
            )
        return motion


class _Session:
    """A ComfyUI with a job's files: those of all windows once, those of one when it comes."""

    def __init__(
        self,
        turn: Turn,
        subfolder: str,
        tracks: Tracks,
        folder: Path,
        loudest: list[float],
    ) -> None:
        self.turn = turn
        self.subfolder = subfolder
        self._tracks = tracks
        self._folder = folder
        self._loudest = loudest
        self._stretch: Stretch | None = None
        self._speech: tuple[str, ...] = ()
        with comfy_errors():
            self._picture = turn.client.upload(tracks.picture, subfolder=subfolder)
            masks = tracks.masks
            self._masks = turn.client.upload(masks, subfolder=subfolder) if masks else None

    def inputs(self, at: Window, motion: Path | None, place: str) -> WindowInputs:
        """The window's files, uploaded: its own into the folder `place`."""
        references = self._tracks.references
        reference = references[min(at.index, len(references) - 1)]
        with comfy_errors():
            guide = self._picture
            if reference != self._tracks.picture:
                guide = self.turn.client.upload(reference, subfolder=place)
            before = self.turn.client.upload(motion, subfolder=place) if motion else None
            if self._stretch != at.stretch:
                self._speech = tuple(self._upload_stretch(at.stretch))
                self._stretch = at.stretch
        return WindowInputs(self._picture, guide, self._speech, self._masks, before, place)

    def _upload_stretch(self, stretch: Stretch) -> list[str]:
        names = []
        for number, track in enumerate(self._tracks.speech):
            target = self._folder / f"stretch_{stretch.number}_{number + 1}.wav"
            sound.save_stretch(
                *(track, target),
                first=stretch.first * SPEECH_RATE_HZ // MODEL_FPS,
                samples=round((stretch.frames + 0.5) / MODEL_FPS * SPEECH_RATE_HZ),
                loudest=self._loudest[number],
            )
            names.append(self.turn.client.upload(target, subfolder=self.subfolder))
            target.unlink()
        return names


def _only(outcome: Outcome, suffix: str) -> OutputFile:
    files = [file for file in outcome.files if file.filename.endswith(suffix)]
    if len(files) != 1:
        found = ", ".join(file.filename for file in outcome.files) or "nothing"
        raise OutputMissing(f"ComfyUI ended well without one {suffix} file; it reports: {found}")
    return files[0]
