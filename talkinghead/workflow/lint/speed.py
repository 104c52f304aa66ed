"""Rules on what renders quicker: attention, caches of steps, a small VAE."""

from collections.abc import Iterator

from talkinghead.workflow.lint.rules import trap
from talkinghead.workflow.lint.view import Finding, GraphView
from talkinghead.workflow.node_classes import (
    CONTINUE,
    DECODE,
    EASY_CACHE,
    EMBEDS,
    LOADER,
    MAG_CACHE,
    SAMPLER,
    TALKING_IMAGE,
    TEA_CACHE,
    TINY_VAE,
    WINDOW_IMAGE,
)

LEAST_CACHED_STEPS = 10  # of fewer, none changes little
CACHES = (TEA_CACHE, MAG_CACHE, EASY_CACHE)


@trap
def _attention_hears_the_voices(view: GraphView) -> Iterator[Finding]:
    for loader in view.of(LOADER):
        if loader.text("attention_mode") == "comfy" and loader.is_linked("multitalk_model"):
            yield loader.error(
                "attention_mode", "is comfy, which fails with a talk model: set it to sdpa"
            )


@trap
def _steps_are_worth_a_cache(view: GraphView) -> Iterator[Finding]:
    for sampler in view.of(SAMPLER):
        for cache in view.before(view.source(sampler, "cache_args"), *CACHES):
            steps = sampler.number("steps")
            if steps is not None and steps < LEAST_CACHED_STEPS:
                yield sampler.warning(
                    "cache_args",
                    f"leaves out some of {steps:g} steps, each of which changes much: take "
                    f"{cache.label} away, or {LEAST_CACHED_STEPS} steps and more",
                )
            if view.before(view.source(sampler, "image_embeds"), TALKING_IMAGE):
                yield sampler.warning(
                    "cache_args",
                    f"keeps what it cached of every window in memory: take {cache.label} away for "
                    "long sounds",
                )


@trap
def _cache_is_of_one_pass(view: GraphView) -> Iterator[Finding]:
    for sampler in view.of(SAMPLER):
        hears = view.source(sampler, "multitalk_embeds")
        if sampler.is_linked("cache_args") and sampler.number("cfg") == 1:
            for embeds in view.before(hears, EMBEDS):
                if embeds.number("audio_cfg_scale") not in (None, 1):
                    yield sampler.error(
                        "cache_args",
                        "is one for both passes, and the speech comes out wrong, at cfg 1 with "
                        f"another audio_cfg_scale in {embeds.label}: take the cache away",
                    )


@trap
def _small_vae_only_decodes(view: GraphView) -> Iterator[Finding]:
    for node in view.of(TALKING_IMAGE, WINDOW_IMAGE, CONTINUE, DECODE):
        if view.before(view.source(node, "vae"), TINY_VAE):
            yield node.error("vae", f"is of {TINY_VAE}, which only decodes: take WanVideoVAELoader")
    for node in view.of(DECODE):
        if node.is_linked("light_vae") and node.values.get("match_colours") is True:
            yield node.error("light_vae", "fails with match_colours: take one of them away")
