"""Template + Plan -> patched GUI workflow -> API graph, checked against node schemas. Pure.

A slot is a place in a template that a plan fills: a node's title and the name of a widget. The
code knows titles only; node ids and the rest of the layout are the template's own.
"""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talkinghead.convert import (
    VIRTUAL,
    ConvertError,
    Graph,
    Input,
    Node,
    NodeSchema,
    Schemas,
    Value,
    Workflow,
    fit,
    inputs_of,
    output_types,
    remove_node,
    set_widget,
    title_of,
)
from talkinghead.errors import JobError, ModelsMissing, WorkflowRejected
from talkinghead.plan import Plan
from talkinghead.settings import PROJECT_DIR

MODEL_SUFFIXES = (".safetensors", ".gguf", ".pt", ".pth", ".ckpt", ".bin")

Slots = Mapping[str, Mapping[str, Value] | None]  # title -> widget -> value; None removes the node


@dataclass(frozen=True)
class Inputs:
    """A job's files as ComfyUI knows them, and the prefix of what it shall write."""

    picture: str
    speech: str
    sound: str
    output_prefix: str


def template_path(name: str) -> Path:
    """The GUI file of this name in `workflows/`."""
    return PROJECT_DIR / "workflows" / f"{name}.json"


def load_template(name: str) -> Workflow:
    """The template of this name."""
    content: Workflow = json.loads(template_path(name).read_text(encoding="utf-8"))
    return content


def slots_of(plan: Plan, inputs: Inputs) -> dict[str, dict[str, Value]]:
    """What the plan puts into its template, models apart."""
    shared: dict[str, dict[str, Value]] = {
        "Portrait": {"image": inputs.picture},
        "Resize portrait": {"width": plan.render_width, "height": plan.render_height},
        "Speaker 1 audio": {"audio": inputs.speech},
        "Sound": {"audio": inputs.sound},
        "Crop to size": {
            "width": plan.width,
            "height": plan.height,
            "x": (plan.render_width - plan.width) // 2,
            "y": (plan.render_height - plan.height) // 2,
        },
        "Video": {"filename_prefix": inputs.output_prefix},
    }
    own = _draft_slots(plan) if plan.draft else _talking_slots(plan)
    return {title: shared.get(title, {}) | own.get(title, {}) for title in shared | own}


def _draft_slots(plan: Plan) -> dict[str, dict[str, Value]]:
    return {"Draft": {"num_frames": plan.frames, "fps": plan.fps, "seed": plan.seed}}


def _talking_slots(plan: Plan) -> dict[str, dict[str, Value]]:
    sampling = plan.sampling
    # The template has a negative prompt of its own.
    negative: dict[str, Value] = {"text": plan.negative_prompt} if plan.negative_prompt else {}
    return {
        "Speed LoRA": {"strength": plan.speed_lora_strength},
        "Block swap": {"blocks_to_swap": plan.blocks_to_swap},
        "Prompt": {"text": plan.prompt},
        "Negative prompt": negative,
        "Talking image": {"width": plan.render_width, "height": plan.render_height},
        "Audio embeds": {
            # One more than needed: the node rounds the cut of its audio down, and would lose the
            # last frame of about one length in seventeen.
            "num_frames": plan.frames + 1,
            "fps": plan.fps,
            "audio_cfg_scale": sampling.audio_cfg,
        },
        "Sampler": {
            "steps": sampling.steps,
            "cfg": sampling.cfg,
            "shift": sampling.shift,
            "seed": plan.seed,
            "scheduler": sampling.scheduler,
        },
        "Cut to length": {"split_index": plan.frames},
        "Video": {"frame_rate": plan.fps, "crf": plan.crf},
    }


def fill(template: Workflow, slots: Slots, schemas: Schemas) -> Workflow:
    """A copy of the template with the slots filled, and without the nodes whose slot is None.

    Raises:
        WorkflowRejected: the template has no such node or widget, or two nodes of one title.
    """
    workflow = copy.deepcopy(template)
    _check_classes(workflow, schemas)
    try:
        for title, values in slots.items():
            node = _titled(workflow, title, schemas)
            if values is None:
                remove_node(workflow, node["id"])
            for name, value in (values or {}).items():
                set_widget(node, name, value, schemas)
    except ConvertError as error:
        raise WorkflowRejected(f"the template does not fit: {error}") from error
    return workflow


def _check_classes(workflow: Workflow, schemas: Schemas) -> None:
    classes = {node["type"] for node in workflow["nodes"]} - VIRTUAL
    if absent := sorted(classes - set(schemas)):
        raise WorkflowRejected(
            f"this ComfyUI has no {', '.join(absent)}: are the node packs of custom_nodes.txt "
            "installed? If so, ComfyUI's log says why one did not load"
        )


def _titled(workflow: Workflow, title: str, schemas: Schemas) -> Node:
    titles = [title_of(node, schemas) for node in workflow["nodes"]]
    if titles.count(title) == 1:
        node: Node = workflow["nodes"][titles.index(title)]
        return node
    if titles.count(title) > 1:
        raise ConvertError(f"{titles.count(title)} nodes have the title {title!r}")
    near = difflib.get_close_matches(title, titles, 1)
    hint = f"; the nearest is {near[0]!r}" if near else ""
    raise ConvertError(f"no node has the title {title!r}{hint}")


