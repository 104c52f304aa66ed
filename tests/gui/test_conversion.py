"""What we convert equals what the frontend sends: on workflows of others, and after any edit.

The short form takes a sample; with GUI_LONG=1, or `make test-gui`, all of them and many edits.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from playwright.sync_api import Browser

from talkinghead.settings import Settings
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.gui_file import ConvertError, Workflow, is_gui
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.schemas import Schemas
from talkinghead.workflow.template import for_jobs, load_template
from tests.gui.browser import Gui, comparable
from tests.gui.conftest import TEMPLATES, Server, new_page, newest_version
from tests.gui.edits import edited
from tests.gui.server import OWN_VERSION, STATIC, RecordedServer, served

LONG = bool(os.environ.get("GUI_LONG"))
# Where ComfyUI's template packages have their workflows: of 0.3.75, and of newer ones.
PACKAGES = [
    *(f"comfyui_workflow_templates_media_{kind}" for kind in ("api", "image", "other", "video")),
    "comfyui_workflow_templates_json",
]
FIND = """
import importlib.util, json, sys
print(json.dumps([s.origin for n in sys.argv[1:] if (s := importlib.util.find_spec(n))]))"""
# What stands in them and is no workflow for a worker.
REFUSALS = "is made by the browser|unknown node class '(PixelPerf|GetImageSizeAndC|ImageRemoveA)"
MOST_REFUSED = 9
# 1.48.7 gives a primitive's value in a subgraph to another widget; 1.58.1 does not.
MISSENT = "templates_graphic_design_recomposer"
EVERY = 1 if LONG else 16
EDITS, BATCHES = (40, 12) if LONG else (8, 1)


class Bench:
    """The GUI beside our conversion, with all node classes of ComfyUI and of our packs."""

    def __init__(self, gui: Gui, schemas: Schemas, version: str) -> None:
        self.gui, self.schemas, self.version = gui, schemas, version
        self.is_newest = version == newest_version()

    def edited(self, workflow: Workflow, seed: int | Random) -> Workflow:
        """A copy after edits in this frontend."""
        random = seed if isinstance(seed, Random) else Random(seed)
        return edited(self.stamped(workflow), random, self.schemas)

    def stamped(self, workflow: Workflow) -> Workflow:
        """A copy as this frontend exports it: a file is converted as who wrote it runs it."""
        extra = {**(workflow.get("extra") or {}), "frontendVersion": self.version}
        return copy.deepcopy(workflow) | {"extra": extra}

    def refuses(self, workflow: Workflow) -> bool:
        """Whether it is none for a worker."""
        try:
            to_api(self.stamped(workflow), self.schemas)
        except ConvertError as error:
            assert re.search(REFUSALS, str(error)), error
            return True
        return False

    def check(self, workflow: Workflow, what: str) -> None:
        """What the frontend sends is what we convert."""
        theirs = comparable(self.gui.load(workflow).api, self.schemas)
        ours = comparable(to_api(self.stamped(workflow), self.schemas), self.schemas)
        # Newer frontends renumber nodes of which two subgraphs have the same id.
        assert theirs == ours or without_ids(theirs) == without_ids(ours), what


def without_ids(graph: Graph) -> list[str]:
    """The nodes and what feeds them, without their ids."""

    def described(value: object) -> object:
        if isinstance(value, list) and value[0] in graph:
            return [graph[value[0]]["class_type"], value[1]]
        return value

    return sorted(
        json.dumps([e["class_type"], {n: described(v) for n, v in sorted(e["inputs"].items())}])
        for e in graph.values()
    )


@pytest.fixture(scope="module")
def schemas(comfyui: Server) -> dict[str, Any]:
    return served(comfyui.schemas)


@pytest.fixture(scope="module")
def all_nodes(
    schemas: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RecordedServer]:
    with RecordedServer(tmp_path_factory.mktemp("all"), schemas, {}) as server:
        yield server


@pytest.fixture(scope="function" if LONG else "module")  # a tab does not bear hundreds of files
def bench(
    browser: Browser, all_nodes: RecordedServer, schemas: Schemas, frontend: Path
) -> Iterator[Bench]:
    with new_page(browser, frontend) as page:
        version = OWN_VERSION if frontend == STATIC else newest_version()
        yield Bench(Gui(page, all_nodes.url), schemas, version)


@functools.cache
def published() -> dict[str, Workflow]:
    """The workflows of the template packages of the ComfyUI that the tests run, by name."""
    command = [str(Settings().comfyui_python or sys.executable), "-c", FIND, *PACKAGES]
    places = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    found = {}
    for place in places:
        for path in sorted(Path(place).parent.rglob("*.json")):
            content = json.loads(path.read_text("utf-8"))
            if is_gui(content):
                found[path.stem] = content
    assert len(found) > 150, "the template packages come with ComfyUI"
    return found


def with_subgraphs(workflows: dict[str, Workflow]) -> dict[str, Workflow]:
    return {
        name: workflow
        for name, workflow in workflows.items()
        if (workflow.get("definitions") or {}).get("subgraphs")
    }


@pytest.mark.parametrize("part", range(4))
def test_published_workflows_convert_as_in_the_gui(part: int, bench: Bench) -> None:
    workflows = published()
    chosen = dict(list(workflows.items())[::EVERY]) | with_subgraphs(workflows)
    refused = []
    for name, workflow in list(chosen.items())[part::4]:
        if bench.refuses(workflow):
            refused.append(name)
        elif name != MISSENT or bench.is_newest:
            bench.check(workflow, name)
    assert len(refused) <= MOST_REFUSED, refused


@pytest.mark.parametrize("batch", range(BATCHES))
def test_edited_workflows_convert_as_in_the_gui(batch: int, bench: Bench) -> None:
    others = {
        name: workflow
        for name, workflow in published().items()
        if name != MISSENT and not bench.refuses(workflow)
    }
    own = [load_template(name) for name in TEMPLATES]
    published_ones = [*others.values(), *with_subgraphs(others).values()]
    for seed in range(batch * EDITS, (batch + 1) * EDITS):
        random = Random(seed)
        source = random.choice((own, published_ones))
        workflow = bench.edited(random.choice(source), random)
        if not bench.refuses(workflow):
            bench.check(workflow, f"seed {seed}")


NESTED = [
    ["Sampler", "Frames"],
    ["New Subgraph", "Cut to length"],
    ["New Subgraph", "Crop to size"],
]


@pytest.mark.parametrize("backwards", [False, True])
def test_subgraphs_made_in_the_gui_convert_as_in_the_gui(bench: Bench, backwards: bool) -> None:
    # Without a link to split_index: of two widgets that an instance shows, a browser takes values
    # by place where the link of the first is cut in the file, and we by name (docs/gui.md).
    bench.gui.load(for_jobs(load_template("infinitetalk_i2v")))
    for titles in NESTED:
        bench.gui.make_subgraph(titles)
    saved = bench.gui.shown().saved
    sampler = {key for key, entry in to_api(saved, bench.schemas).items() if ":" in key}
    assert len(sampler) == 4
    if backwards:  # 1.32.9 builds them in this order, and so loses values
        saved["definitions"]["subgraphs"].reverse()
    for seed in range(EDITS):
        workflow = bench.edited(saved, seed) if seed else copy.deepcopy(saved)
        bench.check(workflow, f"seed {seed}")
