"""How rules see an API graph, and what they find."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from talkinghead.workflow.graph import Graph, label_in
from talkinghead.workflow.schemas import InputSpec, Schemas, inputs_of

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """An `error` would fail or give something other than the graph says.

    `node` is "title (class, node id)"; it and `input` are empty where the whole file is meant.
    """

    severity: Severity
    node: str
    input: str
    message: str

    def __str__(self) -> str:
        place = ", input ".join(each for each in (self.node, self.input) if each)
        text = ": ".join(each for each in (self.severity, place, self.message) if each)
        # A title may hold half of a character, which no terminal can be told.
        return text.encode(errors="backslashreplace").decode()


@dataclass(frozen=True, eq=False)
class NodeView:
    """A node of an API graph, as rules read it.

    `values` holds the inputs that no link feeds, with the schema's defaults; what a link brings is
    not known before the run, so rules leave it alone. `known` are the inputs of its schema, if any.
    """

    label: str
    class_type: str
    inputs: Mapping[str, Any]
    known: Sequence[InputSpec]
    values: Mapping[str, Any]

    def number(self, name: str) -> float | None:
        """The number of this input; None where it is none, or a link feeds it."""
        value = self.values.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        return value if abs(value) <= sys.float_info.max else None  # rules compute with it

    def text(self, name: str) -> str:
        """The text of this input; empty where it is none, or a link feeds it."""
        value = self.values.get(name)
        return value if isinstance(value, str) else ""

    def is_linked(self, name: str) -> bool:
        """Whether a link feeds this input."""
        return isinstance(self.inputs.get(name), list)

    def error(self, name: str, message: str) -> Finding:
        """What would fail or come out wrong at this input; an empty name is the whole node."""
        return Finding("error", self.label, name, message)

    def warning(self, name: str, message: str) -> Finding:
        """What may be meant so at this input; an empty name is the whole node."""
        return Finding("warning", self.label, name, message)


def _node(graph: Graph, key: str, schemas: Schemas) -> NodeView:
    inputs, class_type = graph[key]["inputs"], graph[key]["class_type"]
    known = inputs_of(schemas[class_type], inputs) if class_type in schemas else []
    values = {each.name: each.options.get("default") for each in known} | dict(inputs)
    return NodeView(
        label=label_in(graph, key),
        class_type=class_type,
        inputs=inputs,
        known=known,
        values={name: value for name, value in values.items() if not isinstance(value, list)},
    )


class GraphView:
    """The nodes of an API graph and what they depend on."""

    def __init__(self, graph: Graph, schemas: Schemas) -> None:
        self.nodes = {key: _node(graph, key, schemas) for key in graph}

    def of(self, *classes: str) -> list[NodeView]:
        """The nodes of these classes, in the order of the graph."""
        return [node for node in self.nodes.values() if node.class_type in classes]

    def source(self, node: NodeView, name: str) -> NodeView | None:
        """The node that a link to this input starts at."""
        match node.inputs.get(name):
            case [key, _]:
                return self.nodes.get(str(key))
        return None

    def is_used(self, node: NodeView, output: int) -> bool:
        """Whether a link starts at this output."""
        links = (link for each in self.nodes.values() for link in each.inputs.values())
        outputs = (link for link in links if isinstance(link, list) and len(link) == 2)
        return any(self.nodes.get(str(key)) is node and slot == output for key, slot in outputs)

    def before(self, node: NodeView | None, *classes: str) -> list[NodeView]:
        """This node and all it depends on, as far as they are of these classes."""
        found: dict[str, NodeView] = {}
        waiting = [node] if node else []
        while waiting:
            each = waiting.pop()
            if each.label not in found:
                found[each.label] = each
                sources = (self.source(each, name) for name in each.inputs)
                waiting += [source for source in sources if source]
        return [each for each in found.values() if each.class_type in classes]
