"""What ComfyUI accepts, and what then fails late or is silently wrong. Pure.

A rule reads an API graph and yields findings; inputs that a link feeds are left alone, since their
value is not known before the run. `traps` are the rules for any graph that is about to run,
`lint_workflow` adds the node schemas and what the GUI would change.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from talkinghead.plan.fields import MAX_SEED, Scheduler
from talkinghead.plan.frames import MODEL_FPS
from talkinghead.plan.plan import SIZE_MULTIPLE
from talkinghead.plan.sampling import DISTILL_STEPS
from talkinghead.plan.talk_models import MODELS, model_of_file
from talkinghead.workflow.convert import (
    BYPASSED,
    MUTED,
    VIRTUAL,
    ConvertError,
    Graph,
    Input,
    Node,
    Schemas,
    Workflow,
    inputs_of,
    is_api,
    is_gui,
    title_of,
    to_api,
)
from talkinghead.workflow.template import Problem, check, node_label

Severity = Literal["error", "warning"]

LOADER, TALK_LOADER = "WanVideoModelLoader", "MultiTalkModelLoader"
LORA, SET_LORAS = "WanVideoLoraSelect", "WanVideoSetLoRAs"
EMBEDS, TALKING_IMAGE = "MultiTalkWav2VecEmbeds", "WanVideoImageToVideoMultiTalk"
SAMPLER, ENCODE, COMBINE = "WanVideoSampler", "WanVideoEncode", "VHS_VideoCombine"
WINDOW_IMAGE, WINDOW_AUDIO = "WanVideoImageToVideoEncode", "TalkingHeadWindowAudio"
CONTINUE, DECODE, SPLIT = "TalkingHeadContinueWindow", "TalkingHeadDecodeWindow", "VHS_SplitImages"
VIDEO_LOADERS = (
    "VHS_LoadVideo",
    "VHS_LoadVideoPath",
    "VHS_LoadVideoFFmpeg",
    "VHS_LoadVideoFFmpegPath",
)


@dataclass(frozen=True)
class Finding:
    """An `error` would fail or give something other than the graph says.

    `node` is "title (class, node id)"; it and `input` are empty where the whole file is meant.
    """

    severity: Severity
    node: str
    input: str
    message: str

    def __str__(self) -> str:
        place = ", input ".join(each for each in (self.node, self.input) if each)
        return ": ".join(each for each in (self.severity, place, self.message) if each)


def lint_workflow(content: object, schemas: Schemas) -> list[Finding]:
    """Everything in a GUI file or an API graph that would be refused, fail or come out wrong."""
    if is_gui(content):
        return _lint_gui(content, schemas)
    if is_api(content):
        return _lint_graph(content, schemas)
    message = (
        "is neither a GUI workflow, with lists of nodes and links, nor an API graph, in which "
        "every entry has a class_type and inputs: save or export it in the GUI again"
    )
    return [Finding("error", "", "", message)]


def traps(graph: Graph, schemas: Schemas | None = None) -> list[Finding]:
    """What an API graph that passes validation would still fail or go wrong on.

    With schemas, inputs that the graph leaves out count with their defaults.
    """
    view = _View(graph, schemas or {})
    return [finding for rule in TRAPS for finding in rule(view)]


def _lint_gui(gui: Workflow, schemas: Schemas) -> list[Finding]:
    if not all(isinstance(node, dict) and {"id", "type"} <= node.keys() for node in gui["nodes"]):
        return [Finding("error", "", "", "has nodes without id or type: save it in the GUI again")]
    of_file = [finding for rule in FILE_RULES for finding in rule(gui, schemas)]
    if unknown := list(_unknown_classes(gui, schemas)):
        return unknown + of_file
    try:
        graph = to_api(gui, schemas)
    except ConvertError as error:
        return [Finding("error", "", "", str(error)), *of_file]
    return _lint_graph(graph, schemas) + of_file


def _unknown_classes(gui: Workflow, schemas: Schemas) -> Iterator[Finding]:
    """All of them; conversion stops at the first."""
    subgraphs = {each["id"] for each in (gui.get("definitions") or {}).get("subgraphs") or []}
    known = {*schemas, *VIRTUAL, *subgraphs}
    for node in gui["nodes"]:
        if node["type"] in known or node.get("mode") in (MUTED, BYPASSED):
            continue
        near = difflib.get_close_matches(node["type"], schemas, 1)
        hint = f"; the nearest is {near[0]}" if near else ""
        message = f"this ComfyUI has no node class {node['type']}{hint}"
        yield Finding("error", _gui_label(node, schemas), "", message)


def _gui_label(node: Node, schemas: Schemas) -> str:
    return node_label(title_of(node, schemas), node["type"], node["id"])


def _lint_graph(graph: Graph, schemas: Schemas) -> list[Finding]:
    view = _View(graph, schemas)
    in_gui = [finding for rule in GUI_RULES for finding in rule(view)]
    return [*map(_refused, check(graph, schemas)), *traps(graph, schemas), *in_gui]


def _refused(problem: Problem) -> Finding:
    name = "" if problem.input == "-" else problem.input
    return Finding("error", problem.node, name, problem.message)


# ---- How rules see a graph


@dataclass(frozen=True, eq=False)
class _Node:
    """A node of an API graph. `values` holds what no link feeds, with the schema's defaults."""

    label: str
    class_type: str
    inputs: Mapping[str, Any]
    known: Sequence[Input]
    values: Mapping[str, Any]

    def number(self, name: str) -> float | None:
        value = self.values.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return value if is_number else None

    def text(self, name: str) -> str:
        value = self.values.get(name)
        return value if isinstance(value, str) else ""

    def is_linked(self, name: str) -> bool:
        return isinstance(self.inputs.get(name), list)

    def error(self, name: str, message: str) -> Finding:
        return Finding("error", self.label, name, message)

    def warning(self, name: str, message: str) -> Finding:
        return Finding("warning", self.label, name, message)


