"""Request + probed media -> Plan: every number and file that a render uses. Pure."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from talkinghead.errors import MediaInvalid, MediaTooLarge, UnsupportedCombination
from talkinghead.media import SPEECH_RATE_HZ, Sound
from talkinghead.request import MAX_SEED, RenderRequest, Scheduler

MODEL_FPS = 25  # InfiniteTalk and MultiTalk were trained at this rate; another changes the motion
# MultiTalkWav2VecEmbeds takes up to 10,000 frames, and we ask it for one more than we need.
MAX_MODEL_FRAMES = 9_999
MAX_VOICE_SECONDS = 3600
MIN_SECONDS = 0.4  # the loudness meter inside MultiTalkWav2VecEmbeds fails on less
SIZE_MULTIPLE = 16  # the VAE divides by 8, the transformer's patches by 2
DISTILL_STEPS = 4  # flowmatch_distill is a fixed list of four
LOSSLESS_CRF, DELIVERED_CRF = 0, 19


@dataclass(frozen=True)
class Sampling:
    """The sampler's settings. `audio_cfg` multiplies `cfg`: 5 and 0.8 guide the audio with 4."""

    steps: int
    cfg: float
    audio_cfg: float
    shift: float
    scheduler: Scheduler


@dataclass(frozen=True)
class Plan:
    """A render, decided. Sizes are in pixels, durations in seconds.

    `frames` are rendered at `fps`, at `render_width` x `render_height`, and cropped to `width` x
    `height`; the file gets `delivered_frames` at `delivered_fps`.
    """

    template: str
    duration: float
    fps: float
    frames: int
    delivered_fps: float
    delivered_frames: int
    width: int
    height: int
    render_width: int
    render_height: int
    seed: int
    prompt: str
    negative_prompt: str | None
    sampling: Sampling
    speed_lora_strength: float
    blocks_to_swap: int
    draft: bool
    warnings: tuple[str, ...]

    @property
    def speech_samples(self) -> int:
        """Length of the speech track: half a frame over, so that no rounding loses the last one."""
        return round((self.frames + 0.5) / self.fps * SPEECH_RATE_HZ)

    @property
    def crf(self) -> int:
        """Quality of ComfyUI's encode: lossless if the delivered rate asks for another one."""
        return DELIVERED_CRF if self.fps == self.delivered_fps else LOSSLESS_CRF


def choose_seed() -> int:
    return secrets.randbelow(MAX_SEED) + 1


def make_plan(
    request: RenderRequest, voice: Sound, *, new_seed: Callable[[], int] = choose_seed
) -> Plan:
    """Decide the render of a request with one voice over one picture.

    Raises:
        UnsupportedCombination: a form of request that this version does not render yet.
        MediaInvalid, MediaTooLarge: a voice too short, or too long, for the model.
    """
    _refuse_what_is_not_there_yet(request)
    duration = _duration(request, voice)
    fps = request.fps if request.draft else MODEL_FPS
    frames = _frames(duration, fps)
    _check_length(request, duration)
    width, height = _even(request.width), _even(request.height)
    sampling, notes = _sampling(request)
    return Plan(
        template="draft_i2v" if request.draft else "infinitetalk_i2v",
        duration=duration,
        fps=fps,
        frames=frames,
        delivered_fps=request.fps,
        delivered_frames=_frames(duration, request.fps),
        width=width,
        height=height,
        render_width=_round_up(width),
        render_height=_round_up(height),
        seed=request.seed or new_seed(),
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        sampling=sampling,
        speed_lora_strength=request.speed_lora_strength,
        blocks_to_swap=request.blocks_to_swap,
        draft=request.draft,
        warnings=(
            *request.warnings,
            *_size_notes(request, width, height),
            *([DRAFT_NOTE] if request.draft else notes),
        ),
    )


DRAFT_NOTE = (
    "this is a draft: a quick preview made on the CPU without the model, to check picture, voice, "
    "size and length; prompt and sampler settings have no effect on it"
)


