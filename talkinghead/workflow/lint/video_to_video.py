"""Rules on renders of a video: what its frames do in the sampler."""

from collections.abc import Iterator

from talkinghead.workflow.lint.rules import trap
from talkinghead.workflow.lint.view import Finding, GraphView, NodeView
from talkinghead.workflow.node_classes import ENCODE, SAMPLER, TALKING_IMAGE, VIDEO_LOADERS


@trap
def _encoded_video_is_used(view: GraphView) -> Iterator[Finding]:
    for sampler in view.of(SAMPLER):
        source = view.source(sampler, "samples")
        if source is None or source.class_type != ENCODE:
            continue
        if sampler.text("scheduler") == "multitalk":
            yield sampler.error("scheduler", "multitalk begins at noise: the video is not used")
        elif sampler.number("denoise_strength") in (None, 1):
            yield from _start_step_uses_video(sampler)
        elif _first_step(sampler) == 0:
            yield sampler.error(
                "denoise_strength",
                f"is {sampler.number('denoise_strength')}, which comes to all "
                f"{sampler.number('steps')} steps: the video is not used; set about 0.5",
            )


def _start_step_uses_video(sampler: NodeView) -> Iterator[Finding]:
    if sampler.number("start_step") == 0:
        yield sampler.error(
            "start_step",
            "is 0, which begins at noise: the video is not used; set about half of the steps",
        )
    if sampler.values.get("add_noise_to_samples") is False:
        yield sampler.error(
            "add_noise_to_samples",
            "is false, and the video has no noise to take away, which gives a ruined picture: "
            "set it to true",
        )


def _first_step(sampler: NodeView) -> int | None:
    """Where the sampler begins with a denoise_strength below 1: its own formula."""
    steps, strength = sampler.number("steps"), sampler.number("denoise_strength")
    if steps is None or strength is None:
        return None
    return int(steps) - int(steps * strength) - 1


@trap
def _video_has_its_frames(view: GraphView) -> Iterator[Finding]:
    encoded = {
        loader.label: encode
        for sampler in view.of(SAMPLER)
        for encode in view.before(view.source(sampler, "samples"), ENCODE)
        for loader in view.before(encode, *VIDEO_LOADERS)
    }
    for loader in view.of(*VIDEO_LOADERS):
        cap, every = loader.number("frame_load_cap"), loader.number("select_every_nth")
        if cap == 1:
            make = loader.error if loader.label in encoded else loader.warning
            yield make(
                "frame_load_cap",
                "is 1: the video is one still picture; set 0 for all frames, or take LoadImage",
            )
        if every is not None and every > 1 and loader.label in encoded:
            yield loader.error(
                "select_every_nth",
                f"is {every}, and every frame has to be encoded for its own place: set it to 1",
            )


@trap
def _keyframes_meet_windows(view: GraphView) -> Iterator[Finding]:
    for image in view.of(TALKING_IMAGE):
        source = view.source(image, "start_image")
        window, motion = image.number("frame_window_size"), image.number("motion_frame")
        if source is None or source.class_type not in VIDEO_LOADERS or not window or not motion:
            continue
        every = source.number("select_every_nth")
        if every is not None and every > 1 and every != window - motion:
            yield source.warning(
                "select_every_nth",
                f"is {every}, and each window makes {window - motion} new frames: the reference "
                f"of a later window is of another moment; set it to {window - motion}",
            )
