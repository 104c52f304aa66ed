"""GUI workflow files and API graphs: each from the other, and edits of GUI files. Pure.

A *workflow* is the GUI's file: nodes with positions, links, groups and widget values by place.
A *graph* is what ``POST /prompt`` takes: node id -> class_type, inputs and ``_meta``. To go from
one to the other takes the *schemas*: node class -> its entry in ``GET /object_info``.

The rules are those of comfyui_frontend_package 1.32.9 (litegraphService, executionUtil and
ExecutableNodeDTO in its source) and of VideoHelperSuite's VHS.core.js.
"""

import copy
import difflib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple, NotRequired, TypeAlias, TypedDict, TypeGuard

Workflow: TypeAlias = dict[str, Any]
Node: TypeAlias = dict[str, Any]
Graph: TypeAlias = dict[str, dict[str, Any]]
NodeId: TypeAlias = int | str
Value: TypeAlias = str | int | float | bool | list[Any] | None


class NodeSchema(TypedDict):
    """The part of an ``/object_info`` entry that conversion needs."""

    input: Mapping[str, Mapping[str, Sequence[Any]]]
    input_order: NotRequired[Mapping[str, Sequence[str]]]
    output: Sequence[Any]
    output_name: NotRequired[Sequence[str]]
    output_node: NotRequired[bool]
    display_name: NotRequired[str]


Schemas: TypeAlias = Mapping[str, NodeSchema]

MUTED, BYPASSED = 2, 4
REROUTE, PRIMITIVE = "Reroute", "PrimitiveNode"
VIRTUAL = frozenset({REROUTE, PRIMITIVE, "Note", "MarkdownNote"})
GROUP_NODES = ("workflow>", "workflow/")  # how the types of the GUI's old group nodes start
WIDGET_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
# Widgets that exist in the browser only; the GUI exports them, no node takes them.
BROWSER_INPUTS = frozenset({"audioUI", "preview", "video-preview"})
# Inputs whose value the browser makes when the GUI runs the workflow: no file holds it.
BROWSER_TYPES = frozenset({"AUDIO_RECORD", "LOAD_3D", "WEBCAM"})
NOISE_KEYS = ("videopreview", "$$canvas-image-preview")


class ConvertError(ValueError):
    """A workflow or graph that cannot be converted or edited; the message names the node."""

    def __init__(self, problem: str, node: Node | None = None) -> None:
        super().__init__(f"{_described(node)}: {problem}" if node else problem)
        self.problem = problem


def _described(node: Node) -> str:
    title = f' "{node["title"]}"' if node.get("title") else ""
    return f"node {node.get('id')}{title} ({node.get('type')})"


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def is_gui(workflow: object) -> TypeGuard[Workflow]:
    """Whether this parsed JSON is a GUI workflow file."""
    return (
        isinstance(workflow, dict)
        and isinstance(workflow.get("nodes"), list)
        and isinstance(workflow.get("links"), list)
    )


def is_api(workflow: object) -> TypeGuard[Graph]:
    """Whether this parsed JSON is an API graph: every entry has a class_type and inputs."""
    return (
        isinstance(workflow, dict)
        and bool(workflow)
        and all(
            isinstance(entry, dict)
            and isinstance(entry.get("class_type"), str)
            and isinstance(entry.get("inputs"), dict)
            for entry in workflow.values()
        )
    )


# ---- What a schema says


@dataclass(frozen=True)
class Input:
    """One input of a node class. `from_format`: there only with the chosen VHS format."""

    name: str
    type: str
    options: Mapping[str, Any]
    optional: bool
    from_format: bool = False

    @property
    def is_widget(self) -> bool:
        return self.type in WIDGET_TYPES and not self.is_forced

    @property
    def is_forced(self) -> bool:
        """Whether it is a socket whatever its type."""
        options = self.options
        return bool(options.get("forceInput") or (self.optional and options.get("defaultInput")))

    @property
    def default(self) -> Value:
        if self.options.get("default") is not None:
            value: Value = self.options["default"]
            return value
        if self.type == "COMBO":
            return next(iter(self.options.get("options") or ()), "")
        return {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False}.get(self.type, "")

    @property
    def control(self) -> list[str]:
        """The GUI's own slots after this widget: control_after_generate and a combo's filter."""
        seed = self.type == "INT" and self.name in ("seed", "noise_seed")
        if not self.options.get("control_after_generate", seed):
            return []
        return {"INT": ["fixed"], "COMBO": ["fixed", ""]}.get(self.type, [])


