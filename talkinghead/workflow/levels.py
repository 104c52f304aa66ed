"""The levels of a GUI file as it runs: the root, and a subgraph once per instance of it. Pure.

The rules are those of comfyui_frontend_package 1.32.9 (ExecutableNodeDTO in its source).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from talkinghead.workflow.gui_file import (
    BYPASSED,
    MUTED,
    PRIMITIVE,
    VIRTUAL,
    ConvertError,
    Link,
    Node,
    NodeId,
    Workflow,
    read_link,
    schema_of,
    sockets_in,
    widgets_of,
    written_by,
)
from talkinghead.workflow.match_types import (
    MatchedTypes,
    MatchGroup,
    match_groups,
    matched_types,
)
from talkinghead.workflow.schemas import (
    DYNAMIC_COMBO,
    InputSpec,
    NodeSchema,
    Schemas,
    Value,
    class_inputs,
    output_types,
    shown_inputs,
    widget_inputs,
)

INPUT_NODE = -10  # the frontend's id for where the links from a subgraph's inputs start
# The first frontends that do otherwise than 1.32.9. A file is taken as who wrote it saw it run.
FIRST_SWITCHING_INSTANCES = (1, 39)  # a muted or bypassed instance is off, whatever is in it
FIRST_WITH_INNER_PRIMITIVES = (1, 39)  # a primitive in a subgraph works
FIRST_ENDING_AT_MUTED = (1, 41)  # a widget that a muted node feeds sends what it holds
FIRST_INSIDE_OUT = (1, 42)  # the innermost subgraphs are built first
FIRST_WITH_LINKED_PROMOTIONS = (1, 46)  # a widget that an instance shows is an input of it
MAX_NODES, MAX_NESTING = 20_000, 50  # subgraphs in subgraphs multiply


class Socket(NamedTuple):
    """An input of a node, whether or not the file has a socket for it; `link` is the link's id."""

    name: str
    type: str
    link: int | None


NOWHERE = Socket("", "", None)


class WorkflowFile:
    """What all levels of a workflow share: schemas, subgraphs, and a count of all their nodes."""

    def __init__(self, gui: Workflow, schemas: Schemas) -> None:
        definitions = (gui.get("definitions") or {}).get("subgraphs") or []
        self.schemas = schemas
        self.subgraphs: dict[str, Workflow] = {each["id"]: each for each in definitions}
        self.order = {name: index for index, name in enumerate(self.subgraphs)}
        version = written_by(gui)
        self.is_built_inside_out = version >= FIRST_INSIDE_OUT
        self.switches_instances = version >= FIRST_SWITCHING_INSTANCES
        self.has_inner_primitives = version >= FIRST_WITH_INNER_PRIMITIVES
        self.ends_at_muted = version >= FIRST_ENDING_AT_MUTED
        self.has_linked_promotions = version >= FIRST_WITH_LINKED_PROMOTIONS
        self.nodes = 0


