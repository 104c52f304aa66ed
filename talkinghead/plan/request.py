"""What the caller asked: every request contract, read into one `RenderRequest`.

Which one a request speaks is decided by its audio fields: `wav_url` is contract A, `audio_urls` B,
`audio` C, `speakers` native. It only chooses defaults; every optional field is open to all.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from talkinghead.errors import InvalidRequest
from talkinghead.plan.fields import (
    DIALECT_FIELDS,
    AudioMode,
    Dialect,
    Mode,
    Options,
    RequestFields,
    field_order,
)
from talkinghead.plan.given import as_given
from talkinghead.plan.mistakes import Problem, json_problem, problem_of
from talkinghead.plan.same_fields import (
    SAME_FIELDS,
    by_one_name,
    given_of,
    name_given,
    one_form_each,
)
from talkinghead.redact import redact_urls

_T = TypeVar("_T")
SIZES = {
    ("16:9", "480p"): (854, 480),
    ("9:16", "480p"): (480, 854),
    ("16:9", "720p"): (1280, 720),
    ("9:16", "720p"): (720, 1280),
}


@dataclass(frozen=True)
class Speaker:
    """One person. Without a voice, somebody who only listens.

    `field` is the part of the request that names the person, or the voice, for messages. `box` is
    x0 y0 x1 y1 of the source picture, in pixels or all within 0 to 1.
    """

    field: str
    audio_url: str | None
    mask_url: str | None = None
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class TimedPrompt:
    """A prompt that holds from `at` on, in seconds of the video."""

    at: float
    text: str


class RenderRequest(Options):
    """One request, whatever contract it came in, and what its contract decides.

    The picture's URL, and the voices', may be data: URIs: `picture_field` names where it came from.
    `seed` None asks for a chosen one; `blocks_to_swap` None is as the GPU needs, 0 swaps none;
    `speed_lora_strength` 0 is without the LoRA. `prompts` ascend by their times. Sizes are in
    pixels, before they are made even; a side that is None follows from the source's shape.
    `size_is_named` is False for the contract's.
    """

    dialect: Dialect
    image_url: str | None
    video_url: str | None
    picture_field: str
    speakers: tuple[Speaker, ...]
    mode: Mode
    audio_mode: AudioMode
    prompt: str
    prompts: tuple[TimedPrompt, ...]
    aspect_ratio: str | None
    resolution: str | None
    width: int | None
    height: int | None
    size_is_named: bool
    seed: int | None
    blocks_to_swap: int | None
    speed_lora_strength: float
    warnings: tuple[str, ...] = ()

    def prompt_at(self, seconds: float) -> str:
        """The prompt that holds then: the last of `prompts` that has begun, or else `prompt`."""
        begun = [each.text for each in self.prompts if each.at <= seconds]
        return begun[-1] if begun else self.prompt


def parse_request(data: object, *, local_files: bool = False) -> RenderRequest:
    """The job's `input` as a `RenderRequest`. `local_files` admits file:// URLs: never for a job.

    Raises:
        InvalidRequest: with all mistakes at once, one by one in `details["problems"]`.
    """
    if not isinstance(data, Mapping):
        raise InvalidRequest("input must be a JSON object with the fields of the request")
    sound, problems = checked_json(data)
    fields, mistakes = _read_fields(sound, {"local_files": local_files})
    problems += mistakes
    bad = {problem.field.split(".")[0] for problem in problems}
    problems += one_form_each(fields)
    fields = by_one_name(fields)
    bad |= {SAME_FIELDS[name] for name in bad & SAME_FIELDS.keys()}
    problems += [p for rule in _RULES for p in rule(fields, bad)]
    if problems:
        raise invalid(problems)
    return _with_defaults(fields)


def checked_json(data: Mapping[Any, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The fields of a job's input that JSON can carry, and a problem for each that it cannot."""
    problems = {name: json_problem(name, value) for name, value in data.items()}
    sound = {name: value for name, value in data.items() if problems[name] is None}
    return sound, [problem for problem in problems.values() if problem is not None]


