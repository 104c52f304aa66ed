"""A render in one prompt: the template filled, checked, run, and its video collected."""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Self

from comfy_client import ComfyClient, Outcome, OutputFile
from talkinghead.comfy.failures import comfy_errors
from talkinghead.comfy.studio import Turn
from talkinghead.errors import OutOfMemory, OutputMissing, RenderDefective
from talkinghead.media import mux
from talkinghead.models.manifest import ModelProfile
from talkinghead.plan.plan import Plan
from talkinghead.plan.request import RenderRequest
from talkinghead.plan.windows import windows
from talkinghead.render import frames
from talkinghead.render.execute import (
    REPLACED,
    REPLACED_OR_KILLED,
    Prompt,
    check_graph,
    execute,
    once_more_on_a_new_comfyui,
)
from talkinghead.render.job import Job
from talkinghead.render.ladder import Ladder
from talkinghead.render.look import Looker
from talkinghead.render.prepare import Tracks
from talkinghead.render.progress import RenderProgress
from talkinghead.render.remedies import Remedies
from talkinghead.render.rendering import Made, Task, refuse_too_long
from talkinghead.workflow.graph import loaders_only
from talkinghead.workflow.gui_file import Workflow
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.slots import Inputs
from talkinghead.workflow.template import fill_template


class OnePrompt:
    """A render that ComfyUI does as a whole; with less memory at a time, if it runs out of it."""

    def __init__(self, task: Task, plan: Plan) -> None:
        self._task = task
        self._plan = plan
        self._tracks: Tracks | None = None

    def prepare(self) -> None:
        """Refuse what cannot end in time; write what the nodes will load."""
        refuse_too_long(self._task.job, self._plan, self._task.studio)
        self._tracks = self._task.tracks(self._plan)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Nothing outlives the job's own folder."""

    def make(self, target: Path) -> Made:
        """Render by the plan, or by the first lighter one that the GPU's memory suffices for.

        A picture that is black, flat or noise is computed again in safer ways.

        Raises:
            OutOfMemory: the lightest way, too, takes too much.
            RenderDefective: so is that of the safest way.
        """
        job, studio = self._task.job, self._task.studio
        ladder, remedies = Ladder(job, self._plan, studio), Remedies(job, self._plan, studio)
        reasons = REPLACED_OR_KILLED if self._plan.request.draft else REPLACED
        while True:
            begun = job.seconds
            attempt = partial(self._render, ladder.plan, remedies.profile, target)
            try:
                made = once_more_on_a_new_comfyui(job, studio, attempt, reasons)
            except OutOfMemory as error:
                ladder.step_down(error)
            except RenderDefective as error:
                remedies.try_next(error, begun)
            else:
                ladder.worked()
                remedies.worked()
                return made

    def delivered(self) -> None:
        """Nothing was kept."""

    def _render(self, plan: Plan, profile: ModelProfile, target: Path) -> Made:
        task, job, tracks = self._task, self._task.job, self._tracks
        assert tracks is not None, "it was prepared"
        looker = Looker(job, plan, tracks, task.studio, notes=[])
        subfolder = job.new_subfolder()
        with contextlib.ExitStack() as stack:
            with job.at("start", "waiting for ComfyUI"):
                turn = stack.enter_context(task.studio.comfy(subfolder, job.check))
            with job.at("patch", "writing the workflow"):
                inputs = upload(tracks, subfolder, turn.client)
                if plan.frames_on_disk and task.studio.output_dir:
                    inputs = replace(inputs, frames_folder=str(task.studio.output_dir / subfolder))
                prompt = patch(plan, inputs, turn, profile)
            turn.set_last_prompt(prompt.id, loaders_only(prompt.graph, turn.schemas()))
            with job.at("render", "rendering"):
                rendered = run(job, plan, prompt, turn)
            with job.at("collect", "collecting the video", job.check_finishing):
                shown = prompt.workflow if plan.request.embed_workflow else None
                client = turn.client
                collect(rendered, plan, tracks, target, client, workflow=shown, looker=looker)
                job.notes.extend(looker.notes)
                video, quality = mux.probe_video(target), looker.quality.payload()
                return Made(plan, prompt, video, quality, tracks.speech)


