"""The job as a story: understand, fetch, plan, patch, run, collect, deliver."""

from __future__ import annotations

import logging
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from talkinghead import logs
from talkinghead.comfy.studio import Studio
from talkinghead.delivery.inline import check_room
from talkinghead.delivery.place import VIDEO_NAME, FinishedVideo, Place
from talkinghead.errors import NO_ROOM, DeliveryFailed, DiskFull, InternalError, JobError
from talkinghead.plan.json_values import encodable
from talkinghead.plan.plan import Plan
from talkinghead.plan.request import RenderRequest, parse_request
from talkinghead.render.job import Job, patience
from talkinghead.render.lips import with_lip_sync
from talkinghead.render.long import LongRender, check_kept, clear_checkpoint
from talkinghead.render.one_prompt import OnePrompt
from talkinghead.render.prepare import decide
from talkinghead.render.progress import Progress
from talkinghead.render.rendering import Made, Rendering, Task, Unfinished
from talkinghead.render.results import bundle_of, completed, estimated, failure, named_as_asked
from talkinghead.render.sources import fetch, open_files
from talkinghead.render.workflow_job.request import is_workflow_job
from talkinghead.render.workflow_job.run import run_workflow

log = logging.getLogger("talkinghead")


def run_job(job: Job, studio: Studio) -> dict[str, Any]:
    """The result of the job, or the account of its failure, as JSON can carry it; never raises."""
    with logs.about(job.id):
        result = encodable(_run_job(job, studio))
        if (
            job.cost is not None
        ):  # of this job: one that finds its video ready costs next to nothing
            result["cost"] = job.cost
        logs.job_ended(result, job.seconds)
        return result


def _run_job(job: Job, studio: Studio) -> dict[str, Any]:
    job.timeout_seconds = studio.settings.job_timeout_seconds
    job.price_per_hour = studio.settings.price_per_hour
    studio.meet_server()
    try:
        if is_workflow_job(job.input):
            return run_workflow(job, studio)
        request = parse_request(job.input, local_files=studio.fetcher.local_files)
        job.request_id = request.request_id
        job.price_per_hour = request.price_per_hour or job.price_per_hour
        logs.job_started(request)
        return named_as_asked(render(job, request, studio), request)
    except JobError as error:
        return failure(job, error)
    except Exception as error:  # a fault of ours must not stop the worker
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return failure(job, DiskFull("the worker's temporary folder has no room left"))
        log.exception("internal error at stage %s", job.stage)
        return failure(job, InternalError("internal error of the worker: its log has the details"))


def render(job: Job, request: RenderRequest, studio: Studio) -> dict[str, Any]:
    """Render the request and deliver the video; returns the job's result.

    Raises:
        JobError: one of the tree in `talkinghead.errors`.
    """
    place = studio.stores.choose(request)
    check_kept(request, studio)
    if (before := _rendered_before(job, request, place, studio)) is not None:
        return before
    with (
        tempfile.TemporaryDirectory(prefix="talkinghead-") as name,
        ThreadPoolExecutor() as pool,
        studio.sandboxes.open(job.check) as sandbox,
    ):
        folder = Path(name)
        with job.at("fetch", "fetching picture and voices"):
            sources = fetch(request, folder, studio, job.check)
            named = sources.by_field(request).items()
            job.fetched({field: sources.sums[path] for field, path in named})
        if job.asked.is_signed and (before := _rendered_before(job, request, place, studio)):
            return before
        with job.at("prepare", "decoding picture and voices"):
            opened = open_files(request, sources, studio.settings, sandbox)
            plan = decide(request, sources, opened, folder=folder, studio=studio, sandbox=sandbox)
            check_room(plan, place)
            if request.dry_run:
                return estimated(job, request, plan, studio)
            task = Task(job, request, sources, opened.voices, folder, pool, studio, sandbox)
            rendering = _rendering(task, plan)
            rendering.prepare()
        with rendering:
            made = rendering.make(folder / VIDEO_NAME)
            if isinstance(made, Unfinished):
                return made.result
            result = _deliver(task, made, folder / VIDEO_NAME, place)
            rendering.delivered()
        job.tell(Progress("done", "done"))
        return result | {"processing_time_seconds": round(job.seconds, 1)}


def _rendered_before(
    job: Job, request: RenderRequest, place: Place, studio: Studio
) -> dict[str, Any] | None:
    """The result of a job that comes again, though its video was delivered, or kept."""
    if request.dry_run:
        return None
    limit = patience(job, studio.settings)
    result = studio.stores.find(place, job.place, job.asked, limit)
    if result is not None:
        logs.tell("the job was rendered before")
        clear_checkpoint(job, result, studio)
    return result


def _delivered_meanwhile(task: Task, place: Place) -> dict[str, Any] | None:
    """The result of another worker that had the same request, and was quicker: its video stays.

    A store that cannot be asked is no matter here: the delivery tells, and keeps our video.
    """
    try:
        return _rendered_before(task.job, task.request, place, task.studio)
    except DeliveryFailed:
        return None


def _rendering(task: Task, plan: Plan) -> Rendering:
    return LongRender(task, plan) if plan.chained else OnePrompt(task, plan)


def _deliver(task: Task, made: Made, path: Path, place: Place) -> dict[str, Any]:
    """Put the video where it shall go; returns the job's result."""
    job, studio = task.job, task.studio
    with job.at("deliver", "delivering the video", job.check_finishing):
        if (before := _delivered_meanwhile(task, place)) is not None:
            return before
        made = with_lip_sync(task, made, path)
        result = completed(job, made)
        bundle = bundle_of(job, task.request, task.sources, made, result=result, studio=studio)
        video = FinishedVideo(job.place, job.asked, path, result, bundle)
        where = studio.stores.deliver(video, place, patience(job, studio.settings))
        return where | result
