"""The SDK's own fitness checks: the image switches them off, and a worker lives with them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from talkinghead.settings import PROJECT_DIR
from tests.conftest import FileServer
from tests.contract.test_sigterm import RunPod, worker
from tests.timing import wait_until

SWITCH = "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS"
# One GPU, in each of the ways in which the SDK and we ask.
NVIDIA_SMI = """#!/bin/sh
case "$*" in
  *--query-gpu*) echo "NVIDIA GeForce RTX 4090, 24564, 8.9" ;;
  *--list-gpus*) echo "GPU 0: NVIDIA GeForce RTX 4090 (UUID: GPU-0)" ;;
  *) echo "| NVIDIA-SMI 575.57 Driver Version: 575.57 CUDA Version: 12.9 |" ;;
esac
"""
# What the machine of the tests has free, and how busy it is, is not what is tried.
OF_THE_MACHINE = {
    "RUNPOD_MIN_DISK_PERCENT": "0",
    "RUNPOD_MIN_MEMORY_GB": "0",
    "RUNPOD_NETWORK_CHECK_TIMEOUT": "600",
}
# They connect to a name server in the internet.
INTERNET = """
import asyncio
_open = asyncio.open_connection
def open_connection(host, port, **options):
    if host == "8.8.8.8":
        host, port = "127.0.0.1", {port}
    return _open(host, port, **options)
asyncio.open_connection = open_connection
"""


@pytest.fixture
def draft(files: FileServer, portrait: Path, voice: Path) -> dict[str, Any]:
    (files.folder / "portrait.jpg").write_bytes(portrait.read_bytes())
    (files.folder / "voice.wav").write_bytes(voice.read_bytes())
    urls = {"image_url": files.url("portrait.jpg"), "wav_url": files.url("voice.wav")}
    return {"id": "job-1", "input": urls | {"draft": True, "max_frame": 15}}


@pytest.mark.parametrize("is_off", [True, False])
def test_a_worker_starts_with_and_without_the_checks_of_the_sdk_and_is_light_without(
    tmp_path: Path, files: FileServer, draft: dict[str, Any], is_off: bool
) -> None:
    """With them, it holds torch for as long as it lives."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "nvidia-smi").write_text(NVIDIA_SMI)
    (programs / "nvidia-smi").chmod(0o755)
    port = re.findall(r":(\d+)/", files.url("portrait.jpg"))[0]
    (programs / "sitecustomize.py").write_text(INTERNET.format(port=port))
    runpod = RunPod(draft)
    environment = (
        runpod.environment
        | OF_THE_MACHINE
        | {
            SWITCH: str(is_off).lower(),
            "RUNPOD_SKIP_GPU_CHECK": "false",
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(programs),
        }
    )
    with worker(tmp_path, environment) as process:

        def ended() -> bool:
            assert process.poll() is None, (tmp_path / "log").read_text()
            return any(body.get("status") != "IN_PROGRESS" for body in runpod.posted)

        wait_until(ended, "the draft's result")
        mapped = Path(f"/proc/{process.pid}/maps").read_text()
    runpod.close()
    result = runpod.posted[-1]
    assert result["output"]["video_info"]["frames"] == 15, result
    assert ("libtorch" in mapped) is not is_off


def test_the_image_switches_them_off() -> None:
    assert re.search(rf"{SWITCH}=true", (PROJECT_DIR / "Dockerfile").read_text("utf-8"))
