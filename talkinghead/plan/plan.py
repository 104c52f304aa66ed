"""Request + probed media -> Plan: every number and file that a render uses. Pure."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from talkinghead.errors import MediaInvalid, MediaTooLarge, UnsupportedCombination
from talkinghead.media.masks import Framing
from talkinghead.media.picture import Picture
from talkinghead.media.rates import exact
from talkinghead.media.sound import SPEECH_RATE_HZ, Sound
from talkinghead.media.source_video import SourceVideo
from talkinghead.memory import GIB
from talkinghead.plan.request import MAX_SEED, Mode, RenderRequest, Scheduler

MODEL_FPS = 25  # InfiniteTalk and MultiTalk were trained at this rate; another changes the motion
WINDOW_FRAMES = 81  # what the sampler makes at a time
MOTION_FRAMES = {"infinitetalk": 9, "multitalk": 25}  # of these, taken over from the window before
# MultiTalkWav2VecEmbeds takes up to 10,000 frames, and we ask it for one more than we need.
MAX_MODEL_FRAMES = 9_999
MAX_DENOISE_FRAMES = 1_000  # the whole clip lies on the GPU: about 7 GB at 480p, 16 GB at 720p
MAX_VOICE_SECONDS = 7200
# One prompt holds every frame in the host's RAM: bytes a pixel, and the share that they may take.
PROMPT_BYTES_PER_PIXEL, PROMPT_RAM_SHARE = 18, 0.3
MIN_SECONDS = 0.4  # the loudness meter inside MultiTalkWav2VecEmbeds fails on less
SIZE_MULTIPLE = 16  # the VAE divides by 8, the transformer's patches by 2
DISTILL_STEPS = 4  # flowmatch_distill is a fixed list of four
LOSSLESS_CRF, DELIVERED_CRF = 0, 19
SOME_BLOCKS, ALL_BLOCKS = 20, 40  # of the 14B model's 40 transformer blocks
SMALL_WINDOW_FRAMES = 49  # 4n+1, as the VAE needs, and more than MultiTalk's motion frames

TalkModel = Literal["infinitetalk_single", "infinitetalk_multi", "multitalk"]


@dataclass(frozen=True)
class Sampling:
    """The sampler's settings. `audio_cfg` multiplies `cfg`: 5 and 0.8 guide the audio with 4."""

    steps: int
    start_step: int
    cfg: float
    audio_cfg: float
    audio_scale: float
    shift: float
    scheduler: Scheduler


@dataclass(frozen=True)
class SourceFrames:
    """Which frames of the source video are used: `count` of them, `step_seconds` apart."""

    count: int
    step_seconds: float
    fps: float

    @property
    def times(self) -> list[float]:
        """When they show, in seconds."""
        return [index * self.step_seconds for index in range(self.count)]


@dataclass(frozen=True)
class Plan:
    """A render, decided. Sizes are in pixels, times in seconds.

    `frames` are rendered at `fps`, in the size that `framing` gives the source, and cropped to
    `width` x `height`; the file gets `delivered_frames` at `delivered_fps`. `offsets` says when
    each person's voice begins; None is somebody who only listens.
    """

    template: str
    mode: Mode
    offsets: tuple[float | None, ...]
    duration: float
    fps: float
    frames: int
    delivered_fps: float
    delivered_frames: int
    width: int
    height: int
    framing: Framing
    seed: int
    prompt: str
    negative_prompt: str | None
    sampling: Sampling
    speed_lora_strength: float
    blocks_to_swap: int
    video_method: Literal["keyframes", "denoise"] | None
    source: SourceFrames | None
    draft: bool
    retry_out_of_memory: bool
    warnings: tuple[str, ...]
    window_frames: int = WINDOW_FRAMES
    tiled_vae: bool = False
    embed_workflow: bool = False
    long: bool = False
    color_match: bool = False

    @property
    def chained(self) -> bool:
        """Whether it is rendered one window per prompt."""
        return self.long and self.mode == "infinitetalk"

    @property
    def frames_on_disk(self) -> bool:
        """Whether the one prompt writes its frames to disk instead of holding them."""
        return self.long and self.mode == "multitalk"

    @property
    def delivered_box(self) -> tuple[int, int, int, int]:
        """What is delivered of a rendered frame: its middle, as left, top, right, bottom."""
        left = (self.framing.render_width - self.width) // 2
        top = (self.framing.render_height - self.height) // 2
        return left, top, left + self.width, top + self.height

    @property
    def speech_samples(self) -> int:
        """Length of the speech tracks: half a frame over, so that no rounding loses the last."""
        return round((self.frames + 0.5) / self.fps * SPEECH_RATE_HZ)

    @property
    def windows(self) -> int:
        """How many windows the sampler makes."""
        return windows_of(self.frames, self.mode, self.window_frames)

    @property
    def motion_frames(self) -> int:
        """Frames that a window takes over from the one before."""
        return MOTION_FRAMES[self.mode]

    @property
    def talk_model(self) -> TalkModel:
        """Which talk model suits the mode and the number of people."""
        if self.mode == "multitalk":
            return "multitalk"
        return "infinitetalk_multi" if len(self.offsets) > 1 else "infinitetalk_single"

    @property
    def crf(self) -> int:
        """Quality of ComfyUI's encode: lossless if the delivered rate asks for another one."""
        return DELIVERED_CRF if self.fps == self.delivered_fps else LOSSLESS_CRF


