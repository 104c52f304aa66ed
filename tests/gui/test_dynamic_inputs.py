"""Inputs that depend on a node's values, in the newest frontend: chosen, saved, converted, set."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from talkinghead.workflow.gui_file import Workflow, set_widget
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.lint import lint_workflow
from talkinghead.workflow.schemas import Schemas, load_schemas
from talkinghead.workflow.template import load_template
from tests.dynamic_inputs import load_dynamic_schemas, load_dynamic_workflow
from tests.gui.browser import Gui, Shown, comparable
from tests.gui.conftest import NEWEST, gui_of
from tests.gui.test_round_trip import titled

SCHEMAS: Schemas = {**load_schemas(), **load_dynamic_schemas()}


@pytest.fixture(scope="module")
def newer(
    browser: Browser, frontend: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gui]:
    """A GUI of a newer ComfyUI's node classes."""
    with gui_of(SCHEMAS, browser, frontend, tmp_path_factory.mktemp("dynamic")) as gui:
        yield gui


pytestmark = pytest.mark.parametrize("frontend", [NEWEST], indirect=True, scope="package")


def check(shown: Shown, workflow: Workflow) -> None:
    """The GUI sends what we convert, from what it opened and from what it would save."""
    sent = comparable(shown.api, SCHEMAS)
    assert comparable(to_api(workflow, SCHEMAS), SCHEMAS) == sent
    assert comparable(to_api(shown.saved, SCHEMAS), SCHEMAS) == sent
    assert comparable(to_api(shown.exported, SCHEMAS), SCHEMAS) == sent


def test_a_saved_file_is_sent_as_we_convert_it_whatever_is_chosen(newer: Gui) -> None:
    workflow = load_dynamic_workflow()
    check(newer.load(workflow), workflow)
    for title, widget, value in (
        ("Resize", "resize_type", "scale dimensions"),
        ("Resize", "resize_type.width", 96),
        ("Resize", "resize_type.crop", "disabled"),
        ("Video", "codec.encoding", "auto"),
        ("Video", "codec", "auto"),
        ("Video", "codec", "h264"),
    ):
        newer.choose(title, widget, value)
        shown = newer.shown()
        check(shown, shown.saved)
        assert lint_workflow(shown.saved, SCHEMAS) == []
        set_widget(titled(workflow, title), widget, value, SCHEMAS)
    last = copy.deepcopy(titled(newer.shown().saved, "Resize"))
    for key in ("widgets_values", "widgets_values_named"):
        assert titled(workflow, "Resize")[key] == last[key]
    check(newer.load(workflow), workflow)
    assert newer.complaints() == []


@pytest.mark.parametrize("name", ["draft_i2v", "draft_v2v"])
def test_a_template_from_before_is_sent_as_we_convert_it(newer: Gui, name: str) -> None:
    check(newer.load(load_template(name)), load_template(name))
    assert newer.complaints() == []


def test_widgets_of_a_subgraph_are_sent_as_we_convert_them(newer: Gui) -> None:
    newer.load(load_dynamic_workflow())
    newer.make_subgraph(["Resize", "Frames"])
    newer.promote("New Subgraph", "Resize", "resize_type.multiplier")
    shown = newer.shown()
    check(shown, shown.saved)
    newer.choose("New Subgraph", "resize_type.multiplier", 2.5)
    shown = newer.shown()
    check(shown, shown.saved)
    sent = [entry["inputs"] for entry in shown.api.values()]
    assert [e["resize_type.multiplier"] for e in sent if "resize_type" in e] == [2.5]
