from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from talkinghead import workflow
from talkinghead.convert import Graph, Schemas, to_api
from talkinghead.errors import ModelsMissing, WorkflowRejected
from talkinghead.media import Sound
from talkinghead.models import load_manifest, profile_slots
from talkinghead.plan import Plan, make_plan
from talkinghead.request import parse_request

INPUTS = workflow.Inputs("job-1/picture.png", "job-1/speech.wav", "job-1/sound.wav", "job-1/video")
A = {"image_url": "https://example.com/i.jpg", "wav_url": "https://example.com/a.wav", "seed": 7}


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return workflow.load_schemas()


def plan(**fields: Any) -> Plan:
    return make_plan(parse_request(A | fields), Sound(4.0, 48_000, 2))


def graph_of(made: Plan, schemas: Schemas, profile: str = "gguf-q4") -> Graph:
    template = workflow.load_template(made.template)
    if not made.draft:
        template = workflow.fill(template, profile_slots(load_manifest(), profile), schemas)
    return to_api(workflow.fill(template, workflow.slots_of(made, INPUTS), schemas), schemas)


def node(graph: Graph, title: str) -> dict[str, Any]:
    found = [entry for entry in graph.values() if entry["_meta"]["title"] == title]
    assert len(found) == 1, f"{len(found)} nodes are called {title}"
    inputs: dict[str, Any] = found[0]["inputs"]
    return inputs


@pytest.mark.parametrize("name", ["infinitetalk_i2v", "draft_i2v"])
def test_a_template_as_it_lies_in_the_folder_fits_the_nodes(name: str, schemas: Schemas) -> None:
    assert workflow.check(to_api(workflow.load_template(name), schemas), schemas) == []


@pytest.mark.parametrize("fields", [{}, {"draft": True}, {"fps": 30}, {"use_speed_lora": False}])
@pytest.mark.parametrize("profile", ["gguf-q4", "tiny"])
def test_a_filled_template_fits_the_nodes(
    fields: dict[str, Any], profile: str, schemas: Schemas
) -> None:
    assert workflow.check(graph_of(plan(**fields), schemas, profile), schemas) == []


def test_every_number_of_the_plan_is_in_its_slot(schemas: Schemas) -> None:
    made = plan(
        prompt="she sings", negative_prompt="blur", steps=8, cfg_scale=2.5, scheduler="unipc",
        use_block_swap=True, blocks_to_swap=15, speed_lora_strength=0.8, fps=30,
    )  # fmt: skip
    graph = graph_of(made, schemas)
    sampler = node(graph, "Sampler")
    assert (sampler["steps"], sampler["cfg"], sampler["seed"], sampler["scheduler"]) == (
        8,
        2.5,
        7,
        "unipc",
    )
    assert node(graph, "Prompt")["text"] == "she sings"
    assert node(graph, "Negative prompt")["text"] == "blur"
    assert node(graph, "Block swap")["blocks_to_swap"] == 15
    assert node(graph, "Speed LoRA")["strength"] == 0.8
    assert node(graph, "Portrait")["image"] == "job-1/picture.png"
    assert node(graph, "Speaker 1 audio")["audio"] == "job-1/speech.wav"
    assert node(graph, "Sound")["audio"] == "job-1/sound.wav"
    assert (node(graph, "Talking image")["width"], node(graph, "Talking image")["height"]) == (
        480,
        864,
    )
    crop = node(graph, "Crop to size")
    assert [crop[name] for name in ("width", "height", "x", "y")] == [480, 854, 0, 5]
    assert node(graph, "Cut to length")["split_index"] == 100
    assert node(graph, "Audio embeds")["num_frames"] == 101
    video = node(graph, "Video")
    assert (video["frame_rate"], video["crf"], video["filename_prefix"]) == (25, 0, "job-1/video")
    assert video["save_metadata"] is False


def test_the_templates_own_negative_prompt_stays_when_none_is_given(schemas: Schemas) -> None:
    assert len(node(graph_of(plan(), schemas), "Negative prompt")["text"]) > 100


def test_the_lora_off_is_strength_0_behind_the_same_nodes(schemas: Schemas) -> None:
    graph = graph_of(plan(use_speed_lora=False), schemas)
    assert node(graph, "Speed LoRA")["strength"] == 0
    assert node(graph, "Apply LoRA")["lora"]


def test_a_profile_can_take_nodes_out(schemas: Schemas) -> None:
    graph = graph_of(plan(), schemas, "tiny")
    titles = {entry["_meta"]["title"] for entry in graph.values()}
    assert not titles & {"CLIP vision", "CLIP vision model"}
    assert "clip_embeds" not in node(graph, "Talking image")


