"""Widgets of inner nodes that an instance of a subgraph shows; tests/gui has the same cases."""

import copy
import json
from typing import Any

import pytest

from talkinghead.workflow.gui_file import ConvertError, Workflow
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.schemas import Value
from tests.promoted_widgets import (
    CASES,
    INNER,
    LINK,
    NEWER,
    OLDER,
    RESIZES,
    SCHEMAS,
    VALUE,
    Case,
    instance,
    made,
    node,
    resize_sent,
    workflow,
)


def sent(gui: Workflow) -> list[Any]:
    return Case.sent(to_api(gui, SCHEMAS))


@pytest.mark.parametrize("name", CASES)
def test_shown_widgets_are_converted_as_the_frontend_sends_them(name: str) -> None:
    case = CASES[name]
    for version in (OLDER, "1.45.21"):
        ends_at_muted = name == "muted" and version != OLDER
        assert sent(case.workflow(version)) == (case.newer if ends_at_muted else case.older)
    for version in ("1.46.15", NEWER):
        gui = case.workflow(version)
        before = copy.deepcopy(gui)
        assert sent(gui) == case.newer
        assert gui == before


@pytest.mark.parametrize("name", RESIZES)
def test_shown_dynamic_combos_are_converted_as_the_frontend_sends_them(name: str) -> None:
    gui, expected = RESIZES[name]
    inputs = resize_sent(to_api(gui, SCHEMAS))
    if expected["resize_type"] != "scale by multiplier":  # what no node takes, as the GUI sends it
        inputs.pop("resize_type.multiplier", None)
    assert inputs == expected


def test_the_list_may_be_text_and_have_the_deepest_node() -> None:
    case = Case([], [], [], [], mode=4, middle=([VALUE], [80]))
    gui = case.workflow(NEWER)
    gui["nodes"][0] |= {"widgets_values": [90]}
    for listed in ([["5", "value", "1"]], json.dumps([["5", "value"]])):
        gui["nodes"][0]["properties"] = {"proxyWidgets": listed}
        assert sent(gui) == [None, 90]
    gui["nodes"][0]["properties"] = {"proxyWidgets": [["5", "value", "77"]]}
    assert sent(gui) == [None, 80]


def test_each_instance_has_its_own_value_and_one_without_has_the_inner() -> None:
    (inner,) = CASES["bypassed"].workflow(NEWER)["definitions"]["subgraphs"]
    instances = [
        instance(10, INNER, [["3", "height"], VALUE], [100, 80], 10),
        instance(20, INNER, [VALUE, ["3", "height"]], [90], 20),
        instance(30, INNER, [], [], 30),
    ]
    api = to_api(workflow(NEWER, instances, [inner]), SCHEMAS)
    sizes = [[api[f"{n}:3"]["inputs"][side] for side in ("width", "height")] for n in (10, 20, 30)]
    assert sizes == [[80, 100], [90, 256], [64, 256]]


def test_a_null_is_no_value() -> None:
    """1.58.1 would send it, to be refused; older frontends write it for what is not their own."""
    assert sent(Case([VALUE], [None], [], [], mode=4).workflow(NEWER)) == [None, 64]


def test_what_was_saved_is_not_undone_by_what_the_frontend_kept_of_before() -> None:
    """1.58.1 sends the value from before an edit, once the file is opened again."""
    gui = CASES["bypassed"].workflow(NEWER)
    (inner,) = gui["definitions"]["subgraphs"]
    inner["inputs"] = [{"name": "width", "type": "INT", "linkIds": [7]}]
    inner["links"][1] |= {"id": 7, "origin_id": -10}
    inner["nodes"][1]["inputs"][0]["link"] = 7
    kept = {"originalEntry": ["-1", "width"], "reason": "missingSourceNode", "hostValue": 80}
    gui["nodes"][0] |= {"widgets_values": [100]}
    gui["nodes"][0]["properties"] = {"proxyWidgetErrorQuarantine": [kept]}
    assert sent(gui) == [None, 100]


@pytest.mark.parametrize(
    ("kind", "mode", "older", "newer"),
    [
        ("PrimitiveInt", 0, LINK, LINK),
        ("PrimitiveInt", 2, None, 512),
        ("PrimitiveInt", 4, 100, 512),
        ("PrimitiveNode", 0, 300, 300),  # 1.58.1 sends 512, which nobody can want; 1.46.15 this
    ],
)
def test_what_an_instance_holds_is_not_sent_where_its_input_is_linked(
    kind: str, mode: int, older: Value, newer: Value
) -> None:
    for version, expected in ((OLDER, older), (NEWER, newer)):
        gui = CASES["bypassed"].workflow(version)
        (inner,) = gui["definitions"]["subgraphs"]
        inner["inputs"] = [{"name": "width", "type": "INT", "linkIds": [7]}]
        inner["links"][1] |= {"id": 7, "origin_id": -10}
        inner["nodes"][1]["inputs"][0]["link"] = 7
        shown = {"proxyWidgets": [["-1", "width"]]} if version == OLDER else {}
        gui["nodes"][0] |= node(10, INNER, ["width=8"], widgets_values=[100], properties=shown)
        feeder = node(40, kind, ["value"], mode=mode, widgets_values=[300, "fixed"])
        gui["nodes"].append(feeder | {"outputs": made("INT", 8)})
        gui["links"].append([8, 40, 0, 10, 0, "INT"])
        width = to_api(gui, SCHEMAS)["10:3"]["inputs"].get("width")
        assert width == (["40", 0] if expected == LINK else expected)


@pytest.mark.parametrize("listed", [[1], [["1"]], "no JSON", [["1", "a", "b", "c"]]])
def test_a_list_that_is_none_is_told(listed: object) -> None:
    gui = CASES["active"].workflow(NEWER)
    gui["nodes"][0]["properties"]["proxyWidgets"] = listed
    with pytest.raises(ConvertError, match=r"node 10 .*proxyWidgets is no list"):
        to_api(gui, SCHEMAS)


def test_subgraphs_that_are_nested_too_deep_are_refused() -> None:
    gui = CASES["active"].workflow(NEWER)
    for number in range(60):
        below = gui["definitions"]["subgraphs"][-1]["id"]
        level = {"id": f"level {number}", "nodes": [{"id": 1, "type": below}], "links": []}
        gui["definitions"]["subgraphs"].append(level)
    gui["nodes"][0]["type"] = "level 59"
    with pytest.raises(ConvertError, match="nested more than 50 deep"):
        to_api(gui, SCHEMAS)
