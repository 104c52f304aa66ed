"""Workflow jobs on a real ComfyUI, whose GPU nodes are doubles."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
import requests
from PIL import Image

from talkinghead.comfy.studio import Studio
from talkinghead.delivery.stores import Stores
from talkinghead.net.guard import UrlGuard
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.render.run import run_job
from talkinghead.settings import Settings
from talkinghead.workflow.template import load_template
from tests import hostile, strangers
from tests.conftest import FileServer
from tests.sounds import plain
from tests.store import S3Server
from tests.timing import LAST_RESORT_SECONDS

Graph = dict[str, dict[str, Any]]


@pytest.fixture
def allowing(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> Studio:
    """The studio of a worker that takes workflows; ComfyUI remembers none."""
    with studio.comfy("unused", lambda: None) as turn:
        requests.post(
            f"{turn.client.url}/history", json={"clear": True}, timeout=LAST_RESORT_SECONDS
        )
    settings = studio.settings.model_copy(update={"allow_workflows": True})
    monkeypatch.setattr(studio, "settings", settings)
    return studio


@pytest.fixture
def served(files: FileServer, portrait: Path, voice: Path) -> FileServer:
    (files.folder / "portrait.jpg").write_bytes(portrait.read_bytes())
    (files.folder / "voice.wav").write_bytes(voice.read_bytes())
    return files


@pytest.fixture
def many(graph: Graph) -> Graph:
    """A graph of core nodes with outputs of all kinds: pictures, a video, a sound, a text."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "me.jpg"}},
        "2": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": "my/picture"},
            "_meta": {"title": "My picture"},
        },
        "3": {"class_type": "LoadAudio", "inputs": {"audio": "voice.wav"}},
        "4": {
            "class_type": "SaveAudio",
            "inputs": {"audio": ["3", 0], "filename_prefix": "sound"},
        },
        "5": {
            "class_type": "CreateVideo",
            "inputs": {"images": ["1", 0], "fps": 25.0, "audio": ["3", 0]},
        },
        "6": {
            "class_type": "SaveVideo",
            "inputs": {
                **{"video": ["5", 0], "filename_prefix": "video"},
                **{"format": "mp4", "codec": "h264"},
            },
        },
        "7": {"class_type": "PreviewAny", "inputs": {"source": ["8", 0]}},
        "8": {"class_type": "PrimitiveInt", "inputs": {"value": 42}},
    }


def run(studio: Studio, workflow: object, job_id: str = "raw/1", **fields: Any) -> dict[str, Any]:
    return run_job(Job(job_id, {"workflow": workflow, **fields}), studio)


def urls(served: FileServer, **names: str) -> dict[str, str]:
    return {name.replace("_", "."): served.url(target) for name, target in names.items()}


def content(output: dict[str, Any]) -> bytes:
    return base64.b64decode(output["data"].partition(",")[2])


def left_in_comfyui(studio: Studio) -> set[str]:
    """Files in its folders, once it has let go of the last job."""
    with studio.comfy("unused", lambda: None):
        work = next(studio.settings.work_dir.glob("comfyui-*"))
        folders = [work / name for name in ("input", "output", "temp")]
        return {str(p) for folder in folders for p in folder.rglob("*") if p.is_file()}


def queued_and_done(studio: Studio) -> tuple[int, int]:
    with studio.comfy("unused", lambda: None) as turn:
        queue = requests.get(turn.client.url + "/queue", timeout=LAST_RESORT_SECONDS).json()
        history = requests.get(turn.client.url + "/history", timeout=LAST_RESORT_SECONDS).json()
    return len(queue["queue_running"] + queue["queue_pending"]), len(history)