def test_filling_leaves_the_template_alone(schemas: Schemas) -> None:
    template = workflow.load_template("draft_i2v")
    before = json.dumps(template)
    workflow.fill(template, {"Draft": {"seed": 5}, "Sound": None}, schemas)
    assert json.dumps(template) == before


def test_a_slot_that_is_not_there_is_named_with_the_nearest(schemas: Schemas) -> None:
    template = workflow.load_template("draft_i2v")
    with pytest.raises(WorkflowRejected, match=r"'Portait'; the nearest is 'Portrait'"):
        workflow.fill(template, {"Portait": {"image": "x"}}, schemas)
    with pytest.raises(WorkflowRejected, match=r"Draft.*'sed'.*'seed'"):
        workflow.fill(template, {"Draft": {"sed": 1}}, schemas)


def test_two_nodes_of_one_title_are_no_slot(schemas: Schemas) -> None:
    template = workflow.load_template("draft_i2v")
    twin = copy.deepcopy(next(n for n in template["nodes"] if n.get("title") == "Sound"))
    template["nodes"].append(twin | {"id": 999})
    with pytest.raises(WorkflowRejected, match="2 nodes have the title 'Sound'"):
        workflow.fill(template, {"Sound": {"audio": "x"}}, schemas)


def test_a_server_without_the_node_packs_is_told_so(schemas: Schemas) -> None:
    without = {name: schema for name, schema in schemas.items() if not name.startswith("Wan")}
    with pytest.raises(WorkflowRejected, match=r"WanVideoSampler.*node packs"):
        workflow.fill(workflow.load_template("infinitetalk_i2v"), {}, without)


@pytest.mark.parametrize(
    ("title", "name", "value", "expected"),
    [
        ("Sampler", "steps", 0, "input steps: is 0, allowed: 1 to"),
        ("Sampler", "steps", "4", "input steps: takes INT, got '4'"),
        ("Sampler", "cfg", True, "input cfg: takes FLOAT, got True"),
        ("Sampler", "scheduler", "ddim", "input scheduler: is 'ddim', allowed: unipc"),
        ("Sampler", "force_offload", 1, "input force_offload: takes true or false, got 1"),
        ("Sampler", "model", "x", "input model: takes a link from a WANVIDEOMODEL, got 'x'"),
        ("Sampler", "model", ["404", 0], "input model: is linked to node 404, which is not there"),
        ("Sampler", "stepps", 4, "input stepps: is not an input of WanVideoSampler; the nearest"),
        ("Video", "crf", 101, "input crf: is 101, allowed: 0 to 100"),
        ("Prompt", "text", 5, "input text: takes a string, got 5"),
    ],
)
def test_the_check_names_node_and_input(
    title: str, name: str, value: object, expected: str, schemas: Schemas
) -> None:
    graph = graph_of(plan(), schemas)
    node(graph, title)[name] = value
    problems = workflow.check(graph, schemas)
    assert [f"{title} (" in str(p) and expected in str(p) for p in problems] == [True]


def test_the_check_names_a_missing_input_a_wrong_link_and_an_unknown_class(
    schemas: Schemas,
) -> None:
    graph = graph_of(plan(), schemas)
    del node(graph, "Sampler")["steps"]
    node(graph, "Sampler")["image_embeds"] = node(graph, "Sampler")["model"]
    next(e for e in graph.values() if e["_meta"]["title"] == "VAE")["class_type"] = "WanVideoVAE"
    text = "; ".join(map(str, workflow.check(graph, schemas)))
    assert "input steps: is required, and missing" in text
    assert "input image_embeds: takes WANVIDIMAGE_EMBEDS, got WANVIDEOMODEL" in text
    assert "no node class WanVideoVAE; the nearest is WanVideoVAELoader" in text


def test_a_model_that_the_server_does_not_list_is_models_missing(schemas: Schemas) -> None:
    live = json.loads(json.dumps(schemas))
    live["WanVideoModelLoader"]["input"]["required"]["model"][0] = ["another.gguf"]
    error = workflow.rejection(workflow.check(graph_of(plan(), live), live))
    assert isinstance(error, ModelsMissing)
    assert str(error) == "Required models are missing: wan2.1-i2v-14b-480p-Q4_K_M.gguf"


def test_the_profiles_name_only_files_that_the_manifest_lists() -> None:
    manifest = load_manifest()
    for slots in manifest.profiles.values():
        named = {
            value
            for widgets in slots.values()
            for value in (widgets or {}).values()
            if str(value).endswith(workflow.MODEL_SUFFIXES)
        }
        assert named <= set(manifest.files)


def test_an_unknown_profile_is_named_with_those_that_are_there() -> None:
    with pytest.raises(ModelsMissing, match="MODEL_PROFILE is 'fp99', allowed: gguf-q4, tiny"):
        profile_slots(load_manifest(), "fp99")
