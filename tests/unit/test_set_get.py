"""Links by name: KJNodes' Set and Get, which the browser alone knows, as that pack follows them."""

from __future__ import annotations

from typing import Any

import pytest

from talkinghead.workflow.gui_file import ConvertError, Node, Workflow
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.lint import lint_workflow
from talkinghead.workflow.schemas import load_schemas

SCHEMAS = load_schemas()
MUTED, BYPASSED = 2, 4
SUBGRAPH = "0c5b2c11-8f4a-4d7e-9d11-5a3f7f6f0001"
SCALING = ["lanczos", 64, 64, "center"]


def node(number: int, kind: str, *values: object, takes: str = "", gives: str = "") -> Node:
    """A node with one input and one output at most; the links are `link`'s."""
    return {
        "id": number,
        "type": kind,
        "pos": [300 * number, 0],
        "size": [210, 60],
        "flags": {},
        "order": number,
        "mode": 0,
        "properties": {},
        "inputs": [{"name": takes, "type": "IMAGE", "link": None}] if takes else [],
        "outputs": [{"name": gives, "type": "IMAGE", "links": []}] if gives else [],
        "widgets_values": [*values],
    }


def getter(number: int, name: str) -> Node:
    return node(number, "GetNode", name, gives="IMAGE")


def setter(number: int, name: str) -> Node:
    return node(number, "SetNode", name, takes="IMAGE", gives="*")


def picture(number: int, file: str = "portrait.jpg") -> Node:
    return node(number, "LoadImage", file, "image", gives="IMAGE")


def scale(number: int) -> Node:
    return node(number, "ImageScale", *SCALING, takes="image", gives="IMAGE")


def save(number: int) -> Node:
    return node(number, "SaveImage", "x", takes="images")


def linked(nodes: list[Node], *ends: tuple[int, int]) -> Workflow:
    """A file of these nodes, with links from the first of each pair to the second."""
    by_id = {each["id"]: each for each in nodes}
    links = []
    for number, (origin, target) in enumerate(ends, 1):
        links.append([number, origin, 0, target, 0, "IMAGE"])
        by_id[origin]["outputs"][0]["links"].append(number)
        by_id[target]["inputs"][0]["link"] = number
    return {"last_node_id": 99, "last_link_id": 99, "nodes": nodes, "links": links, "version": 0.4}


def pair(name: str = "pic") -> Workflow:
    """A picture that is scaled, and saved, by way of a name."""
    nodes = [picture(1), setter(2, "pic"), getter(3, name), scale(4), save(5)]
    return linked(nodes, (1, 2), (3, 4), (4, 5))


def within(nodes: list[Node], *ends: tuple[int, int], inner: Workflow) -> Workflow:
    """A file with an instance, 20, of a subgraph without inputs and outputs."""
    instance = node(20, SUBGRAPH)
    definition = {
        "id": SUBGRAPH,
        "version": 1,
        "name": "Inner",
        "state": {"lastGroupId": 0, "lastNodeId": 99, "lastLinkId": 99, "lastRerouteId": 0},
        "revision": 0,
        "config": {},
        "inputNode": {"id": -10, "bounding": [0, 0, 100, 40]},
        "outputNode": {"id": -20, "bounding": [900, 0, 100, 40]},
        "inputs": [],
        "outputs": [],
        "widgets": [],
        "groups": [],
        "nodes": inner["nodes"],
        "links": [
            {"id": i, "origin_id": o, "origin_slot": a, "target_id": t, "target_slot": b, "type": k}
            for i, o, a, t, b, k in inner["links"]
        ],
        "extra": {},
    }
    return {**linked([*nodes, instance], *ends), "definitions": {"subgraphs": [definition]}}


def titled(gui: Workflow, number: int) -> Node:
    found: Node = next(each for each in gui["nodes"] if each["id"] == number)
    return found


def image_of(gui: Workflow, key: str = "4") -> Any:  # noqa: ANN401 - JSON
    return to_api(gui, SCHEMAS)[key]["inputs"].get("image")


def test_a_get_takes_what_the_set_of_its_name_has() -> None:
    assert image_of(pair()) == ["1", 0]
    assert lint_workflow(pair(), SCHEMAS) == []
    assert set(to_api(pair(), SCHEMAS)) == {"1", "4", "5"}


def test_a_set_hands_on_what_it_takes() -> None:
    nodes = [picture(1), setter(2, "pic"), scale(4), save(5)]
    assert image_of(linked(nodes, (1, 2), (2, 4), (4, 5))) == ["1", 0]


