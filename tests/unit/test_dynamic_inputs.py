"""Inputs that depend on a node's values: dynamic combos, autogrows, match types."""

import copy
import json
from typing import Any

import pytest

from talkinghead.render.workflow_job.paths import path_problems
from talkinghead.replay.changes import change_graph
from talkinghead.replay.sources import BadInput
from talkinghead.workflow.check import check
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.gui_file import (
    NAMED,
    ConvertError,
    Node,
    Workflow,
    set_widget,
    widgets_of,
    written_by,
)
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.lint import lint_workflow
from talkinghead.workflow.schemas import AUTOGROW, DYNAMIC_COMBO, Schemas, load_schemas
from talkinghead.workflow.template import fill, load_template
from tests.dynamic_inputs import load_dynamic_schemas, load_dynamic_workflow

SCHEMAS = load_dynamic_schemas()
INPUTS: dict[str, dict[str, Any]] = {
    "Both": {"images.image0": ["1", 0], "images.image1": ["2", 0]},
    "Resize": {
        "input": ["3", 0],
        "resize_type": "scale by multiplier",
        "resize_type.multiplier": 1.5,
        "scale_method": "area",
    },
    "Video": {
        "video": ["5", 0],
        "filename_prefix": "dynamic/video",
        "format": "mp4",
        "codec": "h264",
        "codec.encoding": "re-encode",
        "codec.encoding.crf": 30,
    },
}


@pytest.fixture
def gui() -> Workflow:
    return load_dynamic_workflow()


def by_list_alone(gui: Workflow) -> Workflow:
    for node in gui["nodes"]:
        node.pop(NAMED, None)
    return gui


def titled(gui: Workflow, title: str) -> Node:
    return next(node for node in gui["nodes"] if node.get("title") == title)


def inputs(graph: Graph, title: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        e["inputs"] for e in graph.values() if e["_meta"]["title"] == title
    )
    return found


@pytest.mark.parametrize("named", [True, False])
def test_a_file_with_dynamic_inputs_becomes_what_the_browser_sends(
    gui: Workflow, named: bool
) -> None:
    graph = to_api(gui if named else by_list_alone(gui), SCHEMAS)
    assert {title: inputs(graph, title) for title in INPUTS} == INPUTS
    assert check(graph, SCHEMAS) == []
    assert lint_workflow(gui, SCHEMAS) == []


def test_widgets_after_a_dynamic_combo_do_not_shift() -> None:
    node = {"id": 1, "type": "WanInfiniteTalkToVideo", "inputs": [], "outputs": []}
    node["widgets_values"] = ["two_speakers", 832, 480, 81, 9, 0.5]
    gui: Workflow = {"nodes": [node], "links": []}
    assert inputs(to_api(gui, SCHEMAS), "WanInfiniteTalkToVideo") == {
        **{"mode": "two_speakers", "width": 832, "height": 480, "length": 81},
        **{"motion_frame_count": 9, "audio_scale": 0.5},
    }


def test_a_link_to_an_input_of_the_choice_is_kept_and_to_one_of_another_is_dropped() -> None:
    sockets = [{"name": "mode.mask_1", "type": "MASK", "link": 1}]
    node = {"id": 2, "type": "WanInfiniteTalkToVideo", "inputs": sockets, "outputs": []}
    mask = {"id": 1, "type": "ToMask", "inputs": [], "outputs": [{"name": "m", "links": [1]}]}
    gui: Workflow = {"nodes": [mask, node], "links": [[1, 1, 0, 2, 0, "MASK"]]}
    schemas: Schemas = {**SCHEMAS, "ToMask": {"input": {}, "output": ["MASK"]}}
    node["widgets_values"] = ["two_speakers"]
    assert to_api(gui, schemas)["2"]["inputs"]["mode.mask_1"] == ["1", 0]
    node["widgets_values"] = ["single_speaker"]
    assert "mode.mask_1" not in to_api(gui, schemas)["2"]["inputs"]


def test_values_by_name_are_right_where_the_class_has_got_other_widgets(gui: Workflow) -> None:
    older: dict[str, Any] = copy.deepcopy(dict(SCHEMAS))
    del older["SaveVideo"]["input"]["required"]["format"]
    inputs_by_name = inputs(to_api(gui, older), "Video")
    assert inputs_by_name["codec"] == "h264" and "format" not in inputs_by_name
    named = titled(gui, "Video")[NAMED]
    assert inputs_by_name == {"video": ["5", 0]} | {n: named[n] for n in named if n != "format"}


