"""The job as a story: understand, fetch, plan, patch, run, collect, deliver."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from comfy_client import ComfyClient, Outcome, OutputFile
from talkinghead import logs
from talkinghead.comfy.studio import Studio, Turn
from talkinghead.delivery.inline import check_room
from talkinghead.delivery.place import VIDEO_NAME, FinishedVideo, Place, hash_request
from talkinghead.errors import (
    NO_ROOM,
    DiskFull,
    InternalError,
    JobError,
    OutOfMemory,
    OutputMissing,
)
from talkinghead.media import mux
from talkinghead.media.sound import Sound
from talkinghead.plan.estimate import way_of
from talkinghead.plan.plan import Plan, lighter_plans
from talkinghead.plan.request import RenderRequest, parse_request
from talkinghead.render import frames
from talkinghead.render.bundle import make_bundle
from talkinghead.render.execute import (
    Prompt,
    check_graph,
    comfy_errors,
    execute,
    once_more_if_comfyui_dies,
)
from talkinghead.render.job import Job, patience
from talkinghead.render.long import LongRender, check_kept, clear_checkpoint, refuse_too_long
from talkinghead.render.prepare import Sources, Tracks, decide, fetch, listen, prepare
from talkinghead.render.progress import Progress, RenderProgress
from talkinghead.render.workflow_job.request import is_workflow_job
from talkinghead.render.workflow_job.run import run_workflow
from talkinghead.workflow import template
from talkinghead.workflow.graph import Graph, loaders_only, model_files
from talkinghead.workflow.gui_file import Workflow
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.slots import Inputs

log = logging.getLogger("talkinghead")


def run_job(job: Job, studio: Studio) -> dict[str, Any]:
    """The result of the job, or the account of its failure; never raises."""
    with logs.about(job.id):
        result = _run_job(job, studio)
        logs.job_ended(result, job.seconds)
        return result


def _run_job(job: Job, studio: Studio) -> dict[str, Any]:
    job.timeout_seconds = studio.settings.job_timeout_seconds
    try:
        if is_workflow_job(job.input):
            return run_workflow(job, studio)
        request = parse_request(job.input, local_files=studio.fetcher.local_files)
        job.request_id = request.request_id
        logs.job_started(request)
        return render(job, request, studio)
    except JobError as error:
        return failure(job, error)
    except Exception as error:  # a fault of ours must not stop the worker
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return failure(job, DiskFull("the worker's temporary folder has no room left"))
        log.exception("internal error at stage %s", job.stage)
        return failure(job, InternalError("internal error of the worker: its log has the details"))


def failure(job: Job, error: JobError) -> dict[str, Any]:
    """What the caller gets for a job that failed."""
    return {
        "error": str(error),
        "status": "failed",
        "error_code": error.code,
        "stage": job.stage,
        "retryable": error.retryable,
        "job_id": job.id,
        "details": dict(error.details),
    }


def render(job: Job, request: RenderRequest, studio: Studio) -> dict[str, Any]:
    """Render the request and deliver the video; returns the job's result.

    Raises:
        JobError: one of the tree in `talkinghead.errors`.
    """
    place, request_hash = studio.stores.choose(request), hash_request(job.input)
    check_kept(request, studio)
    if not request.dry_run:
        before = studio.stores.find(place, job.key, request_hash, patience(job, studio.settings))
        if before is not None:
            logs.tell("the job was rendered before")
            clear_checkpoint(job, before, studio)
            return before
    with tempfile.TemporaryDirectory(prefix="talkinghead-") as name, ThreadPoolExecutor() as aside:
        folder = Path(name)
        with job.at("fetch", "fetching picture and voices"):
            sources = fetch(request, folder, studio, job.check)
        with job.at("prepare", "decoding picture and voices"):
            voices = listen(request, sources, job.check)
            plan = decide(request, sources, voices, studio, job.check)
            check_room(plan, place)
            if request.dry_run:
                return _estimated(job, request, plan, studio)
            task = _Task(job, request, place, request_hash, sources, voices, folder, aside, studio)
            if not plan.chained:
                refuse_too_long(job, plan, studio)
                tracks = task.tracks(plan)
        if plan.chained:
            result = _render_long(task, plan)
        else:
            result = task.deliver(produce(job, plan, tracks, folder, studio))
        job.report(Progress("done", "done"))
        return result | {"processing_time_seconds": round(job.seconds, 1)}


@dataclass(frozen=True)
class _Task:
    """A job, and what was made ready for it."""

    job: Job
    request: RenderRequest
    place: Place
    request_hash: str
    sources: Sources
    voices: Sequence[Sound | None]
    folder: Path
    aside: Executor
    studio: Studio

    def tracks(self, plan: Plan) -> Tracks:
        """The job's files as the nodes take them."""
        return prepare(
            *(self.request, plan, self.sources, self.voices),
            folder=self.folder,
            studio=self.studio,
            aside=self.aside,
            check=self.job.check,
        )

    def deliver(self, made: Made) -> dict[str, Any]:
        """Deliver the video; returns the job's result."""
        job, studio = self.job, self.studio
        with job.at("deliver", "delivering the video"):
            said = result(job, made)
            bundle = replay_bundle(job, self.request, self.sources, made, said, studio=studio)
            path = self.folder / VIDEO_NAME
            video = FinishedVideo(job.key, self.request_hash, path, said, bundle)
            where = studio.stores.deliver(video, self.place, patience(job, studio.settings))
            return where | said


