"""ComfyUI's GUI in a headless Chromium."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from playwright.sync_api import Dialog, Page, Playwright, Route

from talkinghead.workflow.graph import Graph
from talkinghead.workflow.gui_file import Workflow
from talkinghead.workflow.schemas import Schemas, inputs_of
from tests.timing import LAST_RESORT_SECONDS

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
READY = "() => !!(window.app?.graph && LiteGraph.registered_node_types.VHS_VideoCombine)"
LONG_MS = 1000 * LAST_RESORT_SECONDS
POLL_MS = 50

LOAD = """async (text) => {
  await app.handleFile(new File([text], 'workflow.json', {type: 'application/json'}))
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))
}"""
# JSON, because a NaN among the values would else come back as one and not as the null that is sent.
SEEN = """async () => {
  const sent = await app.graphToPrompt()
  return JSON.stringify({api: sent.output, exported: sent.workflow, saved: app.graph.serialize()})
}"""
NODES = """() => app.graph._nodes.map((node) => ({
  title: node.title, left: node.pos[0], top: node.pos[1] - LiteGraph.NODE_TITLE_HEIGHT,
  right: node.pos[0] + node.size[0], bottom: node.pos[1] + node.size[1],
  broken: !!node.has_errors || !(node.type in LiteGraph.registered_node_types)}))"""
# Scale and place the canvas so that these nodes, or all, fill it.
FIT = """([titles, margins]) => {
  const found = app.graph._nodes.filter((node) => !titles.length || titles.includes(node.title))
  const [left, top] = [0, 1].map((i) => Math.min(...found.map((node) => node.pos[i]))  - 30 * i)
  const [right, bottom] = [0, 1].map((i) =>
    Math.max(...found.map((node) => node.pos[i] + node.size[i])))
  const view = app.canvas.canvas.getBoundingClientRect()
  const width = view.width - margins.left - margins.right
  const height = view.height - margins.top - margins.bottom
  const scale = Math.min(width / (right - left), height / (bottom - top), 1)
  app.canvas.ds.scale = scale
  app.canvas.ds.offset[0] = margins.left / scale - left
  app.canvas.ds.offset[1] = margins.top / scale - top
  app.canvas.setDirty(true, true)
}"""
MARGINS = {"top": 130, "right": 60, "bottom": 60}
# Where the value of a number shows on the page.
WIDGET_AT = """([title, name]) => {
  const node = app.graph._nodes.find((each) => each.title === title)
  const widget = node.widgets.find((each) => each.name === name)
  const {scale, offset} = app.canvas.ds
  const view = app.canvas.canvas.getBoundingClientRect()
  return [view.left + (node.pos[0] + node.size[0] - 60 + offset[0]) * scale,
    view.top + (node.pos[1] + widget.last_y + 10 + offset[1]) * scale]
}"""
CHOOSE = """([title, name, value]) => {
  const node = app.graph._nodes.find((each) => each.title === title)
  const widget = node.widgets.find((each) => each.name === name)
  widget.value = value
  widget.callback?.(value)
}"""
PROMOTE = """([subgraph, title, name]) => {
  const host = app.graph._nodes.find((each) => each.title === subgraph)
  const node = host.subgraph._nodes.find((each) => each.title === title)
  const slot = node.inputs.findIndex((each) => each.name === name)
  const input = host.subgraph.addInput(name, String(node.inputs[slot].type))
  input.connect(node.inputs[slot], node)
}"""
SELECT = """(titles) => app.canvas.selectItems(
  app.graph._nodes.filter((node) => titles.includes(node.title)))"""


def find_chromium(playwright: Playwright) -> str | None:
    """A Chromium on this machine: the system's, or the one that playwright installed."""
    own = playwright.chromium.executable_path
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    return found or (own if Path(own).exists() else None)


def show_frontend(page: Page, static: Path) -> None:
    """Give the page the files of this frontend in place of the server's own.

    They come while the test is in a call to the page, and only then.
    """

    def answer(route: Route) -> None:
        path = static / (unquote(urlsplit(route.request.url).path).lstrip("/") or "index.html")
        if path.is_file():
            route.fulfill(path=path)
        else:
            route.continue_()

    page.route(re.compile(r"://[^/]+/((assets|scripts|fonts|cursor)/.*|[^/]*)$"), answer)


@dataclass(frozen=True)
class Shown:
    """A workflow as the GUI has it: what it would send, export and save."""

    api: Graph
    exported: Workflow
    saved: Workflow


@dataclass(frozen=True)
class Box:
    """A node on the canvas, with its title bar. `broken`: shown red, as missing."""

    title: str
    left: float
    top: float
    right: float
    bottom: float
    broken: bool

    def overlaps(self, other: Box) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


