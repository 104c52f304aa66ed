"""`talkinghead bench --tiny` on the real node packs, with the tiny models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from talkinghead.bench import configurations
from talkinghead.cli.app import app
from tests.real.test_real_nodes import missing

pytestmark = pytest.mark.skipif(bool(missing), reason=f"not there: {', '.join(missing)}")


@pytest.mark.timeout(1800)
def test_a_bench_on_the_cpu_measures_and_finds_the_frames_of_swapped_blocks_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the table one line, and the profile in GGUF, whose frames are others."""
    swapped = [each for each in configurations.TABLE if each.name == "40 blocks swapped"]
    monkeypatch.setattr(configurations, "TABLE", tuple(swapped))
    monkeypatch.setenv("WORK_DIR", str(tmp_path / "work"))
    path = tmp_path / "bench.json"
    result = CliRunner().invoke(app, ["bench", "--tiny", "--json", str(path)])
    assert result.exit_code == 0, result.output
    rows = {each["name"]: each for each in json.loads(path.read_text())["rows"]}
    assert [*rows] == ["plain", "40 blocks swapped", "profile tiny-gguf"]
    assert {each["state"] for each in rows.values()} == {"measured"}, result.output
    swap, gguf = rows["40 blocks swapped"], rows["profile tiny-gguf"]
    assert (swap["psnr_db"], swap["ssim"]) == (None, 1.0)
    assert 0.8 < gguf["ssim"] < 1.0
    assert "Detected model in_channels" in (tmp_path / "plain.log").read_text()
