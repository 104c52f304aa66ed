from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import pytest

from talkinghead.errors import ModelsMissing, WorkflowRejected
from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.media.source_video import SourceVideo
from talkinghead.models.manifest import load_manifest
from talkinghead.plan.plan import Plan, make_plan
from talkinghead.plan.request import parse_request
from talkinghead.plan.windows import window
from talkinghead.workflow import template
from talkinghead.workflow.check import check, rejection
from talkinghead.workflow.file_inputs import MODEL_SUFFIXES
from talkinghead.workflow.graph import Graph, keeping_weights
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.lint import traps
from talkinghead.workflow.schemas import Schemas, load_schemas
from talkinghead.workflow.slots import Inputs, WindowInputs

A = {"image_url": "https://example.com/i.jpg", "wav_url": "https://example.com/a.wav", "seed": 7}
TEMPLATES = sorted(path.stem for path in template.template_path("x").parent.glob("*.json"))


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return load_schemas()


def plan(people: int = 1, *, video: bool = False, **fields: Any) -> Plan:
    request: dict[str, Any] = A | fields
    if people > 1:
        del request["wav_url"]
        request["speakers"] = [{"audio_url": A["wav_url"]}] * people
    if video:
        request["video_url"] = request.pop("image_url")
    picture = SourceVideo(640, 480, 9.0, 225, 25.0) if video else Picture(512, 512)
    return make_plan(parse_request(request), [Sound(4.0, 48_000, 2, False)] * people, picture)


def inputs_for(made: Plan) -> Inputs:
    people = len(made.offsets)
    return Inputs(
        picture="job-1/source.mp4" if made.source else "job-1/picture.png",
        speech=tuple(f"job-1/speech_{number}.wav" for number in range(1, people + 1)),
        sound="job-1/sound.wav",
        masks="job-1/masks.gif" if people > 1 else None,
        output_prefix="job-1/video",
    )


def graph_of(made: Plan, schemas: Schemas, profile: str = "gguf-q4") -> Graph:
    models = load_manifest().profile(profile)
    return to_api(template.fill_template(made, inputs_for(made), models, schemas), schemas)


def titles_of(graph: Graph) -> set[str]:
    return {entry["_meta"]["title"] for entry in graph.values()}


def node(graph: Graph, title: str) -> dict[str, Any]:
    found = [entry for entry in graph.values() if entry["_meta"]["title"] == title]
    assert len(found) == 1, f"{len(found)} nodes are called {title}"
    inputs: dict[str, Any] = found[0]["inputs"]
    return inputs


@pytest.mark.parametrize("name", ["infinitetalk_i2v", "infinitetalk_v2v", "draft_i2v"])
def test_a_template_as_it_lies_in_the_folder_fits_the_nodes(name: str, schemas: Schemas) -> None:
    assert check(to_api(template.load_template(name), schemas), schemas) == []


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"fps": 30},
        {"use_speed_lora": False},
        {"mode": "multitalk"},
        {"video": True},
        {"video": True, "video_method": "denoise"},
        {"draft": True},
        {"draft": True, "video": True},
    ],
)
@pytest.mark.parametrize("people", [1, 2, 4])
@pytest.mark.parametrize("profile", ["gguf-q4", "tiny", "tiny-gguf"])
def test_a_filled_template_fits_the_nodes_and_falls_into_no_trap(
    fields: dict[str, Any], people: int, profile: str, schemas: Schemas
) -> None:
    graph = graph_of(plan(people, **fields), schemas, profile)
    assert check(graph, schemas) == []
    assert [str(finding) for finding in traps(graph, schemas)] == []


@pytest.mark.parametrize("people", [1, 2, 3, 4])
@pytest.mark.parametrize("draft", [True, False])
def test_only_those_who_are_there_are_in_the_graph(
    people: int, draft: bool, schemas: Schemas
) -> None:
    graph = graph_of(plan(people, draft=draft), schemas)
    there = {f"Speaker {number} audio" for number in range(1, people + 1)}
    assert {title for title in titles_of(graph) if "audio" in title and "Speaker" in title} == there
    assert ("Speaker masks" in titles_of(graph)) == (people > 1)


def test_multitalk_is_three_widgets_of_the_same_template(schemas: Schemas) -> None:
    graph = graph_of(plan(mode="multitalk"), schemas)
    image = node(graph, "Talking image")
    assert (image["mode"], image["motion_frame"]) == ("multitalk", 25)
    assert node(graph, "Talk model")["model"].startswith("WanVideo_2_1_Multitalk")


