"""What a person does to a workflow in the GUI, done at random to the file."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable
from random import Random
from typing import Any

from talkinghead.workflow.gui_file import (
    NAMED,
    VIRTUAL,
    Node,
    Workflow,
    remove_node,
    widgets_of,
    written_by,
)
from talkinghead.workflow.levels import FIRST_INSIDE_OUT
from talkinghead.workflow.schemas import Schemas, inputs_of

Link = dict[str, Any]
KINDS = ("INT", "FLOAT", "STRING")  # of widgets that are fed or exposed
Edit = Callable[[Workflow, Random, Schemas], None]


def edited(workflow: Workflow, random: Random, schemas: Schemas) -> Workflow:
    """A copy after one to six edits."""
    changed = copy.deepcopy(workflow)
    for _ in range(random.randint(1, 6)):
        random.choice(EDITS)(changed, random, schemas)
    return changed


def _graphs(workflow: Workflow) -> list[Workflow]:
    """The workflow and its subgraphs."""
    return [workflow, *(workflow.get("definitions") or {}).get("subgraphs", [])]


def _some_graph(workflow: Workflow, random: Random) -> Workflow:
    return random.choice([graph for graph in _graphs(workflow) if graph["nodes"]])


def set_mode(workflow: Workflow, random: Random, schemas: Schemas) -> None:
    """Mute, bypass or switch on a few nodes."""
    nodes = _some_graph(workflow, random)["nodes"]
    for node in random.sample(nodes, min(len(nodes), random.randint(1, 4))):
        node["mode"] = random.choice((0, 2, 4, 4))


def disconnect(workflow: Workflow, random: Random, schemas: Schemas) -> None:
    """Take one link away."""
    graph = _some_graph(workflow, random)
    if not graph["links"]:
        return
    link = random.choice(graph["links"])
    graph["links"].remove(link)
    number = link[0] if isinstance(link, list) else link["id"]
    for slot in _slots(graph):
        if slot.get("link") == number:
            slot["link"] = None
        for key in ("links", "linkIds"):
            if number in (slot.get(key) or []):
                slot[key].remove(number)


def _slots(graph: Workflow) -> list[Link]:
    owners = [*graph["nodes"], graph]
    return [
        slot for each in owners for side in ("inputs", "outputs") for slot in each.get(side, [])
    ]


def delete(workflow: Workflow, random: Random, schemas: Schemas) -> None:
    """Remove one node of the root graph."""
    if len(workflow["nodes"]) > 1:
        remove_node(workflow, random.choice(workflow["nodes"])["id"])


def reorder(workflow: Workflow, random: Random, schemas: Schemas) -> None:
    """Change the order of nodes and links in the file."""
    graph = _some_graph(workflow, random)
    random.shuffle(graph["nodes"])
    random.shuffle(graph["links"])


def shorten(workflow: Workflow, random: Random, schemas: Schemas) -> None:
    """Take values from the end of a list of widgets, as a node had them before it grew."""
    lists = [n for n in workflow["nodes"] if isinstance(n.get("widgets_values"), list)]
    known = [node for node in lists if node["type"] in schemas and node["widgets_values"]]
    if known:
        node = random.choice(known)
        del node["widgets_values"][random.randrange(len(node["widgets_values"])) :]
        node.pop(NAMED, None)


def reroute(workflow: Workflow, random: Random, schemas: Schemas) -> None:
    """Put a Reroute node into a link."""
    if not workflow["links"]:
        return
    old = random.choice(workflow["links"])
    node, number = _next_ids(workflow)
    workflow["links"].append([number, old[1], old[2], node, 0, old[5]])
    origin = next(each for each in workflow["nodes"] if each["id"] == old[1])
    ends = origin["outputs"][old[2]]["links"]
    ends[ends.index(old[0])] = number
    old[1:3] = [node, 0]
    workflow["nodes"].append(
        _virtual("Reroute", node)
        | {
            "inputs": [{"name": "", "type": "*", "link": number}],
            "outputs": [{"name": "", "type": old[5], "links": [old[0]]}],
            "properties": {"showOutputText": False, "horizontal": False},
        }
    )


def bend(workflow: Workflow, random: Random, schemas: Schemas) -> None:
    """Put one of the newer reroutes, which are no nodes, on a link."""
    if not workflow["links"]:
        return
    link = random.choice(workflow["links"])[0]
    extra = workflow["extra"] = workflow.get("extra") or {}
    reroutes = extra.setdefault("reroutes", [])
    ends = extra.setdefault("linkExtensions", [])
    if all(end["id"] != link for end in ends):
        number = max((each["id"] for each in reroutes), default=0) + 1
        reroutes.append({"id": number, "pos": [0, 0], "linkIds": [link]})
        ends.append({"id": link, "parentId": number})


def feed(workflow: Workflow, random: Random, schemas: Schemas) -> None:
    """Feed a number or a text of a node from a primitive."""
    free = [(node, each) for node in workflow["nodes"] for each in _free_widgets(node, schemas)]
    if not free:
        return
    target, (name, kind) = random.choice(free)
    node, number = _next_ids(workflow)
    slot = _link_widget(target, name, kind, number)
    workflow["links"].append([number, node, 0, target["id"], slot, kind])
    workflow["nodes"].append(
        _virtual("PrimitiveNode", node)
        | {
            "inputs": [],
            "outputs": [{"name": kind, "type": kind, "links": [number], "widget": {"name": name}}],
            "properties": {"Run widget replace on values": False},
            "widgets_values": [_some_value(kind, random), "fixed"],
        }
    )


def expose(workflow: Workflow, random: Random, schemas: Schemas) -> None:
    """Make a widget inside a subgraph one of the subgraph's own, in each instance another value."""
    subgraphs = _graphs(workflow)[1:]
    if not subgraphs:
        return
    subgraph = random.choice(subgraphs)
    free = [(node, each) for node in subgraph["nodes"] for each in _free_widgets(node, schemas)]
    free += [(node, each) for node in subgraph["nodes"] for each in _exposed(node, subgraphs)]
    if not free:
        return
    target, (name, kind) = random.choice(free)
    _, number = _next_ids(workflow)
    inputs: list[Link] = subgraph.get("inputs") or []
    subgraph["inputs"] = inputs
    exposed = f"{name} {number}"
    inputs.append({"id": str(uuid.UUID(int=number)), "name": exposed, "type": kind})
    inputs[-1]["linkIds"] = [number]
    slot = _link_widget(target, name, kind, number)
    ends = {"origin_id": -10, "origin_slot": len(inputs) - 1, "target_id": target["id"]}
    subgraph["links"].append({"id": number, **ends, "target_slot": slot, "type": kind})
    newer = written_by(workflow) >= FIRST_INSIDE_OUT
    for graph in _graphs(workflow):
        for node in graph["nodes"]:
            if node["type"] == subgraph["id"]:
                _show_widget(node, exposed, _some_value(kind, random), newer)


