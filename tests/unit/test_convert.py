"""GUI workflow files and API graphs, each from the other."""

import copy
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkinghead.settings import PROJECT_DIR
from talkinghead.workflow.graph import Graph, is_api
from talkinghead.workflow.gui_file import (
    ConvertError,
    Node,
    Workflow,
    is_gui,
    remove_node,
    set_widget,
    title_of,
    widget_names,
    widgets_of,
)
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.schemas import Schemas, Value, load_schemas
from tests.unit.gui_layout import Group, canonical, to_gui

UUID = "0e7c3a52-8f0e-4b57-9a53-5d1c5c0f4b11"


def schema(
    required: dict[str, Any], optional: dict[str, Any] | None = None, output: tuple[str, ...] = ()
) -> Any:  # noqa: ANN401 - JSON, as recorded
    return {
        "input": {"required": required, "optional": optional or {}},
        "input_order": {"required": list(required), "optional": list(optional or {})},
        "output": list(output),
        "output_name": [name.lower() for name in output],
        "output_node": not output,
    }


H264 = [["pix_fmt", ["yuv420p", "yuv420p10le"]], ["crf", "INT", {"default": 19}]]
SCHEMAS: Schemas = {
    "LoadImage": schema({"image": [["a.png"], {"image_upload": True}]}, output=("IMAGE", "MASK")),
    "LoadImageMask": schema(
        {"image": [["a.png"], {"image_upload": True}], "channel": [["alpha", "red"]]},
        output=("MASK",),
    ),
    "LoadAudio": schema({"audio": [["a.wav"], {"audio_upload": True}]}, output=("AUDIO",)),
    "LoadText": schema({"text": ["STRING", {"multiline": True}]}, output=("TEXT",)),
    "Number": schema({"value": ["INT", {"default": 1}]}, output=("INT",)),
    "Scale": schema(
        {"image": ["IMAGE"], "width": ["INT", {"default": 512}], "crop": [["disabled", "center"]]},
        output=("IMAGE",),
    ),
    "Blend": schema({"text": ["TEXT"], "second": ["IMAGE"], "first": ["IMAGE"]}, output=("IMAGE",)),
    "ImageToText": schema({"image": ["IMAGE"]}, output=("TEXT",)),
    "Sampler": schema(
        {
            "image": ["IMAGE"],
            "steps": ["INT", {"default": 4}],
            "seed": ["INT", {"default": 0}],
            "scheduler": [["unipc", "euler"], {"default": "euler"}],
        },
        {"text": ["TEXT"], "strength": ["FLOAT", {"default": 1.0}]},
        output=("IMAGE",),
    ),
    "VHS_VideoCombine": schema(
        {
            "images": ["IMAGE"],
            "frame_rate": ["FLOAT", {"default": 8}],
            "format": [
                ["image/gif", "video/h264-mp4"],
                {"formats": {"video/h264-mp4": H264, "image/webp": [["lossless", "BOOLEAN"]]}},
            ],
            "save_output": ["BOOLEAN", {"default": True}],
        },
        {"audio": ["AUDIO"]},
    ),
}


def entry(node_class: str, title: str, **inputs: object) -> dict[str, Any]:
    return {"class_type": node_class, "inputs": inputs, "_meta": {"title": title}}


def graph() -> Graph:
    return {
        "1": entry("LoadImage", "Portrait", image="a.png"),
        "2": entry("Scale", "Resize", image=["1", 0], width=480, crop="center"),
        "3": entry("LoadText", "Prompt", text="hello"),
        "4": entry(
            "Sampler",
            "Sampler",
            image=["2", 0],
            steps=6,
            seed=42,
            scheduler="unipc",
            text=["3", 0],
            strength=0.5,
        ),
        "5": entry("LoadAudio", "Sound", audio="a.wav"),
        "6": entry(
            "VHS_VideoCombine",
            "Video",
            images=["4", 0],
            frame_rate=25,
            format="video/h264-mp4",
            save_output=True,
            pix_fmt="yuv420p",
            crf=17,
            audio=["5", 0],
        ),
    }


def workflow(api: Graph | None = None) -> Workflow:
    return to_gui(api or graph(), SCHEMAS, [], UUID)


def titled(gui: Workflow, title: str) -> Node:
    return next(node for node in gui["nodes"] if node.get("title") == title)


def inputs_sent(gui: Workflow, key: str) -> dict[str, Any]:
    inputs: dict[str, Any] = to_api(gui, SCHEMAS)[key]["inputs"]
    return inputs


def splice(gui: Workflow, target: str, name: str, node: Node) -> None:
    """Put a node with one input and one output into the link that feeds an input."""
    fed = next(socket for socket in titled(gui, target)["inputs"] if socket["name"] == name)
    old = next(link for link in gui["links"] if link[0] == fed["link"])
    new = [len(gui["links"]) + 1, old[1], old[2], node["id"], 0, old[5]]
    gui["links"].append(new)
    old[1:3] = [node["id"], 0]
    gui["nodes"].append(node)
    node["inputs"] = [{"name": "", "type": "*", "link": new[0]}]
    node["outputs"] = [{"name": "", "type": old[5], "links": [old[0]]}]


