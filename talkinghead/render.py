"""The job as a story: understand, fetch, plan, patch, run, collect, deliver."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import comfy_client
from comfy_client import ComfyClient, Event, Outcome, OutputFile
from talkinghead import logs, media, sound, source_video, workflow
from talkinghead.convert import Graph, Workflow, to_api
from talkinghead.errors import (
    Cancelled,
    ComfyUIUnavailable,
    DeadlineExceeded,
    InternalError,
    JobError,
    OutOfMemory,
    OutputMissing,
    RenderFailed,
    RenderStalled,
    WorkflowRejected,
)
from talkinghead.lint import traps
from talkinghead.masks import save_masks, speaker_masks
from talkinghead.media import VideoFile
from talkinghead.plan import MAX_VOICE_SECONDS, Plan, lighter_plans, make_plan
from talkinghead.progress import Progress, RenderProgress, Report
from talkinghead.prompt import check_prompt
from talkinghead.request import RenderRequest, parse_request
from talkinghead.studio import Studio

log = logging.getLogger("talkinghead")

VIDEO_NAME = "talkinghead.mp4"


@dataclass
class Job:
    """One call of the worker, and what is known of it while it runs."""

    id: str
    input: object
    report: Report = lambda progress: None
    cancelled: threading.Event = field(default_factory=threading.Event)
    stage: str = "understand"
    timings: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @property
    def key(self) -> str:
        """The job's id as part of a file name or a storage key."""
        return re.sub(r"[^A-Za-z0-9_-]", "_", self.id)[:64] or "job"

    @property
    def seconds(self) -> float:
        """Time since the job began."""
        return time.monotonic() - self.started

    @contextlib.contextmanager
    def at(self, stage: str, message: str) -> Iterator[None]:
        """A stage of the story: said, timed, and not begun once the job is cancelled."""
        self.check()
        self.stage = stage
        self.report(Progress(stage, message))
        start = time.monotonic()
        yield
        self.timings[stage] = round(time.monotonic() - start, 3)
        logs.tell("stage ended", name=stage, seconds=self.timings[stage])

    def check(self) -> None:
        """Raise `Cancelled` if the job was."""
        if self.cancelled.is_set():
            raise Cancelled("the job was cancelled")


def run_job(job: Job, studio: Studio) -> dict[str, Any]:
    """The result of the job, or the account of its failure; never raises."""
    with logs.about(job.id):
        result = _run_job(job, studio)
        logs.job_ended(result, job.seconds)
        return result


def _run_job(job: Job, studio: Studio) -> dict[str, Any]:
    try:
        request = parse_request(job.input, local_files=studio.fetcher.local_files)
        logs.job_started(request)
        return render(job, request, studio)
    except JobError as error:
        return failure(job, error)
    except Exception:  # a fault of ours must not stop the worker
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
    with tempfile.TemporaryDirectory(prefix="talkinghead-") as name:
        folder = Path(name)
        with job.at("fetch", "fetching picture and voices"):
            sources = fetch(request, folder, studio, job.check)
        with job.at("prepare", "decoding picture and voices"):
            plan = decide(request, sources, studio)
            tracks = prepare(request, plan, sources, folder, studio)
        made = produce(job, plan, tracks, folder, studio)
        with job.at("deliver", "delivering the video"):
            place = studio.store.deliver(folder / VIDEO_NAME, job.key)
        job.report(Progress("done", "done"))
        return result(job, made, place)


@dataclass(frozen=True)
class Prompt:
    """What ComfyUI is asked to run: under our id, as GUI workflow and as API graph."""

    id: str
    workflow: Workflow
    graph: Graph


@dataclass(frozen=True)
class Made:
    """A video, the plan it was really made by, and the graph."""

    plan: Plan
    graph: Graph
    video: VideoFile


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
            made = _produce_surviving(job, lighter, tracks, folder, studio)
        except OutOfMemory as error:
            failed.append(how)
            studio.free_memory()
            last = error
        else:
            if failed:
                job.notes.append(f"the GPU ran out of memory; rendered {how}")
            return made
    raise OutOfMemory(f"{last}; so it did {', '.join(failed)}", **last.details, tried=failed)


