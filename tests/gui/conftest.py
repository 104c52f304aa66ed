"""ComfyUI's GUI in a browser: on a small server of recorded schemas, and on a real ComfyUI.

Each with two frontends: the one that ComfyUI itself asks for, and the newest.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from comfy_client import ComfyClient
from talkinghead.comfy.server import ComfyServer
from talkinghead.models.fetch import found_models
from talkinghead.models.manifest import ModelProfile, load_manifest
from talkinghead.settings import PROJECT_DIR, Settings
from talkinghead.workflow.schemas import Schemas, load_schemas
from tests.gui.browser import LONG_MS, Gui, find_chromium, show_frontend
from tests.gui.server import GUI_SETTINGS, STATIC, RecordedServer, offer_files, served

PACKS = ("ComfyUI-WanVideoWrapper", "ComfyUI-VideoHelperSuite")
STAND_INS = (PROJECT_DIR / "tests" / "doubles", PROJECT_DIR / "tests" / "gui" / "packs")
COPY = "copy.json"  # for the test that runs what it saved
PINS = PROJECT_DIR / "tests" / "gui" / "frontends.txt"
OWN, NEWEST = "own", "newest"
TEMPLATES = {path.stem: path for path in sorted((PROJECT_DIR / "workflows").glob("*.json"))}


@dataclass(frozen=True)
class Server:
    """A server with the GUI, and where it keeps the files of its list of workflows."""

    url: str
    workflows: Path
    schemas: Schemas
    profile: ModelProfile


class WithApiNodes(ComfyServer):
    """ComfyUI with the nodes that call paid services: workflows of others use them."""

    def _command(self) -> list[str]:
        return [part for part in super()._command() if part != "--disable-api-nodes"]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        program = find_chromium(playwright)
        if program is None:
            pytest.skip("NO GUI TEST RAN: there is no Chromium; scripts/install-chromium tells why")
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        with playwright.chromium.launch(executable_path=program, args=options) as browser:
            yield browser


def newest_version() -> str:
    """The version that is pinned."""
    (pin,) = (line for line in PINS.read_text().splitlines() if line.startswith("comfyui"))
    return pin.split("==")[1].split()[0]


def newest_frontend() -> Path:
    """Where scripts/install-frontends put the newest frontend."""
    return PROJECT_DIR / ".frontends" / newest_version() / "comfyui_frontend_package" / "static"


@pytest.fixture(scope="package", params=[OWN, NEWEST])
def frontend(request: pytest.FixtureRequest) -> Path:
    """The files of each frontend in turn."""
    if request.param == OWN:
        return STATIC
    found = newest_frontend()
    if not found.is_dir():
        pytest.skip("NO TEST OF THE NEWEST FRONTEND RAN: scripts/install-frontends gets it")
    return found


def new_page(browser: Browser, frontend: Path) -> Page:
    """A tab that has this frontend, whichever the server has."""
    page = browser.new_page(viewport={"width": 1600, "height": 900})
    page.set_default_timeout(LONG_MS)
    page.add_init_script("localStorage.setItem('vueNodesBannerDismissed', 'true')")
    if frontend != STATIC:
        show_frontend(page, frontend)
    return page


@contextlib.contextmanager
def gui_of(schemas: Schemas, browser: Browser, frontend: Path, folder: Path) -> Iterator[Gui]:
    """A tab with this frontend, on a server that says it has nodes of these classes."""
    with (
        RecordedServer(folder, served(schemas), {}) as server,
        new_page(browser, frontend) as page,
    ):
        yield Gui(page, server.url)


def fill_list(workflows: Path) -> None:
    """Put the templates into the server's list of workflows."""
    for path in TEMPLATES.values():
        shutil.copy(path, workflows)
    if (workflows / COPY).exists():
        shutil.copy(TEMPLATES["infinitetalk_i2v"], workflows / COPY)


@pytest.fixture(scope="package")
def recorded(tmp_path_factory: pytest.TempPathFactory, portrait: Path) -> Iterator[Server]:
    """The templates' own node classes, without a ComfyUI."""
    folder = tmp_path_factory.mktemp("recorded")
    schemas = load_schemas()
    offered = served(schemas)
    for path in TEMPLATES.values():
        offer_files(offered, json.loads(path.read_text("utf-8")))
    with RecordedServer(folder, offered, {"portrait.jpg": portrait}) as server:
        yield Server(server.url, folder / "workflows", schemas, load_manifest().profile("fp8"))


@pytest.fixture(scope="package")
def comfyui(
    tmp_path_factory: pytest.TempPathFactory, portrait: Path, voice: Path
) -> Iterator[Server]:
    """A real ComfyUI: with the real node packs if COMFYUI_DIR has them, or else the doubles."""
    settings = Settings(work_dir=tmp_path_factory.mktemp("gui"), comfyui_cpu=True)
    is_real = all((settings.comfyui_dir / "custom_nodes" / pack).is_dir() for pack in PACKS)
    profile = load_manifest().profile("tiny" if is_real else "fp8")
    models = found_models(settings, profile) if is_real else {}
    if not is_real:
        packs = ":".join(map(str, STAND_INS))
        settings = settings.model_copy(update={"extra_node_dirs": packs})
    server = WithApiNodes.from_settings(settings)
    server.use_models(models)
    server.start()
    try:
        user = server.folders.user / "default"
        (user / "workflows").mkdir(parents=True, exist_ok=True)
        (user / "workflows" / COPY).touch()
        (user / "comfy.settings.json").write_text(json.dumps(GUI_SETTINGS))
        server.ensure_ready()
        for path in (portrait, voice):
            shutil.copy(path, server.folders.input)
        schemas = ComfyClient(server.url).object_info()
        yield Server(server.url, user / "workflows", schemas, profile)
    finally:
        server.stop()


@pytest.fixture(scope="package", params=["recorded", "comfyui"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each server in turn."""
    chosen: Server = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture(scope="package")
def gui(browser: Browser, server: Server, frontend: Path) -> Iterator[Gui]:
    """One tab for all tests of a server: opening the GUI takes seconds, a workflow does not."""
    fill_list(server.workflows)
    with new_page(browser, frontend) as page:
        yield Gui(page, server.url)