def _estimated(job: Job, request: RenderRequest, plan: Plan, studio: Studio) -> dict[str, Any]:
    """The result of a dry run."""
    return {
        "status": "estimated",
        "job_id": job.id,
        "estimate": studio.estimate(plan, request.price_per_hour).payload(),
        "timings": job.timings,
        "warnings": [*plan.warnings, *job.notes],
    }


def _render_long(task: _Task, plan: Plan) -> dict[str, Any]:
    """Window by window; what is made is kept, until the video is delivered."""
    with LongRender(task.job, task.request, task.folder / "windows", task.studio) as long:
        done = long.open(plan, task.sources)
        with task.job.at("prepare", "framing the picture, mixing the voices"):
            tracks = task.tracks(done.plan)
        chain = long.make(done, tracks)
        if not chain.finished:
            return long.paused(chain)
        video = long.join(chain, task.folder / VIDEO_NAME)
        delivered = task.deliver(Made(chain.done.plan, chain.first_prompt(), video))
        long.is_delivered = True
        return delivered


@dataclass(frozen=True)
class Made:
    """A video, the plan it was really made by, and what ran."""

    plan: Plan
    prompt: Prompt
    video: mux.VideoFile


def produce(job: Job, plan: Plan, tracks: Tracks, folder: Path, studio: Studio) -> Made:
    """Let ComfyUI make the video; with less memory at a time, if it runs out of it.

    Raises:
        OutOfMemory: the lightest way, too, takes too much.
    """
    failed: list[str] = []
    for how, lighter in [("as planned", plan), *lighter_plans(plan)]:
        if failed:
            logs.retry(how, OutOfMemory.code)
        try:
            made = once_more_if_comfyui_dies(
                job, partial(_produce, job, lighter, tracks, folder, studio)
            )
        except OutOfMemory as error:
            failed.append(how)
            studio.free_memory()
            last = error
        else:
            if failed:
                job.notes.append(f"the GPU ran out of memory; rendered {how}")
            studio.pace.saw(lighter, job.timings["render"] / lighter.windows)
            return made
    raise OutOfMemory(f"{last}; so it did {', '.join(failed)}", **last.details, tried=failed)


def _produce(job: Job, plan: Plan, tracks: Tracks, folder: Path, studio: Studio) -> Made:
    subfolder = job.new_subfolder()
    with contextlib.ExitStack() as stack:
        with job.at("start", "waiting for ComfyUI"):
            turn = stack.enter_context(studio.comfy(subfolder, job.check))
        with job.at("patch", "writing the workflow"):
            inputs = upload(tracks, subfolder, turn.client)
            if plan.frames_on_disk and studio.output_dir:
                inputs = replace(inputs, frames_folder=str(studio.output_dir / subfolder))
            prompt = patch(plan, inputs, turn)
        loaders = loaders_only(prompt.graph, turn.schemas())
        turn.set_last_prompt(prompt.id, loaders)
        with job.at("render", "rendering"):
            rendered = run(job, plan, prompt, turn)
        with job.at("collect", "collecting the video"):
            shown = prompt.workflow if plan.request.embed_workflow else None
            video = collect(rendered, plan, tracks, folder, turn.client, workflow=shown, job=job)
            return Made(plan, prompt, video)


def upload(tracks: Tracks, subfolder: str, client: ComfyClient) -> Inputs:
    """Hand the files to ComfyUI."""
    with comfy_errors():
        return Inputs(
            picture=client.upload(tracks.picture, subfolder=subfolder),
            speech=tuple(client.upload(path, subfolder=subfolder) for path in tracks.speech),
            sound=client.upload(tracks.sound, subfolder=subfolder),
            masks=client.upload(tracks.masks, subfolder=subfolder) if tracks.masks else None,
            output_prefix=f"{subfolder}/video",
        )


