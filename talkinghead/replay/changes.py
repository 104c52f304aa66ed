"""What a run changes in its file: --set, a row of --rows, a seed. Pure but for reading rows."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from talkinghead.render.workflow_job.graph import title_in
from talkinghead.replay.sources import BadInput
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.nearest import nearest
from talkinghead.workflow.schemas import Schemas, inputs_of, with_chosen_inputs

Changes = Mapping[str, Any]  # title.input, or a request's field -> value; text is not parsed yet

SEEDS = ("seed", "noise_seed")


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """`title.input=value` -> {"title.input": "value"}.

    Raises:
        BadInput: there is no `=` in it.
    """
    changes = {}
    for each in assignments:
        name, sign, value = each.partition("=")
        if not sign or not name:
            raise BadInput(f"--set {each}: title.input=value, or field=value for a request")
        changes[name] = value
    return changes


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file, or of a JSONL file; an empty cell changes nothing.

    Raises:
        BadInput: it cannot be read, has no row, or a row does not fit.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: not readable: {error}") from None
    rows = _csv_rows(path, text) if path.suffix.lower() == ".csv" else _jsonl_rows(path, text)
    if not rows:
        raise BadInput(f"{path}: has no rows")
    return rows


def _csv_rows(path: Path, text: str) -> list[dict[str, Any]]:
    reader = csv.DictReader(text.splitlines(keepends=True))
    rows = []
    for row in reader:
        if None in row:
            raise BadInput(f"{path}, line {reader.line_num}: has more cells than columns")
        rows.append({name: cell for name, cell in row.items() if cell})
    return rows


def _jsonl_rows(path: Path, text: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadInput(f"{path}, line {number}: no JSON: {error}") from None
        if not isinstance(row, dict):
            raise BadInput(f"{path}, line {number}: must be an object: column -> value")
        rows.append(row)
    return rows


def change_request(fields: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """The request with these fields; which there are is checked where it is parsed."""
    changed = {name: _value(value, fields.get(name)) for name, value in changes.items()}
    return {**fields, **changed}


def change_graph(graph: Graph, changes: Changes, schemas: Schemas) -> Graph:
    """A copy of an API graph with these values.

    Raises:
        BadInput: there is no such node or input, or a link feeds it.
    """
    changed = copy.deepcopy(graph)
    targets = [(*_split(changed, name), value) for name, value in changes.items()]
    # A choice before what comes with it, which has its name before a dot.
    for title, input_name, value in sorted(targets, key=lambda each: each[1].count(".")):
        entry = _titled(changed, title)
        inputs = entry["inputs"]
        _check_input(entry, title, input_name, schemas)
        new = _value(value, inputs.get(input_name))
        inputs[input_name] = {"__value__": new} if isinstance(new, list) else new
        if schema := schemas.get(entry["class_type"]):
            entry["inputs"] = with_chosen_inputs(schema, inputs, input_name)
    return changed


def _split(graph: Graph, name: str) -> tuple[str, str]:
    """`title.input`, at the last dot after a title or id of a node: both may have dots in them."""
    known = {*graph, *(title_in(graph, key) for key in graph)}
    title, dot, input_name = name.rpartition(".")
    while dot and title not in known:
        title, dot, end = title.rpartition(".")
        input_name = f"{end}.{input_name}"
    if not dot:
        title, dot, input_name = name.rpartition(".")
    if not dot:
        raise BadInput(f"{name!r} names no input: in a workflow it is title.input")
    return title, input_name


def _value(given: object, current: object) -> object:
    """Text as JSON, if it is that; in the place of a text, a number stays a text."""
    if not isinstance(given, str):
        return given
    try:
        parsed: object = json.loads(given)
    except ValueError:
        return given
    return given if isinstance(current, str) and not isinstance(parsed, str) else parsed


def _titled(graph: Graph, title: str) -> dict[str, Any]:
    """The node of this title, or of this id."""
    found = [key for key in graph if title_in(graph, key) == title]
    if len(found) > 1:
        raise BadInput(f"nodes {', '.join(found)} all have the title {title!r}: name one by its id")
    if not found and title not in graph:
        titles = [title_in(graph, key) for key in graph]
        raise BadInput(f"no node has the title {title!r}{nearest(title, titles)}")
    return graph[found[0] if found else title]


def _check_input(entry: Mapping[str, Any], title: str, name: str, schemas: Schemas) -> None:
    schema = schemas.get(entry["class_type"])
    widgets = [i.name for i in inputs_of(schema, entry["inputs"]) if i.is_widget] if schema else []
    known = dict.fromkeys([*widgets, *entry["inputs"]])
    if name not in known:
        raise BadInput(f"node {title!r} has no input {name!r}{nearest(name, known)}")
    if isinstance(entry["inputs"].get(name), list):
        raise BadInput(f"input {name!r} of node {title!r} is fed by a link: it takes no value")


def set_seeds(graph: Graph, seed: int) -> Graph:
    """A copy of an API graph in which every seed that no link feeds is this one."""
    changed = copy.deepcopy(graph)
    for entry in changed.values():
        entry["inputs"] |= {n: seed for n in SEEDS if isinstance(entry["inputs"].get(n), int)}
    return changed


def seed_of(graph: Graph) -> int | None:
    """The first seed in an API graph."""
    inputs = (entry["inputs"].get(name) for entry in graph.values() for name in SEEDS)
    return next((value for value in inputs if isinstance(value, int)), None)
