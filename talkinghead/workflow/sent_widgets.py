"""What the widgets of a GUI file send: values of their own, of primitives, or of subgraphs. Pure.

A widget that a link feeds from a primitive, or from an input of the subgraph it is in, does not
send what it holds. The rules are those of comfyui_frontend_package 1.32.9; levels.py has what newer
ones do otherwise.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from talkinghead.workflow.gui_file import (
    NAMED,
    PRIMITIVE,
    VIRTUAL,
    ConvertError,
    Link,
    Node,
    NodeId,
    schema_of,
)
from talkinghead.workflow.levels import INPUT_NODE, Level, Socket, values_of
from talkinghead.workflow.promotions import OWN, shown_widgets
from talkinghead.workflow.schemas import (
    BROWSER_TYPES,
    InputSpec,
    Value,
    class_inputs,
    widget_inputs,
)


class Widget(NamedTuple):
    """A widget and what it sends."""

    spec: InputSpec
    value: Value


class SentWidgets:
    """The widgets of all levels of one file, each worked out once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Level, NodeId], dict[str, Widget]] = {}

    def of(self, level: Level, node: Node) -> dict[str, Widget]:
        """Every widget of a node, an instance of a subgraph included: name -> what it sends."""
        key = (level, node["id"])
        if key not in self._known:
            found = self._own(level, node)
            for socket in level.sockets(node):
                if socket.link is not None and socket.name in found:
                    found[socket.name] = self._fed(level, node, socket, found[socket.name])
            self._known[key] = found
        return self._known[key]

    def _fed(self, level: Level, node: Node, socket: Socket, own: Widget) -> Widget:
        link = level.link(node, socket)
        if link.origin != INPUT_NODE:
            origin = level.nodes[link.origin]
            is_primitive = origin["type"] == PRIMITIVE
            return (
                own._replace(value=self._primitive(level, origin, own.spec))
                if is_primitive
                else own
            )
        host, instance, outer = level.outside(node, link)
        if level.gives_up_linked and not _is_held(host, instance, outer):
            return own
        promoted = self.of(host, instance).get(outer.name)
        return own._replace(value=promoted.value) if promoted else own

    def _primitive(self, level: Level, node: Node, spec: InputSpec) -> Value:
        if not level.can_have_primitives:
            raise level.error("a primitive in a subgraph: the GUI cannot run it", node)
        values = node.get("widgets_values")
        if not values or not isinstance(values, list):
            raise level.error("the primitive holds no value", node)
        links = [link for link in level.links.values() if link.origin == node["id"]]
        fed = [self._widget_at(level, link) for link in links]
        return _snapped(_clamped(values[0], [each.spec for each in fed if each]), spec)

    def _own(self, level: Level, node: Node) -> dict[str, Widget]:
        """The widgets with the values that the file has for them, links left aside."""
        if node["id"] in level.inner:
            return self._promoted(level, node)
        named = level.named(node)
        schema = schema_of(named, level.schemas)
        for each in class_inputs(schema):
            if each.type in BROWSER_TYPES:
                raise ConvertError(f"input {each.name!r} is made by the browser at run time", named)
        values = values_of(level, node)
        return {
            each.name: Widget(each, values[each.name]) for each in widget_inputs(schema, values)
        }

    def _promoted(self, level: Level, instance: Node) -> dict[str, Widget]:
        """The widgets that an instance shows for its subgraph, with its own values."""
        if level.is_built_later(instance):
            return {}  # when the frontend makes the instance, there is no inner node yet
        found = self._promotable(level.inner[instance["id"]])
        values = instance.get("widgets_values")
        values = values if isinstance(values, list) else []
        for name, value in zip(list(found), values, strict=False):
            found[name] = found[name]._replace(value=value)
        for shown, value in zip(shown_widgets(level.named(instance)), values, strict=False):
            if shown.owner == OWN and shown.name in found and value is not None:
                found[shown.name] = found[shown.name]._replace(value=value)
        named = instance.get(NAMED) or {}
        return {
            name: each._replace(value=named.get(name, each.value)) for name, each in found.items()
        }

    def _promotable(self, level: Level) -> dict[str, Widget]:
        """Per input of this subgraph, the first widget that it feeds."""
        found: dict[str, Widget] = {}
        for each in level.content.get("inputs") or []:
            links = [level.links[link] for link in each.get("linkIds") or [] if link in level.links]
            widgets = (self._widget_at(level, link) for link in links)
            if first := next(filter(None, widgets), None):
                found[each["name"]] = first
        return found

    def _widget_at(self, level: Level, link: Link) -> Widget | None:
        """The widget that a link ends at."""
        node = level.nodes.get(link.target)
        if node is None or node["type"] in VIRTUAL:
            return None
        name = next((each.name for each in level.sockets(node) if each.link == link.id), None)
        # As the file has it: `of` would follow the very link that we were asked about, on and on.
        return self._own(level, node).get(name) if name else None


def _is_held(level: Level, instance: Node, socket: Socket) -> bool:
    """Whether an input of an instance gets a value that an instance or a primitive holds.

    1.58.1 loses the primitive's; 1.46.15 sends it.
    """
    while socket.link is not None:
        link = level.link(instance, socket)
        if link.origin != INPUT_NODE:
            return bool(level.nodes[link.origin]["type"] == PRIMITIVE)
        level, instance, socket = level.outside(instance, link)
    return True


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _clamped(value: Value, fed: Sequence[InputSpec]) -> Value:
    """A primitive's number, within the ranges of all that it feeds."""
    low = max((each.options.get("min", -math.inf) for each in fed), default=-math.inf)
    high = min((each.options.get("max", math.inf) for each in fed), default=math.inf)
    return min(max(value, low), high) if _is_number(value) and low <= high else value


def _snapped(value: Value, spec: InputSpec) -> Value:
    """A primitive's number, rounded as the widget that it is written to rounds it."""
    if not _is_number(value):
        return value
    if spec.type == "INT":
        step = spec.options.get("step") or 1
        offset = math.fmod(spec.options.get("min") or 0, step) if step != 1 else 0
        return int(math.floor((value - offset) / step + 0.5) * step + offset)
    if spec.type == "FLOAT":
        return _rounded(value, spec.options)
    return value


def _rounded(value: float, options: Mapping[str, Any]) -> float:
    places = max(0, -math.floor(math.log10(options.get("step") or 0.5)))
    grain = options.get("round") or (10**-places if places else 0)
    if not grain:
        return value
    rounded = round(math.floor(value / grain + 0.5) * grain, places)
    return float(min(max(rounded, options.get("min", 0)), options.get("max", 2048)))