def test_the_templates_convert_alike_for_both_comfyuis_but_for_new_inputs() -> None:
    recorded = load_schemas()
    newer = {**recorded, "SaveVideo": SCHEMAS["SaveVideo"]}
    draft = load_template("draft_i2v")
    before, after = inputs(to_api(draft, recorded), "Video"), inputs(to_api(draft, newer), "Video")
    assert after == before | {"codec.encoding": "auto"}
    assert check(to_api(draft, newer), newer) == []


def test_a_choice_brings_its_inputs_and_takes_the_others_away(gui: Workflow) -> None:
    resize = titled(gui, "Resize")
    for node in (resize, titled(by_list_alone(copy.deepcopy(gui)), "Resize")):
        set_widget(node, "resize_type", "scale dimensions", SCHEMAS)
        set_widget(node, "resize_type.width", 200, SCHEMAS)
        values = {
            **{"resize_type": "scale dimensions", "resize_type.width": 200},
            **{"resize_type.height": 512, "resize_type.crop": "center", "scale_method": "area"},
        }
        assert widgets_of(node, SCHEMAS) == values
        assert node["widgets_values"] == list(values.values())
        assert node.get(NAMED, values) == values
    with pytest.raises(ConvertError, match=r"no widget 'resize_type.multiplier'"):
        set_widget(resize, "resize_type.multiplier", 2, SCHEMAS)


def test_both_lists_of_a_saved_file_stay_true(gui: Workflow) -> None:
    video = titled(gui, "Video")
    before = copy.deepcopy(video)
    set_widget(video, "codec.encoding.crf", 18, SCHEMAS)
    assert video["widgets_values"] == [*before["widgets_values"][:-1], 18]
    assert video[NAMED] == before[NAMED] | {"codec.encoding.crf": 18}
    video["widgets_values"].insert(0, "from a ComfyUI with a widget more")
    set_widget(video, "codec.encoding.crf", 20, SCHEMAS)
    assert video["widgets_values"] == [*before["widgets_values"][:-1], 20]


def test_what_is_not_there_by_name_is_read_from_the_list_and_kept(gui: Workflow) -> None:
    video = titled(gui, "Video")
    before = inputs(to_api(gui, SCHEMAS), "Video")
    crf = video[NAMED].pop("codec.encoding.crf")
    assert inputs(to_api(gui, SCHEMAS), "Video") == before
    set_widget(video, "filename_prefix", "mine", SCHEMAS)
    assert video[NAMED]["codec.encoding.crf"] == video["widgets_values"][-1] == crf
    assert inputs(to_api(gui, SCHEMAS), "Video") == before | {"filename_prefix": "mine"}


@pytest.mark.parametrize("backwards", [False, True])
def test_a_choice_and_what_comes_with_it_are_set_in_any_order(
    gui: Workflow, backwards: bool
) -> None:
    graph = to_api(gui, SCHEMAS)
    changes = {"Resize.resize_type": "scale dimensions", "Resize.resize_type.width": "200"}
    given = dict(reversed(changes.items())) if backwards else changes
    changed = inputs(change_graph(graph, given, SCHEMAS), "Resize")
    assert changed["resize_type"] == "scale dimensions"
    assert (changed["resize_type.width"], changed["resize_type.height"]) == (200, 512)
    slots = {"Resize": {n.removeprefix("Resize."): value for n, value in given.items()}}
    filled = to_api(fill(gui, slots, SCHEMAS), SCHEMAS)
    assert inputs(filled, "Resize")["resize_type.width"] == "200"


@pytest.mark.parametrize("inner", [{}, {"inputs": None}, {"inputs": {"required": None}}])
def test_a_choice_without_inputs_brings_none(inner: dict[str, Any]) -> None:
    options = [{"key": "a", **inner}, {"inputs": {}}]
    schemas: Any = {
        "Node": {"input": {"required": {"mode": [DYNAMIC_COMBO, {"options": options}]}}}
        | {"output": []}
    }
    graph = {"1": {"class_type": "Node", "inputs": {"mode": "a"}}}
    assert lint_workflow(graph, schemas) == []


