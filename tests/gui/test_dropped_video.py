"""A delivered video, dropped on the GUI."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import av

from talkinghead.media import mux
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.template import load_template
from tests.conftest import write_pan
from tests.gui.browser import Gui, comparable
from tests.gui.conftest import Server

DROP = """async (video) => {
  const bytes = Uint8Array.from(atob(video), (c) => c.charCodeAt(0))
  await app.handleFile(new File([bytes], 'video.mp4', {type: 'video/mp4'}))
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))}"""


def test_a_video_that_carries_its_workflow_opens_as_that_workflow(
    gui: Gui, server: Server, tmp_path: Path, portrait: Path, tone: Callable[..., Path]
) -> None:
    rendered = write_pan(tmp_path / "rendered.mp4", portrait, fps=25)
    sound = mux.encode_sound(tone(), tmp_path / "sound.m4a")
    template, video = load_template("draft_i2v"), tmp_path / "video.mp4"
    mux.finish_video(rendered, sound, video, fps=25, frames=25, workflow=template)
    with av.open(str(video)) as file:
        assert file.streams.video[0].frames == 25
    gui.load(load_template("infinitetalk_i2v"))
    gui.page.evaluate(DROP, base64.b64encode(video.read_bytes()).decode())
    shown = gui.shown()
    assert gui.complaints() == []
    assert shown.saved["id"] == template["id"]
    ours = to_api(template, server.schemas)
    assert comparable(shown.api, server.schemas) == comparable(ours, server.schemas)
