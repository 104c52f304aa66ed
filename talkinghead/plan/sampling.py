"""The sampler's settings: the request's, and where it has none, what suits the speed LoRA."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from talkinghead.plan.fields import Scheduler
from talkinghead.plan.request import RenderRequest

T = TypeVar("T")

DISTILL_STEPS = 4  # flowmatch_distill is a fixed list of four
PUBLIC_NAMES = {"cfg": "cfg_scale", "audio_cfg": "audio_cfg_scale"}


@dataclass(frozen=True)
class Sampling:
    """The sampler's settings. `audio_cfg` multiplies `cfg`: 5 and 0.8 guide the audio with 4.

    The first `start_step` of the steps are left out where a video is what the sampler begins with.
    """

    steps: int
    start_step: int
    cfg: float
    audio_cfg: float
    audio_scale: float
    shift: float
    scheduler: Scheduler

    def payload(self) -> dict[str, Any]:
        """What a caller is told: the settings by the request's names."""
        told = {PUBLIC_NAMES.get(name, name): value for name, value in asdict(self).items()}
        del told["start_step"]  # no field of the request: it follows from the others
        return told


def sampling_of(request: RenderRequest, pixels: int) -> Sampling:
    """Settings that fit the speed LoRA on or off, and the frame's size; what is given is kept."""
    with_lora = request.speed_lora_strength > 0
    small = pixels <= 854 * 480
    cfg = request.cfg_scale or (1.0 if with_lora else 5.0)
    distilled = with_lora or request.scheduler == "flowmatch_distill"
    steps = request.steps or (DISTILL_STEPS if distilled else 30)
    from_video = request.video_url is not None and request.video_method == "denoise"
    # Without the LoRA the authors guide the audio with 4 in all.
    audio_cfg = 1.0 if with_lora or cfg <= 1 else round(4 / cfg, 2)
    return Sampling(
        steps=steps,
        start_step=steps // 2 if from_video else 0,
        cfg=cfg,
        audio_cfg=_given(request.audio_cfg_scale, audio_cfg),
        audio_scale=_given(request.audio_scale, 1.5 if from_video else 1.0),
        shift=request.shift or (11.0 if with_lora or not small else 7.0),
        scheduler=request.scheduler or _scheduler(with_lora, steps),
    )


def _given(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value


def _scheduler(with_lora: bool, steps: int) -> Scheduler:
    if not with_lora:
        return "unipc"
    return "flowmatch_distill" if steps == DISTILL_STEPS else "dpm++_sde"
