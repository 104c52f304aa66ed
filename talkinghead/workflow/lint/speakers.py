"""Rules on voices and the masks that say where each speaks."""

import re
from collections.abc import Iterator

from talkinghead.workflow.lint.rules import trap
from talkinghead.workflow.lint.view import Finding, GraphView, NodeView
from talkinghead.workflow.node_classes import EMBEDS, LOAD_IMAGE, LOAD_MASK, SPEAKER_BOXES


def voices_of(embeds: NodeView) -> list[int]:
    """The numbers, from 1, of the voices that are linked."""
    return [n for n in range(1, 5) if embeds.is_linked(f"audio_{n}")]


@trap
def _speakers_have_masks(view: GraphView) -> Iterator[Finding]:
    for embeds in view.of(EMBEDS):
        voices = voices_of(embeds)
        if missing := [n for n in range(1, max(voices, default=0)) if n not in voices]:
            yield embeds.error(
                f"audio_{missing[0]}",
                f"is empty while audio_{voices[-1]} is linked: voices would move up and speak for "
                "the masks of others; link them without a gap",
            )
        if len(voices) < 2:
            continue
        if not embeds.is_linked("ref_target_masks"):
            yield embeds.error(
                "ref_target_masks",
                f"is empty, and the sampler fails on {len(voices)} voices without masks: link one "
                "mask per voice, in order, and one of the background",
            )
        if embeds.text("multi_audio_type") == "add":
            yield embeds.warning(
                "multi_audio_type",
                '"add" lets num_frames cap each voice by itself: take "para" with voices that are '
                "padded to one length, so that each is silent while another speaks",
            )


@trap
def _boxes_are_as_many_as_voices(view: GraphView) -> Iterator[Finding]:
    for embeds in view.of(EMBEDS):
        boxes, voices = view.source(embeds, "ref_target_masks"), len(voices_of(embeds))
        if boxes is None or boxes.class_type != SPEAKER_BOXES or boxes.is_linked("masks"):
            continue
        lines = [line for line in boxes.text("boxes").splitlines() if line.strip("[]() \t")]
        if lines and len(lines) != voices > 1:
            yield boxes.error(
                "boxes",
                f"has {len(lines)} for {voices} voices, and the sampler fails on that: write one "
                "line for each voice, in order",
            )


@trap
def _masks_are_crisp(view: GraphView) -> Iterator[Finding]:
    for embeds in view.of(EMBEDS):
        masks = view.source(embeds, "ref_target_masks")
        for image in view.before(masks, LOAD_IMAGE, LOAD_MASK):
            name = image.text("image")
            if re.search(r"\.(jpe?g|webp)$", name, re.IGNORECASE):
                yield image.warning(
                    "image",
                    f"{name} is used as a mask, in which all but black counts, also what lossy "
                    "compression leaves beside an edge: take a PNG",
                )
            if re.search(r"\.tiff?$", name, re.IGNORECASE) and len(voices_of(embeds)) > 1:
                yield image.warning(
                    "image",
                    f"{name} is used for the masks of several voices, and ComfyUI 0.20 and later "
                    "load only its first page: take an animated PNG of RGB, or a GIF with a delay",
                )
