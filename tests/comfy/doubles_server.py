"""A real ComfyUI process with the doubles loaded, for the tests of the doubles themselves."""

import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import requests
import websocket

from talkinghead.comfy.server import ComfyServer
from talkinghead.settings import PROJECT_DIR, Settings

RUN_SECONDS = 60.0
ENDS = ("execution_success", "execution_error", "execution_interrupted")

Graph = dict[str, dict[str, Any]]
History = dict[str, Any]


class DoublesServer:
    """A ComfyUI with the doubles, and their control file, below `root`."""

    def __init__(self, root: Path) -> None:
        self.control_file = root / "control.json"
        self.comfy = ComfyServer(
            Settings().comfyui_dir.absolute(),
            root / "comfyui",
            cpu=True,
            node_dirs=[PROJECT_DIR / "tests" / "doubles"],
        )
        self.url = self.comfy.url
        self.input, self.output = self.comfy.folders.input, self.comfy.folders.output

    def ensure_started(self) -> None:
        """Start it, or start it again after a test made it die."""
        if self.comfy.is_running():
            return
        # PyTorch's spinning threads starve a busy machine.
        environment = {"DOUBLES_CONTROL": str(self.control_file), "OMP_NUM_THREADS": "1"}
        with mock.patch.dict(os.environ, environment):
            self.comfy.start()
        self.comfy.ensure_ready()

    def stop(self) -> None:
        self.comfy.stop()

    def log(self) -> str:
        return self.comfy.folders.log.read_text(errors="replace")

    def control(self, settings: dict[str, object]) -> None:
        self.control_file.write_text(json.dumps(settings))

    def object_info(self) -> dict[str, Any]:
        return dict(requests.get(f"{self.url}/object_info", timeout=30).json())

    def submit(
        self, graph: Graph, extra: dict[str, object] | None = None, client_id: str = "tests"
    ) -> str:
        body = {
            "prompt": graph,
            "prompt_id": str(uuid.uuid4()),
            "client_id": client_id,
            "extra_data": {"extra_pnginfo": {"workflow": {"extra": extra or {}}}},
        }
        response = requests.post(f"{self.url}/prompt", json=body, timeout=30)
        assert response.status_code == 200, response.text
        assert not response.json()["node_errors"], response.text
        return str(body["prompt_id"])

    def history(self, prompt_id: str) -> History | None:
        response = requests.get(f"{self.url}/history/{prompt_id}", timeout=10)
        found: History | None = response.json().get(prompt_id)
        return found

    def wait(self, prompt_id: str) -> History:
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            if (entry := self.history(prompt_id)) is not None:
                return entry
            time.sleep(0.05)
        raise AssertionError(f"prompt did not end; ComfyUI's log:\n{self.log()[-4000:]}")

    def run(self, graph: Graph, extra: dict[str, object] | None = None) -> History:
        return self.wait(self.submit(graph, extra))

    def progress(self, graph: Graph) -> Iterator[tuple[str, int, int]]:
        """Run a graph; (node, value, max) as they come, until it ends."""
        client_id = uuid.uuid4().hex
        address = self.url.replace("http", "ws") + f"/ws?clientId={client_id}"
        with closing(websocket.create_connection(address, timeout=RUN_SECONDS)) as socket_:
            self.submit(graph, client_id=client_id)
            while True:
                event = json.loads(socket_.recv())
                if event["type"] == "progress":
                    data = event["data"]
                    yield data["node"], data["value"], data["max"]
                elif event["type"] in ENDS:
                    return

    def interrupt(self, prompt_id: str) -> None:
        requests.post(f"{self.url}/interrupt", json={"prompt_id": prompt_id}, timeout=10)


def succeeded(entry: History) -> bool:
    return bool(entry["status"]["status_str"] == "success")


def message(entry: History, kind: str) -> dict[str, Any]:
    """The body of the history message `kind`, {} if there is none."""
    return next((dict(body) for name, body in entry["status"]["messages"] if name == kind), {})
