"""Rules on a prompt that renders one window of a chain."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from talkinghead.plan.talk_models import MODELS, model_of_file
from talkinghead.workflow.lint.rules import trap
from talkinghead.workflow.lint.view import Finding, GraphView, NodeView
from talkinghead.workflow.node_classes import (
    CONTINUE,
    DECODE,
    EMBEDS,
    SAMPLER,
    SCALE,
    SPLIT,
    TALK_LOADER,
    WINDOW_AUDIO,
    WINDOW_IMAGE,
)


@dataclass(frozen=True)
class WindowNodes:
    """The nodes of a prompt that renders one window, around its TalkingHeadContinueWindow."""

    continued: NodeView
    sampler: NodeView
    images: Sequence[NodeView]
    hears: Sequence[NodeView]
    decodes: Sequence[NodeView]

    @property
    def is_first(self) -> bool:
        """Whether nothing is taken over from a window before."""
        return not self.continued.is_linked("motion")


def windows_in(view: GraphView) -> Iterator[WindowNodes]:
    """The windows that the graph renders: one per sampler that continues a chain."""
    for sampler in view.of(SAMPLER):
        for continued in view.before(view.source(sampler, "image_embeds"), CONTINUE):
            yield WindowNodes(
                continued,
                sampler,
                images=view.before(continued, WINDOW_IMAGE),
                hears=view.before(view.source(sampler, "multitalk_embeds"), WINDOW_AUDIO),
                decodes=[each for each in view.of(DECODE) if sampler in view.before(each, SAMPLER)],
            )


@trap
def _window_talks_infinitely(view: GraphView) -> Iterator[Finding]:
    for window in windows_in(view):
        for talk in view.before(view.source(window.sampler, "model"), TALK_LOADER):
            name = talk.text("model")
            if name and model_of_file(name).long != "chain":
                yield talk.warning(
                    "model",
                    f"{name} is no InfiniteTalk model by its name, and only those continue a "
                    "window: take one, or a workflow that renders in one prompt",
                )


@trap
def _window_has_one_length(view: GraphView) -> Iterator[Finding]:
    for window in windows_in(view):
        lengths = [(image, "num_frames") for image in window.images]
        lengths += [(each, "frames") for each in window.hears]
        lengths += [(each, "motion_frames") for each in window.decodes]
        for node, name in lengths:
            if (frames := node.number(name)) is not None and frames % 4 != 1:
                yield node.error(name, f"is {frames}: set it to a multiple of 4 plus 1")
        for image in window.images:
            yield from _fits_length(window, image)


def _fits_length(window: WindowNodes, image: NodeView) -> Iterator[Finding]:
    frames = image.number("num_frames")
    for each in window.hears:
        heard = each.number("frames")
        if frames is not None and heard not in (None, frames):
            yield each.error(
                "frames",
                f"is {heard}, and {image.label} makes {frames}: set both to the same",
            )
    for each in window.decodes:
        motion = each.number("motion_frames")
        if frames is not None and motion is not None and motion >= frames:
            yield each.error(
                "motion_frames",
                f"is {motion} of a window of {frames}: no window would make a new frame; "
                f"set it to {MODELS['infinitetalk'].motion_frames}",
            )


@trap
def _window_has_one_size(view: GraphView) -> Iterator[Finding]:
    for window in windows_in(view):
        reference = view.source(window.continued, "reference")
        if reference is None or reference.class_type != SCALE:
            continue
        for image, name in itertools.product(window.images, ("width", "height")):
            size, other = image.number(name), reference.number(name)
            if size is not None and other not in (None, size):
                yield reference.error(
                    name, f"is {other}, and {image.label} has {size}: set both to the same"
                )


@trap
def _window_hears_its_part(view: GraphView) -> Iterator[Finding]:
    for window in windows_in(view):
        if window.sampler.is_linked("multitalk_embeds") and not window.hears:
            yield window.sampler.error(
                "multitalk_embeds",
                f"comes past {WINDOW_AUDIO}: every window would hear the beginning",
            )
        for each in window.hears:
            start = each.number("start")
            if start == 0 and not window.is_first:
                yield each.error(
                    "start",
                    "is 0 while motion is linked: it would hear what the first window heard; set "
                    "it to the start of the window before plus the new frames of a window",
                )
            for embeds in view.before(each, EMBEDS):
                heard = embeds.number("num_frames")
                if start is not None and heard is not None and start >= heard:
                    yield each.error(
                        "start",
                        f"is {start}, and {embeds.label} ends at frame {heard}: all would be "
                        "silence; raise its num_frames to the seconds of sound x 25",
                    )


@trap
def _repeated_frames_are_left_out(view: GraphView) -> Iterator[Finding]:
    for window, split in itertools.product(windows_in(view), view.of(SPLIT)):
        decode, index = view.source(split, "images"), split.number("split_index")
        if decode not in window.decodes or index is None or not view.is_used(split, 2):
            continue
        motion = decode.number("motion_frames") if decode else None
        if window.is_first and index != 0:
            yield split.error(
                "split_index",
                f"is {index}, and without motion from a window before no frame is repeated: set "
                "it to 0, or link the motion",
            )
        elif not window.is_first and motion not in (None, index):
            yield split.error(
                "split_index",
                f"is {index}, and the first {motion} frames are those of the window before: set "
                f"it to {motion}",
            )