def test_a_set_that_takes_from_a_get_is_followed() -> None:
    nodes = [picture(1), setter(2, "a"), getter(3, "a"), setter(6, "b"), getter(7, "b")]
    gui = linked([*nodes, scale(4), save(5)], (1, 2), (3, 6), (7, 4), (4, 5))
    assert image_of(gui) == ["1", 0]


def test_the_mode_of_a_set_is_of_no_effect() -> None:
    for mode in (MUTED, BYPASSED):
        gui = pair()
        titled(gui, 2)["mode"] = mode
        assert image_of(gui) == ["1", 0]


def test_a_bypassed_get_gives_nothing() -> None:
    gui = pair()
    titled(gui, 3)["mode"] = BYPASSED
    assert image_of(gui) is None


def test_a_muted_get_gives_nothing_in_newer_frontends() -> None:
    gui = pair()
    titled(gui, 3)["mode"] = MUTED
    assert image_of(gui) == ["1", 0]
    assert image_of({**gui, "extra": {"frontendVersion": "1.48.7"}}) is None


def test_what_a_muted_or_bypassed_node_hands_to_a_set_is_as_by_a_link() -> None:
    nodes = [picture(1), scale(8), setter(2, "pic"), getter(3, "pic"), scale(4), save(5)]
    gui = linked(nodes, (1, 8), (8, 2), (3, 4), (4, 5))
    assert image_of(gui) == ["8", 0]
    titled(gui, 8)["mode"] = BYPASSED
    assert image_of(gui) == ["1", 0]
    titled(gui, 8)["mode"] = MUTED
    assert image_of(gui) is None


def test_of_two_sets_of_one_name_side_by_side_the_first_counts() -> None:
    nodes = [picture(1), setter(2, "pic"), picture(6, "masks.png"), setter(7, "pic")]
    gui = linked([*nodes, getter(3, "pic"), scale(4), save(5)], (1, 2), (6, 7), (3, 4), (4, 5))
    assert image_of(gui) == ["1", 0]


def test_a_get_in_a_subgraph_takes_from_the_set_outside() -> None:
    inner = linked([getter(3, "pic"), scale(4), save(5)], (3, 4), (4, 5))
    gui = within([picture(1), setter(2, "pic")], (1, 2), inner=inner)
    assert image_of(gui, "20:4") == ["1", 0]


def test_the_set_beside_a_get_goes_before_that_outside() -> None:
    own = [picture(6), setter(7, "pic"), getter(3, "pic"), scale(4), save(5)]
    inner = linked(own, (6, 7), (3, 4), (4, 5))
    gui = within([picture(1), setter(2, "pic")], (1, 2), inner=inner)
    assert image_of(gui, "20:4") == ["20:6", 0]


def test_a_set_in_a_subgraph_is_not_seen_from_outside() -> None:
    inner = linked([picture(1), setter(2, "pic"), save(9)], (1, 2))
    gui = within([getter(3, "pic"), scale(4), save(5)], (3, 4), (4, 5), inner=inner)
    with pytest.raises(ConvertError, match=r"node 3 .*no SetNode .*'pic'"):
        to_api(gui, SCHEMAS)


def test_two_sets_of_one_name_outside_are_refused() -> None:
    inner = linked([getter(3, "pic"), scale(4), save(5)], (3, 4), (4, 5))
    nodes = [picture(1), setter(2, "pic"), setter(7, "pic")]
    with pytest.raises(ConvertError, match=r"node 20:3 .*2 SetNodes .*'pic'"):
        to_api(within(nodes, (1, 2), inner=inner), SCHEMAS)


def test_a_name_that_no_set_has_is_told_with_the_nearest() -> None:
    with pytest.raises(ConvertError, match=r"node 3 .*'pik'; did you mean 'pic'"):
        to_api(pair("pik"), SCHEMAS)
    (finding,) = lint_workflow(pair("pik"), SCHEMAS)
    assert finding.severity == "error" and "no SetNode" in finding.message


def test_a_get_that_nothing_takes_from_may_have_any_name() -> None:
    gui = pair()
    gui["nodes"].append(getter(9, "of something deleted"))
    assert image_of(gui) == ["1", 0]


def test_a_get_or_a_set_without_a_name_or_a_link_gives_nothing() -> None:
    assert image_of(pair("")) is None
    nodes = [setter(2, "pic"), getter(3, "pic"), scale(4), save(5)]
    assert image_of(linked(nodes, (3, 4), (4, 5))) is None


def test_sets_and_gets_in_a_circle_are_refused() -> None:
    nodes = [setter(2, "a"), getter(3, "a"), setter(6, "b"), getter(7, "b"), scale(4), save(5)]
    with pytest.raises(ConvertError, match="circle"):
        to_api(linked(nodes, (3, 6), (7, 2), (7, 4), (4, 5)), SCHEMAS)
