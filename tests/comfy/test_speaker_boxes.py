"""The node that makes masks of boxes, in a real ComfyUI."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from comfy_client import ComfyClient, PromptRejected
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.schemas import load_schemas
from tests.timing import LAST_RESORT_SECONDS


def masked(boxes: str) -> Graph:
    size = {"width": 64, "height": 48}
    return {
        "1": {"class_type": "TalkingHeadSpeakerBoxes", "inputs": {"boxes": boxes, **size}},
        "2": {"class_type": "MaskToImage", "inputs": {"mask": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "b/m"}},
    }


def test_boxes_become_a_mask_each_and_one_of_the_background(
    client: ComfyClient, tmp_path: Path
) -> None:
    outcome = client.run(masked("0, 0, 0.25, 1\n32 0 48 48"), deadline_seconds=LAST_RESORT_SECONDS)
    assert len(outcome.files) == 3
    shares = []
    for file in outcome.files:
        client.download(file, tmp_path / "mask.png")
        with Image.open(tmp_path / "mask.png") as image:
            shares.append(np.asarray(image.convert("L")).mean() / 255)
    assert shares == pytest.approx([0.25, 0.25, 0.5])


def test_a_line_that_is_no_box_is_refused_before_anything_runs(client: ComfyClient) -> None:
    with pytest.raises(PromptRejected, match=r"line 2 is '0\.5, 0'"):
        client.run(masked("0, 0, 0.5, 1\n0.5, 0"), deadline_seconds=LAST_RESORT_SECONDS)


def test_the_recorded_schema_is_the_servers(client: ComfyClient) -> None:
    served = client.object_info()["TalkingHeadSpeakerBoxes"]
    recorded = load_schemas()["TalkingHeadSpeakerBoxes"]
    assert served["input_order"] == recorded["input_order"]
    assert served["output"] == recorded["output"]