def feed_widget(gui: Workflow, title: str, name: str, origin: Node, slot: int = 0) -> None:
    link = len(gui["links"]) + 1
    target = titled(gui, title)
    target["inputs"].append({"name": name, "type": "INT", "link": link, "widget": {"name": name}})
    gui["links"].append([link, origin["id"], slot, target["id"], len(target["inputs"]) - 1, "INT"])
    if origin not in gui["nodes"]:
        gui["nodes"].append(origin)


def primitive(value: Value) -> Node:
    outputs = [{"name": "INT", "type": "INT", "links": []}]
    return {"id": 90, "type": "PrimitiveNode", "outputs": outputs, "widgets_values": [value]}


# ---- Telling the two forms apart


def test_gui_files_and_api_graphs_are_told_apart() -> None:
    assert is_gui(workflow())
    assert not is_api(workflow())
    assert is_api(graph())
    assert not is_gui(graph())
    assert not is_api({})
    assert not is_api({"1": {"class_type": "LoadImage"}})
    assert not is_gui([])


# ---- GUI file -> API graph


def test_a_graph_survives_the_way_to_the_gui_and_back() -> None:
    assert to_api(workflow(), SCHEMAS) == graph()


def test_the_slot_after_a_seed_is_not_an_input() -> None:
    gui = workflow()
    assert titled(gui, "Sampler")["widgets_values"] == [6, 42, "fixed", "unipc", 0.5]
    assert inputs_sent(gui, "4")["scheduler"] == "unipc"


def test_the_upload_slot_comes_after_all_widgets() -> None:
    gui = workflow({"1": entry("LoadImageMask", "Mask", image="a.png", channel="red")})
    assert titled(gui, "Mask")["widgets_values"] == ["a.png", "red", "image"]
    assert inputs_sent(gui, "1") == {"image": "a.png", "channel": "red"}


def test_widgets_follow_the_input_order_and_not_the_order_of_the_entry() -> None:
    swapped = copy.deepcopy(SCHEMAS["Scale"])
    swapped["input_order"] = {"required": ["crop", "image", "width"]}
    node = {"id": 1, "type": "Scale", "widgets_values": ["center", 480]}
    api = to_api({"nodes": [node], "links": []}, {"Scale": swapped})
    assert api["1"]["inputs"] == {"crop": "center", "width": 480}


def test_a_keyed_node_sends_the_keys_of_its_format_and_no_previews() -> None:
    gui = workflow()
    titled(gui, "Video")["widgets_values"]["videopreview"] = {"fullpath": "secret"}
    sent = inputs_sent(gui, "6")
    assert sent["crf"] == 17
    assert "videopreview" not in sent


def test_a_key_that_a_keyed_node_lacks_has_its_default() -> None:
    gui = workflow()
    del titled(gui, "Video")["widgets_values"]["crf"]
    assert inputs_sent(gui, "6")["crf"] == 19


def test_an_old_list_on_a_keyed_node_is_read_when_its_length_is_certain() -> None:
    gui = workflow()
    titled(gui, "Video")["widgets_values"] = [30, "image/gif", False]
    assert inputs_sent(gui, "6")["format"] == "image/gif"


def test_a_muted_node_is_left_out_with_the_links_that_start_at_it() -> None:
    gui = workflow()
    titled(gui, "Prompt")["mode"] = 2
    api = to_api(gui, SCHEMAS)
    assert "3" not in api
    assert "text" not in api["4"]["inputs"]


def test_a_widget_fed_by_a_muted_node_is_left_out() -> None:
    gui = workflow(graph() | {"7": entry("Number", "Width", value=640)})
    feed_widget(gui, "Resize", "width", titled(gui, "Width"))
    assert inputs_sent(gui, "2")["width"] == ["7", 0]
    titled(gui, "Width")["mode"] = 2
    assert "width" not in inputs_sent(gui, "2")


def test_a_bypassed_node_passes_on_its_input_of_the_same_type() -> None:
    gui = workflow()
    titled(gui, "Resize")["mode"] = 4
    assert inputs_sent(gui, "4")["image"] == ["1", 0]


def test_a_bypass_takes_the_first_input_of_the_type() -> None:
    api = graph()
    api["7"] = entry("Blend", "Blend", text=["3", 0], second=["1", 0], first=["2", 0])
    api["4"]["inputs"]["image"] = ["7", 0]
    gui = workflow(api)
    titled(gui, "Blend")["mode"] = 4
    assert inputs_sent(gui, "4")["image"] == ["1", 0]


def test_a_bypassed_node_without_such_an_input_feeds_nothing() -> None:
    api = graph()
    api["7"] = entry("ImageToText", "Caption", image=["1", 0])
    api["4"]["inputs"]["text"] = ["7", 0]
    gui = workflow(api)
    titled(gui, "Caption")["mode"] = 4
    assert "text" not in inputs_sent(gui, "4")


def test_a_widget_fed_by_such_a_node_keeps_its_own_value() -> None:
    gui = workflow(graph() | {"7": entry("Number", "Width", value=640)})
    feed_widget(gui, "Resize", "width", titled(gui, "Width"))
    titled(gui, "Width")["mode"] = 4
    assert inputs_sent(gui, "2")["width"] == 480


def test_a_bypassed_node_of_an_unknown_class_is_seen_through() -> None:
    gui = workflow()
    titled(gui, "Resize").update(type="FromAnotherPack", mode=4)
    assert inputs_sent(gui, "4")["image"] == ["1", 0]


