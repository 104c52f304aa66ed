"""GUI workflow files: what is one, the widgets of its nodes, and edits of it. Pure.

A *workflow* is the GUI's file: nodes with positions, links, groups and widget values by place.
The rules are those of comfyui_frontend_package 1.32.9 (litegraphService in its source), for what
it does not know those of 1.58.1, and of VideoHelperSuite's VHS.core.js.
"""

import re
from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeGuard

from talkinghead.workflow.graph import node_label
from talkinghead.workflow.nearest import DID_YOU_MEAN, nearest
from talkinghead.workflow.schemas import (
    COMPARED,
    NodeSchema,
    Schemas,
    Value,
    class_inputs,
    widget_inputs,
    widget_slots,
)

Workflow: TypeAlias = dict[str, Any]
Node: TypeAlias = dict[str, Any]
NodeId: TypeAlias = int | str

ACTIVE, MUTED, BYPASSED = 0, 2, 4  # what a node's `mode` is
REROUTE, PRIMITIVE = "Reroute", "PrimitiveNode"
SETTER, GETTER = "SetNode", "GetNode"  # of KJNodes: links by name
# Nodes of the GUI alone, which no graph has.
VIRTUAL = frozenset({REROUTE, PRIMITIVE, SETTER, GETTER, "Note", "MarkdownNote"})
# Newer frontends write the values of `widgets_values` a second time, by name.
NAMED = "widgets_values_named"
FIRST_WITH_NAMES = (1, 49)
GROUP_NODES = ("workflow>", "workflow/")  # how the types of the GUI's old group nodes start


class ConvertError(ValueError):
    """A workflow or graph that cannot be converted or edited; the message names the node."""

    def __init__(self, problem: str, node: Node | None = None) -> None:
        super().__init__(f"{_described(node)}: {problem}" if node else problem)


def _described(node: Node) -> str:
    title = f' "{node["title"]}"' if node.get("title") else ""
    return f"node {node.get('id')}{title} ({node.get('type')})"


def is_gui(workflow: object) -> TypeGuard[Workflow]:
    """Whether this parsed JSON is a GUI workflow file."""
    return (
        isinstance(workflow, dict)
        and isinstance(workflow.get("nodes"), list)
        and isinstance(workflow.get("links"), list)
    )


def written_by(gui: Workflow) -> tuple[int, ...]:
    """The version of the frontend that wrote the file, as far as the file tells; else ().

    Exported and submitted files say it. One that was only saved has the version of an earlier
    export, or none, but newer frontends' values by name.
    """
    definitions = (gui.get("definitions") or {}).get("subgraphs") or []
    nodes = [node for graph in (gui, *definitions) for node in graph["nodes"]]
    if any(NAMED in node for node in nodes):
        return FIRST_WITH_NAMES
    extra = gui.get("extra")
    version = str(extra.get("frontendVersion", "")) if isinstance(extra, dict) else ""
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


class Link(NamedTuple):
    """A link of a GUI file: from an output of one node to an input of another, by slot."""

    id: int
    origin: NodeId
    origin_slot: int
    target: NodeId
    target_slot: int
    type: str


def read_link(entry: Any) -> Link:  # noqa: ANN401 - JSON
    """A link in either form: a list, or in subgraphs and newer files a mapping."""
    if isinstance(entry, list):
        return Link(*entry[:6])
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    return Link(*(entry[name] for name in names))


# ---- What a GUI file must be like, so that the rest can rely on it


def check_convertible(gui: Workflow) -> None:
    """See that all of the file has the shape that conversion takes for granted.

    Raises:
        ConvertError: a part has not, or the file has group nodes; the message names the part.
    """
    if not is_gui(gui):
        raise ConvertError("not a GUI workflow: it has no list of nodes and links")
    definitions = gui.get("definitions") or {}
    subgraphs = (definitions.get("subgraphs") or []) if isinstance(definitions, dict) else None
    if not isinstance(subgraphs, list):
        raise ConvertError("definitions.subgraphs is no list")
    for graph in (gui, *subgraphs):
        if not is_gui(graph) or (graph is not gui and not isinstance(graph.get("id"), str)):
            raise ConvertError("definitions.subgraphs has an entry that is no subgraph")
        _check_nodes(graph)
        _check_links(graph)
        for side in ("inputs", "outputs") if graph is not gui else ():
            _check_slots(graph, side, None)


