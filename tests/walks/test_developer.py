"""The developer's walk: docs/calling.md, done. Shell, Python, Node and a browser get a video.

All of it is on a `talkinghead serve` as a developer starts it, with a real ComfyUI, and drafts.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import av
import jsonschema
import pytest
import requests
from PIL import Image
from playwright.sync_api import Page

from talkinghead.settings import PROJECT_DIR
from tests.clients.drivers import NODE
from tests.conftest import write_tone
from tests.store import free_port
from tests.timing import LAST_RESORT_SECONDS, wait_until

EXAMPLES = PROJECT_DIR / "examples" / "calling"
PAGE = (PROJECT_DIR / "docs" / "calling.md").read_text("utf-8")
OPENAPI = json.loads((PROJECT_DIR / "docs" / "openapi.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a `talkinghead serve`."""
    folder = tmp_path_factory.mktemp("serve")
    port = free_port()
    environment = {
        "WORK_DIR": str(folder / "work"),
        "COMFYUI_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "PRICE_PER_HOUR": "1.1",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "talkinghead", "serve", "--port", str(port)],
            env=os.environ | environment,
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return requests.get(f"{url}/health", timeout=LAST_RESORT_SECONDS).ok
        except requests.ConnectionError:
            return False

    wait_until(answers, "talkinghead serve answers")
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        assert 'requests with "draft": true' in (folder / "log").read_text()
    yield url
    process.terminate()
    assert process.wait(LAST_RESORT_SECONDS) == 143
    assert not list((folder / "work").iterdir()), "ComfyUI's folders go when it ends"


@pytest.fixture
def mine(tmp_path: Path, portrait: Path) -> Path:
    """A developer's folder, with a picture and a voice."""
    with Image.open(portrait) as whole:
        whole.resize((128, 128)).save(tmp_path / "me.jpg")
    write_tone(tmp_path / "hello.wav", seconds=0.4)
    return tmp_path


def call(command: list[str], folder: Path, url: str, **environment: str) -> str:
    """What the program says, in the developer's folder."""
    said = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"TALKINGHEAD_URL": url, "POLL_SECONDS": "0.2", **environment},
        capture_output=True,
        text=True,
        timeout=LAST_RESORT_SECONDS,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout + said.stderr


def check_video(path: Path) -> None:
    with av.open(str(path), "r") as file:
        assert file.streams.video[0].frames == 10  # 0.4 s
        assert file.streams.audio


def test_a_shell_gets_a_video(served: str, mine: Path) -> None:
    command = [str(EXAMPLES / "call.sh"), "me.jpg", "hello.wav", "me.mp4"]
    said = call(command, mine, served, DRAFT="true")
    check_video(mine / "me.mp4")
    assert "IN_PROGRESS" in said
    assert "this is a draft" in said


def test_python_gets_a_video_from_an_environment_of_its_own(served: str, mine: Path) -> None:
    venv.create(mine / "venv", with_pip=False)
    python, uv = str(mine / "venv" / "bin" / "python"), str(Path(sys.executable).with_name("uv"))
    client = str(PROJECT_DIR / "clients" / "python")
    call([uv, "pip", "install", "--quiet", "--python", python, client], mine, served)
    said = call(
        [python, str(EXAMPLES / "call.py"), "me.jpg", "hello.wav", "me.mp4", "--draft"],
        mine,
        served,
    )
    check_video(mine / "me.mp4")
    assert re.search(r"me\.mp4: 0\.4\d* s, cost 0\.\d+", said), said
    assert "% " in said


def test_node_gets_a_video(served: str, mine: Path, built: Path) -> None:
    (mine / "node_modules").mkdir()
    (mine / "node_modules" / "talkinghead-client").symlink_to(built.parent)
    (mine / "call.ts").write_bytes((EXAMPLES / "call.ts").read_bytes())
    (mine / "package.json").write_text('{"type": "module"}')
    said = call([NODE, "call.ts", "me.jpg", "hello.wav", "me.mp4", "--draft"], mine, served)
    check_video(mine / "me.mp4")
    assert "this is a draft" in said


def test_a_mistake_is_told_by_its_code(served: str, mine: Path, built: Path) -> None:
    (mine / "hello.wav").write_bytes(b"no sound")
    environment = os.environ | {"TALKINGHEAD_URL": served, "POLL_SECONDS": "0.2"}
    command = [str(EXAMPLES / "call.sh"), "me.jpg", "hello.wav", "me.mp4"]
    said = subprocess.run(
        command, cwd=mine, env=environment | {"DRAFT": "true"}, capture_output=True, check=False
    )
    assert said.returncode == 1
    assert b"FAILED: wav_url" in said.stderr
    assert b"(media_invalid)" in said.stderr


@pytest.fixture
def proxy(served: str, built: Path, tmp_path: Path) -> Iterator[str]:
    """The page behind examples/calling/proxy.mjs."""
    port = free_port()
    process = subprocess.Popen(
        [NODE, str(EXAMPLES / "proxy.mjs"), str(port)],
        env=os.environ | {"TALKINGHEAD_URL": served},
    )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return requests.get(url, timeout=LAST_RESORT_SECONDS).ok
        except requests.ConnectionError:
            return False

    wait_until(answers, "the proxy answers")
    yield url
    process.terminate()
    process.wait()


def test_a_page_behind_a_proxy_gets_a_video(proxy: str, mine: Path, page: Page) -> None:
    page.goto(proxy)
    page.set_input_files("input[name=picture]", str(mine / "me.jpg"))
    page.set_input_files("input[name=voice]", str(mine / "hello.wav"))
    page.check("input[name=draft]")
    page.click("button:has-text('Render')")
    page.wait_for_selector("video:not([hidden])", timeout=LAST_RESORT_SECONDS * 1000)
    assert "this is a draft" in page.inner_text("output")
    size = "async () => (await (await fetch(document.querySelector('video').src)).blob()).size"
    assert page.evaluate(size) > 1000


def test_the_answers_that_the_page_shows_are_such_as_come() -> None:
    shown = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    schemas = OPENAPI["components"]["schemas"]
    root = {"$ref": "#/components/schemas/JobState", "components": {"schemas": schemas}}
    for each in shown:
        jsonschema.validate(each, root)
    assert [each["status"] for each in shown] == [
        "IN_QUEUE",
        "IN_PROGRESS",
        "COMPLETED",
        "FAILED",
        "CANCELLED",
    ]


def test_n8n_calls_what_there_is() -> None:
    flow = json.loads((EXAMPLES / "n8n.json").read_text("utf-8"))
    names = {node["name"] for node in flow["nodes"]}
    ends = {
        end["node"]
        for outputs in flow["connections"].values()
        for output in outputs["main"]
        for end in output
    }
    assert ends | set(flow["connections"]) == names
    calls = [node for node in flow["nodes"] if node["type"].endswith("httpRequest")]
    run, status, _ = (node["parameters"] for node in calls)
    assert (run["method"], run["url"][-4:]) == ("POST", "/run")
    assert (status["method"], "/status/" in status["url"]) == ("GET", True)
    assert not calls[0]["retryOnFail"], "it would start a job twice"