@pytest.mark.parametrize("mode", [0, 2, 4])
def test_reroutes_are_seen_through(mode: int) -> None:
    gui = workflow()
    splice(gui, "Sampler", "image", {"id": 50, "type": "Reroute", "mode": mode})
    splice(gui, "Sampler", "image", {"id": 51, "type": "Reroute"})
    assert to_api(gui, SCHEMAS) == graph()


def test_a_primitive_becomes_a_value() -> None:
    gui = workflow()
    feed_widget(gui, "Sampler", "seed", primitive(7))
    api = to_api(gui, SCHEMAS)
    assert api["4"]["inputs"]["seed"] == 7
    assert set(api) == set(graph())


def test_a_primitive_behind_a_reroute_is_without_effect_as_in_the_gui() -> None:
    gui = workflow()
    feed_widget(gui, "Sampler", "seed", primitive(7))
    splice(gui, "Sampler", "seed", {"id": 91, "type": "Reroute"})
    assert inputs_sent(gui, "4")["seed"] == 42


@pytest.mark.parametrize("kind", ["Note", "MarkdownNote"])
def test_notes_are_left_out(kind: str) -> None:
    gui = workflow()
    gui["nodes"].append({"id": 60, "type": kind, "widgets_values": ["read me"]})
    assert to_api(gui, SCHEMAS) == graph()


def test_a_list_value_is_wrapped_so_that_it_is_no_link() -> None:
    gui = workflow()
    set_widget(titled(gui, "Prompt"), "text", ["a", 0], SCHEMAS)
    sent = to_api(gui, SCHEMAS)
    assert sent["3"]["inputs"]["text"] == {"__value__": ["a", 0]}
    assert titled(workflow(sent), "Prompt")["widgets_values"] == [["a", 0]]


def test_a_node_without_a_title_has_the_one_of_its_class() -> None:
    node = {"id": 1, "type": "LoadText", "widgets_values": [""]}
    shown = copy.deepcopy(SCHEMAS["LoadText"])
    shown["display_name"] = "Load Text"
    assert title_of(node, {"LoadText": shown}) == "Load Text"
    assert title_of(node, SCHEMAS) == "LoadText"
    assert title_of(node | {"title": "Prompt"}, SCHEMAS) == "Prompt"


def test_a_control_slot_follows_the_option_and_not_only_the_name() -> None:
    options: dict[str, Any] = {"default": 0, "control_after_generate": True}
    combo = [["a", "b"], {"control_after_generate": True}]
    schemas: Schemas = {
        "Draft": schema(
            {"shift": ["INT", options], "seed": ["INT", {"control_after_generate": False}]},
            {"name": combo, "last": ["STRING", {}]},
        )
    }
    inputs = {"shift": 3, "seed": 4, "name": "b", "last": "x"}
    gui = to_gui({"1": entry("Draft", "Draft", **inputs)}, schemas, [], UUID)
    assert gui["nodes"][0]["widgets_values"] == [3, "fixed", 4, "b", "fixed", "", "x"]
    assert to_api(gui, schemas)["1"]["inputs"] == inputs


def test_inputs_that_must_be_linked_take_no_widget_slot() -> None:
    schemas: Schemas = {
        "Forced": schema(
            {"a": ["INT", {"forceInput": True}], "b": ["INT", {"defaultInput": True}]},
            {"c": ["INT", {"defaultInput": True}], "d": ["COMBO", {"options": ["x", "y"]}]},
        )
    }
    gui = to_gui({"1": entry("Forced", "Forced", b=5)}, schemas, [], UUID)
    assert gui["nodes"][0]["widgets_values"] == [5, "x"]


def test_values_that_the_file_lacks_are_the_defaults_as_in_the_gui() -> None:
    gui = workflow()
    titled(gui, "Sampler")["widgets_values"] = [6, 42]
    assert inputs_sent(gui, "4")["scheduler"] == "euler"
    set_widget(titled(gui, "Sampler"), "strength", 0.25, SCHEMAS)
    assert titled(gui, "Sampler")["widgets_values"] == [6, 42, "fixed", "euler", 0.25]


def test_old_lists_with_a_slot_for_a_socket_are_read() -> None:
    forced = {"forceInput": True}
    schemas: Schemas = {"Old": schema({"a": ["INT", forced], "b": ["INT"], "c": ["STRING"]})}
    node = {"id": 1, "type": "Old", "widgets_values": [1, 2, "three"]}
    api = to_api({"nodes": [node], "links": []}, schemas)
    assert api["1"]["inputs"] == {"b": 2, "c": "three"}


def test_a_value_set_in_an_old_list_is_read_again() -> None:
    """Its first slot is a socket's, and all values are alike: by place it looks like a new list."""
    forced = {"forceInput": True}
    schemas: Schemas = {"Old": schema({"a": ["INT", forced], "b": ["INT"], "c": ["INT"]})}
    node = {"id": 1, "type": "Old", "widgets_values": [0, 0, 0]}
    set_widget(node, "b", 5, schemas)
    assert to_api({"nodes": [node], "links": []}, schemas)["1"]["inputs"] == {"b": 5, "c": 0}


