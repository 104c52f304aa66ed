"""Widgets of inner nodes that an instance of a subgraph shows: promoted widgets. Pure.

Until 1.45 an instance only lists them, in ``properties.proxyWidgets``, and their values are those
of the inner nodes. Newer frontends make each an input of the subgraph, for which every instance
has a value of its own, and do so to an older list when they open a file. Such a value also
goes through a bypassed inner node, and takes the place of a link to the widget. The rules are
those of comfyui_frontend_package 1.58.1 (proxyWidgetMigration in its source).
"""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

from talkinghead.workflow.gui_file import (
    NAMED,
    PRIMITIVE,
    ConvertError,
    Node,
    Workflow,
    read_link,
    sockets_in,
    widgets_of,
    written_by,
)
from talkinghead.workflow.levels import FIRST_WITH_LINKED_PROMOTIONS, INPUT_NODE, MAX_NESTING
from talkinghead.workflow.schemas import InputSpec, Schemas, Value, widget_inputs

OWN = "-1"  # stands for the instance itself, where the list has a widget of its own
SHOWN = "proxyWidgets"
# The subgraph's input that a primitive's links have been moved to.
MOVED_TO = "proxyBypassedToSubgraphInput"
RANGE = ("min", "max", "step")  # in which widgets must agree for one input to feed them
# How 1.32.9 names a widget that an inner instance only shows: "5: value".
PREFIX = re.compile(r"\s*(\d+)\s*:\s*(.+)", re.DOTALL)


Socket: TypeAlias = tuple[Node, str]  # of a node, by its name


class Shown(NamedTuple):
    """A widget that an instance lists; `deepest`: the node it is of, where more than one may be."""

    owner: str
    name: str
    deepest: str | None = None


def shown_widgets(instance: Node) -> list[Shown]:
    """The widgets that an instance lists.

    Raises:
        ConvertError: the list is none.
    """
    listed = _properties(instance).get(SHOWN)
    try:
        entries = json.loads(listed) if isinstance(listed, str) else listed or []
        return [Shown(str(owner), str(name), *map(str, more)) for owner, name, *more in entries]
    except (ValueError, TypeError):
        raise ConvertError(f"properties.{SHOWN} is no list of pairs", instance) from None


def with_linked_promotions(gui: Workflow, schemas: Schemas) -> Workflow:
    """The file as the frontend that wrote it has it: newer ones without lists of shown widgets.

    Raises:
        ConvertError: such a list is none.
    """
    instances = {each["id"] for each in _graphs(gui)[1:]}
    nodes = (n for graph in _graphs(gui) for n in graph["nodes"] if n["type"] in instances)
    is_newer = written_by(gui) >= FIRST_WITH_LINKED_PROMOTIONS
    if not is_newer or not any(shown_widgets(each) for each in nodes):
        return gui
    opened = copy.deepcopy(gui)
    _Opened(opened, schemas).link_all()
    return opened


