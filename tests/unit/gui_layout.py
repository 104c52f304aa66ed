"""API graphs as GUI files, laid out in groups, and GUI files in a form to compare."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, TypeGuard

from talkinghead.workflow.graph import Graph
from talkinghead.workflow.gui_file import (
    ConvertError,
    Node,
    Workflow,
    is_keyed,
    placed_values,
    schema_of,
    title_of,
)
from talkinghead.workflow.nearest import DID_YOU_MEAN, nearest
from talkinghead.workflow.schemas import (
    BROWSER_INPUTS,
    InputSpec,
    NodeSchema,
    Schemas,
    Value,
    class_inputs,
    inputs_of,
    output_types,
    widget_inputs,
)

NODE_WIDTH, COLUMN_GAP, ROW_GAP = 380, 60, 30
GROUP_PADDING, GROUP_HEADER, GROUP_GAP = 30, 50, 60
TITLE_HEIGHT = 30  # the GUI draws a node's title bar above its position
SOCKET_HEIGHT, WIDGET_HEIGHT = 20, 24
TEXT_HEIGHT, IMAGE_HEIGHT, AUDIO_HEIGHT, RESULT_HEIGHT = 120, 260, 90, 320
VHS_RESULT_HEIGHT = NODE_WIDTH * 16 // 9  # VideoHelperSuite shows a video as wide as its node
NOISE_KEYS = ("videopreview", "$$canvas-image-preview")
NOTE_WIDTH, NOTE_LINE, NOTE_LINE_CHARACTERS = 460, 22, 80


@dataclass(frozen=True)
class Group:
    """A titled box on the canvas.

    columns: node ids (keys of the API graph), column by column, each from the top down.
    below: under the group before it, instead of to its right.
    """

    title: str
    columns: Sequence[Sequence[str]]
    below: bool = False


def to_gui(
    api: Graph,
    schemas: Schemas,
    groups: Sequence[Group],
    workflow_id: str,
    note: str | None = None,
) -> Workflow:
    """A GUI file (version 0.4) that the GUI opens as this graph, laid out in the given groups.

    Node ids and titles are kept, seeds are fixed, nodes in no group go into one more called
    "Other". workflow_id is a UUID; note is Markdown, shown left of everything. VideoHelperSuite is
    told to leave one file, without a PNG or a silent video.

    Raises ConvertError for unknown classes or inputs, links to what is not there, circles, and
    groups that name a node which is not there.
    """
    nodes = {key: _gui_node(key, entry, schemas) for key, entry in api.items()}
    links = _link_up(api, nodes)
    depths = _depths(api)
    for order, key in enumerate(sorted(api, key=lambda key: depths[key])):
        nodes[key]["order"] = order
    left = NOTE_WIDTH + GROUP_GAP if note else 0
    boxes = _arrange(_all_groups(groups, depths), nodes, left)
    listed = [*nodes.values(), *([_note_node(note, nodes)] if note else [])]
    return {
        "id": workflow_id,
        "revision": 0,
        "last_node_id": max((n["id"] for n in listed if isinstance(n["id"], int)), default=0),
        "last_link_id": len(links),
        "nodes": listed,
        "links": links,
        "groups": boxes,
        "config": {},
        "extra": {"VHS_MetadataImage": False, "VHS_KeepIntermediate": False},
        "version": 0.4,
    }


def _gui_node(key: str, entry: dict[str, Any], schemas: Schemas) -> Node:
    node: Node = {"id": int(key) if key.isdecimal() else key, "type": entry["class_type"]}
    node["title"] = entry.get("_meta", {}).get("title") or title_of(node, schemas)
    schema = schema_of(node, schemas)
    given = {n: value for n, value in entry["inputs"].items() if n not in BROWSER_INPUTS}
    known = inputs_of(schema, given)
    names = [each.name for each in known]
    for name in given:
        if name not in names:
            raise ConvertError(f"no input {name!r}{nearest(name, names, DID_YOU_MEAN)}", node)
    return node | {
        "pos": [0, 0],
        "size": [NODE_WIDTH, _height(node["type"], schema, given)],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [_gui_socket(each) for each in known if _has_socket(each, given)],
        "outputs": _gui_outputs(schema),
        "properties": {"Node name for S&R": node["type"]},
        "widgets_values": _gui_values(node["type"], schema, given),
    }


def _has_socket(each: InputSpec, given: Mapping[str, Any]) -> bool:
    is_always_there = not each.is_widget and not each.grown
    return is_always_there or _is_link(given.get(each.name))


def _gui_socket(each: InputSpec) -> dict[str, Any]:
    socket: dict[str, Any] = {"name": each.name, "type": each.type, "link": None}
    if each.optional:
        socket["shape"] = 7  # the GUI's hollow circle
    if each.is_widget:
        socket["widget"] = {"name": each.name}
    return socket


def _gui_outputs(schema: NodeSchema) -> list[dict[str, Any]]:
    types = output_types(schema)
    names = schema.get("output_name") or types
    return [
        {"name": name, "type": type_, "links": None}
        for name, type_ in zip(names, types, strict=True)
    ]


def _gui_values(
    node_class: str, schema: NodeSchema, given: Mapping[str, Any]
) -> list[Value] | dict[str, Value]:
    held = {name: _unwrapped(value) for name, value in given.items() if not _is_link(value)}
    held = {name: value for name, value in held.items() if value is not None}
    if not is_keyed(node_class):
        return placed_values(schema, held)
    return {each.name: held.get(each.name, each.default) for each in widget_inputs(schema, held)}


def _unwrapped(value: Any) -> Any:  # noqa: ANN401 - JSON
    return value["__value__"] if isinstance(value, dict) else value


def _is_link(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _height(node_class: str, schema: NodeSchema, given: Mapping[str, Any]) -> int:
    """At least what the GUI computes, with room for the previews it adds later."""
    widgets = widget_inputs(schema, given)
    plain = [each for each in class_inputs(schema) if not each.is_widget and not each.grown]
    height = SOCKET_HEIGHT * max(len(plain), len(schema["output"]), 1) + 16
    height += WIDGET_HEIGHT * (len(widgets) + sum(len(each.control) for each in widgets))
    options = [each.options for each in widgets]
    height += TEXT_HEIGHT * sum(bool(each.get("multiline")) for each in options)
    height += AUDIO_HEIGHT * any(each.get("audio_upload") for each in options)
    if any(each.get("image_upload") or each.get("video_upload") for each in options):
        height += IMAGE_HEIGHT
    if schema.get("output_node"):
        height += VHS_RESULT_HEIGHT if is_keyed(node_class) else RESULT_HEIGHT
    return height


def _link_up(api: Graph, nodes: Mapping[str, Node]) -> list[list[Any]]:
    links: list[list[Any]] = []
    for key, entry in api.items():
        for slot, socket in enumerate(nodes[key]["inputs"]):
            value = entry["inputs"].get(socket["name"])
            if not _is_link(value):
                continue
            output = _linked_output(value, nodes, nodes[key], socket["name"])
            link = len(links) + 1
            socket["link"] = link
            output["links"] = [*(output["links"] or []), link]
            ends = [nodes[value[0]]["id"], value[1], nodes[key]["id"], slot]
            links.append([link, *ends, output["type"]])
    return links


def _linked_output(
    value: Sequence[Any], nodes: Mapping[str, Node], target: Node, name: str
) -> dict[str, Any]:
    match value:
        case [str(key), int(slot)] if key in nodes and 0 <= slot < len(nodes[key]["outputs"]):
            output: dict[str, Any] = nodes[key]["outputs"][slot]
            return output
    raise ConvertError(f"input {name!r} is linked to {value!r}, which is not there", target)


def _depths(api: Graph) -> dict[str, int]:
    """How many links lie before each node, along the longest way."""
    sources = {
        key: {value[0] for value in entry["inputs"].values() if _is_link(value)}
        for key, entry in api.items()
    }
    depths: dict[str, int] = {}
    try:
        for key in TopologicalSorter(sources).static_order():
            depths[key] = max((depths[source] + 1 for source in sources[key]), default=0)
    except CycleError as error:
        raise ConvertError(f"links form a circle: {' -> '.join(error.args[1])}") from None
    return depths


def _all_groups(groups: Sequence[Group], depths: Mapping[str, int]) -> list[Group]:
    grouped = [key for group in groups for column in group.columns for key in column]
    absent = [key for key in grouped if key not in depths]
    if absent:
        raise ConvertError(f"groups name nodes that are not there: {', '.join(absent)}")
    rest = [key for key in depths if key not in grouped]
    levels = sorted({depths[key] for key in rest})
    columns = [[key for key in rest if depths[key] == level] for level in levels]
    return [*groups, Group("Other", columns)] if rest else list(groups)


def _arrange(groups: Sequence[Group], nodes: Mapping[str, Node], left: int) -> list[dict[str, Any]]:
    """Give every node its place; return the groups' boxes."""
    boxes: list[dict[str, Any]] = []
    top = right = 0
    for group in groups:
        if boxes and not group.below:
            left, top = right + GROUP_GAP, 0
        width, height = _place(group, nodes, left, top)
        boxes.append(_box(len(boxes) + 1, group.title, [left, top, width, height]))
        right = max(right, left + width)
        top += height + GROUP_GAP
    return boxes