class Level:
    """One graph of a workflow as it runs: the root, or a subgraph in one instance of it.

    `host` is the level and the node that the instance is; `inner` has the levels of our own
    instances, by node id. In the API graph a node's id begins with `path`, like ``12:3:``.
    """

    def __init__(
        self, content: Workflow, shared: WorkflowFile, host: tuple[Level, Node] | None = None
    ) -> None:
        self.content, self.host, self._shared = content, host, shared
        self.schemas = shared.schemas
        # A widget sends its own value, not its instance's, where a link to nothing feeds that.
        self.gives_up_linked = shared.has_linked_promotions
        self.path: str = f"{host[0].id_of(host[1])}:" if host else ""
        # Counted before the instances are made, so that subgraphs in subgraphs end at the limit.
        self.nodes = self._unique(content["nodes"])
        self.links = {link.id: link for link in map(read_link, content["links"])}
        self.inner = {
            node["id"]: self._instance(node)
            for node in content["nodes"]
            if node["type"] in shared.subgraphs
        }

    def _unique(self, nodes: Sequence[Node]) -> dict[NodeId, Node]:
        unique: dict[NodeId, Node] = {}
        for node in nodes:
            if node["id"] in unique:
                raise self.error("another node has the same id", node)
            unique[node["id"]] = node
        self._shared.nodes += len(unique)
        if self._shared.nodes > MAX_NODES:
            raise ConvertError(f"the workflow has more than {MAX_NODES} nodes")
        return unique

    def _instance(self, node: Node) -> Level:
        if self.path.count(":") >= MAX_NESTING:
            raise self.error(f"subgraphs are nested more than {MAX_NESTING} deep", node)
        return Level(self._shared.subgraphs[node["type"]], self._shared, (self, node))

    def id_of(self, node: Node) -> str:
        """The node's id in the API graph."""
        return f"{self.path}{node['id']}"

    def named(self, node: Node) -> Node:
        """The node under its id in the API graph, as messages name it."""
        return node | {"id": self.id_of(node)}

    def error(self, problem: str, node: Node) -> ConvertError:
        """The fault, with the node named as it is in the graph."""
        return ConvertError(problem, self.named(node))

    def runs(self) -> Iterator[tuple[Level, Node]]:
        """Every node here and in the subgraphs that ComfyUI is to run."""
        for node in self.nodes.values():
            is_off = node.get("mode") in (MUTED, BYPASSED)
            if node["id"] in self.inner:
                if not (is_off and self.host is None and self._shared.switches_instances):
                    yield from self.inner[node["id"]].runs()
            elif not is_off and node["type"] not in VIRTUAL:
                yield self, node

    def is_built_later(self, instance: Node) -> bool:
        """Whether the frontend builds an instance's subgraph after ours, which it is in.

        Older frontends build subgraphs in the order of the file, and so lose values; who saved
        with one saw the others. Newer ones build the innermost first.
        """
        order = self._shared.order
        if self.host is None or self._shared.is_built_inside_out:
            return False
        return order[instance["type"]] > order[self.content["id"]]

    @property
    def can_have_primitives(self) -> bool:
        """Whether the frontend can run a primitive here."""
        return self.host is None or self._shared.has_inner_primitives

    def feeds_nothing(self, node: Node) -> bool:
        """Whether links from this node are as if they were not there: it is muted."""
        return self._shared.ends_at_muted and node.get("mode") == MUTED

    def sockets(self, node: Node) -> list[Socket]:
        """In the GUI's order: plain sockets, those of widgets, then any the class lacks."""
        types, combos = self._socket_types(node)
        matched = self._matched.inputs
        types = {name: matched.get((node["id"], name), kind) for name, kind in types.items()}
        written = {each["name"]: each for each in sockets_in(node)}
        for name, each in written.items():
            # What came with a choice that a combo no longer has is gone.
            if not name.startswith(combos):
                types.setdefault(name, str(each.get("type")))
        return [Socket(name, types[name], written.get(name, {}).get("link")) for name in types]

    def _socket_types(self, node: Node) -> tuple[dict[str, str], tuple[str, ...]]:
        """Name -> type of the sockets that a node has, and how those of dynamic combos begin."""
        if node["id"] in self.inner:
            inputs = self.inner[node["id"]].content.get("inputs") or []
            return {each["name"]: str(each.get("type")) for each in inputs}, ()
        schema = self.schemas.get(node["type"])
        if schema is None:
            return {}, ()
        known = _shown_inputs(self, node, schema)
        combos = tuple(f"{each.name}." for each in known if each.type == DYNAMIC_COMBO)
        # The inputs of a dynamic combo's choice follow it, sockets or not.
        own = sorted(known, key=lambda each: each.is_widget or each.name.startswith(combos))
        return {each.name: each.type for each in own}, combos

    @cached_property
    def _matched(self) -> MatchedTypes:
        return _matched_in(self)

    def output_type(self, node: Node, slot: int) -> str:
        """The type of a node's output, by its schema and links, else by the file.

        Raises:
            ConvertError: the node has no such output.
        """
        types = _output_types(self, node)
        if slot >= len(types):
            raise self.error(f"a link starts at output {slot}, which it does not have", node)
        return self._matched.outputs.get((node["id"], slot), types[slot])

    def link(self, node: Node, socket: Socket) -> Link:
        """The link that feeds a socket; it starts at a node of this level or at INPUT_NODE.

        Raises:
            ConvertError: the link, or the node that it starts at, is not there.
        """
        link = None if socket.link is None else self.links.get(socket.link)
        if link is None:
            raise self.error(f"input {socket.name!r}: there is no link {socket.link}", node)
        if link.origin not in self.nodes and not (self.host and link.origin == INPUT_NODE):
            raise self.error(f"input {socket.name!r}: there is no node {link.origin}", node)
        return link

    def outside(self, node: Node, link: Link) -> tuple[Level, Node, Socket]:
        """The socket of our instance that a link from the subgraph's inputs stands for."""
        assert self.host
        host, instance = self.host
        sockets = host.sockets(instance)
        if link.origin_slot >= len(sockets):
            raise self.error(f"its subgraph has no input {link.origin_slot}", node)
        return host, instance, sockets[link.origin_slot]

    def link_to_output(self, slot: int) -> Link | None:
        """The link to an output of this subgraph."""
        outputs = self.content.get("outputs") or []
        links = outputs[slot].get("linkIds") or [] if slot < len(outputs) else []
        return next((self.links[link] for link in links if link in self.links), None)