def invalid(problems: Sequence[Problem]) -> InvalidRequest:
    """All problems in one error, what is missing first."""
    ordered = sorted(problems, key=lambda p: not p.message.startswith("Missing"))
    return InvalidRequest(
        "; ".join(p.message for p in ordered), problems=[asdict(p) for p in ordered]
    )


def _read_fields(
    data: Mapping[str, Any], context: dict[str, bool]
) -> tuple[RequestFields, list[Problem]]:
    """The fields that are well-formed, and a problem for each that is not.

    What is null, or a blank text, is not given.
    """
    unknown = {n: each for n, each in data.items() if n not in RequestFields.model_fields}
    given = {**as_given(data), **unknown}
    try:
        return RequestFields.model_validate(given, context=context), []
    except ValidationError as error:
        mistakes = sorted(error.errors(), key=_place)
    bad = {str(mistake["loc"][0]) for mistake in mistakes}
    rest = {name: value for name, value in given.items() if name not in bad}
    fields = RequestFields.model_validate(rest, context=context)
    return fields, [problem_of(mistake) for mistake in mistakes]


def _place(mistake: ErrorDetails) -> int:
    """Where its field stands among those of the request; unknown ones come last."""
    order, name = field_order(), str(mistake["loc"][0])
    return order.index(name) if name in order else len(order)


# The rules between fields. Each takes the well-formed fields and the names of those that are not,
# of which it must not complain again.
_Rule = Callable[[RequestFields, Collection[str]], Iterator[Problem]]


def _missing(*alternatives: str) -> Problem:
    first, *others = alternatives
    hint = f" (or {', or '.join(others)})" if others else ""
    return Problem(first, f"Missing required parameter: {first}{hint}", None, "required")


def _one_dialect(fields: RequestFields, bad: Collection[str]) -> Iterator[Problem]:
    given = given_of(fields, *DIALECT_FIELDS)
    if len(given) > 1:
        names = [name_given(fields, name) for name in given]
        yield Problem(names[0], f"{' and '.join(names)} exclude each other: give one of them")
    elif not given and not set(DIALECT_FIELDS) & set(bad):
        yield _missing(*_voices_asked(fields, bad))


def _voices_asked(fields: RequestFields, bad: Collection[str]) -> list[str]:
    """The fields of which one should hold the voices, by what else is given."""
    if fields.wav_url_2 is not None or "wav_url_2" in bad:
        return ["wav_url"]
    if given_of(fields, "image", "size") or {"image", "size"} & set(bad):
        return ["audio"]
    return [name for name in DIALECT_FIELDS if name != "audio"]


def _second_voice(fields: RequestFields, bad: Collection[str]) -> Iterator[Problem]:
    others = given_of(fields, "audio_urls", "audio", "speakers")
    if others and fields.wav_url_2 is not None:
        name = name_given(fields, "wav_url_2")
        yield Problem(name, f"{name} does not go with {others[0]}: add the voice there")
    multi = fields.person_count == "multi"
    if multi and not others and fields.wav_url_2 is None and "wav_url_2" not in bad:
        yield _missing("wav_url_2")
    if multi and fields.audio is not None:
        text = 'person_count is "multi", but audio is one voice: give audio_urls, or speakers'
        yield Problem("person_count", text, "multi", "single")


def _source(fields: RequestFields, bad: Collection[str]) -> Iterator[Problem]:
    given = given_of(fields, "image_url", "video_url")
    if fields.input_type is None and len(given) == 2:
        picture, video = (name_given(fields, name) for name in given)
        yield Problem(video, f"{picture} and {video} exclude each other, or give input_type")
    wanted = [f"{fields.input_type}_url"] if fields.input_type else ["image_url", "video_url"]
    if not set(wanted) & (set(given) | set(bad)) and "input_type" not in bad:
        of_c = fields.audio is not None and not fields.input_type
        yield _missing("image") if of_c else _missing(*wanted)