def upload(tracks: Tracks, subfolder: str, client: ComfyClient) -> Inputs:
    """Hand the files to ComfyUI, into a folder that no other prompt has."""
    with comfy_errors():
        return Inputs(
            picture=client.upload(tracks.picture, subfolder=subfolder),
            speech=tuple(client.upload(path, subfolder=subfolder) for path in tracks.speech),
            sound=client.upload(tracks.sound, subfolder=subfolder),
            masks=client.upload(tracks.masks, subfolder=subfolder) if tracks.masks else None,
            output_prefix=f"{subfolder}/video",
        )


def patch(plan: Plan, inputs: Inputs, turn: Turn, profile: ModelProfile) -> Prompt:
    """The template with the plan's values and the profile's, checked.

    Raises:
        WorkflowRejected, ModelsMissing: it does not fit this ComfyUI.
    """
    with comfy_errors():
        schemas = turn.schemas()
    gui = fill_template(plan, inputs, profile, schemas)
    graph = to_api(gui, schemas)
    check_graph(graph, turn)
    if inputs.frames_folder:  # who opens the workflow has no such folder, and wants a video
        alone = replace(inputs, frames_folder=None)
        gui = fill_template(plan, alone, profile, schemas)
    return Prompt(str(uuid.uuid4()), gui, graph)


def run(job: Job, plan: Plan, prompt: Prompt, turn: Turn) -> OutputFile:
    """Let ComfyUI execute the prompt; returns the video it reports, or the first frame on disk.

    Raises:
        RenderFailed, OutOfMemory, RenderStalled, DeadlineExceeded, Cancelled, ComfyUIUnavailable,
        OutputMissing
    """
    steps = plan.sampling.steps - plan.sampling.start_step
    seen = RenderProgress(prompt.graph, windows=plan.windows, steps=steps)
    outcome = execute(job, prompt, turn, seen.see)
    if plan.request.draft:
        job.notes.extend(_faceless(plan.request, outcome))
    if seen.window_seconds is not None:
        turn.studio.pace.saw(plan, seen.window_seconds)
    return frames.first_frame(outcome, prompt.graph) if plan.frames_on_disk else _video_of(outcome)


def _faceless(request: RenderRequest, outcome: Outcome) -> Iterator[str]:
    """What the draft's node says of speakers whose faces it misses, by the request's fields."""
    for said in itertools.chain.from_iterable(outcome.texts.values()):
        for number, speaker in enumerate(request.speakers, 1):
            if said.startswith(f"speaker {number}: "):
                yield said.replace(f"speaker {number}", f"{speaker.field}, in this draft", 1)


def _video_of(outcome: Outcome) -> OutputFile:
    videos = [file for file in outcome.files if file.filename.endswith(".mp4")]
    if len(videos) != 1:
        found = ", ".join(file.filename for file in outcome.files) or "nothing"
        raise OutputMissing(f"ComfyUI ended well without one video; it reports: {found}")
    return videos[0]


def collect(
    rendered: OutputFile,
    plan: Plan,
    tracks: Tracks,
    target: Path,
    client: ComfyClient,
    *,
    workflow: Workflow | None,
    looker: Looker,
) -> None:
    """Bring the video, or the frames, here and give them their sound, rate and length.

    A `workflow` is written into it, for the GUI to open.

    Raises:
        RenderDefective: there is nothing to be seen.
    """
    job = looker.job
    if plan.frames_on_disk:
        folder = target.parent
        fetched = frames.pictures(
            rendered, plan, client, folder, report=job.tell, check=job.check_finishing
        )
        shown = looker.through(fetched, windows(plan))
        finish = partial(mux.finish_pictures, shown, rendered_fps=plan.fps)
    else:
        video = target.with_name("rendered.mp4")
        with comfy_errors():
            client.download(rendered, video, watch=job.check_finishing)
        looker.look_at(video, windows(plan))
        if tracks.put_back:
            whole = target.with_name("whole.mp4")
            tracks.put_back(video, whole, range(plan.delivered_frames), 0, job.check_finishing)
            video = whole  # of the delivered rate: its picture is copied
        finish = partial(mux.finish_video, video)
    finish(
        tracks.delivered_sound.result(),
        target,
        fps=plan.request.fps,
        frames=plan.delivered_frames,
        workflow=workflow,
        check=job.check_finishing,
    )