def _node(key: str, entry: Mapping[str, Any], schemas: Schemas) -> _Node:
    inputs, class_type = entry["inputs"], entry["class_type"]
    known = inputs_of(schemas[class_type], inputs) if class_type in schemas else []
    values = {each.name: each.options.get("default") for each in known} | dict(inputs)
    title = (entry.get("_meta") or {}).get("title") or key
    return _Node(
        label=node_label(title, class_type, key),
        class_type=class_type,
        inputs=inputs,
        known=known,
        values={name: value for name, value in values.items() if not isinstance(value, list)},
    )


class _View:
    """The nodes of an API graph and what they depend on."""

    def __init__(self, graph: Graph, schemas: Schemas) -> None:
        self.nodes = {key: _node(key, entry, schemas) for key, entry in graph.items()}

    def of(self, *classes: str) -> list[_Node]:
        return [node for node in self.nodes.values() if node.class_type in classes]

    def source(self, node: _Node, name: str) -> _Node | None:
        """The node that a link to this input starts at."""
        match node.inputs.get(name):
            case [key, _]:
                return self.nodes.get(str(key))
        return None

    def is_used(self, node: _Node, output: int) -> bool:
        """Whether a link starts at this output."""
        links = (link for each in self.nodes.values() for link in each.inputs.values())
        outputs = (link for link in links if isinstance(link, list) and len(link) == 2)
        return any(self.nodes.get(str(key)) is node and slot == output for key, slot in outputs)

    def before(self, node: _Node | None, *classes: str) -> list[_Node]:
        """This node and all it depends on, as far as they are of these classes."""
        found: dict[str, _Node] = {}
        waiting = [node] if node else []
        while waiting:
            each = waiting.pop()
            if each.label not in found:
                found[each.label] = each
                sources = (self.source(each, name) for name in each.inputs)
                waiting += [source for source in sources if source]
        return [each for each in found.values() if each.class_type in classes]


Rule = Callable[[_View], Iterable[Finding]]
FileRule = Callable[[Workflow, Schemas], Iterable[Finding]]


# ---- Model files

GGUF, SCALED, FP8, PLAIN = "GGUF", "scaled fp8", "unscaled fp8", "fp16 or bf16"
# Base model -> talk models that it can carry.
TALK_MODELS = {
    GGUF: (GGUF, FP8, PLAIN),
    SCALED: (SCALED, FP8, PLAIN),
    FP8: (FP8, PLAIN),
    PLAIN: (FP8, PLAIN),
}
WHY_NOT = {
    GGUF: "the loader takes a GGUF talk model only with a GGUF base model",
    SCALED: "its scales would be left out, and the speech be wrong without an error",
}


def _kind(file: str) -> str:
    """How a model file holds its weights, by its name."""
    name = file.lower()
    if name.endswith(".gguf"):
        return GGUF
    if "fp8" in name:
        return SCALED if "scaled" in name else FP8
    return PLAIN


def _base_kind(loader: _Node) -> str:
    """What the base model is once it is loaded."""
    kind = _kind(loader.text("model"))
    return FP8 if kind == PLAIN and "fp8" in loader.text("quantization") else kind


def _talk_model_fits_base(view: _View) -> Iterator[Finding]:
    for loader in view.of(LOADER):
        talk = view.source(loader, "multitalk_model")
        base, file = loader.text("model"), talk.text("model") if talk else ""
        if not talk or not base or not file:
            continue
        kind, base_kind = _kind(file), _base_kind(loader)
        # With a LoRA on the loader, linears are replaced by ones that know scales.
        rescued = (base_kind, kind) == (FP8, SCALED) and loader.is_linked("lora")
        if kind not in TALK_MODELS[base_kind] and not rescued:
            yield talk.error(
                "model",
                f"{file} is {kind} by its name and the base model {base} is {base_kind}: "
                f"{WHY_NOT[kind]}; take a talk model that is {', '.join(TALK_MODELS[base_kind])}",
            )


