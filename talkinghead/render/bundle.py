"""The replay bundle: what it takes to render a video again, without any secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from talkinghead import __version__
from talkinghead.plan.plan import Plan
from talkinghead.plan.shown import without_secrets
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.gui_file import Workflow

FORMAT = 1  # raised when a field changes its meaning


def make_bundle(
    asked: object,
    plan: Plan,
    *,
    workflow: Workflow,
    graph: Graph,
    inputs: Mapping[str, Mapping[str, Any]],
    result: Mapping[str, Any],
    pins: Mapping[str, str],
    machine: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that made a video, as JSON.

    Args:
        asked: the job's input.
        workflow, graph: what ran, as GUI file and as API graph.
        inputs: of each file that came its sha256 and bytes, by the request's field that named it.
        result: the job's result: seed, size, models, the video's hash.
        pins: ComfyUI and its node packs, as talkinghead.comfy.pins tells them.
        machine: ComfyUI's /system_stats.
    """
    return {
        "format": FORMAT,
        "request": without_secrets(asked),
        "plan": plan.payload(),
        "result": dict(result),
        "inputs": dict(inputs),
        "versions": {"talkinghead": __version__, "pins": dict(pins)},
        "machine": {
            # Its arguments are left out: they name folders.
            "system": {k: v for k, v in machine.get("system", {}).items() if k != "argv"},
            "devices": machine.get("devices", []),
        },
        "workflow": workflow,
        "graph": graph,
    }
