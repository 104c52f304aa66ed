"""Request + probed media -> Plan: every number and file that a render uses. Pure."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from talkinghead.media.faces import Face
from talkinghead.media.masks import Box, Framing
from talkinghead.media.picture import Picture
from talkinghead.media.sound import SPEECH_RATE_HZ, Sound
from talkinghead.media.source_video import SourceVideo
from talkinghead.plan.fields import MAX_SEED, VideoMethod
from talkinghead.plan.frames import MODEL_FPS, WINDOW_FRAMES, frames_of, frames_shown
from talkinghead.plan.framing import frame, in_sight
from talkinghead.plan.limits import (
    check_combination,
    check_length,
    check_outside,
    is_long,
    why_not_outside,
)
from talkinghead.plan.notes import warnings_of
from talkinghead.plan.people import Person, outside_notes, people_of
from talkinghead.plan.request import RenderRequest
from talkinghead.plan.sampling import Sampling, sampling_of
from talkinghead.plan.straying import absences, stray_notes, strays_of
from talkinghead.plan.talk_models import MODELS, TalkModel

LOSSLESS_CRF, DELIVERED_CRF = 0, 19
SOME_BLOCKS, ALL_BLOCKS = 20, 40  # of the 14B model's 40 transformer blocks
SMALL_WINDOW_FRAMES = 49  # 4n+1, as the VAE needs, and more than MultiTalk's motion frames
# What decides pixels and samples: of the plan, and of the request that it is of.
CONTENT = (
    *("template", "offsets", "duration", "frames", "delivered_frames", "width", "height"),
    *("framing", "people", "sampling", "source", "video_method", "long", "window_frames"),
)
CONTENT_OF_REQUEST = (
    *("mode", "prompt", "prompts", "negative_prompt", "speed_lora_strength", "color_match", "fps"),
    *("keep_outside", "seed", "voice_filter"),
)
# What a bundle keeps of the request beside the plan. None of them is a URL.
KEPT = (
    *("mode", "prompt", "prompts", "negative_prompt", "speed_lora_strength", "draft"),
    *("retry_out_of_memory", "embed_workflow", "color_match"),
)


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
    `width` x `height`; the file gets `delivered_frames` at the request's rate. `people` are those
    of the source. `offsets` says when each person's voice begins; None is somebody who only
    listens. What the request alone decides, such as the prompt, is in `request`; what the plan may
    change of it is a field of its own.
    """

    request: RenderRequest
    template: str
    offsets: tuple[float | None, ...]
    duration: float
    fps: float
    frames: int
    delivered_frames: int
    width: int
    height: int
    framing: Framing
    people: tuple[Person, ...]
    seed: int
    sampling: Sampling
    blocks_to_swap: int
    source: SourceFrames | None
    warnings: tuple[str, ...]
    long: bool
    window_frames: int = WINDOW_FRAMES
    tiled_vae: bool = False

    @property
    def model(self) -> TalkModel:
        """The talk model's row in the table."""
        return MODELS[self.request.mode]

    @property
    def video_method(self) -> VideoMethod | None:
        """What the source video gives; None without one."""
        return self.request.video_method if self.source else None

    @property
    def speakers_found(self) -> list[dict[str, Any]]:
        """What a caller is told of the people of the source, in its pixels."""
        return [person.payload() for person in self.people]

    @property
    def regions(self) -> tuple[Box | None, ...]:
        """The part of the source around each speaker's face, or box; None where it is not known."""
        found = {person.field: person.region for person in self.people}
        return tuple(found.get(speaker.field) for speaker in self.request.speakers)

    @property
    def chained(self) -> bool:
        """Whether it is rendered one window per prompt."""
        return self.long and self.model.long == "chain"

    @property
    def frames_on_disk(self) -> bool:
        """Whether the one prompt writes its frames to disk instead of holding them."""
        return self.long and self.model.long == "frames"

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
        return self.model.windows(self.frames, self.window_frames)

    @property
    def talk_model(self) -> str:
        """The name in a profile of the talk model's file."""
        return self.model.file_for(len(self.offsets))

    @property
    def crf(self) -> int:
        """Quality of ComfyUI's encode: lossless if another one follows."""
        again = self.fps != self.request.fps or self.keeps_outside
        return LOSSLESS_CRF if again else DELIVERED_CRF

    @property
    def keeps_outside(self) -> bool:
        """Whether the source is put back around the speakers; a draft leaves it alone by itself."""
        return self.request.keep_outside and self.source is not None and not self.request.draft

    def content(self) -> dict[str, Any]:
        """What decides every pixel and sample of the video: a render of the same goes on with it.

        A seed that was drawn is not in it, nor what only costs or saves memory.
        """
        own = {name: getattr(self, name) for name in CONTENT}
        return own | {name: getattr(self.request, name) for name in CONTENT_OF_REQUEST}

    def params(self) -> dict[str, Any]:
        """What a caller is told of the settings; of a draft, those that have an effect on it."""
        request = self.request
        shared: dict[str, Any] = {
            "positive_prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "seed": self.seed,
            "mode": request.mode,
        }
        if request.prompts:
            shared["prompts"] = [asdict(each) for each in request.prompts]
        if request.draft:
            return shared
        return shared | {
            **self.sampling.payload(),
            "block_swap": self.blocks_to_swap > 0,
            "blocks_to_swap": self.blocks_to_swap,
            "speed_lora": request.speed_lora_strength > 0,
            "speed_lora_strength": request.speed_lora_strength,
            "video_method": self.video_method,
            "windows": self.windows,
            "render_size": f"{self.framing.render_width}x{self.framing.render_height}",
        }

    def payload(self) -> dict[str, Any]:
        """All of it, for a bundle: without the request's URLs, which may be signed."""
        own = asdict(self)
        del own["request"]
        asked = {name: getattr(self.request, name) for name in KEPT}
        return asked | own | {"delivered_fps": self.request.fps, "video_method": self.video_method}


