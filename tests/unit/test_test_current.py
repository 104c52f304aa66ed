"""scripts/test-current: which ComfyUI it takes, and that doubles and real packs never meet."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.test_install_comfyui import commit, git

PROJECT = Path(__file__).resolve().parents[2]

# The script has no ending, so that it cannot be imported.
script: dict[str, Any] = runpy.run_path(str(PROJECT / "scripts" / "test-current"))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str, list[str]]]:
    """The ComfyUI of each run of pytest, what it was to test, and the packs that were there."""
    runs: list[tuple[Path, str, list[str]]] = []

    def pytest(comfyui: Path, environ: dict[str, str], *arguments: str) -> int:
        assert (comfyui / "main.py").is_file()
        packs = sorted(path.name for path in (comfyui / "custom_nodes").glob("*/"))
        runs.append((comfyui, arguments[0], packs))
        return len(runs)

    monkeypatch.setitem(script["main"].__globals__, "pytest", pytest)
    return runs


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    for name in ("models/vae", "custom_nodes/mine", "comfy/input"):
        (tmp_path / "ComfyUI" / name).mkdir(parents=True)
    (tmp_path / "ComfyUI" / "main.py").touch()
    (tmp_path / "ComfyUI" / "comfy" / "input" / "a.py").touch()
    return tmp_path / "ComfyUI"


def run(comfyui: Path | None, *arguments: str) -> int:
    environ = {"COMFYUI_DIR": str(comfyui)} if comfyui else {}
    status: int = script["main"](arguments, environ)
    return status


def test_without_packs_the_doubles_run_on_it_as_it_is(
    comfyui: Path, ran: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(comfyui, "-x") == 1
    assert ran == [(comfyui, "tests/comfy", ["mine"])]
    assert "tests/real needs ComfyUI-WanVideoWrapper and" in capsys.readouterr().out


def test_with_packs_the_doubles_get_a_copy_without_them(comfyui: Path, ran: list[Any]) -> None:
    for pack in script["PACKS"]:
        (comfyui / "custom_nodes" / pack).symlink_to(comfyui.parent)
    (comfyui / script["TINY"]).touch()
    assert run(comfyui) == 1, "the first status that is not 0"
    (copy, first, packs), real = ran
    assert (first, packs) == ("tests/comfy", ["mine"])
    assert copy != comfyui
    assert not copy.exists(), "it goes when the tests end"
    assert real == (comfyui, "tests/real", sorted([*script["PACKS"], "mine"]))


def test_packs_without_tiny_models_are_told_before_anything_runs(
    comfyui: Path, ran: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for pack in script["PACKS"]:
        (comfyui / "custom_nodes" / pack).mkdir()
    assert run(comfyui) == 1
    assert f"scripts/make-tiny-models {comfyui}/models" in capsys.readouterr().err
    assert ran == []


@pytest.mark.parametrize("there", [True, False])
def test_no_comfyui_is_told(
    tmp_path: Path, there: bool, ran: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path if there else None) == 1
    assert "COMFYUI_DIR must name a ComfyUI" in capsys.readouterr().err
    assert ran == []


def test_the_newest_release_is_found_and_gets_an_environment(
    tmp_path: Path, ran: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, installed = tmp_path / "host", []
    for tag in ("v0.33.0", "v0.100.2", "v0.9.9", "v1.0.0-rc1", "latest"):
        commit(host, {"main.py": tag, "requirements.txt": "einops\n"})
        git(host, "tag", tag)
    real_run = script["install_comfyui"]["run"]

    def uv_is_offline(argv: list[str], *, timeout_seconds: float, quiet: bool = False) -> None:
        if argv[0] == "git":
            real_run(argv, timeout_seconds=timeout_seconds, quiet=quiet)
        elif "--dry-run" not in argv:
            installed.append(argv)

    monkeypatch.setitem(script["install_comfyui"], "run", uv_is_offline)
    new = tmp_path / "new"
    script["main"](["--newest", str(new), "--url", host.as_uri()], {})
    assert [(where, what) for where, what, _ in ran] == [(new / "ComfyUI", "tests/comfy")]
    assert (new / "ComfyUI" / "main.py").read_text() == "v0.100.2"
    make, install = installed
    assert make[-3:] == ["--python", sys.executable, str(new / "venv")]
    asked = [Path(word).name for word in install if word.endswith((".txt", ".in"))]
    assert asked == ["excludes.txt", "requirements.txt", "packs.in", "worker.in"]


def test_the_weekly_workflow_does_what_can_be_run_here() -> None:
    text = (PROJECT / ".github" / "workflows" / "current.yml").read_text("utf-8")
    content = yaml.load(text, yaml.BaseLoader)
    assert content["on"]["schedule"] == [{"cron": "17 4 * * 1"}]
    assert content["permissions"] == {"contents": "read"}
    *_, make, test = content["jobs"]["doubles"]["steps"]
    assert make["run"] == "make .venv/.installed"
    assert test["run"].startswith(".venv/bin/python scripts/test-current --newest ")
