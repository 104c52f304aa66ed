"""The nodes themselves. They go between those of ComfyUI-WanVideoWrapper, at its pinned commit."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import nodes
import torch
from comfy_api.latest import ComfyExtension, io

from .audio import window_features
from .boxes import box_masks, read_boxes
from .colour import with_colours_of
from .sound import frames_of, together
from .weights import in_place, without_file

CATEGORY = "talkinghead"
MultiTalkEmbeds = io.Custom("MULTITALK_EMBEDS")
Model = io.Custom("WANVIDEOMODEL")
ImageEmbeds = io.Custom("WANVIDIMAGE_EMBEDS")
WanVae = io.Custom("WANVAE")
# Latents that the full VAE decodes before the motion frames, where the pictures are another's: it
# looks back. With random weights the frames differ by 6 % of their contrast so, with 5 by 32 %.
LOOK_BACK = 9
SILENCE_FILE = "encoded_silence.safetensors"  # of the pack, beside the node that listens


class Audio(TypedDict):
    """ComfyUI's AUDIO: `waveform` [batch, channels, samples] of full scale 1.0."""

    waveform: torch.Tensor
    sample_rate: int


class Latent(TypedDict):
    """ComfyUI's LATENT: `samples` [1, 16, frames, height / 8, width / 8]."""

    samples: torch.Tensor


class WindowAudio(io.ComfyNode):  # type: ignore[misc]  # ComfyUI has no types to check by
    """What one window hears of the voices."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TalkingHeadWindowAudio",
            display_name="Talking Head Window Audio",
            category=CATEGORY,
            description="Cuts one window's frames out of the audio embeds, neighbours included, "
            "as the sampler's own loop does.",
            inputs=[
                MultiTalkEmbeds.Input("embeds"),
                io.Int.Input("start", default=0, min=0, max=10_000, tooltip="First frame."),
                io.Int.Input("frames", default=81, min=5, max=10_000, step=4),
            ],
            outputs=[MultiTalkEmbeds.Output()],
        )

    @classmethod
    def execute(cls, *, embeds: dict[str, Any], start: int, frames: int) -> io.NodeOutput:
        silence = _encoded_silence()
        cut = [window_features(each, start, frames, silence) for each in embeds["audio_features"]]
        return io.NodeOutput({**embeds, "audio_features": cut})


class ContinueWindow(io.ComfyNode):  # type: ignore[misc]
    """A window's first frames: the last ones of the window before, or the reference."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TalkingHeadContinueWindow",
            display_name="Talking Head Continue Window",
            category=CATEGORY,
            description="Has the sampler keep the first frames of the window as `motion` has them. "
            "The first window has none: it begins with the reference.",
            inputs=[
                ImageEmbeds.Input("embeds"),
                WanVae.Input("vae"),
                io.Image.Input("reference"),
                io.Boolean.Input("tiled_vae", default=False),
                io.Latent.Input("motion", optional=True, tooltip="Of the window before."),
            ],
            outputs=[ImageEmbeds.Output()],
        )

    @classmethod
    def execute(
        cls,
        *,
        embeds: dict[str, Any],
        vae: Any,  # noqa: ANN401 - WanVideoWrapper's own class
        reference: torch.Tensor,
        tiled_vae: bool,
        motion: Latent | None = None,
    ) -> io.NodeOutput:
        samples = motion["samples"] if motion else _encoded(vae, _pixels(reference[:1]), tiled_vae)
        return io.NodeOutput({**embeds, "extra_latents": [{"samples": samples, "index": 0}]})


