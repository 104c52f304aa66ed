"""A voice of one's own: one edit, and Run, in each template that uses the models."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from comfy_client import ComfyClient
from talkinghead.workflow.gui_file import Workflow
from talkinghead.workflow.template import fill, load_template
from tests.conftest import write_pan, write_tone
from tests.gui.browser import Gui
from tests.gui.conftest import OWN, Server
from tests.gui.test_round_trip import a_plan
from tests.gui.test_window import SIZE, run

SECONDS = 3.7  # 93 frames: two windows


def small(name: str, source: str, server: Server) -> Workflow:
    """The template with the server's models, at the smallest size."""
    slots = dict(server.profile.filling(a_plan()))
    slots |= {"Talking image": SIZE, "Crop to size": {"width": 60, "height": 62, "x": 2, "y": 1}}
    if name == "infinitetalk_v2v":
        slots["Source video"] = {"video": source, "custom_width": 64, "custom_height": 64}
    else:
        slots["Resize portrait"] = SIZE
    return fill(load_template(name), slots, server.schemas)


@pytest.mark.parametrize("name", ["infinitetalk_i2v", "infinitetalk_v2v"])
@pytest.mark.parametrize("frontend", [OWN], indirect=True, scope="package")
@pytest.mark.parametrize("server", ["comfyui"], indirect=True, scope="package")
def test_a_voice_of_ones_own_is_one_edit_and_run(
    gui: Gui, server: Server, portrait: Path, tmp_path: Path, name: str
) -> None:
    client = ComfyClient(server.url)
    voice = client.upload(
        write_tone(tmp_path / "own.wav", seconds=SECONDS, rate=48_000, channels=2)
    )
    source = client.upload(write_pan(tmp_path / "source.mp4", portrait, fps=25))
    gui.load(small(name, source, server))
    gui.choose("Speaker 1 audio", "audio", voice)
    (video,) = (each for each in run(gui, server) if each.filename.endswith(".mp4"))
    assert gui.complaints() == []
    client.download(video, tmp_path / "made.mp4")
    with av.open(str(tmp_path / "made.mp4")) as container:
        (sound,) = container.streams.audio
        assert (sound.rate, sound.channels) == (48_000, 2), "as it was recorded"
        assert sum(1 for _ in container.decode(video=0)) == 93