def patch(plan: Plan, inputs: Inputs, turn: Turn) -> Prompt:
    """The template with the plan's values, checked.

    Raises:
        WorkflowRejected, ModelsMissing: it does not fit this ComfyUI.
    """
    with comfy_errors():
        schemas = turn.schemas()
    profile = turn.studio.profile
    gui = template.fill_template(plan, inputs, profile, schemas)
    graph = to_api(gui, schemas)
    check_graph(graph, turn)
    if inputs.frames_folder:  # who opens the workflow has no such folder, and wants a video
        alone = replace(inputs, frames_folder=None)
        gui = template.fill_template(plan, alone, profile, schemas)
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
    return frames.first_frame(outcome, prompt.graph) if plan.frames_on_disk else _video_of(outcome)


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
    folder: Path,
    client: ComfyClient,
    *,
    workflow: Workflow | None,
    job: Job,
) -> mux.VideoFile:
    """Bring the video, or the frames, here and give them their sound, rate and length.

    A `workflow` is written into it, for the GUI to open.
    """
    if plan.frames_on_disk:
        fetched = frames.pictures(
            *(rendered, plan, client, folder), report=job.report, check=job.check
        )
        finish = partial(mux.finish_pictures, fetched, rendered_fps=plan.fps)
    else:
        with comfy_errors():
            client.download(rendered, folder / "rendered.mp4", watch=job.check)
        finish = partial(mux.finish_video, folder / "rendered.mp4")
    finish(
        tracks.delivered_sound.result(),
        folder / VIDEO_NAME,
        fps=plan.request.fps,
        frames=plan.delivered_frames,
        workflow=workflow,
        check=job.check,
    )
    return mux.probe_video(folder / VIDEO_NAME)


def replay_bundle(
    job: Job,
    request: RenderRequest,
    sources: Sources,
    made: Made,
    said: dict[str, Any],
    *,
    studio: Studio,
) -> dict[str, Any] | None:
    """What made the video, if the request or the settings ask for it."""
    if not (studio.settings.bundle if request.bundle is None else request.bundle):
        return None
    return make_bundle(
        job.input,
        made.plan,
        workflow=made.prompt.workflow,
        graph=made.prompt.graph,
        inputs=sources.by_field(request),
        result=said,
        machine=studio.machine(),
    )


def result(job: Job, made: Made) -> dict[str, Any]:
    """The result of both contracts in one, but for where the video is; that was read from it."""
    plan, video = made.plan, made.video
    return {
        "status": "completed",
        "job_id": job.id,
        "processing_time_seconds": round(job.seconds, 1),
        "generation_time_seconds": round(job.timings.get("render", 0.0), 1),
        "video_info": {
            "width": video.width,
            "height": video.height,
            "fps": round(video.fps, 3),
            "frames": video.frames,
            "duration_seconds": round(video.duration, 3),
            "audio_rate": video.audio_rate,
            "audio_channels": video.audio_channels,
            "file_size_mb": round(video.size / 1e6, 2),
            "sha256": video.sha256,
            "mode": plan.request.mode,
            "audio_files_used": sum(offset is not None for offset in plan.offsets),
        },
        "generation_params": _params(plan, made.prompt.graph),
        "timings": job.timings,
        "warnings": [*plan.warnings, *job.notes, *_differences(plan, video)],
        "draft": plan.request.draft,
    }


def _params(plan: Plan, graph: Graph) -> dict[str, Any]:
    """Everything that was really used; of a draft, what has an effect on it."""
    version = f"{plan.template}-{template.fingerprint(plan.template)}"
    shared = plan.params() | {"workflow_version": version}
    if plan.request.draft:
        return shared
    inputs = {entry["_meta"]["title"]: entry["inputs"] for entry in graph.values()}
    return shared | {
        "way": way_of(plan),
        "models": model_files(graph),
        "base_precision": inputs["Wan model"]["base_precision"],
        "attention": inputs["Wan model"]["attention_mode"],
        "force_offload": inputs["Sampler"]["force_offload"],
    }


def _differences(plan: Plan, video: mux.VideoFile) -> Iterator[str]:
    """Where the file is not what was planned: said, since it was paid for, and delivered."""
    planned = (plan.width, plan.height, plan.delivered_frames)
    if planned != (video.width, video.height, video.frames):
        yield (
            f"the video has {video.width}x{video.height} pixels and {video.frames} frames; "
            f"planned were {plan.width}x{plan.height} and {plan.delivered_frames}"
        )
