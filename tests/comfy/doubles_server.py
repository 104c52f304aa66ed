"""A real ComfyUI process with the doubles loaded, for the tests of the doubles themselves."""

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import requests
import websocket

REPOSITORY = Path(__file__).resolve().parents[2]
COMFYUI = REPOSITORY / ".comfyui"
BOOT_SECONDS = 90.0
RUN_SECONDS = 60.0
ENDS = ("execution_success", "execution_error", "execution_interrupted")
FOLDERS = ("input", "output", "temp", "user")

Graph = dict[str, dict[str, Any]]
History = dict[str, Any]


class DoublesServer:
    """One ComfyUI at a time, with its folders and the doubles' control file below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.control_file = root / "control.json"
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""
        for name in FOLDERS:
            (root / name).mkdir()

    @property
    def input(self) -> Path:
        return self.root / "input"

    @property
    def output(self) -> Path:
        return self.root / "output"

    def ensure_started(self) -> None:
        if self.process is None or self.process.poll() is not None:
            self.start()

    def start(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        paths = self.root / "paths.yaml"
        paths.write_text(f"doubles:\n  custom_nodes: {REPOSITORY / 'tests' / 'doubles'}\n")
        folders = [arg for n in FOLDERS for arg in (f"--{n}-directory", str(self.root / n))]
        command = [
            *(sys.executable, str(COMFYUI / "main.py"), "--cpu"),
            *("--listen", "127.0.0.1", "--port", str(port), "--disable-auto-launch"),
            *("--disable-api-nodes", "--database-url", "sqlite:///:memory:"),
            *("--extra-model-paths-config", str(paths), *folders),
        ]
        environment = {**os.environ, "DOUBLES_CONTROL": str(self.control_file)}
        environment["OMP_NUM_THREADS"] = "1"  # PyTorch's spinning threads starve a busy machine
        with (self.root / "comfyui.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                break
            try:
                requests.get(f"{self.url}/system_stats", timeout=5).raise_for_status()
                return
            except requests.RequestException:
                time.sleep(0.2)
        self.stop()
        raise AssertionError(f"ComfyUI did not start; its log:\n{self.log()[-4000:]}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=10)

    def log(self) -> str:
        return (self.root / "comfyui.log").read_text(errors="replace")

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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def succeeded(entry: History) -> bool:
    return bool(entry["status"]["status_str"] == "success")


def message(entry: History, kind: str) -> dict[str, Any]:
    """The body of the history message `kind`, {} if there is none."""
    return next((dict(body) for name, body in entry["status"]["messages"] if name == kind), {})
