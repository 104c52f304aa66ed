"""The contracts' own example requests, sent to the worker as RunPod runs it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest
import requests

from talkinghead.settings import PROJECT_DIR
from tests.canary import CANARY
from tests.conftest import FileServer, write_pan, write_tone
from tests.contract.conftest import Worker, environment_of
from tests.store import BUCKET, S3Server
from tests.timing import LAST_RESORT_SECONDS

REQUESTS = Path(__file__).parent / "requests"


@pytest.fixture
def served(files: FileServer, portrait: Path, voice: Path) -> FileServer:
    """Every file that the example requests name, behind HTTP."""
    for name in ("portrait.jpg", "person.jpg", "image.jpg", "avatar.jpg", "two_people.jpg"):
        (files.folder / name).write_bytes(portrait.read_bytes())
    for name in ("audio", "speech", "long_audio"):
        (files.folder / f"{name}.wav").write_bytes(voice.read_bytes())
    for number in (1, 2):
        for name in ("audio", "speaker"):
            write_tone(
                files.folder / f"{name}{number}.wav", seconds=0.8 + number / 5, channels=number
            )
    write_pan(files.folder / "input_video.mp4", portrait, seconds=1.0)
    return files


def example(name: str, served: FileServer) -> dict[str, Any]:
    """The request word for word, but for the host of its URLs."""
    text = (REQUESTS / f"{name}.json").read_text(encoding="utf-8")
    text = re.sub(r"https://example\.com/([^\"]+)", lambda found: served.url(found[1]), text)
    fields: dict[str, Any] = json.loads(text)["input"]
    return fields


EXPECTED = {
    "a1_i2v_single": ((480, 854), 1, "infinitetalk", 143),
    "a2_i2v_multi": ((1280, 720), 2, "infinitetalk", 30),
    "a3_v2v_single": ((854, 480), 1, "infinitetalk", 143),
    "a4_v2v_multi": ((1280, 720), 2, "infinitetalk", 30),
    "b1_full": ((400, 704), 2, "multitalk", 55),
    "b2_monologue": ((400, 704), 1, "infinitetalk", 143),
    "b3_conversation": ((400, 704), 2, "multitalk", 55),
    "b4_block_swap": ((720, 1280), 1, "multitalk", 143),
    "b5_quality": ((400, 704), 1, "multitalk", 143),
    "b6_balanced": ((400, 704), 1, "multitalk", 143),
    "c1_public": ((640, 640), 1, "infinitetalk", 143),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_request_of_the_contracts_is_finished(
    worker: Worker, served: FileServer, name: str
) -> None:
    answer = worker.runsync(example(name, served))
    assert answer["status"] == "COMPLETED", answer
    info = answer["output"]["video_info"]
    found = (info["width"], info["height"]), info["audio_files_used"], info["mode"], info["frames"]
    assert found == EXPECTED[name]


@pytest.mark.parametrize("name", ["a2_i2v_multi", "a4_v2v_multi", "b3_conversation"])
def test_every_form_of_request_has_a_draft(worker: Worker, served: FileServer, name: str) -> None:
    answer = worker.runsync(example(name, served) | {"draft": True})
    assert answer["status"] == "COMPLETED", answer
    info = answer["output"]["video_info"]
    size, people, mode, frames = EXPECTED[name]
    assert ((info["width"], info["height"]), info["frames"]) == (size, frames)
    assert (info["audio_files_used"], info["mode"]) == (people, mode)


@pytest.mark.parametrize("draft", [True, False])
def test_contract_a_gets_what_it_was_promised(
    worker: Worker, served: FileServer, draft: bool
) -> None:
    answer = worker.runsync(example("a1_i2v_single", served) | ({"draft": True} if draft else {}))
    assert answer["status"] == "COMPLETED", answer
    result = answer["output"]
    assert result["video"].startswith("data:video/mp4;base64,")
    info = result["video_info"]
    assert (info["width"], info["height"], info["frames"]) == (480, 854, 143)
    assert result["draft"] is draft


@pytest.mark.parametrize("draft", [True, False])
def test_contract_b_gets_what_it_was_promised(
    worker: Worker, served: FileServer, draft: bool
) -> None:
    answer = worker.runsync(example("b2_monologue", served) | ({"draft": True} if draft else {}))
    assert answer["status"] == "COMPLETED", answer
    result = answer["output"]
    assert result["status"] == "completed"
    assert result["processing_time_seconds"] >= result["generation_time_seconds"] > 0
    info, params = result["video_info"], result["generation_params"]
    assert (info["width"], info["height"], info["fps"]) == (400, 704, 25)
    assert (info["mode"], info["audio_files_used"]) == ("infinitetalk", 1)
    assert info["file_size_mb"] > 0
    assert params["positive_prompt"] == "A person speaking naturally"
    assert params["seed"] > 0
    if not draft:
        assert (params["steps"], params["cfg_scale"], params["scheduler"]) == (
            4,
            1.0,
            "flowmatch_distill",
        )
        assert (params["block_swap"], params["speed_lora"]) == (False, True)
        assert params["workflow_version"].startswith("infinitetalk_i2v-")


def test_a_failed_job_is_failed_for_the_platform_too(worker: Worker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # who asks it waits for ever
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/i.jpg"
        answer = worker.runsync({"image_url": url, "resolution": "4k"})
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert answer["status"] == "FAILED"
    assert answer["error"].startswith("Missing required parameter: wav_url")
    assert "resolution is '4k'" in answer["error"]


def test_with_storage_the_result_is_a_url_and_no_secret_is_logged(
    tmp_path: Path, served: FileServer, s3: S3Server
) -> None:
    worker = Worker(tmp_path, environment_of(tmp_path) | s3.environment)
    answer = worker.runsync(
        example("a1_i2v_single", served)
        | {
            "draft": True,
            "max_frame": 50,
            "bundle": True,
            "embed_workflow": True,
        }
    )
    result = answer["output"]
    assert result["video_url"] == result["output_video_url"] and "video" not in result
    got = requests.get(result["video_url"], timeout=LAST_RESORT_SECONDS)
    (tmp_path / "got.mp4").write_bytes(got.content)
    with av.open(str(tmp_path / "got.mp4"), "r") as file:
        assert file.streams.video[0].frames == 50
    assert worker.stop() == 0
    log = worker.log.read_text()
    stored = s3.client().list_objects_v2(Bucket=BUCKET)["Contents"]
    contents = {
        item["Key"].rpartition("/")[2]: s3.client().get_object(Bucket=BUCKET, Key=item["Key"])
        for item in stored
        if result["job_id"] in item["Key"]
    }
    assert set(contents) == {"talkinghead.mp4", "talkinghead.json", "result.json"}
    for name, content in contents.items():
        assert CANARY.encode() not in content["Body"].read(), name
    assert CANARY not in log + json.dumps(result)
    signature = re.findall(r"X-Amz-Signature=([0-9a-f]+)", result["video_url"])[0]
    assert signature not in log
    assert not list((tmp_path / "work").iterdir()), "ComfyUI's folders go when the worker ends"


def test_one_request_can_be_tried_from_the_command_line(tmp_path: Path, served: FileServer) -> None:
    fields = example("a1_i2v_single", served) | {"draft": True, "max_frame": 10}
    run = subprocess.run(
        [sys.executable, "handler.py", "--test_input", json.dumps({"input": fields})],
        cwd=PROJECT_DIR,
        env=os.environ | environment_of(tmp_path),
        capture_output=True,
        text=True,
        timeout=LAST_RESORT_SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "'status': 'completed'" in run.stdout + run.stderr
