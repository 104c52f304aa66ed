"""Our graphs on the real node packs, on a CPU, with the random weights of scripts/make-tiny-models.

Runs when COMFYUI_DIR names a ComfyUI with the packs of custom_nodes.txt and the tiny models;
COMFYUI_PYTHON, if the packs' requirements are in another environment.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from talkinghead.comfy.studio import Studio
from talkinghead.errors import RenderDefective
from talkinghead.media.sound import Voice, probe_sound, save_mix
from talkinghead.models.manifest import load_manifest
from talkinghead.plan.request import parse_request
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.render.run import render
from talkinghead.settings import Settings
from tests.conftest import write_pan, write_tone
from tests.timing import LAST_RESORT_SECONDS

SETTINGS = Settings()
PACKS = ("ComfyUI-WanVideoWrapper", "ComfyUI-VideoHelperSuite")
missing = [
    str(path)
    for path in (
        *(SETTINGS.comfyui_dir / "custom_nodes" / pack for pack in PACKS),
        SETTINGS.comfyui_dir / "models" / "vae" / "tiny-wan-vae.safetensors",
    )
    if not path.exists()
]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not there: {', '.join(missing)}")

# The smallest picture that the VAE takes, not a multiple of 16, so that the crop has work to do.
WIDTH, HEIGHT = 60, 62
SECONDS = 4.0  # 100 frames: two windows of either model


@contextlib.contextmanager
def tiny_studio(work_dir: Path, **settings: Any) -> Iterator[Studio]:
    """A worker with the tiny models on a CPU, which has all the time that they take there."""
    update = {
        "work_dir": work_dir,
        "comfyui_cpu": True,
        "model_profile": "tiny",
        "max_inline_mb": 100.0,
        "comfyui_start_seconds": LAST_RESORT_SECONDS,
        "stall_seconds": LAST_RESORT_SECONDS,
        **settings,
    }
    with Studio(SETTINGS.model_copy(update=update), local_files=True) as studio:
        studio.idle_seconds = LAST_RESORT_SECONDS
        yield studio


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with tiny_studio(tmp_path_factory.mktemp("real")) as studio:
        yield studio


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory, portrait: Path) -> dict[str, str]:
    """Four voices of different rate, channels and length, a picture and two videos."""
    folder = tmp_path_factory.mktemp("media")
    voices = [
        write_tone(folder / "a.wav", seconds=SECONDS, rate=48_000, channels=2),
        write_tone(folder / "b.wav", seconds=SECONDS - 1, rate=22_050, hz=500),
        write_tone(folder / "c.wav", seconds=SECONDS - 2, rate=44_100, channels=2, hz=700),
        write_tone(folder / "d.wav", seconds=SECONDS - 3, rate=8_000, hz=900),
    ]
    videos = {
        "video": write_pan(folder / "v.mp4", portrait, seconds=SECONDS + 1),
        "still": write_pan(folder / "t.mp4", portrait, seconds=SECONDS + 1, still=True),
        "short": write_pan(folder / "s.mp4", portrait, seconds=1.5),
    }
    with Image.open(portrait) as image:
        both = Image.new("RGB", (2 * image.width, image.height))
        for side in range(2):
            both.paste(image, (side * image.width, 0))
        both.save(folder / "pair.png")
    pictures = {"picture": portrait, "pair": folder / "pair.png"}
    files = {path.stem: path for path in voices} | videos | pictures
    return {name: path.as_uri() for name, path in files.items()}


ONE: dict[str, Any] = {"image_url": "picture", "wav_url": "a"}
BOXES: list[dict[str, Any]] = [
    {"audio_url": "a", "box": [0, 0, 0.5, 1]},
    {"audio_url": "b", "box": [0.5, 0, 1, 1]},
]
KEPT = {"keep_outside": True}
CASES: dict[str, dict[str, Any]] = {
    "i2v_one_speaker": ONE,
    "i2v_two_speakers_with_boxes": {"image_url": "picture", "speakers": BOXES},
    "i2v_two_speakers_by_faces": {"image_url": "pair", "audio_urls": ["a", "b"]}
    | {"mode": "infinitetalk", "audio_mode": "parallel"},
    "i2v_two_of_whom_one_listens": {"image_url": "picture", "speakers": [{"audio_url": "a"}, {}]},
    "i2v_four_speakers": {
        "image_url": "picture",
        "speakers": [{"audio_url": name} for name in "abcd"],
    },
    "i2v_at_30_fps": ONE | {"fps": 30},
    "i2v_six_steps_without_lora": ONE | {"use_speed_lora": False, "steps": 6, "cfg_scale": 2.0},
    "v2v_keyframes": {"video_url": "video", "wav_url": "a"},
    "v2v_keyframes_two_speakers_short_video": {"video_url": "short", "speakers": BOXES},
    "v2v_denoise": {"video_url": "video", "wav_url": "a", "video_method": "denoise"},
    "v2v_keyframes_outside_kept": {"video_url": "still", "speakers": BOXES[:1]} | KEPT,
    "v2v_denoise_outside_kept": {"video_url": "video", "speakers": BOXES[:1]}
    | {**KEPT, "video_method": "denoise"},
    "chain_v2v_outside_kept_at_30_fps": {"video_url": "still", "speakers": BOXES}
    | {**KEPT, "long": True, "fps": 30},
    "chain_with_prompts": ONE | {"prompts": [{"at": 3, "text": "she laughs"}]},
    "multitalk_one": {"image_url": "picture", "audio_urls": ["a"]},
    "multitalk_two_in_turn": {"image_url": "picture", "audio_urls": ["d", "b"]},
    "multitalk_frames_on_disk": {"image_url": "picture", "audio_urls": ["a"], "long": True},
    "chain_two_speakers_at_30_fps": {
        "image_url": "picture",
        "speakers": BOXES,
        "long": True,
        "fps": 30,
    },
    "chain_v2v_keyframes_colours_matched": {
        "video_url": "video",
        "wav_url": "a",
        "long": True,
        "color_match": True,
    },
    "gguf_base_and_talk_model": ONE | {"profile": "tiny-gguf"},
}


def with_urls(value: Any, media: dict[str, str]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {name: with_urls(item, media) for name, item in value.items()}
    if isinstance(value, list):
        return [with_urls(item, media) for item in value]
    return media.get(value, value) if isinstance(value, str) else value


@pytest.mark.parametrize("long", [False, True])
def test_the_noise_of_random_weights_is_told_to_who_asks_and_else_delivered(
    studio: Studio, media: dict[str, str], *, long: bool
) -> None:
    fields = with_urls(ONE, media) | {"seed": 7, "max_frame": 25, "long": long}
    studio.profile = load_manifest().profile("tiny")
    size = {"width": WIDTH, "height": HEIGHT}
    asked = parse_request(fields | {"check_picture": "fail"}, local_files=True)
    with pytest.raises(RenderDefective, match="window 1 is noise in"):
        render(Job("asked", fields), asked.model_copy(update=size), studio)

    unasked = parse_request(fields, local_files=True).model_copy(update=size)
    result = render(Job("unasked", fields), unasked, studio)
    assert (result["status"], result["quality"]) == ("completed", {})
    assert result["video_info"]["frames"] == 25


@pytest.mark.parametrize("name", CASES)
def test_the_graph_runs_on_the_real_nodes(
    name: str, studio: Studio, media: dict[str, str], tmp_path: Path
) -> None:
    fields = with_urls(CASES[name], media)
    studio.profile = load_manifest().profile(fields.pop("profile", "tiny"))
    request = parse_request(fields | {"seed": 7}, local_files=True)
    width = 2 * WIDTH if fields.get("image_url") == media["pair"] else WIDTH
    small = request.model_copy(update={"width": width, "height": HEIGHT, "size_is_named": True})
    told: list[Progress] = []
    result = render(Job(name, fields, report=told.append), small, studio)

    percents = [each.percent for each in told]
    assert percents == sorted(percents)
    sampled = [each for each in told if each.step]
    assert sampled and all((each.step or 0) <= (each.steps or 0) for each in sampled)

    info = result["video_info"]
    fps = fields.get("fps", 25)
    assert (info["width"], info["height"]) == (width, HEIGHT)
    if width > WIDTH:
        assert [each["speaker"] for each in result["speakers_found"]] == [
            "audio_urls.0",
            "audio_urls.1",
        ]
    assert (info["fps"], info["frames"]) == (fps, SECONDS * fps)
    assert info["duration_seconds"] == SECONDS
    (tmp_path / "out.mp4").write_bytes(base64.b64decode(result["video"].partition(",")[2]))
    assert moves(tmp_path / "out.mp4")
    assert similarity(tmp_path / "out.mp4", expected_mix(request, tmp_path)) > 0.99


def expected_mix(request: Any, folder: Path) -> Path:  # noqa: ANN401 - RenderRequest
    """The voices as they should be heard, mixed by offset."""
    offset, voices = 0.0, []
    for person in request.speakers:
        if person.audio_url is None:
            continue
        path = Path(person.audio_url.removeprefix("file://"))
        voices.append(Voice(person.field, path, probe_sound("v", path, max_seconds=60), offset))
        if request.audio_mode == "sequential":
            with av.open(str(path), "r") as file:
                offset += (file.duration or 0) / av.time_base
    save_mix(voices, folder / "mix.wav", seconds=SECONDS)
    return folder / "mix.wav"


def samples(path: Path) -> np.ndarray[Any, Any]:
    with av.open(str(path), "r") as file:
        resampler = av.AudioResampler("fltp", "stereo", 48_000)
        blocks = [b for frame in file.decode(audio=0) for b in resampler.resample(frame)]
    return np.concatenate([block.to_ndarray() for block in blocks], axis=1)


def similarity(video: Path, sound: Path) -> float:
    """The lower correlation of the two channels."""
    one, other = samples(video), samples(sound)
    count = min(one.shape[1], other.shape[1])
    pairs = zip(one[:, :count], other[:, :count], strict=True)
    return min(float(np.corrcoef(left, right)[0, 1]) for left, right in pairs)


def moves(path: Path) -> bool:
    with av.open(str(path), "r") as file:
        frames = [frame.to_ndarray(format="gray") for frame in file.decode(video=0)]
    return any(not np.array_equal(one, frames[0]) for one in frames[1:])
