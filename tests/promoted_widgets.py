"""Workflows whose subgraphs show widgets of inner nodes, and what frontends send for them.

What is sent was seen in 1.32.9 and 1.58.1; 1.45.21 sends as the one, 1.46.15 as the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from talkinghead.workflow.graph import Graph
from talkinghead.workflow.gui_file import Node, Workflow
from talkinghead.workflow.schemas import Schemas, load_schemas
from tests.dynamic_inputs import load_dynamic_schemas

SCHEMAS: Schemas = {**load_schemas(), **load_dynamic_schemas()}
OLDER, NEWER = "1.32.9", "1.58.1"
INNER, OUTER = "5f3c7b2a-1d7e-4c0b-9b0f-2f8e1a6d3c11", "0a4d9e6c-7f2b-4b1e-8a55-6c9d2e1f7b22"
COMBO = "COMFY_DYNAMICCOMBO_V3"
TYPES = {"resize_type": COMBO, "resize_type.multiplier": "FLOAT", "input": "IMAGE,MASK"}

Entries = list[list[str]]
Values = list[Any]


def node(number: int, kind: str, sockets: Sequence[str] = (), **more: Any) -> Node:
    """A node with an output, and sockets of these widgets or inputs, linked by ``name=link``."""
    inputs = []
    for name, _, link in (each.partition("=") for each in sockets):
        entry = {"name": name, "type": TYPES.get(name, "INT"), "link": int(link) if link else None}
        inputs.append(entry | ({} if name in ("input", "images") else {"widget": {"name": name}}))
    look = {"pos": [0, 0], "size": [200, 100], "flags": {}, "order": 0, "mode": 0}
    return {"id": number, "type": kind, **look, "inputs": inputs, "properties": {}, **more}


def made(kind: str, *links: int) -> list[dict[str, Any]]:
    return [{"name": kind, "type": kind, "links": list(links)}]


def link(number: int, origin: int, target: int, slot: int, kind: str) -> dict[str, Any]:
    ends = {"origin_id": origin, "origin_slot": 0, "target_id": target, "target_slot": slot}
    return {"id": number, **ends, "type": kind}


def subgraph(identity: str, nodes: list[Node], links: list[dict[str, Any]]) -> Workflow:
    """One without inputs whose output is that of link 1."""
    boxes = {"inputNode": {"id": -10, "bounding": [0, 0, 9, 9]}}
    boxes["outputNode"] = {"id": -20, "bounding": [900, 0, 9, 9]}
    output = {"id": identity[:-1] + "9", "name": "IMAGE", "type": "IMAGE", "linkIds": [1]}
    head = {"id": identity, "version": 1, "revision": 0, "name": "Picture", "widgets": []}
    state = {"lastNodeId": 90, "lastLinkId": 90, "lastGroupId": 0, "lastRerouteId": 0}
    content = {"nodes": nodes, "links": links, "groups": [], "inputs": [], "outputs": [output]}
    return {**head, "state": state, **boxes, **content}


def instance(number: int, kind: str, listed: Entries, values: Values, out: int) -> Node:
    properties = {"proxyWidgets": listed}
    outputs = made("IMAGE", out)
    return node(number, kind, outputs=outputs, widgets_values=values, properties=properties)


def workflow(version: str, instances: list[Node], subgraphs: list[Workflow]) -> Workflow:
    """As this frontend exported it, with each instance's picture saved."""
    saves = [
        node(each["id"] + 1, "SaveImage", [f"images={each['id']}"], widgets_values=["x"])
        for each in instances
    ]
    links = [[each["id"], each["id"], 0, each["id"] + 1, 0, "IMAGE"] for each in instances]
    return {
        **{"id": "5f3c7b2a-0000-4c0b-9b0f-2f8e1a6d3c11", "revision": 0, "version": 0.4},
        **{"last_node_id": 90, "last_link_id": 90, "nodes": instances + saves, "links": links},
        **{"groups": [], "definitions": {"subgraphs": subgraphs}, "config": {}},
        "extra": {"frontendVersion": version},
    }


@dataclass(frozen=True)
class Case:
    """An instance of a subgraph in which a PrimitiveInt of 64 feeds the width of an EmptyImage.

    `older` and `newer`: what is sent of the two, LINK where the one has the other's. With a
    `middle` the subgraph is in another, whose inner instance lists and holds this.
    """

    listed: Entries
    values: Values
    older: Values
    newer: Values
    mode: int = 0
    middle: tuple[Entries, Values] | None = None

    def workflow(self, version: str) -> Workflow:
        widths = ["width=2", "height", "batch_size", "color"]
        nodes = [
            node(1, "PrimitiveInt", ["value"], mode=self.mode, widgets_values=[64, "fixed"]),
            node(3, "EmptyImage", widths, widgets_values=[512, 256, 1, 0]),
        ]
        nodes[0]["outputs"], nodes[1]["outputs"] = made("INT", 2), made("IMAGE", 1)
        ends = [link(1, 3, -20, 0, "IMAGE"), link(2, 1, 3, 0, "INT")]
        inner = subgraph(INNER, nodes, ends)
        if self.middle is None:
            instances = [instance(10, INNER, self.listed, self.values, 10)]
            return workflow(version, instances, [inner])
        within = instance(5, INNER, *self.middle, 1)
        outer = subgraph(OUTER, [within], [link(1, 5, -20, 0, "IMAGE")])
        return workflow(
            version, [instance(10, OUTER, self.listed, self.values, 10)], [inner, outer]
        )

    @staticmethod
    def sent(api: Graph) -> Values:
        found = {e["class_type"]: e["inputs"] for e in api.values()}
        width = found["EmptyImage"].get("width")
        value = found.get("PrimitiveInt", {}).get("value")
        return [value, LINK if isinstance(width, list) else width]


