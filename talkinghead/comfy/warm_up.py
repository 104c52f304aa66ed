"""What a worker does before and between its jobs, so that they need not wait for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from comfy_client import ComfyError
from talkinghead.comfy.failures import comfy_errors
from talkinghead.comfy.pages import read_pages
from talkinghead.comfy.stall import StallLimit
from talkinghead.comfy.studio import Studio
from talkinghead.errors import JobError
from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.plan.plan import make_plan
from talkinghead.plan.request import parse_request
from talkinghead.workflow import template
from talkinghead.workflow.check import check, rejection
from talkinghead.workflow.graph import Graph, loaders_only
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.schemas import load_schemas
from talkinghead.workflow.slots import Inputs

log = logging.getLogger("talkinghead")

WATCH_SECONDS = 5.0
NOT_LOADED = "ComfyUI could not load the models before the first job: %s"


def stay_ready(studio: Studio) -> None:
    """Warm up; then, as long as the worker lives, see to it that ComfyUI does."""
    _outlive(warm_up, studio)
    while True:
        time.sleep(WATCH_SECONDS)
        _outlive(Studio.revive, studio)


def _outlive(act: Callable[[Studio], None], studio: Studio) -> None:
    try:
        act(studio)
    except Exception:  # a fault of ours, or of the disk, costs this look, not those that come after
        log.exception("ComfyUI could not be looked after")


def warm_up(studio: Studio) -> None:
    """Read the models' files, wait for ComfyUI, have it read its schemas and load the models.

    What fails here is only logged: the first job fails in the same way, and its caller is told. A
    loader that hangs is given up after `stall_seconds` of the settings, and so is its ComfyUI.
    """
    read_pages(studio.models.values())
    try:
        with studio.comfy("warm-up", lambda: None) as turn:
            # By the recorded schemas: they have the packs, which this ComfyUI may lack.
            loaders = loaders_only(_some_render(studio), load_schemas())
            if misfits := check(loaders, turn.schemas()):
                if not studio.settings.drafts_only:
                    log.warning(NOT_LOADED, rejection(misfits))
                return
            limit = StallLimit("a loader")

            def watch() -> None:
                studio.check_alive()
                limit.check(studio.settings.stall_seconds)

            with comfy_errors():
                done = turn.client.run(
                    loaders,
                    deadline_seconds=studio.settings.job_timeout_seconds,
                    on_event=limit.sign,
                    on_place=limit.found,
                    watch=watch,
                )
                turn.client.forget(done.prompt_id)
            studio.keeps(loaders)
    except (ComfyError, JobError) as error:
        log.warning(NOT_LOADED, error)


def _some_render(studio: Studio) -> Graph:
    """The graph of a render by the default template: its files need not exist."""
    request = parse_request({"image_url": "http://a/a.png", "wav_url": "http://a/a.wav"})
    plan = make_plan(request, [Sound(1.0, 16_000, 1, False)], Picture(512, 512))
    inputs = Inputs("a.png", ("a.wav",), "a.wav", None, "warm-up")
    schemas = load_schemas()
    profile = studio.profile_for(plan)
    return to_api(template.fill_template(plan, inputs, profile, schemas), schemas)
