"""Models, LoRAs, text and other settings: plain values that say what was wired to what."""

from collections.abc import Callable
from typing import TypeAlias

import torch

from . import control
from .frames import SampledFrames
from .schemas import Behaviour, Outputs

Settings: TypeAlias = dict[str, object]

CARRIERS = (
    "LoadWanVideoT5TextEncoder",
    "MultiTalkModelLoader",
    "Wav2VecModelLoader",
    "WanVideoBlockSwap",
    "WanVideoClipVisionEncode",
    "WanVideoEasyCache",
    "WanVideoExperimentalArgs",
    "WanVideoMagCache",
    "WanVideoTeaCache",
    "WanVideoTorchCompileSettings",
    "WanVideoVRAMManagement",
)


def carrier(class_type: str) -> Callable[..., Outputs]:
    """A node whose one output is its own settings."""

    def carry(**inputs: object) -> Outputs:
        return ({"class_type": class_type, **{k: plain(v) for k, v in inputs.items()}},)

    return carry


class Vae:
    """WANVAE: its latents are the pixels, [1, 3, T, H, W]."""

    dtype = torch.float32

    def __init__(self, precision: str) -> None:
        self._precision = precision

    def to(self, device: object) -> None:
        """It has no weights."""

    def decode(self, frames: SampledFrames, **_: object) -> list[torch.Tensor]:
        images = frames.paint()
        if control.is_black(self._precision):
            images.zero_()
        return [images.permute(3, 0, 1, 2) * 2 - 1]

    def encode(self, pixels: torch.Tensor, **_: object) -> torch.Tensor:
        return pixels.clone()


def load_vae(precision: str, **_: object) -> Outputs:
    return (Vae(precision),)


class TinyVae:
    """WANVAE of WanVideoTinyVAELoader: it decodes [1, T, ...] alone, to 0..1."""

    dtype = torch.float32

    def to(self, device: object) -> None:
        """It has no weights."""

    def decode_video(self, frames: SampledFrames, **_: object) -> torch.Tensor:
        return frames.paint().permute(0, 3, 1, 2)[None]


def load_tiny_vae(**_: object) -> Outputs:
    return (TinyVae(),)


def plain(value: object) -> object:
    """A tensor becomes its shape: a model must not keep a job's pictures alive."""
    return list(value.shape) if isinstance(value, torch.Tensor) else value


def load_model(
    model: str,
    lora: list[Settings] | None = None,
    multitalk_model: Settings | None = None,
    **settings: object,
) -> Outputs:
    is_gguf = model.endswith(".gguf")
    if is_gguf and settings["quantization"] != "disabled":
        raise ValueError("Quantization should be disabled when loading GGUF models.")
    if is_gguf and any(entry["merge_loras"] for entry in lora or []):
        raise ValueError("GGUF models do not support LoRA merging, please disable merge_loras.")
    if multitalk_model and not is_gguf and str(multitalk_model["model"]).endswith(".gguf"):
        raise ValueError("The talk model is a GGUF model, main model also has to be a GGUF model.")
    quantization = str(settings["quantization"])
    if "scaled" in quantization and not ("scaled" in model and "fp8" in model):
        raise ValueError("The model is not a scaled fp8 model, please disable '_scaled'.")
    if "fast" in quantization and lora and not any(entry["merge_loras"] for entry in lora):
        raise NotImplementedError("fp8_fast is not supported with unmerged LoRAs")
    wired = {"lora": lora, "multitalk_model": multitalk_model, **settings}
    return ({"class_type": "WanVideoModelLoader", "model": model, **wired},)


def select_lora(
    lora: str,
    strength: float,
    prev_lora: list[Settings] | None = None,
    merge_loras: bool = True,
    low_mem_load: bool = False,
    **_: object,
) -> Outputs:
    before = prev_lora or []
    if round(strength, 4) == 0.0:
        return (before,)
    entry: Settings = {
        "name": lora,
        "strength": round(strength, 4),
        "merge_loras": merge_loras,
        "low_mem_load": low_mem_load,
    }
    return ([*before, entry],)


def set_loras(model: Settings, lora: list[Settings] | None = None) -> Outputs:
    return (model if lora is None else {**model, "lora": lora},)


def set_block_swap(model: Settings, block_swap_args: Settings | None = None) -> Outputs:
    return (model if block_swap_args is None else {**model, "block_swap_args": block_swap_args},)


def bridge_text(
    positive: list[list[object]], negative: list[list[object]] | None = None
) -> Outputs:
    return (_text(positive[0][0], negative[0][0] if negative else None),)


def encode_text(positive_prompt: str, negative_prompt: str, **_: object) -> Outputs:
    return (_text(positive_prompt, negative_prompt),)


def encode_text_cached(positive_prompt: str, negative_prompt: str, **_: object) -> Outputs:
    embeds = _text(positive_prompt, negative_prompt)
    return (embeds, _text(negative_prompt, None), positive_prompt)


def apply_nag(original_text_embeds: Settings, **settings: object) -> Outputs:
    return ({**original_text_embeds, "nag": settings},)


def load_clip(**settings: object) -> Outputs:
    return (settings,)


def encode_clip_text(clip: Settings, text: str) -> Outputs:
    return ([[text, {"clip": clip}]],)


def _text(positive: object, negative: object) -> Settings:
    return {"prompt_embeds": positive, "negative_prompt_embeds": negative}


BEHAVIOURS = {
    **{name: Behaviour(carrier(name)) for name in CARRIERS},
    "WanVideoModelLoader": Behaviour(load_model),
    "WanVideoLoraSelect": Behaviour(select_lora),
    "WanVideoSetLoRAs": Behaviour(set_loras),
    "WanVideoSetBlockSwap": Behaviour(set_block_swap),
    "WanVideoTextEmbedBridge": Behaviour(bridge_text),
    "WanVideoTextEncode": Behaviour(encode_text),
    "WanVideoTextEncodeCached": Behaviour(encode_text_cached),
    "WanVideoTinyVAELoader": Behaviour(load_tiny_vae),
    "WanVideoVAELoader": Behaviour(load_vae),
    "WanVideoApplyNAG": Behaviour(apply_nag),
}

# Core nodes that would read weights; their schemas come from ComfyUI itself.
CORE_BEHAVIOURS = {
    "CLIPLoader": Behaviour(load_clip),
    "CLIPVisionLoader": Behaviour(load_clip),
    "CLIPTextEncode": Behaviour(encode_clip_text),
}