def _input(name: str, spec: Sequence[Any], optional: bool) -> Input:
    options = spec[1] if len(spec) > 1 and isinstance(spec[1], dict) else {}
    if isinstance(spec[0], list):
        return Input(name, "COMBO", {"options": spec[0], **options}, optional)
    return Input(name, spec[0], options, optional)


class _Itself:
    """A schema as a key: equal to the same object alone, which it keeps alive."""

    def __init__(self, schema: NodeSchema) -> None:
        self.schema = schema

    def __hash__(self) -> int:
        return id(self.schema)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.schema is other.schema


def _inputs(schema: NodeSchema) -> tuple[Input, ...]:
    return _inputs_of(_Itself(schema))


@lru_cache(maxsize=1024)  # asked for some 600 times a job
def _inputs_of(key: _Itself) -> tuple[Input, ...]:
    found = []
    for section in ("required", "optional"):
        specs = key.schema["input"].get(section, {})
        ordered = key.schema.get("input_order", {}).get(section, ())
        names = dict.fromkeys([*(name for name in ordered if name in specs), *specs])
        found += [_input(name, specs[name], section == "optional") for name in names]
    return tuple(found)


def _format_inputs(schema: NodeSchema, values: Mapping[str, Any]) -> list[Input]:
    """What VHS_VideoCombine adds for the chosen ``format``: pix_fmt, crf, ..."""
    formats = next((i.options.get("formats") for i in _inputs(schema) if i.name == "format"), None)
    chosen = values.get("format")
    added = formats.get(chosen) if formats and isinstance(chosen, str) else None
    if not isinstance(added, list):
        return []
    return [replace(_input(name, spec, optional=False), from_format=True) for name, *spec in added]


def inputs_of(schema: NodeSchema, values: Mapping[str, Any]) -> list[Input]:
    """All inputs of a node with these values, in the GUI's order, those of its format last."""
    return [*_inputs(schema), *_format_inputs(schema, values)]


def _widgets(schema: NodeSchema, values: Mapping[str, Any]) -> list[Input]:
    return [each for each in _inputs(schema) if each.is_widget] + _format_inputs(schema, values)


def _slots(schema: NodeSchema) -> list[str | None]:
    """Widget names in the order of a widgets_values list; None is a slot of the GUI's own."""
    slots: list[str | None] = []
    for each in _inputs(schema):
        if each.is_widget:
            slots += [each.name, *(None for _ in each.control)]
    return slots


def output_types(schema: NodeSchema) -> list[str]:
    """The types of a class's outputs, by slot."""
    return [made if isinstance(made, str) else "COMBO" for made in schema["output"]]


def _schema_of(node: Node, schemas: Schemas) -> NodeSchema:
    if node["type"] not in schemas:
        near = _nearest(node["type"], schemas)
        raise ConvertError(f"unknown node class {node['type']!r}{near}", node)
    return schemas[node["type"]]


def title_of(node: Node, schemas: Schemas) -> str:
    """A GUI node's title as the GUI shows it; the file leaves out a class's own title."""
    schema = schemas.get(node["type"])
    shown = schema.get("display_name") if schema else None
    return str(node.get("title") or shown or node["type"])


# ---- Widgets of a GUI node


def _is_keyed(node_class: str) -> bool:
    """Whether the GUI keeps the class's widgets_values by name: VideoHelperSuite's rule."""
    return node_class.startswith("VHS_")


def _stored(node: Node, schema: NodeSchema) -> dict[str, Any]:
    values = node.get("widgets_values")
    slots = _slots(schema)
    if _is_keyed(node["type"]):
        return _stored_by_name(node, slots)
    if isinstance(values, dict):
        if slots:
            raise ConvertError("widgets_values is a mapping; this class needs a list", node)
        return {}
    values = _without_sockets(values or [], schema)
    return {name: value for name, value in zip(slots, values, strict=False) if name}


def _without_sockets(values: list[Any], schema: NodeSchema) -> list[Any]:
    """The list without the slots of inputs that are sockets only, which old files still have."""
    old = [each for each in _inputs(schema) if each.is_widget or each.is_forced]
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
    return [each.name for each in _widgets(schema, _stored(node, schema))]


