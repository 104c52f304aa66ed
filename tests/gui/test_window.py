"""The template of one window, used in the GUI as its note says: a first window, and the next."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import requests

from comfy_client import ComfyClient, OutputFile
from talkinghead.media.mux import count_frames
from talkinghead.plan.windows import window
from talkinghead.workflow.gui_file import Workflow
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.lint import traps
from talkinghead.workflow.template import fill, load_template
from tests.gui.browser import POLL_MS, Gui
from tests.gui.conftest import Server
from tests.gui.test_round_trip import a_plan
from tests.timing import LAST_RESORT_SECONDS, wait_until

SIZE = {"width": 64, "height": 64}


def small_window(server: Server) -> Workflow:
    """The template as it lies, with the server's models, at the smallest size."""
    slots = dict(server.profile.filling(a_plan()))
    for title in ("Resize portrait", "Resize reference", "Talking image"):
        slots[title] = SIZE
    slots["Crop to size"] = {"width": 60, "height": 62, "x": 2, "y": 1}
    return fill(load_template("infinitetalk_window"), slots, server.schemas)


@pytest.mark.parametrize("server", ["comfyui"], indirect=True, scope="package")
def test_the_notes_way_to_the_next_window_is_that_of_the_worker(
    gui: Gui, server: Server, tmp_path: Path
) -> None:
    gui.load(small_window(server))
    assert frames_of(run(gui, server), server, tmp_path) == 81

    keep_motion(server, tmp_path)
    gui.mute("Motion before")
    gui.type_number("Window audio", "start", 72)
    gui.type_number("New frames", "split_index", 9)
    gui.type_number("Cut to length", "split_index", 72)
    gui.type_number("Sampler", "seed", 43)
    shown = gui.shown()
    assert frames_of(run(gui, server), server, tmp_path) == 72
    assert gui.complaints() == []

    graph = to_api(shown.saved, server.schemas)
    assert traps(graph, server.schemas) == []
    second = window(dataclasses.replace(a_plan(), frames=300, long=True), 1)
    sent = {entry["_meta"]["title"]: entry["inputs"] for entry in graph.values()}
    assert sent["Window audio"]["start"] == second.start
    assert sent["New frames"]["split_index"] == second.repeated
    assert sent["Cut to length"]["split_index"] == second.new


def run(gui: Gui, server: Server) -> list[OutputFile]:
    """Press Run; return the files that were made."""
    requests.post(f"{server.url}/history", json={"clear": True}, timeout=LAST_RESORT_SECONDS)
    gui.run()
    ended: list[dict[str, Any]] = []

    def has_ended() -> bool:
        gui.page.wait_for_timeout(POLL_MS)
        history = requests.get(f"{server.url}/history", timeout=LAST_RESORT_SECONDS).json()
        ended.extend(history.values())
        return bool(ended)

    wait_until(has_ended, "the end of the GUI's run")
    assert ended[0]["status"]["status_str"] == "success", ended[0]["status"]
    return [
        OutputFile(node, kind, file["filename"], file["subfolder"], file["type"])
        for node, output in ended[0]["outputs"].items()
        for kind, files in output.items()
        for file in files
        if isinstance(file, dict)
    ]


def frames_of(made: list[OutputFile], server: Server, folder: Path) -> int:
    """How many frames the run's one video has; its motion is kept in the folder."""
    client = ComfyClient(server.url)
    (video,) = (file for file in made if file.filename.endswith(".mp4"))
    (motion,) = (file for file in made if file.filename.endswith(".latent"))
    client.download(video, folder / "window.mp4")
    client.download(motion, folder / "motion.latent")
    return count_frames(folder / "window.mp4")


def keep_motion(server: Server, folder: Path) -> None:
    """What the note has a person do with files: the newest motion, as input/motion.latent."""
    assert ComfyClient(server.url).upload(folder / "motion.latent") == "motion.latent"
