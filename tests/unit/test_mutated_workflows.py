"""Workflows that somebody's program has mangled give findings, never a traceback.

`make test` runs a short form; WORKFLOW_MUTANTS=8000 (`make mutants`) the long one.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
from collections.abc import Iterator
from typing import Any

import pytest

from talkinghead.errors import JobError
from talkinghead.media.sandbox import Sandboxes
from talkinghead.render.workflow_job.graph import read_graph, title_in
from talkinghead.render.workflow_job.paths import path_problems, set_paths, texts_in
from talkinghead.replay.changes import change_graph, seed_of, set_seeds
from talkinghead.replay.runs import local_files
from talkinghead.replay.sources import BadInput
from talkinghead.settings import PROJECT_DIR
from talkinghead.workflow.check import check
from talkinghead.workflow.forms import workflow_in
from talkinghead.workflow.graph import loaders_only
from talkinghead.workflow.gui_file import ConvertError, is_gui, set_widget, widgets_of
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.lint import lint_workflow, traps
from talkinghead.workflow.mask_files import mask_problems
from talkinghead.workflow.schemas import Schemas, load_known_schemas
from talkinghead.workflow.taken import with_converted_values
from tests.dynamic_inputs import load_dynamic_schemas, load_dynamic_workflow

MUTANTS = int(os.environ.get("WORKFLOW_MUTANTS", "400"))
SANDBOXES = Sandboxes()
FOLDER = PROJECT_DIR / "examples"
LOTS = 8  # each with a seed of its own, so that a failure is soon had again
ODD: list[Any] = [
    *(None, True, False, -1, 0, 1.5, 10**20, 10**400, float("nan"), float("inf")),
    *(
        "",
        "x",
        "x" * 300,
        "1",
        "\ud800",
        [],
        {},
        [1],
        {"a": 1},
        [[]],
        [None],
        ["1", 0],
        ["1", "0"],
        [1, 0],
    ),
    *({"__value__": [1]}, {"__value__": {}}, {"title": 5}, [{}], [{"name": "x", "link": 1}]),
]


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return {**load_known_schemas(), **load_dynamic_schemas()}


@pytest.fixture(scope="module")
def originals(schemas: Schemas) -> list[dict[str, Any]]:
    """A template and small files, in both formats: where little is there, more of it is hit."""
    template = json.loads((PROJECT_DIR / "workflows" / "infinitetalk_window.json").read_text())
    draft = json.loads((PROJECT_DIR / "workflows" / "draft_i2v.json").read_text())
    empty = {"nodes": [], "links": [], "groups": [], "extra": {"frontendVersion": "1.58.1"}}
    small = [load_dynamic_workflow(), with_subgraph(draft), with_subgraph(empty)]
    files = [template, draft, *small, *small]
    return [*files, *(to_api(each, schemas) for each in files)]


def with_subgraph(file: dict[str, Any]) -> dict[str, Any]:
    """The file with a subgraph that shows a widget of a primitive and a picture."""
    inner = {
        "id": "sub",
        "nodes": [
            {
                "id": 1,
                "type": "PrimitiveInt",
                "inputs": [
                    {"name": "value", "type": "INT", "link": 1, "widget": {"name": "value"}}
                ],
                "outputs": [{"name": "INT", "type": "INT", "links": [2]}],
                "widgets_values": [3, "fixed"],
            }
        ],
        "links": [
            {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 1, "target_slot": 0}
            | {"type": "INT"},
            {"id": 2, "origin_id": 1, "origin_slot": 0, "target_id": -20, "target_slot": 0}
            | {"type": "INT"},
        ],
        "inputs": [{"name": "value", "type": "INT", "linkIds": [1]}],
        "outputs": [{"name": "INT", "type": "INT", "linkIds": [2]}],
    }
    nodes = [
        {
            "id": 900,
            "type": "sub",
            "inputs": [{"name": "value", "type": "INT", "link": None}],
            "outputs": [{"name": "INT", "type": "INT", "links": [990]}],
            "properties": {"proxyWidgets": [["-1", "value"]]},
            "widgets_values": [4],
        },
        {
            "id": 901,
            "type": "PreviewAny",
            "inputs": [{"name": "source", "type": "*", "link": 990}],
        },
    ]
    return {
        **copied(file),
        "nodes": [*copied(file["nodes"]), *nodes],
        "links": [*file["links"], [990, 900, 0, 901, 0, "INT"]],
        "definitions": {"subgraphs": [inner]},
    }


def copied(content: Any) -> Any:  # noqa: ANN401 - JSON
    """A deep copy; pickle makes one faster than copy does."""
    return pickle.loads(pickle.dumps(content))


def places_in(content: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - JSON
    """All lists and objects with each of their keys."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in list(items):
        yield content, key
        if isinstance(value, dict | list):
            yield from places_in(value)


def mutant(original: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A copy in which one to three things are gone, odd, or somewhere else's."""
    mangled: dict[str, Any] = copied(original)
    places = list(places_in(mangled))
    for _ in range(rng.choice((1, 1, 2, 3))):
        owner, key = rng.choice(places)
        other, other_key = rng.choice(places)
        try:
            match rng.randrange(4):
                case 0:
                    del owner[key]
                case 1:
                    owner[key] = copied(other[other_key])
                case _:
                    owner[key] = copied(rng.choice(ODD))
        except (IndexError, KeyError):
            pass  # taken out before
    return mangled


def as_a_job(content: dict[str, Any], schemas: Schemas) -> None:
    """What a workflow job does with it before anything is queued."""
    graph, _ = read_graph(content, schemas)
    if check(graph, schemas):
        return
    traps(graph)
    list(path_problems(graph, schemas, {}))
    list(texts_in([entry["inputs"] for entry in graph.values()]))
    loaders_only(set_paths(graph, {"me.png": "job/me.png"}, "job"), schemas)


def as_replay(content: dict[str, Any], schemas: Schemas) -> None:
    """What replay does with it before anything is sent."""
    graph = to_api(content, schemas) if is_gui(content) else content
    graph = set_seeds(with_converted_values(graph, schemas), 7)
    seed_of(graph)
    with SANDBOXES.open() as sandbox:
        list(mask_problems(graph, dict(local_files(graph, FOLDER)), sandbox, max_megapixels=50))
    for key, entry in graph.items():
        for name in entry["inputs"]:
            change_graph(graph, {f"{title_in(graph, key)}.{name}": "12"}, schemas)


def as_an_edit(content: dict[str, Any], schemas: Schemas) -> None:
    """What filling a template does with it."""
    if is_gui(content):
        to_api(content, schemas)  # what comes after takes for granted that it can be converted
        for node in content["nodes"]:
            if node["type"] in schemas:
                for name in widgets_of(node, schemas):
                    with contextlib.suppress(ConvertError):
                        set_widget(node, name, 5, schemas)


@pytest.mark.parametrize("lot", range(LOTS))
def test_a_mangled_workflow_gives_findings_and_no_traceback(
    lot: int, originals: list[dict[str, Any]], schemas: Schemas
) -> None:
    rng = random.Random(lot)
    for _ in range(MUTANTS // LOTS):
        content = mutant(rng.choice(originals), rng)
        assert all(str(each).encode() for each in lint_workflow(content, schemas))
        if (workflow := workflow_in(content)) is None:
            continue
        for use in (as_a_job, as_replay, as_an_edit):
            with contextlib.suppress(ConvertError, JobError, BadInput):
                use(copied(workflow), schemas)
