"""A chain of prompts gives the frames of WanVideoWrapper's own loop, on the real node packs.

Both get the same noise, window by window; tests/real/same_noise sees to that.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from comfy_client import ComfyClient
from talkinghead.comfy.studio import Studio
from talkinghead.media import sound
from talkinghead.media.masks import save_masks, speaker_masks
from talkinghead.media.picture import Picture, save_picture
from talkinghead.media.sound import Voice, probe_sound
from talkinghead.models.manifest import load_manifest
from talkinghead.plan.plan import Plan, make_plan
from talkinghead.plan.request import parse_request
from talkinghead.plan.windows import windows
from talkinghead.workflow import template
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.slots import Inputs, WindowInputs
from tests.conftest import write_tone
from tests.real.test_real_nodes import HEIGHT, SETTINGS, WIDTH, missing
from tests.timing import LAST_RESORT_SECONDS

pytestmark = pytest.mark.skipif(bool(missing), reason=f"not there: {', '.join(missing)}")

# Voices, and references: one for all windows, or a video's keyframe for each.
CASES = {"one_speaker": (1, 1), "two_speakers": (2, 1), "video_keyframes": (1, 5)}
FRAMES = 360  # five windows, the last of them not whole
Pixels = npt.NDArray[np.uint8]  # [frames, height, width, 3]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the loop looks up the seeds of its windows."""
    return tmp_path_factory.mktemp("noise") / "seeds.json"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, seeds: Path) -> Iterator[Studio]:
    settings = SETTINGS.model_copy(
        update={
            "work_dir": tmp_path_factory.mktemp("chain"),
            "comfyui_cpu": True,
            "model_profile": "tiny",
            "extra_node_dirs": str(Path(__file__).with_name("same_noise")),
            "comfyui_start_seconds": LAST_RESORT_SECONDS,
        }
    )
    os.environ["SAME_NOISE_SEEDS"] = str(seeds)
    with Studio(settings) as studio:
        studio.idle_seconds = LAST_RESORT_SECONDS
        yield studio
    del os.environ["SAME_NOISE_SEEDS"]


@dataclasses.dataclass(frozen=True)
class Files:
    """A render's inputs, by their names in ComfyUI."""

    references: tuple[str, ...]
    speech: tuple[str, ...]
    masks: str | None


def planned(tracks: Sequence[Path]) -> Plan:
    fields: dict[str, Any] = {
        "image_url": "http://x/p",
        "speakers": [{"audio_url": f"http://x/{number}"} for number in range(len(tracks))],
        "seed": 11,
        "max_frame": FRAMES,
        "steps": 3,
        "scheduler": "dpm++_sde",  # which draws noise in every step, too
    }
    voices = [probe_sound("v", path, max_seconds=60) for path in tracks]
    request = parse_request(fields).model_copy(
        update={"width": WIDTH, "height": HEIGHT, "size_is_named": True}
    )
    plan = make_plan(request, voices, Picture(120, 90))
    assert plan.windows == 5
    return plan


def upload(
    plan: Plan, tracks: Sequence[Path], pictures: Sequence[Path], folder: Path, client: ComfyClient
) -> Files:
    references = [client.upload(path, subfolder="chain") for path in pictures]
    speech = []
    for number, path in enumerate(tracks):
        target = folder / f"speech{number}.wav"
        voice = Voice("v", path, probe_sound("v", path, max_seconds=60))
        sound.save_speech(voice, target, seconds=plan.duration, padded_samples=plan.speech_samples)
        speech.append(client.upload(target, subfolder="chain"))
    masks = None
    if len(tracks) > 1:
        save_masks(speaker_masks(plan.framing, [None] * len(tracks)), folder / "m.png")
        masks = client.upload(folder / "m.png", subfolder="chain")
    return Files(tuple(references), tuple(speech), masks)


def turned(plan: Plan, portrait: Path, folder: Path, count: int) -> list[Path]:
    """The picture, as often as asked, each time turned further."""
    save_picture("p", portrait, folder / "p.png", plan.framing, max_megapixels=9)
    paths = [folder / f"r{number}.png" for number in range(count)]
    with Image.open(folder / "p.png") as picture:
        for number, path in enumerate(paths):
            picture.rotate(5 * number).save(path)
    return paths


