"""Weights that are where WanVideoSampler would bring them, and need not be brought again."""

from __future__ import annotations

import copy
from typing import Any

import torch


def in_place(patcher: Any, device: torch.device, swapped: torch.device) -> bool:  # noqa: ANN401
    """Whether the sampler would only write the same weights over those that are there.

    It would for every prompt, from the file. They are there if it has left them on the `device`
    after the prompt before, and the blocks that are swapped on `swapped`. GGUF weights it builds
    anew; and a model that gets its first LoRA changes its layers, for which it needs the file.

    Args:
        patcher: a WANVIDEOMODEL, with LoRA and block swap as the sampler gets it.
    """
    model, options = patcher.model, patcher.model_options["transformer_options"]
    transformer = model.diffusion_model
    if model["sd"] is None or model["gguf_reader"] is not None or model["auto_cpu_offload"]:
        return False
    if patcher.patches and not transformer.patched_linear:
        return False
    swap = options.get("block_swap_args") or {}
    first_swapped = len(transformer.blocks) - swap.get("blocks_to_swap", 0)
    for name, weight in transformer.named_parameters():
        if "loras" in name or "uni3c" in name:
            continue
        places = [device]
        if name.startswith("blocks.") and int(name.split(".")[1]) >= first_swapped:
            # Without layers of the pack's own, the sampler itself moves them once more.
            places = [swapped] if transformer.patched_linear else [device, swapped]
        if not any(_is_on(weight, place) for place in places):
            return False
    return True


def without_file(patcher: Any) -> Any:  # noqa: ANN401
    """The same model, transformer included, of which the sampler brings no weights."""
    kept = patcher.clone()
    kept.model = copy.copy(patcher.model)
    kept.model.pipeline = {**patcher.model.pipeline, "sd": None}
    return kept


def _is_on(weight: torch.Tensor, device: torch.device) -> bool:
    there = weight.device
    return there.type == device.type and device.index in (None, there.index)
