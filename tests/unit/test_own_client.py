"""Files of a job go to our own ComfyUI, and come from it, by the disk."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from talkinghead_windows.collection import freeze_before_the_first_prompt

from comfy_client import FileMissing, OutputFile
from talkinghead.comfy.folders import Folders
from talkinghead.comfy.own_client import OwnClient

NOBODY = "http://127.0.0.1:9"  # it is not asked


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "comfy")


def test_a_file_that_is_handed_over_lies_where_nodes_look_for_it(
    folders: Folders, tmp_path: Path
) -> None:
    picture = tmp_path / "picture.bmp"
    picture.write_bytes(b"pixels")
    client = OwnClient(NOBODY, folders)
    name = client.upload(picture, subfolder="job/1")
    assert name == "job/1/picture.bmp"
    assert (folders.input / name).read_bytes() == b"pixels"
    picture.write_bytes(b"others")
    client.upload(picture, subfolder="job/1")
    assert (folders.input / name).read_bytes() == b"others"


@pytest.mark.parametrize("kind", ["output", "temp"])
def test_an_output_is_brought_here(folders: Folders, tmp_path: Path, kind: str) -> None:
    made = getattr(folders, kind) / "job" / "video.mp4"
    made.parent.mkdir(parents=True)
    made.write_bytes(b"frames")
    client = OwnClient(NOBODY, folders)
    client.download(OutputFile("1", "gifs", "video.mp4", "job", kind), tmp_path / "here.mp4")
    assert (tmp_path / "here.mp4").read_bytes() == b"frames"


@pytest.mark.parametrize(
    ("name", "subfolder", "kind"),
    [
        ("gone.mp4", "", "output"),
        ("secret", "..", "output"),
        ("../secret", "", "temp"),
        ("secret", "{outside}", "output"),
        ("link", "", "output"),
        ("secret", "", "user"),
    ],
)
def test_a_node_cannot_have_another_file_delivered(
    folders: Folders, tmp_path: Path, name: str, subfolder: str, kind: str
) -> None:
    for folder in (folders.output, folders.temp, folders.user):
        folder.mkdir(parents=True)
    for secret in (folders.work_dir, folders.user):
        (secret / "secret").write_text("a key")
    (folders.output / "link").symlink_to(folders.work_dir / "secret")
    file = OutputFile("1", "images", name, subfolder.format(outside=folders.work_dir), kind)
    with pytest.raises(FileMissing):
        OwnClient(NOBODY, folders).download(file, tmp_path / "got")
    assert not (tmp_path / "got").exists()


def test_the_first_prompt_leaves_the_collector_little_to_look_through() -> None:
    handlers: list[Callable[[dict[str, Any]], dict[str, Any]]] = []
    freeze_before_the_first_prompt(SimpleNamespace(add_on_prompt_handler=handlers.append))
    (handler,) = handlers
    try:
        assert handler({"prompt": {}}) == {"prompt": {}}
        frozen, ours = gc.get_freeze_count(), [*gc.get_objects()]
        assert frozen > len(ours), "modules and classes"
        handler({"prompt": {}})
        assert gc.get_freeze_count() <= frozen, "what came since is collected"
    finally:
        gc.unfreeze()