def _quantization_fits_base(view: _View) -> Iterator[Finding]:
    for loader in view.of(LOADER):
        quantization, base = loader.text("quantization"), loader.text("model")
        if not base or not quantization:
            continue
        if _kind(base) == GGUF and quantization != "disabled":
            yield loader.error(
                "quantization", f'is {quantization}, which fails with a GGUF: set it to "disabled"'
            )
        elif "scaled" in quantization and _kind(base) != SCALED:
            yield loader.error(
                "quantization",
                f"is {quantization}, and {base} is not scaled fp8 by its name, which fails: "
                'set it to "disabled", which chooses by the weights',
            )


def _fast_goes_without_lora(view: _View) -> Iterator[Finding]:
    for loader in view.of(LOADER):
        merged = any(_merges(lora) for lora in _loras(view, loader))
        later = [node for node in view.of(SET_LORAS) if loader in view.before(node, LOADER)]
        unmerged = loader.is_linked("lora") and not merged
        if "fast" in loader.text("quantization") and (
            unmerged or any(_loras(view, node) for node in later)
        ):
            yield loader.error(
                "quantization",
                "the _fast ones fail with a LoRA that is not merged: take one without _fast",
            )


def _loras(view: _View, node: _Node) -> list[_Node]:
    """The LoRAs linked to this node; the nodes leave out those of strength 0."""
    chain = view.before(view.source(node, "lora"), LORA)
    return [lora for lora in chain if lora.number("strength") != 0]


def _merges(lora: _Node) -> bool:
    return lora.values.get("merge_loras") is True


def _lora_can_be_merged(view: _View) -> Iterator[Finding]:
    for node in view.of(LOADER, SET_LORAS):
        kind = _base_kind(node) if node.class_type == LOADER else ""
        for lora in filter(_merges, _loras(view, node)):
            if kind == GGUF:
                yield lora.error("merge_loras", "fails with a GGUF base model: set it to false")
            elif node.class_type == SET_LORAS:
                yield lora.error("merge_loras", f"fails with {SET_LORAS}: set it to false")
            elif kind == FP8:
                yield lora.warning(
                    "merge_loras",
                    "the sum would be rounded to fp8, and is not known to be good: set it to false",
                )


def _gguf_has_its_limits(view: _View) -> Iterator[Finding]:
    for loader in view.of(LOADER):
        if _kind(loader.text("model")) != GGUF:
            continue
        if loader.is_linked("vram_management_args"):
            yield loader.error(
                "vram_management_args", "fails with a GGUF: take it out and swap blocks instead"
            )
        if loader.text("rms_norm_function") not in ("", "default"):
            yield loader.warning(
                "rms_norm_function", 'is not known to work with a GGUF: set it to "default"'
            )


# ---- Speakers


def _speakers_have_masks(view: _View) -> Iterator[Finding]:
    for embeds in view.of(EMBEDS):
        voices = [n for n in range(1, 5) if embeds.is_linked(f"audio_{n}")]
        if missing := [n for n in range(1, max(voices, default=0)) if n not in voices]:
            yield embeds.error(
                f"audio_{missing[0]}",
                f"is empty while audio_{voices[-1]} is linked: voices would move up and speak for "
                "the masks of others; link them without a gap",
            )
        if len(voices) < 2:
            continue
        if not embeds.is_linked("ref_target_masks"):
            yield embeds.error(
                "ref_target_masks",
                f"is empty, and the sampler fails on {len(voices)} voices without masks: link one "
                "mask per voice, in order, and one of the background",
            )
        if embeds.text("multi_audio_type") == "add":
            yield embeds.warning(
                "multi_audio_type",
                '"add" lets num_frames cap each voice by itself: take "para" with voices that are '
                "padded to one length, so that each is silent while another speaks",
            )


def _masks_are_crisp(view: _View) -> Iterator[Finding]:
    for embeds in view.of(EMBEDS):
        masks = view.source(embeds, "ref_target_masks")
        for image in view.before(masks, "LoadImage", "LoadImageMask"):
            if re.search(r"\.(jpe?g|webp)$", image.text("image"), re.IGNORECASE):
                yield image.warning(
                    "image",
                    f"{image.text('image')} is used as a mask, in which all but black counts, "
                    "also what lossy compression leaves beside an edge: take a PNG",
                )


# ---- The talk model, its mode and its windows


