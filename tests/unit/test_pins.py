"""Which ComfyUI runs: by the installer's stamp, by its folder, or by what a server tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from talkinghead.comfy.pins import STAMP, pins
from talkinghead.settings import Settings

COMFYUI, PACK = ("https://x.example/ComfyUI", "v0.3.75"), ("https://x.example/Pack", "ab12")


def stamp(folder: Path, source: str, *sources: tuple[str, str]) -> None:
    content = {"source": source, "pins": [{"url": url, "ref": ref} for url, ref in sources]}
    (folder / STAMP).write_text(json.dumps({**content, "environments": {}}))


def installed(folder: Path, **machine: Any) -> dict[str, str]:
    return pins(Settings(comfyui_dir=folder), machine)


def test_what_was_installed_is_told_comfyui_first(tmp_path: Path) -> None:
    stamp(tmp_path, "Git, with the node packs", COMFYUI, PACK)
    assert [*installed(tmp_path).items()] == [COMFYUI, PACK]


@pytest.mark.parametrize("listed", [(COMFYUI,), (COMFYUI, PACK)])
def test_a_wheel_brings_no_packs_whatever_its_stamp_lists(
    tmp_path: Path, listed: tuple[tuple[str, str], ...]
) -> None:
    stamp(tmp_path, "the wheel x==1, without node packs", *listed)
    assert installed(tmp_path) == dict([COMFYUI])


@pytest.mark.parametrize("text", ["{", "[]", '{"pins": [{"url": "a"}]}', '{"pins": null}', None])
def test_without_a_stamp_its_folder_says_the_version(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / STAMP).write_text(text)
    assert installed(tmp_path) == {"ComfyUI": "unknown"}
    (tmp_path / "comfyui_version.py").write_text('# made\n__version__ = "0.33.0"\n')
    assert installed(tmp_path) == {"ComfyUI": "0.33.0"}


def test_a_server_elsewhere_says_its_version_and_the_folder_here_nothing(tmp_path: Path) -> None:
    stamp(tmp_path, "Git, with the node packs", COMFYUI, PACK)
    settings = Settings(comfyui_dir=tmp_path, comfyui_url="http://x.example")
    assert pins(settings, {"system": {"comfyui_version": "0.34.1"}}) == {"ComfyUI": "0.34.1"}
    assert pins(settings, {}) == {"ComfyUI": "unknown"}
