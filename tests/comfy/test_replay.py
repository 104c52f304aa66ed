"""`talkinghead replay` as people run it: on real ComfyUI servers.

In CI a short form; `make replay-soak` replays REPLAY_FILES=200.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from comfy_client import ComfyClient
from talkinghead.comfy.server import ComfyServer
from talkinghead.comfy.studio import Studio
from talkinghead.settings import PROJECT_DIR, Settings
from tests.comfy import doubles_graphs
from tests.comfy.conftest import write_whole
from tests.comfy.doubles_server import COMFYUI_PYTHON
from tests.comfy.test_faults import process_of
from tests.timing import LAST_RESORT_SECONDS, wait_until

FILES = int(os.environ.get("REPLAY_FILES", "40"))
SLOW_FILES = 4  # in the middle of the others; on the doubles: each server has one when one dies
SEEDS = itertools.count()  # none comes twice: a server would have the frames still
Entry = dict[str, Any]


class Servers:
    """Two ComfyUIs with the doubles that fail as one control file says.

    The first can be killed; the second is the session's.
    """

    def __init__(self, root: Path, studio: Studio, control_file: Path) -> None:
        self.control_file = control_file
        self._comfy = ComfyServer(
            Settings().comfyui_dir.absolute(),
            root / "one",
            python=COMFYUI_PYTHON,
            cpu=True,
            start_seconds=LAST_RESORT_SECONDS,
            node_dirs=[PROJECT_DIR / "custom_nodes", PROJECT_DIR / "tests" / "doubles"],
        )
        with studio.comfy("unused", lambda: None) as turn:
            self.urls = [self._comfy.url, turn.client.url]

    def control(self, **faults: object) -> None:
        write_whole(self.control_file, json.dumps(faults))

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self.control()
        self.start()
        try:
            self.wait_ready()
            yield
        finally:
            self._comfy.stop()

    def start(self) -> None:
        self._comfy.start()

    def wait_ready(self) -> None:
        self._comfy.ensure_ready()

    def kill(self) -> None:
        os.killpg(process_of(self._comfy.port), signal.SIGKILL)
        self._comfy.stop()

    def queues(self) -> list[list[Any]]:
        answers = [
            requests.get(f"{url}/queue", timeout=LAST_RESORT_SECONDS).json() for url in self.urls
        ]
        return [each["queue_running"] + each["queue_pending"] for each in answers]


@pytest.fixture(scope="module")
def running_servers(
    tmp_path_factory: pytest.TempPathFactory, session_studio: Studio, control_file: Path
) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("servers"), session_studio, control_file)
    with servers.running():
        yield servers


@pytest.fixture
def servers(running_servers: Servers) -> Iterator[Servers]:
    yield running_servers
    running_servers.control()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the files lie that are replayed."""
    path = tmp_path / "files"
    path.mkdir()
    return path


def colour_graph(colour: int) -> dict[str, Any]:
    size = {"width": 32, "height": 32, "batch_size": 1}
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {**size, "color": colour},
            "_meta": {"title": "Colour"},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "c/p"}},
    }


