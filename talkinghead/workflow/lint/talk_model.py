"""Rules on the talk model, its mode and its windows."""

import math
from collections.abc import Iterator

from talkinghead.plan.fields import Mode
from talkinghead.plan.frames import WINDOW_FRAMES
from talkinghead.plan.framing import SIZE_MULTIPLE
from talkinghead.plan.talk_models import MODELS, model_of_file
from talkinghead.workflow.lint.chain_window import windows_in
from talkinghead.workflow.lint.model_names import is_for_one_voice
from talkinghead.workflow.lint.rules import trap
from talkinghead.workflow.lint.view import Finding, GraphView, NodeView
from talkinghead.workflow.node_classes import EMBEDS, SAMPLER, TALK_LOADER, TALKING_IMAGE


def _talks(view: GraphView) -> Iterator[tuple[NodeView, NodeView, Mode]]:
    """Talking image, talk model, and the mode that the model's name stands for."""
    for sampler in view.of(SAMPLER):
        for image in view.before(view.source(sampler, "image_embeds"), TALKING_IMAGE):
            for talk in view.before(view.source(sampler, "model"), TALK_LOADER):
                if file := talk.text("model"):
                    yield image, talk, model_of_file(file).name


@trap
def _mode_fits_talk_model(view: GraphView) -> Iterator[Finding]:
    for image, talk, own_mode in _talks(view):
        if image.text("mode") not in ("", "auto", own_mode):
            yield image.warning(
                "mode",
                f'is "{image.text("mode")}", and {talk.text("model")} is an {own_mode} model by '
                f'its name: set it to "{own_mode}", or take another talk model',
            )


@trap
def _motion_frames_fit_mode(view: GraphView) -> Iterator[Finding]:
    for image, _, own_mode in _talks(view):
        mode = own_mode if image.text("mode") == "auto" else image.text("mode")
        usual = MODELS[mode].motion_frames if mode in MODELS else None
        motion = image.number("motion_frame")
        if usual and motion is not None and motion != usual:
            yield image.warning(
                "motion_frame", f"is {motion}; {mode} was made for {usual}: set it to {usual}"
            )


@trap
def _talk_model_knows_two(view: GraphView) -> Iterator[Finding]:
    for sampler in view.of(SAMPLER):
        embeds = view.before(view.source(sampler, "multitalk_embeds"), EMBEDS)
        if not any(each.is_linked("audio_2") for each in embeds):
            continue
        for talk in view.before(view.source(sampler, "model"), TALK_LOADER):
            if is_for_one_voice(talk.text("model")):
                yield talk.warning(
                    "model",
                    f"{talk.text('model')} is made for one voice, by its name, and two or more are "
                    "linked: take the file for several",
                )


@trap
def _windows_advance(view: GraphView) -> Iterator[Finding]:
    for image in view.of(TALKING_IMAGE):
        window, motion = image.number("frame_window_size"), image.number("motion_frame")
        if window is not None and window % 4 != 1:
            yield image.warning(
                "frame_window_size",
                f"is {window}, and the node makes it a multiple of 4 plus 1: set it to "
                f"{WINDOW_FRAMES}",
            )
        if motion is not None and motion % 4 != 1:
            yield image.error(
                "motion_frame",
                f"is {motion}, which loses frames at every seam: set it to a multiple of 4 plus 1",
            )
        if motion is not None and window is not None and motion >= window:
            yield image.error(
                "motion_frame",
                f"is {motion} of a window of {window}: no window would make a new frame; "
                f"set it to {_usual_motion_frames()}",
            )


def _usual_motion_frames() -> str:
    return " or ".join(f"{each.motion_frames} ({each.title})" for each in MODELS.values())


@trap
def _size_is_kept(view: GraphView) -> Iterator[Finding]:
    of_windows = [image for window in windows_in(view) for image in window.images]
    for image in [*view.of(TALKING_IMAGE), *of_windows]:
        for name in ("width", "height"):
            size = image.number(name)
            if size is not None and size % SIZE_MULTIPLE:
                up = math.ceil(size / SIZE_MULTIPLE) * SIZE_MULTIPLE
                yield image.error(
                    name,
                    f"is {size}, and the video would come out smaller: set a multiple of "
                    f"{SIZE_MULTIPLE}, such as {up}, and crop after the render",
                )
