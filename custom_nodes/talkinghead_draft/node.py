"""The node itself: ComfyUI's tensors in, a video file in ComfyUI's temp folder out."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TypedDict
from uuid import uuid4

import comfy.model_management
import comfy.utils
import folder_paths
import numpy as np
import torch
from comfy_api.latest import ComfyExtension, InputImpl, io

from .animate import preview_frames
from .face import Picture, find_face
from .mp4 import write_mp4
from .voice import Samples, mouth_motion


class Audio(TypedDict):
    """ComfyUI's AUDIO: `waveform` [batch, channels, samples] of full scale 1.0."""

    waveform: torch.Tensor
    sample_rate: int


class TalkingHeadDraft(io.ComfyNode):  # type: ignore[misc]  # ComfyUI has no types to check by
    """A quick preview of a talking portrait, warped on the CPU. It is no model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TalkingHeadDraft",
            display_name="Talking Head Draft (CPU preview)",
            category="talkinghead",
            description="Warps a portrait's mouth, eyelids and head to a voice, on the CPU. "
            "A preview to judge timing and framing by; it is no model.",
            inputs=[
                io.Image.Input("image", tooltip="The portrait; of a batch, the first."),
                io.Audio.Input("voice", tooltip="Moves the mouth."),
                io.Audio.Input("sound", tooltip="Goes into the file."),
                io.Int.Input("num_frames", default=250, min=1, max=200_000),
                io.Float.Input("fps", default=25.0, min=1.0, max=60.0, step=0.01),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**53 - 1,
                    control_after_generate=True,
                    tooltip="Blinks and sway come from it.",
                ),
            ],
            outputs=[io.Video.Output()],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> str:
        """New every time: ComfyUI must not hand out a video whose temp file was cleared since."""
        return uuid4().hex

    @classmethod
    def execute(
        cls,
        *,
        image: torch.Tensor,
        voice: Audio,
        sound: Audio,
        num_frames: int,
        fps: float,
        seed: int,
    ) -> io.NodeOutput:
        """Raises ValueError for an odd picture size; leaves no file behind on any error."""
        rate = Fraction(fps).limit_denominator(1001)  # exact for the step's cents and for NTSC's
        portrait = _picture(image)
        motion = mouth_motion(_samples(voice), voice["sample_rate"], num_frames, rate)
        frames = preview_frames(portrait, find_face(portrait), motion, rate, seed)
        path = Path(folder_paths.get_temp_directory()) / f"talkinghead_draft_{uuid4().hex}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mp4(path, _watched(frames, num_frames), rate, _samples(sound), sound["sample_rate"])
        return io.NodeOutput(InputImpl.VideoFromFile(str(path)))


class DraftExtension(ComfyExtension):  # type: ignore[misc]
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [TalkingHeadDraft]


def _watched(frames: Iterator[Picture], num_frames: int) -> Iterator[Picture]:
    """The frames, with a progress bar; raises ComfyUI's interruption when the user stops."""
    bar = comfy.utils.ProgressBar(num_frames)
    for frame in frames:
        comfy.model_management.throw_exception_if_processing_interrupted()
        yield frame
        bar.update(1)


def _picture(image: torch.Tensor) -> Picture:
    pixels = image[0, ..., :3].float().mul(255).round().clamp(0, 255)
    return np.ascontiguousarray(pixels.cpu().numpy().astype(np.uint8))


def _samples(audio: Audio) -> Samples:
    return np.asarray(audio["waveform"][0].float().cpu().numpy())