@pytest.mark.parametrize(
    ("kind", "options", "value", "sent"),
    [
        ("INT", {"min": 0, "max": 1000, "step": 16}, 830, 832),
        ("INT", {"min": 1, "max": 401, "step": 4}, 80, 81),
        ("INT", {"min": 0, "max": 100}, 2000, 100),
        ("FLOAT", {"step": 0.01}, 1.2345, 1.23),
        ("FLOAT", {"step": 1}, 1.5, 1.5),
        ("FLOAT", {"round": 0.001, "min": 1.0}, 0.5, 1.0),
        ("STRING", {}, "text", "text"),
    ],
)
def test_a_primitives_number_is_rounded_as_the_widget_rounds_it(
    kind: str, options: dict[str, Any], value: Value, sent: Value
) -> None:
    schemas: Schemas = {"Node": schema({"value": [kind, options]})}
    gui = to_gui({"1": entry("Node", "Node")}, schemas, [], UUID)
    feed_widget(gui, "Node", "value", primitive(value))
    assert to_api(gui, schemas)["1"]["inputs"]["value"] == sent


# ---- Subgraphs; how they are to be flattened is held against the real GUI in tests/gui

INNER = "5f3c7b2a-1d7e-4c0b-9b0f-2f8e1a6d3c11"
OUTER = "0a4d9e6c-7f2b-4b1e-8a55-6c9d2e1f7b22"


def link(number: int, origin: int, slot: int, target: int, target_slot: int) -> dict[str, Any]:
    ends = {"origin_id": origin, "origin_slot": slot, "target_id": target}
    return {"id": number, **ends, "target_slot": target_slot, "type": "*"}


def slot(name: str, type_: str, *links: int) -> dict[str, Any]:
    return {"name": name, "type": type_, "linkIds": list(links)}


def socket(name: str, type_: str, link: int | None, **more: object) -> dict[str, Any]:
    return {"name": name, "type": type_, "link": link, **more}


def nested() -> Workflow:
    """Portrait -> [[Scale]] -> Sampler; the width is a widget of both subgraphs."""
    scale = {
        "id": 1,
        "type": "Scale",
        "title": "Inner scale",
        "inputs": [
            socket("image", "IMAGE", 1),
            socket("width", "INT", 3, widget={"name": "width"}),
        ],
        "outputs": [{"name": "image", "type": "IMAGE", "links": [2]}],
        "widgets_values": [512, "center"],
    }
    inner = {
        "id": INNER,
        "nodes": [scale],
        "links": [link(1, -10, 0, 1, 0), link(2, 1, 0, -20, 0), link(3, -10, 1, 1, 1)],
        "inputs": [slot("picture", "IMAGE", 1), slot("width", "INT", 3)],
        "outputs": [slot("IMAGE", "IMAGE", 2)],
    }
    middle = {
        "id": 1,
        "type": INNER,
        "title": "Middle",
        "inputs": [socket("picture", "IMAGE", 1), socket("width", "INT", 3)],
        "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [2]}],
        "widgets_values": [640],
    }
    outer = copy.deepcopy(inner) | {"id": OUTER, "nodes": [middle]}
    gui = workflow()
    resize = titled(gui, "Resize")
    resize.update(type=OUTER, widgets_values=[720], outputs=resize["outputs"][:1])
    resize["inputs"] = [socket("picture", "IMAGE", resize["inputs"][0]["link"])]
    gui["definitions"] = {"subgraphs": [inner, outer]}
    return gui


def test_nodes_of_nested_subgraphs_get_the_path_as_their_id() -> None:
    api = to_api(nested(), SCHEMAS)
    assert "2" not in api
    assert api["4"]["inputs"]["image"] == ["2:1:1", 0]
    assert api["2:1:1"] == entry("Scale", "Inner scale", image=["1", 0], width=720, crop="center")


def test_a_subgraphs_widget_has_the_inner_value_if_the_instance_has_none() -> None:
    gui = nested()
    titled(gui, "Resize")["widgets_values"] = []
    assert inputs_sent(gui, "2:1:1")["width"] == 640


def test_shown_widgets_say_which_value_is_whose() -> None:
    gui = nested()
    shown = [["1", "crop"], ["-1", "width"]]
    titled(gui, "Resize").update(widgets_values=[None, 800], properties={"proxyWidgets": shown})
    assert inputs_sent(gui, "2:1:1")["width"] == 800


def test_a_bypassed_subgraph_passes_on_its_input() -> None:
    gui = nested()
    titled(gui, "Resize")["mode"] = 4
    assert inputs_sent(gui, "4")["image"] == ["1", 0]


def test_a_fault_in_a_subgraph_names_the_node_by_its_path() -> None:
    gui = nested()
    gui["definitions"]["subgraphs"][0]["nodes"][0]["type"] = "Scael"
    with pytest.raises(ConvertError, match=r'node 2:1:1 "Inner scale" \(Scael\).*mean \'Scale\''):
        to_api(gui, SCHEMAS)


def test_a_subgraph_inside_itself_is_refused() -> None:
    gui = nested()
    gui["definitions"]["subgraphs"][0]["nodes"][0]["type"] = OUTER
    with pytest.raises(ConvertError, match="nested more than 50 deep"):
        to_api(gui, SCHEMAS)