@pytest.mark.parametrize(
    "template", [None, {}, {"input": {}}, {"input": None}, {"input": {"required": {}}}]
)
def test_an_autogrow_that_does_not_say_of_what_takes_nothing(template: object) -> None:
    schemas: Any = {
        "Node": {"input": {"required": {"images": [AUTOGROW, {"template": template}]}}}
        | {"output": []}
    }
    graph = {"1": {"class_type": "Node", "inputs": {"images.0": ["1", 0]}}}
    (said,) = [str(each) for each in lint_workflow(graph, schemas)]
    assert "images.0: is not an input of Node" in said


def test_a_run_sets_dotted_inputs(gui: Workflow) -> None:
    graph = to_api(gui, SCHEMAS)
    changed = change_graph(graph, {"Video.codec.encoding.crf": "12"}, SCHEMAS)
    assert inputs(changed, "Video") == INPUTS["Video"] | {"codec.encoding.crf": 12}
    changed = change_graph(graph, {"Video.codec.encoding": "auto"}, SCHEMAS)
    without = {name: value for name, value in INPUTS["Video"].items() if not name.endswith("crf")}
    assert inputs(changed, "Video") == without | {"codec.encoding": "auto"}
    both = {"Resize.resize_type": "scale dimensions", "Resize.resize_type.width": "64"}
    changed = change_graph(graph, both, SCHEMAS)
    assert inputs(changed, "Resize")["resize_type.width"] == 64
    assert check(changed, SCHEMAS) == []
    with pytest.raises(BadInput, match=r"no input 'codec\.speed'"):
        change_graph(graph, {"Video.codec.speed": "1"}, SCHEMAS)


def test_titles_with_dots_are_still_found(gui: Workflow) -> None:
    graph = to_api(gui, SCHEMAS)
    graph["6"]["_meta"]["title"] = "Video v1.0"
    changed = change_graph(graph, {"Video v1.0.codec.encoding.crf": "12"}, SCHEMAS)
    assert changed["6"]["inputs"]["codec.encoding.crf"] == 12


@pytest.mark.parametrize(
    ("node", "changes", "problem"),
    [
        ("Video", {"codec": "av1"}, "input codec: is 'av1', allowed: auto, h264"),
        ("Video", {"codec.encoding.crf": 99}, "codec.encoding.crf: is 99, allowed: 0.0 to 51.0"),
        ("Video", {"codec.encoding.crf": None}, "codec.encoding.crf: is required, and missing"),
        ("Video", {"codec": None}, "input codec: is required, and missing"),
        ("Both", {"images.image0": None}, "images.image0: is required, and missing"),
        ("Both", {"images.image50": ["1", 0]}, "images.image50: is not an input of"),
        ("Both", {"images.image1": ["5", 0]}, "images.image1: takes IMAGE, got VIDEO"),
        ("Resize", {"input": ["5", 0]}, "input input: takes IMAGE,MASK, got VIDEO"),
    ],
)
def test_what_comfyui_would_refuse_or_fail_at_is_told(
    gui: Workflow, node: str, changes: dict[str, Any], problem: str
) -> None:
    graph = to_api(gui, SCHEMAS)
    changed = inputs(graph, node)
    changed |= changes
    for name in [name for name, value in changes.items() if value is None]:
        del changed[name]
    assert any(problem in str(misfit) for misfit in check(graph, SCHEMAS))


def test_a_job_may_not_open_what_it_was_not_given_in_a_dotted_input() -> None:
    combo: list[Any] = [{"key": "file", "inputs": {"required": {"file": ["STRING", {}]}}}]
    schema: Any = {"required": {"from": ["COMFY_DYNAMICCOMBO_V3", {"options": combo}]}}
    loader: Schemas = {"Load": {"input": schema, "output": ["IMAGE"]}}
    given = {"from": "file", "from.file": "secret.png"}
    graph = {"1": {"class_type": "Load", "inputs": given, "_meta": {"title": "Load"}}}
    (problem,) = path_problems(graph, loader, {})
    assert problem.input == "from.file" and "is not in files" in str(problem)
    assert list(path_problems(graph, loader, {"secret.png": "there"})) == []


PLAIN = [("Image", "IMAGE"), ("Mask", "MASK"), ("ImageToMask", "MASK")]


