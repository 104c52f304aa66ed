"""A long render: one prompt a window, in constant memory, kept as it goes.

Each window's picture is encoded once, as a segment of its own; what the next one continues from are
its last frames, as latents. Both are files here, and in the store of checkpoints if there is one,
so that another job goes on where this one ends.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from pathlib import Path

from comfy_client import ComfyClient, Outcome, OutputFile
from talkinghead import logs
from talkinghead.comfy.failures import comfy_errors
from talkinghead.comfy.studio import Studio, Turn
from talkinghead.delivery.ledger import motion_name
from talkinghead.errors import OutOfMemory, OutputMissing, RenderDefective
from talkinghead.media import sound
from talkinghead.media.mux import count_frames, retime_segment
from talkinghead.media.sound import SPEECH_RATE_HZ
from talkinghead.models.manifest import ModelProfile
from talkinghead.plan.frames import MODEL_FPS
from talkinghead.plan.plan import Plan
from talkinghead.plan.windows import Stretch, Window, delivered, window
from talkinghead.render.execute import (
    REPLACED,
    Prompt,
    check_graph,
    execute,
    first_line,
    worth_another_try,
)
from talkinghead.render.job import Job
from talkinghead.render.ladder import Ladder
from talkinghead.render.look import Looker
from talkinghead.render.prepare import PutBack, Tracks
from talkinghead.render.progress import ChainProgress
from talkinghead.render.remedies import Remedies
from talkinghead.render.window_log import WindowLog
from talkinghead.workflow.graph import keeping_weights, loaders_only
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.schemas import load_schemas
from talkinghead.workflow.slots import WindowInputs
from talkinghead.workflow.template import fill_window


class Chain:
    """One render, as a chain of windows on the studio's ComfyUI.

    Args:
        log: how far it is; each window that is made is added.
        keep: called with each window that was just made and added.
        stop: asked before each window, with the seconds that one takes here, None if that is not
            known: True ends the render for now.
        playlist_url: where the windows that are made can be watched, for the progress.
    """

    def __init__(
        self,
        job: Job,
        tracks: Tracks,
        log: WindowLog,
        studio: Studio,
        *,
        keep: Callable[[Window], None],
        stop: Callable[[float | None], bool],
        playlist_url: str | None = None,
    ) -> None:
        self._job = job
        self._tracks = tracks
        self._log = log
        self._studio = studio
        self._keep = keep
        self._stop = stop
        self._progress = ChainProgress(log, playlist_url=playlist_url)
        self._ladder = Ladder(job, log.plan, studio)
        self._remedies = Remedies(job, log.plan, studio)
        self._looker = Looker(job, log.plan, tracks, studio, notes=job.notes, quality=log.quality)
        log.plan = self._ladder.plan
        self._begun = job.seconds  # the last window, of the job's time
        self._loudest = [sound.loudest(track) for track in tracks.speech]

    def render(self) -> None:
        """Make the windows that are left; one of which ComfyUI dies, or fails, is begun once more.

        One that is black, flat or noise is not kept, but made in safer ways, as those after it.

        Raises:
            what `execute` raises, and OutputMissing; the log tells how far it came.
        """
        failed_at: int | None = None
        starved_at: int | None = None
        while not self._is_over():
            self._begun = self._job.seconds
            try:
                self._render_on_one_comfyui()
            except REPLACED as error:
                made = self._log.made
                again = worth_another_try(error, self._job, self._studio, self._begun)
                if failed_at == made or not again:
                    raise
                failed_at = made
                logs.retry("on a new ComfyUI", error.code, error)
                self._job.notes.append(
                    f"{first_line(error)}; ComfyUI was started again, and window {made + 1} "
                    "rendered twice"
                )
            except OutOfMemory as error:
                made = self._log.made
                where = f" in window {made + 1}; from there on"
                self._ladder.step_down(error, where, worked=made != starved_at)
                starved_at, self._log.plan = made, self._ladder.plan
            except RenderDefective as error:
                self._remedies.try_next(error, self._begun)
        self._ladder.worked()
        self._remedies.worked()

    @property
    def profile(self) -> ModelProfile:
        """With what the next window is made."""
        return self._remedies.profile

    def first_prompt(self) -> Prompt:
        """The prompt of the first window: that one, people can run as it is."""
        tracks, plan = self._tracks, self._log.plan
        names = WindowInputs(
            picture=tracks.picture.name,
            reference=tracks.picture.name,
            speech=tuple(track.name for track in tracks.speech),
            masks=tracks.masks.name if tracks.masks else None,
            motion=None,
            output_prefix="talkinghead",
        )
        schemas = load_schemas()
        gui = fill_window(plan, window(plan, 0), names, self.profile, schemas)
        return Prompt("", gui, to_api(gui, schemas))

    def _is_over(self) -> bool:
        return self._log.is_complete or self._stop(self._progress.window_seconds)

    def _render_on_one_comfyui(self) -> None:
        job, subfolder = self._job, self._job.new_subfolder()
        with contextlib.ExitStack() as stack:
            with job.at("start", "waiting for ComfyUI"):
                turn = stack.enter_context(self._studio.comfy(subfolder, job.check))
            with job.at("patch", "handing the files to ComfyUI"):
                files = _Files(turn, subfolder, self._tracks, self._log.folder, self._loudest)
            self._progress.start()
            with job.at("render", "rendering"):
                while not self._is_over():
                    self._render_window(turn, files, subfolder)
                    if self._studio.is_bloated():  # recycled when the turn ends: the next goes on
                        return

    def _render_window(self, turn: Turn, files: _Files, subfolder: str) -> None:
        log, at = self._log, self._log.next
        self._begun = self._job.seconds
        place = f"{subfolder}/{at.index}"
        inputs = files.inputs(at, log.motion, place)
        prompt = _patched(log.plan, at, inputs, turn, self.profile)
        turn.set_last_prompt(prompt.id, loaders_only(prompt.graph, turn.schemas()))
        self._progress.begin(prompt.graph)
        outcome = execute(self._job, prompt, turn, self._progress.see)
        _collect(log, at, outcome, turn.client, self._looker, put_back=self._tracks.put_back)
        turn.between_prompts(prompt.id, place)
        # In this order: what is kept, told and asked from here on counts the window.
        log.quality = self._looker.quality
        log.add()
        if (seconds := self._progress.end()) is not None:
            self._studio.pace.saw(log.plan, seconds)
        self._keep(at)
        self._job.tell(self._progress.now())


def _patched(
    plan: Plan, at: Window, inputs: WindowInputs, turn: Turn, profile: ModelProfile
) -> Prompt:
    with comfy_errors():
        schemas = turn.schemas()
    gui = fill_window(plan, at, inputs, profile, schemas)
    graph = to_api(gui, schemas)
    check_graph(graph, turn)
    return Prompt(str(uuid.uuid4()), gui, keeping_weights(graph, schemas))


def _collect(
    log: WindowLog,
    at: Window,
    outcome: Outcome,
    client: ComfyClient,
    looker: Looker,
    *,
    put_back: PutBack | None,
) -> None:
    """Bring the window's segment into the log's folder, and what the next continues from.

    Raises:
        RenderDefective: there is nothing to be seen.
    """
    plan, number, check = log.plan, at.index + 1, looker.job.check_finishing
    rendered = log.folder / "rendered.mp4"
    with comfy_errors():
        client.download(_only(outcome, ".mp4"), rendered, watch=check)
        client.download(_only(outcome, ".latent"), log.folder / motion_name(number), watch=check)
    made = count_frames(rendered)
    if made != at.new:
        raise OutputMissing(f"window {number} has {made} frames, not {at.new}")
    looker.look_at(rendered, [at])
    if put_back:
        put_back(rendered, log.segment(number), delivered(plan, at), at.first, check)
        return
    if plan.fps == plan.request.fps:
        rendered.replace(log.segment(number))
        return
    retime_segment(
        rendered,
        log.segment(number),
        rendered_fps=plan.fps,
        rendered_first=at.first,
        fps=plan.request.fps,
        shown=delivered(plan, at),
        check=check,
    )


class _Files:
    """A job's files in ComfyUI: those of all windows once, those of one when it comes."""

    def __init__(
        self,
        turn: Turn,
        subfolder: str,
        tracks: Tracks,
        folder: Path,
        loudest: list[float],
    ) -> None:
        self._client = turn.client
        self._subfolder = subfolder
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
                guide = self._client.upload(reference, subfolder=place)
            before = self._client.upload(motion, subfolder=place) if motion else None
            if self._stretch != at.stretch:
                self._speech = tuple(self._upload_stretch(at.stretch))
                self._stretch = at.stretch
        return WindowInputs(self._picture, guide, self._speech, self._masks, before, place)

    def _upload_stretch(self, stretch: Stretch) -> list[str]:
        names = []
        for number, track in enumerate(self._tracks.speech):
            target = self._folder / f"stretch_{stretch.number}_{number + 1}.wav"
            sound.save_stretch(
                track,
                target,
                first=stretch.first * SPEECH_RATE_HZ // MODEL_FPS,
                samples=round((stretch.frames + 0.5) / MODEL_FPS * SPEECH_RATE_HZ),
                loudest=self._loudest[number],
            )
            names.append(self._client.upload(target, subfolder=self._subfolder))
            target.unlink()
        return names


def _only(outcome: Outcome, suffix: str) -> OutputFile:
    files = [file for file in outcome.files if file.filename.endswith(suffix)]
    if len(files) != 1:
        found = ", ".join(file.filename for file in outcome.files) or "nothing"
        raise OutputMissing(f"ComfyUI ended well without one {suffix} file; it reports: {found}")
    return files[0]