def _talks(view: _View) -> Iterator[tuple[_Node, _Node, str]]:
    """Talking image, talk model, and the mode that the model's name stands for."""
    for sampler in view.of(SAMPLER):
        for image in view.before(view.source(sampler, "image_embeds"), TALKING_IMAGE):
            for talk in view.before(view.source(sampler, "model"), TALK_LOADER):
                if file := talk.text("model"):
                    yield image, talk, model_of_file(file).name


def _mode_fits_talk_model(view: _View) -> Iterator[Finding]:
    for image, talk, own_mode in _talks(view):
        if image.text("mode") not in ("", "auto", own_mode):
            yield image.warning(
                "mode",
                f'is "{image.text("mode")}", and {talk.text("model")} is an {own_mode} model by '
                f'its name: set it to "{own_mode}", or take another talk model',
            )


def _motion_frames_fit_mode(view: _View) -> Iterator[Finding]:
    for image, _, own_mode in _talks(view):
        mode = own_mode if image.text("mode") == "auto" else image.text("mode")
        usual = MODELS[mode].motion_frames if mode in MODELS else None
        motion = image.number("motion_frame")
        if usual and motion is not None and motion != usual:
            yield image.warning(
                "motion_frame", f"is {motion}; {mode} was made for {usual}: set it to {usual}"
            )


def _talk_model_knows_two(view: _View) -> Iterator[Finding]:
    for sampler in view.of(SAMPLER):
        embeds = view.before(view.source(sampler, "multitalk_embeds"), EMBEDS)
        if not any(each.is_linked("audio_2") for each in embeds):
            continue
        for talk in view.before(view.source(sampler, "model"), TALK_LOADER):
            if "single" in talk.text("model").lower():
                yield talk.warning(
                    "model",
                    f"{talk.text('model')} is made for one voice, by its name, and two or more are "
                    "linked: take the file for several",
                )


def _windows_advance(view: _View) -> Iterator[Finding]:
    for image in view.of(TALKING_IMAGE):
        window, motion = image.number("frame_window_size"), image.number("motion_frame")
        if window is not None and window % 4 != 1:
            yield image.warning(
                "frame_window_size",
                f"is {window}, and the node makes it a multiple of 4 plus 1: set it to 81",
            )
        if motion is not None and motion % 4 != 1:
            yield image.error(
                "motion_frame",
                f"is {motion}, which loses frames at every seam: set it to a multiple of 4 plus 1",
            )
        if motion is not None and window is not None and motion >= window:
            yield image.error(
                "motion_frame",
                f"is {motion} of a window of {window}: no window would make a new frame; "
                "set it to 9 (InfiniteTalk) or 25 (MultiTalk)",
            )


def _size_is_kept(view: _View) -> Iterator[Finding]:
    of_windows = [image for window in _windows(view) for image in window.images]
    for image in [*view.of(TALKING_IMAGE), *of_windows]:
        for name in ("width", "height"):
            size = image.number(name)
            if size is not None and size % SIZE_MULTIPLE:
                up = math.ceil(size / SIZE_MULTIPLE) * SIZE_MULTIPLE
                yield image.error(
                    name,
                    f"is {size}, and the video would come out smaller: set a multiple of "
                    f"{SIZE_MULTIPLE}, such as {up}, and crop after the render",
                )


# ---- One window of a chain


@dataclass(frozen=True)
class _Window:
    """The nodes of a prompt that renders one window, around its TalkingHeadContinueWindow."""

    continued: _Node
    sampler: _Node
    images: Sequence[_Node]
    hears: Sequence[_Node]
    decodes: Sequence[_Node]

    @property
    def is_first(self) -> bool:
        return not self.continued.is_linked("motion")


def _windows(view: _View) -> Iterator[_Window]:
    for sampler in view.of(SAMPLER):
        for continued in view.before(view.source(sampler, "image_embeds"), CONTINUE):
            yield _Window(
                continued,
                sampler,
                images=view.before(continued, WINDOW_IMAGE),
                hears=view.before(view.source(sampler, "multitalk_embeds"), WINDOW_AUDIO),
                decodes=[each for each in view.of(DECODE) if sampler in view.before(each, SAMPLER)],
            )


def _window_talks_infinitely(view: _View) -> Iterator[Finding]:
    for window in _windows(view):
        for talk in view.before(view.source(window.sampler, "model"), TALK_LOADER):
            name = talk.text("model")
            if name and model_of_file(name).long != "chain":
                yield talk.warning(
                    "model",
                    f"{name} is no InfiniteTalk model by its name, and only those continue a "
                    "window: take one, or a workflow that renders in one prompt",
                )