@pytest.mark.usefixtures("all_events")
def test_all_that_a_graph_makes_is_delivered_and_nothing_is_left(
    allowing: Studio, served: FileServer, many: Graph
) -> None:
    before = left_in_comfyui(allowing)
    files = urls(served, me_jpg="portrait.jpg", voice_wav="voice.wav")
    seen: list[Progress] = []
    job = Job("raw/1", {"workflow": many, "files": files}, report=seen.append)
    result = run_job(job, allowing)
    assert result["status"] == "completed" and result["job_id"] == "raw/1", result
    outputs = {each["kind"]: each for each in result["outputs"]}
    assert set(outputs) == {"image", "audio", "video", "text"}
    assert (outputs["text"]["node"], outputs["text"]["text"]) == ("Preview as Text", "42")
    picture = outputs["image"]
    assert picture["node"] == "My picture" and picture["filename"].startswith("picture_")
    assert Image.open(io.BytesIO(content(picture))).size == (512, 512)
    assert hashlib.sha256(content(picture)).hexdigest() == picture["sha256"]
    assert len(content(outputs["audio"])) == outputs["audio"]["size"]
    with av.open(io.BytesIO(content(outputs["video"])), "r") as video:
        assert len(video.streams.audio) == 1
    assert outputs["video"]["data"].startswith("data:video/mp4;base64,")
    assert any(each.stage == "render" and each.fraction > 0.5 for each in seen)
    assert [each.percent for each in seen] == sorted(each.percent for each in seen)
    assert left_in_comfyui(allowing) == before
    assert queued_and_done(allowing) == (0, 0)


def test_a_sound_of_eight_channels_does_not_crash_comfyui(
    allowing: Studio, many: Graph, served: FileServer
) -> None:
    (served.folder / "eight.flac").write_bytes(plain("flac", channels=8))
    sound = {name: many[name] for name in ("3", "4")}
    result = run(allowing, sound, files=urls(served, voice_wav="eight.flac"))
    assert result["status"] == "completed", result
    (output,) = result["outputs"]
    with av.open(io.BytesIO(content(output)), "r") as file:
        assert file.streams.audio[0].codec_context.name == "flac"


def test_a_gui_file_of_ours_runs_with_files_of_the_callers(
    allowing: Studio, served: FileServer
) -> None:
    template = load_template("infinitetalk_i2v")
    files = urls(served, portrait_jpg="portrait.jpg", voice_wav="voice.wav")
    result = run(allowing, template, files={**files, "spare.png": served.url("portrait.jpg")})
    assert result["status"] == "completed", result
    assert [each["kind"] for each in result["outputs"]] == ["video"]
    assert result["outputs"][0]["node"] == "Video"
    assert result["warnings"] == ["files.spare.png is used by no node"]


def test_the_same_job_twice_is_run_twice(allowing: Studio, graph: Graph) -> None:
    graph["4"] = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    results = [run(allowing, graph) for _ in range(2)]
    sums = [[each.get("sha256") for each in result["outputs"]] for result in results]
    assert len(sums[0]) == 5 and sums[0] == sums[1], results


def test_workflows_are_off_unless_the_settings_say_otherwise(studio: Studio, graph: Graph) -> None:
    result = run(studio, graph)
    assert (result["error_code"], result["stage"]) == ("invalid_request", "understand")
    assert "ALLOW_WORKFLOWS=true" in result["error"]


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"class_type": "SaveImages", "inputs": {}}, "no node class SaveImages; the nearest is "),
        ({"class_type": "LoadImage", "inputs": {"image": "me.png"}}, "not in files"),
        ({"class_type": "LoadImage", "inputs": {"image": "/etc/passwd"}}, "not in files"),
        (
            {"class_type": "PreviewAny", "inputs": {"source": ["2", 9]}},
            "is linked to output 9, which is not there",
        ),
        (
            {
                "class_type": "SaveImage",
                "inputs": {"images": ["1", 0], "filename_prefix": "../../up"},
            },
            "may leave ComfyUI's output folder",
        ),
    ],
)
def test_a_graph_that_would_fail_or_reach_out_is_refused_and_nothing_is_queued(
    allowing: Studio, graph: Graph, node: dict[str, Any], expected: str
) -> None:
    graph["9"] = {**node, "_meta": {"title": "Odd one"}}
    if node["class_type"] == "LoadImage":  # what leads to no output is not run, nor asked for files
        graph["10"] = {"class_type": "PreviewImage", "inputs": {"images": ["9", 0]}}
    result = run(allowing, graph, files={"a.png": "http://127.0.0.1:9/never-asked"})
    assert (result["error_code"], result["stage"]) == ("workflow_rejected", "understand"), result
    assert expected in result["error"] and "Odd one" in result["error"]
    assert queued_and_done(allowing) == (0, 0)