def test_frames_on_disk_are_all_that_a_graph_makes_that_has_a_folder_for_them(
    schemas: Schemas,
) -> None:
    made, models = plan(mode="multitalk", long=True), load_manifest().profile("gguf-q4")
    inputs = dataclasses.replace(inputs_for(made), frames_folder="/srv/output/job-1")
    graph = to_api(template.fill_template(made, inputs, models, schemas), schemas)
    assert node(graph, "Talking image")["output_path"] == "/srv/output/job-1"
    assert node(graph, "Talking image")["mode"] == "multitalk", "the other slots stay"
    folder = node(graph, "Frame folder")["source"]
    assert (graph[folder[0]]["_meta"]["title"], folder[1]) == ("Frames", 1)
    assert not titles_of(graph) & {"Video", "Sound", "Cut to length", "Crop to size"}
    assert check(graph, schemas) == []
    assert traps(graph, schemas) == []


def test_keyframes_give_each_window_its_own_reference(schemas: Schemas) -> None:
    graph = graph_of(plan(video=True), schemas)
    assert node(graph, "Source video")["select_every_nth"] == 1, "others are not in the file"
    assert node(graph, "Reference frames")["length"] == 4096
    assert "samples" not in node(graph, "Sampler")
    assert node(graph, "Sampler")["start_step"] == 0


def test_denoise_starts_from_the_encoded_clip(schemas: Schemas) -> None:
    graph = graph_of(plan(video=True, video_method="denoise"), schemas)
    sampler = node(graph, "Sampler")
    assert graph[sampler["samples"][0]]["class_type"] == "WanVideoEncode"
    assert (sampler["start_step"], sampler["add_noise_to_samples"]) == (2, True)
    assert node(graph, "Reference frames")["length"] == 1


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
    assert node(graph, "Speaker 1 audio")["audio"] == "job-1/speech_1.wav"
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
    assert not titles_of(graph) & {"CLIP vision", "CLIP vision model"}
    assert "clip_embeds" not in node(graph, "Talking image")


def test_filling_leaves_the_template_alone(schemas: Schemas) -> None:
    workflow = template.load_template("draft_i2v")
    before = json.dumps(workflow)
    template.fill(workflow, {"Draft": {"seed": 5}, "Sound": None}, schemas)
    assert json.dumps(workflow) == before


def test_a_slot_that_is_not_there_is_named_with_the_nearest(schemas: Schemas) -> None:
    workflow = template.load_template("draft_i2v")
    with pytest.raises(WorkflowRejected, match=r"'Portait'; the nearest is 'Portrait'"):
        template.fill(workflow, {"Portait": {"image": "x"}}, schemas)
    with pytest.raises(WorkflowRejected, match=r"Draft.*'sed'.*'seed'"):
        template.fill(workflow, {"Draft": {"sed": 1}}, schemas)


def test_two_nodes_of_one_title_are_no_slot(schemas: Schemas) -> None:
    workflow = template.load_template("draft_i2v")
    twin = copy.deepcopy(next(n for n in workflow["nodes"] if n.get("title") == "Sound"))
    workflow["nodes"].append(twin | {"id": 999})
    with pytest.raises(WorkflowRejected, match="2 nodes have the title 'Sound'"):
        template.fill(workflow, {"Sound": {"audio": "x"}}, schemas)


def test_a_server_without_the_node_packs_is_told_so(schemas: Schemas) -> None:
    without = {name: schema for name, schema in schemas.items() if not name.startswith("Wan")}
    with pytest.raises(WorkflowRejected, match=r"WanVideoSampler.*node packs") as said:
        template.fill(template.load_template("infinitetalk_i2v"), {}, without)
    assert "own custom_nodes" not in str(said.value)


@pytest.mark.parametrize(
    ("name", "avoidable"), [("infinitetalk_window", True), ("draft_i2v", False)]
)
def test_a_server_without_our_own_nodes_is_told_where_they_are(
    name: str, avoidable: bool, schemas: Schemas
) -> None:
    without = {each: schema for each, schema in schemas.items() if "TalkingHead" not in each}
    with pytest.raises(WorkflowRejected, match=r"own custom_nodes/.*COMFYUI_URL") as said:
        template.fill(template.load_template(name), {}, without)
    assert "custom_nodes.txt" not in str(said.value)
    assert ('A job with "long": false does without' in str(said.value)) is avoidable


@pytest.mark.parametrize("index", [0, 1])
def test_every_window_fits_nodes_that_list_other_latents(index: int, schemas: Schemas) -> None:
    made = plan(long=True)
    at = window(made, index)
    motion = "job-1/1/motion_00001.latent" if index else None
    files = WindowInputs("p.png", "r.png", ("s.wav",), None, motion, "job-1/2")
    live = json.loads(json.dumps(schemas))
    live["LoadLatent"]["input"]["required"]["latent"][0] = ["another.latent"]
    models = load_manifest().profile("gguf-q4")
    graph = to_api(template.fill_window(made, at, files, models, live), live)
    assert ("Motion before" in titles_of(graph)) is bool(index)
    assert check(graph, live) == []
    assert traps(graph, live) == []