def switch(number: int, off: int | None, on: int | None) -> Node:
    links = {"on_false": off, "on_true": on}
    sockets = [{"name": name, "type": "*", "link": link} for name, link in links.items()]
    outputs = [{"name": "output", "type": "*"}]
    return {"id": number, "type": "ComfySwitchNode", "inputs": sockets, "outputs": outputs}


def fed_by_a_bypassed_node(switches: list[Node], links: list[list[Any]]) -> Graph:
    """Nodes 1 (an image) and 2 (a mask), and 3 bypassed, which is fed an image and makes a mask."""
    schemas: Schemas = {
        **SCHEMAS,
        **{name: {"input": {"required": {}}, "output": [made]} for name, made in PLAIN},
        "ImageToMask": {"input": {"required": {"image": ["IMAGE"]}}, "output": ["MASK"]},
    }
    nodes = [{"id": at, "type": name, "inputs": []} for at, (name, _) in enumerate(PLAIN, start=1)]
    nodes[2] |= {"mode": 4, "inputs": [{"name": "image", "type": "IMAGE", "link": 1}]}
    return to_api(
        {"nodes": [*switches, *nodes], "links": [[1, 1, 0, 3, 0, "IMAGE"], *links]}, schemas
    )


def test_an_input_of_a_match_type_takes_what_feeds_the_others_of_its_group() -> None:
    to_off, to_on = [2, 3, 0, 4, 0, "MASK"], [3, 2, 0, 4, 1, "MASK"]
    graph = fed_by_a_bypassed_node([switch(4, 2, 3)], [to_off, to_on])
    assert graph["4"]["inputs"] == {"switch": False, "on_true": ["2", 0]}
    graph = fed_by_a_bypassed_node([switch(4, 2, None)], [to_off])
    assert graph["4"]["inputs"] == {"switch": False, "on_false": ["1", 0]}


@pytest.mark.parametrize("backwards", [False, True])
def test_an_output_of_a_match_type_brings_what_feeds_its_group(backwards: bool) -> None:
    switches = [switch(4, 2, None), switch(5, 3, 4)]
    links = [[2, 2, 0, 4, 0, "MASK"], [3, 3, 0, 5, 0, "MASK"], [4, 4, 0, 5, 1, "MASK"]]
    graph = fed_by_a_bypassed_node(switches[::-1] if backwards else switches, links)
    assert graph["5"]["inputs"] == {"switch": False, "on_true": ["4", 0]}


def test_switches_in_a_circle_and_inputs_that_do_not_match_convert() -> None:
    switches = [switch(4, 2, 5), switch(5, 3, 4)]
    links = [[2, 1, 0, 4, 0, "IMAGE"], [5, 5, 0, 4, 1, "*"]]
    links += [[3, 2, 0, 5, 0, "MASK"], [4, 4, 0, 5, 1, "*"]]
    graph = fed_by_a_bypassed_node(switches, links)
    assert graph["4"]["inputs"] == {"switch": False, "on_false": ["1", 0], "on_true": ["5", 0]}


def test_schemas_that_are_not_as_they_should_be_convert() -> None:
    odd: Any = {
        "combo": ["COMFY_DYNAMICCOMBO_V3", {}],
        "list": ["COMFY_AUTOGROW_V3", {}],
        "match": ["COMFY_MATCHTYPE_V3"],
    }
    schemas: Schemas = {"Odd": {"input": {"required": odd}, "output": ["COMFY_MATCHTYPE_V3"]}}
    node = {"id": 1, "type": "Odd", "inputs": [], "outputs": [], "widgets_values": ["a"]}
    assert to_api({"nodes": [node], "links": []}, schemas)["1"]["inputs"] == {"combo": "a"}


def test_a_file_tells_which_frontend_wrote_it(gui: Workflow) -> None:
    assert written_by(gui) == (1, 49)
    exported = load_template("draft_i2v") | {"extra": {"frontendVersion": "1.43.2"}}
    assert written_by(exported) == (1, 43, 2)
    assert written_by(load_template("draft_i2v")) == ()


def test_values_by_name_of_the_wrong_form_are_told(gui: Workflow) -> None:
    titled(gui, "Video")[NAMED] = ["mp4"]
    with pytest.raises(ConvertError, match=f"{NAMED} is no mapping"):
        to_api(json.loads(json.dumps(gui)), SCHEMAS)
