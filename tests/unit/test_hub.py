"""RunPod Hub's two files, held against the code; and what an operator reads of each error."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from talkinghead.errors import JobError
from talkinghead.models.manifest import load_manifest
from talkinghead.plan.request import parse_request
from talkinghead.settings import PROJECT_DIR, Settings

# Read by others: RunPod's SDK, and the client of the models' hub.
NOT_OURS = {"RUNPOD_INIT_TIMEOUT", "HF_TOKEN"}
RUNPODS_TIMEOUT_SECONDS = 600  # of an endpoint's executions, if nobody changes it
TEST_MS = 600_000  # the Hub counts milliseconds


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((PROJECT_DIR / ".runpod" / name).read_text("utf-8"))
    return content


HUB, TESTS = read("hub.json"), read("tests.json")
ENV: list[dict[str, Any]] = HUB["config"]["env"]
INPUTS: dict[str, dict[str, Any]] = {each["key"]: each["input"] for each in ENV if "input" in each}


def in_environment(value: object, field: dict[str, Any]) -> str:
    """The string that the Hub sets for a value of the form."""
    if isinstance(value, bool):
        text: str = field["trueValue" if value else "falseValue"]
        return text
    return str(value)


def settings_with(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> Settings:
    for key, value in values.items():
        monkeypatch.setenv(key, value)
    return Settings()


def test_the_hub_files_say_what_the_hub_asks_for() -> None:
    assert {"title", "description", "type", "category", "config"} <= HUB.keys()
    assert (HUB["type"], HUB["category"]) == ("serverless", "video")
    config = HUB["config"]
    assert {"runsOn", "containerDiskInGb", "gpuCount", "gpuIds", "env"} <= config.keys()
    assert config["runsOn"] == "GPU" and isinstance(config["containerDiskInGb"], int)
    for name in ("handler.py", "Dockerfile", "README.md"):
        assert (PROJECT_DIR / name).is_file()


def test_every_variable_of_the_hub_is_one_that_is_read() -> None:
    keys = [each["key"] for each in ENV]
    assert len(keys) == len(set(keys))
    assert {key.lower() for key in set(keys) - NOT_OURS} <= Settings.model_fields.keys()


def test_every_input_of_the_hub_is_well_formed() -> None:
    types = {"string": str, "number": int, "boolean": bool}
    for key, field in INPUTS.items():
        assert {"name", "type", "description", "default"} <= field.keys(), key
        assert type(field["default"]) is types[field["type"]], key
        values = [option["value"] for option in field.get("options", [])]
        assert not values or field["default"] in values, key
        assert field.get("min", 0) <= (field["default"] if field["type"] == "number" else 0), key


def test_the_defaults_of_the_hub_and_every_option_are_valid_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    defaults = {key: in_environment(each["default"], each) for key, each in INPUTS.items()}
    settings = settings_with(monkeypatch, defaults)
    assert settings.fetch_models and settings.bucket is None and settings.model_profile == "fp8"
    for key, field in INPUTS.items():
        for option in field.get("options", []):
            assert getattr(settings_with(monkeypatch, {key: option["value"]}), key.lower())


def test_the_presets_of_the_hub_set_its_own_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    for preset in HUB["config"]["presets"]:
        assert preset["defaults"].keys() <= INPUTS.keys()
        settings_with(monkeypatch, preset["defaults"])


def test_the_hub_offers_the_profiles_of_the_manifest() -> None:
    offered = {option["value"] for option in INPUTS["MODEL_PROFILE"]["options"]}
    real = {name for name, each in load_manifest().profiles.items() if each.needs}
    assert offered == {"auto"} | real


def test_what_the_hub_tests_is_a_small_draft_that_needs_no_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for case in TESTS["tests"]:
        assert {"name", "input"} <= case.keys()
        request = parse_request(case["input"])
        assert request.draft and 0 < case["input"]["max_frame"] <= 25
        assert 60_000 <= case["timeout"] <= TEST_MS
    values = {each["key"]: each["value"] for each in TESTS["config"]["env"]}
    assert {key.lower() for key in values} <= Settings.model_fields.keys()
    settings = settings_with(monkeypatch, values)
    assert settings.drafts_only and not settings.fetch_models
    assert "MODEL_PROFILE" in values, "the image has one of its own"


def test_the_hub_takes_every_host_that_can_run_the_image() -> None:
    """Those of the build's CUDA, and of every newer one: a driver runs what is older."""
    (default,) = re.findall(r"^ARG CUDA=(\S+)$", dockerfile(), re.MULTILINE)
    known = ["12.8", "12.9", "13.0", "13.1", "13.2", "13.3"]
    allowed = HUB["config"]["allowedCudaVersions"]
    assert allowed == TESTS["config"]["allowedCudaVersions"] == known[known.index(default) :]
    bases = re.findall(
        r"^FROM nvidia/cuda:(\d+\.\d+)\S+@sha256:\w{64} AS (\S+)$", dockerfile(), re.M
    )
    assert [f"cuda-{version}" for version, name in bases if "cuda" in name] == [
        name for _, name in bases if "cuda" in name
    ]


def test_the_image_of_the_hub_is_the_image_with_models() -> None:
    written = runpy.run_path(str(PROJECT_DIR / "scripts" / "write-docs"))["hub_dockerfile"]()
    assert (PROJECT_DIR / ".runpod" / "Dockerfile").read_text("utf-8") == written, (
        "run scripts/write-docs"
    )
    assert INPUTS["MODEL_PROFILE"]["default"] in re.findall(r'ARG PROFILE="(\w+)"', written)


def test_no_preset_of_the_hub_leaves_another_preset_s_choice() -> None:
    """Each sets the same inputs: a deployer who changes his mind gets none of the first."""
    presets = [preset["defaults"] for preset in HUB["config"]["presets"]]
    assert {frozenset(each) for each in presets} == {
        frozenset({"MODEL_PROFILE", "FETCH_MODELS", "COMFYUI_CPU"})
    }


def test_a_job_of_the_hub_is_stopped_by_us_before_runpod_does() -> None:
    assert INPUTS["JOB_TIMEOUT_SECONDS"]["default"] < RUNPODS_TIMEOUT_SECONDS


def test_the_hub_s_test_needs_no_other_host() -> None:
    for case in TESTS["tests"]:
        for name in ("image_url", "wav_url"):
            assert case["input"][name].startswith("data:")


def dockerfile() -> str:
    return (PROJECT_DIR / "Dockerfile").read_text("utf-8")


def sections(page: Path) -> dict[str, str]:
    """Each `## ` heading of a Markdown page, with its text."""
    parts = re.split(r"^## (.+)$", page.read_text("utf-8"), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_troubleshooting_has_a_section_for_every_error_code_and_no_other() -> None:
    page = sections(PROJECT_DIR / "docs" / "troubleshooting.md")
    codes = {each.strip("`") for each in page if each.startswith("`")}
    assert codes == {error.code for error in JobError.__subclasses__()}


@pytest.mark.parametrize("error", JobError.__subclasses__(), ids=lambda error: str(error.code))
def test_troubleshooting_says_what_to_do_and_whether_to_try_again(error: type[JobError]) -> None:
    text = sections(PROJECT_DIR / "docs" / "troubleshooting.md")[f"`{error.code}`"]
    assert "**Do:**" in text
    assert ("Retryable." in text) is error.retryable
    for name in re.findall(r"`([A-Z][A-Z0-9_]{3,})`", text):
        assert name.lower() in Settings.model_fields or name in NOT_OURS, name
