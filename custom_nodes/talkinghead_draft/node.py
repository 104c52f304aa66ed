"""The node itself: ComfyUI's tensors in, a video file in ComfyUI's temp folder out."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Sequence
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

from .draft import picture_draft, video_draft
from .face import Picture, Plane
from .mp4 import write_mp4
from .video import held, read_frames
from .voice import Motion, Samples, at_rest, mixed, mouth_motion


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
                io.Audio.Input("voice", tooltip="Moves the first speaker's mouth."),
                io.Int.Input(
                    "num_frames",
                    default=0,
                    min=0,
                    max=1_000_000,
                    tooltip="0: as many as the sound is long.",
                ),
                io.Float.Input("fps", default=25.0, min=1.0, max=60.0, step=0.01),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**53 - 1,
                    control_after_generate=True,
                    tooltip="Blinks and sway come from it.",
                ),
                io.Audio.Input(
                    "sound",
                    optional=True,
                    tooltip="Goes into the file; without it, the voices do.",
                ),
                io.Image.Input(
                    "image", optional=True, tooltip="The portrait; of a batch, the first."
                ),
                io.Video.Input(
                    "video",
                    optional=True,
                    tooltip="Instead of the portrait, frame by frame; its last frame is held. "
                    "With an image too, it is scaled to the image's size.",
                ),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="Where each speaker is, in their order, the background last. "
                    "Without it the speakers are taken from left to right.",
                ),
                *(
                    io.Audio.Input(name, optional=True, tooltip="Moves that speaker's mouth.")
                    for name in ("voice_2", "voice_3", "voice_4")
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
        voice: Audio,
        num_frames: int,
        fps: float,
        seed: int,
        sound: Audio | None = None,
        image: torch.Tensor | None = None,
        video: InputImpl.VideoFromFile | None = None,
        masks: torch.Tensor | None = None,
        voice_2: Audio | None = None,
        voice_3: Audio | None = None,
        voice_4: Audio | None = None,
    ) -> io.NodeOutput:
        """Raises ValueError for an odd size, too few masks, and neither image nor video.

        Leaves no file behind on any error.
        """
        rate = Fraction(fps).limit_denominator(1001)  # exact for the step's cents and for NTSC's
        voices = _numbered(voice, voice_2, voice_3, voice_4)
        heard, hz = mixed([(_samples(each), each["sample_rate"]) for each in _heard(sound, voices)])
        num_frames = num_frames or max(1, math.ceil(Fraction(heard.shape[-1], hz) * rate))
        motions = [_motion(each, num_frames, rate) for each in voices]
        portrait = None if image is None else _picture(image)
        planes = None if masks is None else _planes(masks)
        seen: set[int] = set()
        if video is not None:
            base = held(read_frames(video.get_stream_source(), _size(portrait)), num_frames)
            frames = video_draft(base, planes, motions, seen=seen)
        elif portrait is not None:
            frames = picture_draft(portrait, planes, motions, rate, seed, seen=seen)
        else:
            raise ValueError("a draft needs an image or a video")
        path = Path(folder_paths.get_temp_directory()) / f"talkinghead_draft_{uuid4().hex}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mp4(path, _watched(frames, num_frames), rate, heard, hz)
        missed = _faceless(motions, seen)
        return io.NodeOutput(
            InputImpl.VideoFromFile(str(path)), ui={"text": missed} if missed else None
        )


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


def _planes(masks: torch.Tensor) -> Plane:
    return np.asarray(masks.reshape(-1, *masks.shape[-2:]).float().cpu().numpy())


def _size(picture: Picture | None) -> tuple[int, int] | None:
    return None if picture is None else (picture.shape[1], picture.shape[0])


def _numbered(*voices: Audio | None) -> list[Audio | None]:
    """The voices up to the last one given: a gap keeps its number, so that the masks fit."""
    last = max(number for number, voice in enumerate(voices) if voice is not None)
    return list(voices[: last + 1])


def _heard(sound: Audio | None, voices: Sequence[Audio | None]) -> list[Audio]:
    """What goes into the file: the sound, or else the voices."""
    return [each for each in voices if each is not None] if sound is None else [sound]


def _motion(voice: Audio | None, num_frames: int, fps: Fraction) -> Motion:
    if voice is None:
        return at_rest(num_frames)
    return mouth_motion(_samples(voice), voice["sample_rate"], num_frames, fps)


def _faceless(motions: Sequence[Motion], seen: Container[int]) -> list[str]:
    """A sentence for each speaker who is heard, and whose face was not found."""
    return [
        f"speaker {number}: no face was found, and no mouth moves with this voice"
        for number, motion in enumerate(motions, 1)
        if motion.openness.any() and number - 1 not in seen
    ]


def _samples(audio: Audio) -> Samples:
    return np.asarray(audio["waveform"][0].float().cpu().numpy())
