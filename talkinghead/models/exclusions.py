"""Which of a worker's settings exclude each other, or a request: the one table of it. Pure.

What a deployer sets and the nodes would refuse ends the start, with one sentence. What does not go
with a request is left out of its render. Each row is as the pinned nodes have it; tests/real runs
them, and docs/tuning.md shows the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from talkinghead.plan.plan import Plan
from talkinghead.workflow.lint.model_names import GGUF, SCALED, weights_of
from talkinghead.workflow.lint.speed import LEAST_CACHED_STEPS

FP8_CAPABILITY = 8.9  # Ada, Hopper and Blackwell multiply in fp8
# The optional nodes, by title; which step cache it is says STEP_CACHE.
COMPILE, LIGHT_VAE = "Compile", "Light VAE"
STEP_CACHES = {"teacache": "TeaCache", "magcache": "MagCache", "easycache": "EasyCache"}


@dataclass(frozen=True)
class Choice:
    """What is to be decided on: a profile's base model, and what was set by hand.

    `has_sage` and `capability` are None where nobody told: at a server of somebody else.
    """

    base: str
    has_lora: bool
    attention: str
    fp8_matmul: bool
    torch_compile: bool
    capability: float | None
    has_sage: bool | None

    @property
    def weights(self) -> str:
        """How the base model's file holds them."""
        return weights_of(self.base)


@dataclass(frozen=True)
class Refused:
    """A pair that the nodes refuse: `setting` and what it meets."""

    setting: str
    beside: str
    why: str
    is_so: Callable[[Choice], bool]


@dataclass(frozen=True)
class LeftOut:
    """What is left out of a render: the nodes of `titles`, where the plan is such."""

    setting: str
    beside: str
    why: str
    titles: tuple[str, ...]
    is_so: Callable[[Plan], bool]


REFUSED = (
    Refused(
        "FP8_MATMUL=true",
        "a GGUF base model",
        "WanVideoModelLoader takes no quantization with GGUF",
        lambda choice: choice.fp8_matmul and choice.weights == GGUF,
    ),
    Refused(
        "FP8_MATMUL=true",
        "a base model that is not scaled fp8",
        "WanVideoModelLoader takes a _scaled quantization with scaled weights alone",
        lambda choice: choice.fp8_matmul and choice.weights not in (GGUF, SCALED),
    ),
    Refused(
        "FP8_MATMUL=true",
        "a profile with a speed LoRA",
        "WanVideoSampler does not multiply in fp8 with a LoRA that is not merged; the profile "
        "fp8-distill has none",
        lambda choice: choice.fp8_matmul and choice.has_lora,
    ),
    Refused(
        "FP8_MATMUL=true",
        "a GPU before Ada (compute capability 8.9)",
        "it cannot multiply in fp8",
        lambda choice: choice.fp8_matmul and _is_before(FP8_CAPABILITY, choice),
    ),
    Refused(
        "TORCH_COMPILE=true",
        "fp8 weights on a GPU before Ada (compute capability 8.9)",
        "WanVideoModelLoader says that e4m3 can generally not be compiled there",
        lambda choice: (
            choice.torch_compile
            and "fp8" in choice.base.lower()
            and _is_before(FP8_CAPABILITY, choice)
        ),
    ),
    Refused(
        "ATTENTION=sageattn",
        "a ComfyUI without SageAttention, or without a GPU",
        "WanVideoModelLoader cannot import it, or it has nothing to run on",
        lambda choice: choice.attention.startswith("sageattn") and choice.has_sage is False,
    ),
)

LEFT_OUT = (
    # Whether a worker is warm, no plan knows: `Studio.profile_for` sees to that row.
    LeftOut(
        "TORCH_COMPILE",
        "the first render of a worker, in one prompt",
        "compiling may take longer than it wins; a long render, and any later one, has it",
        (),
        lambda plan: False,
    ),
    LeftOut(
        "STEP_CACHE",
        f"fewer than {LEAST_CACHED_STEPS} steps",
        "each step changes much: one that is left out is seen",
        tuple(STEP_CACHES.values()),
        lambda plan: plan.sampling.steps < LEAST_CACHED_STEPS,
    ),
    LeftOut(
        "STEP_CACHE",
        "a render in one prompt",
        "the sampler's own loop keeps what it cached of every window, in memory and for good",
        tuple(STEP_CACHES.values()),
        lambda plan: not plan.chained,
    ),
    LeftOut(
        "STEP_CACHE",
        "`cfg_scale` 1 with another `audio_cfg_scale`",
        "WanVideoSampler takes one cache for both passes: the speech comes out wrong",
        tuple(STEP_CACHES.values()),
        lambda plan: plan.sampling.cfg == 1 and plan.sampling.audio_cfg != 1,
    ),
    LeftOut(
        "LIGHT_VAE",
        "a render in one prompt",
        "the sampler's own loop encodes with the VAE that it decodes with; the light one cannot",
        (LIGHT_VAE,),
        lambda plan: not plan.chained,
    ),
    LeftOut(
        "LIGHT_VAE",
        "`color_match`",
        "the colours that are matched would not be those that the next window begins with",
        (LIGHT_VAE,),
        lambda plan: plan.request.color_match,
    ),
)


def refusals(choice: Choice) -> Iterator[str]:
    """What a deployer has set that excludes each other: for each setting one sentence."""
    found = {each.setting: each for each in reversed(REFUSED) if each.is_so(choice)}
    for each in REFUSED:
        if found.get(each.setting) is each:
            yield f"{each.setting} and {each.beside} exclude each other: {each.why}"


def left_out(plan: Plan) -> frozenset[str]:
    """The titles of the optional nodes that the plan's render does without."""
    return frozenset(title for each in LEFT_OUT if each.is_so(plan) for title in each.titles)


def _is_before(capability: float, choice: Choice) -> bool:
    return choice.capability is not None and choice.capability < capability