def _produce_surviving(job: Job, plan: Plan, tracks: Tracks, folder: Path, studio: Studio) -> Made:
    """Once more, on a new ComfyUI, if the first one dies of it."""
    try:
        return _produce(job, plan, tracks, folder, studio)
    except ComfyUIUnavailable as error:
        if job.stage == "start":
            raise
        logs.retry("on a new ComfyUI", error.code, error)
        job.notes.append("ComfyUI died while rendering and was started again: rendered twice")
        return _produce(job, plan, tracks, folder, studio)


def _produce(job: Job, plan: Plan, tracks: Tracks, folder: Path, studio: Studio) -> Made:
    # A name that never comes twice: ComfyUI would answer from its cache.
    subfolder = f"{job.key}-{uuid.uuid4().hex[:8]}"
    with contextlib.ExitStack() as stack:
        with job.at("start", "waiting for ComfyUI"):
            client = stack.enter_context(studio.comfy(subfolder, job.check))
        with job.at("patch", "writing the workflow"):
            prompt = patch(plan, upload(tracks, subfolder, client), studio, client)
        loaders = workflow.loaders_only(prompt.graph, studio.schemas(client))
        stack.callback(studio.trim, client, prompt.id, loaders)
        with job.at("render", "rendering"):
            rendered = run(job, plan, prompt, studio, client)
        with job.at("collect", "collecting the video"):
            return Made(plan, prompt.graph, collect(rendered, plan, tracks, folder, client))


@dataclass(frozen=True)
class Sources:
    """The files that a request names, as they came; None for a voice or mask that is not given."""

    picture: Path
    voices: tuple[Path | None, ...]
    masks: tuple[Path | None, ...]


def fetch(
    request: RenderRequest, folder: Path, studio: Studio, check: Callable[[], None]
) -> Sources:
    """Download what the request names. What `check` raises ends it."""
    limits = studio.settings

    def get(name: str, url: str | None, max_mb: float) -> Path | None:
        if url is None:
            return None
        target = folder / f"source_{name}"
        studio.fetcher.fetch(name, url, target, max_mb=max_mb, check=check)
        return target

    picture = get("video_url", request.video_url, limits.max_video_mb)
    picture = picture or get("image_url", request.image_url, limits.max_image_mb)
    assert picture is not None
    people = request.speakers
    voices = [get(p.field, p.audio_url, limits.max_audio_mb) for p in people]
    masks = [get(f"{p.field}.mask_url", p.mask_url, limits.max_image_mb) for p in people]
    return Sources(picture, tuple(voices), tuple(masks))


def decide(request: RenderRequest, sources: Sources, studio: Studio) -> Plan:
    """Open every source and decide the render.

    Raises:
        InvalidRequest, UnsupportedCombination, MediaInvalid, MediaTooLarge
    """
    check_prompt("prompt", request.prompt, studio.text_encoder)
    check_prompt("negative_prompt", request.negative_prompt or "", studio.text_encoder)
    voices = [
        sound.probe_sound(person.field, path, max_seconds=MAX_VOICE_SECONDS) if path else None
        for person, path in zip(request.speakers, sources.voices, strict=True)
    ]
    probe = media.probe_picture if request.video_url is None else source_video.probe_source
    name = "image_url" if request.video_url is None else "video_url"
    picture = probe(name, sources.picture, max_megapixels=studio.settings.max_image_megapixels)
    return make_plan(request, voices, picture)


@dataclass(frozen=True)
class Tracks:
    """A job's files as the nodes take them. `picture` is a PNG, or an MP4 of source frames."""

    picture: Path
    speech: tuple[Path, ...]
    sound: Path
    masks: Path | None


