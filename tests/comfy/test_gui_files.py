"""From a job to ComfyUI's GUI: the bundle's workflow, the video that carries it, `make gui`."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import av
import pytest
import requests
from typer.testing import CliRunner

from comfy_client import ComfyClient
from talkinghead.cli.app import app
from talkinghead.cli.gui import LISTED, prepare_folders
from talkinghead.comfy.studio import Studio
from talkinghead.render.job import Job
from talkinghead.render.run import run_job
from talkinghead.settings import PROJECT_DIR
from talkinghead.workflow.gui_file import Workflow, set_widget
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.template import load_template
from tests.conftest import EXAMPLES, write_pan, write_tone
from tests.dynamic_inputs import WORKFLOW
from tests.timing import LAST_RESORT_SECONDS, wait_until


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of the MP4 boxes that follow one another."""
    while len(data) >= 8:
        size, kind = struct.unpack(">I4s", data[:8])
        yield kind, data[8:size]
        data = data[size:]


def metadata(video: bytes) -> dict[str, str]:
    """What the GUI finds in an MP4: the names in moov.udta.meta.keys, the texts in its ilst."""
    moov = dict(boxes(video))[b"moov"]
    udta = dict(boxes(dict(boxes(moov)).get(b"udta", b"")))
    meta = dict(boxes(udta.get(b"meta", b"")[4:]))
    names = [name.decode() for _, name in boxes(meta.get(b"keys", b"")[8:])]
    items = [dict(boxes(item)) for _, item in boxes(meta.get(b"ilst", b""))]
    texts = [item[b"data"][8:].decode() for item in items]
    return dict(zip(names, texts, strict=True)) if names else {}


def video_of(result: Mapping[str, Any]) -> bytes:
    return base64.b64decode(result["video"].partition(",")[2])


@pytest.fixture
def draft(studio: Studio, short_job: dict[str, Any]) -> dict[str, Any]:
    """The result of a draft with its workflow in the bundle and in the video."""
    fields = short_job | {"draft": True, "seed": 7, "bundle": True, "embed_workflow": True}
    result = run_job(Job("for/the gui", fields), studio)
    assert result["status"] == "completed", result
    return result


