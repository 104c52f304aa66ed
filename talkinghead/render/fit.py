"""What has to be equal for one job to go on with the windows of another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from talkinghead.comfy.failures import comfy_errors
from talkinghead.comfy.pins import pins
from talkinghead.comfy.studio import Studio
from talkinghead.files import sha256_of
from talkinghead.plan.plan import Plan
from talkinghead.render.rendering import Task
from talkinghead.settings import PROJECT_DIR
from talkinghead.workflow.template import fingerprint

WINDOW_NODES = PROJECT_DIR / "custom_nodes" / "talkinghead_windows"


def fit_of(task: Task, plan: Plan) -> dict[str, str]:
    """A short sum of each thing that decides what the frames are, by a name for messages.

    Raises:
        ComfyUIUnavailable: the server at COMFYUI_URL does not tell its version.
    """
    sources = task.sources
    comfyui, *packs = _pins(task.studio).items()
    slots = task.studio.profile.slots_for(plan.talk_model)
    return {
        "picture": _sum([sources.picture]),
        "voices": _sum(path for path in sources.voices if path),
        "masks": _sum(path for path in sources.masks if path),
        "plan": _short(repr(plan.content())),
        "workflow": fingerprint(plan.template),
        "comfyui": " ".join(comfyui),
        "packs": _short(repr(packs) + _sum(sorted(WINDOW_NODES.glob("*.py")))),
        "models": _short(json.dumps(slots, sort_keys=True, default=dict)),
    }


def _pins(studio: Studio) -> dict[str, str]:
    """Those of our own ComfyUI lie on disk: it may still be starting."""
    if not studio.settings.comfyui_url:
        return pins(studio.settings, {})
    with comfy_errors():
        return pins(studio.settings, studio.new_client().system_stats())


def _sum(paths: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        total.update(bytes.fromhex(sha256_of(path)))
    return total.hexdigest()[:12]


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
