"""requirements/: the locks are of what they were made from, and hold what the packs need."""

from __future__ import annotations

import re
import runpy
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
LOCKS = ("worker.lock", "worker-floor.lock", "test.lock", "installer.lock")
WORKER_LOCKS = LOCKS[:2]

# The scripts have no ending, so that they cannot be imported.
lock: dict[str, Any] = runpy.run_path(str(PROJECT / "scripts" / "lock"))
install_comfyui = lock["install_comfyui"]


def text_of(name: str) -> str:
    return (PROJECT / "requirements" / name).read_text("utf-8")


def entries(name: str) -> list[Any]:
    found: list[Any] = install_comfyui["read_lock"](text_of(name))
    return found


def versions(*names: str) -> dict[str, str]:
    return {entry.name: entry.version for name in names for entry in entries(name)}


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the locks are made from."""
    shutil.copytree(PROJECT / "requirements", tmp_path / "requirements")
    for name in ("pyproject.toml", "custom_nodes.txt"):
        shutil.copy(PROJECT / name, tmp_path / name)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_is_not_older_than_what_it_was_made_from(name: str) -> None:
    made_from = re.search(r"^# `make lock`: (\w+)$", text_of(name), re.MULTILINE)
    assert made_from is not None
    assert made_from[1] == lock["made_from"](PROJECT), "run `make lock` and commit what it wrote"


def test_the_lock_is_of_the_pinned_sources() -> None:
    pins = install_comfyui["read_pins"](PROJECT / "custom_nodes.txt")
    pinned = {f"{pin.url} {pin.ref}" for pin in (pins.current, pins.floor, *pins.packs)}
    assert {*lock["read_copies"](PROJECT)} == pinned, "run `make lock` and commit what it wrote"


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("pyproject.toml", '"runpod>=1.12,<2"', '"runpod>=1.13,<2"'),
        ("pyproject.toml", '"pytest>=8"', '"pytest>=9"'),
        ("pyproject.toml", "opencv-python-headless>=4.10,<5", "opencv-python-headless>=4.11,<5"),
        ("pyproject.toml", 'requires-python = ">=3.11', 'requires-python = ">=3.12'),
        ("requirements/worker.in", "transformers<5", "transformers<6"),
        ("requirements/comfyui-current.in", "einops", "einops>=0.8"),
        ("requirements/comfyui-floor.in", "v0.3.75", "v0.3.76"),
        ("requirements/packs.in", "pyloudnorm", "pyloudnorm>=0.2"),
        ("requirements/excludes.txt", "opencv-python", "opencv-contrib-python"),
        ("requirements/installer.in", "uv", "uv>=0.13"),
    ],
)
def test_a_lock_is_old_once_it_would_be_made_from_something_else(
    project: Path, file: str, old: str, new: str
) -> None:
    before = lock["made_from"](project)
    edit(project / file, old, new)
    assert lock["made_from"](project) != before


def test_a_lock_is_not_old_for_a_comment(project: Path) -> None:
    before = lock["made_from"](project)
    edit(project / "pyproject.toml", '"certifi",', '"certifi",  # what requests trusts')
    edit(project / "requirements" / "worker.in", "transformers<5", "transformers<5  #")
    assert lock["made_from"](project) == before


@pytest.mark.parametrize("name", LOCKS)
def test_each_package_of_a_lock_has_hashes(name: str) -> None:
    lines = [line for line in text_of(name).splitlines() if re.match(r"[^#\s]", line)]
    assert len(lines) == len(entries(name)) > 0
    assert [entry.name for entry in entries(name) if "--hash=sha256:" not in entry.hashes] == []


def test_a_package_has_one_version_wherever_it_is_wanted() -> None:
    for worker in WORKER_LOCKS:
        names = [worker, *LOCKS[2:]]
        places = Counter((entry.name, entry.marker) for name in names for entry in entries(name))
        assert [place for place, times in places.items() if times > 1] == []


def test_what_both_comfyuis_need_has_one_version() -> None:
    current, floor = versions("worker.lock"), versions("worker-floor.lock")
    differ = {
        name for name in current.keys() | floor.keys() if current.get(name) != floor.get(name)
    }
    asked = [f"requirements/comfyui-{name}.in" for name in ("current", "floor")]
    now, then = ({*install_comfyui["requirement_lines"](PROJECT / name)} for name in asked)
    own = {install_comfyui["name_of"](line).lower() for line in now ^ then}
    assert {name for name in differ if not name.startswith("comfyui-workflow-templates-")} <= own
    assert {"comfyui-frontend-package", "comfy-kitchen", "comfy-aimdo"} <= differ


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_host(name: str) -> None:
    assert not re.search(r"://|index-url|find-links|trusted-host| @ ", text_of(name))


@pytest.mark.parametrize(
    ("name", "is_right"),
    [
        ("transformers", lambda version: version < (5,)),
        ("huggingface-hub", lambda version: version < (1,)),
        ("av", lambda version: (18, 1) <= version < (19,)),
        ("opencv-python-headless", lambda version: (4, 10) <= version < (5,)),
        ("numpy", lambda version: version >= (1, 25)),
        ("torch", lambda version: version == (2, 11, 0)),
        ("torchvision", lambda version: version == (0, 26, 0)),
        ("torchaudio", lambda version: version == (2, 11, 0)),
    ],
)
@pytest.mark.parametrize("worker", WORKER_LOCKS)
def test_what_the_worker_was_tried_with_is_in_the_lock(
    worker: str, name: str, is_right: Callable[[tuple[int, ...]], bool]
) -> None:
    assert is_right(numbers(versions(worker)[name]))


@pytest.mark.parametrize("which", ["CURRENT", "FLOOR"])
def test_a_lock_has_what_its_comfyui_pins(which: str) -> None:
    locks = lock[which]
    asked = install_comfyui["requirement_lines"](PROJECT / locks.asked[0])
    pinned = dict(line.split("==") for line in asked if "==" in line)
    locked = versions(Path(locks.lock).name)
    assert len(pinned) >= 3
    assert {name: locked[name] for name in pinned} == pinned


def test_the_lock_has_all_that_is_asked_for_but_the_opencv_that_breaks_the_other() -> None:
    metadata = lock["project_metadata"](PROJECT)
    extras = [line for lines in metadata["optional-dependencies"].values() for line in lines]
    copies = [line for lines in lock["read_copies"](PROJECT).values() for line in lines if line]
    names = {install_comfyui["name_of"](line) for line in [*metadata["dependencies"], *extras]}
    names |= {install_comfyui["name_of"](line) for line in copies}
    missing = {name.lower().replace("_", "-") for name in names} - versions(*LOCKS).keys()
    assert missing == {"opencv-python", "talkinghead"}


def test_the_copies_follow_the_sources_and_stay_where_there_are_none(
    project: Path, tmp_path: Path
) -> None:
    pins = install_comfyui["read_pins"](project / "custom_nodes.txt")
    tree = tmp_path / "ComfyUI"
    mine = tree / "custom_nodes" / pins.packs[0].name
    mine.mkdir(parents=True)
    (tree / "requirements.txt").write_text("einops  # a comment\n\ntorchsde\n")
    (mine / "requirements.txt").write_text("what-the-user-has\n")
    before = lock["read_copies"](project)

    # Older stamps of a wheel list the packs all the same.
    stamp = install_comfyui["Stamp"]("the wheel", (pins.floor, *pins.packs))
    install_comfyui["write_stamp"](tree, stamp)
    lock["write_copies"](project, tree)

    copies = lock["read_copies"](project)
    floor = f"{pins.floor.url} {pins.floor.ref}"
    assert copies.pop(floor) == ["einops", "torchsde"]
    before.pop(floor)
    assert copies == before


def test_a_changed_pin_whose_source_is_nowhere_makes_no_lock(project: Path, tmp_path: Path) -> None:
    edit(project / "custom_nodes.txt", "v0.3.75", "v0.3.76")
    with pytest.raises(lock["LockError"], match=r"ComfyUI v0\.3\.76 is not in"):
        lock["write_copies"](project, tmp_path / "nowhere")