def _check_nodes(graph: Workflow) -> None:
    for node in graph["nodes"]:
        if not isinstance(node, dict) or not isinstance(node.get("type"), str):
            raise ConvertError(f"nodes has an entry that is no node: {str(node)[:80]}")
        if isinstance(node.get("id"), bool) or not isinstance(node.get("id"), int | str):
            raise ConvertError("its id is neither a number nor a text", node)
        if not isinstance(node.get("widgets_values"), list | dict | None):
            raise ConvertError("widgets_values is neither a list nor a mapping", node)
        if not isinstance(node.get(NAMED), dict | None):
            raise ConvertError(f"{NAMED} is no mapping", node)
        if node["type"].startswith(GROUP_NODES):
            raise ConvertError("is a group node; in the GUI convert it to nodes, and save", node)
        for side in ("inputs", "outputs"):
            _check_slots(node, side, node)


def _check_slots(owner: Mapping[str, Any], side: str, node: Node | None) -> None:
    slots = owner.get(side) or []
    if not isinstance(slots, list) or not all(map(_is_slot, slots)):
        raise ConvertError(f"its {side} are not a list of named slots", node)


def _is_slot(slot: object) -> bool:
    return (
        isinstance(slot, dict)
        and isinstance(slot.get("name"), str)
        and isinstance(slot.get("link"), int | None)
        and isinstance(slot.get("linkIds", []), list)
        and all(isinstance(link, int) for link in slot.get("linkIds", []))
    )


def _check_links(graph: Workflow) -> None:
    for entry in graph["links"]:
        try:
            link = read_link(entry)
            numbers = (link.id, link.origin_slot, link.target_slot)
            fits = all(isinstance(each, int) and each >= 0 for each in numbers) and all(
                isinstance(end, int | str) for end in (link.origin, link.target)
            )
        except (KeyError, TypeError):
            fits = False
        if not fits:
            raise ConvertError(f"links has an entry that is no link: {str(entry)[:80]}")


# ---- The class, the title and the widgets of a node


def schema_of(node: Node, schemas: Schemas) -> NodeSchema:
    """The schema of a GUI node's class.

    Raises:
        ConvertError: this ComfyUI does not know the class.
    """
    if node["type"] not in schemas:
        near = nearest(node["type"], schemas, DID_YOU_MEAN)
        raise ConvertError(f"unknown node class {node['type']!r}{near}", node)
    return schemas[node["type"]]


def title_of(node: Node, schemas: Schemas) -> str:
    """A GUI node's title as the GUI shows it; the file leaves out a class's own title."""
    schema = schemas.get(node["type"])
    shown = schema.get("display_name") if schema else None
    return str(node.get("title") or shown or node["type"])


def label_of(node: Node, schemas: Schemas) -> str:
    """How a message names a GUI node."""
    return node_label(title_of(node, schemas), node["type"], node["id"])


def is_keyed(node_class: str) -> bool:
    """Whether the GUI keeps the class's widgets_values by name: VideoHelperSuite's rule."""
    return node_class.startswith("VHS_")


def _stored(node: Node, schema: NodeSchema) -> dict[str, Any]:
    """The values that the file has, by name; those of no widget may be among them."""
    values = node.get("widgets_values")
    if is_keyed(node["type"]):
        return _stored_by_name(node, widget_slots(schema, ()))
    named = node.get(NAMED)
    if isinstance(values, dict):
        if named is None and widget_slots(schema, ()):
            raise ConvertError("widgets_values is a mapping; this class needs a list", node)
        return named or {}
    listed = _by_place(schema, _without_sockets(values or [], schema))
    if named is None:
        return listed
    # By name is still right where the class has got other widgets since, by place is not.
    lies_as_now = all(named.get(name, value) == value for name, value in listed.items())
    return {**listed, **named} if lies_as_now else named


def _by_place(schema: NodeSchema, values: Sequence[Value]) -> dict[str, Any]:
    slots = widget_slots(schema, values)
    return {name: value for name, value in zip(slots, values, strict=False) if name}


def _without_sockets(values: list[Any], schema: NodeSchema) -> list[Any]:
    """The list without the slots of inputs that are sockets only, which old files still have."""
    old = [each for each in class_inputs(schema) if each.is_widget or each.is_forced]
    if len(values) != sum(2 if each.control else 1 for each in old):
        return values
    # As the GUI does it: by the place of the input, not of its slot.
    forced = {index for index, each in enumerate(old) if each.is_forced}
    return [value for index, value in enumerate(values) if index not in forced]


def _stored_by_name(node: Node, slots: Sequence[str | None]) -> dict[str, Any]:
    values = node.get("widgets_values")
    if values is None or isinstance(values, dict):
        return values or {}
    if len(values) != len(slots):
        # VideoHelperSuite guesses at such lists, and guesses wrong for some.
        raise ConvertError("widgets_values is a list; this class needs a mapping by name", node)
    return {name: value for name, value in zip(slots, values, strict=True) if name}