def _window_has_one_length(view: _View) -> Iterator[Finding]:
    for window in _windows(view):
        lengths = [(image, "num_frames") for image in window.images]
        lengths += [(each, "frames") for each in window.hears]
        lengths += [(each, "motion_frames") for each in window.decodes]
        for node, name in lengths:
            if (frames := node.number(name)) is not None and frames % 4 != 1:
                yield node.error(name, f"is {frames}: set it to a multiple of 4 plus 1")
        for image in window.images:
            yield from _fits_length(window, image)


def _fits_length(window: _Window, image: _Node) -> Iterator[Finding]:
    frames = image.number("num_frames")
    for each in window.hears:
        heard = each.number("frames")
        if frames is not None and heard not in (None, frames):
            yield each.error(
                "frames",
                f"is {heard}, and {image.label} makes {frames}: set both to the same",
            )
    for each in window.decodes:
        motion = each.number("motion_frames")
        if frames is not None and motion is not None and motion >= frames:
            yield each.error(
                "motion_frames",
                f"is {motion} of a window of {frames}: no window would make a new frame; "
                f"set it to {MODELS['infinitetalk'].motion_frames}",
            )


def _window_has_one_size(view: _View) -> Iterator[Finding]:
    for window in _windows(view):
        reference = view.source(window.continued, "reference")
        if reference is None or reference.class_type != "ImageScale":
            continue
        for image, name in itertools.product(window.images, ("width", "height")):
            size, other = image.number(name), reference.number(name)
            if size is not None and other not in (None, size):
                yield reference.error(
                    name, f"is {other}, and {image.label} has {size}: set both to the same"
                )


def _window_hears_its_part(view: _View) -> Iterator[Finding]:
    for window in _windows(view):
        if window.sampler.is_linked("multitalk_embeds") and not window.hears:
            yield window.sampler.error(
                "multitalk_embeds",
                f"comes past {WINDOW_AUDIO}: every window would hear the beginning",
            )
        for each in window.hears:
            start = each.number("start")
            if start == 0 and not window.is_first:
                yield each.error(
                    "start",
                    "is 0 while motion is linked: it would hear what the first window heard; set "
                    "it to the start of the window before plus the new frames of a window",
                )
            for embeds in view.before(each, EMBEDS):
                heard = embeds.number("num_frames")
                if start is not None and heard is not None and start >= heard:
                    yield each.error(
                        "start",
                        f"is {start}, and {embeds.label} ends at frame {heard}: all would be "
                        "silence; raise its num_frames to the seconds of sound x 25",
                    )


def _repeated_frames_are_left_out(view: _View) -> Iterator[Finding]:
    for window, split in itertools.product(_windows(view), view.of(SPLIT)):
        decode, index = view.source(split, "images"), split.number("split_index")
        if decode not in window.decodes or index is None or not view.is_used(split, 2):
            continue
        motion = decode.number("motion_frames") if decode else None
        if window.is_first and index != 0:
            yield split.error(
                "split_index",
                f"is {index}, and without motion from a window before no frame is repeated: set "
                "it to 0, or link the motion",
            )
        elif not window.is_first and motion not in (None, index):
            yield split.error(
                "split_index",
                f"is {index}, and the first {motion} frames are those of the window before: set "
                f"it to {motion}",
            )


# ---- The sampler

FIXED_STEPS = {"flowmatch_distill": DISTILL_STEPS, "multitalk": 4, "rcm": 4}
CAUSVID_STEPS = 9


def _scheduler_is_known_good(view: _View) -> Iterator[Finding]:
    for sampler in view.of(SAMPLER):
        scheduler = sampler.text("scheduler")
        if scheduler and scheduler not in get_args(Scheduler):
            yield sampler.warning(
                "scheduler",
                f"{scheduler} is for other models, or does nothing useful here: take one of "
                f"{', '.join(get_args(Scheduler))}",
            )


def _steps_fit_scheduler(view: _View) -> Iterator[Finding]:
    for sampler in view.of(SAMPLER):
        scheduler, steps = sampler.text("scheduler"), sampler.number("steps")
        fixed = FIXED_STEPS.get(scheduler)
        if scheduler == "flowmatch_distill" and sampler.is_linked("sigmas"):
            yield sampler.error("sigmas", "fails with flowmatch_distill: take the link out")
        if steps is None:
            continue
        if fixed and steps != fixed:
            does = "fails" if scheduler == "flowmatch_distill" else f"still makes {fixed}"
            yield sampler.error(
                "steps",
                f"is {steps}, and {scheduler} {does}: set steps to {fixed} or take another "
                "scheduler",
            )
        elif scheduler == "flowmatch_causvid" and steps > CAUSVID_STEPS:
            yield sampler.error(
                "steps", f"is {steps}, and {scheduler} makes {CAUSVID_STEPS} at most"
            )