class _Opened:
    """A file whose lists of shown widgets become inputs of subgraphs, in place."""

    def __init__(self, gui: Workflow, schemas: Schemas) -> None:
        self._gui, self._known = gui, _Subgraphs(gui, schemas)
        links = [read_link(entry).id for graph in _graphs(gui) for entry in graph["links"]]
        self._last_link = max(links, default=0)

    def link_all(self) -> None:
        """Link what the instances list, those in the innermost subgraphs first."""
        for graph in self._known.inside_out(self._gui, set(), 0):
            instances = [node for node in graph["nodes"] if node["type"] in self._known.all]
            # By place they have the values of the inputs that are there before any is linked here.
            for instance, values in [(each, self._name_values(each)) for each in instances]:
                self._link_shown(instance, values)

    def _name_values(self, instance: Node) -> list[Value]:
        """Give an instance its values by name; return those that it had by place."""
        held = instance.get("widgets_values")
        values = held if isinstance(held, list) else []
        inputs = _inputs(self._known.all[instance["type"]])
        names = [each["name"] for each in inputs if self._known.is_widget(instance, each["name"])]
        by_place = dict(zip(names, values, strict=False))
        instance |= {NAMED: by_place | (instance.get(NAMED) or {}), "widgets_values": []}
        return values

    def _link_shown(self, instance: Node, values: list[Value]) -> None:
        subgraph = self._known.all[instance["type"]]
        # null: 1.32.9 writes it in place of what is not its own (1.58.1 would send it).
        given = {at: value for at, value in enumerate(values) if value is not None}
        entries = [self._known.without_prefix(subgraph, each) for each in shown_widgets(instance)]
        linked = self._known.linked_already(subgraph, entries)
        primitives: dict[str, list[int]] = {}
        for at, entry in enumerate(entries):
            node = _node(subgraph, entry.owner)
            if linked[at] is None and node and node["type"] == PRIMITIVE:
                primitives.setdefault(entry.owner, []).append(at)
            elif linked[at] is None and node:
                linked[at] = self._link(subgraph, node, entry)
        for places in primitives.values():
            name = self._move(subgraph, [entries[at] for at in places])
            linked[next((at for at in places if at in given), places[0])] = name
        named = {name: given[at] for at, name in enumerate(linked) if name and at in given}
        own = {e.name: given[at] for at, e in enumerate(entries) if e.owner == OWN and at in given}
        instance[NAMED] |= named | own
        if entries:
            instance["properties"][SHOWN] = []

    def _link(self, subgraph: Workflow, node: Node, entry: Shown) -> str | None:
        """Make an input that feeds the widget; None where the node has none such."""
        if node["type"] not in self._known.all:
            spec = self._known.spec_of(node, entry.name)
            return self._feed(subgraph, spec.name, spec.type, [(node, spec.name)]) if spec else None
        within = self._known.all[node["type"]]
        for each in _inputs(within):
            target = self._known.target(within, each["name"])
            if not target or not self._known.is_widget(node, each["name"]):
                continue
            is_meant = (
                (str(target[0]["id"]), target[1]) == (entry.deepest, entry.name)
                if entry.deepest
                else entry.name in (each["name"], target[1])
            )
            if is_meant:
                return self._feed(
                    subgraph, entry.name, str(each.get("type")), [(node, each["name"])]
                )
        return None

    def _move(self, subgraph: Workflow, entries: list[Shown]) -> str | None:
        """Make an input that feeds what a primitive feeds; None where that cannot be."""
        node = _node(subgraph, entries[0].owner)
        if node is None or len({each.name for each in entries}) > 1:
            return None  # it is shown with its control_after_generate
        ends = self._known.ends[subgraph["id"]]
        links = [link for link in map(read_link, subgraph["links"]) if link.origin == node["id"]]
        fed = [ends[link.id] for link in links if link.id in ends]
        specs = [self._known.spec_of(*each) for each in fed]
        ranges = {each and (each.type, *map(each.options.get, RANGE)) for each in specs}
        if len(ranges) != 1 or specs[0] is None:
            return None
        title = str(node.get("title") or PRIMITIVE)
        base = entries[0].name if title == PRIMITIVE else title
        name = self._feed(subgraph, base, specs[0].type, fed)
        node["properties"] = {**_properties(node), MOVED_TO: name}
        return name

    def _feed(self, subgraph: Workflow, base: str, kind: str, targets: list[Socket]) -> str:
        """Make an input of the subgraph, and link it in place of what feeds these sockets now."""
        inputs = subgraph["inputs"] = _inputs(subgraph)
        taken = {each["name"] for each in inputs}
        tries = (f"{base}_{number}" if number else base for number in range(len(taken) + 1))
        name = next(each for each in tries if each not in taken)
        inputs.append({"name": name, "type": kind, "linkIds": []})
        for node, socket in targets:
            self._last_link += 1
            inputs[-1]["linkIds"].append(self._last_link)
            slot = self._plug(subgraph, node, {"name": socket, "type": kind})
            ends = [self._last_link, INPUT_NODE, len(inputs) - 1, node["id"], slot, kind]
            subgraph["links"].append(ends)
        return name

    def _plug(self, subgraph: Workflow, node: Node, socket: dict[str, Any]) -> int:
        """Give a node's socket the last link in place of the one that it has; return the slot."""
        sockets, ends = sockets_in(node), self._known.ends[subgraph["id"]]
        names = [each["name"] for each in sockets]
        slot = names.index(socket["name"]) if socket["name"] in names else len(sockets)
        node["inputs"] = [*sockets, socket][: max(len(sockets), slot + 1)]
        old = node["inputs"][slot].get("link")
        node["inputs"][slot]["link"] = self._last_link
        ends[self._last_link] = (node, socket["name"])
        if ends.pop(old, None):
            subgraph["links"] = [each for each in subgraph["links"] if read_link(each).id != old]
        return slot