def comparable(api: Graph, schemas: Schemas) -> Graph:
    """The graph without titles, and without the inputs that only the browser knows."""
    return {key: _comparable(entry, schemas) for key, entry in api.items()}


def _comparable(entry: dict[str, Any], schemas: Schemas) -> dict[str, Any]:
    schema = schemas.get(entry["class_type"])
    known = {each.name for each in inputs_of(schema, entry["inputs"])} if schema else set()
    inputs = {name: value for name, value in entry["inputs"].items() if name in known}
    return {"class_type": entry["class_type"], "inputs": inputs}


def titles(api: Graph) -> dict[str, str]:
    return {key: entry["_meta"]["title"] for key, entry in api.items()}


class Gui:
    """One tab with the GUI of the server at `url`."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self._dialogs: list[str] = []
        page.on("dialog", self._dismiss)
        page.goto(url, wait_until="commit")
        page.wait_for_function(READY, timeout=LONG_MS)

    def load(self, workflow: Workflow) -> Shown:
        """Open a file as dropping it on the canvas does."""
        self.page.evaluate(LOAD, json.dumps(workflow))
        return self.shown()

    def shown(self) -> Shown:
        """What is open now."""
        seen = json.loads(self.page.evaluate(SEEN))
        return Shown(seen["api"], seen["exported"], seen["saved"])

    def boxes(self) -> list[Box]:
        return [Box(**each) for each in self.page.evaluate(NODES)]

    def complaints(self) -> list[str]:
        """Texts of every alert, toast and modal dialog."""
        places = self.page.locator(".p-toast-message, .p-dialog, .comfy-modal").all()
        return [*self._dialogs, *(place.inner_text() for place in places if place.is_visible())]

    def fit(self, *titles: str, left: int = 100) -> None:
        """Bring nodes of these titles into view, or all, `left` pixels from the left."""
        self.page.evaluate(FIT, [titles, MARGINS | {"left": left}])
        for _ in range(3):  # text fields follow the canvas a frame later
            self.page.evaluate("() => new Promise((done) => requestAnimationFrame(done))")

    def open_from_list(self, name: str) -> None:
        """Open a file of the server's list of workflows with the mouse."""
        page = self.page
        self.show_list()
        listed = re.compile(rf"^{re.escape(name)}(\.json)?$")  # newer frontends leave .json out
        page.get_by_text(listed).first.click()
        page.wait_for_function(
            "(name) => app.extensionManager.workflow.activeWorkflow?.filename === name",
            arg=name,
            timeout=LONG_MS,
        )
        self.show_list()  # the same key puts it away

    def show_list(self) -> None:
        """Press the key that shows the list of workflows, or puts it away."""
        self.page.evaluate("document.activeElement?.blur()")  # else it is typed into its search
        self.page.keyboard.press("w")

    def type_text(self, old: str, new: str) -> None:
        """Write into the text field that shows `old`."""
        fields = self.page.locator("textarea")
        shown = [field for field in fields.all() if field.input_value() == old]
        shown[0].fill(new)

    def type_number(self, title: str, name: str, value: float) -> None:
        """Double-click a number of a node, and type another."""
        self.fit(title)
        self.page.mouse.dblclick(*self.page.evaluate(WIDGET_AT, [title, name]))
        field = self.page.locator(".graphdialog input")
        field.fill(str(value))
        field.press("Enter")

    def choose(self, title: str, name: str, value: str | float) -> None:
        """Give a widget a value, as its menu does."""
        self.page.evaluate(CHOOSE, [title, name, value])

    def promote(self, subgraph: str, title: str, name: str) -> None:
        """Show a widget of a node in a subgraph on the subgraph's own node."""
        self.page.evaluate(PROMOTE, [subgraph, title, name])

    def mute(self, title: str) -> None:
        """Select a node and press Ctrl+M, which also switches a muted one on."""
        self.page.evaluate(SELECT, [title])
        self.page.keyboard.press("Control+m")

    def make_subgraph(self, titles: Sequence[str]) -> None:
        """Select nodes and turn them into a subgraph."""
        self.page.evaluate(SELECT, titles)
        command = "Comfy.Graph.ConvertToSubgraph"
        self.page.evaluate(f"() => app.extensionManager.command.execute('{command}')")

    def run(self) -> None:
        """Press the button; some frontends have two of the name."""
        self.page.get_by_role("button", name="Run", exact=True).first.click()

    def save(self) -> None:
        """Ctrl+S; wait until the GUI holds the file for saved."""
        self.page.keyboard.press("Control+s")
        self.page.wait_for_function(
            "() => !app.extensionManager.workflow.activeWorkflow.isModified", timeout=LONG_MS
        )

    def _dismiss(self, dialog: Dialog) -> None:
        self._dialogs.append(dialog.message)
        dialog.dismiss()