def widget_names(schema: NodeSchema, node: Node) -> list[str]:
    """Names of the node's widgets in the GUI's order, then those its VHS format adds."""
    return [each.name for each in widget_inputs(schema, _stored(node, schema))]


def widgets_of(node: Node, schemas: Schemas) -> dict[str, Any]:
    """Every widget of a GUI node: name -> value.

    A value that the file lacks is its default, as in the GUI. Raises ConvertError for an unknown
    class, and for widgets_values of the wrong form.
    """
    schema = schema_of(node, schemas)
    stored = _stored(node, schema)
    return {
        each.name: each.default if each.type == COMPARED else stored.get(each.name, each.default)
        for each in widget_inputs(schema, stored)
    }


def sockets_in(node: Node) -> list[dict[str, Any]]:
    """The input sockets that the file has for this node: name, type, link and more."""
    return node.get("inputs") or []


def placed_values(schema: NodeSchema, given: Mapping[str, Any]) -> list[Value]:
    """A whole ``widgets_values`` list: the given values, else the defaults, and the GUI's own."""
    placed: list[Value] = []
    for each in widget_inputs(schema, given):
        placed += [given.get(each.name, each.default), *each.control]
    return placed + _upload_slots(schema)


def _upload_slots(schema: NodeSchema) -> list[Value]:
    """The values of the GUI's upload buttons, which follow those of the widgets."""
    options = [each.options for each in class_inputs(schema)]
    if any(each.get("image_upload") or each.get("video_upload") for each in options):
        return ["image"]
    return [None, None] if any(each.get("audio_upload") for each in options) else []


# ---- Edits


def set_widget(node: Node, name: str, value: Value, schemas: Schemas) -> None:
    """Set one widget in place; the inputs that come with a dynamic combo's value come with it.

    Raises ConvertError where the node has no such widget, and where a link feeds that input:
    the value would never be used.
    """
    schema = schema_of(node, schemas)
    names = widget_names(schema, node)
    if name not in names:
        raise ConvertError(f"no widget {name!r}{nearest(name, names, DID_YOU_MEAN)}", node)
    if any(each["name"] == name and each.get("link") is not None for each in sockets_in(node)):
        raise ConvertError(f"input {name!r} is fed by a link; its widget is not used", node)
    stored = _stored(node, schema)
    given = {**stored, name: value}
    if is_keyed(node["type"]):
        node["widgets_values"] = given
        return
    node["widgets_values"] = _replaced(node, schema, stored, given)
    if isinstance(named := node.get(NAMED), dict):
        held = {
            each.name: given.get(each.name, each.default) for each in widget_inputs(schema, given)
        }
        others = {name: value for name, value in named.items() if name not in names or name in held}
        node[NAMED] = {**others, **held}


def _replaced(
    node: Node, schema: NodeSchema, stored: Mapping[str, Any], given: Mapping[str, Any]
) -> list[Value]:
    """The node's list with the given values; what the GUI keeps besides stays as it is.

    The list is made anew where its values do not lie as this class has its widgets now.
    """
    values = [*(node.get("widgets_values") or ())]
    placed = placed_values(schema, given)
    slots = widget_slots(schema, placed)
    lies_as_now = (
        widget_slots(schema, values) == slots
        and _without_sockets(values, schema) == values
        and all(stored.get(name) == value for name, value in _by_place(schema, values).items())
    )
    if not lies_as_now:
        return placed
    values += placed[len(values) :]
    return [placed[at] if name else values[at] for at, name in enumerate(slots)] + values[
        len(slots) :
    ]


def remove_node(gui: Workflow, node_id: NodeId) -> None:
    """Take a node and every link to and from it out of the workflow, in place.

    Raises ConvertError where there is no such node.
    """
    if all(node["id"] != node_id for node in gui["nodes"]):
        raise ConvertError(f"there is no node {node_id} to remove")
    gone = {entry[0] for entry in gui["links"] if node_id in (entry[1], entry[3])}
    gui["nodes"] = [node for node in gui["nodes"] if node["id"] != node_id]
    remove_links(gui, gone)


def remove_links(gui: Workflow, gone: Container[int]) -> None:
    """Take the links of these ids out of the workflow, in place."""
    gui["links"] = [entry for entry in gui["links"] if entry[0] not in gone]
    for node in gui["nodes"]:
        for socket in sockets_in(node):
            if socket.get("link") in gone:
                socket["link"] = None
        for output in node.get("outputs") or []:
            left = [link for link in output.get("links") or [] if link not in gone]
            output["links"] = left or None