def test_a_file_that_does_not_come_or_is_no_picture_is_named(
    allowing: Studio, served: FileServer, many: Graph
) -> None:
    files = urls(served, me_jpg="none.jpg", voice_wav="voice.wav")
    absent = run(allowing, many, files=files)
    assert absent["error_code"] == "download_failed"
    assert absent["error"].startswith("files.me.jpg: ")
    odd = run(allowing, many, files=files | {"me.jpg": served.url("voice.wav")})
    assert odd["error_code"] == "media_invalid"
    assert odd["error"].startswith("files.me.jpg: the file is not a picture")


@pytest.mark.parametrize("name", ["photo.heic", "photo.avif", "renamed.jpg", "cut.jpg"])
def test_what_a_phone_or_a_browser_saves_is_opened_by_the_nodes(
    allowing: Studio, files: FileServer, name: str
) -> None:
    make = {"heic": "a HEIC", "avif": "an AVIF", "jpg": "a turned HEIC"}[name.rpartition(".")[2]]
    photo = strangers.CUT_JPEG[:-2] if name == "cut.jpg" else strangers.PICTURES[make][0]()
    (files.folder / name).write_bytes(photo)
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "p"}},
    }
    result = run(allowing, graph, files={name: files.url(name)})
    with Image.open(io.BytesIO(content(result["outputs"][0]))) as image:
        size = {"renamed.jpg": (120, 160), "cut.jpg": (640, 480)}.get(name, strangers.SIZE)
        assert image.size == size
        pixel = image.convert("RGB").getpixel((20, 20))
    assert pixel == pytest.approx(strangers.LEFT, abs=12)


def test_an_m4v_is_a_video_to_the_nodes(allowing: Studio, files: FileServer) -> None:
    (files.folder / "film.m4v").write_bytes(hostile.video())
    graph = {
        "1": {"class_type": "LoadVideo", "inputs": {"file": "film.m4v"}},
        "2": {
            "class_type": "SaveVideo",
            "inputs": {
                **{"video": ["1", 0], "filename_prefix": "v", "format": "mp4", "codec": "h264"}
            },
        },
    }
    result = run(allowing, graph, files={"film.m4v": files.url("film.m4v")})
    assert [each["filename"].endswith(".mp4") for each in result["outputs"]] == [True], result


def test_outputs_too_large_for_the_result_are_refused(
    allowing: Studio, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowing, "stores", Stores(Settings(max_inline_mb=0.0001)))
    result = run(allowing, graph)
    assert (result["error_code"], result["stage"]) == ("result_too_large", "deliver")


def test_a_bucket_gets_every_file_under_the_jobs_id(
    allowing: Studio, s3: S3Server, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(allowing, "stores", Stores(Settings(), guard=UrlGuard(blocked=())))
    result = run(allowing, graph, "raw-s3")
    pictures = [each for each in result["outputs"] if each["kind"] == "image"]
    assert s3.keys("raw-s3/") == sorted(f"raw-s3/{each['filename']}" for each in pictures)
    for each in pictures:
        answer = requests.get(each["url"], timeout=LAST_RESORT_SECONDS)
        assert hashlib.sha256(answer.content).hexdigest() == each["sha256"]
        assert answer.headers["Content-Type"] == "image/png"


def test_a_cancelled_workflow_is_stopped(
    allowing: Studio, served: FileServer, held: Callable[[], None]
) -> None:
    files = urls(served, portrait_jpg="portrait.jpg", voice_wav="voice.wav")
    cancelled = threading.Event()

    def report(progress: Progress) -> None:
        if progress.message == "Sampler":
            held()
            cancelled.set()

    fields = {"workflow": load_template("infinitetalk_i2v"), "files": files}
    result = run_job(Job("raw/cancelled", fields, report, cancelled), allowing)
    assert (result["error_code"], result["stage"]) == ("cancelled", "render"), result
    assert queued_and_done(allowing) == (0, 0)


def test_models_are_kept_for_the_next_job(
    allowing: Studio, served: FileServer, control: Callable[..., None]
) -> None:
    files = urls(served, portrait_jpg="portrait.jpg", voice_wav="voice.wav")
    run(allowing, load_template("infinitetalk_i2v"), files=files)
    control(WanVideoModelLoader={"action": "raise", "message": "loaded again"})
    again = run(allowing, load_template("infinitetalk_i2v"), files=files)
    assert again["status"] == "completed", again