def test_subgraphs_that_multiply_are_refused() -> None:
    gui = nested()
    for index in range(8):
        definition = copy.deepcopy(gui["definitions"]["subgraphs"][-1]) | {"id": f"level {index}"}
        within = gui["definitions"]["subgraphs"][-1]["id"]
        definition["nodes"] = [{"id": number, "type": within} for number in range(10)]
        definition["links"] = []
        gui["definitions"]["subgraphs"].append(definition)
    titled(gui, "Resize")["type"] = "level 7"
    with pytest.raises(ConvertError, match="more than 20000 nodes"):
        to_api(gui, SCHEMAS)


def test_a_primitive_in_a_subgraph_is_refused() -> None:
    gui = nested()
    inner = gui["definitions"]["subgraphs"][0]
    inner["nodes"].append(primitive(7))
    inner["links"][2]["origin_id"] = 90
    with pytest.raises(ConvertError, match=r"node 2:1:90 .*primitive in a subgraph"):
        to_api(gui, SCHEMAS)


def test_a_subgraph_that_links_input_to_output_is_refused() -> None:
    gui = nested()
    gui["definitions"]["subgraphs"][0]["links"][1]["origin_id"] = -10
    with pytest.raises(ConvertError, match=r'node 2:1 "Middle".*links an input to an output'):
        to_api(gui, SCHEMAS)


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to every part of a JSON value."""
    parts: dict[Any, Any] = {}
    if isinstance(value, dict | list):
        parts = value if isinstance(value, dict) else dict(enumerate(value))
    here = [(*path, key) for key in parts]
    return here + [p for key, part in parts.items() for p in places(part, (*path, key))]


def _at(value: Any, path: tuple[Any, ...]) -> Any:  # noqa: ANN401 - JSON
    for key in path:
        value = value[key]
    return value


JUNK: st.SearchStrategy[Any] = st.sampled_from(
    [None, -1, 0, 99, 1.5, True, "", "x", [], {}, [1], {"id": 1}, [[[]]]]
).map(copy.deepcopy)  # what is put in may be broken further


@settings(max_examples=500)
@given(st.data())
def test_whatever_is_broken_in_a_file_it_is_converted_or_refused(data: st.DataObject) -> None:
    gui = nested()
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(places(gui)))
        _at(gui, tuple(way))[last] = data.draw(JUNK)
    try:
        assert isinstance(to_api(gui, SCHEMAS), dict)
    except ConvertError as refused:
        assert str(refused)


# ---- What cannot be converted


def broken(title: str, **change: object) -> Workflow:
    gui = workflow()
    titled(gui, title).update(change)
    return gui


@pytest.mark.parametrize(
    ("gui", "message"),
    [
        (broken("Sampler", type="Smapler"), r'node 4 "Sampler" \(Smapler\).*mean \'Sampler\''),
        (broken("Sampler", widgets_values={"steps": 6}), r"node 4 .*mapping"),
        (broken("Video", widgets_values=[1, 2, 3, 4, 5]), r"node 6 .*needs a mapping"),
        (broken("Resize", id=1), r"node 1 .*same id"),
        ({"nodes": []}, "not a GUI workflow"),
        (workflow() | {"links": [{"id": 1}]}, "no link: {'id': 1}"),
        (workflow() | {"nodes": [1]}, "no node: 1"),
        (broken("Resize", id=[2]), "id is neither"),
        (broken("Resize", widgets_values="x"), r"node 2 .*neither a list nor a mapping"),
        (broken("Resize", inputs=[{"link": 1}]), r"node 2 .*inputs are not a list of named slots"),
        (broken("Resize", type="workflow>Mine"), r"node 2 .*is a group node; in the GUI convert"),
        (workflow() | {"definitions": {"subgraphs": [{}]}}, "no subgraph"),
        (workflow() | {"links": []}, r"node 2 .*'image': there is no link 1"),
    ],
)
def test_what_cannot_be_converted_names_the_node_and_the_fault(gui: Workflow, message: str) -> None:
    with pytest.raises(ConvertError, match=message):
        to_api(gui, SCHEMAS)


def test_a_link_from_a_node_that_is_not_there_is_refused() -> None:
    gui = workflow()
    gui["nodes"].remove(titled(gui, "Portrait"))
    with pytest.raises(ConvertError, match=r'node 2 "Resize".*there is no node 1'):
        to_api(gui, SCHEMAS)


def test_a_value_that_the_browser_makes_is_refused() -> None:
    schemas: Schemas = {"Record": schema({"audio": ["AUDIO_RECORD"]}, output=("AUDIO",))}
    node = {"id": 1, "type": "Record", "title": "Voice"}
    with pytest.raises(ConvertError, match=r'node 1 "Voice" \(Record\).*made by the browser'):
        to_api({"nodes": [node], "links": []}, schemas)


def test_reroutes_in_a_circle_are_refused() -> None:
    gui = workflow()
    splice(gui, "Sampler", "image", {"id": 50, "type": "Reroute"})
    gui["links"][-1][1:3] = [50, 0]
    with pytest.raises(ConvertError, match="circle"):
        to_api(gui, SCHEMAS)


def test_a_link_from_an_output_that_a_bypassed_node_lacks_is_refused() -> None:
    gui = broken("Resize", mode=4)
    next(link for link in gui["links"] if link[1] == 2)[2] = 3
    with pytest.raises(ConvertError, match="output 3"):
        to_api(gui, SCHEMAS)


def test_a_primitive_without_a_value_is_refused() -> None:
    gui = workflow()
    feed_widget(gui, "Sampler", "seed", primitive(7) | {"widgets_values": []})
    with pytest.raises(ConvertError, match="holds no value"):
        to_api(gui, SCHEMAS)


# ---- API graph -> GUI file

GROUPS = [
    Group("Image", [["1", "2"], ["4"]]),
    Group("Prompt", [["3"]], below=True),
    Group("Output", [["6"]]),
]


def test_links_agree_with_the_sockets_at_both_ends() -> None:
    gui = workflow()
    nodes = {node["id"]: node for node in gui["nodes"]}
    for link, origin, origin_slot, target, target_slot, type_ in gui["links"]:
        assert link in nodes[origin]["outputs"][origin_slot]["links"]
        assert nodes[target]["inputs"][target_slot]["link"] == link
        assert nodes[target]["inputs"][target_slot]["type"] == type_
    assert gui["last_link_id"] == len(gui["links"]) == 5


def test_a_linked_widget_keeps_its_slot_and_gets_a_socket() -> None:
    api = graph() | {"7": entry("Number", "Width", value=640)}
    api["2"]["inputs"]["width"] = ["7", 0]
    gui = workflow(api)
    resize = titled(gui, "Resize")
    assert resize["widgets_values"] == [512, "center"]
    assert resize["inputs"][1]["widget"] == {"name": "width"}
    assert to_api(gui, SCHEMAS) == api


def test_the_file_tells_video_helper_suite_to_leave_one_file() -> None:
    gui = workflow()
    assert gui["extra"] == {"VHS_MetadataImage": False, "VHS_KeepIntermediate": False}
    assert gui["version"] == 0.4
    assert gui["id"] == UUID
    assert gui["last_node_id"] == 6


def overlap(one: list[float], other: list[float]) -> bool:
    return all(one[i] < other[i] + other[i + 2] and other[i] < one[i] + one[i + 2] for i in (0, 1))


def bounds(node: Node) -> list[float]:
    """x, y, width and height, with the title bar that the GUI draws above the position."""
    return [node["pos"][0], node["pos"][1] - 30, node["size"][0], node["size"][1] + 30]


def holds(box: list[float], inner: list[float]) -> bool:
    return all(
        box[i] <= inner[i] and inner[i] + inner[i + 2] <= box[i] + box[i + 2] for i in (0, 1)
    )


@pytest.mark.parametrize("groups", [[], GROUPS])
def test_nothing_overlaps_and_every_node_lies_in_one_group(groups: list[Group]) -> None:
    gui = to_gui(graph(), SCHEMAS, groups, UUID, note="# Read me")
    nodes = [bounds(node) for node in gui["nodes"]]
    boxes = [box["bounding"] for box in gui["groups"]]
    for items in (nodes, boxes):
        assert not any(overlap(a, b) for i, a in enumerate(items) for b in items[i + 1 :])
    homes = [sum(holds(box, node) for box in boxes) for node in nodes]
    assert homes == [1, 1, 1, 1, 1, 1, 0]
    assert not any(overlap(nodes[-1], box) for box in boxes)


def test_groups_stand_in_order_and_the_rest_comes_last() -> None:
    gui = to_gui(graph(), SCHEMAS, GROUPS, UUID)
    assert [box["title"] for box in gui["groups"]] == ["Image", "Prompt", "Output", "Other"]
    image, prompt, output, other = (box["bounding"] for box in gui["groups"])
    assert prompt[0] == image[0]
    assert prompt[1] > image[1] + image[3]
    assert image[0] + image[2] < output[0] < other[0]


def test_order_follows_the_links() -> None:
    order = {node["id"]: node["order"] for node in workflow()["nodes"]}
    assert order[1] < order[2] < order[4] < order[6]


def test_a_note_is_shown_and_changes_nothing() -> None:
    gui = to_gui(graph(), SCHEMAS, [], UUID, note="# Read me")
    assert gui["nodes"][-1]["type"] == "MarkdownNote"
    assert gui["nodes"][-1]["widgets_values"] == ["# Read me"]
    assert to_api(gui, SCHEMAS) == graph()


def test_inputs_of_the_browser_are_dropped() -> None:
    api = graph()
    api["5"]["inputs"]["audioUI"] = ""
    assert to_api(workflow(api), SCHEMAS) == graph()


def test_node_ids_that_are_no_numbers_are_kept() -> None:
    api = {"a:1": entry("LoadText", "Prompt", text="x")}
    assert to_api(workflow(api), SCHEMAS) == api


def changed(key: str, **inputs: object) -> Graph:
    api = graph()
    api[key]["inputs"].update(inputs)
    return api


@pytest.mark.parametrize(
    ("api", "message"),
    [
        (changed("4", stpes=3), r'node 4 "Sampler".*\'stpes\'; did you mean \'steps\''),
        (changed("4", image=["9", 0]), r"node 4 .*'image'.*\['9', 0\].*not there"),
        (changed("4", image=["2", 1]), "not there"),
        (changed("2", image=["4", 0]), "circle"),
        ({"1": entry("LoadImge", "Portrait")}, "did you mean 'LoadImage'"),
    ],
)
def test_a_graph_that_has_no_gui_form_is_refused(api: Graph, message: str) -> None:
    with pytest.raises(ConvertError, match=message):
        workflow(api)


def test_a_group_of_a_node_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConvertError, match="not there: 77"):
        to_gui(graph(), SCHEMAS, [Group("Image", [["1", "77"]])], UUID)


# ---- Widgets


def test_a_nodes_widgets_are_read_by_name() -> None:
    gui = workflow()
    assert widgets_of(titled(gui, "Resize"), SCHEMAS) == {"width": 480, "crop": "center"}
    assert widgets_of(titled(gui, "Video"), SCHEMAS)["crf"] == 17
    names = widget_names(SCHEMAS["VHS_VideoCombine"], titled(gui, "Video"))
    assert names == ["frame_rate", "format", "save_output", "pix_fmt", "crf"]


def test_another_format_brings_other_widgets() -> None:
    gui = workflow()
    set_widget(titled(gui, "Video"), "format", "image/webp", SCHEMAS)
    assert widgets_of(titled(gui, "Video"), SCHEMAS)["lossless"] is False
    assert "crf" not in inputs_sent(gui, "6")


def test_a_widget_that_a_keyed_node_lacks_can_be_set() -> None:
    gui = workflow()
    del titled(gui, "Video")["widgets_values"]["crf"]
    set_widget(titled(gui, "Video"), "crf", 23, SCHEMAS)
    assert inputs_sent(gui, "6")["crf"] == 23


def test_an_unknown_widget_is_refused_with_the_nearest_name() -> None:
    sampler = titled(workflow(), "Sampler")
    with pytest.raises(ConvertError, match=r'node 4 "Sampler".*\'step\'; did you mean \'steps\''):
        set_widget(sampler, "step", 1, SCHEMAS)
    with pytest.raises(ConvertError, match="no widget 'image'"):
        set_widget(sampler, "image", "a.png", SCHEMAS)


def test_a_widget_that_a_link_feeds_cannot_be_set() -> None:
    gui = workflow()
    feed_widget(gui, "Sampler", "seed", primitive(7))
    with pytest.raises(ConvertError, match="'seed' is fed by a link"):
        set_widget(titled(gui, "Sampler"), "seed", 1, SCHEMAS)


WIDGETS = [
    (title, name)
    for title in ("Portrait", "Resize", "Prompt", "Sampler", "Sound", "Video")
    for name in widgets_of(titled(workflow(), title), SCHEMAS)
    if name != "format"
]


@given(st.sampled_from(WIDGETS), st.one_of(st.integers(), st.text(), st.booleans()))
def test_a_set_widget_is_read_back_and_no_other_changes(
    widget: tuple[str, str], value: Value
) -> None:
    gui = workflow()
    title, name = widget
    node = titled(gui, title)
    before = widgets_of(node, SCHEMAS)
    set_widget(node, name, value, SCHEMAS)
    assert widgets_of(node, SCHEMAS)[name] == value
    assert widgets_of(node, SCHEMAS) == before | {name: value}
    assert inputs_sent(gui, str(node["id"]))[name] == value


# ---- Edits and comparison


def test_a_removed_node_leaves_no_link_behind() -> None:
    gui = workflow()
    remove_node(gui, 4)
    assert to_api(gui, SCHEMAS).keys() == graph().keys() - {"4"}
    assert {entry[0] for entry in gui["links"]} == {1, 5}
    assert titled(gui, "Prompt")["outputs"][0]["links"] is None
    assert titled(gui, "Video")["inputs"][0]["link"] is None


def test_a_node_that_is_not_there_cannot_be_removed() -> None:
    with pytest.raises(ConvertError, match="no node 77"):
        remove_node(workflow(), 77)


def test_the_canonical_form_forgets_order_view_and_previews() -> None:
    tidy = canonical(workflow())
    seen = workflow()
    seen["nodes"].reverse()
    seen["links"].reverse()
    seen["extra"]["ds"] = {"scale": 1.3}
    titled(seen, "Video")["widgets_values"] |= {"videopreview": {}, "$$canvas-image-preview": 1}
    before = copy.deepcopy(seen)
    assert canonical(seen) == tidy
    assert seen == before


# ---- Properties

MODES = st.dictionaries(st.integers(1, 8), st.sampled_from([2, 4]))


def linked_widely() -> Graph:
    api = graph()
    api["7"] = entry("Blend", "Blend", text=["8", 0], second=["2", 0], first=["1", 0])
    api["8"] = entry("ImageToText", "Caption", image=["1", 0])
    api["4"]["inputs"] |= {"image": ["7", 0], "text": ["8", 0]}
    return api


@given(MODES, st.randoms(use_true_random=False), st.booleans())
def test_whatever_is_muted_or_bypassed_no_link_leads_to_a_missing_node(
    modes: dict[int, int],
    random: Random,
    rerouted: bool,
) -> None:
    gui = workflow(linked_widely())
    if rerouted:
        splice(gui, "Sampler", "image", {"id": 50, "type": "Reroute"})
    for node in gui["nodes"]:
        node["mode"] = modes.get(node["id"], 0)
    api = to_api(gui, SCHEMAS)
    links = [v for each in api.values() for v in each["inputs"].values() if isinstance(v, list)]
    assert all(key in api for key, _ in links)
    assert set(api) == {str(i) for i in range(1, 9) if i not in modes}
    random.shuffle(gui["nodes"])
    random.shuffle(gui["links"])
    assert to_api(gui, SCHEMAS) == api


@given(st.lists(st.integers(1, 8), unique=True, max_size=7))
def test_whatever_is_removed_no_link_leads_to_a_missing_node(removed: list[int]) -> None:
    gui = workflow(linked_widely())
    for node_id in removed:
        remove_node(gui, node_id)
    left = {node["id"] for node in gui["nodes"]}
    assert all({link[1], link[3]} <= left for link in gui["links"])
    assert set(to_api(gui, SCHEMAS)) == {str(i) for i in left}


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Chains and fans of the classes above, each input fed by an earlier node or left out."""
    api: Graph = {}
    made: dict[str, list[list[Any]]] = {}
    for key in range(draw(st.integers(1, 8))):
        node_class = draw(st.sampled_from([c for c in SCHEMAS if not c.startswith("VHS_")]))
        node = widgets = entry(node_class, f"Node {key}")
        known = SCHEMAS[node_class]["input"]
        for name, spec in {**known["required"], **known["optional"]}.items():
            if made.get(spec[0] if isinstance(spec[0], str) else ""):
                node["inputs"][name] = draw(st.sampled_from(made[spec[0]]))
            elif spec[0] in ("INT", "FLOAT"):
                widgets["inputs"][name] = draw(st.integers(0, 2**53 - 1))
            elif spec[0] == "STRING" or isinstance(spec[0], list):
                widgets["inputs"][name] = draw(st.text())
        api[str(key)] = node
        for slot, type_ in enumerate(SCHEMAS[node_class]["output"]):
            made.setdefault(type_, []).append([str(key), slot])
    return api