def _place(group: Group, nodes: Mapping[str, Node], left: int, top: int) -> tuple[int, int]:
    x, lowest = left + GROUP_PADDING, top
    for column in group.columns:
        y = top + GROUP_HEADER
        for key in column:
            nodes[key]["pos"] = [x, y + TITLE_HEIGHT]
            y += TITLE_HEIGHT + nodes[key]["size"][1] + ROW_GAP
        x += NODE_WIDTH + COLUMN_GAP
        lowest = max(lowest, y - ROW_GAP)
    return x - COLUMN_GAP + GROUP_PADDING - left, lowest + GROUP_PADDING - top


def _box(number: int, title: str, bounding: list[int]) -> dict[str, Any]:
    looks = {"color": "#3f789e", "font_size": 24, "flags": {}}
    return {"id": number, "title": title, "bounding": bounding} | looks


def _note_node(note: str, nodes: Mapping[str, Node]) -> Node:
    lines = sum(1 + len(line) // NOTE_LINE_CHARACTERS for line in note.splitlines() if line)
    taken = [node["id"] for node in nodes.values() if isinstance(node["id"], int)]
    return {
        "id": max(taken, default=0) + 1,
        "type": "MarkdownNote",
        "pos": [0, TITLE_HEIGHT],
        "size": [NOTE_WIDTH, NOTE_LINE * lines + 2 * TITLE_HEIGHT],
        "flags": {},
        "order": len(nodes),
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "title": "About this workflow",
        "properties": {},
        "widgets_values": [note],
        "color": "#432",
        "bgcolor": "#653",
    }


def canonical(gui: Workflow) -> Workflow:
    """A copy for comparison and version control: nodes by id, links by id, no view, no previews.

    Previews hold paths of the server they were seen on.
    """
    tidy = copy.deepcopy(gui)
    tidy["nodes"].sort(key=lambda node: (isinstance(node["id"], str), node["id"]))
    tidy["links"].sort(key=lambda entry: entry[0])
    (tidy.get("extra") or {}).pop("ds", None)
    for node in tidy["nodes"]:
        if isinstance(node.get("widgets_values"), dict):
            for key in NOISE_KEYS:
                node["widgets_values"].pop(key, None)
    return tidy
