"""Masks that people can make: boxes as text, a line a speaker."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from talkinghead_windows.boxes import box_masks, read_boxes

from talkinghead.media.masks import Framing, speaker_masks
from talkinghead.workflow.gui_file import ACTIVE, MUTED, Workflow
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.lint import traps
from talkinghead.workflow.schemas import load_schemas
from talkinghead.workflow.template import load_template

SCHEMAS = load_schemas()
TEMPLATES = [
    *("infinitetalk_i2v", "infinitetalk_v2v", "infinitetalk_window"),
    *("draft_i2v", "draft_v2v"),
]


@pytest.mark.parametrize(
    "text",
    [
        "0, 0, 0.4, 1\n0.6, 0.1, 1, 0.9",
        "[10, 20, 200, 480]\n\n(220; 0; 480; 864)",
        "0 0 .5 1\n.5 0 1 1",
        "0,0,300,864\n200,0,480,864",
    ],
)
def test_boxes_give_the_masks_that_a_request_with_them_gets(text: str) -> None:
    boxes = read_boxes(text)
    masks = box_masks(boxes, 480, 864).numpy()
    asked = speaker_masks(Framing(480, 864, 480, 864), boxes)
    assert np.array_equal(masks * 255, asked)
    assert masks.shape == (3, 864, 480)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0, 0, 0.5, 1\n0.5, 0, 1", "line 2 is '0.5, 0, 1', allowed: x0, y0, x1, y1"),
        ("0.5, 0, 0.2, 1", "line 1 is"),
        ("left", "line 1 is 'left'"),
        ("\n".join(["0, 0, 1, 1"] * 5), "there are 5 boxes"),
        (" \n", "there are 0 boxes"),
    ],
)
def test_a_text_that_is_no_box_is_told_with_its_line(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_boxes(text)


@pytest.mark.parametrize("text", ["500, 0, 600, 864", "0, 0, 1, 1\n0.2, 0.2, 0.4, 0.4"])
def test_a_box_of_which_nothing_is_seen_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is outside of the picture, too small or behind others"):
        box_masks(read_boxes(text), 480, 864)


def switched_on(name: str, *titles: str) -> Workflow:
    """The template as somebody has switched these nodes on in the GUI."""
    workflow = load_template(name)
    for node in workflow["nodes"]:
        if node.get("title") in (*titles, "Speaker boxes", "Speaker 2 audio", "Crop masks"):
            assert node["mode"] in (ACTIVE, MUTED)
            node["mode"] = ACTIVE
    return workflow


def masked(graph: dict[str, Any]) -> dict[str, Any]:
    """The inputs of the node of boxes, which is before the embeds, or the draft."""
    [node] = [each for each in graph.values() if each["_meta"]["title"] == "Speaker boxes"]
    inputs: dict[str, Any] = node["inputs"]
    return inputs


@pytest.mark.parametrize("name", TEMPLATES)
def test_two_switches_and_a_text_make_a_template_one_of_two_speakers(name: str) -> None:
    graph = to_api(switched_on(name), SCHEMAS)
    inputs = masked(graph)
    assert "masks" not in inputs
    assert box_masks(read_boxes(inputs["boxes"]), inputs["width"], inputs["height"]).shape[0] == 3
    assert [str(each) for each in traps(graph, SCHEMAS) if each.severity == "error"] == []


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_file_of_masks_still_works_and_counts_before_the_boxes(name: str) -> None:
    graph = to_api(switched_on(name, "Speaker masks", "Masks"), SCHEMAS)
    source, _ = masked(graph)["masks"]
    assert graph[source]["_meta"]["title"] == "Masks"


def test_boxes_for_another_number_of_voices_are_an_error_of_lint() -> None:
    graph = to_api(switched_on("infinitetalk_i2v"), SCHEMAS)
    masked(graph)["boxes"] = "0, 0, 0.5, 1"
    found = [str(each) for each in traps(graph, SCHEMAS) if each.severity == "error"]
    assert len(found) == 1
    assert "has 1 for 2 voices" in found[0]
