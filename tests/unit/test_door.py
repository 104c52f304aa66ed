"""The worker's door: whatever comes in, what goes out is an answer that can be sent."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from talkinghead.cli.app import app
from talkinghead.comfy.studio import Studio
from talkinghead.errors import MediaInvalid
from talkinghead.net.fetch import Fetcher
from talkinghead.plan.fields import RequestFields
from talkinghead.plan.json_values import encodable, json_fault
from talkinghead.render.job import Job
from talkinghead.render.run import run_job
from talkinghead.render.workflow_job.inputs import fetch_files
from talkinghead.settings import Settings
from talkinghead.worker import handle
from tests.conftest import FileServer

# Nothing is fetched from there: the guard refuses it.
REQUESTS: tuple[dict[str, Any], ...] = (
    {"image_url": "http://127.0.0.1/i.png", "wav_url": "http://127.0.0.1/a.wav"},
    {"image_url": "http://127.0.0.1/i.png", "audio_urls": ["http://127.0.0.1/a.wav"]},
    {"workflow": {"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}}},
    {},
)
TEXTS = st.text(st.characters(exclude_categories=()), max_size=20)  # halves of characters, too
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.just(10**400),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(TEXTS | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)
NAMES = st.sampled_from([*RequestFields.model_fields, "workflow", "files", "wrong"]) | TEXTS
INPUTS = VALUES | st.builds(
    lambda core, more: {**core, **more},
    st.sampled_from(REQUESTS),
    st.dictionaries(NAMES | st.integers(), VALUES, max_size=4),
)


def studio_without_comfyui(**settings: Any) -> Studio:
    studio = Studio(Settings(comfyui_url="http://127.0.0.1:9", **settings))
    studio.fetcher = Fetcher(seconds=5)
    return studio


@pytest.fixture(scope="module")
def studio() -> Studio:
    return studio_without_comfyui(allow_workflows=True)


def sent(answer: Mapping[str, Any]) -> str:
    """The answer as the SDK sends it, and stricter."""
    return json.dumps(answer, ensure_ascii=False, allow_nan=False).encode().decode()


@given(name=TEXTS, data=INPUTS)
def test_whatever_comes_the_answer_can_be_sent(studio: Studio, name: str, data: object) -> None:
    answer = run_job(Job(name, data), studio)
    sent(answer)
    assert answer["error"] and answer["error_code"] != "internal_error"


@given(VALUES)
def test_what_is_let_in_can_be_sent_and_what_is_not_can_be_made_so(value: object) -> None:
    if json_fault(value) is None:
        sent({"a": value})
        assert encodable({"a": value}) == {"a": value}
    sent(encodable({"a": value}))


@pytest.mark.parametrize("allow_workflows", [True, False])
def test_half_an_emoji_is_an_invalid_request_of_the_worker(allow_workflows: bool) -> None:
    studio = studio_without_comfyui(allow_workflows=allow_workflows)
    for more in ({"prompt": "hi \ud83d"}, {"\ud83d": 1}, {"aspect_ratio": "\ud83d"}):
        answer = asyncio.run(handle({"id": "a\ud83d", "input": REQUESTS[0] | more}, studio))
        assert (answer["error_code"], answer["job_id"]) == ("invalid_request", "a\\ud83d")
        assert "half of a character" in sent(answer)


def test_a_workflow_or_a_file_name_with_half_an_emoji_is_refused(studio: Studio) -> None:
    graph = {"1": {"class_type": "CLIPTextEncode", "inputs": {"text": "\ud83d"}}}
    files = {"\ud83d.png": "http://127.0.0.1/"}
    for data in ({"workflow": graph}, {**REQUESTS[2], "files": files}):
        answer = run_job(Job("w", data), studio)
        assert answer["error_code"] == "invalid_request"
        assert "half of a character" in sent(answer)


def test_a_workflow_job_tells_what_it_cost_if_it_names_the_price(studio: Studio) -> None:
    graph = {"1": {"class_type": "CLIPTextEncode", "inputs": {"text": "a"}}}
    assert "cost" not in run_job(Job("w", {"workflow": graph}), studio)
    assert run_job(Job("w", {"workflow": graph, "price_per_hour": 3.6e6}), studio)["cost"] > 0


def in_file(folder: Path, content: str) -> Path:
    path = folder / "request.json"
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (r'"hi \ud83d"', "half of a character"),
        ("NaN", "JSON has no NaN"),
        ("[" * 300 + "]" * 300, "nested deeper than 100"),
        ("[" * 900 + "]" * 900, ""),
        ("[" * 100_000 + "]" * 100_000, ""),
    ],
)
def test_the_command_line_refuses_what_json_cannot_carry(
    tmp_path: Path, value: str, sentence: str
) -> None:
    url = '"http://127.0.0.1/\\ud83d"' if "ud83d" in value else '"a.wav"'
    path = in_file(tmp_path, f'{{"image_url": "a.png", "wav_url": {url}, "prompt": {value}}}')
    for command in (["estimate"], ["run", "--draft"], ["replay", "--dry-run", "--out", "out"]):
        got = CliRunner().invoke(app, [*command, str(path)], env={"COLUMNS": "400"})
        assert got.exit_code in (1, 2) and isinstance(got.exception, SystemExit)
        assert sentence in got.output


# Every input's fault in one answer


def test_a_job_is_told_of_all_files_that_cannot_be_had(studio: Studio) -> None:
    fields = {
        "image_url": "http://127.0.0.1/none.png",
        "audio_urls": ["http://127.0.0.1/a", "data:audio/wav;base64,QQ"],
    }
    for more in ({}, {"dry_run": True}):
        answer = run_job(Job("all", fields | more), studio)
        told = [each["field"] for each in answer["details"]["problems"]]
        assert told == ["image_url", "audio_urls.0", "audio_urls.1"]
        assert answer["error_code"] == "url_blocked"


TEXT = f"data:text/plain;base64,{base64.b64encode(b'no picture and no sound' * 9).decode()}"


def test_a_job_is_told_of_all_files_that_cannot_be_opened(
    studio: Studio, voice: Path, tmp_path: Path
) -> None:
    sound = f"data:audio/wav;base64,{base64.b64encode(voice.read_bytes()).decode()}"
    people = [{"audio_url": TEXT}, {"audio_url": sound, "mask_url": TEXT}, {"mask_url": TEXT}]
    fields = {"image_base64": TEXT, "speakers": people, "draft": True}
    expected = ["image_base64", "speakers.0", "speakers.1.mask_url", "speakers.2.mask_url"]
    for more in ({}, {"dry_run": True}):
        answer = run_job(Job("all", fields | more), studio)
        assert (answer["error_code"], answer["stage"]) == ("media_invalid", "prepare")
        assert answer["details"]["field"] == "image_base64"
        problems = answer["details"]["problems"]
        assert [each["field"] for each in problems] == expected
        assert all(each["message"].startswith(f"{each['field']}: ") for each in problems)
        assert answer["error"] == "; ".join(each["message"] for each in problems)
    for command in ("estimate", "run"):
        path = in_file(tmp_path, json.dumps(fields))
        got = CliRunner().invoke(app, [command, str(path)], env={"COLUMNS": "900"})
        assert all(f"{field}: " in got.output for field in expected)


def test_files_that_cannot_be_had_and_those_that_cannot_be_opened_are_told_in_one_answer(
    files: FileServer, tmp_path: Path
) -> None:
    studio = studio_without_comfyui(allow_private_urls=True)
    studio.fetcher = Studio(studio.settings).fetcher
    people = [{"audio_url": files.url("none.wav")}, {"audio_url": TEXT, "mask_url": TEXT}]
    fields = {"image_base64": TEXT, "speakers": people}
    expected = ["speakers.0", "image_base64", "speakers.1", "speakers.1.mask_url"]
    for more in ({}, {"dry_run": True}):
        answer = run_job(Job("all", fields | more), studio)
        problems = answer["details"]["problems"]
        assert [each["field"] for each in problems] == expected
        assert problems[0]["error_code"] == "download_failed"
        assert answer["error"] == "; ".join(each["message"] for each in problems)
        assert (answer["error_code"], answer["details"]["field"]) == ("media_invalid", expected[1])
    path = in_file(tmp_path, json.dumps(fields | {"image_base64": None, "image_url": "none.png"}))
    for command in ("estimate", "run"):
        got = CliRunner().invoke(app, [command, str(path), "--draft"], env={"COLUMNS": "900"})
        assert all(f"{field}: " in got.output for field in ["image_url", *expected[2:]])


def test_of_a_file_that_has_not_come_when_another_failed_nothing_is_said(
    files: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("talkinghead.net.fetch.GRACE_SECONDS", 0.1)
    studio = studio_without_comfyui(allow_private_urls=True)
    studio.fetcher = Studio(studio.settings).fetcher
    with socket.create_server(("127.0.0.1", 0)) as silent:
        slow = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        answer = run_job(Job("slow", {"image_url": slow, "wav_url": files.url("none.wav")}), studio)
    assert [each["field"] for each in answer["details"]["problems"]] == ["wav_url"]


def test_a_workflow_job_is_told_in_one_answer_too(files: FileServer, tmp_path: Path) -> None:
    studio = studio_without_comfyui(allow_private_urls=True)
    studio.fetcher = Studio(studio.settings).fetcher
    urls = {"a.png": TEXT, "b.wav": files.url("none.wav"), "c.wav": TEXT}
    with pytest.raises(MediaInvalid) as caught:
        fetch_files(urls, tmp_path / "files", studio, lambda: None)
    told = [each["field"] for each in caught.value.details["problems"]]
    assert told == ["files.b.wav", "files.a.png", "files.c.wav"]


def test_the_command_line_is_told_of_all_files_that_cannot_be_had(tmp_path: Path) -> None:
    path = in_file(tmp_path, '{"image_url": "none.png", "wav_url": " none.wav ", "draft": true}')
    for command in ("estimate", "run"):
        got = CliRunner().invoke(app, [command, str(path)], env={"COLUMNS": "400"})
        output = " ".join(got.output.split())
        assert "image_url: " in output and "none.wav could not be read" in output


# The texts that contract B documents begin ours; the others: tests/comfy/test_jobs.py,
# tests/unit/test_workflow.py


def test_without_any_voice_contract_b_says_that_none_could_be_downloaded(
    files: FileServer, portrait: Path
) -> None:
    studio = studio_without_comfyui(allow_private_urls=True)
    studio.fetcher = Studio(studio.settings).fetcher
    begin = "No valid audio files could be downloaded: "
    (files.folder / "a.wav").write_bytes(b"RIFF")
    (files.folder / "a.jpg").write_bytes(portrait.read_bytes())
    fields = {
        "image_url": files.url("a.jpg"),
        "audio_urls": [files.url("none.wav"), files.url("none.wav")],
    }
    answer = run_job(Job("b", fields), studio)
    assert answer["error"].startswith(begin + "audio_urls.0: ")
    assert (answer["error_code"], answer["retryable"]) == ("download_failed", True)
    with_one = {**fields, "audio_urls": [files.url("none.wav"), files.url("a.wav")]}
    assert run_job(Job("b", with_one), studio)["error"].startswith("audio_urls.0: ")
    contract_a = {"image_url": files.url("a.jpg"), "wav_url": files.url("none.wav")}
    assert run_job(Job("b", contract_a), studio)["error"].startswith("wav_url: ")


def test_without_its_picture_or_voice_contract_b_says_that_a_parameter_is_missing(
    studio: Studio,
) -> None:
    for fields in ({}, {"image_url": "http://h/"}, {"audio_urls": ["http://h/"]}):
        assert run_job(Job("b", fields), studio)["error"].startswith("Missing required parameter")