def _exposed(node: Node, subgraphs: list[Workflow]) -> list[tuple[str, str]]:
    """What `expose` gave an instance inside another subgraph."""
    of_instance = (each["inputs"] for each in subgraphs if each["id"] == node["type"])
    inputs: list[Link] = next(of_instance, [])
    linked = {each["name"] for each in node.get("inputs", []) if each.get("link") is not None}
    found = [(each["name"], each["type"]) for each in inputs if each["name"] not in linked]
    return [(name, kind) for name, kind in found if kind in KINDS]


def _show_widget(instance: Node, name: str, value: Any, newer: bool) -> None:  # noqa: ANN401 - JSON
    if newer:  # they have the values of all inputs with a widget, or none
        if instance.get("widgets_values") or NAMED in instance:
            instance["widgets_values"] = [*(instance.get("widgets_values") or []), value]
        if NAMED in instance:
            instance[NAMED] = {**instance[NAMED], name: value}
        return
    shown = instance.setdefault("properties", {}).setdefault("proxyWidgets", [])
    values = instance["widgets_values"] = instance.get("widgets_values") or []
    values += [None] * (len(shown) - len(values))
    values[len(shown) :] = [value]
    shown.append(["-1", name])


def _link_widget(node: Node, name: str, kind: str, link: int) -> int:
    """Link a widget's socket; return the slot."""
    sockets = node.setdefault("inputs", [])
    socket = next((each for each in sockets if each["name"] == name), None)
    if socket is None:
        socket = {"name": name, "type": kind, "widget": {"name": name}}
        sockets.append(socket)
    socket["link"] = link
    return int(sockets.index(socket))


def _some_value(kind: str, random: Random) -> str | float:
    numbers = {"INT": random.randint(0, 2000), "FLOAT": random.random() * 30}
    return numbers.get(kind, "some text")


def _free_widgets(node: Node, schemas: Schemas) -> list[tuple[str, str]]:
    if node["type"] not in schemas or node["type"] in VIRTUAL:
        return []
    linked = {each["name"] for each in node.get("inputs", []) if each.get("link") is not None}
    values = widgets_of(node, schemas)
    known = inputs_of(schemas[node["type"]], values)
    # The GUI does not know the widgets of a video format well enough to feed them.
    known = [each for each in known if each.is_widget and not each.from_format]
    fitting = [each for each in known if each.type in KINDS]
    return [(each.name, each.type) for each in fitting if each.name not in linked]


def _next_ids(workflow: Workflow) -> tuple[int, int]:
    """A node id and a link id that are free in every graph of the file."""
    graphs = _graphs(workflow)
    nodes = [each["id"] for graph in graphs for each in graph["nodes"]]
    links = [
        each[0] if isinstance(each, list) else each["id"]
        for graph in graphs
        for each in graph["links"]
    ]
    workflow["last_node_id"] = max(node for node in nodes if isinstance(node, int)) + 1
    workflow["last_link_id"] = max(links, default=0) + 1
    return workflow["last_node_id"], workflow["last_link_id"]


def _virtual(kind: str, number: int) -> Node:
    look = {"pos": [0, -300], "size": [210, 82], "flags": {}, "order": 0, "mode": 0}
    return {"id": number, "type": kind, **look}


EDITS: list[Edit] = [
    set_mode,
    set_mode,
    disconnect,
    delete,
    reorder,
    shorten,
    reroute,
    bend,
    feed,
    expose,
]