@given(graphs())
def test_any_graph_survives_the_way_to_the_gui_and_back(api: Graph) -> None:
    assert to_api(workflow(api), SCHEMAS) == api


# ---- The templates

RECORDED: Schemas = load_schemas()
TEMPLATES = sorted((PROJECT_DIR / "workflows").glob("*.json"))


def template(path: Path) -> Workflow:
    gui: Workflow = json.loads(path.read_text("utf-8"))
    return gui


templates = pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)


@templates
def test_a_template_is_a_gui_file_in_its_canonical_form(path: Path) -> None:
    gui = template(path)
    assert is_gui(gui)
    del gui["extra"]["ds"]  # where it is looked at: the GUI saves another
    assert canonical(gui) == gui


@templates
def test_a_template_opens_on_its_note_at_a_size_to_read(path: Path) -> None:
    gui = template(path)
    view = gui["extra"]["ds"]
    (note,) = [node for node in gui["nodes"] if node["type"] == "MarkdownNote"]
    left, top = (
        (at + by) * view["scale"] for at, by in zip(note["pos"], view["offset"], strict=True)
    )
    width, title = note["size"][0] * view["scale"], 30 * view["scale"]
    assert view["scale"] >= 0.8
    assert left >= 60 and left + width <= 1280, "beside the GUI's own bar, on a small screen"
    assert 100 <= top - title <= 300, "below the GUI's tabs"
    (result,) = [group["bounding"] for group in gui["groups"] if group["title"] == "Output"]
    assert (result[0] + result[2] + view["offset"][0]) * view["scale"] <= 1440, "in sight, too"


