"""Workflows as people have them: what ComfyUI runs all the same is checked and run, with a note.

Of each case here ComfyUI 0.3.75 and 0.33.0 were seen to take it (tests/comfy/test_peoples_workflows
does so), unless it says otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from talkinghead.cli.app import app
from talkinghead.errors import InvalidRequest
from talkinghead.render.workflow_job.graph import read_graph
from talkinghead.render.workflow_job.paths import path_problems, set_paths
from talkinghead.render.workflow_job.request import read_request
from talkinghead.replay.runs import Wanted, plan_runs
from talkinghead.replay.sources import read_source
from talkinghead.settings import PROJECT_DIR, Settings
from talkinghead.workflow.check import check
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.lint import lint_workflow
from talkinghead.workflow.schemas import Schemas, load_known_schemas, load_schemas


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return load_schemas()


def graph(size: dict[str, Any] | None = None, **prefix: Any) -> Graph:
    """A picture, scaled and saved."""
    scale = {"upscale_method": "bicubic", "width": 64, "height": 64, "crop": "center"}
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "me.png"}},
        "3": {"class_type": "ImageScale", "inputs": {"image": ["1", 0], **scale, **(size or {})}},
        "2": {
            "class_type": "SaveImage",
            "inputs": {"images": ["3", 0], "filename_prefix": "me", **prefix},
        },
    }


def load_image(name: str) -> dict[str, Any]:
    return {"class_type": "LoadImage", "inputs": {"image": name}}


def found(content: object, schemas: Schemas) -> list[str]:
    return [str(each) for each in lint_workflow(content, schemas)]


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({"width": "64"}, {"width": 64}),
        ({"width": " 6_4 "}, {"width": 64}),
        ({"width": 64.0}, {"width": 64}),
        ({"width": True}, {"width": 1}),
        ({"width": {"__value__": "64"}}, {"width": 64}),
        ({"crop": {"__value__": "center"}}, {"crop": "center"}),
    ],
)
def test_numbers_are_converted_as_comfyui_converts_them(
    given: dict[str, Any], made: dict[str, Any], schemas: Schemas
) -> None:
    assert check(graph(given), schemas) == [] == found(graph(given), schemas)
    read, said = read_graph(graph(given), schemas)
    assert read["3"]["inputs"] == graph(made)["3"]["inputs"] and said == []
    assert type(read["3"]["inputs"]["width"]) is int


@pytest.mark.parametrize("given", ["64.0", "", "wide", None, {"a": 1}, float("nan"), 1e999])
def test_what_int_does_not_take_is_refused_as_comfyui_refuses_it(
    given: object, schemas: Schemas
) -> None:
    (misfit,) = check(graph({"width": given}), schemas)
    assert f"input width: takes INT, got {given!r}: " in str(misfit)


def test_a_range_holds_for_what_comes_of_a_text(schemas: Schemas) -> None:
    (misfit,) = check(graph({"width": "-1"}), schemas)
    assert "input width: is -1, allowed: 0 to" in str(misfit)


def test_a_prefix_that_is_a_number_goes_to_the_jobs_folder_all_the_same(schemas: Schemas) -> None:
    read, _ = read_graph(graph(filename_prefix=7), schemas)
    assert set_paths(read, {}, "job-1")["2"]["inputs"]["filename_prefix"] == "job-1/7"


@pytest.mark.parametrize(
    ("class_type", "name", "value", "said"),
    [
        ("ImageScale", "width", 64.7, "input width: is 64.7, of which ComfyUI makes 64"),
        ("SaveImage", "filename_prefix", None, "is None, of which ComfyUI makes the text 'None'"),
        ("WanVideoDecode", "enable_vae_tiling", "false", "is 'false', which counts as true"),
    ],
)
def test_a_conversion_that_nobody_expects_is_told(
    class_type: str, name: str, value: object, said: str, schemas: Schemas
) -> None:
    node = {"class_type": class_type, "inputs": {name: value}}
    (warning,) = [each for each in found({"1": node}, schemas) if each.startswith("warning")]
    assert said in warning


@pytest.mark.parametrize(
    ("given", "made"), [("false", True), (0, True), ("False", False), (False, False)]
)
def test_a_switch_of_a_video_format_is_what_vhs_makes_of_it(
    given: object, made: bool, schemas: Schemas
) -> None:
    inputs = {"format": "video/h264-mp4", "save_metadata": given, "crf": "19"}
    node = {"class_type": "VHS_VideoCombine", "inputs": inputs}
    read, said = read_graph({"1": node}, schemas)
    assert read["1"]["inputs"] == {**inputs, "save_metadata": made}
    assert any("which counts as true" in each for each in said) is made
    assert not any("save_metadata" in str(each) for each in check({"1": node}, schemas))


BUTTONS = [
    ("LoadImage", {"image": "me.png"}, "upload", "image"),
    ("VHS_LoadVideo", {"video": "me.mp4"}, "choose video to upload", "image"),
    ("VHS_VideoCombine", {}, "videopreview", {"params": {"filename": "x.mp4", "type": "output"}}),
]


@pytest.mark.parametrize(("class_type", "inputs", "name", "value"), BUTTONS)
def test_what_old_frontends_wrote_for_their_buttons_is_left_out_with_a_note(
    class_type: str, inputs: dict[str, Any], name: str, value: object, schemas: Schemas
) -> None:
    node = {"class_type": class_type, "inputs": {**inputs, name: value}}
    without = {"class_type": class_type, "inputs": inputs}
    assert check({"1": node}, schemas) == check({"1": without}, schemas)
    read, said = read_graph({"1": node}, schemas)
    assert read["1"]["inputs"] == inputs
    note = f"input {name}: is not an input of {class_type}, and left out"
    assert len(said) == 1 and note in said[0]
    assert any(note in each for each in found({"1": node}, schemas) if "warning" in each)


def test_a_misspelt_input_is_told_with_the_nearest(schemas: Schemas) -> None:
    (said,) = found(graph({"widht": 8}), schemas)
    assert "warning" in said and "left out; the nearest is width" in said


def test_no_value_that_a_class_does_not_name_reaches_a_node_of_a_job(schemas: Schemas) -> None:
    """VHS_VideoCombine hands over whatever it gets, so this one would be opened."""
    node = {
        "class_type": "VHS_VideoCombine",
        "inputs": {"images": ["1", 0], "audio_file": "/etc/x"},
    }
    read, _ = read_graph({"1": graph()["1"], "2": node}, schemas)
    assert "audio_file" not in read["2"]["inputs"]


def test_a_node_that_leads_to_no_output_need_not_be_whole(schemas: Schemas) -> None:
    loose = {"8": {"class_type": "ImageScale", "inputs": {}}}
    loose |= {"9": {"class_type": "ImageScale", "inputs": {"image": ["8", 0]}}}
    (said,) = found({**graph(), **loose}, schemas)
    assert said == "warning: 9 (ImageScale, node 9): leads to no output: ComfyUI does not run it"
    read, notes = read_graph({**graph(), **loose}, schemas)
    assert read.keys() == graph().keys() and len(notes) == 1


def test_an_unknown_class_is_refused_wherever_it_is(schemas: Schemas) -> None:
    loose = {"9": {"class_type": "FromAPack", "inputs": {}}}
    assert "no node class FromAPack" in "; ".join(found({**graph(), **loose}, schemas))


@pytest.mark.parametrize(
    ("class_type", "name", "value", "fits"),
    [
        ("PreviewAny", "source", 5, True),
        ("VHS_VideoCombine", "audio", None, True),
        ("VHS_VideoCombine", "audio", "voice.wav", False),
        ("SaveImage", "images", None, False),
    ],
)
def test_a_value_in_the_place_of_a_link(
    class_type: str, name: str, value: object, fits: bool, schemas: Schemas
) -> None:
    node = {"class_type": class_type, "inputs": {name: value}}
    said = [each for each in found({"1": node}, schemas) if "takes a link from" in each]
    assert (said == []) is fits


def test_a_path_in_the_place_of_a_link_is_not_for_a_job(schemas: Schemas) -> None:
    node = {"class_type": "PreviewAny", "inputs": {"source": "/etc/passwd"}}
    read, _ = read_graph({"1": node}, schemas)
    assert [str(each) for each in path_problems(read, schemas, {})] != []


def test_several_choices_of_one_list(schemas: Schemas) -> None:
    options = {"options": ["a", "b"], "multiselect": True}
    own: dict[str, Any] = {**schemas}
    own |= {"Many": {"input": {"required": {"x": ["COMBO", options]}}, "output": []}}
    for value, fits in ((["a", "b"], True), (["a", "z"], False)):
        node = {"class_type": "Many", "inputs": {"x": {"__value__": value}}}
        assert (check({"1": node}, own) == []) is fits


def test_a_seed_that_is_a_text_is_set_and_told(tmp_path: Path, schemas: Schemas) -> None:
    path = tmp_path / "a.json"
    node = {"class_type": "WanVideoSampler", "inputs": {"seed": "123"}}
    path.write_text(json.dumps({"1": node}))
    for seed, expected in (("keep", 123), (7, 7)):
        wanted = Wanted({}, [], seed, "{stem}-{seed}")
        plan = plan_runs([read_source(path)], wanted, schemas, remote=False)
        assert plan.problems == []
        (run,) = plan.runs
        assert run.seed == run.content["1"]["inputs"]["seed"] == expected


def forms(content: Graph) -> dict[str, bytes]:
    text = json.dumps(content)
    return {
        "as ComfyUI saves it": text.encode(),
        "with a byte order mark": text.encode("utf-8-sig"),
        "as PowerShell writes it": text.encode("utf-16"),
        "the body of POST /prompt": json.dumps({"client_id": "a", "prompt": content}).encode(),
        "a text": json.dumps(text).encode(),
        "the metadata of a picture": json.dumps({"prompt": text, "workflow": "{}"}).encode(),
    }


@pytest.mark.parametrize("form", forms({}))
def test_a_file_in_any_form_is_linted_and_replayed(form: str, tmp_path: Path) -> None:
    path = tmp_path / "flow.json"
    path.write_bytes(forms(graph())[form])
    source = read_source(path)
    assert (source.kind, source.content) == ("workflow", graph())
    result = CliRunner().invoke(app, ["lint", str(path)])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    "wrap", [lambda job: job, lambda job: {"input": job}, lambda job: job["workflow"]]
)
def test_of_a_job_with_a_workflow_the_workflow_is_linted(
    wrap: Callable[[Any], Any], tmp_path: Path
) -> None:
    path = tmp_path / "job.json"
    named = {"input": graph()["1"]}  # a node may have any id
    for content, code in [
        (named, 0),
        (graph(), 0),
        (graph() | {"9": {"class_type": "No", "inputs": {}}}, 1),
    ]:
        path.write_text(json.dumps(wrap({"workflow": content, "files": {}})))
        result = CliRunner().invoke(app, ["lint", str(path)])
        assert result.exit_code == code, result.output


@pytest.mark.parametrize("form", forms({}))
def test_a_job_may_bring_its_workflow_in_any_form(form: str) -> None:
    workflow = json.loads(forms(graph())[form])
    on = Settings(allow_workflows=True)
    assert read_request({"workflow": workflow}, on).workflow == graph()


def test_a_text_with_half_of_a_character_is_no_workflow() -> None:
    text = json.dumps({"1": {"class_type": "X", "inputs": {"text": "a \ud83d"}}})
    with pytest.raises(InvalidRequest, match="workflow is neither"):
        read_request({"workflow": text}, Settings(allow_workflows=True))


def test_the_name_of_a_file_may_be_too_long_for_any(tmp_path: Path) -> None:
    path = tmp_path / "flow.json"
    path.write_text(json.dumps(graph() | {"1": load_image("x" * 300 + ".png")}))
    result = CliRunner().invoke(app, ["lint", str(path)])
    assert result.exit_code == 0, result.output


def test_a_list_that_a_person_wrote_keeps_its_number() -> None:
    combo = {"class_type": "CustomCombo", "inputs": {"choice": "b", "index": 1}}
    shown = {"class_type": "PreviewAny", "inputs": {"source": ["1", 1]}}
    read, said = read_graph({"1": combo, "2": shown}, load_known_schemas())
    assert read["1"]["inputs"] == combo["inputs"] and said == []


def test_a_request_whose_prompt_reads_like_json_is_still_a_request(tmp_path: Path) -> None:
    path = tmp_path / "request.json"
    fields = {"prompt": '{"a": "person"}', "image_url": "http://x/a.png"}
    path.write_text(json.dumps(fields))
    assert (read_source(path).kind, read_source(path).content) == ("request", fields)


@pytest.mark.parametrize(
    ("depth", "code", "said"), [(200, 1, "neither a GUI workflow"), (100_000, 2, "too deep")]
)
def test_json_nested_too_deep_is_told_and_no_traceback(
    depth: int, code: int, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "deep.json"
    deep = "[" * depth + "]" * depth
    path.write_text(json.dumps(graph({"x": 0})).replace('"x": 0', f'"x": {deep}'))
    result = CliRunner().invoke(app, ["lint", str(path)])
    assert result.exit_code == code and said in result.output


def test_lint_without_a_server_says_so_and_knows_comfyuis_own_classes(tmp_path: Path) -> None:
    path = tmp_path / "flow.json"
    loader = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "mine.safetensors"}}
    values = {"seed": 1, "steps": 20, "cfg": 8.0, "sampler_name": "euler", "scheduler": "normal"}
    links = {"model": ["1", 0], "positive": ["3", 0], "negative": ["3", 0]}
    more = {"latent_image": ["4", 0], "denoise": 1.0}
    sampler = {"class_type": "KSampler", "inputs": {**values, **links, **more}}
    text = {"class_type": "CLIPTextEncode", "inputs": {"text": "a", "clip": ["1", 1]}}
    empty = {"width": 512, "height": 512, "batch_size": 1}
    content = {
        "1": loader,
        "2": sampler,
        "3": text,
        "4": {"class_type": "EmptyLatentImage", "inputs": empty},
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["2", 0], "vae": ["1", 2]}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "x"}},
    }
    path.write_text(json.dumps(content))
    result = CliRunner().invoke(app, ["lint", str(path)])
    assert result.exit_code == 0, result.output
    said, count = result.output.splitlines()
    assert said.startswith("no server was asked: nodes are those of ComfyUI 0.33.0")
    assert count == "1 file, 0 errors, 0 warnings"


def test_the_worker_does_not_read_what_is_recorded_for_lint() -> None:
    """Its own nodes do for a template; the rest is large."""
    assert len(load_known_schemas()) > 5 * len(load_schemas())
    source = (PROJECT_DIR / "talkinghead" / "render").rglob("*.py")
    worker = [*source, *(PROJECT_DIR / "talkinghead" / "comfy").rglob("*.py")]
    assert not any("load_known_schemas" in path.read_text() for path in worker)


def test_a_recorded_list_of_files_takes_any_name() -> None:
    known = load_known_schemas()
    for kind, name in (("VAELoader", "vae_name"), ("UNETLoader", "unet_name")):
        said = found({"1": {"class_type": kind, "inputs": {name: "x.safetensors"}}}, known)
        assert not any(name in each for each in said)
