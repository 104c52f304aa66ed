"""The session's ComfyUI with the doubles, as the tests of the doubles themselves use it."""

import json
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import requests
import websocket

from talkinghead.comfy.studio import Studio
from talkinghead.settings import Settings
from tests.comfy.conftest import write_whole
from tests.timing import LAST_RESORT_SECONDS, wait_until

COMFYUI_PYTHON = Settings().comfyui_python or Path(sys.executable)
ENDS = ("execution_success", "execution_error", "execution_interrupted")

Graph = dict[str, dict[str, Any]]
History = dict[str, Any]


class DoublesServer:
    """The studio's ComfyUI, without the studio's jobs, and the doubles' control file."""

    def __init__(self, studio: Studio, control_file: Path) -> None:
        assert studio.server is not None
        self.comfy, self.control_file = studio.server, control_file
        self.url = self.comfy.url
        self.input, self.output = self.comfy.folders.input, self.comfy.folders.output

    def ensure_started(self) -> None:
        """Start it, or start it again after a test made it die."""
        self.comfy.ensure_ready()

    def log(self) -> str:
        return self.comfy.folders.log.read_text(errors="replace")

    def control(self, settings: dict[str, object]) -> None:
        write_whole(self.control_file, json.dumps(settings))

    def has_tripped(self) -> bool:
        """Whether a fault that was asked for once has happened, or is happening."""
        faults = json.loads(self.control_file.read_text()).values()
        return any(fault["times"] == 0 for fault in faults)

    def object_info(self) -> dict[str, Any]:
        return dict(requests.get(f"{self.url}/object_info", timeout=LAST_RESORT_SECONDS).json())

    def submit(
        self, graph: Graph, extra: dict[str, object] | None = None, client_id: str = "tests"
    ) -> str:
        body = {
            "prompt": graph,
            "prompt_id": str(uuid.uuid4()),
            "client_id": client_id,
            "extra_data": {"extra_pnginfo": {"workflow": {"extra": extra or {}}}},
        }
        response = requests.post(f"{self.url}/prompt", json=body, timeout=LAST_RESORT_SECONDS)
        assert response.status_code == 200, response.text
        assert not response.json()["node_errors"], response.text
        return str(body["prompt_id"])

    def history(self, prompt_id: str) -> History | None:
        response = requests.get(f"{self.url}/history/{prompt_id}", timeout=LAST_RESORT_SECONDS)
        found: History | None = response.json().get(prompt_id)
        return found

    def wait(self, prompt_id: str) -> History:
        wait_until(lambda: self.history(prompt_id) is not None, "the prompt ends")
        entry = self.history(prompt_id)
        assert entry is not None
        return entry

    def run(self, graph: Graph, extra: dict[str, object] | None = None) -> History:
        return self.wait(self.submit(graph, extra))

    def progress(self, graph: Graph) -> Iterator[tuple[str, int, int]]:
        """Run a graph; (node, value, max) as they come, until it ends."""
        client_id = uuid.uuid4().hex
        address = self.url.replace("http", "ws") + f"/ws?clientId={client_id}"
        socket = websocket.create_connection(address, timeout=LAST_RESORT_SECONDS)
        with closing(socket):
            self.submit(graph, client_id=client_id)
            while True:
                event = json.loads(socket.recv())
                if event["type"] == "progress":
                    data = event["data"]
                    yield data["node"], data["value"], data["max"]
                elif event["type"] in ENDS:
                    return

    def interrupt(self, prompt_id: str) -> None:
        body = {"prompt_id": prompt_id}
        requests.post(f"{self.url}/interrupt", json=body, timeout=LAST_RESORT_SECONDS)


def succeeded(entry: History) -> bool:
    return bool(entry["status"]["status_str"] == "success")


def message(entry: History, kind: str) -> dict[str, Any]:
    """The body of the history message `kind`, {} if there is none."""
    return next((dict(body) for name, body in entry["status"]["messages"] if name == kind), {})