def _one_name_each(fields: RequestFields, bad: Collection[str]) -> Iterator[Problem]:
    if len(given_of(fields, "prompt", "positive_prompt")) == 2:
        yield Problem("positive_prompt", "prompt and positive_prompt are the same field: give one")
    if (exact := given_of(fields, "width", "height")) and (
        named := [
            name_given(fields, each) for each in given_of(fields, "aspect_ratio", "resolution")
        ]
    ):
        yield Problem(
            exact[0],
            f"{' and '.join(exact)} and {' and '.join(named)} exclude each other: "
            f"give width and height, or aspect_ratio and {name_given(fields, 'resolution')}",
        )


def _steps_fit_scheduler(fields: RequestFields, bad: Collection[str]) -> Iterator[Problem]:
    if fields.scheduler == "flowmatch_distill" and fields.steps not in (None, 4):
        yield Problem(
            "steps",
            f"steps is {fields.steps}, but the scheduler flowmatch_distill works with 4 steps "
            "only: leave one of the two out, or take another scheduler",
            fields.steps,
            4,
        )


def _somebody_speaks(fields: RequestFields, bad: Collection[str]) -> Iterator[Problem]:
    if fields.speakers and not any(speaker.audio_url for speaker in fields.speakers):
        yield _missing("speakers.0.audio_url")


def _places(fields: RequestFields, bad: Collection[str]) -> Iterator[Problem]:
    for index, speaker in enumerate(fields.speakers or []):
        if speaker.box is not None and speaker.mask_url is not None:
            name = f"speakers.{index}"
            yield Problem(name, f"{name} has a box and a mask_url: give one of them")
        if speaker.box is not None and not _is_box(speaker.box):
            name = f"speakers.{index}.box"
            allowed = "[x0, y0, x1, y1] with 0 <= x0 < x1 and 0 <= y0 < y1"
            yield Problem(
                name, f"{name} is {speaker.box}, allowed: {allowed}", speaker.box, allowed
            )


def _is_box(box: list[float]) -> bool:
    x0, y0, x1, y1 = box
    return 0 <= x0 < x1 and 0 <= y0 < y1


def _prompts_ascend(fields: RequestFields, bad: Collection[str]) -> Iterator[Problem]:
    for index, (one, other) in enumerate(itertools.pairwise(fields.prompts or []), 1):
        if other.at <= one.at:
            name, allowed = f"prompts.{index}.at", f"more than {one.at:g}, as of the one before"
            yield Problem(name, f"{name} is {other.at:g}, allowed: {allowed}", other.at, allowed)
    named = given_of(fields, "prompt", "positive_prompt")
    if named and fields.prompts and fields.prompts[0].at == 0:
        yield Problem(
            "prompts.0.at",
            f"prompts.0.at is 0, and {named[0]} would never be used: leave one of them out",
            0,
            "more than 0",
        )


def _one_delivery(fields: RequestFields, bad: Collection[str]) -> Iterator[Problem]:
    if len(given_of(fields, "delivery", "upload_url")) == 2:
        yield Problem("upload_url", "upload_url and delivery exclude each other: give one of them")


_RULES: tuple[_Rule, ...] = (
    _one_dialect,
    _second_voice,
    _source,
    _one_name_each,
    _steps_fit_scheduler,
    _somebody_speaks,
    _places,
    _prompts_ascend,
    _one_delivery,
)


def _with_defaults(fields: RequestFields) -> RenderRequest:
    dialect = DIALECT_FIELDS[given_of(fields, *DIALECT_FIELDS)[0]]
    of_b = dialect == "B"
    width, height = _size(fields, dialect)
    is_video = _is_video(fields)
    options = {name: getattr(fields, name) for name in Options.model_fields}
    prompt, negative = _prompt(fields, dialect), fields.negative_prompt
    later = fields.prompts or []
    texts = {"prompt": prompt, "negative_prompt": negative}
    texts |= {f"prompts.{index}.text": each.text for index, each in enumerate(later)}
    return RenderRequest.model_construct(
        **options | {"negative_prompt": negative and redact_urls(negative)},
        dialect=dialect,
        image_url=None if is_video else fields.image_url,
        video_url=fields.video_url if is_video else None,
        picture_field=name_given(fields, "video_url" if is_video else "image_url"),
        speakers=_speakers(fields),
        # MultiTalk has no video to video: there, contract B's default would be an error.
        mode=fields.mode or ("multitalk" if of_b and not is_video else "infinitetalk"),
        audio_mode=fields.audio_mode or ("sequential" if of_b else "parallel"),
        prompt=redact_urls(prompt),
        prompts=tuple(TimedPrompt(each.at, redact_urls(each.text)) for each in later),
        aspect_ratio=fields.aspect_ratio,
        resolution=fields.resolution,
        width=width,
        height=height,
        size_is_named=bool(given_of(fields, "aspect_ratio", "width", "height")),
        seed=None if fields.seed in (None, 0, -1) else fields.seed,
        blocks_to_swap=_blocks_to_swap(fields),
        speed_lora_strength=fields.speed_lora_strength if fields.use_speed_lora else 0.0,
        warnings=(*_ignored(fields), *_secrets_in(texts)),
    )


