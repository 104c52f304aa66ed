"""Rules on the sampler: scheduler, steps, and what reaches it."""

from collections.abc import Iterator
from typing import get_args

from talkinghead.plan.fields import Scheduler
from talkinghead.plan.sampling import DISTILL_STEPS
from talkinghead.workflow.lint.rules import trap
from talkinghead.workflow.lint.view import Finding, GraphView
from talkinghead.workflow.node_classes import CONTINUE, LOADER, SAMPLER, TALKING_IMAGE

FIXED_STEPS = {"flowmatch_distill": DISTILL_STEPS, "multitalk": 4, "rcm": 4}
CAUSVID_STEPS = 9


@trap
def _scheduler_is_known_good(view: GraphView) -> Iterator[Finding]:
    for sampler in view.of(SAMPLER):
        scheduler = sampler.text("scheduler")
        if scheduler and scheduler not in get_args(Scheduler):
            yield sampler.warning(
                "scheduler",
                f"{scheduler} is for other models, or does nothing useful here: take one of "
                f"{', '.join(get_args(Scheduler))}",
            )


@trap
def _steps_fit_scheduler(view: GraphView) -> Iterator[Finding]:
    for sampler in view.of(SAMPLER):
        scheduler, steps = sampler.text("scheduler"), sampler.number("steps")
        fixed = FIXED_STEPS.get(scheduler)
        if scheduler == "flowmatch_distill" and sampler.is_linked("sigmas"):
            yield sampler.error("sigmas", "fails with flowmatch_distill: take the link out")
        if steps is None:
            continue
        if fixed and steps != fixed:
            does = "fails" if scheduler == "flowmatch_distill" else f"still makes {fixed}"
            yield sampler.error(
                "steps",
                f"is {steps}, and {scheduler} {does}: set steps to {fixed} or take another "
                "scheduler",
            )
        elif scheduler == "flowmatch_causvid" and steps > CAUSVID_STEPS:
            yield sampler.error(
                "steps", f"is {steps}, and {scheduler} makes {CAUSVID_STEPS} at most"
            )


@trap
def _something_is_sampled(view: GraphView) -> Iterator[Finding]:
    for sampler in view.of(SAMPLER):
        start, end = sampler.number("start_step"), sampler.number("end_step")
        # Sigmas come with their own number of steps.
        steps = None if sampler.is_linked("sigmas") else sampler.number("steps")
        if start is None:
            continue
        if steps is not None and start >= steps:
            yield sampler.error(
                "start_step", f"is {start} of {steps} steps: nothing is left to sample; lower it"
            )
        if end is not None and end != -1 and start >= end:
            yield sampler.error(
                "end_step", f"is {end}, not after start_step {start}, which fails: set it to -1"
            )
        strength = sampler.number("denoise_strength")
        if strength is not None and strength < 1 and start != 0:
            yield sampler.error(
                "denoise_strength",
                f"is {strength} beside start_step {start}, which fails: set it to 1, or "
                "start_step to 0",
            )


@trap
def _no_batched_cfg(view: GraphView) -> Iterator[Finding]:
    for sampler in view.of(SAMPLER):
        if sampler.values.get("batched_cfg") is True:
            yield sampler.error("batched_cfg", "fails in this version: set it to false")


@trap
def _audio_reaches_the_model(view: GraphView) -> Iterator[Finding]:
    for sampler in view.of(SAMPLER):
        talking = view.before(view.source(sampler, "image_embeds"), TALKING_IMAGE, CONTINUE)
        has_voice = sampler.is_linked("multitalk_embeds")
        if talking and not has_voice:
            yield sampler.error(
                "multitalk_embeds",
                f"is empty, and goes wrong with {talking[0].class_type}: link audio embeds",
            )
        if has_voice and not sampler.is_linked("text_embeds"):
            yield sampler.error(
                "text_embeds",
                "is empty, which leaves the audio out as well, without an error: link a prompt",
            )
        for loader in view.before(view.source(sampler, "model"), LOADER):
            if has_voice and not loader.is_linked("multitalk_model"):
                yield loader.warning(
                    "multitalk_model",
                    "is empty, and the sampler gets a voice: link a talk model, if the base model "
                    "does not hold one",
                )
