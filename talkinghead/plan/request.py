"""What the caller asked: both request contracts, read into one `RenderRequest`.

Which contract a request speaks is decided by its audio fields: `wav_url` is contract A,
`audio_urls` contract B, `speakers` the native form. The contract only chooses defaults; every
optional field is open to all three.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from talkinghead.errors import InvalidRequest
from talkinghead.net.urls import parse_http_url
from talkinghead.redact import redact_url

_T = TypeVar("_T")
Dialect = Literal["A", "B", "native"]
Mode = Literal["infinitetalk", "multitalk"]
AudioMode = Literal["parallel", "sequential"]
Delivery = Literal["s3", "volume", "inline"]
# The sampler's own list holds more; those fail or do nothing useful in the talking-head loop.
Scheduler = Literal[
    "unipc", "unipc/beta", "dpm++", "dpm++/beta", "dpm++_sde", "dpm++_sde/beta", "euler",
    "euler/beta", "deis", "lcm", "lcm/beta", "res_multistep", "er_sde", "sa_ode_stable",
    "flowmatch_distill",
]  # fmt: skip

REQUEST_ID = "^[A-Za-z0-9_-]{1,64}$"  # it becomes a part of storage keys
MAX_SEED = 2**53 - 1  # larger ones lose digits in the ComfyUI GUI and in JSON readers
DIALECT_FIELDS: Mapping[str, Dialect] = {"wav_url": "A", "audio_urls": "B", "speakers": "native"}
SIZES = {
    ("16:9", "480p"): (854, 480),
    ("9:16", "480p"): (480, 854),
    ("16:9", "720p"): (1280, 720),
    ("9:16", "720p"): (720, 1280),
}


def _fetchable(value: str, info: ValidationInfo) -> str:
    local_files = bool(info.context and info.context["local_files"])
    return value if local_files and value.startswith("file:///") else _http(value)


def _http(value: str) -> str:
    try:
        parse_http_url(value)
    except ValueError as error:
        allowed = "an http:// or https:// URL ({reason})"
        raise PydanticCustomError("url", allowed, {"reason": str(error)}) from None
    return value


Url = Annotated[str, AfterValidator(_fetchable)]


class SpeakerFields(BaseModel):
    """One of `speakers`; without a voice it is somebody who only listens."""

    model_config = ConfigDict(extra="forbid", strict=True)

    audio_url: Url | None = None
    mask_url: Url | None = None
    box: Annotated[list[float], Field(min_length=4, max_length=4)] | None = None


class RequestFields(BaseModel):
    """Every field of both contracts and the native ones, as they come in the job's `input`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input_type: Literal["image", "video"] | None = None
    person_count: Literal["single", "multi"] | None = None
    image_url: Url | None = None
    video_url: Url | None = None
    wav_url: Url | None = None
    wav_url_2: Url | None = None
    audio_urls: Annotated[list[Url], Field(min_length=1, max_length=4)] | None = None
    speakers: Annotated[list[SpeakerFields], Field(min_length=1, max_length=4)] | None = None
    prompt: str | None = None
    positive_prompt: str | None = None
    negative_prompt: str | None = None
    aspect_ratio: Literal["16:9", "9:16"] | None = None
    resolution: Literal["480p", "720p"] | None = None
    width: Annotated[int, Field(ge=256, le=1536)] | None = None
    height: Annotated[int, Field(ge=256, le=1536)] | None = None
    fps: Annotated[float, Field(ge=10, le=60)] | None = None
    steps: Annotated[int, Field(ge=1, le=50)] | None = None
    cfg_scale: Annotated[float, Field(ge=0.1, le=20)] | None = None
    scheduler: Scheduler | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    mode: Mode | None = None
    use_block_swap: bool | None = None
    blocks_to_swap: Annotated[int, Field(ge=0, le=40)] | None = None
    use_speed_lora: bool | None = None
    speed_lora_strength: Annotated[float, Field(ge=0, le=2)] | None = None
    max_frame: Annotated[int, Field(ge=1)] | None = None
    max_audio_duration: Annotated[float, Field(gt=0)] | None = None
    audio_mode: AudioMode | None = None
    video_method: Literal["keyframes", "denoise"] | None = None
    crop: Literal["center", "top"] | None = None
    draft: bool | None = None
    retry_out_of_memory: bool | None = None
    delivery: Delivery | None = None
    upload_url: Annotated[str, AfterValidator(_http)] | None = None
    bundle: bool | None = None
    embed_workflow: bool | None = None
    long: bool | None = None
    color_match: bool | None = None
    playlist: bool | None = None
    continue_later: bool | None = None
    request_id: Annotated[str, Field(pattern=REQUEST_ID)] | None = None
    dry_run: bool | None = None
    price_per_hour: Annotated[float, Field(gt=0)] | None = None