def _secrets_in(prompts: Mapping[str, str | None]) -> Iterator[str]:
    """What a prompt's URLs carry means nothing to the model, and the prompt is in what we write."""
    for name, text in prompts.items():
        if text is not None and redact_urls(text) != text:
            yield f"{name}: a URL in it is used without its user name, password and query"


def _blocks_to_swap(fields: RequestFields) -> int | None:
    if fields.use_block_swap is None:
        return None
    return fields.blocks_to_swap if fields.use_block_swap else 0


def _or(value: _T | None, default: _T) -> _T:
    return default if value is None else value


def _is_video(fields: RequestFields) -> bool:
    if fields.input_type is None:
        return fields.video_url is not None
    return fields.input_type == "video"


def _prompt(fields: RequestFields, dialect: Dialect) -> str:
    default = "The person takes turns talking" if dialect == "B" else "A person talking naturally"
    return _or(fields.prompt, _or(fields.positive_prompt, default))


def _size(fields: RequestFields, dialect: Dialect) -> tuple[int | None, int | None]:
    named = bool(fields.aspect_ratio or fields.resolution)
    sides = given_of(fields, "width", "height")
    is_auto = fields.aspect_ratio == "auto" or (dialect == "C" and not fields.aspect_ratio)
    if len(sides) == 1 or (is_auto and not sides):
        return fields.width, fields.height
    width, height = (
        (400, 704)
        if dialect == "B" and not named
        else SIZES[fields.aspect_ratio or "9:16", fields.resolution or "480p"]
    )
    return _or(fields.width, width), _or(fields.height, height)


def _speakers(fields: RequestFields) -> tuple[Speaker, ...]:
    if fields.audio_urls is not None:
        return tuple(Speaker(f"audio_urls.{i}", url) for i, url in enumerate(fields.audio_urls))
    if fields.speakers is not None:
        return tuple(
            Speaker(f"speakers.{i}", s.audio_url, s.mask_url, _box(s.box))
            for i, s in enumerate(fields.speakers)
        )
    if fields.audio is not None:
        return (Speaker("audio", fields.audio),)
    names = ["wav_url", "wav_url_2"] if fields.person_count == "multi" else ["wav_url"]
    return tuple(Speaker(name_given(fields, name), getattr(fields, name)) for name in names)


def _box(box: list[float] | None) -> tuple[float, float, float, float] | None:
    return None if box is None else (box[0], box[1], box[2], box[3])


def _ignored(fields: RequestFields) -> Iterator[str]:
    """What the contracts let a client send along, though it has no effect."""
    if fields.enable_safety_checker:
        yield "enable_safety_checker has no effect: this worker checks no content"
    if fields.wav_url_2 is not None and fields.person_count != "multi":
        yield f'{name_given(fields, "wav_url_2")} has no effect: person_count is "single"'
    voices = fields.audio_urls or fields.speakers
    if voices and fields.person_count and (fields.person_count == "multi") != (len(voices) > 1):
        name = "audio_urls" if fields.audio_urls else "speakers"
        yield f'person_count "{fields.person_count}" has no effect: {name} has the voices'
    if fields.image_url is not None and _is_video(fields):
        yield f'{name_given(fields, "image_url")} has no effect: input_type is "video"'
    if fields.video_url is not None and not _is_video(fields):
        yield f'{name_given(fields, "video_url")} has no effect: input_type is "image"'