@pytest.fixture
def bundle(draft: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "bundle.json"
    path.write_text(json.dumps(draft["bundle"]))
    return path


def open_bundle(bundle: Path, *arguments: str) -> tuple[int, str]:
    """Exit code, and the output on one line: long ones are wrapped."""
    ended = CliRunner().invoke(app, ["open", str(bundle), *arguments], env={"COMFYUI_URL": ""})
    return ended.exit_code, " ".join(ended.output.replace("│", " ").split())


def test_a_video_that_shall_carries_the_workflow_that_made_it(draft: dict[str, Any]) -> None:
    carried = json.loads(metadata(video_of(draft))["workflow"])
    assert carried == draft["bundle"]["workflow"]
    assert video_of(draft).index(b"moov") < 64, "the index comes first: the GUI reads 64 MiB"


def test_a_video_carries_no_workflow_unless_asked(
    studio: Studio, short_job: dict[str, Any]
) -> None:
    video = video_of(run_job(Job("plain", short_job | {"draft": True}), studio))
    assert "workflow" not in metadata(video)
    assert b"TalkingHeadDraft" not in video


def test_open_writes_the_guis_file(bundle: Path, tmp_path: Path, draft: dict[str, Any]) -> None:
    code, output = open_bundle(bundle, "--out", str(tmp_path / "new" / "workflow.json"))
    assert code == 0, output
    written = json.loads((tmp_path / "new" / "workflow.json").read_text())
    assert written == draft["bundle"]["workflow"]


def name_in(output: str) -> str:
    """What `open` told to choose."""
    return output.partition("and choose ")[2].partition(" ")[0]


def saved(client: ComfyClient, name: str) -> Workflow:
    url = f"{client.url}/userdata/workflows%2F{name}.json"
    answer = requests.get(url, timeout=LAST_RESORT_SECONDS)
    content: Workflow = answer.json()
    return content


def test_open_puts_the_workflow_into_the_guis_list_and_tells_what_is_missing(
    bundle: Path, client: ComfyClient
) -> None:
    code, output = open_bundle(bundle, "--server", client.url)
    assert code == 0, output
    assert f"Open {client.url}, press w (Workflows) and choose talkinghead-for_the_gui" in output
    assert "missing there: Portrait loads picture.bmp" in output
    assert "--file speech_1.wav=PATH" in output
    url = f"{client.url}/userdata?dir=workflows"
    listed = requests.get(url, timeout=LAST_RESORT_SECONDS).json()
    assert "talkinghead-for_the_gui.json" in listed


def test_with_its_files_an_opened_workflow_runs(bundle: Path, client: ComfyClient) -> None:
    _, output = open_bundle(bundle, "--server", client.url)
    first = name_in(output)
    before = saved(client, first)
    portrait, voice = EXAMPLES / "portrait.jpg", EXAMPLES / "voice.wav"
    files = {"picture.bmp": portrait, "speech_1.wav": voice, "sound.wav": voice}
    options = [text for name, path in files.items() for text in ("--file", f"{name}={path}")]
    code, output = open_bundle(bundle, "--server", client.url, *options)
    assert code == 0 and "missing" not in output, output
    assert saved(client, first) == before, "a person may have edited it"
    graph = to_api(saved(client, name_in(output)), client.object_info())
    outcome = client.run(graph, deadline_seconds=LAST_RESORT_SECONDS)
    assert [file.filename for file in outcome.files] == ["video_00001_.mp4"]
    client.forget(outcome.prompt_id)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "say where to: --out FILE, or --server URL"),
        (["--server", "URL", "--file", "other.wav=x"], "the workflow loads no other.wav"),
        (["--server", "URL", "--file", "sound.wav=/nowhere"], "/nowhere is not a file"),
        (["--server", "URL", "--file", "sound.wav"], "--file sound.wav is not NAME=PATH"),
        (["--server", "http://127.0.0.1:9"], "http://127.0.0.1:9 did not take the workflow"),
    ],
)
def test_what_cannot_be_opened_is_told(
    bundle: Path, client: ComfyClient, arguments: list[str], expected: str
) -> None:
    code, output = open_bundle(bundle, *(each.replace("URL", client.url) for each in arguments))
    assert code == 2 and expected in output, output


def test_a_file_that_is_no_bundle_is_told(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"workflow": {"1": {}}}')
    code, output = open_bundle(tmp_path / "other.json", "--out", str(tmp_path / "x"))
    assert code == 2 and "it holds no GUI workflow" in output


def test_templates_come_as_copies_and_what_was_saved_in_the_gui_stays(tmp_path: Path) -> None:
    workflows = tmp_path / "user" / "default" / "workflows" / LISTED
    assert prepare_folders(tmp_path) == []
    names = {path.name for path in (PROJECT_DIR / "workflows").glob("*.json")}
    assert {path.name for path in workflows.iterdir()} == names
    assert not any(path.is_symlink() for path in workflows.iterdir())
    (workflows / "draft_i2v.json").write_text("{}")
    (workflows / "draft_v2v.json").unlink()
    assert prepare_folders(tmp_path) == [str(workflows / "draft_i2v.json")]
    assert (workflows / "draft_i2v.json").read_text() == "{}"
    assert (workflows / "draft_v2v.json").is_file()


@pytest.fixture
def comfy_dir(tmp_path: Path, studio: Studio) -> Path:
    """A ComfyUI whose own folders nobody uses."""
    source, target = studio.settings.comfyui_dir, tmp_path / "comfyui"

    def own(folder: str, names: list[str]) -> set[str]:
        top = Path(folder) == source
        return {"models", "input", "output", "user", ".git"} & set(names) if top else set()

    shutil.copytree(source, target, ignore=own)
    return target


