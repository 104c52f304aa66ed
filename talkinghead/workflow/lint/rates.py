"""Rules on frame rates, which lips and sound share."""

from collections.abc import Iterator

from talkinghead.plan.frames import MODEL_FPS
from talkinghead.workflow.lint.rules import trap
from talkinghead.workflow.lint.view import Finding, GraphView, NodeView
from talkinghead.workflow.node_classes import (
    COMBINE,
    EMBEDS,
    SAMPLER,
    SOUND_AND_LENGTH,
    VIDEO_LOADERS,
)


@trap
def _rates_agree(view: GraphView) -> Iterator[Finding]:
    for embeds in view.of(EMBEDS):
        fps = embeds.number("fps")
        if fps is None:
            continue
        if fps != MODEL_FPS:
            yield embeds.warning(
                "fps",
                f"is {fps:g}, and the model was trained at {MODEL_FPS}: render at {MODEL_FPS} and "
                "convert the video",
            )
        for node, name in _rates_beside(view, embeds):
            rate = node.number(name)
            if rate == 0:
                yield node.warning(
                    name,
                    f"is 0, which keeps the video's own rate: set it to {fps:g}, as for {EMBEDS}",
                )
            elif rate is not None and rate != fps:
                yield node.error(
                    name,
                    f"is {rate:g}, and {embeds.label} has {fps:g}: lips and sound drift apart; set "
                    "both to the same",
                )


def _rates_beside(view: GraphView, embeds: NodeView) -> Iterator[tuple[NodeView, str]]:
    """The inputs that hold the rate of the video this speech is for."""
    for combine in view.of(COMBINE):
        if embeds in view.before(combine, EMBEDS):
            yield combine, "frame_rate"
    for sound in view.of(SOUND_AND_LENGTH):
        yield sound, "fps"
    for loader in view.of(*VIDEO_LOADERS):
        samplers = (view.before(sampler, EMBEDS, *VIDEO_LOADERS) for sampler in view.of(SAMPLER))
        if any(embeds in found and loader in found for found in samplers):
            yield loader, "force_rate"