def choose_seed() -> int:
    """A seed for a request without one."""
    return secrets.randbelow(MAX_SEED) + 1


def make_plan(
    request: RenderRequest,
    voices: Sequence[Sound | None],
    picture: Picture | SourceVideo,
    *,
    blocks_to_swap: int = 0,
    ram_gib: float = math.inf,
    new_seed: Callable[[], int] = choose_seed,
) -> Plan:
    """Decide a render. `voices` are those of the request's speakers, `picture` is what moves.

    `blocks_to_swap` is for a request that does not say; `ram_gib` is what the host has.

    Raises:
        UnsupportedCombination: what the models cannot do.
        MediaInvalid, MediaTooLarge: voices too short, or too long, for the model.
    """
    _check_combination(request)
    offsets = _offsets(request, voices)
    duration = _duration(request, voices, offsets)
    fps = request.fps if request.draft else MODEL_FPS
    frames = frames_of(duration, fps)
    width, height = _even(request.width), _even(request.height)
    long = _is_long(request, frames * width * height, frames, ram_gib)
    if long:
        frames = min(frames, frames_shown(frames_of(duration, request.fps), fps, request.fps))
    _check_length(request, duration, long=long)
    source = picture if isinstance(picture, SourceVideo) else None
    sampling = _sampling(request)
    return Plan(
        template=_template(request, long=long),
        mode=request.mode,
        offsets=offsets,
        duration=duration,
        fps=fps,
        frames=frames,
        delivered_fps=request.fps,
        delivered_frames=frames_of(duration, request.fps),
        width=width,
        height=height,
        framing=_framing(request, picture, width, height),
        seed=request.seed or new_seed(),
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        sampling=sampling,
        speed_lora_strength=request.speed_lora_strength,
        blocks_to_swap=blocks_to_swap if request.blocks_to_swap is None else request.blocks_to_swap,
        video_method=request.video_method if source else None,
        source=_source_frames(request, frames, fps) if source else None,
        draft=request.draft,
        retry_out_of_memory=request.retry_out_of_memory,
        warnings=(
            *request.warnings,
            *_size_notes(request, width, height),
            *_voice_notes(request, voices, offsets, duration),
            *_source_notes(source, duration),
            *(_draft_notes(request) if request.draft else _sampling_notes(request, sampling)),
        ),
        embed_workflow=request.embed_workflow,
        long=long,
        color_match=request.color_match,
    )


