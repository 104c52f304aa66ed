"""RunPod's door: hands each job on, and maps the SDK's cancellation to the job's."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import Any

import runpod
from runpod.serverless.modules.rp_logger import RunPodLogger

from talkinghead.render import Job, run_job
from talkinghead.settings import Settings
from talkinghead.studio import Studio

CANCEL_SECONDS = 8  # RunPod kills the worker about 10 s after it asked


def main() -> None:
    """Start ComfyUI, then take jobs until RunPod ends the worker."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    _keep_results_out_of_the_log()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # an exit, unlike a kill, ends ComfyUI
    with Studio(Settings()) as studio:

        async def handler(job: dict[str, Any]) -> dict[str, Any]:
            return await handle(job, studio)

        runpod.serverless.start({"handler": handler})


def _keep_results_out_of_the_log() -> None:
    """The SDK's debug lines, on by default, hold whole results: signed URLs, or the video."""
    logger = RunPodLogger()
    if logger.level in ("TRACE", "DEBUG"):
        logger.level = "INFO"


async def handle(job: dict[str, Any], studio: Studio) -> dict[str, Any]:
    """Run one job in a thread; when the SDK cancels it, stop the render before letting go."""
    task = Job(id=str(job["id"]), input=job.get("input"))
    rendering = asyncio.ensure_future(asyncio.to_thread(run_job, task, studio))
    try:
        result = await asyncio.shield(rendering)
        failed_at = result.get("error_code"), result.get("stage")
        if failed_at == ("comfyui_unavailable", "start"):
            result["refresh_worker"] = True  # no use without ComfyUI: RunPod shall replace it
        return result
    except asyncio.CancelledError:
        task.cancelled.set()
        await asyncio.wait({rendering}, timeout=CANCEL_SECONDS)
        raise


if __name__ == "__main__":
    main()
