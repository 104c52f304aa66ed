"""`talkinghead bench` on a real ComfyUI, with the doubles."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from talkinghead.bench import configurations
from talkinghead.bench import run as bench_run
from talkinghead.cli.app import app
from talkinghead.comfy import studio as studios
from talkinghead.media.looking import frames_of
from talkinghead.models.gpu import Host, read_host
from talkinghead.settings import Settings
from tests.comfy.conftest import DOUBLES_DIR


def with_sage(settings: Settings) -> Host:
    """The host, as if SageAttention ran on it."""
    return replace(read_host(settings), sage=True, has_sage=True)


def test_a_bench_measures_what_a_job_would_take_and_chooses_no_broken_picture(
    control: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the plain configuration SageAttention, as if it ran, but black."""
    monkeypatch.setattr(configurations, "TABLE", configurations.TABLE[:1])
    for module in (bench_run, studios):
        monkeypatch.setattr(module, "read_host", with_sage)
    (tmp_path / "volume").mkdir()
    for name, text in {
        **{"MODEL_PROFILE": "fp8", "EXTRA_NODE_DIRS": str(DOUBLES_DIR)},
        **{"WORK_DIR": str(tmp_path / "work"), "VOLUME_DIR": str(tmp_path / "volume")},
    }.items():
        monkeypatch.setenv(name, text)
    control(black_with=["sageattn"])

    path = tmp_path / "bench.json"
    options = ["--tiny", "--size", "256x256", "--json", str(path), "--save"]
    result = CliRunner().invoke(app, ["bench", *options])
    assert result.exit_code == 0, result.output
    rows = {each["name"]: each for each in json.loads(path.read_text())["rows"]}
    assert {each["state"] for each in rows.values()} == {"measured"}
    assert rows.keys() == {"plain", "sageattn"}
    plain = rows["plain"]
    assert plain["window_seconds"] > 0 and plain["ram_gib"] > 0.1 and plain["defect"] is None
    assert "window 1 is black" in rows["sageattn"]["defect"]
    assert rows["sageattn"]["ssim"] < 0.5
    for name in rows:
        assert sum(1 for _ in frames_of(tmp_path / f"{name}.mp4")) == 81
    (saved,) = json.loads((tmp_path / "volume" / "talkinghead-tuning.json").read_text())
    assert saved["settings"]["attention"] == "sdpa"
    assert "sageattn: window 1 is black" in result.output
    assert not list((tmp_path / "work").glob("*/comfyui.log"))
