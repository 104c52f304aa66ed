"""Template + Plan -> patched GUI workflow -> API graph, checked against node schemas. Pure.

A slot is a place in a template that a plan fills: a node's title and the name of a widget. The
code knows titles only; node ids and the rest of the layout are the template's own.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from talkinghead.errors import JobError, ModelsMissing, WorkflowRejected
from talkinghead.plan.plan import Plan
from talkinghead.plan.windows import Window
from talkinghead.settings import PROJECT_DIR
from talkinghead.workflow.convert import (
    BROWSER_INPUTS,
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

MODEL_SUFFIXES = (".safetensors", ".gguf", ".pt", ".pth", ".ckpt", ".bin")

MAX_SPEAKERS = 4
ACTIVE = 0  # a node's mode in the GUI file: neither muted nor bypassed
# Lists of input files that are not flagged as such; the node itself takes files in subfolders too.
UNFLAGGED_UPLOADS = frozenset(
    {("LoadLatent", "latent"), ("VHS_LoadVideo", "video"), ("VHS_LoadAudioUpload", "audio")}
)
ALL_FRAMES = 4096  # as many as ImageFromBatch takes
FRAME_FOLDER = "Frame folder"  # the node that says where the frames are

MutableSlots = dict[str, dict[str, Value] | None]
Slots = Mapping[str, Mapping[str, Value] | None]  # title -> widget -> value; None removes the node


@dataclass(frozen=True)
class Inputs:
    """A job's files as ComfyUI knows them, and the prefix of what it shall write.

    `picture` is a picture, or the video of source frames. With a `frames_folder`, an absolute path
    on ComfyUI's disk, the frames are written there, and no video is made.
    """

    picture: str
    speech: tuple[str, ...]
    sound: str
    masks: str | None
    output_prefix: str
    frames_folder: str | None = None


@dataclass(frozen=True)
class WindowInputs:
    """One window's files, as ComfyUI knows them.

    `picture` is the first frame of the whole render and `reference` that of the window; `speech`
    is of the window's stretch, `motion` what the window before left.
    """

    picture: str
    reference: str
    speech: tuple[str, ...]
    masks: str | None
    motion: str | None
    output_prefix: str


class Profile(Protocol):
    """A set of model files that go together."""

    def slots_for(self, talk_model: str) -> Slots:
        """What it puts into a template for a render with this talk model."""


def template_path(name: str) -> Path:
    """The GUI file of this name in `workflows/`."""
    return PROJECT_DIR / "workflows" / f"{name}.json"


def load_template(name: str) -> Workflow:
    """The template of this name."""
    content: Workflow = json.loads(template_path(name).read_text(encoding="utf-8"))
    return content


def fingerprint(template: str) -> str:
    """A short hash of the template file, so that a result tells which edit of it ran."""
    return hashlib.sha256(template_path(template).read_bytes()).hexdigest()[:12]


def fill_template(plan: Plan, inputs: Inputs, profile: Profile, schemas: Schemas) -> Workflow:
    """The plan's template with the models of the profile and everything that the plan decided.

    Raises:
        WorkflowRejected: this ComfyUI lacks a node class, or the template a slot.
    """
    workflow = load_template(plan.template)
    if not plan.request.draft:
        _fill(workflow, profile.slots_for(plan.talk_model), schemas)
    _fill(workflow, slots_of(plan, inputs), schemas)
    return workflow


def fill_window(
    plan: Plan, window: Window, inputs: WindowInputs, profile: Profile, schemas: Schemas
) -> Workflow:
    """The template of one window of the plan's chain, filled. Raises as `fill_template`."""
    workflow = load_template(plan.template)
    _fill(workflow, profile.slots_for(plan.talk_model), schemas)
    _fill(workflow, window_slots(plan, window, inputs), schemas)
    return workflow


