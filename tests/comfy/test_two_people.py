"""Two people at the sides of a picture, found by their faces, in drafts of no named size."""

from __future__ import annotations

import base64
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageChops

from talkinghead.comfy.studio import Studio
from talkinghead.media.faces import Face, find_faces
from talkinghead.render.job import Job
from talkinghead.render.run import run_job
from tests.conftest import FileServer, drawn_pair

Frames = npt.NDArray[np.uint8]
RATE_HZ, FPS = 16_000, 25
# When each of them speaks: half of the time, and independent of the other.
PERIODS_SECONDS = (0.8, 1.6)
SECONDS = 4.8
GIVEN_WAY = "854x480, the source's shape, is rendered instead of"


def speaks(period: float, count: int, rate: float) -> npt.NDArray[np.bool_]:
    """Whether somebody speaks, `rate` times a second."""
    return np.arange(count) / rate % period < period / 2


def photographed(portrait: Path) -> Image.Image:
    image = Image.new("RGB", (1280, 720), "grey")
    with Image.open(portrait) as whole:
        person = whole.convert("RGB").crop((110, 5, 360, 300)).resize((400, 472))
    for x in (30, 860):
        image.paste(person, (x, 120))
    return image


def pictured(how: str, portrait: Path) -> Image.Image:
    if how == "photographed":
        return photographed(portrait)
    return ImageChops.offset(drawn_pair(), -20 if how == "drawn at the edge" else 0, 0)


@pytest.fixture(params=["photographed", "drawn", "drawn at the edge"])
def two_people(request: pytest.FixtureRequest, files: FileServer, portrait: Path) -> list[str]:
    """The URLs of a landscape picture with a person at each side, and of their voices."""
    pictured(request.param, portrait).save(files.folder / "two.png")
    urls = [files.url("two.png")]
    for number, period in enumerate(PERIODS_SECONDS):
        seconds = np.arange(round(SECONDS * RATE_HZ)) / RATE_HZ
        tone = 0.4 * np.sin(2 * np.pi * 220 * (number + 1) * seconds)
        heard = tone * speaks(period, len(tone), RATE_HZ)
        with wave.open(str(files.folder / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
            file.writeframes((heard * 32767).astype("<i2").tobytes())
        urls.append(files.url(f"{number}.wav"))
    return urls


def fields_of(contract: str, urls: Sequence[str]) -> dict[str, Any]:
    image, *voices = urls
    if contract == "A":
        both = {"wav_url": voices[0], "wav_url_2": voices[1]}
        return {"image_url": image, "person_count": "multi", **both}
    return {"image_url": image, "audio_urls": voices}


def opened(frames: Frames, face: Face) -> npt.NDArray[np.float64]:
    """How far a mouth is open in each frame: how much of what is around it is dark."""
    x0, y0, x1, y1 = face.box
    side, (x, _) = x1 - x0, face.middle
    rows = slice(round(y0 + 0.65 * (y1 - y0)), round(y1))
    part = frames[:, rows, round(x - 0.3 * side) : round(x + 0.3 * side)]
    return np.asarray((part.max(axis=-1) < 90).sum(axis=(1, 2)), np.float64)


def decoded(result: dict[str, Any], path: Path) -> Frames:
    path.write_bytes(base64.b64decode(result["video"].partition(",")[2]))
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


@pytest.mark.parametrize("contract", ["A", "B"])
def test_the_left_mouth_follows_the_first_voice_and_the_right_one_the_second(
    contract: str, two_people: list[str], studio: Studio, tmp_path: Path
) -> None:
    fields = fields_of(contract, two_people) | {"draft": True, "audio_mode": "parallel", "seed": 7}
    result = run_job(Job("two", fields), studio)
    assert result.get("status") == "completed", result
    assert (result["video_info"]["width"], result["video_info"]["height"]) == (854, 480)
    assert any(GIVEN_WAY in warning for warning in result["warnings"])
    assert len(result["speakers_found"]) == 2
    frames = decoded(result, tmp_path / "out.mp4")
    faces = find_faces(Image.fromarray(frames[0]), 2)
    voices = [speaks(period, len(frames), FPS).astype(np.float64) for period in PERIODS_SECONDS]
    for own, face in enumerate(faces):
        mouth = opened(frames, face)
        assert np.corrcoef(mouth, voices[own])[0, 1] > 0.8
        assert abs(np.corrcoef(mouth, voices[1 - own])[0, 1]) < 0.3


def moved(frames: Frames, face: Face) -> float:
    """The most that a mouth's opening changes, in pixels."""
    return float(np.ptp(opened(frames, face)))


def masked(files: FileServer, size: tuple[int, int]) -> dict[str, Any]:
    mask = Image.new("L", size)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    mask.save(files.folder / "mask.png")
    return {"mask_url": files.url("mask.png")}


@pytest.mark.parametrize("two_people", ["photographed"], indirect=True)
@pytest.mark.parametrize("told", ["box", "mask_url"])
def test_of_several_the_one_who_is_told_speaks_in_the_draft(
    told: str, two_people: list[str], files: FileServer, studio: Studio, tmp_path: Path
) -> None:
    image, voice, _ = two_people
    left = {"box": [0, 0, 0.5, 1]} if told == "box" else masked(files, (1280, 720))
    fields = {"image_url": image, "speakers": [{"audio_url": voice, **left}], "draft": True}
    result = run_job(Job("one", fields | {"aspect_ratio": "auto", "seed": 7}), studio)
    assert result.get("status") == "completed", result
    assert any("others in the frame may speak along" in each for each in result["warnings"])
    frames = decoded(result, tmp_path / "out.mp4")
    spoken, silent = (moved(frames, face) for face in find_faces(Image.fromarray(frames[0]), 2))
    assert spoken > 50 > silent


@pytest.mark.parametrize("two_people", ["photographed"], indirect=True)
def test_a_speaker_whose_face_the_draft_misses_is_named(
    two_people: list[str], studio: Studio
) -> None:
    image, *voices = two_people
    boxes = ([0, 0, 0.4, 1], [0.4, 0.1, 0.6, 0.9])
    speakers = [{"audio_url": voice, "box": box} for voice, box in zip(voices, boxes, strict=True)]
    fields = {"image_url": image, "speakers": speakers, "aspect_ratio": "16:9", "draft": True}
    result = run_job(Job("missed", fields), studio)
    assert result.get("status") == "completed", result
    missed = [each for each in result["warnings"] if "in this draft: no face was found" in each]
    assert [each.partition(",")[0] for each in missed] == ["speakers.1"]


def test_two_people_in_an_upright_video_are_refused_with_the_shape_that_holds_them(
    two_people: list[str], studio: Studio
) -> None:
    for dry in (True, False):
        fields = fields_of("A", two_people) | {"aspect_ratio": "9:16", "dry_run": dry}
        result = run_job(Job("upright", fields), studio)
        assert (result["status"], result["error_code"]) == ("failed", "unsupported_combination")
        assert 'aspect_ratio "16:9"' in result["error"]
        assert result["stage"] == "prepare"