def _something_is_sampled(view: _View) -> Iterator[Finding]:
    for sampler in view.of(SAMPLER):
        start, end = sampler.number("start_step"), sampler.number("end_step")
        # Sigmas come with their own number of steps.
        steps = None if sampler.is_linked("sigmas") else sampler.number("steps")
        if start is None:
            continue
        if steps is not None and start >= steps:
            yield sampler.error(
                "start_step", f"is {start} of {steps} steps: nothing is left to sample; lower it"
            )
        if end is not None and end != -1 and start >= end:
            yield sampler.error(
                "end_step", f"is {end}, not after start_step {start}, which fails: set it to -1"
            )
        strength = sampler.number("denoise_strength")
        if strength is not None and strength < 1 and start != 0:
            yield sampler.error(
                "denoise_strength",
                f"is {strength} beside start_step {start}, which fails: set it to 1, or "
                "start_step to 0",
            )


def _no_batched_cfg(view: _View) -> Iterator[Finding]:
    for sampler in view.of(SAMPLER):
        if sampler.values.get("batched_cfg") is True:
            yield sampler.error("batched_cfg", "fails in this version: set it to false")


def _audio_reaches_the_model(view: _View) -> Iterator[Finding]:
    for sampler in view.of(SAMPLER):
        talking = view.before(view.source(sampler, "image_embeds"), TALKING_IMAGE, CONTINUE)
        has_voice = sampler.is_linked("multitalk_embeds")
        if talking and not has_voice:
            yield sampler.error(
                "multitalk_embeds",
                f"is empty, and goes wrong with {talking[0].class_type}: link audio embeds",
            )
        if has_voice and not sampler.is_linked("text_embeds"):
            yield sampler.error(
                "text_embeds",
                "is empty, which leaves the audio out as well, without an error: link a prompt",
            )
        for loader in view.before(view.source(sampler, "model"), LOADER):
            if has_voice and not loader.is_linked("multitalk_model"):
                yield loader.warning(
                    "multitalk_model",
                    "is empty, and the sampler gets a voice: link a talk model, if the base model "
                    "does not hold one",
                )


# ---- Video to video


def _encoded_video_is_used(view: _View) -> Iterator[Finding]:
    for sampler in view.of(SAMPLER):
        source = view.source(sampler, "samples")
        if source is None or source.class_type != ENCODE:
            continue
        if sampler.text("scheduler") == "multitalk":
            yield sampler.error("scheduler", "multitalk begins at noise: the video is not used")
        elif sampler.number("denoise_strength") in (None, 1):
            yield from _start_step_uses_video(sampler)
        elif _first_step(sampler) == 0:
            yield sampler.error(
                "denoise_strength",
                f"is {sampler.number('denoise_strength')}, which comes to all "
                f"{sampler.number('steps')} steps: the video is not used; set about 0.5",
            )


def _start_step_uses_video(sampler: _Node) -> Iterator[Finding]:
    if sampler.number("start_step") == 0:
        yield sampler.error(
            "start_step",
            "is 0, which begins at noise: the video is not used; set about half of the steps",
        )
    if sampler.values.get("add_noise_to_samples") is False:
        yield sampler.error(
            "add_noise_to_samples",
            "is false, and the video has no noise to take away, which gives a ruined picture: "
            "set it to true",
        )


def _first_step(sampler: _Node) -> int | None:
    """Where the sampler begins with a denoise_strength below 1: its own formula."""
    steps, strength = sampler.number("steps"), sampler.number("denoise_strength")
    if steps is None or strength is None:
        return None
    return int(steps) - int(steps * strength) - 1


def _video_has_its_frames(view: _View) -> Iterator[Finding]:
    encoded = {
        loader.label: encode
        for sampler in view.of(SAMPLER)
        for encode in view.before(view.source(sampler, "samples"), ENCODE)
        for loader in view.before(encode, *VIDEO_LOADERS)
    }
    for loader in view.of(*VIDEO_LOADERS):
        cap, every = loader.number("frame_load_cap"), loader.number("select_every_nth")
        if cap == 1:
            make = loader.error if loader.label in encoded else loader.warning
            yield make(
                "frame_load_cap",
                "is 1: the video is one still picture; set 0 for all frames, or take LoadImage",
            )
        if every is not None and every > 1 and loader.label in encoded:
            yield loader.error(
                "select_every_nth",
                f"is {every}, and every frame has to be encoded for its own place: set it to 1",
            )


def _keyframes_meet_windows(view: _View) -> Iterator[Finding]:
    for image in view.of(TALKING_IMAGE):
        source = view.source(image, "start_image")
        window, motion = image.number("frame_window_size"), image.number("motion_frame")
        if source is None or source.class_type not in VIDEO_LOADERS or not window or not motion:
            continue
        every = source.number("select_every_nth")
        if every is not None and every > 1 and every != window - motion:
            yield source.warning(
                "select_every_nth",
                f"is {every}, and each window makes {window - motion} new frames: the reference "
                f"of a later window is of another moment; set it to {window - motion}",
            )