def request_schema(examples: list[dict[str, Any]]) -> dict[str, Any]:
    """The JSON Schema of a job: an object whose `input` holds the request.

    The rules between fields are not in it: `parse_request` tells of those.
    """
    fields = RequestFields.model_json_schema()
    definitions = fields.pop("$defs")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A job of the talkinghead worker",
        "type": "object",
        "required": ["input"],
        "properties": {"input": fields},
        "$defs": definitions,
        "examples": examples,
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
class RenderRequest:
    """One request, whatever contract it came in. None means: the plan chooses."""

    dialect: Dialect
    image_url: str | None
    video_url: str | None
    speakers: tuple[Speaker, ...]
    mode: Mode
    audio_mode: AudioMode
    video_method: Literal["keyframes", "denoise"]
    crop: Literal["center", "top"]
    prompt: str
    negative_prompt: str | None
    width: int
    height: int
    fps: float
    steps: int | None
    cfg_scale: float | None
    scheduler: Scheduler | None
    seed: int | None
    blocks_to_swap: int | None  # None: as the GPU needs
    speed_lora_strength: float
    max_frame: int | None
    max_audio_duration: float | None
    draft: bool
    retry_out_of_memory: bool
    delivery: Delivery | None
    upload_url: str | None
    bundle: bool | None
    embed_workflow: bool = False
    long: bool | None = None  # None: as length, size and the host's memory ask for
    color_match: bool = False
    playlist: bool = False
    continue_later: bool = False
    request_id: str | None = None
    dry_run: bool = False
    price_per_hour: float | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """One mistake: the field, what came, what is allowed, and a sentence with all three."""

    field: str
    message: str
    got: Any = None
    allowed: Any = None


def parse_request(data: object, *, local_files: bool = False) -> RenderRequest:
    """The job's `input` as a `RenderRequest`. `local_files` admits file:// URLs: never for a job.

    Raises:
        InvalidRequest: with all mistakes at once, one by one in `details["problems"]`.
    """
    if not isinstance(data, Mapping):
        raise InvalidRequest("input must be a JSON object with the fields of the request")
    fields, problems = _read_fields(data, {"local_files": local_files})
    bad = {problem.field.split(".")[0] for problem in problems}
    problems += [p for rule in _RULES for p in rule(fields, bad)]
    if problems:
        raise _invalid(problems)
    return _with_defaults(fields)


def _invalid(problems: list[Problem]) -> InvalidRequest:
    ordered = sorted(problems, key=lambda p: not p.message.startswith("Missing"))
    return InvalidRequest(
        "; ".join(p.message for p in ordered), problems=[asdict(p) for p in ordered]
    )


def _read_fields(
    data: Mapping[str, Any], context: dict[str, bool]
) -> tuple[RequestFields, list[Problem]]:
    """The fields that are well-formed, and a problem for each that is not."""
    try:
        return RequestFields.model_validate(dict(data), context=context), []
    except ValidationError as error:
        mistakes = error.errors()
    bad = {str(mistake["loc"][0]) for mistake in mistakes}
    rest = {name: value for name, value in data.items() if name not in bad}
    fields = RequestFields.model_validate(rest, context=context)
    return fields, [_problem(mistake) for mistake in mistakes]


def _problem(mistake: ErrorDetails) -> Problem:
    field = _field_path(mistake["loc"])
    got = _shown(mistake.get("input"))
    if mistake["type"] == "extra_forbidden":
        return _unknown_field(field, mistake["loc"], got)
    if mistake["type"] == "missing":
        return Problem(field, f"Missing required parameter: {field}")
    allowed = _allowed(mistake)
    return Problem(field, f"{field} is {got!r}, allowed: {allowed}", got, allowed)


def _field_path(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in loc)


