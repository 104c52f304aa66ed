"""Workflows as people have them run as a job and in replay where ComfyUI itself runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from comfy_client import ComfyClient, ComfyError
from talkinghead.cli.app import app
from talkinghead.comfy.studio import Studio
from talkinghead.render.job import Job
from talkinghead.render.run import run_job
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.schemas import load_known_schemas
from tests.conftest import FileServer
from tests.timing import LAST_RESORT_SECONDS

COMBINE = {
    **{"frame_rate": 25, "loop_count": 0, "filename_prefix": "x", "format": "video/h264-mp4"},
    **{"pix_fmt": "yuv420p", "crf": 19, "save_metadata": False, "trim_to_audio": False},
    **{"pingpong": False, "save_output": True},
}
PREVIEW = {"hidden": False, "params": {"filename": "x_00001.mp4", "subfolder": "", "format": "x"}}


def scaled(size: dict[str, Any] | None = None, **saved: Any) -> Graph:
    """A picture, scaled and saved."""
    scale = {"upscale_method": "bicubic", "width": 64, "height": 64, "crop": "center"}
    scale |= {"image": ["1", 0], **(size or {})}
    return {
        "1": {"inputs": {"image": "me.png"}, "class_type": "LoadImage"},
        "3": {"inputs": scale, "class_type": "ImageScale"},
        "2": {
            "inputs": {"images": ["3", 0], "filename_prefix": "me", **saved},
            "class_type": "SaveImage",
        },
    }


def video(**more: Any) -> Graph:
    """A video of a picture."""
    inputs = {"images": ["3", 0], **COMBINE, **more}
    return {
        "1": {"inputs": {"image": "me.png", "upload": "image"}, "class_type": "LoadImage"},
        "3": {"inputs": {"image": ["1", 0], "amount": 5}, "class_type": "RepeatImageBatch"},
        "2": {"inputs": inputs, "class_type": "VHS_VideoCombine"},
    }


def with_loose_node() -> Graph:
    """A node that somebody left lying about, not linked at all."""
    return {**scaled(), "9": {"inputs": {}, "class_type": "ImageScale"}}


TAKEN: dict[str, tuple[Graph, str | None]] = {
    "numbers as text": (scaled({"width": "64", "height": 64.0}, filename_prefix=7), None),
    "a boolean as a number": (scaled({"width": {"__value__": "64"}, "height": True}), None),
    "half a pixel": (scaled({"width": 64.5}), "is 64.5, of which ComfyUI makes 64"),
    "an upload button": (video(), "input upload: is not an input of LoadImage, and left out"),
    "the preview of VHS": (video(videopreview=PREVIEW), "input videopreview: is not an input of"),
    "no sound": (video(audio=None, crf="19"), "input upload"),
    "a switch of a format": (video(save_metadata="false"), "is 'false', which counts as true"),
    "a boolean as text": (video(save_output="false"), "is 'false', which counts as true"),
    "a loose node": (with_loose_node(), "node 9): leads to no output"),
    "any value": ({"1": {"inputs": {"source": 5}, "class_type": "PreviewAny"}}, None),
}
REFUSED: dict[str, Graph] = {
    "a fraction as text": scaled({"width": "64.5"}),
    "a word": scaled({"width": "wide"}),
    "nothing": scaled({"width": None}),
    "too small": scaled({"width": "-1"}),
    "a number for a node's id": scaled({"image": [1, 0]}),
    "a link of three": scaled({"image": ["1", 0, 0]}),
    "a choice that is none": scaled({"crop": "top"}),
}


@pytest.fixture
def picture(files: FileServer) -> dict[str, str]:
    """A picture for a job."""
    Image.new("RGB", (96, 96), "teal").save(files.folder / "me.png")
    return {"me.png": files.url("me.png")}


@pytest.fixture
def run(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    allowing = studio.settings.model_copy(update={"allow_workflows": True})
    monkeypatch.setattr(studio, "settings", allowing)

    def run(workflow: object, files: dict[str, str]) -> dict[str, Any]:
        used = files if "me.png" in json.dumps(workflow) else {}
        return run_job(Job("people", {"workflow": workflow, "files": used}), studio)

    return run


def straight(studio: Studio, graph: Graph, folder: Path) -> None:
    """Post the graph to ComfyUI as it is, the picture in its folder."""
    with studio.comfy("unused", lambda: None) as turn:
        turn.client.upload(folder / "me.png", subfolder="")
        turn.client.run(json.loads(json.dumps(graph)), deadline_seconds=LAST_RESORT_SECONDS)


@pytest.mark.parametrize("name", TAKEN)
def test_what_comfyui_runs_a_job_runs_with_a_note(
    name: str,
    studio: Studio,
    files: FileServer,
    picture: dict[str, str],
    run: Callable[..., dict[str, Any]],
) -> None:
    graph, note = TAKEN[name]
    straight(studio, graph, files.folder)
    result = run(graph, picture)
    assert result["status"] == "completed", result
    assert result["outputs"]
    assert any(note in each for each in result["warnings"]) if note else result["warnings"] == []


@pytest.mark.parametrize("name", REFUSED)
def test_what_comfyui_refuses_a_job_refuses(
    name: str,
    studio: Studio,
    files: FileServer,
    picture: dict[str, str],
    run: Callable[..., dict[str, Any]],
) -> None:
    with pytest.raises(ComfyError):
        straight(studio, REFUSED[name], files.folder)
    result = run(REFUSED[name], picture)
    assert result["error_code"] == "workflow_rejected", result


@pytest.mark.parametrize("form", ["a body", "a text", "a body as text", "metadata"])
def test_a_workflow_in_another_form_runs(
    form: str, picture: dict[str, str], run: Callable[..., dict[str, Any]]
) -> None:
    graph = scaled()
    forms: dict[str, object] = {
        "a body": {"prompt": graph, "client_id": "abc", "extra_data": {}},
        "a text": json.dumps(graph),
        "a body as text": "\ufeff" + json.dumps({"prompt": graph}),
        "metadata": {"prompt": json.dumps(graph), "workflow": "{}"},
    }
    result = run(forms[form], picture)
    assert result["status"] == "completed", result


@pytest.mark.parametrize("name", ["numbers as text", "the preview of VHS", "a loose node"])
def test_what_comfyui_runs_replay_runs(name: str, client: ComfyClient, tmp_path: Path) -> None:
    folder = tmp_path / "flows"
    folder.mkdir()
    Image.new("RGB", (96, 96), "teal").save(folder / "me.png")
    text = json.dumps({"prompt": TAKEN[name][0]})
    (folder / "flow.json").write_text("\ufeff" + text, encoding="utf-8")
    words = ["replay", str(folder), "--server", client.url, "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert [each.suffix for each in (tmp_path / "out").iterdir() if each.suffix in (".png", ".mp4")]


def test_every_class_of_comfyui_itself_is_known_without_a_server(client: ComfyClient) -> None:
    """Those of the doubles are of packs; of a newer ComfyUI there may be more."""
    known = load_known_schemas()
    own = {
        name
        for name, schema in client.object_info().items()
        if str(schema.get("python_module")).split(".")[0] in ("nodes", "comfy_extras")
    }
    assert len(own) > 300
    assert own <= known.keys()
