"""Every template in the real frontend: it opens, converts, is edited, saved and run."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from comfy_client import ComfyClient
from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.models.manifest import load_manifest
from talkinghead.models.speedups import Speedups
from talkinghead.plan.plan import Plan, make_plan
from talkinghead.plan.request import parse_request
from talkinghead.workflow.gui_file import NAMED, VIRTUAL, Node, Workflow, title_of, widgets_of
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.schemas import Schemas, inputs_of
from talkinghead.workflow.slots import Inputs, slots_of
from talkinghead.workflow.template import fill, for_jobs, load_template
from tests.gui.browser import Gui, comparable, titles
from tests.gui.conftest import COPY, TEMPLATES, Server
from tests.timing import LAST_RESORT_SECONDS
from tests.unit.gui_layout import canonical

NEGATIVE = "blurred, still, a closed mouth"
VALUES = {"widgets_values", NAMED}


def titled(workflow: Workflow, title: str) -> Node:
    return next(node for node in workflow["nodes"] if node.get("title") == title)


def test_every_template_opens_tidily_and_sends_what_we_convert(gui: Gui, server: Server) -> None:
    for name in TEMPLATES:
        opens_tidily(load_template(name), gui, server)


def test_the_nodes_that_settings_add_and_take_out_are_the_guis_as_well(
    gui: Gui, server: Server
) -> None:
    profile = load_manifest().profile("fp8-distill")
    for cache in ("teacache", "magcache", "easycache"):
        speedups = Speedups(torch_compile=True, step_cache=cache, light_vae=True)
        added = speedups.apply(profile).optional
        slots = {"Speed LoRA": None, "Apply LoRA": None, **added}
        opens_tidily(fill(load_template("infinitetalk_window"), slots, server.schemas), gui, server)


def opens_tidily(workflow: Workflow, gui: Gui, server: Server) -> None:
    """Without a complaint, a red node or overlaps; and the GUI sends what we make of it."""
    shown = gui.load(workflow)
    gui.fit()
    assert gui.complaints() == []
    boxes = gui.boxes()
    red = {box.title for box in boxes if box.broken}
    assert red <= without_their_files(workflow, server.schemas)
    assert [(a.title, b.title) for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)] == []
    ours = to_api(workflow, server.schemas)
    assert comparable(shown.api, server.schemas) == comparable(ours, server.schemas)
    assert titles(shown.api) == titles(ours)
    assert to_api(shown.saved, server.schemas) == ours
    assert to_api(shown.exported, server.schemas) == ours


def without_their_files(workflow: Workflow, schemas: Schemas) -> set[str]:
    """Titles of the nodes whose files the server lacks: newer frontends show them red."""
    return {
        title_of(node, schemas)
        for node in workflow["nodes"]
        if node["type"] not in VIRTUAL
        for name, value in widgets_of(node, schemas).items()
        for each in inputs_of(schemas[node["type"]], {})
        if each.name == name and each.type == "COMBO" and value not in each.choices
    }


def edit_and_save(gui: Gui, server: Server, name: str) -> tuple[Workflow, Workflow]:
    """Open from the list, type a text and a number, Ctrl+S; the file before and after."""
    gui.open_from_list(name)
    before = gui.shown().saved
    old = widgets_of(titled(before, "Negative prompt"), server.schemas)["text"]
    gui.fit("Negative prompt")
    gui.type_text(old, NEGATIVE)
    gui.type_number("Sampler", "shift", 7.5)
    gui.save()
    return before, json.loads((server.workflows / f"{name}.json").read_text("utf-8"))


@pytest.mark.parametrize("name", [name for name in TEMPLATES if not name.startswith("draft_")])
def test_an_edit_saved_in_the_gui_is_all_that_changes_in_the_file(
    gui: Gui, server: Server, name: str
) -> None:
    before, saved = edit_and_save(gui, server, name)
    shown = comparable(gui.shown().api, server.schemas)
    assert shown == comparable(to_api(saved, server.schemas), server.schemas)
    for title, widget, value in (("Negative prompt", "text", NEGATIVE), ("Sampler", "shift", 7.5)):
        assert widgets_of(titled(saved, title), server.schemas)[widget] == value
        node = titled(saved, title)
        values = {key: value for key, value in titled(before, title).items() if key in VALUES}
        assert node.keys() & VALUES == values.keys()
        node.update(values)
    assert canonical(saved) == canonical(before)
    assert gui.complaints() == []


@pytest.mark.parametrize("server", ["comfyui"], indirect=True, scope="package")
def test_the_worker_runs_a_file_that_was_saved_in_the_gui(
    gui: Gui, server: Server, portrait: Path, voice: Path
) -> None:
    _, saved = edit_and_save(gui, server, COPY.removesuffix(".json"))
    client = ComfyClient(server.url)
    plan = a_plan()
    inputs = Inputs(
        picture=client.upload(portrait, subfolder="job"),
        speech=(client.upload(voice, subfolder="job"),),
        sound=client.upload(voice, subfolder="job"),
        masks=None,
        output_prefix="job/video",
    )
    filled = fill(for_jobs(saved), server.profile.filling(plan), server.schemas)
    graph = to_api(fill(filled, slots_of(plan, inputs), server.schemas), server.schemas)
    sent = {entry["_meta"]["title"]: entry["inputs"] for entry in graph.values()}
    assert sent["Negative prompt"]["text"] == NEGATIVE
    outcome = client.run(graph, deadline_seconds=LAST_RESORT_SECONDS)
    assert [file.filename for file in outcome.files] != []


def a_plan() -> Plan:
    """A second at the smallest size that the VAE takes."""
    fields = {"image_url": "http://x/i.jpg", "wav_url": "http://x/a.wav", "seed": 7}
    small = parse_request(fields).model_copy(update={"width": 60, "height": 62})
    return make_plan(small, [Sound(1.0, 22_050, 1, False)], Picture(512, 512))
