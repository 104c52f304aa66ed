"""Whether the file of masks fits the voices, before anything is rendered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from talkinghead.media.sandbox import Sandbox
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.mask_files import mask_problems


def node(class_type: str, **inputs: object) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def graph(voices: int, *between: dict[str, Any]) -> Graph:
    """Voices whose masks come from m.gif, through these nodes in a row."""
    chain = {f"{at}": each for at, each in enumerate(between, 50)}
    audio = {f"audio_{n}": ["9", 0] for n in range(1, voices + 1)}
    masks = [f"{49 + len(between)}", 0]
    return {
        "49": node("LoadImage", image="m.gif"),
        **chain,
        "90": node("MultiTalkWav2VecEmbeds", ref_target_masks=masks, **audio),
    }


def problems(
    sandbox: Sandbox, graph: Graph, folder: Path, frames: int, duration: int | None = 100
) -> list[str]:
    # Of two colours: Pillow makes others of transparent parts, and with them it writes delays.
    pictures = [Image.new("1", (64, 64), index % 2) for index in range(frames)]
    how: dict[str, Any] = {"duration": duration} if duration else {}
    pictures[0].save(folder / "m.gif", save_all=True, append_images=pictures[1:], **how)
    return list(mask_problems(graph, {"m.gif": folder / "m.gif"}, sandbox, max_megapixels=1))


TO_MASK = node("ImageToMask", image=["49", 0], channel="red")


@pytest.mark.parametrize("voices", [2, 3, 4])
def test_one_mask_for_each_voice_with_the_background_or_without(
    sandbox: Sandbox, tmp_path: Path, voices: int
) -> None:
    for frames in range(1, 8):
        found = problems(sandbox, graph(voices, TO_MASK), tmp_path, frames)
        if frames in (voices, voices + 1):
            assert found == []
        else:
            told = "1 frame" if frames == 1 else f"{frames} frames"
            [problem] = found
            assert problem.startswith(f"m.gif: it has {told}, and the sampler fails on {voices} ")


def test_a_file_without_delays_is_told_before_it_is_counted(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    [problem] = problems(sandbox, graph(2, TO_MASK), tmp_path, 3, duration=None)
    assert problem == (
        "m.gif: its frames have no delay, or some have none, and ComfyUI 0.20 and later lose "
        "those: save it with a delay"
    )


def test_so_it_is_in_a_draft_which_counts_by_itself(sandbox: Sandbox, tmp_path: Path) -> None:
    draft = graph(2, TO_MASK)
    draft["90"] = node("TalkingHeadDraft", masks=["50", 0], audio_1=["9", 0], audio_2=["9", 0])
    assert len(problems(sandbox, draft, tmp_path, 3, duration=None)) == 1
    assert problems(sandbox, draft, tmp_path, 7) == []


def test_one_voice_takes_any_masks(sandbox: Sandbox, tmp_path: Path) -> None:
    assert problems(sandbox, graph(1, TO_MASK), tmp_path, 5) == []


def test_it_follows_nodes_that_keep_the_number_and_stops_at_others(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    crop = node("CropMask", mask=["50", 0])
    assert len(problems(sandbox, graph(2, TO_MASK, crop), tmp_path, 5)) == 1
    repeat = node("RepeatImageBatch", image=["49", 0])
    to_mask = node("ImageToMask", image=["50", 0])
    assert problems(sandbox, graph(2, repeat, to_mask), tmp_path, 5) == []


def test_a_ring_has_no_end_and_is_left_alone(sandbox: Sandbox, tmp_path: Path) -> None:
    ring = node("ImageToMask", image=["50", 0])
    assert problems(sandbox, graph(2, ring), tmp_path, 5) == []


def test_a_file_that_is_elsewhere_is_left_alone(sandbox: Sandbox) -> None:
    assert list(mask_problems(graph(2, TO_MASK), {}, sandbox, max_megapixels=1)) == []


def test_a_file_that_is_no_picture_is_told(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "m.gif").write_text("GIF")
    files = {"m.gif": tmp_path / "m.gif"}
    found = mask_problems(graph(2, TO_MASK), files, sandbox, max_megapixels=1)
    assert [each.split(",")[0] for each in found] == [
        "m.gif: the file is not a picture but text: GIF"
    ]