def window_slots(plan: Plan, window: Window, inputs: WindowInputs) -> Slots:
    """What the plan puts into the template of one window, models apart."""
    size: dict[str, Value] = _render_size(plan)
    tiles: dict[str, Value] = {"tiled_vae": plan.tiled_vae}
    slots: MutableSlots = _people_slots(plan, inputs.speech, inputs.masks)
    slots |= _sampler_slots(plan, window.stretch.frames, window.seed)
    slots |= {
        "Portrait": {"image": inputs.picture},
        "Resize portrait": size,
        "Reference": {"image": inputs.reference},
        "Resize reference": size,
        "Talking image": {**size, **tiles, "num_frames": plan.window_frames},
        "Motion before": {"latent": inputs.motion} if inputs.motion else None,
        "Continue": tiles,
        "Window audio": {
            "start": window.start - window.stretch.first,
            "frames": plan.window_frames,
        },
        "Frames": {
            **tiles,
            "motion_frames": plan.model.motion_frames,
            "match_colours": plan.request.color_match,
        },
        "New frames": {"split_index": window.repeated},
        "Cut to length": {"split_index": window.new},
        "Crop to size": _crop(plan),
        "Video": {
            "filename_prefix": f"{inputs.output_prefix}/segment",
            "frame_rate": plan.fps,
            "crf": plan.crf,
        },
        "Motion after": {"filename_prefix": f"{inputs.output_prefix}/motion"},
    }
    return slots


def slots_of(plan: Plan, inputs: Inputs) -> Slots:
    """What the plan puts into its template, models apart."""
    slots: MutableSlots = {"Sound": {"audio": inputs.sound}}
    slots |= _picture_slots(plan, inputs)
    slots |= _people_slots(plan, inputs.speech, inputs.masks)
    slots |= _draft_slots(plan) if plan.request.draft else _talking_slots(plan)
    encoding: dict[str, Value] = (
        {} if plan.request.draft else {"frame_rate": plan.fps, "crf": plan.crf}
    )
    slots["Video"] = {"filename_prefix": inputs.output_prefix, **encoding}
    return slots | _frames_slots(plan, inputs, slots)


def _picture_slots(plan: Plan, inputs: Inputs) -> MutableSlots:
    size = _render_size(plan)
    if plan.source is None:
        return {"Portrait": {"image": inputs.picture}, "Resize portrait": size}
    if plan.request.draft:
        return {"Source video": {"file": inputs.picture}}
    # The frames that are used, and no others, are in the file.
    loader = {f"custom_{side}": size[side] for side in size}
    return {"Source video": {"video": inputs.picture, "select_every_nth": 1, **loader}}


def _render_size(plan: Plan) -> dict[str, Value]:
    return {"width": plan.framing.render_width, "height": plan.framing.render_height}


def _people_slots(plan: Plan, speech: Sequence[str], masks: str | None) -> MutableSlots:
    """Those who are there, switched on; the others, and masks that nobody needs, taken out."""
    slots: MutableSlots = {f"Speaker {number} audio": None for number in range(1, MAX_SPEAKERS + 1)}
    for number, track in enumerate(speech, 1):
        slots[f"Speaker {number} audio"] = {"audio": track}
    slots["Speaker masks"] = {"image": masks} if masks else None
    slots["Masks"] = {} if masks else None
    if plan.template == "draft_i2v":
        slots["Crop masks"] = _crop(plan) if masks else None
    return slots


def _crop(plan: Plan) -> dict[str, Value]:
    """From the middle of the rendered frame, what is delivered."""
    left, top, _, _ = plan.delivered_box
    return {"width": plan.width, "height": plan.height, "x": left, "y": top}


def _draft_slots(plan: Plan) -> MutableSlots:
    crop: MutableSlots = {} if plan.source else {"Crop to size": _crop(plan)}
    return crop | {"Draft": {"num_frames": plan.frames, "fps": plan.fps, "seed": plan.seed}}