def widgets_of(node: Node, schemas: Schemas) -> dict[str, Any]:
    """Every widget of a GUI node: name -> value.

    A value that the file lacks is its default, as in the GUI. Raises ConvertError for an unknown
    class, and for widgets_values of the wrong form.
    """
    schema = _schema_of(node, schemas)
    stored = _stored(node, schema)
    return {each.name: stored.get(each.name, each.default) for each in _widgets(schema, stored)}


def set_widget(node: Node, name: str, value: Value, schemas: Schemas) -> None:
    """Set one widget in place.

    Raises ConvertError where the node has no such widget, and where a link feeds that input:
    the value would never be used.
    """
    schema = _schema_of(node, schemas)
    _check_name(node, name, widget_names(schema, node))
    if any(each["name"] == name and each.get("link") is not None for each in _sockets_in(node)):
        raise ConvertError(f"input {name!r} is fed by a link; its widget is not used", node)
    if _is_keyed(node["type"]):
        node["widgets_values"] = {**_stored(node, schema), name: value}
    else:
        values = [*(node.get("widgets_values") or ())]
        defaults = _placed_values(schema, _stored(node, schema))
        values += defaults[len(values) :]
        values[_slots(schema).index(name)] = value
        node["widgets_values"] = values


def _check_name(node: Node, name: str, known: Iterable[str]) -> None:
    known = list(known)
    if name not in known:
        raise ConvertError(f"no widget {name!r}{_nearest(name, known)}", node)


def _sockets_in(node: Node) -> list[dict[str, Any]]:
    return node.get("inputs") or []


# ---- GUI file -> API graph

INPUT_NODE = -10  # the frontend's id for where the links from a subgraph's inputs start
MAX_NODES, MAX_NESTING = 20_000, 50  # subgraphs in subgraphs multiply


class _Link(NamedTuple):
    id: int
    origin: NodeId
    origin_slot: int
    target: NodeId
    target_slot: int
    type: str


class _Socket(NamedTuple):
    name: str
    type: str
    link: int | None


class _Widget(NamedTuple):
    spec: Input
    value: Value


class _Constant(NamedTuple):
    value: Value


class _File:
    """What all levels of a workflow share."""

    def __init__(self, gui: Workflow, schemas: Schemas) -> None:
        definitions = (gui.get("definitions") or {}).get("subgraphs") or []
        self.schemas = schemas
        self.subgraphs: dict[str, Workflow] = {each["id"]: each for each in definitions}
        self._order = {name: index for index, name in enumerate(self.subgraphs)}
        self.nodes = 0

    def is_later(self, name: str, than: str | None) -> bool:
        """Whether the frontend builds a subgraph after the one that has an instance of it."""
        return than is not None and self._order[name] > self._order[than]