def prepare(
    request: RenderRequest, plan: Plan, sources: Sources, folder: Path, studio: Studio
) -> Tracks:
    """Write what the nodes will load."""
    voices = [
        sound.Voice(person.field, path, offset or 0.0) if path else None
        for person, path, offset in zip(request.speakers, sources.voices, plan.offsets, strict=True)
    ]
    tracks = Tracks(
        picture=_frame_picture(plan, sources, folder, studio),
        speech=tuple(folder / f"speech_{number}.wav" for number in range(1, len(voices) + 1)),
        sound=folder / "sound.wav",
        masks=_write_masks(request, plan, sources, folder, studio),
    )
    for voice, target in zip(voices, tracks.speech, strict=True):
        sound.save_speech(voice, target, seconds=plan.duration, padded_samples=plan.speech_samples)
    sound.save_mix([v for v in voices if v], tracks.sound, seconds=plan.duration)
    return tracks


def _frame_picture(plan: Plan, sources: Sources, folder: Path, studio: Studio) -> Path:
    if plan.source is None:
        target = folder / "picture.png"
        megapixels = studio.settings.max_image_megapixels
        media.save_picture(
            "image_url", sources.picture, target, plan.framing, max_megapixels=megapixels
        )
        return target
    target = folder / "source.mp4"
    source_video.save_frames(
        "video_url",
        sources.picture,
        target,
        times=plan.source.times,
        framing=plan.framing,
        fps=plan.source.fps,
        loop=True,
    )
    return target


def _write_masks(
    request: RenderRequest, plan: Plan, sources: Sources, folder: Path, studio: Studio
) -> Path | None:
    """Masks for two people and more; for one, the nodes would ignore them."""
    if len(request.speakers) == 1:
        return None
    megapixels = studio.settings.max_image_megapixels
    regions = [
        media.open_mask(f"{person.field}.mask_url", path, max_megapixels=megapixels)
        if path
        else person.box
        for person, path in zip(request.speakers, sources.masks, strict=True)
    ]
    target = folder / "masks.gif"
    save_masks(speaker_masks(plan.framing, regions), target)
    return target


def upload(tracks: Tracks, subfolder: str, client: ComfyClient) -> workflow.Inputs:
    """Hand the files to ComfyUI."""
    with _comfy_errors():
        return workflow.Inputs(
            picture=client.upload(tracks.picture, subfolder=subfolder),
            speech=tuple(client.upload(path, subfolder=subfolder) for path in tracks.speech),
            sound=client.upload(tracks.sound, subfolder=subfolder),
            masks=client.upload(tracks.masks, subfolder=subfolder) if tracks.masks else None,
            output_prefix=f"{subfolder}/video",
        )


def patch(plan: Plan, inputs: workflow.Inputs, studio: Studio, client: ComfyClient) -> Prompt:
    """The template with the plan's values, checked.

    Raises:
        WorkflowRejected, ModelsMissing: it does not fit this ComfyUI.
    """
    with _comfy_errors():
        schemas = studio.schemas(client)
    gui = workflow.fill_template(plan, inputs, studio.profile, schemas)
    graph = to_api(gui, schemas)
    if workflow.check(graph, schemas):  # perhaps of a model file that came since
        with _comfy_errors():
            schemas = studio.schemas(client, fresh=True)
        if problems := workflow.check(graph, schemas):
            raise workflow.rejection(problems)
    if errors := [str(finding) for finding in traps(graph) if finding.severity == "error"]:
        raise WorkflowRejected(f"the workflow would fail or render wrongly: {'; '.join(errors)}")
    return Prompt(str(uuid.uuid4()), gui, graph)


def run(job: Job, plan: Plan, prompt: Prompt, studio: Studio, client: ComfyClient) -> OutputFile:
    """Let ComfyUI execute the prompt; returns the video it reports.

    Raises:
        RenderFailed, OutOfMemory, RenderStalled, DeadlineExceeded, Cancelled, ComfyUIUnavailable,
        OutputMissing
    """
    steps = plan.sampling.steps - plan.sampling.start_step
    seen = RenderProgress(prompt.graph, windows=plan.windows, steps=steps)
    last_event = time.monotonic()

    def tell(event: Event) -> None:
        nonlocal last_event
        last_event = time.monotonic()
        if (progress := seen.see(event)) is not None:
            job.report(progress)

    def watch() -> None:
        job.check()
        studio.check_alive()
        if time.monotonic() - last_event > studio.settings.stall_seconds:
            seconds = f"{studio.settings.stall_seconds:g} s"
            raise RenderStalled(f"the render made no progress for {seconds} and was stopped")

    with _comfy_errors():
        outcome = client.run(
            prompt.graph,
            prompt_id=prompt.id,
            deadline_seconds=studio.settings.job_timeout_seconds - job.seconds,
            workflow=prompt.workflow,
            on_event=tell,
            watch=watch,
        )
    return _video_of(outcome)


