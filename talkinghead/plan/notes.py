"""What a result warns of: where the model, or the request itself, changes what was asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.media.source_video import SourceVideo
from talkinghead.plan.frames import MODEL_FPS
from talkinghead.plan.limits import NEEDS_CHAIN
from talkinghead.plan.request import RenderRequest
from talkinghead.plan.sampling import Sampling
from talkinghead.plan.talk_models import MODELS

DRAFT_NOTE = (
    "this is a draft: a quick preview made on the CPU without the model, to check picture, voices, "
    "size and length; prompt and sampler settings have no effect on it"
)


def warnings_of(
    request: RenderRequest,
    sampling: Sampling,
    *,
    size: tuple[int, int],
    voices: Sequence[Sound | None],
    offsets: Sequence[float | None],
    duration: float,
    picture: Picture | SourceVideo,
    others: Sequence[str],
    refusal: str | None,
) -> tuple[str, ...]:
    """All there is to say of a render before it is made: of `size` pixels and `duration` seconds.

    `offsets` are when the voices begin; `others` what is said of people and crop,
    `refusal` why the render would be refused of which this is the draft.
    """
    return (
        *request.warnings,
        *_size_notes(request, *size),
        *others,
        *_voice_notes(request, voices, offsets, duration),
        *picture.notes,
        *_source_notes(picture, duration),
        *(_draft_notes(request, refusal) if request.draft else _sampling_notes(request, sampling)),
    )


def _draft_notes(request: RenderRequest, refusal: str | None) -> Iterator[str]:
    yield DRAFT_NOTE
    if refusal:
        yield f"without draft this request is refused: {refusal}"
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
    if len(request.speakers) > 2:
        title = MODELS[request.mode].title
        yield f"{title} was trained on two speakers: with more, mouths may follow a wrong voice"


def _size_notes(request: RenderRequest, width: int, height: int) -> Iterator[str]:
    wanted = request.width or width, request.height or height
    odd = [side for side in wanted if side % 2]
    if odd:
        asked = f"{wanted[0]}x{wanted[1]}"
        yield f"{asked} is delivered as {width}x{height}: H.264 video has even sizes"


def _voice_notes(
    request: RenderRequest,
    voices: Sequence[Sound | None],
    offsets: Sequence[float | None],
    duration: float,
) -> Iterator[str]:
    heard = [voice for voice in voices if voice is not None]
    for voice in heard:
        yield from voice.notes
    if all(voice.silent for voice in heard):
        yield "the sound is silent: the mouth will rest"
    for speaker, offset in zip(request.speakers, offsets, strict=True):
        if offset is not None and offset >= duration:
            yield f"{speaker.field} is not heard: it would begin after {duration:.1f} s, at the end"
    only = request.speakers[0]
    of_use = request.keep_outside and not request.draft
    if len(request.speakers) == 1 and (only.box or only.mask_url) and not of_use:
        use = (
            "in this draft the mouth moves where box or mask_url says; of one person the model "
            "takes neither"
            if request.draft
            else "with one person a box or mask_url only keeps it in the frame"
        )
        yield (
            f"{only.field}: {use}: others in the frame may speak along; to keep them still, add a "
            "speaker without audio_url for them"
        )


def _source_notes(source: Picture | SourceVideo, duration: float) -> Iterator[str]:
    if isinstance(source, SourceVideo) and source.duration < duration - 1 / MODEL_FPS:
        yield (
            f"video_url is {source.duration:.1f} s long and the sound {duration:.1f} s: the video "
            "is repeated from its start"
        )