class _Level:
    """One graph of a workflow as it runs: the root, or a subgraph in one instance of it."""

    def __init__(self, content: Workflow, file: _File, host: tuple["_Level", Node] | None) -> None:
        self._file, self._host = file, host
        self.path: str = f"{host[0].path}{host[1]['id']}:" if host else ""
        self._outputs: list[dict[str, Any]] = content.get("outputs") or []
        self.nodes = self._unique(content["nodes"])
        self._links = {link.id: link for link in map(_read_link, content["links"])}
        self._known: dict[NodeId, dict[str, _Widget]] = {}
        self._definition: str | None = content["id"] if host else None
        self.inner = {
            node["id"]: self._instance(node)
            for node in content["nodes"]
            if node["type"] in file.subgraphs
        }

    def _unique(self, nodes: Sequence[Node]) -> dict[NodeId, Node]:
        unique: dict[NodeId, Node] = {}
        for node in nodes:
            if node["id"] in unique:
                raise self.error("another node has the same id", node)
            unique[node["id"]] = node
        self._file.nodes += len(unique)
        if self._file.nodes > MAX_NODES:
            raise ConvertError(f"the workflow has more than {MAX_NODES} nodes")
        return unique

    def _instance(self, node: Node) -> "_Level":
        if self.path.count(":") >= MAX_NESTING:
            raise self.error(f"subgraphs are nested more than {MAX_NESTING} deep", node)
        return _Level(self._file.subgraphs[node["type"]], self._file, (self, node))

    def error(self, problem: str, node: Node) -> ConvertError:
        """The fault, with the node named as it is in the graph."""
        return ConvertError(problem, node | {"id": f"{self.path}{node['id']}"})

    def runs(self) -> Iterator[tuple["_Level", Node]]:
        """Every node here and in the subgraphs that ComfyUI is to run."""
        for node in self.nodes.values():
            if node["id"] in self.inner:
                yield from self.inner[node["id"]].runs()
            elif node.get("mode") not in (MUTED, BYPASSED) and node["type"] not in VIRTUAL:
                yield self, node

    def sockets(self, node: Node) -> list[_Socket]:
        """In the GUI's order: plain sockets, those of widgets, then any the class lacks."""
        types = self._socket_types(node)
        written = {each["name"]: each for each in _sockets_in(node)}
        for name, each in written.items():
            types.setdefault(name, str(each.get("type")))
        return [_Socket(name, types[name], written.get(name, {}).get("link")) for name in types]

    def _socket_types(self, node: Node) -> dict[str, str]:
        if node["id"] in self.inner:
            inputs = self._file.subgraphs[node["type"]].get("inputs") or []
            return {each["name"]: str(each.get("type")) for each in inputs}
        schema = self._file.schemas.get(node["type"])
        known = sorted(_inputs(schema), key=lambda each: each.is_widget) if schema else []
        return {each.name: each.type for each in known}

    def _link(self, node: Node, socket: _Socket) -> _Link:
        link = None if socket.link is None else self._links.get(socket.link)
        if link is None:
            raise self.error(f"input {socket.name!r}: there is no link {socket.link}", node)
        if link.origin not in self.nodes and not (self._host and link.origin == INPUT_NODE):
            raise self.error(f"input {socket.name!r}: there is no node {link.origin}", node)
        return link

    # ---- Widgets, with the values that primitives and the subgraph's own widgets give them

    def widgets(self, node: Node) -> dict[str, _Widget]:
        """Every widget of a node, an instance of a subgraph included: name -> what it sends."""
        if node["id"] not in self._known:
            found = self._stored(node)
            for socket in self.sockets(node):
                if socket.link is not None and socket.name in found:
                    found[socket.name] = self._fed(node, socket, found[socket.name])
            self._known[node["id"]] = found
        return self._known[node["id"]]

    def _fed(self, node: Node, socket: _Socket, own: _Widget) -> _Widget:
        link = self._link(node, socket)
        if link.origin != INPUT_NODE:
            origin = self.nodes[link.origin]
            is_primitive = origin["type"] == PRIMITIVE
            return own._replace(value=self._primitive(origin, own.spec)) if is_primitive else own
        host, instance, outer = self._outside(node, link)
        promoted = host.widgets(instance).get(outer.name)
        return own._replace(value=promoted.value) if promoted else own

    def _primitive(self, node: Node, spec: Input) -> Value:
        if self._host:
            raise self.error("a primitive in a subgraph: the GUI cannot run it", node)
        values = node.get("widgets_values")
        if not values or not isinstance(values, list):
            raise self.error("the primitive holds no value", node)
        fed = [self._widget_at(link) for link in self._links.values() if link.origin == node["id"]]
        return _snapped(_clamped(values[0], [each.spec for each in fed if each]), spec)

    def _outside(self, node: Node, link: _Link) -> tuple["_Level", Node, _Socket]:
        """The socket of our instance that a link from the subgraph's inputs stands for."""
        assert self._host
        host, instance = self._host
        sockets = host.sockets(instance)
        if link.origin_slot >= len(sockets):
            raise self.error(f"its subgraph has no input {link.origin_slot}", node)
        return host, instance, sockets[link.origin_slot]

    def _stored(self, node: Node) -> dict[str, _Widget]:
        if node["id"] in self.inner:
            return self._promoted(node)
        named = node | {"id": f"{self.path}{node['id']}"} if self._host else node
        schema = _schema_of(named, self._file.schemas)
        for each in _inputs(schema):
            if each.type in BROWSER_TYPES:
                raise ConvertError(f"input {each.name!r} is made by the browser at run time", named)
        values = widgets_of(named, self._file.schemas)
        return {each.name: _Widget(each, values[each.name]) for each in _widgets(schema, values)}

    def _promoted(self, node: Node) -> dict[str, _Widget]:
        """The widgets that an instance shows for its subgraph, with its own values."""
        if self._file.is_later(node["type"], self._definition):
            return {}  # when the frontend makes the instance, there is no inner node yet
        found = self.inner[node["id"]].promotable(self._file.subgraphs[node["type"]])
        values = node.get("widgets_values")
        values = values if isinstance(values, list) else []
        for name, value in zip(list(found), values, strict=False):
            found[name] = found[name]._replace(value=value)
        for (owner, name), value in zip(self._shown(node), values, strict=False):
            if owner == "-1" and name in found and value is not None:
                found[name] = found[name]._replace(value=value)
        return found

    def _shown(self, instance: Node) -> list[list[str]]:
        """[inner node id, widget] for each widget that an instance shows; -1: its own."""
        properties = instance.get("properties")
        shown = properties.get("proxyWidgets") if isinstance(properties, dict) else None
        try:
            pairs = json.loads(shown) if isinstance(shown, str) else shown or []
            return [[str(owner), str(name)] for owner, name in pairs]
        except (ValueError, TypeError):
            raise self.error("properties.proxyWidgets is no list of pairs", instance) from None

    def promotable(self, definition: Workflow) -> dict[str, _Widget]:
        """Per input of this subgraph, the first widget that it feeds."""
        found: dict[str, _Widget] = {}
        for each in definition.get("inputs") or []:
            links = [self._links[link] for link in each.get("linkIds") or [] if link in self._links]
            widgets = filter(None, map(self._widget_at, links))
            if first := next(widgets, None):
                found[each["name"]] = first
        return found

    def _widget_at(self, link: _Link) -> _Widget | None:
        node = self.nodes.get(link.target)
        if node is None or node["type"] in VIRTUAL:
            return None
        name = next((each.name for each in self.sockets(node) if each.link == link.id), None)
        return self._stored(node).get(name) if name else None

    # ---- Links, followed to the node that makes the value

    def source(self, node: Node, start: _Socket) -> list[Any] | _Constant | None:
        """[node id, output slot] or a value, seen through bypassed nodes, reroutes, subgraphs.

        None where the link leads nowhere. The node may be a muted one.
        """
        level, socket, wanted = self, start, start.type
        seen: set[tuple[str, int]] = set()
        while socket.link is not None:
            link = level._link(node, socket)
            if (level.path, link.id) in seen:
                raise level.error("bypassed nodes, reroutes or subgraphs form a circle", node)
            seen.add((level.path, link.id))
            if link.origin == INPUT_NODE:
                level, node, socket = level._outside(node, link)
                wanted = socket.type
                if socket.link is None:
                    return level._constant(node, socket)
                continue
            level, node, slot = level._maker(node, link)
            if node.get("mode") == BYPASSED:
                socket = level._bypass(node, slot, wanted)
                wanted = socket.type
            elif node["type"] == REROUTE:
                socket = next(iter(level.sockets(node)), NOWHERE)
            elif node["type"] in VIRTUAL or node["id"] in level.inner:
                return None
            else:
                return [f"{level.path}{node['id']}", slot]
        return None

    def _constant(self, instance: Node, socket: _Socket) -> _Constant | None:
        promoted = self.widgets(instance).get(socket.name)
        return _Constant(promoted.value) if promoted else None

    def _maker(self, node: Node, link: _Link) -> tuple["_Level", Node, int]:
        """Where a link starts: a node that is no subgraph, or one that leads nowhere."""
        level, origin = self, self.nodes[link.origin]
        while origin["id"] in level.inner and origin.get("mode") != BYPASSED:
            inner = level.inner[origin["id"]]
            within = inner._output(link.origin_slot)
            if within is None:
                break
            if within.origin not in inner.nodes:
                raise level.error("its subgraph links an input to an output, or nothing", origin)
            level, link, origin = inner, within, inner.nodes[within.origin]
        return level, origin, link.origin_slot

    def _output(self, slot: int) -> _Link | None:
        """The link to an output of this subgraph."""
        links = self._outputs[slot].get("linkIds") or [] if slot < len(self._outputs) else []
        return next((self._links[link] for link in links if link in self._links), None)

    def _bypass(self, node: Node, slot: int, wanted: str) -> _Socket:
        """The input that stands in for a bypassed node's output."""
        sockets = self.sockets(node)
        opposite = sockets[slot : slot + 1]
        if wanted in ("*", ""):
            return next(iter(opposite or sockets), NOWHERE)
        made = self._output_type(node, slot)
        fitting = [each for each in sockets if fit(each.type, made) and fit(each.type, wanted)]
        same_slot = [each for each in opposite if each in fitting]
        exact = [each for each in sockets if each.type == wanted]
        return next(iter(same_slot or exact or fitting), NOWHERE)

    def _output_type(self, node: Node, slot: int) -> str:
        schema = self._file.schemas.get(node["type"])
        subgraph = self._file.subgraphs.get(node["type"]) or node
        written = [str(each.get("type")) for each in subgraph.get("outputs") or []]
        types = output_types(schema) if schema else written
        if slot >= len(types):
            raise self.error(f"a link starts at output {slot}, which it does not have", node)
        return types[slot]


