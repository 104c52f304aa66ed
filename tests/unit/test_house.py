"""docs/architecture.md shows the house as it is, and the linter holds the same one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from talkinghead.settings import PROJECT_DIR

PACKAGE = PROJECT_DIR / "talkinghead"
TEXT = (PROJECT_DIR / "docs" / "architecture.md").read_text("utf-8")


def rows_after(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    section = TEXT.split(f"{heading}\n")[1].split("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|", 1)] for line in lines]


def names_in(cell: str) -> list[str]:
    return [name.rstrip("/") for name in re.findall(r"`([a-z_0-9/]+)`", cell)]


def modules_of(folder: Path) -> set[str]:
    """The files and packages in a folder, but for what every package has."""
    found = {path.stem for path in folder.iterdir() if path.suffix == ".py" or is_package(path)}
    return found - {"__init__"}


def is_package(path: Path) -> bool:
    return (path / "__init__.py").exists()


def test_the_list_of_wings_is_that_of_the_tree() -> None:
    listed = [name for names, _ in rows_after("## The house") for name in names_in(names)]
    assert len(listed) == len(set(listed))
    assert set(listed) == modules_of(PACKAGE)


def test_the_linter_holds_the_list_in_its_order() -> None:
    listed = [name for names, _ in rows_after("## The house") for name in names_in(names)]
    config = tomllib.loads((PROJECT_DIR / "pyproject.toml").read_text("utf-8"))
    layers = config["tool"]["importlinter"]["contracts"][0]["layers"]
    assert [name for layer in layers for name in layer.split(" | ")] == listed


def test_every_file_of_a_wing_is_named_with_its_wing() -> None:
    rows = {names_in(wing)[0]: cell for wing, cell in rows_after("### The rooms of each wing")}
    wings = {path.name: path for path in PACKAGE.iterdir() if is_package(path)}
    assert rows.keys() == wings.keys()
    for wing, folder in wings.items():
        named = set(names_in(rows[wing]))
        assert modules_of(folder) <= named, wing
        others = {each for other in wings.values() for each in modules_of(other)}
        assert named <= others | modules_of(PACKAGE) | wings.keys(), wing


def test_the_paths_that_the_text_names_are_there() -> None:
    wings = [path.name for path in PACKAGE.iterdir() if is_package(path)]
    named = re.findall(rf"`((?:{'|'.join(wings)})/[a-z_/]+(?:\.py)?)`", TEXT)
    assert named
    assert [path for path in named if not (PACKAGE / path).exists()] == []
