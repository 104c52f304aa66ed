"""Jobs from RunPod: each is handed on, and the SDK's cancellation mapped to the job's."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import runpod
from runpod.http_client import AsyncClientSession
from runpod.serverless.modules.rp_http import send_result
from runpod.serverless.modules.rp_logger import RunPodLogger

from talkinghead.comfy.studio import Studio
from talkinghead.comfy.warm_up import stay_ready
from talkinghead.doctor import ensure_fit
from talkinghead.files import numbered
from talkinghead.logs import about
from talkinghead.render.job import Job
from talkinghead.render.progress import ProgressSender
from talkinghead.render.run import run_job

log = logging.getLogger("talkinghead")

CANCEL_SECONDS = 8  # RunPod kills the worker about 10 s after it asked
EXIT_SECONDS = 9  # for what cannot be stopped, such as a decoder or a store that is silent
TEST_VIDEO = Path("out") / "test_input.mp4"  # where that of --test_input goes
SEND_SECONDS = 3.0  # one progress update; the SDK itself would try for ten minutes


def serve(studio: Studio) -> None:
    """Take jobs until RunPod ends the worker."""
    _keep_results_out_of_the_log()
    studio.record.keep_in(studio.settings.work_dir)
    threading.Thread(target=stay_ready, args=(studio,), daemon=True).start()
    studio.sandboxes.start()
    end = ending(studio)
    for_a_terminal = is_for_a_terminal()  # now: the SDK takes its own words out of sys.argv

    def before_each_job(concurrency: int) -> int:
        # The SDK has put a handler there that waits for its open poll, and takes the job which
        # that brings. RunPod does not wait, and gives the job to another worker.
        signal.signal(signal.SIGTERM, end)
        return concurrency

    async def handler(job: dict[str, Any]) -> dict[str, Any]:
        # Without RunPod's polls nothing was asked before; uvicorn has a handler that waits, too.
        signal.signal(signal.SIGTERM, end)
        result = await handle(job, studio)
        return to_file(result) if for_a_terminal else result

    def fit_to_render() -> None:
        ensure_fit(studio)

    runpod.serverless.register_fitness_check(fit_to_render)  # on RunPod, before the first job
    runpod.serverless.start({"handler": handler, "concurrency_modifier": before_each_job})


def ending(studio: Studio) -> Callable[[int, FrameType | None], None]:
    """What SIGTERM does while the worker has jobs, or waits for one.

    ComfyUI is ended at once, whatever it does; the exit cancels the jobs, which clean up, and none
    of them gets a result: RunPod gives it to another worker.
    """

    def end(number: int, frame: FrameType | None) -> None:
        studio.record.stop()
        threading.Thread(target=studio.close, kwargs={"for_good": True}).start()
        last = threading.Timer(EXIT_SECONDS, os._exit, [0])
        last.daemon = True
        last.start()
        sys.exit(0)

    return end


def is_for_a_terminal() -> bool:
    """Whether the SDK does one job, of --test_input or test_input.json, and prints its result."""
    from_runpod = "RUNPOD_WEBHOOK_GET_JOB" in os.environ
    return "--test_input" in sys.argv or not (from_runpod or "--rp_serve_api" in sys.argv)


def to_file(result: dict[str, Any], target: Path = TEST_VIDEO) -> dict[str, Any]:
    """The result with its video in a file: as text it is some 300,000 characters."""
    if not str(result.get("video", "")).startswith("data:"):
        return result
    path = next(each for each in numbered(target) if not each.exists())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(result["video"].partition(",")[2]))
    return {name: value for name, value in result.items() if name != "video"} | {"path": str(path)}


def _keep_results_out_of_the_log() -> None:
    """The SDK's debug lines, on by default, hold whole results: signed URLs, or the video."""
    logger = RunPodLogger()
    if logger.level in ("TRACE", "DEBUG"):
        logger.level = "INFO"


async def handle(job: dict[str, Any], studio: Studio) -> dict[str, Any]:
    """Run one job in a thread; when the SDK cancels it, stop the render before letting go."""
    task = Job(id=str(job["id"]), input=job.get("input"))
    rendering = asyncio.ensure_future(asyncio.to_thread(run_reporting, task, job, studio))
    try:
        result = await asyncio.shield(rendering)
        failed_at = result.get("error_code"), result.get("stage")
        if failed_at == ("comfyui_unavailable", "start") or studio.health.is_lost:
            log.error("RunPod is asked to replace this worker: %s", studio.health)
            studio.health.asked_for_another_worker()
            result["refresh_worker"] = True  # it would fail every job that it takes
        return result
    except asyncio.CancelledError:
        task.cancelled.set()
        await asyncio.wait({rendering}, timeout=CANCEL_SECONDS)
        raise


def run_reporting(task: Job, job: dict[str, Any], studio: Studio) -> dict[str, Any]:
    """Run the job; tell RunPod how far it is, if RunPod runs us. Without it nobody listens."""
    if "RUNPOD_WEBHOOK_POST_OUTPUT" not in os.environ:
        return run_job(task, studio)
    sender = ProgressSender(lambda payload: send_progress(job, payload))
    with about(task.id), sender:
        task.report = sender.report
        return run_job(task, studio)


def send_progress(job: dict[str, Any], payload: dict[str, Any]) -> None:
    """Send one update and wait for it.

    This is the SDK's progress_update without the thread that it starts for each, so that updates
    arrive in their order, and none after the result.

    Raises:
        TimeoutError: it took longer than SEND_SECONDS, and was given up.
    """

    async def send() -> None:
        async with asyncio.timeout(SEND_SECONDS), AsyncClientSession() as session:
            await send_result(session, {"status": "IN_PROGRESS", "output": payload}, job)

    asyncio.run(send())