@templates
def test_a_template_survives_the_way_to_the_graph_and_back(path: Path) -> None:
    api = to_api(template(path), RECORDED)
    assert to_api(to_gui(api, RECORDED, [], UUID), RECORDED) == api


@templates
def test_the_titles_of_a_template_are_unique(path: Path) -> None:
    titles = [node["title"] for node in template(path)["nodes"]]
    assert len(set(titles)) == len(titles)


@templates
def test_a_template_keeps_its_seeds_when_run_in_the_gui(path: Path) -> None:
    controls = {"fixed", "increment", "decrement", "randomize"}
    kept = [node["widgets_values"] for node in template(path)["nodes"]]
    assert {value for each in kept if isinstance(each, list) for value in each} & controls == {
        "fixed"
    }


@templates
def test_the_gui_would_not_rewrite_a_templates_prompts(path: Path) -> None:
    prompts = [n for n in template(path)["nodes"] if n["type"] == "CLIPTextEncode"]
    for node in prompts:
        text = str(widgets_of(node, RECORDED)["text"])
        assert not any(mark in text for mark in ("//", "/*", "{", "}"))


@templates
def test_the_gui_would_not_round_a_templates_numbers(path: Path) -> None:
    for node in template(path)["nodes"]:
        if node["type"] not in RECORDED:
            continue
        specs = RECORDED[node["type"]]["input"]
        for name, spec in {**specs["required"], **specs.get("optional", {})}.items():
            if spec[0] in ("INT", "FLOAT"):
                options = spec[1] if len(spec) > 1 else {}
                step = options.get("step", 1 if spec[0] == "INT" else 0.5)
                value = widgets_of(node, RECORDED)[name]
                steps = (value - options.get("min", 0) % step) / step
                assert steps == pytest.approx(round(steps)), f"{node['title']}.{name}"
