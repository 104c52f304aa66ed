"""The files that say who is where: whether ComfyUI will load a mask for each voice."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from talkinghead.errors import MediaInvalid, MediaTooLarge
from talkinghead.media.picture import count_masks
from talkinghead.media.sandbox import Sandbox
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.lint.speakers import voices_of
from talkinghead.workflow.lint.view import GraphView, NodeView
from talkinghead.workflow.node_classes import DRAFT, EMBEDS, LOAD_IMAGE, LOAD_MASK, ONE_FOR_ONE

MASKS_INPUTS = {EMBEDS: "ref_target_masks", DRAFT: "masks"}


def mask_problems(
    graph: Graph, files: Mapping[str, Path], sandbox: Sandbox, *, max_megapixels: float
) -> Iterator[str]:
    """What is wrong with masks files, each told as `name: message`; it would fail a render late.

    `files` are those at hand, by the names that the graph's nodes give. Of others nothing is said,
    nor where nodes on the way may change the number of masks.
    """
    view = GraphView(graph, {})
    for node in view.of(*MASKS_INPUTS):
        name = _file_name(view, node)
        if name in files and (message := _fault(node, name, files[name], sandbox, max_megapixels)):
            yield message


def _file_name(view: GraphView, node: NodeView) -> str:
    """The file whose pictures become the node's masks, one each; empty where that is not known."""
    source = view.source(node, MASKS_INPUTS[node.class_type])
    for _ in view.nodes:  # at the most: a graph may be a ring
        if source is None or source.class_type not in ONE_FOR_ONE:
            break
        source = view.source(source, ONE_FOR_ONE[source.class_type])
    return source.text("image") if source and source.class_type in (LOAD_IMAGE, LOAD_MASK) else ""


def _fault(node: NodeView, name: str, path: Path, sandbox: Sandbox, max_megapixels: float) -> str:
    try:
        masks = sandbox.call(name, count_masks, name, path, max_megapixels=max_megapixels)
    except (MediaInvalid, MediaTooLarge) as error:
        return str(error)
    voices = len(voices_of(node))
    if node.class_type != EMBEDS or voices < 2 or masks in (voices, voices + 1):
        return ""  # the draft says itself which masks it misses
    count = "1 frame" if masks == 1 else f"{masks} frames"
    return (
        f"{name}: it has {count}, and the sampler fails on {voices} voices with them: save one for "
        "each voice, in order, and one of the background"
    )
