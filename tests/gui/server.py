"""ComfyUI's GUI without ComfyUI: the frontend package, recorded schemas, a list of workflows."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from talkinghead.settings import Settings
from talkinghead.workflow.gui_file import VIRTUAL, Workflow, widgets_of
from talkinghead.workflow.schemas import inputs_of
from tests.timing import LAST_RESORT_SECONDS

FIND = """
import importlib.metadata, importlib.util, json
print(json.dumps([importlib.metadata.version("comfyui_frontend_package"),
    importlib.util.find_spec("comfyui_frontend_package").origin]))"""


def find_frontend() -> tuple[str, Path]:
    """The version and the files of the frontend that is installed with ComfyUI, as it asks for."""
    python = str(Settings().comfyui_python or sys.executable)
    found = subprocess.run([python, "-c", FIND], check=True, capture_output=True).stdout
    version, origin = json.loads(found)
    return version, Path(origin).parent / "static"


OWN_VERSION, STATIC = find_frontend()
WIDGETS_JS = Path(__file__).parent / "packs" / "vhs_widgets" / "web"
# A first visit would show a tour; it lies over the canvas.
GUI_SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.InstalledVersion": "1.32.9",
    "Comfy.Workflow.Persist": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,  # text also where it is small
}
SYSTEM = {
    "os": "posix",
    "comfyui_version": "0.3.75",
    "python_version": "3",
    "pytorch_version": "0",
    "embedded_python": False,
    "argv": [],
}
ANSWERS: Mapping[str, Any] = {
    "settings": GUI_SETTINGS,
    "users": {"storage": "server", "migrated": True},
    "system_stats": {"system": SYSTEM, "devices": []},
    "queue": {"queue_running": [], "queue_pending": []},
    "prompt": {"exec_info": {"queue_remaining": 0}},
    "embeddings": [],
    "experiment/models": [],
    "features": {},
    "history": {},
    "i18n": {},
    "workflow_templates": {},
    "global_subgraphs": {},
}
SOME_FILE = "a file"
ICON = b'<svg xmlns="http://www.w3.org/2000/svg" width="48" height="64"/>'


class RecordedServer:
    """Serves the GUI on loopback; what it saves lies in `folder`/workflows."""

    def __init__(
        self, folder: Path, schemas: Mapping[str, Any], inputs: Mapping[str, Path]
    ) -> None:
        self.folder = folder
        (folder / "workflows").mkdir(parents=True, exist_ok=True)
        self._schemas, self._inputs = schemas, inputs
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.url = ""

    def __enter__(self) -> RecordedServer:
        self._thread.start()
        assert self._ready.wait(LAST_RESORT_SECONDS)
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._runner
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()

    async def _start(self) -> None:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_get("/{prefix:(?:api/)?}ws", self._socket)
        app.router.add_get("/api/userdata", self._list)
        app.router.add_get("/api/userdata/{name}", self._read)
        app.router.add_post("/api/userdata/{name}", self._write)
        app.router.add_get("/api/view", self._view)
        app.router.add_get("/{path:.*}", self._get)
        app.router.add_post("/{path:.*}", self._post)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        status = {"exec_info": {"queue_remaining": 0}}
        await socket.send_json(
            {"type": "status", "data": {"status": status, "sid": uuid.uuid4().hex}}
        )
        async for _ in socket:
            pass
        return socket

    async def _list(self, request: web.Request) -> web.Response:
        folder = self.folder / request.query.get("dir", "")
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return web.json_response([self._info(path, folder) for path in paths])

    def _info(self, path: Path, folder: Path) -> dict[str, Any]:
        stat = path.stat()
        name = path.relative_to(folder).as_posix()
        return {"path": name, "size": stat.st_size, "modified": stat.st_mtime}

    async def _read(self, request: web.Request) -> web.StreamResponse:
        return _file(self.folder / request.match_info["name"])

    async def _write(self, request: web.Request) -> web.Response:
        path = self.folder / request.match_info["name"]
        path.write_bytes(await request.read())
        return web.json_response(self._info(path, self.folder))

    async def _view(self, request: web.Request) -> web.StreamResponse:
        path = self._inputs.get(Path(request.query["filename"]).name)
        return _file(path) if path else web.Response(body=ICON, content_type="image/svg+xml")

    async def _get(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"].removeprefix("api/")
        if path == "object_info":
            return web.json_response(self._schemas)
        if path == "extensions":
            names = [file.name for file in WIDGETS_JS.glob("*.js")]
            return web.json_response([f"/extensions/vhs_widgets/{name}" for name in names])
        if path in ANSWERS:
            return web.json_response(ANSWERS[path])
        folder, _, name = path.rpartition("/")
        own = folder == "extensions/vhs_widgets"
        return _file(WIDGETS_JS / name if own else STATIC / (path or "index.html"))

    async def _post(self, request: web.Request) -> web.Response:
        return web.json_response({})


def _file(path: Path) -> web.StreamResponse:
    return web.FileResponse(path) if path.is_file() else web.Response(status=404)


def served(schemas: Mapping[str, Any]) -> dict[str, Any]:
    """Schemas as /object_info has them: with all fields, and a file in each list of files."""
    blank = {"category": "recorded", "description": "", "deprecated": False, "experimental": False}
    full: dict[str, Any] = json.loads(json.dumps(schemas))
    for name, schema in full.items():
        full[name] = {**blank, "name": name, **schema}
        for section in ("required", "optional"):
            for spec in schema["input"].get(section, {}).values():
                options = spec[1] if len(spec) > 1 else {}
                choices = spec[0] if isinstance(spec[0], list) else options.get("options")
                if choices == []:
                    choices.append(SOME_FILE)
    return full


def offer_files(schemas: dict[str, Any], workflow: Workflow) -> None:
    """Put the files that a workflow names into the lists of files that have none."""
    for node in workflow["nodes"]:
        if node["type"] in VIRTUAL:
            continue
        values = widgets_of(node, schemas)
        for each in inputs_of(schemas[node["type"]], values):
            if each.type == "COMBO" and SOME_FILE in each.choices:
                each.options["options"].append(values[each.name])
