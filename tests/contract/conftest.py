"""The worker as RunPod starts it, behind the SDK's local API."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from talkinghead.settings import PROJECT_DIR
from tests.store import free_port
from tests.timing import LAST_RESORT_SECONDS, wait_until


class Worker:
    """`python handler.py --rp_serve_api` as a child process."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        port = free_port()
        self.log = folder / "worker.log"
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "handler.py", "--rp_serve_api", "--rp_api_port", str(port)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--rp_api_host", "127.0.0.1"],
                cwd=PROJECT_DIR,
                env=os.environ | environment,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, "the worker's first answer")

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"it did not start:\n{self.log.read_text()}"
        try:
            requests.get(f"{self.url}/docs", timeout=LAST_RESORT_SECONDS)
        except requests.RequestException:
            return False
        return True

    def runsync(self, fields: dict[str, Any]) -> dict[str, Any]:
        """What the endpoint answers to a request."""
        answer = requests.post(
            f"{self.url}/runsync", json={"input": fields}, timeout=LAST_RESORT_SECONDS
        )
        content: dict[str, Any] = answer.json()
        return content

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(LAST_RESORT_SECONDS)


def environment_of(folder: Path) -> dict[str, str]:
    """A worker with the doubles, its ComfyUI's folders below `folder`."""
    return {
        "WORK_DIR": str(folder / "work"),
        "COMFYUI_CPU": "true",
        "EXTRA_NODE_DIRS": str(PROJECT_DIR / "tests" / "doubles"),
        "OMP_NUM_THREADS": "1",
        "ALLOW_PRIVATE_URLS": "true",
    }


@pytest.fixture(scope="package")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("worker")
    worker = Worker(folder, environment_of(folder))
    yield worker
    worker.stop()
