"""What the doctor says of a host, as far as no ComfyUI is needed; the rest is in tests/comfy."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from talkinghead.cli.app import app
from talkinghead.comfy.studio import Studio
from talkinghead.doctor import Unfit, ensure_fit, examine
from talkinghead.settings import Settings
from tests.store import S3Server

NO_SERVER = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without ComfyUI, models and GPU."""
    monkeypatch.setenv("COMFYUI_DIR", str(tmp_path / "comfy"))
    monkeypatch.setenv("WORK_DIR", str(tmp_path))
    monkeypatch.setenv("COMFYUI_CPU", "1")


def states(settings: Settings) -> dict[str, str]:
    return {each.name: f"{each.state}: {each.message}" for each in examine(Studio(settings))}


def test_a_host_without_gpu_needs_no_models() -> None:
    found = states(Settings())
    assert found["GPU"].startswith("skipped: none here: only drafts")
    assert found["model files"] == "skipped: drafts need none"
    assert found["disk"].startswith("ok: ")


def test_missing_models_are_named_with_what_to_do() -> None:
    found = states(Settings(model_profile="fp8"))["model files"]
    assert found.startswith("failed: missing or damaged: Wan2_1-I2V-14B-480p_fp8")
    assert "run `talkinghead models fetch`" in found


def test_a_gpu_that_does_not_answer_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert states(Settings(comfyui_cpu=False))["GPU"].startswith("failed: nvidia-smi")


def test_a_comfyui_that_is_not_there_is_a_fault() -> None:
    assert states(Settings())["ComfyUI"].startswith("failed: there is no ComfyUI in")
    found = states(Settings(comfyui_url=NO_SERVER))
    assert found["ComfyUI"].startswith("failed: ")
    assert found["model files"].startswith("skipped: those of the server")


def test_a_bucket_is_written_and_left_as_it_was(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    assert states(Settings())["storage"] == "ok: the bucket videos can be written"
    listed = s3.client().list_objects_v2(Bucket="videos", Prefix="doctor/")
    assert listed["KeyCount"] == 0


def test_a_bucket_that_cannot_be_written_is_a_fault(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (s3.environment | {"S3_SECRET": "another"}).items():
        monkeypatch.setenv(name, value)
    found = states(Settings())["storage"]
    assert found.startswith("failed: the bucket videos cannot be written: ")
    assert "another" not in found


def test_a_worker_that_is_not_fit_says_everything_that_is_missing() -> None:
    with pytest.raises(Unfit, match=r"model files: missing .*; ComfyUI: there is no ComfyUI"):
        ensure_fit(Studio(Settings(model_profile="fp8")))


def test_the_command_shows_a_table_and_fails() -> None:
    result = CliRunner().invoke(app, ["doctor"], env={"COMFYUI_URL": NO_SERVER})
    assert result.exit_code == 1
    assert "ComfyUI" in result.output and "failed" in result.output


def test_the_command_tells_of_settings_that_are_wrong() -> None:
    result = CliRunner().invoke(app, ["doctor"], env={"MODEL_PROFILE": "fp99"})
    assert result.exit_code == 1
    assert "'fp99', allowed: auto, gguf-q4" in " ".join(result.output.split())