def _unknown_field(field: str, loc: tuple[int | str, ...], got: object) -> Problem:
    model = RequestFields if len(loc) == 1 else SpeakerFields
    near = difflib.get_close_matches(str(loc[-1]), model.model_fields, 1, cutoff=0.5)
    hint = f"; the nearest known one is {near[0]}" if near else ""
    return Problem(field, f"{field} is not a known field{hint}", got, near or None)


def _shown(value: object) -> object:
    """What came, short and without the secrets that URLs carry."""
    if isinstance(value, str):
        text = redact_url(value) if "://" in value else value
        return text if len(text) <= 80 else text[:77] + "..."
    if isinstance(value, Collection):
        return f"{type(value).__name__} of {len(value)}"
    return value


_TYPES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a string",
    "bool_type": "true or false",
    "list_type": "a list",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "finite_number": "a finite number",
}


def _allowed(mistake: ErrorDetails) -> str:
    kind = mistake["type"]
    if kind in _TYPES:
        return _TYPES[kind]
    if kind == "string_pattern_mismatch":
        return "1 to 64 letters, digits, _ and -"
    if kind == "literal_error":
        return str(mistake["ctx"]["expected"]).replace("'", '"')
    return _range(mistake["loc"]) or mistake["msg"]


def _range(loc: tuple[int | str, ...]) -> str | None:
    """The range of a field in words, from its JSON Schema."""
    model = RequestFields if len(loc) == 1 else SpeakerFields
    schema = model.model_json_schema()["properties"].get(loc[-1], {})
    bounds = schema.get("anyOf", [schema])[0]
    match bounds:
        case {"minItems": low, "maxItems": high}:
            return f"{low} items" if low == high else f"{low} to {high} items"
        case {"exclusiveMinimum": low}:
            return f"more than {low}"
        case {"minimum": low, "maximum": high}:
            return f"{low} to {high}"
        case {"minimum": low}:
            return f"{low} or more"
    return None


# The rules between fields. Each takes the well-formed fields and the names of those that are not,
# of which it must not complain again.
_Rule = Callable[[RequestFields, Collection[str]], Iterator[Problem]]


def _given(fields: RequestFields, *names: str) -> list[str]:
    return [name for name in names if getattr(fields, name) is not None]


def _missing(*alternatives: str) -> Problem:
    first, *others = alternatives
    hint = f" (or {', or '.join(others)})" if others else ""
    return Problem(first, f"Missing required parameter: {first}{hint}", None, "required")


def _one_dialect(fields: RequestFields, bad: Collection[str]) -> Iterator[Problem]:
    given = _given(fields, *DIALECT_FIELDS)
    if len(given) > 1:
        yield Problem(given[0], f"{' and '.join(given)} exclude each other: give one of them")
    elif not given and not set(DIALECT_FIELDS) & set(bad):
        second = fields.wav_url_2 is not None or "wav_url_2" in bad
        yield _missing("wav_url") if second else _missing(*DIALECT_FIELDS)


def _second_voice(fields: RequestFields, bad: Collection[str]) -> Iterator[Problem]:
    others = _given(fields, "audio_urls", "speakers")
    if others and fields.wav_url_2 is not None:
        yield Problem("wav_url_2", f"wav_url_2 does not go with {others[0]}: add the voice there")
    multi = fields.person_count == "multi"
    if multi and not others and fields.wav_url_2 is None and "wav_url_2" not in bad:
        yield _missing("wav_url_2")


def _source(fields: RequestFields, bad: Collection[str]) -> Iterator[Problem]:
    given = _given(fields, "image_url", "video_url")
    if fields.input_type is None and len(given) == 2:
        yield Problem("video_url", "image_url and video_url exclude each other, or give input_type")
    wanted = [f"{fields.input_type}_url"] if fields.input_type else ["image_url", "video_url"]
    if not set(wanted) & (set(given) | set(bad)) and "input_type" not in bad:
        yield _missing(*wanted)