@dataclass(frozen=True)
class Problem:
    """What does not fit at one input of one node; `missing_file` is a model that is not there."""

    node: str
    input: str
    message: str
    missing_file: str | None = None

    def __str__(self) -> str:
        return f"{self.node}, input {self.input}: {self.message}"


def rejection(problems: list[Problem]) -> JobError:
    """The error that a job with these problems ends in."""
    missing = sorted({p.missing_file for p in problems if p.missing_file})
    if missing and all(p.missing_file for p in problems):
        return ModelsMissing(f"Required models are missing: {', '.join(missing)}", files=missing)
    text = "; ".join(map(str, problems))
    return WorkflowRejected(f"the workflow does not fit this ComfyUI: {text}")


def check(graph: Graph, schemas: Schemas) -> list[Problem]:
    """Everything in the graph that ComfyUI would refuse, as far as the schemas tell."""
    return [problem for key in graph for problem in _check_node(graph, key, schemas)]


def _check_node(graph: Graph, key: str, schemas: Schemas) -> Iterator[Problem]:
    entry = graph[key]
    name = _node_name(key, entry)
    schema = schemas.get(entry["class_type"])
    if schema is None:
        near = difflib.get_close_matches(entry["class_type"], schemas, 1)
        hint = f"; the nearest is {near[0]}" if near else ""
        yield Problem(name, "-", f"this ComfyUI has no node class {entry['class_type']}{hint}")
        return
    known = {each.name: each for each in inputs_of(schema, entry["inputs"])}
    for each in known.values():
        if each.name not in entry["inputs"] and not each.optional and not each.from_format:
            yield Problem(name, each.name, "is required, and missing")
    for input_name, value in entry["inputs"].items():
        if input_name not in known:
            near = difflib.get_close_matches(input_name, known, 1)
            hint = f"; the nearest is {near[0]}" if near else ""
            yield Problem(name, input_name, f"is not an input of {entry['class_type']}{hint}")
        elif isinstance(value, list):
            yield from _check_link(graph, name, known[input_name], value, schemas)
        else:
            yield from _check_value(name, known[input_name], value)


def _node_name(key: str, entry: Mapping[str, Any]) -> str:
    title = entry.get("_meta", {}).get("title") or key
    return f"{title} ({entry['class_type']}, node {key})"


def _check_link(
    graph: Graph, name: str, target: Input, link: list[Any], schemas: Schemas
) -> Iterator[Problem]:
    source = graph.get(str(link[0])) if len(link) == 2 else None
    if source is None:
        yield Problem(name, target.name, f"is linked to node {link[0]}, which is not there")
        return
    schema = schemas.get(source["class_type"])
    types = output_types(schema) if schema else []
    if schema and not link[1] < len(types):
        yield Problem(name, target.name, f"is linked to output {link[1]}, which is not there")
    elif schema and not fit(types[link[1]], target.type):
        yield Problem(name, target.name, f"takes {target.type}, got {types[link[1]]}")


_NUMBERS: Mapping[str, tuple[type, ...]] = {"INT": (int,), "FLOAT": (int, float)}


def _check_value(name: str, target: Input, value: object) -> Iterator[Problem]:
    if target.type == "COMBO":
        yield from _check_choice(name, target, value)
    elif target.type in _NUMBERS:
        if isinstance(value, bool) or not isinstance(value, _NUMBERS[target.type]):
            yield Problem(name, target.name, f"takes {target.type}, got {value!r}")
        elif isinstance(value, int | float):
            yield from _check_range(name, target, value)
    elif target.type == "BOOLEAN" and not isinstance(value, bool):
        yield Problem(name, target.name, f"takes true or false, got {value!r}")
    elif target.type == "STRING" and not isinstance(value, str):
        yield Problem(name, target.name, f"takes a string, got {value!r}")
    elif not target.is_widget:
        yield Problem(name, target.name, f"takes a link from a {target.type}, got {value!r}")


def _check_range(name: str, target: Input, value: float) -> Iterator[Problem]:
    low, high = target.options.get("min"), target.options.get("max")
    if (low is not None and value < low) or (high is not None and value > high):
        yield Problem(name, target.name, f"is {value}, allowed: {low} to {high}")


def _check_choice(name: str, target: Input, value: object) -> Iterator[Problem]:
    choices = target.options.get("options") or []
    # Files of the input folder are checked by the node itself; an empty list in a recorded schema
    # is one of files that were not recorded.
    uploads = any(target.options.get(f"{kind}_upload") for kind in ("image", "audio", "video"))
    if uploads or not choices or value in choices:
        return
    is_model = isinstance(value, str) and value.endswith(MODEL_SUFFIXES)
    shown = ", ".join(map(str, choices[:20])) + (", ..." if len(choices) > 20 else "")
    message = f"is {value!r}, allowed: {shown}"
    yield Problem(name, target.name, message, str(value) if is_model else None)


def load_schemas() -> Mapping[str, NodeSchema]:
    """The recorded schemas of the nodes that our templates use."""
    path = Path(__file__).with_name("node_schemas.json")
    recorded: Mapping[str, NodeSchema] = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    return recorded
