"""A job's bundle, opened in the GUI and run there by its button."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import requests

from comfy_client import ComfyClient, OutputFile
from talkinghead.cli.gui import read_workflow
from talkinghead.comfy.studio import Studio
from talkinghead.delivery.place import as_json
from talkinghead.models.manifest import load_manifest
from talkinghead.plan.request import parse_request
from talkinghead.render.job import Job
from talkinghead.render.run import render
from talkinghead.replay.sources import read_source
from talkinghead.settings import Settings
from talkinghead.workflow.lint import traps
from tests.gui.browser import POLL_MS, Gui, comparable
from tests.gui.conftest import Server
from tests.timing import LAST_RESORT_SECONDS, wait_until


@pytest.mark.parametrize("server", ["comfyui"], indirect=True, scope="package")
def test_a_jobs_bundle_run_in_the_gui_gives_the_same_video(
    gui: Gui, server: Server, tmp_path: Path, portrait: Path, voice: Path
) -> None:
    bundle = bundle_of_a_job(server, portrait, voice, {"max_audio_duration": 1})
    client = ComfyClient(server.url)
    client.free_memory()  # ComfyUI would answer from its cache: the same graph, the same video
    requests.post(f"{server.url}/history", json={"clear": True}, timeout=LAST_RESORT_SECONDS)
    assert gui.load(bundle["workflow"]).api.keys() == bundle["graph"].keys()
    gui.run()
    made = wait_for_video(gui, server.url)
    first = dataclasses.replace(made, filename=made.filename.replace("00002", "00001"))
    assert made != first
    for file, name in ((first, "worker.mp4"), (made, "gui.mp4")):
        client.download(file, tmp_path / name)
    worker, again = (read(tmp_path / name) for name in ("worker.mp4", "gui.mp4"))
    assert np.array_equal(worker[0], again[0]), "frame by frame"
    assert np.array_equal(worker[1], again[1]), "sample by sample"
    assert worker[0].shape == (25, 62, 60, 3) and gui.complaints() == []


@pytest.mark.parametrize("server", ["comfyui"], indirect=True, scope="package")
def test_a_long_renders_bundle_opens_as_its_first_window_and_is_replayed_whole(
    gui: Gui, server: Server, tmp_path: Path, portrait: Path, voice: Path
) -> None:
    bundle = bundle_of_a_job(server, portrait, voice, {"max_audio_duration": 4, "long": True})
    path = tmp_path / "bundle.json"
    path.write_bytes(as_json(bundle))
    found = read_workflow(path)
    assert (found.name, found.windows) == ("talkinghead-bundled", 2)
    shown = gui.load(found.workflow)
    assert gui.complaints() == []
    assert comparable(shown.api, server.schemas) == comparable(bundle["graph"], server.schemas)
    assert traps(bundle["graph"], server.schemas) == []
    replayed = read_source(path)
    assert (replayed.kind, replayed.content["long"], replayed.content["seed"]) == (
        *("request", True),
        7,
    )


def bundle_of_a_job(
    server: Server, portrait: Path, voice: Path, asked: dict[str, Any]
) -> dict[str, Any]:
    """What the worker says of a job at the smallest size that the VAE takes."""
    is_real = server.profile == load_manifest().profile("tiny")
    settings = Settings(comfyui_url=server.url, model_profile="tiny" if is_real else "fp8")
    urls = {"image_url": portrait.as_uri(), "wav_url": voice.as_uri()}
    fields = urls | {"seed": 7, "bundle": True} | asked
    request = parse_request(fields, local_files=True)
    small = request.model_copy(update={"width": 60, "height": 62})
    with Studio(settings, local_files=True) as studio:
        bundle: dict[str, Any] = render(Job("bundled", fields), small, studio)["bundle"]
        with studio.comfy("next", lambda: None):
            return bundle  # ComfyUI is at rest again


def wait_for_video(gui: Gui, url: str) -> OutputFile:
    """The video of the one prompt in the history: the worker deletes its own."""
    made: list[OutputFile] = []

    def has_ended() -> bool:
        gui.page.wait_for_timeout(POLL_MS)
        history = requests.get(f"{url}/history", timeout=LAST_RESORT_SECONDS).json()
        for entry in history.values():
            assert entry["status"]["status_str"] == "success", entry["status"]
            for node, output in entry["outputs"].items():
                for file in output.get("gifs", []):
                    place = file["filename"], file["subfolder"], file["type"]
                    made.append(OutputFile(node, "gifs", *place))
        return bool(made)

    wait_until(has_ended, "the video of the GUI's run")
    return made[0]


def read(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """All frames, and all samples."""
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    with av.open(str(path)) as file:
        sound = [frame.to_ndarray() for frame in file.decode(audio=0)]
    return np.stack(frames), np.concatenate(sound, axis=1)