class _Subgraphs:
    """The subgraphs of a file, and what the inputs of each feed."""

    def __init__(self, gui: Workflow, schemas: Schemas) -> None:
        self._schemas = schemas
        self.all: dict[str, Workflow] = {each["id"]: each for each in _graphs(gui)[1:]}
        # Which socket each link of a subgraph ends at.
        self.ends = {name: _ends_in(each) for name, each in self.all.items()}

    def inside_out(self, graph: Workflow, seen: set[str], depth: int) -> Iterator[Workflow]:
        """The graph after the subgraphs that are in it, each once."""
        if depth > MAX_NESTING:
            raise ConvertError(f"subgraphs are nested more than {MAX_NESTING} deep")
        for kind in dict.fromkeys(node["type"] for node in graph["nodes"]):
            if kind in self.all and kind not in seen:
                seen.add(kind)
                yield from self.inside_out(self.all[kind], seen, depth + 1)
        yield graph

    def without_prefix(self, subgraph: Workflow, entry: Shown) -> Shown:
        """The entry as newer frontends would write it."""
        node = _node(subgraph, entry.owner)
        if node and self.is_widget(node, entry.name):
            return entry
        name, deepest = entry.name, entry.deepest
        while found := PREFIX.fullmatch(name):
            deepest, name = found.groups()
        return Shown(entry.owner, name, deepest)

    def is_widget(self, node: Node, name: str) -> bool:
        """Whether a node has such a widget, with a socket; an instance has those of its inputs."""
        seen: set[tuple[str, str]] = set()
        while node["type"] in self.all:
            target = self.target(self.all[node["type"]], name)
            if target is None or (node["type"], name) in seen:
                return False
            seen.add((node["type"], name))
            node, name = target
        return self.spec_of(node, name) is not None

    def spec_of(self, node: Node, name: str) -> InputSpec | None:
        """A node's widget of this name, if it has a socket."""
        schema = self._schemas.get(node["type"])
        known = widget_inputs(schema, widgets_of(node, self._schemas)) if schema else []
        fitting = (each for each in known if each.name == name and not each.from_format)
        return next((each for each in fitting if not each.options.get("socketless")), None)

    def target(self, subgraph: Workflow, name: str) -> Socket | None:
        """The first widget that an input of a subgraph feeds, or input of an inner instance."""
        entry = next((each for each in _inputs(subgraph) if each["name"] == name), {})
        ends = self.ends[subgraph["id"]]
        found = (ends[link] for link in entry.get("linkIds") or [] if link in ends)
        return next((e for e in found if e[0]["type"] in self.all or self.spec_of(*e)), None)

    def linked_already(self, subgraph: Workflow, entries: list[Shown]) -> list[str | None]:
        """The input that feeds each widget, or that has taken the primitive's place, if any."""
        names = [str(each["name"]) for each in _inputs(subgraph)]
        fed: dict[tuple[str, str], str] = {}
        for name in names:
            if target := self.target(subgraph, name):
                fed.setdefault((str(target[0]["id"]), target[1]), name)
        moved = [_properties(_node(subgraph, each.owner)).get(MOVED_TO) for each in entries]
        return [
            fed.get((each.owner, each.name)) or (name if name in names else None)
            for each, name in zip(entries, moved, strict=True)
        ]


def _graphs(gui: Workflow) -> list[Workflow]:
    return [gui, *((gui.get("definitions") or {}).get("subgraphs") or [])]


def _inputs(subgraph: Workflow) -> list[dict[str, Any]]:
    return subgraph.get("inputs") or []


def _node(subgraph: Workflow, number: str) -> Node | None:
    return next((each for each in subgraph["nodes"] if str(each["id"]) == number), None)


def _properties(node: Node | None) -> dict[str, Any]:
    properties = (node or {}).get("properties")
    return properties if isinstance(properties, dict) else {}


def _ends_in(graph: Workflow) -> dict[int, Socket]:
    sockets = [(node, each) for node in graph["nodes"] for each in sockets_in(node)]
    return {
        each["link"]: (node, each["name"]) for node, each in sockets if each.get("link") is not None
    }