def test_make_gui_serves_the_templates_ready_to_run_and_ends_with_ctrl_c(
    comfy_dir: Path, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    own = {"COMFYUI_DIR": str(comfy_dir), "COMFYUI_CPU": "1", "COMFYUI_URL": ""}
    log = tmp_path / "log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "talkinghead", "gui", "--port", port]
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **own})
    try:
        client = ComfyClient(f"http://127.0.0.1:{port}")

        def is_open() -> bool:
            assert process.poll() is None, log.read_text()
            return f"Open {client.url}/?template=draft_i2v" in log.read_text()

        wait_until(is_open, "the GUI can be opened")
        url = f"{client.url}/userdata?dir=workflows&recurse=true"
        listed = requests.get(url, timeout=LAST_RESORT_SECONDS).json()
        assert f"{LISTED}/draft_i2v.json" in listed
        schemas = client.object_info()
        gui = load_template("draft_i2v")
        draft = next(node for node in gui["nodes"] if node.get("title") == "Draft")
        set_widget(draft, "num_frames", 10, schemas)
        client.run(to_api(gui, schemas), deadline_seconds=LAST_RESORT_SECONDS)
        assert list((comfy_dir / "output" / "talkinghead").glob("draft_*.mp4"))
        process.send_signal(signal.SIGINT)
        assert process.wait(LAST_RESORT_SECONDS) == 0
        assert "Stopped server" in log.read_text()
    finally:
        process.terminate()
        process.wait(LAST_RESORT_SECONDS)


@pytest.mark.parametrize("name", ["draft_i2v", "draft_v2v", "infinitetalk_i2v", "infinitetalk_v2v"])
def test_a_voice_of_ones_own_is_one_edit_of_a_template_in_the_gui(
    client: ComfyClient, tmp_path: Path, portrait: Path, name: str
) -> None:
    schemas, gui = client.object_info(), load_template(name)
    titled = {node.get("title"): node for node in gui["nodes"]}
    if name.endswith("i2v"):
        set_widget(titled["Portrait"], "image", client.upload(portrait), schemas)
    else:
        video = client.upload(write_pan(tmp_path / "pan.mp4", portrait, fps=25))
        widget = "file" if name == "draft_v2v" else "video"
        set_widget(titled["Source video"], widget, video, schemas)
    voice = client.upload(write_tone(tmp_path / "own.wav", seconds=0.7, rate=48_000))
    set_widget(titled["Speaker 1 audio"], "audio", voice, schemas)
    outcome = client.run(to_api(gui, schemas), deadline_seconds=LAST_RESORT_SECONDS)
    (made,) = (file for file in outcome.files if file.filename.endswith(".mp4"))
    client.download(made, tmp_path / "made.mp4")
    with av.open(str(tmp_path / "made.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 18, "0.7 s at 25 frames a second"
        (sound,) = container.streams.audio
        assert sound.rate == 48_000, "as it was recorded, not as the model hears it"


def test_a_file_with_dynamic_inputs_is_linted_and_replayed(
    client: ComfyClient, tmp_path: Path
) -> None:
    if "COMFY_DYNAMICCOMBO_V3" not in json.dumps(client.object_info()["SaveVideo"]["input"]):
        pytest.skip("this ComfyUI has no dynamic inputs: one of today is in COMFYUI_DIR")
    run, server = CliRunner().invoke, f"--server={client.url}"
    linted = run(app, ["lint", server, str(WORKFLOW)])
    assert "0 errors, 0 warnings" in linted.output, linted.output
    changes = ["Video.codec.encoding.crf=12", "Resize.resize_type=scale dimensions"]
    changes += ["Resize.resize_type.width=128", "Resize.resize_type.height=96"]
    words = [word for each in changes for word in ("--set", each)]
    replayed = run(app, ["replay", str(WORKFLOW), server, "--out", str(tmp_path), *words])
    assert replayed.exit_code == 0, replayed.output
    (video,) = tmp_path.glob("*.mp4")
    with av.open(str(video)) as file:
        stream = file.streams.video[0]
        assert (stream.width, stream.height, stream.frames) == (128, 96, 8)
