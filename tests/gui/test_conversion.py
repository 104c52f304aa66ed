"""What we convert equals what the frontend sends: on workflows of others, and after any edit.

The short form takes a sample; with GUI_LONG=1, or `make test-gui`, all of them and many edits.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from playwright.sync_api import Browser

from talkinghead.workflow.graph import Graph
from talkinghead.workflow.gui_file import ConvertError, Workflow, is_gui
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.schemas import Schemas
from talkinghead.workflow.template import load_template
from tests.gui.browser import Gui, comparable
from tests.gui.conftest import TEMPLATES, Server, new_page
from tests.gui.edits import edited
from tests.gui.server import RecordedServer, served

LONG = bool(os.environ.get("GUI_LONG"))
PACKAGES = [
    f"comfyui_workflow_templates_media_{kind}" for kind in ("api", "image", "other", "video")
]
# What stands in ComfyUI's own template packages and is no workflow for a worker.
REFUSED = {
    "api_stability_ai_audio_to_audio": "RecordAudio.*'audio' is made by the browser",
    "video_wan2_2_14B_animate": "unknown node class 'PixelPerfectResolution'",
}
EVERY = 1 if LONG else 16
EDITS, BATCHES = (40, 12) if LONG else (8, 1)


class Bench:
    """The GUI beside our conversion, with all node classes of ComfyUI and of our packs."""

    def __init__(self, gui: Gui, schemas: Schemas) -> None:
        self.gui, self.schemas = gui, schemas

    def both(self, workflow: Workflow) -> tuple[Graph, Graph]:
        """What the frontend sends and what we convert."""
        theirs = self.gui.load(workflow).api
        ours = to_api(workflow, self.schemas)
        return comparable(theirs, self.schemas), comparable(ours, self.schemas)


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
        yield Bench(Gui(page, all_nodes.url), schemas)


def published() -> dict[str, Workflow]:
    """The workflows of ComfyUI's template packages, by name."""
    found = {}
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec and spec.origin, f"{package} is not installed: it comes with ComfyUI"
        for path in sorted(Path(spec.origin).parent.rglob("*.json")):
            content = json.loads(path.read_text("utf-8"))
            if is_gui(content):
                found[path.stem] = content
    assert len(found) > 150
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
    for name, workflow in list(chosen.items())[part::4]:
        if name in REFUSED:
            with pytest.raises(ConvertError, match=REFUSED[name]):
                to_api(workflow, bench.schemas)
        else:
            theirs, ours = bench.both(workflow)
            assert theirs == ours, name


@pytest.mark.parametrize("batch", range(BATCHES))
def test_edited_workflows_convert_as_in_the_gui(batch: int, bench: Bench) -> None:
    others = {name: each for name, each in published().items() if name not in REFUSED}
    own = [load_template(name) for name in TEMPLATES]
    published_ones = [*others.values(), *with_subgraphs(others).values()]
    for seed in range(batch * EDITS, (batch + 1) * EDITS):
        random = Random(seed)
        source = random.choice((own, published_ones))
        theirs, ours = bench.both(edited(random.choice(source), random, bench.schemas))
        assert theirs == ours, f"seed {seed}"


NESTED = [
    ["Sampler", "Frames"],
    ["New Subgraph", "Cut to length"],
    ["New Subgraph", "Crop to size"],
]


@pytest.mark.parametrize("backwards", [False, True])
def test_subgraphs_made_in_the_gui_convert_as_in_the_gui(bench: Bench, backwards: bool) -> None:
    bench.gui.load(load_template("infinitetalk_i2v"))
    for titles in NESTED:
        bench.gui.make_subgraph(titles)
    saved = bench.gui.shown().saved
    sampler = {key for key, entry in to_api(saved, bench.schemas).items() if ":" in key}
    assert len(sampler) == 4
    if backwards:  # the frontend builds them in this order, and so loses values
        saved["definitions"]["subgraphs"].reverse()
    for seed in range(EDITS):
        workflow = edited(saved, Random(seed), bench.schemas) if seed else copy.deepcopy(saved)
        theirs, ours = bench.both(workflow)
        assert theirs == ours, f"seed {seed}"
