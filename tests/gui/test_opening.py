"""What a person sees first: the address that `make gui` tells, in a small window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, ViewportSize

from talkinghead.workflow.template import load_template
from tests.gui.browser import LONG_MS, Gui
from tests.gui.conftest import Server, new_page

SMALL: ViewportSize = {"width": 1440, "height": 900}
# Left, top and right of a node or group on the page, and the size of the window's own side.
PLACE = """(title) => {
  const found = [...app.graph._nodes, ...app.graph._groups].find((each) => each.title === title)
  const {scale, offset} = app.canvas.ds
  const view = app.canvas.canvas.getBoundingClientRect()
  return {scale, left: view.left + (found.pos[0] + offset[0]) * scale,
    top: view.top + (found.pos[1] + offset[1]) * scale,
    right: view.left + (found.pos[0] + found.size[0] + offset[0]) * scale}
}"""
LOADED = "(count) => app.graph?._nodes.length === count"
ZOOM = "app.canvas.ds.scale = 0.5"
NEW_TAB = "app.extensionManager.command.execute('Comfy.NewBlankWorkflow')"


def place(page: Page, title: str) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate(PLACE, title)
    return found


@pytest.mark.parametrize("name", ["draft_i2v", "infinitetalk_v2v"])
@pytest.mark.parametrize("server", ["comfyui"], indirect=True, scope="package")
def test_a_template_opens_on_its_note_with_the_result_in_sight(
    browser: Browser, server: Server, frontend: Path, name: str
) -> None:
    with new_page(browser, frontend) as page:
        page.set_viewport_size(SMALL)
        gui = Gui(page, f"{server.url}/?template={name}&source=talkinghead_draft")
        nodes = len(load_template(name)["nodes"])
        page.wait_for_function(LOADED, arg=nodes, timeout=LONG_MS)
        page.wait_for_function("app.canvas.ds.scale >= 0.8", timeout=LONG_MS)
        note, result = place(page, "About this workflow"), place(page, "Output")
        assert note["left"] >= 60 and note["right"] < result["left"]
        assert 100 <= note["top"] < 300 and result["right"] < SMALL["width"]

        gui.page.evaluate(ZOOM)
        gui.page.evaluate(NEW_TAB)
        page.wait_for_function(LOADED, arg=0, timeout=LONG_MS)
        page.get_by_text(name, exact=True).first.click()
        page.wait_for_function(LOADED, arg=nodes, timeout=LONG_MS)
        assert place(page, "Output")["scale"] == 0.5, "where it was looked at before"
