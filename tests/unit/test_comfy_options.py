"""Which options for its memory our ComfyUI gets, and what is said of one that we did not start."""

from __future__ import annotations

from pathlib import Path

import pytest

from talkinghead.cli.gui import _command
from talkinghead.comfy.options import keeps_frames, memory_options
from talkinghead.comfy.server import ComfyServer
from talkinghead.settings import Settings

OLD = 'cache_group.add_argument("--cache-classic", action="store_true")\n'
NEW = OLD + 'parser.add_argument("--disable-dynamic-vram", action="store_true")\n'


@pytest.fixture
def comfy_dir(tmp_path: Path) -> Path:
    (tmp_path / "comfy").mkdir()
    return tmp_path


def options(
    comfy_dir: Path, source: str, args: tuple[str, ...] = (), *, dynamic_vram: bool = False
) -> list[str]:
    (comfy_dir / "comfy" / "cli_args.py").write_text(source)
    return memory_options(comfy_dir, args, dynamic_vram=dynamic_vram)


def test_a_comfyui_gets_what_it_knows_and_nothing_else(comfy_dir: Path) -> None:
    assert options(comfy_dir, OLD) == ["--cache-classic"]
    assert options(comfy_dir, NEW) == ["--cache-classic", "--disable-dynamic-vram"]
    assert options(comfy_dir, "") == []


def test_dynamic_vram_may_be_left_to_comfyui(comfy_dir: Path) -> None:
    assert options(comfy_dir, NEW, dynamic_vram=True) == ["--cache-classic"]


def test_a_folder_without_comfyui_gets_none(tmp_path: Path) -> None:
    assert memory_options(tmp_path, [], dynamic_vram=False) == []


@pytest.mark.parametrize("said", ["--cache-lru", "--cache-ram", "--cache-none", "--high-ram"])
def test_a_cache_that_was_chosen_by_hand_stays(comfy_dir: Path, said: str) -> None:
    assert options(comfy_dir, NEW, (said, "4")) == ["--disable-dynamic-vram"]


def test_the_worker_and_the_gui_start_comfyui_alike(
    comfy_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options(comfy_dir, NEW)
    settings = Settings(
        comfyui_dir=comfy_dir, work_dir=comfy_dir / "work", comfyui_args="--reserve-vram 2"
    )
    expected = ["--cache-classic", "--disable-dynamic-vram", "--reserve-vram", "2"]
    for command in (ComfyServer.from_settings(settings)._command(), _command(settings, 8188)):
        assert [word for word in command if word in expected] == expected


def test_a_server_that_tells_less_is_taken_by_its_version() -> None:
    assert keeps_frames({"comfyui_version": "v0.33.0", "argv": None})


@pytest.mark.parametrize(
    ("version", "argv", "keeps"),
    [
        ("0.3.75", [], False),
        ("0.21.2", [], False),
        ("0.22.0", [], True),
        ("0.33.0", ["main.py", "--port", "1"], True),
        ("1.0", [], True),
        ("0.33.0", ["--cache-classic"], False),
        ("0.33.0", ["--cache-none"], False),
        ("0.33.0", ["--high-ram"], False),
        ("0.33.0", ["--cache-ram", "2", "4"], True),
        ("0.3.75", ["--cache-lru=10"], True),
        ("", [], False),
    ],
)
def test_a_server_tells_by_version_and_arguments_what_it_keeps(
    version: str, argv: list[str], keeps: bool
) -> None:
    assert keeps_frames({"comfyui_version": version, "argv": argv}) is keeps