class DecodeWindow(io.ComfyNode):  # type: ignore[misc]
    """A window's pictures, and its last frames as the next window begins with them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TalkingHeadDecodeWindow",
            display_name="Talking Head Decode Window",
            category=CATEGORY,
            description="Decodes a window, and encodes its last frames for the one after it. With "
            "`light_vae` the pictures are that one's, and the last frames still the VAE's.",
            inputs=[
                WanVae.Input("vae"),
                io.Latent.Input("samples"),
                io.Image.Input("reference"),
                io.Int.Input("motion_frames", default=9, min=1, max=81, step=4),
                io.Boolean.Input(
                    "match_colours",
                    default=False,
                    tooltip="Give the window mean and contrast of the reference.",
                ),
                io.Boolean.Input("tiled_vae", default=False),
                WanVae.Input(
                    "light_vae", optional=True, tooltip="Of WanVideoTinyVAELoader; it only decodes."
                ),
            ],
            outputs=[io.Image.Output(), io.Latent.Output("motion")],
        )

    @classmethod
    def execute(
        cls,
        *,
        vae: Any,  # noqa: ANN401
        samples: Latent,
        reference: torch.Tensor,
        motion_frames: int,
        match_colours: bool,
        tiled_vae: bool,
        light_vae: Any = None,  # noqa: ANN401
    ) -> io.NodeOutput:
        """Raises ValueError for colours to be matched of a light VAE's pictures."""
        if light_vae is not None:
            if match_colours:
                raise ValueError("match_colours needs the pictures of the VAE: take light_vae off")
            images = _decoded_lightly(light_vae, samples["samples"])
            tail = samples["samples"][:, :, -last_latents(motion_frames) :]
            pixels = _decoded(vae, tail, tiled_vae)
            motion = _encoded(vae, pixels[:, -motion_frames:], tiled_vae)
            return io.NodeOutput(images, Latent(samples=motion))
        pixels = _decoded(vae, samples["samples"], tiled_vae)
        images = pixels.float().permute(1, 2, 3, 0).clamp(-1, 1) / 2 + 0.5
        if match_colours:
            images = with_colours_of(reference, images)
            pixels = _pixels(images)
        motion = _encoded(vae, pixels[:, -motion_frames:], tiled_vae)
        return io.NodeOutput(images, Latent(samples=motion))


class KeepWeights(io.ComfyNode):  # type: ignore[misc]
    """A model whose weights are not brought to the GPU again if they are there."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TalkingHeadKeepWeights",
            display_name="Talking Head Keep Weights",
            category=CATEGORY,
            description="Goes right before the sampler, which brings all weights to the GPU for "
            "each prompt. Where the prompt before left them there (force_offload off, no GGUF), "
            "they stay.",
            inputs=[Model.Input("model")],
            outputs=[Model.Output()],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> float:
        """Never what it was: where the weights are changes with each prompt."""
        return float("nan")

    @classmethod
    def execute(cls, *, model: Any) -> io.NodeOutput:  # noqa: ANN401
        device = comfy.model_management.get_torch_device()
        swapped = comfy.model_management.unet_offload_device()
        is_known = isinstance(model, comfy.model_patcher.ModelPatcher)
        if is_known and in_place(model, device, swapped):
            return io.NodeOutput(without_file(model))
        return io.NodeOutput(model)


class SpeakerBoxes(io.ComfyNode):  # type: ignore[misc]
    """Masks of the speakers, and of the background, from boxes that people can write."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TalkingHeadSpeakerBoxes",
            display_name="Talking Head Speaker Boxes",
            category=CATEGORY,
            description="Says where each speaker is: a line each, in the order of their voices, "
            "with left, top, right and bottom in fractions of the picture (0 to 1) or in pixels.",
            inputs=[
                io.String.Input("boxes", default="0, 0, 0.5, 1\n0.5, 0, 1, 1", multiline=True),
                io.Int.Input("width", default=480, min=16, max=4096, tooltip="Of the picture."),
                io.Int.Input("height", default=864, min=16, max=4096),
                io.Mask.Input(
                    "masks", optional=True, tooltip="Masks of your own, in place of the boxes."
                ),
            ],
            outputs=[io.Mask.Output()],
        )

    @classmethod
    def validate_inputs(cls, boxes: str | None) -> bool | str:
        """What is wrong with the text, before anything runs; masks of one's own need none.

        None is a text that another node will make.
        """
        try:
            if boxes and boxes.strip():
                read_boxes(boxes)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls, *, boxes: str, width: int, height: int, masks: torch.Tensor | None = None
    ) -> io.NodeOutput:
        """Raises ValueError for a box of which nothing is seen."""
        return io.NodeOutput(
            box_masks(read_boxes(boxes), width, height) if masks is None else masks
        )