def values_of(level: Level, node: Node) -> dict[str, Value]:
    """What a node's widgets hold when the GUI runs it: what the file has, but for one thing.

    A primitive that feeds a dynamic combo makes it bring the inputs of another choice, and those
    have their defaults.

    Raises:
        ConvertError: the class is unknown, or widgets_values are of the wrong form.
    """
    named = level.named(node)
    schema, values = schema_of(named, level.schemas), widgets_of(named, level.schemas)
    if not _has_choices(schema):
        return values
    for socket in sorted(sockets_in(node), key=lambda each: each["name"]):
        name = socket["name"]
        combos = {each.name for each in widget_inputs(schema, values) if each.type == DYNAMIC_COMBO}
        held = _held_by_primitive(level, socket) if name in combos else []
        if held and values[name] != held[0]:
            kept = {n: value for n, value in values.items() if not n.startswith(f"{name}.")}
            kept[name] = held[0]
            inputs = widget_inputs(schema, kept)
            values = {each.name: kept.get(each.name, each.default) for each in inputs}
    return values


def _held_by_primitive(level: Level, socket: Mapping[str, Any]) -> list[Value]:
    """What the primitive holds that feeds a socket, the value first; [] where none does."""
    link = level.links.get(socket.get("link", -1))
    origin = level.nodes.get(link.origin) if link else None
    held = origin.get("widgets_values") if origin and origin["type"] == PRIMITIVE else None
    return held if isinstance(held, list) and level.can_have_primitives else []


def _has_choices(schema: NodeSchema) -> bool:
    return any(each.type == DYNAMIC_COMBO for each in class_inputs(schema))


def _shown_inputs(level: Level, node: Node, schema: NodeSchema) -> Sequence[InputSpec]:
    if not _has_choices(schema):
        return class_inputs(schema)
    return shown_inputs(schema, values_of(level, node))


def _matched_in(level: Level) -> MatchedTypes:
    groups: list[MatchGroup] = []
    for node in level.nodes.values():
        schema = None if node["id"] in level.inner else level.schemas.get(node["type"])
        if schema and any(each.match_group for each in class_inputs(schema)):
            specs = _shown_inputs(level, node, schema)
            groups += match_groups(node, specs, schema, level.links)
    return matched_types(groups, lambda link: _type_at_origin(level, link))


def _type_at_origin(level: Level, link: Link) -> str:
    if link.origin in level.nodes:
        made = _output_types(level, level.nodes[link.origin])
    else:
        made = [str(each.get("type")) for each in level.content.get("inputs") or []]
    return made[link.origin_slot] if link.origin_slot < len(made) else "*"


def _output_types(level: Level, node: Node) -> list[str]:
    schema = level.schemas.get(node["type"])
    subgraph = level.inner[node["id"]].content if node["id"] in level.inner else node
    written = [str(each.get("type")) for each in subgraph.get("outputs") or []]
    return output_types(schema) if schema else written
