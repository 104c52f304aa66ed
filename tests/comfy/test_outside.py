"""Dubbing leaves the rest alone, on a real ComfyUI with the doubles."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from talkinghead.comfy.studio import Studio
from talkinghead.media.masks import Framing
from talkinghead.render.job import Job
from talkinghead.render.run import run_job
from tests.conftest import FileServer, write_pan, write_tone

SECONDS = 6.0  # 150 frames: two windows
BOX = [0, 0, 120, 240]  # of the source's 320x240
EDGE = 120 - 32 + 13  # where its feather ends in the middle 256x240, at 256x256: and some more


@pytest.mark.parametrize(
    "fields",
    [{}, {"fps": 30}, {"long": True}, {"long": True, "fps": 30}, {"video_method": "denoise"}],
    ids=["one prompt", "30 fps", "chain", "chain at 30 fps", "denoise"],
)
def test_beside_the_speaker_the_delivered_frame_is_the_sources(
    fields: dict[str, Any], files: FileServer, portrait: Path, studio: Studio, tmp_path: Path
) -> None:
    still = write_pan(files.folder / "v.mp4", portrait, seconds=SECONDS, still=True)
    write_tone(files.folder / "a.wav", seconds=SECONDS)
    person = {"audio_url": files.url("a.wav"), "box": BOX}
    job = {"video_url": files.url("v.mp4"), "speakers": [person], "keep_outside": True}
    result = run_job(Job("kept", job | {"width": 256, "height": 256, "seed": 7} | fields), studio)
    assert result.get("status") == "completed", result
    (tmp_path / "out.mp4").write_bytes(base64.b64decode(result["video"].partition(",")[2]))
    with av.open(str(still)) as file:
        source = Image.fromarray(next(file.decode(video=0)).to_ndarray(format="rgb24"))
    original = np.asarray(Framing(320, 240, 256, 256).apply(source), int)
    with av.open(str(tmp_path / "out.mp4")) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert len(frames) == result["video_info"]["frames"] == SECONDS * fields.get("fps", 25)
    beside = slice(round(EDGE * 256 / 240) + 4, None)
    for frame in frames[::10]:
        assert np.abs(frame.astype(int) - original)[:, beside].mean() < 4
    inside = np.stack(frames)[:, :, :60]
    assert any(not np.array_equal(inside[0], each) for each in inside[1:]), "the model's moves"


def test_a_camera_that_moves_is_told_before_comfyui_begins(
    files: FileServer, portrait: Path, studio: Studio
) -> None:
    write_pan(files.folder / "v.mp4", portrait, seconds=SECONDS)
    write_tone(files.folder / "a.wav", seconds=SECONDS)
    job = {"video_url": files.url("v.mp4"), "wav_url": files.url("a.wav"), "keep_outside": True}
    for dry in (True, False):
        result = run_job(Job("pan", job | {"dry_run": dry}), studio)
        assert (result["status"], result["error_code"]) == ("failed", "unsupported_combination")
        assert result["stage"] == "prepare"
    draft = run_job(Job("draft", job | {"draft": True, "max_frame": 20}), studio)
    assert draft["status"] == "completed", draft