def noise_graph(seed: int) -> dict[str, Any]:
    return {
        "1": {"class_type": "RandomNoise", "inputs": {"noise_seed": seed}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def write_video_graphs(folder: Path, count: int, name: str = "video") -> None:
    """Whole renders on the doubles, of the picture and the sounds beside them."""
    doubles_graphs.write_media(folder)
    for number in range(count):
        graph = doubles_graphs.image_to_video(prefix="talk/video")
        graph["50"]["inputs"]["seed"] = next(SEEDS)
        write(folder / f"{name}{number}.json", graph)


def replay(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "talkinghead", "replay", *map(str, arguments)]
    return subprocess.Popen(
        words, env=os.environ | environment, stderr=subprocess.PIPE, text=True, cwd=PROJECT_DIR
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=LAST_RESORT_SECONDS)
    return process.returncode, said


def on(servers: Servers, *numbers: int) -> list[str]:
    return [f"--server={servers.urls[number]}" for number in numbers]


def entries(out: Path) -> list[Entry]:
    path = out / "replay.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def seeds(log: Path) -> list[str]:
    """Those of the samplers that have begun."""
    return log.read_text().split() if log.exists() else []


@pytest.mark.timeout(2400)
def test_two_servers_share_the_files_and_each_is_done_once_though_one_server_is_killed(
    servers: Servers, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for number in range(FILES - SLOW_FILES):
        write(folder / f"{number:03}colour.json", colour_graph(number * 40))
    write_video_graphs(folder, SLOW_FILES, f"{FILES // 2:03}video")
    log = tmp_path / "seeds"
    servers.control(WanVideoSampler={"action": "hold", "at_step": 1}, seeds_log=str(log))
    start = time.monotonic()
    process = replay(folder, "--out", out, *on(servers, 0, 1))
    wait_until(lambda: len(seeds(log)) == 2, "each server renders one of the slow files")
    assert len(entries(out)) >= FILES // 2
    servers.kill()
    servers.control()
    servers.start()
    code, said = finish(process)
    servers.wait_ready()
    print(f"{FILES} files in {time.monotonic() - start:.1f} s, one server killed")
    assert code == 0, said
    done = entries(out)
    assert [entry["status"] for entry in done] == ["done"] * FILES
    assert set(Counter(entry["file"] for entry in done).values()) == {1}, "none twice"
    assert "queued" in said, "what the dead server had went back"
    made = {file["path"] for entry in done for file in entry["files"]}
    ours = {"replay.jsonl", ".replay.lock", "index.html", ".posters"}
    assert {path.name for path in out.iterdir()} - ours == made
    assert sum(name.endswith(".mp4") for name in made) == SLOW_FILES
    for entry in done:
        if "colour" in entry["file"]:
            colour = colour_of(out / entry["files"][0]["path"])
            assert colour == int(Path(entry["file"]).name[:3]) * 40
    code, said = finish(replay(folder, "--out", out, *on(servers, 1)))
    assert (code, len(entries(out))) == (0, FILES), "nothing is left to do"
    assert f"{FILES} runs done before" in said


def colour_of(path: Path) -> int:
    with Image.open(path) as picture:
        pixel = picture.convert("RGB").tobytes()[:3]
    return int.from_bytes(pixel, "big")


def test_ctrl_c_interrupts_what_runs_and_the_next_call_does_the_rest(
    servers: Servers, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_video_graphs(folder, 3)
    log = tmp_path / "seeds"
    servers.control(WanVideoSampler={"action": "hold", "at_step": 1}, seeds_log=str(log))
    process = replay(folder, "--out", out, *on(servers, 1))
    wait_until(lambda: seeds(log), "the server renders")
    process.send_signal(signal.SIGINT)
    code, said = finish(process)
    assert code == 130, said
    assert [entry["status"] for entry in entries(out)] == ["cancelled"]
    wait_until(lambda: servers.queues()[1] == [], "the server has nothing to do")
    servers.control()
    code, said = finish(replay(folder, "--out", out, *on(servers, 1)))
    assert code == 0, said
    assert [entry["status"] for entry in entries(out)] == ["cancelled"] + ["done"] * 3


def test_all_outputs_come_and_a_failed_run_is_tried_again(
    servers: Servers, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_video_graphs(folder, 1)
    graph = json.loads((folder / "video0.json").read_text())
    graph["90"] = {"class_type": "PrimitiveString", "inputs": {"value": "a text"}}
    graph["91"] = {"class_type": "PreviewAny", "inputs": {"source": ["90", 0]}}
    graph["92"] = {
        "class_type": "SaveAudio",
        "inputs": {"audio": ["44", 0], "filename_prefix": "sound"},
    }
    write(folder / "video0.json", graph)
    servers.control(WanVideoSampler={"action": "raise", "times": 1})
    code, said = finish(replay(folder, "--out", out, "--name={stem}", *on(servers, 0)))
    assert code == 1
    assert "WanVideoSampler" in said
    servers.control(WanVideoSampler={"action": "raise", "times": 1})
    code, said = finish(replay(folder, "--out", out, "--name={stem}", "--retry=1", *on(servers, 0)))
    assert code == 0, said
    failed, done = entries(out)
    assert (failed["status"], done["status"], done["tries"]) == ("failed", "done", 2)
    assert {file["path"] for file in done["files"]} == {"video0.mp4", "video0.flac", "video0.txt"}
    seen = {file["path"]: file.get("look") for file in done["files"]}
    assert seen["video0.mp4"]["quality"]["windows"] == 1
    assert seen["video0.flac"] is seen["video0.txt"] is None
    assert (out / "video0.txt").read_text() == "a text"


def test_each_row_is_a_run_and_random_seeds_are_the_same_after_a_restart(
    servers: Servers, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write(folder / "noise.json", noise_graph(3) | colour_graph_of_id("5"))
    rows = tmp_path / "rows.csv"
    rows.write_text("Colour.color\n255\n65280\n255\n")
    words: list[str | Path] = [
        folder,
        "--out",
        out,
        "--rows",
        rows,
        "--seed=random",
        "--name={stem}-{seed}-{row}",
    ]
    assert finish(replay(*words, *on(servers, 0, 1)))[0] == 0
    done = entries(out)
    assert {colour_of(png) for png in out.glob("*.png")} == {255, 65280}
    assert len({entry["seed"] for entry in done}) == 3, "each row has its seed"
    assert {entry["name"] for entry in done} == {f"noise-{e['seed']}-{e['row']}" for e in done}
    assert finish(replay(*words, *on(servers, 0, 1)))[0] == 0
    assert len(entries(out)) == 3


def colour_graph_of_id(key: str) -> dict[str, Any]:
    first, second = colour_graph(0).values()
    second["inputs"]["images"] = [key, 0]
    return {key: first, f"{key}1": second}


def test_what_a_server_lacks_fails_with_the_name_of_it_and_the_rest_is_done(
    servers: Servers, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_video_graphs(folder, 1)
    graph = json.loads((folder / "video0.json").read_text())
    graph["16"]["inputs"]["model_name"] = "no_such_vae.safetensors"
    write(folder / "video0.json", graph)
    write(folder / "colour.json", colour_graph(7))
    code, said = finish(replay(folder, "--out", out, *on(servers, 0, 1)))
    assert code == 1
    assert "'no_such_vae.safetensors', allowed: " in said
    assert Counter(entry["status"] for entry in entries(out)) == {"done": 1, "failed": 1}


def test_masks_that_fit_no_voices_are_told_before_anything_renders(
    servers: Servers, folder: Path, tmp_path: Path
) -> None:
    out, log = tmp_path / "out", tmp_path / "seeds"
    doubles_graphs.write_media(folder)
    graph = doubles_graphs.image_to_video(voices=2, prefix="talk/video")
    graph = doubles_graphs.masks(graph, folder)
    graph["35"] = doubles_graphs.node("LoadImage", image="image.png")
    write(folder / "video.json", graph)
    servers.control(seeds_log=str(log))
    code, said = finish(replay(folder, "--out", out, *on(servers, 0)))
    assert code == 1
    assert "image.png: it has 1 frame, and the sampler fails on 2 voices" in said
    assert seeds(log) == []


def test_a_gui_file_runs_with_its_changes(servers: Servers, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    image = {"name": "IMAGE", "type": "IMAGE", "links": [1]}
    colour = {"id": 1, "type": "EmptyImage", "title": "Colour", "inputs": [], "outputs": [image]}
    images = {"name": "images", "type": "IMAGE", "link": 1}
    save = {"id": 2, "type": "SaveImage", "inputs": [images], "outputs": []}
    nodes = [colour | {"widgets_values": [32, 32, 1, 5]}, save | {"widgets_values": ["p"]}]
    write(folder / "gui.json", {"nodes": nodes, "links": [[1, 1, 0, 2, 0, "IMAGE"]]})
    code, said = finish(replay(folder, "--out", out, "--set=Colour.color=1193046", *on(servers, 0)))
    assert code == 0, said
    assert colour_of(next(out.glob("*.png"))) == 0x123456


def test_a_request_and_then_its_bundle_are_rendered_on_a_server(
    servers: Servers, folder: Path, tmp_path: Path, portrait: Path, voice: Path
) -> None:
    out = tmp_path / "out"
    for file in (portrait, voice):
        (folder / file.name).write_bytes(file.read_bytes())
    request = {"image_url": portrait.name, "wav_url": voice.name, "draft": True, "max_frame": 12}
    write(folder / "request.json", request | {"bundle": True, "width": 256, "height": 256})
    words: list[str | Path] = ["--out", out, "--name={stem}", *on(servers, 0)]
    code, said = finish(replay(folder / "request.json", *words))
    assert code == 0, said
    (done,) = entries(out)
    assert {file["path"] for file in done["files"]} == {"request.mp4", "request.bundle.json"}
    assert done["timings"]["render"] > 0
    code, said = finish(replay(out / "request.bundle.json", *words, "--name=again"))
    assert code == 0, said
    again = entries(out)[1]
    bundle = json.loads((out / "request.bundle.json").read_text())
    assert again["seed"] == done["seed"] == bundle["result"]["generation_params"]["seed"]


def test_without_a_server_it_is_the_comfyui_of_the_settings(
    servers: Servers, folder: Path, tmp_path: Path
) -> None:
    write(folder / "colour.json", colour_graph(9))
    code, said = finish(replay(folder, "--out", tmp_path / "out", COMFYUI_URL=servers.urls[0]))
    assert code == 0, said
    assert colour_of(next((tmp_path / "out").glob("*.png"))) == 9


def test_a_server_that_is_there_does_the_work_of_one_that_never_comes(
    servers: Servers, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for number in range(5):
        write(folder / f"{number}.json", colour_graph(number))
    absent = "--server=http://127.0.0.1:9"
    code, said = finish(replay(folder, "--out", out, absent, *on(servers, 1)))
    assert code == 0, said
    assert {entry["server"] for entry in entries(out)} == {ComfyClient(servers.urls[1]).url}