# ---- Rates and files

MP4_FORMATS = (
    *("auto", "mp4"),  # SaveVideo's
    *(f"video/{codec}-mp4" for codec in ("h264", "h265", "nvenc_av1", "nvenc_h264", "nvenc_hevc")),
)
# An absolute path, a step upwards, or a URL.
ELSEWHERE = re.compile(r"^[/\\~]|^[A-Za-z]:[/\\]|(^|[/\\])\.\.([/\\]|$)|://")
FILE_INPUTS = {
    "LoadAudio": "audio",
    "LoadImage": "image",
    "LoadImageMask": "image",
    "LoadLatent": "latent",
    "LoadVideo": "file",
    "VHS_LoadAudio": "audio_file",
    "VHS_LoadAudioUpload": "audio",
    "VHS_LoadImagePath": "image",
    "VHS_LoadImages": "directory",
    "VHS_LoadImagesPath": "directory",
    **dict.fromkeys(VIDEO_LOADERS, "video"),
}


def _rates_agree(view: _View) -> Iterator[Finding]:
    for embeds in view.of(EMBEDS):
        fps = embeds.number("fps")
        if fps is None:
            continue
        if fps != MODEL_FPS:
            yield embeds.warning(
                "fps",
                f"is {fps:g}, and the model was trained at {MODEL_FPS}: render at {MODEL_FPS} and "
                "convert the video",
            )
        for node, name in _rates_beside(view, embeds):
            rate = node.number(name)
            if rate == 0:
                yield node.warning(
                    name,
                    f"is 0, which keeps the video's own rate: set it to {fps:g}, as for {EMBEDS}",
                )
            elif rate is not None and rate != fps:
                yield node.error(
                    name,
                    f"is {rate:g}, and {embeds.label} has {fps:g}: lips and sound drift apart; set "
                    "both to the same",
                )


def _rates_beside(view: _View, embeds: _Node) -> Iterator[tuple[_Node, str]]:
    """The inputs that hold the rate of the video this speech is for."""
    for combine in view.of(COMBINE):
        if embeds in view.before(combine, EMBEDS):
            yield combine, "frame_rate"
    for loader in view.of(*VIDEO_LOADERS):
        samplers = (view.before(sampler, EMBEDS, *VIDEO_LOADERS) for sampler in view.of(SAMPLER))
        if any(embeds in found and loader in found for found in samplers):
            yield loader, "force_rate"


def _video_can_be_delivered(view: _View) -> Iterator[Finding]:
    for combine in view.of(COMBINE):
        if combine.values.get("save_metadata") is True:
            yield combine.warning(
                "save_metadata", "puts prompt and file names into the video: set it to false"
            )
        if combine.values.get("save_output") is False:
            yield combine.warning(
                "save_output", "writes to the temp folder, which is emptied: set it to true"
            )
        if (made := combine.text("format")) and made not in MP4_FORMATS:
            yield combine.warning(
                "format", f"{made} is no MP4, which the worker delivers: take video/h264-mp4"
            )


def _one_video_is_made(view: _View) -> Iterator[Finding]:
    savers = view.of(COMBINE, "SaveVideo")
    for node in [node for node in savers if node.text("format") in MP4_FORMATS][1:]:
        yield node.warning("", "is a second video, and the worker delivers one: take one out")


def _prefix_stays_in_output(view: _View) -> Iterator[Finding]:
    for node in view.nodes.values():
        if (prefix := node.text("filename_prefix")) and ELSEWHERE.search(prefix):
            yield node.error(
                "filename_prefix",
                f"{prefix!r} may leave ComfyUI's output folder, which is refused once all is "
                "rendered: give a relative path without ..",
            )


def _files_come_from_input(view: _View) -> Iterator[Finding]:
    for node in view.of(*FILE_INPUTS):
        name = FILE_INPUTS[node.class_type]
        if ELSEWHERE.search(node.text(name)):
            yield node.warning(
                name,
                "is a URL, an absolute path or one with .., good on one machine at most: put the "
                "file into ComfyUI's input folder and give its name",
            )


TRAPS: Sequence[Rule] = (
    _talk_model_fits_base,
    _quantization_fits_base,
    _fast_goes_without_lora,
    _lora_can_be_merged,
    _gguf_has_its_limits,
    _speakers_have_masks,
    _masks_are_crisp,
    _mode_fits_talk_model,
    _motion_frames_fit_mode,
    _talk_model_knows_two,
    _windows_advance,
    _size_is_kept,
    _window_talks_infinitely,
    _window_has_one_length,
    _window_has_one_size,
    _window_hears_its_part,
    _repeated_frames_are_left_out,
    _scheduler_is_known_good,
    _steps_fit_scheduler,
    _something_is_sampled,
    _no_batched_cfg,
    _audio_reaches_the_model,
    _encoded_video_is_used,
    _video_has_its_frames,
    _keyframes_meet_windows,
    _rates_agree,
    _video_can_be_delivered,
    _one_video_is_made,
    _prefix_stays_in_output,
    _files_come_from_input,
)