def choose_seed() -> int:
    """A seed for a request without one."""
    return secrets.randbelow(MAX_SEED) + 1


def make_plan(
    request: RenderRequest,
    voices: Sequence[Sound | None],
    picture: Picture | SourceVideo,
    *,
    faces: Sequence[Face] | None = None,
    masks: Sequence[Box | None] = (),
    blocks_to_swap: int = 0,
    ram_gib: float = math.inf,
    new_seed: Callable[[], int] = choose_seed,
) -> Plan:
    """Decide a render. `voices` are those of the request's speakers, `picture` is what moves.

    `faces` are those of the picture; None: nobody looked for any. `masks` are where the speakers'
    are white, as fractions of it. `blocks_to_swap` is for a request that does not say; `ram_gib` is
    what the host has.

    Raises:
        InvalidRequest: a width or height alone that does not go with the shape of the source.
        UnsupportedCombination: what the models cannot do, or a frame that leaves out a speaker.
        MediaInvalid, MediaTooLarge: voices too short, or too long, for the model.
    """
    check_combination(request)
    offsets = _offsets(request, voices)
    duration = duration_of(request, voices)
    fps = request.fps if request.draft else MODEL_FPS
    frames = frames_of(duration, fps)
    size = picture.width, picture.height
    people = people_of(request, faces, size, masks)
    source = picture if isinstance(picture, SourceVideo) else None
    # The frames of a draft of a video are not cropped.
    framed = frame(request, people, size, cropped=not (request.draft and source))
    people = in_sight(request, people, framed.framing)
    strays = strays_of(request, people, source, framed.framing) if source else ()
    check_outside(request, picture, strays)
    width, height = framed.width, framed.height
    long = is_long(request, frames * width * height, frames, ram_gib)
    if long:
        frames = min(frames, frames_shown(frames_of(duration, request.fps), fps, request.fps))
    check_length(request, duration, long=long)
    sampling = sampling_of(request, width * height)
    return Plan(
        request=request,
        template=_template(request, long=long),
        offsets=offsets,
        duration=duration,
        fps=fps,
        frames=frames,
        delivered_frames=frames_of(duration, request.fps),
        width=width,
        height=height,
        framing=framed.framing,
        people=people.everybody,
        seed=request.seed or new_seed(),
        sampling=sampling,
        blocks_to_swap=blocks_to_swap if request.blocks_to_swap is None else request.blocks_to_swap,
        source=_source_frames(request, frames, fps) if source else None,
        warnings=warnings_of(
            request,
            sampling,
            size=(width, height),
            voices=voices,
            offsets=offsets,
            duration=duration,
            picture=picture,
            others=(
                *framed.notes,
                *people.notes,
                *outside_notes(request, people),
                *stray_notes(request, strays),
                *(absences(people, source) if source else ()),
            ),
            refusal=why_not_outside(request, picture, strays),
        ),
        long=long,
    )


