"""GUI workflow file -> API graph, as the GUI makes it. Pure.

The rules are those of comfyui_frontend_package 1.32.9 (executionUtil and ExecutableNodeDTO in its
source); for files that a newer one wrote, where it does otherwise, its own (levels.py says where).
"""

from typing import Any, NamedTuple

from talkinghead.workflow.graph import Graph
from talkinghead.workflow.gui_file import (
    BYPASSED,
    GETTER,
    REROUTE,
    SETTER,
    VIRTUAL,
    Link,
    Node,
    Workflow,
    check_convertible,
    title_of,
)
from talkinghead.workflow.levels import INPUT_NODE, NOWHERE, Level, Socket, WorkflowFile
from talkinghead.workflow.links_by_name import setter_of
from talkinghead.workflow.promotions import with_linked_promotions
from talkinghead.workflow.schemas import Schemas, Value, can_link
from talkinghead.workflow.sent_widgets import SentWidgets


def to_api(gui: Workflow, schemas: Schemas) -> Graph:
    """The API graph that the GUI would send for this workflow.

    Muted nodes and notes are left out, bypassed nodes, reroutes and links by name are seen through,
    primitives become values, the nodes of a subgraph get ids like ``12:3``; an input that a muted
    node feeds is left out, required or not (newer frontends send what its widget holds). Apart from
    the GUI: no inputs of the browser's own (BROWSER_INPUTS), text is sent as written (the GUI
    resolves ``{a|b}``, ``//`` and ``%date%``), a node without a title of its own has its class's in
    English, and a name that nothing has is refused.

    Raises ConvertError for a file that is no GUI workflow, group nodes, unknown classes,
    widgets_values that do not fit their class and links to what is not there.
    """
    check_convertible(gui)
    opened = with_linked_promotions(gui, schemas)
    root, widgets = Level(opened, WorkflowFile(opened, schemas)), SentWidgets()
    graph = {level.id_of(node): _api_entry(level, node, widgets) for level, node in root.runs()}
    for entry in graph.values():
        inputs = entry["inputs"].items()
        entry["inputs"] = {
            name: value
            for name, value in inputs
            if not isinstance(value, list) or value[0] in graph
        }
    return graph


class _Constant(NamedTuple):
    value: Value


def _api_entry(level: Level, node: Node, widgets: SentWidgets) -> dict[str, Any]:
    inputs = {name: _wrapped(widget.value) for name, widget in widgets.of(level, node).items()}
    for socket in level.sockets(node):
        match _source(level, node, socket, widgets):
            case None:
                continue
            case _Constant(value):
                inputs[socket.name] = _wrapped(value)
            case source:
                inputs[socket.name] = source
    return {
        "class_type": node["type"],
        "inputs": inputs,
        "_meta": {"title": title_of(node, level.schemas)},
    }


def _wrapped(value: Value) -> Value | dict[str, Any]:
    # A bare list would be taken for a link; ComfyUI unwraps this form itself.
    return {"__value__": value} if isinstance(value, list) else value


# ---- Links, followed to the node that makes the value


def _source(
    level: Level, node: Node, socket: Socket, widgets: SentWidgets
) -> list[Any] | _Constant | None:
    """[node id, output slot] or a value, seen through bypassed nodes, reroutes, subgraphs.

    None where the link leads nowhere. The node may be a muted one.
    """
    wanted = socket.type
    seen: set[tuple[str, int]] = set()
    while socket.link is not None:
        link = level.link(node, socket)
        if (level.path, link.id) in seen:
            raise level.error("bypassed nodes, reroutes, names or subgraphs form a circle", node)
        seen.add((level.path, link.id))
        if link.origin == INPUT_NODE:
            level, node, socket = level.outside(node, link)
            wanted = socket.type
            if socket.link is None:
                return _constant(level, node, socket, widgets)
            continue
        level, node, slot = _maker(level, link)
        if level.feeds_nothing(node):
            return None
        if node.get("mode") == BYPASSED:
            socket = _bypass(level, node, slot, wanted)
            wanted = socket.type
        elif node["type"] in (REROUTE, SETTER):
            socket = next(iter(level.sockets(node)), NOWHERE)
        elif node["type"] == GETTER:
            level, node, socket = _by_name(level, node)
        elif node["type"] in VIRTUAL or node["id"] in level.inner:
            return None
        else:
            return [level.id_of(node), slot]
    return None


def _constant(
    level: Level, instance: Node, socket: Socket, widgets: SentWidgets
) -> _Constant | None:
    promoted = widgets.of(level, instance).get(socket.name)
    return _Constant(promoted.value) if promoted else None


def _maker(level: Level, link: Link) -> tuple[Level, Node, int]:
    """Where a link starts: a node that is no subgraph, or one that leads nowhere."""
    origin = level.nodes[link.origin]
    while origin["id"] in level.inner and origin.get("mode") != BYPASSED:
        if level.feeds_nothing(origin):
            break
        inner = level.inner[origin["id"]]
        within = inner.link_to_output(link.origin_slot)
        if within is None:
            break
        if within.origin not in inner.nodes:
            raise level.error("its subgraph links an input to an output, or nothing", origin)
        level, link, origin = inner, within, inner.nodes[within.origin]
    return level, origin, link.origin_slot


def _by_name(level: Level, getter: Node) -> tuple[Level, Node, Socket]:
    """The input of the Set that a Get takes from; its mode is of no effect."""
    found = setter_of(level, getter)
    if found is None:
        return level, getter, NOWHERE
    return *found, next(iter(found[0].sockets(found[1])), NOWHERE)


def _bypass(level: Level, node: Node, slot: int, wanted: str) -> Socket:
    """The input that stands in for a bypassed node's output."""
    sockets = level.sockets(node)
    opposite = sockets[slot : slot + 1]
    if wanted in ("*", ""):
        return next(iter(opposite or sockets), NOWHERE)
    made = level.output_type(node, slot)
    fitting = [
        each for each in sockets if can_link(each.type, made) and can_link(each.type, wanted)
    ]
    same_slot = [each for each in opposite if each in fitting]
    exact = [each for each in sockets if each.type == wanted]
    return next(iter(same_slot or exact or fitting), NOWHERE)