def _video_of(outcome: Outcome) -> OutputFile:
    videos = [file for file in outcome.files if file.filename.endswith(".mp4")]
    if len(videos) != 1:
        found = ", ".join(file.filename for file in outcome.files) or "nothing"
        raise OutputMissing(f"ComfyUI ended well without one video; it reports: {found}")
    return videos[0]


@contextlib.contextmanager
def _comfy_errors() -> Iterator[None]:
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
    kind = OutOfMemory if "OutOfMemory" in error.exception_type else RenderFailed
    return kind(
        f"Video generation failed: {error}",
        node=error.node_id,
        node_type=error.node_type,
        exception=error.exception_type,
    )


def collect(
    rendered: OutputFile, plan: Plan, tracks: Tracks, folder: Path, client: ComfyClient
) -> VideoFile:
    """Bring the video here and give it its sound, rate and length."""
    with _comfy_errors():
        client.download(rendered, folder / "rendered.mp4")
    media.finish_video(
        folder / "rendered.mp4",
        tracks.sound,
        folder / VIDEO_NAME,
        fps=plan.delivered_fps,
        frames=plan.delivered_frames,
    )
    return media.probe_video(folder / VIDEO_NAME)


def result(job: Job, made: Made, place: dict[str, Any]) -> dict[str, Any]:
    """The result of both contracts in one; what is said of the video was read from it."""
    plan, video = made.plan, made.video
    return {
        **place,
        "status": "completed",
        "job_id": job.id,
        "processing_time_seconds": round(job.seconds, 1),
        "generation_time_seconds": round(job.timings["render"], 1),
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
            "mode": plan.mode,
            "audio_files_used": sum(offset is not None for offset in plan.offsets),
        },
        "generation_params": _params(plan, made.graph),
        "timings": job.timings,
        "warnings": [*plan.warnings, *job.notes, *_differences(plan, video)],
        "draft": plan.draft,
    }


def _params(plan: Plan, graph: Graph) -> dict[str, Any]:
    """Everything that was really used; of a draft, what has an effect on it."""
    shared = {
        "positive_prompt": plan.prompt,
        "negative_prompt": plan.negative_prompt,
        "seed": plan.seed,
        "mode": plan.mode,
        "workflow_version": f"{plan.template}-{_fingerprint(plan.template)}",
    }
    if plan.draft:
        return shared
    return shared | {
        "steps": plan.sampling.steps,
        "cfg_scale": plan.sampling.cfg,
        "audio_cfg_scale": plan.sampling.audio_cfg,
        "shift": plan.sampling.shift,
        "scheduler": plan.sampling.scheduler,
        "block_swap": plan.blocks_to_swap > 0,
        "blocks_to_swap": plan.blocks_to_swap,
        "speed_lora": plan.speed_lora_strength > 0,
        "speed_lora_strength": plan.speed_lora_strength,
        "video_method": plan.video_method,
        "windows": plan.windows,
        "render_size": f"{plan.framing.render_width}x{plan.framing.render_height}",
        "models": workflow.model_files(graph),
    }


def _fingerprint(template: str) -> str:
    """A short hash of the template file, so that a result tells which edit of it ran."""
    return hashlib.sha256(workflow.template_path(template).read_bytes()).hexdigest()[:12]


def _differences(plan: Plan, video: VideoFile) -> Iterator[str]:
    """Where the file is not what was planned: said, since it was paid for, and delivered."""
    planned = (plan.width, plan.height, plan.delivered_frames)
    if planned != (video.width, video.height, video.frames):
        yield (
            f"the video has {video.width}x{video.height} pixels and {video.frames} frames; "
            f"planned were {plan.width}x{plan.height} and {plan.delivered_frames}"
        )