def lighter_plans(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """What to try after a render ran out of memory, one after another, and how to call it.

    Each costs more time than the one before: the first only frees what other jobs left. The last
    is for pictures in one prompt alone: a source video's frames, and a chain, are cut by windows.
    """
    if plan.request.draft or not plan.request.retry_out_of_memory:
        return
    yield "with ComfyUI's memory freed", plan
    if plan.blocks_to_swap < SOME_BLOCKS:
        yield f"with {SOME_BLOCKS} blocks swapped", replace(plan, blocks_to_swap=SOME_BLOCKS)
    lightest = replace(plan, blocks_to_swap=ALL_BLOCKS, tiled_vae=True)
    yield f"with {ALL_BLOCKS} blocks swapped and the VAE in tiles", lightest
    if plan.source is None and not plan.chained:
        smaller = replace(lightest, window_frames=SMALL_WINDOW_FRAMES)
        yield f"with windows of {SMALL_WINDOW_FRAMES} frames, and all that", smaller


def _template(request: RenderRequest, *, long: bool) -> str:
    if long and MODELS[request.mode].long == "chain":
        return "infinitetalk_window"
    kind = "v2v" if request.video_url is not None else "i2v"
    return f"draft_{kind}" if request.draft else f"infinitetalk_{kind}"


def _offsets(request: RenderRequest, voices: Sequence[Sound | None]) -> tuple[float | None, ...]:
    """When each voice begins: all at once, or one after another."""
    offsets: list[float | None] = []
    end = 0.0
    for voice in voices:
        offsets.append(None if voice is None else end)
        if voice is not None and request.audio_mode == "sequential":
            end += voice.duration
    return tuple(offsets)


def duration_of(request: RenderRequest, voices: Sequence[Sound | None]) -> float:
    """How long the video of these voices is, in seconds."""
    ends = [
        offset + voice.duration
        for voice, offset in zip(voices, _offsets(request, voices), strict=True)
        if voice is not None and offset is not None
    ]
    limits = [max(ends)]
    if request.max_audio_duration is not None:
        limits.append(request.max_audio_duration)
    if request.max_frame is not None:
        limits.append(request.max_frame / request.fps)
    return min(limits)


def _source_frames(request: RenderRequest, frames: int, fps: float) -> SourceFrames:
    """A draft shows every frame; keyframes take one a window; denoise all that the windows make."""
    if request.draft:
        return SourceFrames(frames, 1 / fps, fps)
    model = MODELS[request.mode]
    windows, new = model.windows(frames), model.new_frames()
    if request.video_method == "keyframes":
        return SourceFrames(windows, new / MODEL_FPS, MODEL_FPS)
    return SourceFrames(WINDOW_FRAMES + new * (windows - 1), 1 / MODEL_FPS, MODEL_FPS)