LINK = "the link"
VALUE, PREFIXED = ["1", "value"], ["5", "1: value"]
CASES = {
    "active": Case([VALUE], [80], older=[64, LINK], newer=[80, LINK]),
    "muted": Case([VALUE], [80], older=[None, None], newer=[None, 512], mode=2),
    "bypassed": Case([VALUE], [80], older=[None, 512], newer=[None, 80], mode=4),
    "without a value": Case([VALUE], [], older=[None, 512], newer=[None, 64], mode=4),
    "a linked widget": Case([["3", "width"]], [80], older=[64, LINK], newer=[64, 80]),
    "unknown ones before it": Case(
        [["77", "gone"], ["3", "gone"], ["3", "$$canvas-image-preview"], VALUE],
        [1, 2, 3, 80],
        older=[64, LINK],
        newer=[80, LINK],
    ),
    "nested": Case([["5", "value"]], [90], [None, 512], [None, 90], mode=4, middle=([VALUE], [80])),
    "nested, by its old name": Case(
        [PREFIXED], [90], [64, LINK], [90, LINK], middle=([VALUE], [80])
    ),
    "nested, without a value": Case([PREFIXED], [], [64, LINK], [80, LINK], middle=([VALUE], [80])),
    "nested, shown inside alone": Case(
        [], [], [None, 512], [None, 80], mode=4, middle=([VALUE], [80])
    ),
    "nested, shown outside alone": Case(
        [["5", "value"]], [90], [None, 512], [None, 512], mode=4, middle=([], [])
    ),
}


def resize(listed: Entries, values: Values, primitive: tuple[str, Any] | None = None) -> Workflow:
    """An instance with a dynamic combo in it, which or an input of which a primitive may feed."""
    sockets = ["input=2", "resize_type", "resize_type.multiplier"]
    values_inside = ["scale by multiplier", 1.5, "area"]
    nodes = [
        node(2, "ResizeImageMaskNode", sockets, widgets_values=values_inside),
        node(3, "EmptyImage", ["width"], widgets_values=[64, 64, 1, 0], outputs=made("IMAGE", 2)),
    ]
    nodes[0]["outputs"] = made("IMAGE", 1)
    ends = [link(1, 2, -20, 0, "IMAGE"), link(2, 3, 2, 0, "IMAGE")]
    if primitive:
        name, value = primitive
        slot, kind = sockets.index(name), TYPES[name]
        nodes[0]["inputs"][slot]["link"] = 8
        ends.append(link(8, 8, 2, slot, kind))
        nodes.append(node(8, "PrimitiveNode", widgets_values=[value, "fixed"]))
        nodes[-1]["outputs"] = [{**made(kind, 8)[0], "widget": {"name": name}}]
    inner = subgraph(INNER, nodes, ends)
    return workflow(NEWER, [instance(10, INNER, listed, values, 10)], [inner])


TYPE, MULTIPLIER = ["2", "resize_type"], ["2", "resize_type.multiplier"]
BY_MULTIPLIER = {"resize_type": "scale by multiplier", "resize_type.multiplier": 1.5}
DIMENSIONS = {"resize_type": "scale dimensions"}
DEFAULTS = {"resize_type.width": 512, "resize_type.height": 512, "resize_type.crop": "center"}
# What 1.58.1 sends of the combo and of what comes with its choice.
RESIZES: dict[str, tuple[Workflow, dict[str, Any]]] = {
    "shown": (resize([TYPE], ["scale by multiplier"]), BY_MULTIPLIER),
    # The inner node does not follow: what comes with the choice is not sent.
    "shown, another choice": (resize([TYPE], ["scale dimensions"]), DIMENSIONS),
    "shown input": (resize([MULTIPLIER], [2.5]), BY_MULTIPLIER | {MULTIPLIER[1]: 2.5}),
    "both shown": (
        resize([TYPE, MULTIPLIER], ["scale by multiplier", 2.5]),
        BY_MULTIPLIER | {MULTIPLIER[1]: 2.5},
    ),
    "fed": (resize([], [], ("resize_type", "scale by multiplier")), BY_MULTIPLIER),
    "fed another choice": (
        resize([], [], ("resize_type", "scale dimensions")),
        DIMENSIONS | DEFAULTS,
    ),
    "fed input": (resize([], [], (MULTIPLIER[1], 3.5)), BY_MULTIPLIER | {MULTIPLIER[1]: 3.5}),
    "fed, shown": (
        resize([["8", "value"]], ["scale dimensions"], ("resize_type", "scale by multiplier")),
        DIMENSIONS,
    ),
    "fed input, shown": (
        resize([["8", "value"]], [4.5], (MULTIPLIER[1], 3.5)),
        BY_MULTIPLIER | {MULTIPLIER[1]: 4.5},
    ),
    "fed input, shown without a value": (
        resize([["8", "value"]], [], (MULTIPLIER[1], 3.5)),
        BY_MULTIPLIER,
    ),
    "fed input, shown with its control": (
        resize([["8", "value"], ["8", "control_after_generate"]], [4.5], (MULTIPLIER[1], 3.5)),
        BY_MULTIPLIER | {MULTIPLIER[1]: 3.5},
    ),
}


def resize_sent(api: Graph) -> dict[str, Any]:
    """What RESIZES tells, of a graph without what no node takes."""
    inputs = next(e["inputs"] for e in api.values() if e["class_type"] == "ResizeImageMaskNode")
    return {name: value for name, value in inputs.items() if name.startswith("resize_type")}