def _one_name_each(fields: RequestFields, bad: Collection[str]) -> Iterator[Problem]:
    if len(_given(fields, "prompt", "positive_prompt")) == 2:
        yield Problem("positive_prompt", "prompt and positive_prompt are the same field: give one")
    if (exact := _given(fields, "width", "height")) and (
        named := _given(fields, "aspect_ratio", "resolution")
    ):
        yield Problem(
            exact[0],
            f"{' and '.join(exact)} and {' and '.join(named)} exclude each other: "
            "give width and height, or aspect_ratio and resolution",
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


def _one_delivery(fields: RequestFields, bad: Collection[str]) -> Iterator[Problem]:
    if len(_given(fields, "delivery", "upload_url")) == 2:
        yield Problem("upload_url", "upload_url and delivery exclude each other: give one of them")


_RULES: tuple[_Rule, ...] = (
    _one_dialect,
    _second_voice,
    _source,
    _one_name_each,
    _steps_fit_scheduler,
    _somebody_speaks,
    _places,
    _one_delivery,
)


def _blocks_to_swap(fields: RequestFields) -> int | None:
    if fields.use_block_swap is None:
        return None
    return _or(fields.blocks_to_swap, 20) if fields.use_block_swap else 0


def _with_defaults(fields: RequestFields) -> RenderRequest:
    dialect = DIALECT_FIELDS[_given(fields, *DIALECT_FIELDS)[0]]
    of_b = dialect == "B"
    width, height = _size(fields, dialect)
    lora = fields.use_speed_lora is not False
    is_video = _is_video(fields)
    return RenderRequest(
        dialect=dialect,
        image_url=None if is_video else fields.image_url,
        video_url=fields.video_url if is_video else None,
        speakers=_speakers(fields),
        # MultiTalk has no video to video: there, contract B's default would be an error.
        mode=fields.mode or ("multitalk" if of_b and not is_video else "infinitetalk"),
        audio_mode=fields.audio_mode or ("sequential" if of_b else "parallel"),
        video_method=fields.video_method or "keyframes",
        crop=fields.crop or "center",
        prompt=_prompt(fields, dialect),
        negative_prompt=fields.negative_prompt,
        width=width,
        height=height,
        fps=25 if fields.fps is None else fields.fps,
        steps=fields.steps,
        cfg_scale=fields.cfg_scale,
        scheduler=fields.scheduler,
        seed=fields.seed or None,
        blocks_to_swap=_blocks_to_swap(fields),
        speed_lora_strength=_or(fields.speed_lora_strength, 1.0) if lora else 0.0,
        max_frame=fields.max_frame,
        max_audio_duration=fields.max_audio_duration,
        draft=fields.draft or False,
        retry_out_of_memory=fields.retry_out_of_memory is not False,
        delivery=fields.delivery,
        upload_url=fields.upload_url,
        bundle=fields.bundle,
        embed_workflow=fields.embed_workflow or False,
        long=fields.long,
        color_match=fields.color_match or False,
        playlist=fields.playlist or False,
        continue_later=fields.continue_later or False,
        request_id=fields.request_id,
        dry_run=fields.dry_run or False,
        price_per_hour=fields.price_per_hour,
        warnings=tuple(_ignored(fields)),
    )


def _or(value: _T | None, default: _T) -> _T:
    return default if value is None else value


def _is_video(fields: RequestFields) -> bool:
    if fields.input_type is None:
        return fields.video_url is not None
    return fields.input_type == "video"


def _prompt(fields: RequestFields, dialect: Dialect) -> str:
    default = "The person takes turns talking" if dialect == "B" else "A person talking naturally"
    return _or(fields.prompt, _or(fields.positive_prompt, default))


def _size(fields: RequestFields, dialect: Dialect) -> tuple[int, int]:
    named = bool(fields.aspect_ratio or fields.resolution)
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
    names = ["wav_url", "wav_url_2"] if fields.person_count == "multi" else ["wav_url"]
    return tuple(Speaker(name, getattr(fields, name)) for name in names)


def _box(box: list[float] | None) -> tuple[float, float, float, float] | None:
    return None if box is None else (box[0], box[1], box[2], box[3])


def _ignored(fields: RequestFields) -> Iterator[str]:
    """What the contracts let a client send along, though it has no effect."""
    if fields.wav_url_2 is not None and fields.person_count != "multi":
        yield 'wav_url_2 has no effect: person_count is "single"'
    if fields.image_url is not None and _is_video(fields):
        yield 'image_url has no effect: input_type is "video"'
    if fields.video_url is not None and not _is_video(fields):
        yield 'video_url has no effect: input_type is "image"'