def _talking_slots(plan: Plan) -> MutableSlots:
    source: MutableSlots = _source_slots(plan) if plan.source else {}
    slots: MutableSlots = {
        "Talking image": {
            **_render_size(plan),
            "frame_window_size": plan.window_frames,
            "motion_frame": plan.model.motion_frames,
            "mode": plan.request.mode,
            "tiled_vae": plan.tiled_vae,
        },
        "Cut to length": {"split_index": plan.frames},
        "Crop to size": _crop(plan),
    }
    return source | slots | _sampler_slots(plan, plan.frames, plan.seed)


def _sampler_slots(plan: Plan, heard_frames: int, seed: int) -> MutableSlots:
    """What a whole render and a window have in common; `heard_frames` of sound lie ready."""
    sampling = plan.sampling
    # The template has a negative prompt of its own.
    negative: dict[str, Value] = (
        {"text": plan.request.negative_prompt} if plan.request.negative_prompt else {}
    )
    return {
        "Speed LoRA": {"strength": plan.request.speed_lora_strength},
        "Block swap": {"blocks_to_swap": plan.blocks_to_swap},
        "Prompt": {"text": plan.request.prompt},
        "Negative prompt": negative,
        "Audio embeds": {
            # One more than needed: the node rounds the cut of its audio down, and would lose the
            # last frame of about one length in seventeen.
            "num_frames": heard_frames + 1,
            "fps": plan.fps,
            "audio_scale": sampling.audio_scale,
            "audio_cfg_scale": sampling.audio_cfg,
        },
        "Sampler": {
            "steps": sampling.steps,
            "start_step": sampling.start_step,
            "cfg": sampling.cfg,
            "shift": sampling.shift,
            "seed": seed,
            "scheduler": sampling.scheduler,
            "add_noise_to_samples": plan.video_method == "denoise",
        },
    }


def _frames_slots(plan: Plan, inputs: Inputs, slots: MutableSlots) -> MutableSlots:
    """The frames to disk, and without what makes a video of them; or no folder of frames."""
    if inputs.frames_folder is None:
        return {FRAME_FOLDER: None} if plan.template == "infinitetalk_i2v" else {}
    image = {**(slots["Talking image"] or {}), "output_path": inputs.frames_folder}
    video = ("Cut to length", "Crop to size", "Video", "Sound")
    return {"Talking image": image, FRAME_FOLDER: {}, **dict.fromkeys(video)}


def _source_slots(plan: Plan) -> MutableSlots:
    """Keyframes: window i is guided by frame i. Denoise: by the first, and starts from the clip."""
    if plan.video_method == "keyframes":
        return {"Reference frames": {"length": ALL_FRAMES}, "Encode source": None}
    return {"Reference frames": {"length": 1}, "Encode source": {}}


def fill(template: Workflow, slots: Slots, schemas: Schemas) -> Workflow:
    """A copy of the template with the slots filled, and without the nodes whose slot is None.

    A node with a slot is switched on: in the file as it lies it may be muted.

    Raises:
        WorkflowRejected: the template has no such node or widget, or two nodes of one title.
    """
    workflow = copy.deepcopy(template)
    _fill(workflow, slots, schemas)
    return workflow


def _fill(workflow: Workflow, slots: Slots, schemas: Schemas) -> None:
    """Fill in place."""
    _check_classes(workflow, schemas)
    try:
        for title, values in slots.items():
            node = _titled(workflow, title, schemas)
            if values is None:
                remove_node(workflow, node["id"])
            node["mode"] = ACTIVE
            for name, value in (values or {}).items():
                set_widget(node, name, value, schemas)
    except ConvertError as error:
        raise WorkflowRejected(f"the template does not fit: {error}") from error


def _check_classes(workflow: Workflow, schemas: Schemas) -> None:
    subgraphs = (workflow.get("definitions") or {}).get("subgraphs") or []
    classes = {node["type"] for graph in (workflow, *subgraphs) for node in graph["nodes"]}
    classes -= VIRTUAL | {subgraph["id"] for subgraph in subgraphs}
    if absent := sorted(classes - set(schemas)):
        raise WorkflowRejected(f"this ComfyUI has no {', '.join(absent)}: {_remedy(absent)}")