NOWHERE = _Socket("", "", None)


def _read_link(entry: Any) -> _Link:  # noqa: ANN401 - JSON
    """A link in either form: a list, or in subgraphs and newer files a mapping."""
    if isinstance(entry, list):
        return _Link(*entry[:6])
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    return _Link(*(entry[name] for name in names))


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _clamped(value: Value, fed: Sequence[Input]) -> Value:
    """A primitive's number, within the ranges of all that it feeds."""
    low = max((each.options.get("min", -math.inf) for each in fed), default=-math.inf)
    high = min((each.options.get("max", math.inf) for each in fed), default=math.inf)
    return min(max(value, low), high) if _is_number(value) and low <= high else value


def _snapped(value: Value, spec: Input) -> Value:
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


def fit(one: str, other: str) -> bool:
    """Whether two sockets' types can be linked; a type may be a list with commas."""
    if {one, other} & {"*", ""}:
        return True
    return bool(set(one.lower().split(",")) & set(other.lower().split(",")))


def to_api(gui: Workflow, schemas: Schemas) -> Graph:
    """The API graph that the GUI would send for this workflow.

    Muted nodes and notes are left out, bypassed nodes and reroutes are seen through, primitives
    become values, the nodes of a subgraph get ids like ``12:3``; an input that a muted node feeds
    is left out, required or not. Apart from the GUI: no inputs of the browser's own
    (BROWSER_INPUTS), text is sent as written (the GUI resolves ``{a|b}``, ``//`` and ``%date%``),
    and a node without a title of its own has its class's in English.

    Raises ConvertError for a file that is no GUI workflow, group nodes, unknown classes,
    widgets_values that do not fit their class and links to what is not there.
    """
    _check_convertible(gui)
    root = _Level(gui, _File(gui, schemas), None)
    graph = {
        f"{level.path}{node['id']}": _api_entry(level, node, schemas) for level, node in root.runs()
    }
    for entry in graph.values():
        inputs = entry["inputs"].items()
        entry["inputs"] = {
            name: value for name, value in inputs if not _is_link(value) or value[0] in graph
        }
    return graph