@pytest.mark.parametrize(
    ("title", "name", "value", "expected"),
    [
        ("Sampler", "steps", 0, "input steps: is 0, allowed: 1 to"),
        ("Sampler", "steps", "four", "input steps: takes INT, got 'four'"),
        ("Sampler", "steps", "4.0", "input steps: takes INT, got '4.0'"),
        ("Sampler", "steps", None, "input steps: takes INT, got None"),
        ("Sampler", "cfg", 10**400, "input cfg: takes FLOAT, got 1000"),
        ("Sampler", "scheduler", "ddim", "input scheduler: is 'ddim', allowed: unipc"),
        ("Sampler", "model", "x", "input model: takes a link from a WANVIDEOMODEL, got 'x'"),
        (
            "Sampler",
            "model",
            ["404", 0],
            "input model: is linked to ['404', 0], which is not there",
        ),
        ("Sampler", "model", [13, 0], "input model: is linked to [13, 0], which is not there"),
        ("Sampler", "modl", ["13", 0], "input modl: is not an input of WanVideoSampler; the near"),
        ("Video", "crf", "many", "input crf: takes INT, got 'many'"),
        ("Video", "crf", 101, "input crf: is 101, allowed: 0 to 100"),
    ],
)
def test_the_check_names_node_and_input(
    title: str, name: str, value: object, expected: str, schemas: Schemas
) -> None:
    graph = graph_of(plan(), schemas)
    node(graph, title)[name] = value
    problems = check(graph, schemas)
    assert [f"{title} (" in str(p) and expected in str(p) for p in problems] == [True]


def test_the_check_names_a_missing_input_a_wrong_link_and_an_unknown_class(
    schemas: Schemas,
) -> None:
    graph = graph_of(plan(), schemas)
    del node(graph, "Sampler")["steps"]
    node(graph, "Sampler")["image_embeds"] = node(graph, "Sampler")["model"]
    next(e for e in graph.values() if e["_meta"]["title"] == "VAE")["class_type"] = "WanVideoVAE"
    text = "; ".join(map(str, check(graph, schemas)))
    assert "input steps: is required, and missing" in text
    assert "input image_embeds: takes WANVIDIMAGE_EMBEDS, got WANVIDEOMODEL" in text
    assert "no node class WanVideoVAE; the nearest is WanVideoVAELoader" in text


def test_a_model_that_the_server_does_not_list_is_models_missing(schemas: Schemas) -> None:
    live = json.loads(json.dumps(schemas))
    live["WanVideoModelLoader"]["input"]["required"]["model"][0] = ["another.gguf"]
    error = rejection(check(graph_of(plan(), live), live))
    assert isinstance(error, ModelsMissing)
    assert str(error) == "Required models are missing: wan2.1-i2v-14b-480p-Q4_K_M.gguf"


def test_the_profiles_name_only_files_that_the_manifest_lists() -> None:
    manifest = load_manifest()
    for profile in manifest.profiles.values():
        widgets = [value for slot in profile.slots.values() for value in (slot or {}).values()]
        named = {value for value in widgets if str(value).endswith(MODEL_SUFFIXES)}
        assert named | set(profile.talk_models.values()) <= set(manifest.files)


def test_an_unknown_profile_is_named_with_those_that_are_there() -> None:
    with pytest.raises(ModelsMissing, match="MODEL_PROFILE is 'fp99', allowed: auto, gguf-q4, fp8"):
        load_manifest().profile("fp99")


def test_a_server_without_the_node_that_keeps_weights_gets_the_graph_as_it_is(
    schemas: Schemas,
) -> None:
    graph: Graph = {"50": {"class_type": "WanVideoSampler", "inputs": {"model": ["15", 0]}}}
    keeping = keeping_weights(graph, schemas)
    assert keeping["50"]["inputs"]["model"] == ["50-weights", 0]
    assert keeping["50-weights"]["inputs"]["model"] == ["15", 0]
    without = {name: each for name, each in schemas.items() if name != "TalkingHeadKeepWeights"}
    assert keeping_weights(graph, without) == graph


@pytest.mark.parametrize("people", [1, 2])
@pytest.mark.parametrize("video", [False, True])
def test_a_job_needs_no_node_of_boxes_on_the_server(
    people: int, video: bool, schemas: Schemas
) -> None:
    made = plan(people, video=video)
    without = {name: each for name, each in schemas.items() if not name.startswith("TalkingHead")}
    assert graph_of(made, without) == graph_of(made, schemas)
    assert "Speaker boxes" not in titles_of(graph_of(made, without))
    assert ("ref_target_masks" in node(graph_of(made, without), "Audio embeds")) == (people > 1)
