"""Dubbing leaves the rest alone, on a real ComfyUI with the doubles."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.video.reformatter import Colorspace
from PIL import Image

from talkinghead.comfy.studio import Studio
from talkinghead.media.masks import Framing
from talkinghead.render.job import Job
from talkinghead.render.run import run_job
from tests.conftest import FileServer, write_pan, write_tone

SECONDS = 6.0  # 150 frames: two windows
BOX = [0, 0, 120, 240]  # of the source's 320x240
FACE = 180, 272  # from left to right, of the portrait's 512
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
    middle = {"width": 256, "height": 256, "crop": "center"}
    result = run_job(Job("kept", job | middle | {"seed": 7} | fields), studio)
    assert result.get("status") == "completed", result
    (tmp_path / "out.mp4").write_bytes(base64.b64decode(result["video"].partition(",")[2]))
    source = Image.fromarray(decoded(still)[0])
    original = np.asarray(Framing(320, 240, 256, 256).apply(source), int)
    frames = decoded(tmp_path / "out.mp4", Colorspace.ITU709)
    assert len(frames) == result["video_info"]["frames"] == SECONDS * fields.get("fps", 25)
    beside = slice(round(EDGE * 256 / 240) + 4, None)
    for frame in frames[::10]:
        assert np.abs(frame.astype(int) - original)[:, beside].mean() < 3
    inside = np.stack(frames)[:, :, :60]
    assert any(not np.array_equal(inside[0], each) for each in inside[1:]), "the model's moves"


@pytest.mark.parametrize("still", [True, False], ids=["still", "panning"])
def test_a_draft_leaves_alone_what_is_around_the_face(
    still: bool, files: FileServer, portrait: Path, studio: Studio, tmp_path: Path
) -> None:
    source = write_pan(files.folder / "v.mp4", portrait, seconds=2, fps=25, still=still)
    write_tone(files.folder / "a.wav", seconds=2)
    urls = {"video_url": files.url("v.mp4"), "wav_url": files.url("a.wav")}
    middle = {"width": 320, "height": 256, "crop": "center"}
    result = run_job(Job("draft", urls | middle | {"draft": True, "keep_outside": True}), studio)
    assert result.get("status") == "completed", result
    (tmp_path / "out.mp4").write_bytes(base64.b64decode(result["video"].partition(",")[2]))
    framing = Framing(320, 240, 320, 256)
    originals = [framing.apply(Image.fromarray(each)) for each in decoded(source)]
    frames = decoded(tmp_path / "out.mp4", Colorspace.ITU709)
    assert len(frames) == len(originals) == 50
    mouths = 0.0
    for number, (frame, original) in enumerate(zip(frames, originals, strict=True)):
        differs = np.abs(frame.astype(int) - np.asarray(original, int)).mean(axis=2)
        panned = 0 if still else 192 * number / 50  # over the portrait, as `write_pan` does
        left, right = ((edge - panned - 10) * 256 / 240 for edge in (FACE[0] - 10, FACE[1] + 10))
        face = slice(max(0, round(left)), max(0, round(right)))
        mouths = max(mouths, differs[:, face].max())
        differs[:, face] = 0
        assert differs.mean() < 3
        assert differs.max() < 60
    assert mouths > 60, "the mouth moves"


def decoded(path: Path, matrix: Colorspace = Colorspace.DEFAULT) -> list[npt.NDArray[np.uint8]]:
    with av.open(str(path)) as file:
        frames = file.decode(video=0)
        shown = (frame.to_ndarray(format="rgb24", src_colorspace=matrix) for frame in frames)
        return [np.asarray(each, np.uint8) for each in shown]


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
