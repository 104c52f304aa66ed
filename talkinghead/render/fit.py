"""What has to be equal for one job to go on with the windows of another, and what need not be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from comfy_client import UNREACHABLE_SECONDS, ComfyClient
from talkinghead.comfy.failures import comfy_errors
from talkinghead.comfy.pins import pins
from talkinghead.comfy.studio import Studio
from talkinghead.files import sha256_of
from talkinghead.models.exclusions import COMPILE
from talkinghead.models.manifest import ModelProfile
from talkinghead.plan.plan import Plan
from talkinghead.render.prepare import check_of
from talkinghead.render.rendering import Task
from talkinghead.settings import PROJECT_DIR
from talkinghead.workflow.slots import Slots
from talkinghead.workflow.template import fingerprint

WINDOW_NODES = PROJECT_DIR / "custom_nodes" / "talkinghead_windows"
SUM_DIGITS = 32
# Of a profile, what a card needs to compute the same picture: it moves a pixel by rounding at most.
OF_THE_CARD = {
    "Wan model": ("attention_mode", "load_device", "quantization"),
    COMPILE: ("backend",),
    "VAE": ("precision",),
    "Sampler": ("force_offload",),
}
LIGHTER = ("blocks_to_swap", "tiled_vae")  # what running out of memory changes on the way


def fit_of(task: Task, plan: Plan) -> dict[str, str]:
    """A sum of each thing that decides what the frames are, by a name for messages.

    ComfyUI's own version is none of them: of its code a window runs the loaders of the files and
    the text encoder, while the sampler, the VAE and the embeds are the packs'.

    Raises:
        ComfyUIUnavailable: the server at COMFYUI_URL does not tell its version.
    """
    sources, check = task.sources, check_of(task.request, task.studio)
    # What was kept under a laxer look is nothing to go on with under the strict one.
    lax = {} if check == "fail" else {"check_picture": check}
    _, *packs = _pins(task.studio).items()
    nodes = sorted(WINDOW_NODES.glob("*.py"))
    return {
        "picture": _sum([sources.sums[sources.picture]]),
        "voices": _sum(sources.sums[path] for path in sources.voices if path),
        "masks": _sum(sources.sums[path] for path in sources.masks if path),
        "plan": _short(repr(plan.content())),
        "workflow": fingerprint(plan.template),
        "packs": _short(repr(packs) + _sum(map(sha256_of, nodes))),
        "models": _short(json.dumps(_models(task.studio.profile.filling(plan)))),
        **lax,
    }


def means_of(studio: Studio) -> dict[str, Any]:
    """What this worker makes windows with, by names for people: it may be another for the next.

    Raises:
        ComfyUIUnavailable: the server at COMFYUI_URL does not tell its version.
    """
    gpu = studio.host.gpu
    comfyui, *_ = _pins(studio).values()
    card = gpu.name if gpu else "none"
    return {"card": card, "ComfyUI": comfyui, **computed_with(studio.profile)}


def computed_with(profile: ModelProfile) -> dict[str, Any]:
    """Those of the means that a worker may change on the way."""
    slots = profile.slots
    return {
        "attention": (slots.get("Wan model") or {}).get("attention_mode"),
        "quantization": (slots.get("Wan model") or {}).get("quantization"),
        "precision of the VAE": (slots.get("VAE") or {}).get("precision"),
    }


def state_of(means: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """How a window is made by the plan, with these means."""
    return {**means, **{name: getattr(plan, name) for name in LIGHTER}}


def lighter_of(state: Mapping[str, Any], means: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier job learned of the memory it takes; nothing of one on another card."""
    if state.get("card") != means["card"]:
        return {}
    return {name: state[name] for name in LIGHTER}


def changes(state: Mapping[str, Any], means: Mapping[str, Any]) -> Iterator[str]:
    """What is another than when an earlier job made its last window, each as a phrase."""
    for name, now in means.items():
        if name in state and state[name] != now:
            yield f"{name} {now} instead of {state[name]}"


def _models(slots: Slots) -> list[tuple[str, str, Any]]:
    """The files, and how they are read; without what is the card's."""
    return sorted(
        (slot, widget, value)
        for slot, widgets in slots.items()
        for widget, value in ({"": "not there"} if widgets is None else widgets).items()
        if widget not in OF_THE_CARD.get(slot, ())
    )


def _pins(studio: Studio) -> dict[str, str]:
    """Those of our own ComfyUI lie on disk: it may still be starting."""
    url = studio.settings.comfyui_url
    if not url:
        return pins(studio.settings, {})
    # As patient as a render: it may be loading another client's models, and answer late.
    client = ComfyClient(url, answer_seconds=UNREACHABLE_SECONDS)
    with comfy_errors():
        return pins(studio.settings, client.system_stats())


def _sum(sums: Iterable[str]) -> str:
    total = hashlib.sha256()
    for each in sums:
        total.update(bytes.fromhex(each))
    return total.hexdigest()[:SUM_DIGITS]


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:SUM_DIGITS]