class SoundAndLength(io.ComfyNode):  # type: ignore[misc]
    """What the video sounds like and how long it is, from the voices."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        voices = ("voice", "voice_2", "voice_3", "voice_4")
        return io.Schema(
            node_id="TalkingHeadSoundAndLength",
            display_name="Talking Head Sound And Length",
            category=CATEGORY,
            description="All voices as one sound, or the sound that is linked, and the number of "
            "frames that it lasts.",
            inputs=[
                # The first: bypassed, the node hands on the sound.
                io.Audio.Input("sound", optional=True, tooltip="In place of the voices."),
                *(io.Audio.Input(name, optional=True) for name in voices),
                io.Float.Input("fps", default=25.0, min=1.0, max=60.0, step=0.01),
            ],
            outputs=[
                io.Audio.Output(display_name="sound"),
                io.Int.Output(display_name="num_frames"),
            ],
        )

    @classmethod
    def execute(
        cls, *, fps: float, sound: Audio | None = None, **voices: Audio | None
    ) -> io.NodeOutput:
        """Raises ValueError without any sound."""
        heard = [each for each in voices.values() if each] if sound is None else [sound]
        if not heard:
            raise ValueError("there is no sound: link a voice")
        track = together([(each["waveform"][0].float(), each["sample_rate"]) for each in heard])
        samples, rate = track
        return io.NodeOutput(Audio(waveform=samples[None], sample_rate=rate), frames_of(track, fps))


class WindowsExtension(ComfyExtension):  # type: ignore[misc]
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            *(WindowAudio, ContinueWindow, DecodeWindow, KeepWeights),
            *(SpeakerBoxes, SoundAndLength),
        ]


def _pixels(images: torch.Tensor) -> torch.Tensor:
    """IMAGE [T, H, W, 3], 0..1, as the VAE takes it: [3, T, H, W], -1..1."""
    return (images[..., :3] * 2 - 1).permute(3, 0, 1, 2)


# As the sampler's own loop does it. WanVideoDecode would cut off what is beyond -1..1, and
# WanVideoEncode round to the VAE's precision too early: the next window would not be the loop's.
def _decoded(vae: Any, latents: torch.Tensor, tiled: bool) -> torch.Tensor:  # noqa: ANN401
    """[3, T, H, W], of the VAE's precision."""
    with _on_gpu(vae) as device:
        there = latents.to(device, vae.dtype)
        pixels: torch.Tensor = vae.decode(there, device=device, tiled=tiled, pbar=False)[0]
        return pixels.cpu()


def _decoded_lightly(vae: Any, latents: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
    """IMAGE [T, H, W, 3], 0..1, as WanVideoDecode has it of WanVideoWrapper's TAEHV."""
    with _on_gpu(vae) as device:
        frames = latents.to(device, vae.dtype).permute(0, 2, 1, 3, 4)
        images: torch.Tensor = vae.decode_video(frames)[0].permute(0, 2, 3, 1)
        return images.clamp(0, 1).cpu().float()


def last_latents(motion_frames: int) -> int:
    """How many of a window's last latents to decode for its last frames."""
    return (motion_frames - 1) // 4 + 1 + LOOK_BACK


def _encoded(vae: Any, pixels: torch.Tensor, tiled: bool) -> torch.Tensor:  # noqa: ANN401
    """[1, 16, t, H / 8, W / 8], of the VAE's precision."""
    with _on_gpu(vae) as device:
        there = pixels[None].to(device, vae.dtype)
        latents: torch.Tensor = vae.encode(there, device=device, tiled=tiled, pbar=False)
        return latents.cpu()


@contextlib.contextmanager
def _on_gpu(vae: Any) -> Iterator[torch.device]:  # noqa: ANN401
    device = comfy.model_management.get_torch_device()
    vae.to(device)
    try:
        yield device
    finally:
        vae.to(comfy.model_management.unet_offload_device())


def _encoded_silence() -> torch.Tensor:
    """What the talk model hears in silence: [90, 12, 768], from the pack."""
    listener = nodes.NODE_CLASS_MAPPINGS["MultiTalkWav2VecEmbeds"]
    file = Path(inspect.getfile(listener)).with_name(SILENCE_FILE)
    silence: torch.Tensor = comfy.utils.load_torch_file(str(file))["audio_emb"]
    return silence