# ---- What the GUI would make of it


def _video_size_is_a_number(view: _View) -> Iterator[Finding]:
    for loader in view.of(*VIDEO_LOADERS):
        for name in ("custom_width", "custom_height"):
            if loader.text("format") == "None" and loader.number(name):
                yield loader.error(
                    name,
                    'becomes NaN in the GUI with format "None": take format "AnimateDiff", or 0',
                )


def _seed_keeps_its_digits(view: _View) -> Iterator[Finding]:
    for node in view.nodes.values():
        for each in node.known:
            seed = node.number(each.name)
            if each.control and seed is not None and seed > MAX_SEED:
                yield node.error(
                    each.name, f"is {seed}, which the GUI rounds: keep it to {MAX_SEED} (2^53-1)"
                )


def _numbers_are_on_their_grid(view: _View) -> Iterator[Finding]:
    for node in view.nodes.values():
        for each in node.known:
            value, (first, step) = node.number(each.name), _grid(node, each)
            if value is None or not step:
                continue
            seen = first + math.floor((value - first) / step + 0.5) * step
            if abs(seen - value) > step * 1e-6:
                yield node.warning(
                    each.name,
                    f"is {value}, which the GUI rounds to {seen:.12g} where it opens an API graph: "
                    f"keep to steps of {step:g} from {first:g}",
                )


def _grid(node: _Node, each: Input) -> tuple[float, float]:
    """First value and step of the values that the GUI keeps; step 0 is any value."""
    if each.type not in ("INT", "FLOAT"):
        return 0, 0
    step, first = each.options.get("step") or 0, each.options.get("min") or 0
    if node.class_type in VIDEO_LOADERS and each.name in ("custom_width", "custom_height"):
        return 0, _video_size_step(node)
    if each.type == "FLOAT" and step:
        return 0, 10 ** math.floor(math.log10(step))  # the GUI rounds to the step's decimals
    return first % step if step else 0, step


def _video_size_step(loader: _Node) -> float:
    """VideoHelperSuite rounds a size to what the chosen format asks for."""
    options = next((each.options for each in loader.known if each.name == "format"), {})
    chosen = (options.get("formats") or {}).get(loader.text("format")) or {}
    return float(next(iter(chosen.get("dim", ())), 0))


def _text_is_left_alone(view: _View) -> Iterator[Finding]:
    for node in view.nodes.values():
        for each in node.known:
            if each.options.get("dynamicPrompts") and re.search(
                r"//|/\*|[{}]", node.text(each.name)
            ):
                yield node.warning(
                    each.name,
                    "the GUI cuts a line at //, leaves out /* */ and picks from {a|b}, and the "
                    "worker sends it as written: write it without them",
                )


GUI_RULES: Sequence[Rule] = (
    _video_size_is_a_number,
    _seed_keeps_its_digits,
    _numbers_are_on_their_grid,
    _text_is_left_alone,
)


def _seeds_are_fixed(gui: Workflow, schemas: Schemas) -> Iterator[Finding]:
    for node in gui["nodes"]:
        for name, control in _controls(node, schemas):
            if control != "fixed":
                yield Finding(
                    "warning",
                    _gui_label(node, schemas),
                    name,
                    f'its control_after_generate is "{control}": the GUI changes it after each '
                    'run; set it to "fixed"',
                )


def _controls(node: Node, schemas: Schemas) -> Iterator[tuple[str, object]]:
    """Widgets with a control_after_generate, and its value: the list's slot after theirs."""
    values = node.get("widgets_values")
    if node["type"] not in schemas or not isinstance(values, list):
        return
    slot = 0
    for each in inputs_of(schemas[node["type"]], {}):
        if each.is_widget:
            if each.control and slot + 1 < len(values):
                yield each.name, values[slot + 1]
            slot += 1 + len(each.control)


def _titles_are_unique(gui: Workflow, schemas: Schemas) -> Iterator[Finding]:
    nodes = [node for node in gui["nodes"] if node["type"] not in VIRTUAL]
    for title, count in Counter(title_of(node, schemas) for node in nodes).items():
        if count > 1:
            ids = ", ".join(str(n["id"]) for n in nodes if title_of(n, schemas) == title)
            yield Finding(
                "warning",
                title,
                "",
                f"{count} nodes have this title (nodes {ids}), and the worker finds nodes by "
                "title: give each its own",
            )


FILE_RULES: Sequence[FileRule] = (_seeds_are_fixed, _titles_are_unique)
