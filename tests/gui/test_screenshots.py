"""The pictures of docs/gui.md. GUI_SCREENSHOTS=1 puts them into docs/."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from talkinghead.settings import PROJECT_DIR
from tests.gui.browser import Gui
from tests.gui.conftest import NEWEST

MAX_BYTES = 150_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return PROJECT_DIR / "docs" if os.environ.get("GUI_SCREENSHOTS") else tmp_path


@pytest.mark.parametrize("frontend", [NEWEST], indirect=True, scope="package")
@pytest.mark.parametrize("server", ["recorded"], indirect=True, scope="package")
def test_the_pictures_of_the_docs_are_taken(gui: Gui, folder: Path) -> None:
    def take(name: str) -> None:
        gui.page.mouse.move(800, 890)
        path = folder / name
        gui.page.screenshot(path=path, type="jpeg", quality=70)
        assert 20_000 < path.stat().st_size < MAX_BYTES

    gui.open_from_list("infinitetalk_i2v")
    gui.show_list()
    gui.fit(left=390)
    take("gui_workflow.jpg")
    gui.show_list()
    gui.fit("Portrait", "Speaker 1 audio", "Prompt", "Video")
    take("gui_prompt.jpg")
