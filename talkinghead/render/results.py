"""What a caller gets: the account of a video, of a failure, or of what a render would take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from talkinghead.comfy.pins import pins
from talkinghead.comfy.studio import Studio
from talkinghead.errors import JobError
from talkinghead.media.mux import VideoFile
from talkinghead.plan.estimate import way_of
from talkinghead.plan.plan import Plan
from talkinghead.plan.request import RenderRequest
from talkinghead.render.bundle import make_bundle
from talkinghead.render.job import Job
from talkinghead.render.rendering import Made
from talkinghead.render.sources import Sources
from talkinghead.workflow.graph import Graph, model_files
from talkinghead.workflow.template import fingerprint


def failure(job: Job, error: JobError) -> dict[str, Any]:
    """What the caller gets for a job that failed."""
    return {
        "error": str(error),
        "status": "failed",
        "error_code": error.code,
        "stage": job.stage,
        "retryable": error.retryable,
        "job_id": job.id,
        "timings": job.timings,
        "details": dict(error.details),
    }


def estimated(job: Job, request: RenderRequest, plan: Plan, studio: Studio) -> dict[str, Any]:
    """The result of a dry run."""
    return {
        "status": "estimated",
        "job_id": job.id,
        "estimate": studio.estimate(plan, job.price_per_hour).payload(),
        "timings": job.timings,
        "speakers_found": plan.speakers_found,
        "warnings": [*plan.warnings, *job.notes],
    }


def named_as_asked(result: dict[str, Any], request: RenderRequest) -> dict[str, Any]:
    """The result as the request's contract has it: C knows a video by `video_url` alone."""
    if request.dialect != "C" or "video" not in result:
        return result
    return {"video_url": result["video"]} | {
        name: value for name, value in result.items() if name != "video"
    }


def completed(job: Job, made: Made) -> dict[str, Any]:
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
        "quality": dict(made.quality),
        "generation_params": _params(plan, made.prompt.graph),
        "timings": job.timings,
        "speakers_found": plan.speakers_found,
        "warnings": [*plan.warnings, *job.notes, *_differences(plan, video)],
        "draft": plan.request.draft,
    }


def _params(plan: Plan, graph: Graph) -> dict[str, Any]:
    """Everything that was really used; of a draft, what has an effect on it."""
    version = f"{plan.template}-{fingerprint(plan.template)}"
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


def _differences(plan: Plan, video: VideoFile) -> Iterator[str]:
    """Where the file is not what was planned: said, since it was paid for, and delivered."""
    planned = (plan.width, plan.height, plan.delivered_frames)
    if planned != (video.width, video.height, video.frames):
        yield (
            f"the video has {video.width}x{video.height} pixels and {video.frames} frames; "
            f"planned were {plan.width}x{plan.height} and {plan.delivered_frames}"
        )


def bundle_of(
    job: Job,
    request: RenderRequest,
    sources: Sources,
    made: Made,
    *,
    result: dict[str, Any],
    studio: Studio,
) -> dict[str, Any] | None:
    """What made the video, if the request or the settings ask for it."""
    if not (studio.settings.bundle if request.bundle is None else request.bundle):
        return None
    machine = studio.machine()
    return make_bundle(
        job.input,
        made.plan,
        workflow=made.prompt.workflow,
        graph=made.prompt.graph,
        inputs={
            field: {"sha256": sources.sums[path], "bytes": path.stat().st_size}
            for field, path in sources.by_field(request).items()
        },
        result=result,
        pins=pins(studio.settings, machine),
        machine=machine,
    )
