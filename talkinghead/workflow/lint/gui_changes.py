"""Rules on values that the GUI would change where it opens the graph."""

import math
import re
from collections.abc import Iterator

from talkinghead.plan.fields import MAX_SEED
from talkinghead.workflow.lint.rules import gui_rule
from talkinghead.workflow.lint.view import Finding, GraphView, NodeView
from talkinghead.workflow.node_classes import VIDEO_LOADERS
from talkinghead.workflow.schemas import InputSpec


@gui_rule
def _video_size_is_a_number(view: GraphView) -> Iterator[Finding]:
    for loader in view.of(*VIDEO_LOADERS):
        for name in ("custom_width", "custom_height"):
            if loader.text("format") == "None" and loader.number(name):
                yield loader.error(
                    name,
                    'becomes NaN in the GUI with format "None": take format "AnimateDiff", or 0',
                )


@gui_rule
def _seed_keeps_its_digits(view: GraphView) -> Iterator[Finding]:
    for node in view.nodes.values():
        for each in node.known:
            seed = node.number(each.name)
            if each.control and seed is not None and seed > MAX_SEED:
                yield node.error(
                    each.name, f"is {seed}, which the GUI rounds: keep it to {MAX_SEED} (2^53-1)"
                )


@gui_rule
def _numbers_are_on_their_grid(view: GraphView) -> Iterator[Finding]:
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


def _grid(node: NodeView, each: InputSpec) -> tuple[float, float]:
    """First value and step of the values that the GUI keeps; step 0 is any value."""
    if each.type not in ("INT", "FLOAT"):
        return 0, 0
    step, first = each.options.get("step") or 0, each.options.get("min") or 0
    if node.class_type in VIDEO_LOADERS and each.name in ("custom_width", "custom_height"):
        return 0, _video_size_step(node)
    if each.type == "FLOAT" and step:
        return 0, 10 ** math.floor(math.log10(step))  # the GUI rounds to the step's decimals
    return first % step if step else 0, step


def _video_size_step(loader: NodeView) -> float:
    """VideoHelperSuite rounds a size to what the chosen format asks for."""
    options = next((each.options for each in loader.known if each.name == "format"), {})
    chosen = (options.get("formats") or {}).get(loader.text("format")) or {}
    return float(next(iter(chosen.get("dim", ())), 0))


@gui_rule
def _text_is_left_alone(view: GraphView) -> Iterator[Finding]:
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
