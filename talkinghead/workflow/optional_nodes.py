"""Nodes that no template has and a worker's settings add, and how nodes are taken out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from talkinghead.workflow.gui_file import (
    ACTIVE,
    BYPASSED,
    ConvertError,
    Node,
    Workflow,
    placed_values,
    remove_links,
    remove_node,
    sockets_in,
    title_of,
)
from talkinghead.workflow.node_classes import (
    COMPILE_SETTINGS,
    EASY_CACHE,
    MAG_CACHE,
    SET_LORAS,
    TEA_CACHE,
    TINY_VAE,
)
from talkinghead.workflow.schemas import Schemas, class_inputs, output_types

WIDTH, ROOM = 380, 400  # pixels: as wide as the templates' nodes, and above all of them


@dataclass(frozen=True)
class OptionalNode:
    """A node of `type`, linked to the input `input` of the template's node that is titled so."""

    type: str
    title: str
    input: str


OPTIONAL = {
    "Compile": OptionalNode(COMPILE_SETTINGS, "Wan model", "compile_args"),
    "TeaCache": OptionalNode(TEA_CACHE, "Sampler", "cache_args"),
    "MagCache": OptionalNode(MAG_CACHE, "Sampler", "cache_args"),
    "EasyCache": OptionalNode(EASY_CACHE, "Sampler", "cache_args"),
    "Light VAE": OptionalNode(TINY_VAE, "Frames", "light_vae"),
}


def add_optional(workflow: Workflow, title: str, schemas: Schemas) -> Node:
    """Add the optional node of this title, with its class's defaults, above the one it feeds.

    Raises:
        ConvertError: this ComfyUI has not the class, or the template not the node or the input.
    """
    new = OPTIONAL[title]
    if new.type not in schemas:
        raise ConvertError(f"this ComfyUI has no {new.type}")
    target = _fed(workflow, new, schemas)
    (made,) = output_types(schemas[new.type])
    link = _next(workflow, "last_link_id", [entry[0] for entry in workflow["links"]])
    node_id = _next(workflow, "last_node_id", [node["id"] for node in workflow["nodes"]])
    socket = _socket(target, new.input, made)
    target["inputs"][socket]["link"] = link
    workflow["links"].append([link, node_id, 0, target["id"], socket, made])
    node: Node = {
        "id": node_id,
        "type": new.type,
        "title": title,
        "pos": [target["pos"][0], -ROOM],
        "size": [WIDTH, ROOM - 100],
        "flags": {},
        "order": 0,
        "mode": ACTIVE,
        "inputs": [],
        "outputs": [{"name": made, "type": made, "links": [link]}],
        "properties": {"Node name for S&R": new.type},
        "widgets_values": placed_values(schemas[new.type], {}),
    }
    workflow["nodes"].append(node)
    return node


def take_out(workflow: Workflow, node: Node) -> None:
    """Remove the node; one that a model only goes through is bypassed, so that it goes on."""
    if node["type"] == SET_LORAS:
        node["mode"] = BYPASSED
    else:
        remove_node(workflow, node["id"])


def stand_aside(workflow: Workflow, node: Node) -> None:
    """Bypass the node, and cut its links of kinds that it has no input to hand on from.

    Who had a value by such a link has its own widget again.
    """
    node["mode"] = BYPASSED
    taken = {each["type"] for each in sockets_in(node) if not each.get("widget")}
    lost = [each for each in node["outputs"] if each["type"] not in taken]
    remove_links(workflow, {link for each in lost for link in each.get("links") or []})


def _fed(workflow: Workflow, new: OptionalNode, schemas: Schemas) -> Node:
    found: list[Node] = [node for node in workflow["nodes"] if title_of(node, schemas) == new.title]
    if len(found) != 1:
        raise ConvertError(f"{len(found)} nodes have the title {new.title!r}")
    if all(each.name != new.input for each in class_inputs(schemas[found[0]["type"]])):
        raise ConvertError(f"this ComfyUI's class has no input {new.input!r}", found[0])
    return found[0]


def _socket(node: Node, name: str, kind: str) -> int:
    """The place among the node's sockets of the one of this name, which it gets if it has none."""
    sockets = node.setdefault("inputs", [])
    names = [each["name"] for each in sockets]
    if name not in names:
        sockets.append({"name": name, "type": kind, "link": None, "shape": 7})
        names.append(name)
    return names.index(name)


def _next(workflow: Workflow, counter: str, taken: Sequence[object]) -> int:
    """The next id; the file's own count of them may be behind."""
    numbers = [each for each in taken if isinstance(each, int)]
    workflow[counter] = max([*numbers, int(workflow.get(counter) or 0)]) + 1
    return int(workflow[counter])
