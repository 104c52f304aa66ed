"""An API graph as ComfyUI takes it: which nodes it runs, and with which values. Pure.

People's graphs have more than that: inputs that old frontends wrote for their buttons, numbers as
text, nodes that lead nowhere. ComfyUI minds none of these, so neither do we; we say what it does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from talkinghead.workflow.check import Misfit
from talkinghead.workflow.graph import Graph, label_in, sources
from talkinghead.workflow.nearest import NEAREST, nearest
from talkinghead.workflow.schemas import BROWSER_INPUTS, InputSpec, Schemas, inputs_of
from talkinghead.workflow.values import converted, meaning_lost

# Takes whatever it is given, which no schema says: the options of a list that a person wrote.
TAKES_ANY = frozenset({"CustomCombo"})


def with_converted_values(graph: Graph, schemas: Schemas) -> Graph:
    """The graph with the values that its nodes get. What ComfyUI refuses stays as it is."""
    return {key: {**e, "inputs": _converted(e, schemas)} for key, e in graph.items()}


def _converted(entry: Mapping[str, Any], schemas: Schemas) -> dict[str, Any]:
    inputs = dict(entry["inputs"])
    for target, value in _given(entry, schemas):
        with contextlib.suppress(ValueError):
            inputs[target.name] = converted(target, value)
    return inputs


def _given(entry: Mapping[str, Any], schemas: Schemas) -> Iterator[tuple[InputSpec, object]]:
    """The inputs of a node that the class names and no link feeds, with their values."""
    schema, inputs = schemas.get(entry["class_type"]), entry["inputs"]
    for target in inputs_of(schema, inputs) if schema else ():
        if target.name in inputs and not isinstance(inputs[target.name], list):
            yield target, inputs[target.name]


def that_runs(graph: Graph, schemas: Schemas) -> Graph:
    """The nodes that ComfyUI runs: those that give an output, and all that these depend on.

    Without any that gives one it is the whole graph. Nodes of unknown classes are kept: ComfyUI
    refuses a graph for these wherever they are.
    """
    ends = {key for key, entry in graph.items() if _is_end(entry["class_type"], schemas)}
    waiting, found = list(ends), set[str]()
    while waiting:
        key = waiting.pop()
        if key in graph and key not in found:
            found.add(key)
            waiting += sources(graph[key])
    return {key: entry for key, entry in graph.items() if key in found or not ends}


def _is_end(class_type: str, schemas: Schemas) -> bool:
    return class_type not in schemas or bool(schemas[class_type].get("output_node"))


def without_unnamed(graph: Graph, schemas: Schemas) -> Graph:
    """The graph without the values that no input of its class takes; links are left.

    Some classes would take them all the same, whatever they are: VHS_VideoCombine hands them on.
    """
    return {
        key: {
            **entry,
            "inputs": {
                name: value
                for name, value in entry["inputs"].items()
                if name not in _unnamed(entry, schemas)
            },
        }
        for key, entry in graph.items()
    }


def _unnamed(entry: Mapping[str, Any], schemas: Schemas) -> list[str]:
    schema, inputs = schemas.get(entry["class_type"]), entry["inputs"]
    if schema is None or entry["class_type"] in TAKES_ANY:
        return []
    known = {each.name for each in inputs_of(schema, inputs)}
    return [n for n, value in inputs.items() if n not in known and not isinstance(value, list)]


def remarks(graph: Graph, schemas: Schemas) -> Iterator[Misfit]:
    """What in this graph ComfyUI leaves out, and what it makes something else of."""
    runs = that_runs(graph, schemas)
    used = {source for entry in graph.values() for source in sources(entry)}
    for key, entry in graph.items():
        if key in runs:
            yield from _remarks_on(entry, label_in(graph, key), schemas)
        elif key not in used:  # of nodes that lead here the same is true
            yield Misfit(label_in(graph, key), "-", "leads to no output: ComfyUI does not run it")


def _remarks_on(entry: Mapping[str, Any], label: str, schemas: Schemas) -> Iterator[Misfit]:
    kind = entry["class_type"]
    for name in _unnamed(entry, schemas):
        if name not in BROWSER_INPUTS:
            known = [each.name for each in inputs_of(schemas[kind], entry["inputs"])]
            hint = nearest(name, known, NEAREST)
            yield Misfit(label, name, f"is not an input of {kind}, and left out{hint}")
    for target, value in _given(entry, schemas):
        with contextlib.suppress(ValueError):  # the check tells it
            if lost := meaning_lost(target, value):
                yield Misfit(label, target.name, lost)