def _refuse_what_is_not_there_yet(request: RenderRequest) -> None:
    if request.video_url is not None:
        raise UnsupportedCombination("video_url: this version renders from a picture only")
    if len(request.speakers) > 1:
        raise UnsupportedCombination("this version renders one speaker: give one voice")
    if request.speakers[0].mask_url or request.speakers[0].box:
        raise UnsupportedCombination("mask_url and box: this version renders one speaker")
    if request.mode == "multitalk" and not request.draft:
        raise UnsupportedCombination(
            'mode "multitalk" is not in this version: give mode "infinitetalk", or draft true'
        )
    if request.crop != "center":
        raise UnsupportedCombination('crop: this version crops at the "center"')


def _duration(request: RenderRequest, voice: Sound) -> float:
    limits = [voice.duration]
    if request.max_audio_duration is not None:
        limits.append(request.max_audio_duration)
    if request.max_frame is not None:
        limits.append(request.max_frame / request.fps)
    return min(limits)


def _frames(duration: float, fps: float) -> int:
    """Frames that cover the sound to its end."""
    return max(1, math.ceil(round(duration * fps, 6)))


def _check_length(request: RenderRequest, duration: float) -> None:
    if duration < MIN_SECONDS:
        raise MediaInvalid(
            f"the voice is {duration:.2f} s long, or cut to that; allowed: {MIN_SECONDS} s or more"
        )
    limit = MAX_VOICE_SECONDS if request.draft else MAX_MODEL_FRAMES / MODEL_FPS
    if duration > limit:
        raise MediaTooLarge(
            f"the voice is {duration:.1f} s long; allowed: {limit:g} s: set max_audio_duration"
        )


def _even(size: int) -> int:
    return size - size % 2


def _round_up(size: int) -> int:
    return -size % SIZE_MULTIPLE + size


def _size_notes(request: RenderRequest, width: int, height: int) -> list[str]:
    if (width, height) == (request.width, request.height):
        return []
    asked = f"{request.width}x{request.height}"
    return [f"{asked} is delivered as {width}x{height}: H.264 video has even sizes"]


def _sampling(request: RenderRequest) -> tuple[Sampling, list[str]]:
    """Settings that fit the speed LoRA on or off, and what the caller should know about them."""
    with_lora = request.speed_lora_strength > 0
    cfg = request.cfg_scale or (1.0 if with_lora else 5.0)
    steps, scheduler, notes = _steps_and_scheduler(request, with_lora)
    if cfg == 1 and request.negative_prompt:
        notes.append("negative_prompt has no effect at cfg_scale 1")
    small = request.width * request.height <= 854 * 480
    return Sampling(
        steps=steps,
        cfg=cfg,
        # Without the LoRA the authors guide the audio with 4 in all.
        audio_cfg=1.0 if with_lora or cfg <= 1 else round(4 / cfg, 2),
        shift=11.0 if with_lora or not small else 7.0,
        scheduler=scheduler,
    ), notes


def _steps_and_scheduler(
    request: RenderRequest, with_lora: bool
) -> tuple[int, Scheduler, list[str]]:
    if not with_lora:
        return request.steps or 30, request.scheduler or "unipc", _few_steps_note(request)
    if request.scheduler is not None:
        return request.steps or DISTILL_STEPS, request.scheduler, []
    if request.steps in (None, DISTILL_STEPS):
        return DISTILL_STEPS, "flowmatch_distill", []
    note = f"scheduler dpm++_sde is used: flowmatch_distill works with {DISTILL_STEPS} steps only"
    return request.steps or DISTILL_STEPS, "dpm++_sde", [note]


def _few_steps_note(request: RenderRequest) -> list[str]:
    if request.steps is None or request.steps >= 20:
        return []
    return [f"{request.steps} steps are few without the speed LoRA: 20 to 40 give a clean picture"]
