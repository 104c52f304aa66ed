"""`talkinghead run --endpoint`: a request with local files, rendered elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from talkinghead.cli.app import app
from tests.clients.runpod import KEY, SHA256, VIDEO, RunPod, completed, failed

INFO = {"width": 64, "height": 64, "frames": 5, "duration_seconds": 0.2, "sha256": SHA256}
SPENT = {
    "timings": {"render": 1.0},
    "processing_time_seconds": 2.0,
    "generation_time_seconds": 1.0,
}
MADE = {"video_info": INFO, "generation_params": {"seed": 7}, **SPENT}


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    for name in ("me.jpg", "a.wav"):
        (tmp_path / name).write_bytes(b"xxx")
    path = tmp_path / "asked.json"
    path.write_text(
        json.dumps({"image_url": "me.jpg", "speakers": [{"audio_url": "a.wav"}], "prompt": "a.wav"})
    )
    return path


def run(api: RunPod, request_file: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.setenv("RUNPOD_API_KEY", "runpods-own")
    monkeypatch.setenv("TALKINGHEAD_TOKEN", KEY)
    out = request_file.with_name("out.mp4")
    arguments = ["run", str(request_file), "--endpoint", api.url, "--out", str(out), "--draft"]
    return CliRunner().invoke(app, arguments)


def test_a_request_is_rendered_on_an_endpoint_and_its_video_comes(
    api: RunPod, request_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.script = [completed(**MADE)]
    said = run(api, request_file, monkeypatch)
    assert said.exit_code == 0, said.output
    assert request_file.with_name("out.mp4").read_bytes() == VIDEO
    fields = api.bodies[0]["input"]
    assert fields["image_url"] == "data:image/jpeg;base64,eHh4"
    assert fields["speakers"][0]["audio_url"].endswith("base64,eHh4")
    assert (fields["prompt"], fields["draft"]) == ("a.wav", True)


def test_what_the_endpoint_says_of_a_failure_is_told(
    api: RunPod, request_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.script = [failed("the picture holds no picture", error_code="media_invalid")]
    said = run(api, request_file, monkeypatch)
    assert said.exit_code == 1
    assert "failed: the picture holds no picture" in said.output


def test_runpods_key_does_not_go_to_another_host(
    api: RunPod, request_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    arguments = ["run", str(request_file), "--endpoint", api.url]
    said = CliRunner().invoke(app, arguments)
    assert said.exit_code == 1
    assert "TALKINGHEAD_TOKEN is not set, or not taken by" in said.output
    assert {*api.keys} == {None}


@pytest.mark.parametrize("where", ["127.0.0.1:8000", "ftp://127.0.0.1"])
def test_what_is_no_endpoint_is_told_at_once(
    request_file: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    for command in (["run", str(request_file), "--endpoint"], ["replay", "x.json", "--endpoint"]):
        said = CliRunner().invoke(app, [*command, where])
        assert said.exit_code in (1, 2)
        assert f"'{where}' is no" in said.output


def test_an_endpoint_needs_its_key(request_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNPOD_API_KEY")
    said = CliRunner().invoke(app, ["run", str(request_file), "--endpoint", "abc123"])
    assert said.exit_code == 2
    assert "RUNPOD_API_KEY" in said.output