def _remedy(absent: Sequence[str]) -> str:
    """What to do where node classes are absent: those of packs, and our own, which have a name."""
    own = [name for name in absent if name.startswith("TalkingHead")]
    remedies = []
    if len(own) < len(absent):
        remedies.append("are the node packs of custom_nodes.txt installed?")
    if own:
        remedies.append(
            f"{own[0]} is of this project's own custom_nodes/, which the ComfyUI at COMFYUI_URL "
            "needs among its folders of custom nodes."
        )
    if any(name != "TalkingHeadDraft" for name in own):
        remedies.append('A job with "long": false does without.')
    return " ".join([*remedies, "If they are there, ComfyUI's log says why one did not load"])


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
    title = (entry.get("_meta") or {}).get("title") or key
    name = node_label(title, entry["class_type"], key)
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
        if input_name in BROWSER_INPUTS:
            continue
        if input_name not in known:
            near = difflib.get_close_matches(input_name, known, 1)
            hint = f"; the nearest is {near[0]}" if near else ""
            yield Problem(name, input_name, f"is not an input of {entry['class_type']}{hint}")
        elif isinstance(value, list):
            yield from _check_link(graph, name, known[input_name], value, schemas)
        elif (entry["class_type"], input_name) not in UNFLAGGED_UPLOADS:
            yield from _check_value(name, known[input_name], value)


def node_label(title: str, class_type: str, key: object) -> str:
    """How a message names a node."""
    return f"{title} ({class_type}, node {key})"


def _check_link(
    graph: Graph, name: str, target: Input, link: list[Any], schemas: Schemas
) -> Iterator[Problem]:
    source = graph.get(str(link[0])) if len(link) == 2 and isinstance(link[1], int) else None
    if source is None:
        yield Problem(name, target.name, f"is linked to {link}, which is not there")
        return
    schema = schemas.get(source["class_type"])
    types = output_types(schema) if schema else []
    if schema and not 0 <= link[1] < len(types):
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


def model_files(graph: Graph) -> dict[str, str]:
    """The model files that the graph loads, by the title of the node that loads each."""
    return {
        entry["_meta"]["title"]: value
        for entry in graph.values()
        for value in entry["inputs"].values()
        if isinstance(value, str) and value.endswith(MODEL_SUFFIXES)
    }


# What a loader gives, and ComfyUI shall keep between jobs.
MODEL_TYPES = frozenset({"WANVIDEOMODEL", "WANVAE", "CLIP_VISION", "WAV2VECMODEL", "CLIP"})


def loaders_only(graph: Graph, schemas: Schemas) -> Graph:
    """The part of the graph that loads models; empty for one without models.

    ComfyUI keeps what the last prompt's nodes gave: running this after a job drops the job's frames
    from memory, and keeps the models.
    """
    models = {
        key
        for key, entry in graph.items()
        if MODEL_TYPES & set(output_types(schemas[entry["class_type"]]))
    }
    inner = {source for key in models for source in _sources(graph[key])}
    kept: Graph = {}
    waiting = sorted(models)
    while waiting:
        key = waiting.pop()
        kept[key] = graph[key]
        waiting += _sources(graph[key]) - set(kept)
    for key in sorted(models - inner):
        kept[f"{key}_kept"] = {"class_type": "PreviewAny", "inputs": {"source": [key, 0]}}
    return kept


def _sources(entry: Mapping[str, Any]) -> set[str]:
    return {str(value[0]) for value in entry["inputs"].values() if isinstance(value, list)}


def load_schemas() -> Mapping[str, NodeSchema]:
    """The recorded schemas of the nodes that our templates use."""
    path = Path(__file__).with_name("node_schemas.json")
    recorded: Mapping[str, NodeSchema] = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    return recorded