def lighter_plans(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """What to try after a render ran out of memory, one after another, and how to call it.

    Each costs more time than the one before: the first only frees what other jobs left. The last
    is for pictures in one prompt alone: a source video's frames, and a chain, are cut by windows.
    """
    if plan.draft or not plan.retry_out_of_memory:
        return
    yield "with ComfyUI's memory freed", plan
    if plan.blocks_to_swap < SOME_BLOCKS:
        yield f"with {SOME_BLOCKS} blocks swapped", replace(plan, blocks_to_swap=SOME_BLOCKS)
    lightest = replace(plan, blocks_to_swap=ALL_BLOCKS, tiled_vae=True)
    yield f"with {ALL_BLOCKS} blocks swapped and the VAE in tiles", lightest
    if plan.source is None and not plan.chained:
        smaller = replace(lightest, window_frames=SMALL_WINDOW_FRAMES)
        yield f"with windows of {SMALL_WINDOW_FRAMES} frames, and all that", smaller


def windows_of(frames: int, mode: Mode, window_frames: int = WINDOW_FRAMES) -> int:
    """Windows that the sampler makes for so many frames."""
    new = window_frames - MOTION_FRAMES[mode]
    return 1 + max(0, math.ceil((frames - window_frames) / new))


def frames_of(duration: float, fps: float) -> int:
    """Frames that cover the sound to its end."""
    return max(1, math.ceil(round(duration * fps, 6)))


def frames_shown(delivered: int, fps: float, delivered_fps: float) -> int:
    """Frames at `fps` that the delivered ones show: each the one at the middle of its time."""
    return math.floor((delivered - Fraction(1, 2)) * exact(fps) / exact(delivered_fps)) + 1


def _template(request: RenderRequest, *, long: bool) -> str:
    if long and request.mode == "infinitetalk":
        return "infinitetalk_window"
    kind = "v2v" if request.video_url is not None else "i2v"
    return f"draft_{kind}" if request.draft else f"infinitetalk_{kind}"


NEEDS_CHAIN = ("color_match", "playlist", "continue_later")


def _check_combination(request: RenderRequest) -> None:
    if request.draft:
        return
    chained = [name for name in NEEDS_CHAIN if getattr(request, name)]
    if chained and (why := _unchained(request)):
        raise UnsupportedCombination(
            f"{chained[0]} needs a render window by window, and {why} is rendered in one prompt"
        )
    if request.video_url is None:
        return
    if request.mode == "multitalk":
        raise UnsupportedCombination(
            'mode "multitalk" renders from a picture only: give image_url, or mode "infinitetalk"'
        )
    if request.video_method == "denoise" and request.long:
        raise UnsupportedCombination(
            'long is true, but video_method "denoise" holds the whole clip on the GPU: give '
            '"keyframes", or leave long out'
        )
    if request.video_method == "denoise" and request.steps == 1:
        raise UnsupportedCombination(
            'steps is 1, but video_method "denoise" needs 2 or more: it skips the first half'
        )


def _unchained(request: RenderRequest) -> str | None:
    """Of the request, what keeps it from being rendered window by window."""
    if request.mode == "multitalk":
        return 'mode "multitalk"'
    if request.long is False:
        return "long: false"
    if request.video_url is not None and request.video_method == "denoise":
        return 'video_method "denoise"'
    return None


def _is_long(request: RenderRequest, pixels: int, frames: int, ram_gib: float) -> bool:
    """Whether the render shall not hold all of its frames, `pixels` in all, in memory."""
    if request.draft or (request.video_url is not None and request.video_method == "denoise"):
        return False
    if request.long is not None:
        return request.long
    if frames > MAX_MODEL_FRAMES or any(getattr(request, name) for name in NEEDS_CHAIN):
        return True
    return pixels * PROMPT_BYTES_PER_PIXEL > ram_gib * GIB * PROMPT_RAM_SHARE


def _offsets(request: RenderRequest, voices: Sequence[Sound | None]) -> tuple[float | None, ...]:
    """When each voice begins: all at once, or one after another."""
    offsets: list[float | None] = []
    end = 0.0
    for voice in voices:
        offsets.append(None if voice is None else end)
        if voice is not None and request.audio_mode == "sequential":
            end += voice.duration
    return tuple(offsets)


def _duration(
    request: RenderRequest, voices: Sequence[Sound | None], offsets: Sequence[float | None]
) -> float:
    ends = [
        offset + voice.duration
        for voice, offset in zip(voices, offsets, strict=True)
        if voice is not None and offset is not None
    ]
    limits = [max(ends)]
    if request.max_audio_duration is not None:
        limits.append(request.max_audio_duration)
    if request.max_frame is not None:
        limits.append(request.max_frame / request.fps)
    return min(limits)


def _check_length(request: RenderRequest, duration: float, *, long: bool) -> None:
    voices = ", ".join(person.field for person in request.speakers if person.audio_url)
    if duration < MIN_SECONDS:
        raise MediaInvalid(
            f"{voices}: the sound is {duration:.2f} s long, or cut to that by max_frame or "
            f"max_audio_duration; allowed: {MIN_SECONDS} s or more"
        )
    limit, why = _limit(request, long=long)
    if duration > limit:
        raise MediaTooLarge(
            f"{voices}: the sound is {duration:.1f} s long; allowed: {limit:g} s{why}: "
            "set max_audio_duration"
        )


def _limit(request: RenderRequest, *, long: bool) -> tuple[float, str]:
    """The longest sound, in seconds, and a remark on the limit."""
    if request.draft or (long and request.mode == "infinitetalk"):
        return MAX_VOICE_SECONDS, ""
    if request.video_url is not None and request.video_method == "denoise":
        return MAX_DENOISE_FRAMES / MODEL_FPS, ' with video_method "denoise"'
    if request.mode == "multitalk":
        return MAX_MODEL_FRAMES / MODEL_FPS, (
            f' with mode "multitalk", {MAX_MODEL_FRAMES} frames (mode "infinitetalk" has no such '
            "limit)"
        )
    return MAX_MODEL_FRAMES / MODEL_FPS, " with long: false"


def _source_frames(request: RenderRequest, frames: int, fps: float) -> SourceFrames:
    """A draft shows every frame; keyframes take one a window; denoise all that the windows make."""
    if request.draft:
        return SourceFrames(frames, 1 / fps, fps)
    windows = windows_of(frames, request.mode)
    new = WINDOW_FRAMES - MOTION_FRAMES[request.mode]
    if request.video_method == "keyframes":
        return SourceFrames(windows, new / MODEL_FPS, MODEL_FPS)
    return SourceFrames(WINDOW_FRAMES + new * (windows - 1), 1 / MODEL_FPS, MODEL_FPS)


def _framing(
    request: RenderRequest, picture: Picture | SourceVideo, width: int, height: int
) -> Framing:
    if not (request.draft and isinstance(picture, SourceVideo)):  # those frames are not cropped
        width, height = _round_up(width), _round_up(height)
    return Framing(picture.width, picture.height, width, height, request.crop)


def _even(size: int) -> int:
    return size - size % 2


def _round_up(size: int) -> int:
    return -size % SIZE_MULTIPLE + size


def _sampling(request: RenderRequest) -> Sampling:
    """Settings that fit the speed LoRA on or off; what the caller gave is kept."""
    with_lora = request.speed_lora_strength > 0
    small = request.width * request.height <= 854 * 480
    cfg = request.cfg_scale or (1.0 if with_lora else 5.0)
    distilled = with_lora or request.scheduler == "flowmatch_distill"
    steps = request.steps or (DISTILL_STEPS if distilled else 30)
    from_video = request.video_url is not None and request.video_method == "denoise"
    return Sampling(
        steps=steps,
        start_step=steps // 2 if from_video else 0,
        cfg=cfg,
        # Without the LoRA the authors guide the audio with 4 in all.
        audio_cfg=1.0 if with_lora or cfg <= 1 else round(4 / cfg, 2),
        audio_scale=1.5 if from_video else 1.0,
        shift=11.0 if with_lora or not small else 7.0,
        scheduler=request.scheduler or _scheduler(with_lora, steps),
    )


def _scheduler(with_lora: bool, steps: int) -> Scheduler:
    if not with_lora:
        return "unipc"
    return "flowmatch_distill" if steps == DISTILL_STEPS else "dpm++_sde"


DRAFT_NOTE = (
    "this is a draft: a quick preview made on the CPU without the model, to check picture, voices, "
    "size and length; prompt and sampler settings have no effect on it"
)


def _draft_notes(request: RenderRequest) -> Iterator[str]:
    yield DRAFT_NOTE
    if unused := [name for name in ("long", *NEEDS_CHAIN) if getattr(request, name)]:
        yield f"{', '.join(unused)}: no effect on a draft"


def _sampling_notes(request: RenderRequest, sampling: Sampling) -> Iterator[str]:
    if request.scheduler is None and sampling.scheduler == "dpm++_sde":
        yield "scheduler dpm++_sde is used: flowmatch_distill works with 4 steps only"
    if sampling.cfg == 1 and request.negative_prompt:
        yield "negative_prompt has no effect at cfg_scale 1"
    if not request.speed_lora_strength and sampling.steps < 20:
        yield (
            f"{sampling.steps} steps are few without the speed LoRA: 20 to 40 give a clean picture"
        )
    if request.mode == "multitalk" and len(request.speakers) > 2:
        yield "MultiTalk was trained on two speakers: with more, mouths may follow a wrong voice"
    if request.mode == "infinitetalk" and len(request.speakers) > 2:
        yield "InfiniteTalk was trained on two speakers: with more, mouths may follow a wrong voice"


def _size_notes(request: RenderRequest, width: int, height: int) -> Iterator[str]:
    if (width, height) != (request.width, request.height):
        asked = f"{request.width}x{request.height}"
        yield f"{asked} is delivered as {width}x{height}: H.264 video has even sizes"


def _voice_notes(
    request: RenderRequest,
    voices: Sequence[Sound | None],
    offsets: Sequence[float | None],
    duration: float,
) -> Iterator[str]:
    heard = [voice for voice in voices if voice is not None]
    if all(voice.silent for voice in heard):
        yield "the sound is silent: the mouth will rest"
    for speaker, offset in zip(request.speakers, offsets, strict=True):
        if offset is not None and offset >= duration:
            yield f"{speaker.field} is not heard: it would begin after {duration:.1f} s, at the end"
    only = request.speakers[0]
    if len(request.speakers) == 1 and (only.box or only.mask_url):
        yield (
            f"{only.field}: box and mask_url have no effect with one person: to keep others still, "
            "add a speaker without audio_url for them"
        )


def _source_notes(source: SourceVideo | None, duration: float) -> Iterator[str]:
    if source is not None and source.duration < duration - 1 / MODEL_FPS:
        yield (
            f"video_url is {source.duration:.1f} s long and the sound {duration:.1f} s: the video "
            "is repeated from its start"
        )
