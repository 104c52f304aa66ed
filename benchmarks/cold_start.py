"""From the exec of start.sh until ComfyUI answers, against ComfyUI alone:
`python -m benchmarks.cold_start`."""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import requests

from talkinghead.comfy.server import ComfyServer
from talkinghead.settings import PROJECT_DIR, Settings

RUNS = 4
POLL_SECONDS = 0.02
GIVE_UP_SECONDS = 120


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    os.environ |= {
        "COMFYUI_CPU": "1",
        "EXTRA_NODE_DIRS": str(PROJECT_DIR / "tests" / "doubles"),
        "OMP_NUM_THREADS": "1",  # PyTorch's spinning threads starve a busy machine
        "PYTHON": sys.executable,
    }
    alone, whole = [], []
    for _ in range(RUNS):  # by turns, so that both meet the same machine
        with tempfile.TemporaryDirectory() as folder:
            alone.append(comfyui_alone(Path(folder)))
        with tempfile.TemporaryDirectory() as folder:
            whole.append(start_script(Path(folder)))
    for name, seconds in (("ComfyUI alone", alone), ("start.sh", whole)):
        runs = ", ".join(f"{each:.2f}" for each in seconds)
        print(f"{name}: median {statistics.median(seconds):.2f} s ({runs})")
    print(f"more: {statistics.median(whole) - statistics.median(alone):.2f} s")


def comfyui_alone(folder: Path) -> float:
    """Seconds from the exec of ComfyUI, with the worker's arguments, until it answers."""
    server = ComfyServer.from_settings(Settings(work_dir=folder))
    start = time.monotonic()
    server.start()
    try:
        return answered(server.url) - start
    finally:
        server.stop()


def start_script(folder: Path) -> float:
    """Seconds from the exec of start.sh until the worker takes jobs and its ComfyUI answers."""
    port = free_port()
    command = [str(PROJECT_DIR / "start.sh"), "--rp_serve_api", "--rp_api_port", str(port)]
    start = time.monotonic()
    worker = subprocess.Popen(
        command,
        env=os.environ | {"WORK_DIR": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        comfyui = f"http://127.0.0.1:{comfyui_port(folder)}"
        ready = max(answered(comfyui), answered(f"http://localhost:{port}", "/docs"))
        return ready - start
    finally:
        worker.terminate()
        worker.wait()


def answered(url: str, path: str = "/system_stats") -> float:
    """The moment of the first answer."""
    for _ in polls():
        try:
            requests.get(url + path, timeout=5)
            return time.monotonic()
        except requests.RequestException:
            continue
    raise TimeoutError(f"{url} does not answer")


def comfyui_port(folder: Path) -> int:
    """The port of the ComfyUI whose folders are in `folder`, as soon as there is one."""
    for _ in polls():
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_text().split("\0")
            except OSError:
                continue
            if "--port" in words and any(word.startswith(str(folder)) for word in words):
                return int(words[words.index("--port") + 1])
    raise TimeoutError("start.sh starts no ComfyUI")


def polls() -> Iterator[None]:
    end = time.monotonic() + GIVE_UP_SECONDS
    while time.monotonic() < end:
        yield
        time.sleep(POLL_SECONDS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