def _api_entry(level: _Level, node: Node, schemas: Schemas) -> dict[str, Any]:
    inputs = {name: _wrapped(widget.value) for name, widget in level.widgets(node).items()}
    for socket in level.sockets(node):
        match level.source(node, socket):
            case None:
                continue
            case _Constant(value):
                inputs[socket.name] = _wrapped(value)
            case source:
                inputs[socket.name] = source
    return {
        "class_type": node["type"],
        "inputs": inputs,
        "_meta": {"title": title_of(node, schemas)},
    }


def _wrapped(value: Value) -> Value | dict[str, Any]:
    # A bare list would be taken for a link; ComfyUI unwraps this form itself.
    return {"__value__": value} if isinstance(value, list) else value


def _is_link(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


# ---- What a GUI file must be like, so that the rest can rely on it


def _check_convertible(gui: Workflow) -> None:
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
            link = _read_link(entry)
            numbers = (link.id, link.origin_slot, link.target_slot)
            fits = all(isinstance(each, int) and each >= 0 for each in numbers) and all(
                isinstance(end, int | str) for end in (link.origin, link.target)
            )
        except (KeyError, TypeError):
            fits = False
        if not fits:
            raise ConvertError(f"links has an entry that is no link: {str(entry)[:80]}")


# ---- API graph -> GUI file

NODE_WIDTH, COLUMN_GAP, ROW_GAP = 380, 60, 30
GROUP_PADDING, GROUP_HEADER, GROUP_GAP = 30, 50, 60
TITLE_HEIGHT = 30  # the GUI draws a node's title bar above its position
SOCKET_HEIGHT, WIDGET_HEIGHT = 20, 24
TEXT_HEIGHT, IMAGE_HEIGHT, AUDIO_HEIGHT, RESULT_HEIGHT = 120, 260, 90, 320
VHS_RESULT_HEIGHT = NODE_WIDTH * 16 // 9  # VideoHelperSuite shows a video as wide as its node
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
    schema = _schema_of(node, schemas)
    given = {n: value for n, value in entry["inputs"].items() if n not in BROWSER_INPUTS}
    known = inputs_of(schema, given)
    names = [each.name for each in known]
    for name in given:
        if name not in names:
            raise ConvertError(f"no input {name!r}{_nearest(name, names)}", node)
    return node | {
        "pos": [0, 0],
        "size": [NODE_WIDTH, _height(node["type"], schema, given)],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [_gui_socket(i) for i in known if not i.is_widget or _is_link(given.get(i.name))],
        "outputs": _gui_outputs(schema),
        "properties": {"Node name for S&R": node["type"]},
        "widgets_values": _gui_values(node["type"], schema, given),
    }


def _gui_socket(each: Input) -> dict[str, Any]:
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
    if not _is_keyed(node_class):
        return _placed_values(schema, given)
    widgets = _widgets(schema, given)
    return {each.name: _unwrapped(given.get(each.name), each.default) for each in widgets}


def _placed_values(schema: NodeSchema, given: Mapping[str, Any]) -> list[Value]:
    placed: list[Value] = []
    for each in _widgets(schema, given):
        placed += [_unwrapped(given.get(each.name), each.default), *each.control]
    return placed + _upload_slots(schema)


def _unwrapped(value: object, default: Value) -> Value:
    if value is None or _is_link(value):
        return default
    inner: Value = value["__value__"] if isinstance(value, dict) else value  # type: ignore[assignment]
    return inner


def _upload_slots(schema: NodeSchema) -> list[Value]:
    options = [each.options for each in _inputs(schema)]
    if any(each.get("image_upload") or each.get("video_upload") for each in options):
        return ["image"]
    return [None, None] if any(each.get("audio_upload") for each in options) else []


def _height(node_class: str, schema: NodeSchema, given: Mapping[str, Any]) -> int:
    """At least what the GUI computes, with room for the previews it adds later."""
    widgets = _widgets(schema, given)
    plain = [each for each in _inputs(schema) if not each.is_widget]
    height = SOCKET_HEIGHT * max(len(plain), len(schema["output"]), 1) + 16
    height += WIDGET_HEIGHT * (len(widgets) + sum(len(each.control) for each in widgets))
    options = [each.options for each in widgets]
    height += TEXT_HEIGHT * sum(bool(each.get("multiline")) for each in options)
    height += AUDIO_HEIGHT * any(each.get("audio_upload") for each in options)
    if any(each.get("image_upload") or each.get("video_upload") for each in options):
        height += IMAGE_HEIGHT
    if schema.get("output_node"):
        height += VHS_RESULT_HEIGHT if _is_keyed(node_class) else RESULT_HEIGHT
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


# ---- Edits and comparison of GUI files


def remove_node(gui: Workflow, node_id: NodeId) -> None:
    """Take a node and every link to and from it out of the workflow, in place.

    Raises ConvertError where there is no such node.
    """
    if all(node["id"] != node_id for node in gui["nodes"]):
        raise ConvertError(f"there is no node {node_id} to remove")
    gone = {entry[0] for entry in gui["links"] if node_id in (entry[1], entry[3])}
    gui["nodes"] = [node for node in gui["nodes"] if node["id"] != node_id]
    gui["links"] = [entry for entry in gui["links"] if entry[0] not in gone]
    for node in gui["nodes"]:
        for socket in _sockets_in(node):
            if socket.get("link") in gone:
                socket["link"] = None
        for output in node.get("outputs") or []:
            left = [link for link in output.get("links") or [] if link not in gone]
            output["links"] = left or None


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
