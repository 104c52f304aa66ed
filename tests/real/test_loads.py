"""How often models are read, and weights brought to the GPU, on the real node packs."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from talkinghead.comfy.studio import Studio
from talkinghead.delivery.ledger import motion_name
from talkinghead.plan.request import parse_request
from talkinghead.render import chain
from talkinghead.render.job import Job
from talkinghead.render.run import render
from talkinghead.render.workflow_job.run import run_workflow
from talkinghead.workflow.graph import Graph
from tests.conftest import write_tone
from tests.real.test_real_nodes import HEIGHT, WIDTH, missing, tiny_studio

pytestmark = pytest.mark.skipif(bool(missing), reason=f"not there: {', '.join(missing)}")

# What the pack writes to its log: one when it reads a base model, one when the sampler has it.
READ, BROUGHT = "Detected model in_channels", "Loading and assigning model weights"
WINDOWS = 3
PICTURE: Graph = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 48, "batch_size": 1, "color": 0},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "p"}},
}


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    """One whose sampler leaves the weights on the GPU; its ComfyUI is its own for each test."""
    with tiny_studio(tmp_path / "work", force_offload=False, allow_workflows=True) as studio:
        yield studio


@pytest.fixture
def fields(portrait: Path, tmp_path: Path) -> dict[str, Any]:
    voice = write_tone(tmp_path / "voice.wav", seconds=9)
    return {
        **{"image_url": portrait.as_uri(), "wav_url": voice.as_uri()},
        **{"seed": 7, "steps": 2, "max_frame": 80},
    }


def rendered(studio: Studio, fields: dict[str, Any]) -> dict[str, Any]:
    request = parse_request(fields, local_files=True)
    small = request.model_copy(update={"width": WIDTH, "height": HEIGHT, "size_is_named": True})
    return render(Job("loads", fields), small, studio)


def said(studio: Studio, text: str) -> int:
    """How often ComfyUI has said it since its start."""
    assert studio.server is not None
    return studio.server.folders.log.read_text(errors="replace").count(text)


@pytest.mark.timeout(1800)
def test_a_draft_and_a_workflow_between_two_renders_cost_no_load(
    studio: Studio, fields: dict[str, Any]
) -> None:
    rendered(studio, fields)
    rendered(studio, fields | {"draft": True})
    run_workflow(Job("workflow", {"workflow": PICTURE}), studio)
    rendered(studio, fields | {"seed": 8})
    assert said(studio, READ) == 1


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("lora", [True, False])
def test_a_chain_brings_the_weights_once_and_gives_the_same_frames(
    lora: bool, studio: Studio, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    del fields["max_frame"]
    long = fields | {"long": True, "use_speed_lora": lora}
    latents: list[str] = []
    collect = chain._collect

    def collect_and_hash(log: Any, at: Any, *others: Any, **options: Any) -> None:  # noqa: ANN401
        collect(log, at, *others, **options)
        motion = log.folder / motion_name(at.index + 1)
        latents.append(hashlib.sha256(motion.read_bytes()).hexdigest())

    monkeypatch.setattr(chain, "_collect", collect_and_hash)
    kept = rendered(studio, long)
    assert said(studio, BROUGHT) == 1
    with monkeypatch.context() as without:
        without.setattr(chain, "keeping_weights", lambda graph, schemas: graph)
        again = rendered(studio, long)
    assert said(studio, BROUGHT) == 1 + WINDOWS
    assert len(latents) == 2 * WINDOWS and latents[:WINDOWS] == latents[WINDOWS:]
    assert frames(kept) == frames(again)


def frames(result: dict[str, Any]) -> list[str]:
    """A hash of each frame of the result's video."""
    content = io.BytesIO(base64.b64decode(result["video"].partition(",")[2]))
    with av.open(content, "r") as file:
        pictures = [frame.to_ndarray().tobytes() for frame in file.decode(video=0)]
    return [hashlib.sha256(picture).hexdigest() for picture in pictures]
