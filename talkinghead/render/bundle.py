"""The replay bundle: what it takes to render a video again, without any secret."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talkinghead import __version__
from talkinghead.files import sha256_of
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
    inputs: Mapping[str, Path],
    result: Mapping[str, Any],
    pins: Mapping[str, str],
    machine: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that made a video, as JSON.

    Args:
        asked: the job's input.
        workflow, graph: what ran, as GUI file and as API graph.
        inputs: the files that came, by the field of the request that named them.
        result: the job's result: seed, size, models, the video's hash.
        pins: ComfyUI and its node packs, as talkinghead.comfy.pins tells them.
        machine: ComfyUI's /system_stats.
    """
    return {
        "format": FORMAT,
        "request": without_secrets(asked),
        "plan": plan.payload(),
        "result": dict(result),
        "inputs": {field: _described(path) for field, path in inputs.items()},
        "versions": {"talkinghead": __version__, "pins": dict(pins)},
        "machine": {
            # Its arguments are left out: they name folders.
            "system": {k: v for k, v in machine.get("system", {}).items() if k != "argv"},
            "devices": machine.get("devices", []),
        },
        "workflow": workflow,
        "graph": graph,
    }


def _described(path: Path) -> dict[str, Any]:
    return {"sha256": sha256_of(path), "bytes": path.stat().st_size}