def images_of(graph: Graph, name: str, client: ComfyClient, folder: Path) -> Pixels:
    """Run the graph with its frames saved as PNG instead of encoded; returns them."""
    lossless = copy.deepcopy(graph)
    video = next(key for key, node in lossless.items() if node["class_type"] == "VHS_VideoCombine")
    images = lossless[video]["inputs"]["images"]
    lossless[video] = {
        "class_type": "SaveImage",
        "inputs": {"images": images, "filename_prefix": f"chain/{name}"},
    }
    outcome = client.run(lossless, deadline_seconds=LAST_RESORT_SECONDS)
    pictures = []
    for file in outcome.files:
        target = folder / file.filename
        client.download(file, target)
        if target.suffix == ".png":
            with Image.open(target) as image:
                pictures.append(np.asarray(image.convert("RGB")))
    return np.stack(pictures)


def loop_graph(plan: Plan, files: Files, studio: Studio, client: ComfyClient) -> Graph:
    """The whole render in one prompt; further references are appended to the start image."""
    inputs = Inputs(files.references[0], files.speech, files.speech[0], files.masks, "l/l")
    schemas = studio.schemas(client)
    graph = to_api(template.fill_template(plan, inputs, studio.profile, schemas), schemas)
    start = key_of(graph, "Talking image")
    for number, name in enumerate(files.references[1:]):
        before = graph[start]["inputs"]["start_image"]
        graph[f"r{number}"] = {"class_type": "LoadImage", "inputs": {"image": name}}
        graph[f"b{number}"] = {
            "class_type": "ImageBatch",
            "inputs": {"image1": before, "image2": [f"r{number}", 0]},
        }
        graph[start]["inputs"]["start_image"] = [f"b{number}", 0]
    return graph


def key_of(graph: Graph, title: str) -> str:
    return next(key for key, node in graph.items() if node["_meta"]["title"] == title)


def chain(
    plan: Plan, files: Files, studio: Studio, client: ComfyClient, folder: Path
) -> list[Pixels]:
    """The new frames of each window, one prompt each."""
    schemas = studio.schemas(client)
    chained = dataclasses.replace(plan, long=True, template="infinitetalk_window")
    motion, parts = None, []
    for window in windows(chained):
        reference = files.references[min(window.index, len(files.references) - 1)]
        inputs = WindowInputs(
            files.references[0], reference, files.speech, files.masks, motion, f"w{window.index}"
        )
        gui = template.fill_window(chained, window, inputs, studio.profile, schemas)
        parts.append(images_of(to_api(gui, schemas), f"w{window.index}", client, folder))
        for path in folder.glob("motion*.latent"):
            motion = client.upload(path, subfolder=f"chain/{window.index}")
            path.unlink()
    return parts


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", CASES)
def test_the_chain_gives_the_frames_of_the_loop(
    case: str, studio: Studio, seeds: Path, portrait: Path, tmp_path: Path
) -> None:
    people, references = CASES[case]
    tracks = [
        write_tone(tmp_path / f"{number}.wav", seconds=20, hz=300 + 250 * number)
        for number in range(people)
    ]
    studio.profile = load_manifest().profile("tiny")
    plan = planned(tracks)
    pictures = turned(plan, portrait, tmp_path, references)
    seeds.write_text(json.dumps([window.seed for window in windows(plan)]))
    with studio.comfy("chain", lambda: None) as turn:
        client = turn.client
        files = upload(plan, tracks, pictures, tmp_path, client)
        whole = images_of(loop_graph(plan, files, studio, client), "loop", client, tmp_path)
        parts = chain(plan, files, studio, client, tmp_path)

    assert [len(part) for part in parts] == [81, 72, 72, 72, 63]
    joined = np.concatenate(parts)
    assert joined.shape == whole.shape == (FRAMES, HEIGHT, WIDTH, 3)
    apart = np.abs(joined.astype(int) - whole).max(axis=(1, 2, 3))
    assert apart.max() <= 1, f"differences by frame: {apart.tolist()}"
    assert whole.std() > 5
    assert all(np.abs(whole[a].astype(int) - whole[a - 1]).mean() > 0 for a in (81, 153, 225))
