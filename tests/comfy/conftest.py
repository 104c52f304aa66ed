"""A worker with a real ComfyUI, whose GPU nodes are the doubles of tests/doubles."""

from __future__ import annotations

import http.server
import json
import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

import comfy_client
from comfy_client import ComfyClient
from talkinghead.comfy.studio import Studio, Turn
from talkinghead.delivery.stores import Stores
from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.net.guard import UrlGuard
from talkinghead.plan.plan import make_plan
from talkinghead.plan.request import parse_request
from talkinghead.settings import PROJECT_DIR, Settings
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.slots import Inputs, slots_of
from talkinghead.workflow.template import fill, for_jobs, load_template
from tests.conftest import FileServer
from tests.store import S3Server
from tests.timing import LAST_RESORT_SECONDS, wait_until

DOUBLES_DIR = PROJECT_DIR / "tests" / "doubles"


@pytest.fixture(scope="session")
def control_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the doubles look up how they shall fail; set before any ComfyUI is started."""
    path = tmp_path_factory.mktemp("doubles") / "control.json"
    os.environ["DOUBLES_CONTROL"] = str(path)
    os.environ["OMP_NUM_THREADS"] = "1"  # PyTorch's spinning threads starve a busy machine
    yield path
    del os.environ["DOUBLES_CONTROL"]


def write_whole(path: Path, text: str) -> None:
    """Write a file that others read at any time: they see the old text or the new one."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)


@pytest.fixture
def control(control_file: Path) -> Iterator[Callable[..., None]]:
    """Tells the doubles how to behave: control(WanVideoSampler={"action": "raise"})."""

    def tell(**faults: Any) -> None:
        write_whole(control_file, json.dumps(faults))

    tell()
    yield tell
    tell()


@pytest.fixture(scope="session")
def settings(control_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        work_dir=tmp_path_factory.mktemp("work"),
        comfyui_cpu=True,
        extra_node_dirs=str(DOUBLES_DIR),
        job_timeout_seconds=LAST_RESORT_SECONDS,
        stall_seconds=LAST_RESORT_SECONDS,
        comfyui_start_seconds=LAST_RESORT_SECONDS,
        download_seconds=LAST_RESORT_SECONDS,
        delivery_seconds=LAST_RESORT_SECONDS,
        allow_private_urls=True,
    )


@pytest.fixture(scope="session")
def session_studio(settings: Settings) -> Iterator[Studio]:
    with Studio(settings) as studio:
        studio.idle_seconds = LAST_RESORT_SECONDS
        yield studio


@pytest.fixture
def studio(session_studio: Studio, control: Callable[..., None]) -> Studio:
    """One ComfyUI for all tests; it is started again where a test made it die.

    What one test has the worker learn is of no effect on the next.
    """
    session_studio.health.computed()
    session_studio.lighter_ways.clear()
    session_studio.cures.clear()
    for subject in ("memory", "picture"):
        session_studio.record.say(subject, [])
    return session_studio


@pytest.fixture
def on_s3(studio: Studio, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Studio:
    """The studio, with a bucket."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(studio, "stores", Stores(Settings(), guard=UrlGuard(blocked=())))
    return studio


@pytest.fixture
def all_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event of a prompt is heard: no look at the history finds the end before the last."""
    monkeypatch.setattr(comfy_client, "POLL_SECONDS", LAST_RESORT_SECONDS)


@pytest.fixture
def turn(studio: Studio) -> Iterator[Turn]:
    with studio.comfy("unused", lambda: None) as turn:
        yield turn


@pytest.fixture
def client(turn: Turn) -> ComfyClient:
    return turn.client


@pytest.fixture
def short_job(files: FileServer, portrait: Path, voice: Path) -> dict[str, Any]:
    """The fields of a job that takes a second or two."""
    (files.folder / "portrait.jpg").write_bytes(portrait.read_bytes())
    (files.folder / "voice.wav").write_bytes(voice.read_bytes())
    urls = {"image_url": files.url("portrait.jpg"), "wav_url": files.url("voice.wav")}
    return urls | {"max_frame": 20, "width": 256, "height": 256}


@pytest.fixture
def long_job(
    files: FileServer, short_job: dict[str, Any], tone: Callable[..., Path]
) -> dict[str, Any]:
    """A job of three windows, a prompt each."""
    (files.folder / "long.wav").write_bytes(tone("long.wav", seconds=7.0).read_bytes())
    fields = short_job | {"wav_url": files.url("long.wav"), "long": True}
    del fields["max_frame"]
    return fields


@pytest.fixture
def held(control: Callable[..., None], tmp_path: Path) -> Callable[[], None]:
    """Has each sampler stay in its third step until `control` says otherwise, or an interrupt.

    Called, it returns when one samples: from then on ComfyUI hears an interrupt.
    """
    begun = tmp_path / "begun"
    control(WanVideoSampler={"action": "hold", "at_step": 2}, seeds_log=str(begun))
    return lambda: wait_until(begun.exists, "a sampler begins")


@pytest.fixture
def slow_graph(client: ComfyClient, held: Callable[[], None], portrait: Path, voice: Path) -> Graph:
    """A render on the doubles that takes for ever if it is left alone."""
    request = parse_request({"image_url": "http://x/i.jpg", "wav_url": "http://x/a.wav"})
    plan = make_plan(request, [Sound(2.0, 22_050, 1, False)], Picture(512, 512))
    inputs = Inputs(
        picture=client.upload(portrait, subfolder="slow"),
        speech=(client.upload(voice, subfolder="slow"),),
        sound=client.upload(voice, subfolder="slow"),
        masks=None,
        output_prefix="slow/video",
    )
    schemas = client.object_info()
    graph = to_api(
        fill(for_jobs(load_template(plan.template)), slots_of(plan, inputs), schemas), schemas
    )
    sampler = next(node for node in graph.values() if node["class_type"] == "WanVideoSampler")
    sampler["inputs"]["seed"] = random.randrange(1 << 31)  # nothing comes from ComfyUI's cache
    return graph


@pytest.fixture
def socketless(client: ComfyClient) -> Iterator[str]:
    """The URL of a proxy before ComfyUI that passes requests on, but no WebSocket."""

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/ws"):
                self.send_error(502)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kind = {"Content-Type": self.headers.get("Content-Type", "")}
            answer = requests.request(
                self.command,
                client.url + self.path,
                data=body,
                headers=kind,
                timeout=LAST_RESORT_SECONDS,
            )
            self.send_response(answer.status_code)
            self.end_headers()
            self.wfile.write(answer.content)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not part of a test's output."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def graph() -> Graph:
    """A small graph that is all core nodes: a picture of one colour, saved, and a text."""
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 48, "batch_size": 2, "color": 0x336699},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "t/p"}},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }
