"""Every field of a request: its rule, its default and its words, declared once.

From here come the checks, and by `schema` docs/request.schema.json and the table of request.md.
`Options` mean the same in a job's input and in the `RenderRequest` that is made of it: a new field
of that kind is one declaration here, and one use where it has its effect.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from talkinghead.net.inline import content_at
from talkinghead.net.urls import name_on_volume, parse_http_url
from talkinghead.plan.given import as_given
from talkinghead.plan.talk_models import MODELS
from talkinghead.redact import is_base64, is_data

Dialect = Literal["A", "B", "C", "native"]
Mode: TypeAlias = str  # a name in the table of talk models
AudioMode = Literal["parallel", "sequential"]
VideoMethod = Literal["keyframes", "denoise"]
Crop = Literal["faces", "center", "top", "left", "right", "bottom"]
VoiceFilter = Literal["speech"]
CheckPicture = Literal["fail", "warn", "off"]
Delivery = Literal["s3", "volume", "inline"]
# The sampler's own list holds more; those fail or do nothing useful in the talking-head loop.
Scheduler = Literal[
    "unipc", "unipc/beta", "dpm++", "dpm++/beta", "dpm++_sde", "dpm++_sde/beta", "euler",
    "euler/beta", "deis", "lcm", "lcm/beta", "res_multistep", "er_sde", "sa_ode_stable",
    "flowmatch_distill",
]  # fmt: skip

REQUEST_ID = "^[A-Za-z0-9_-]{1,64}$"  # it becomes a part of storage keys
MAX_SEED = 2**53 - 1  # larger ones lose digits in the ComfyUI GUI and in JSON readers
DIALECT_FIELDS: Mapping[str, Dialect] = {
    "wav_url": "A",
    "audio_urls": "B",
    "audio": "C",
    "speakers": "native",
}
# The fields that hold a file itself, as the public worker of this model calls them, and those that
# hold its URL.
BASE64_FIELDS: Mapping[str, str] = {
    "image_base64": "image_url",
    "video_base64": "video_url",
    "wav_base64": "wav_url",
    "wav_base64_2": "wav_url_2",
}


def _trimmed(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _whole(value: object) -> object:
    """81.0 is 81: JSON knows one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _http(value: str) -> str:
    try:
        parse_http_url(value)
    except ValueError as error:
        allowed = "an http:// or https:// URL ({reason})"
        raise PydanticCustomError("url", allowed, {"reason": str(error)}) from None
    return value


def _fetchable(value: str, info: ValidationInfo) -> str:
    if is_data(value):
        return _inline(value)
    if name_on_volume(value):
        return value
    local_files = bool(info.context and info.context["local_files"])
    return value if local_files and value.startswith("file:///") else _http(value)


def _inline(value: str) -> str:
    try:
        content_at(value)
    except ValueError as error:
        raise PydanticCustomError("url", "{allowed}", {"allowed": str(error)}) from None
    return value


def _base64(value: str) -> str:
    """The file as a data: URI; its text is read when it is decoded."""
    if is_data(value):
        return _inline(value)
    if not is_base64(value):
        allowed = "the file in base64, with or without data:, its type and ;base64, before it"
        raise PydanticCustomError("url", "{allowed}", {"allowed": allowed})
    return f"data:;base64,{value}"


def _known_mode(value: object) -> object:
    if value not in list(MODELS):
        raise PydanticCustomError("mode", "{names}", {"names": either(MODELS)})
    return value


def _list_modes(schema: dict[str, Any]) -> None:
    schema["enum"] = list(MODELS)


def either(names: Mapping[str, object]) -> str:
    """The names as a choice in words: "a", "b" or "c"."""
    *others, last = [f'"{name}"' for name in names]
    return f"{', '.join(others)} or {last}" if others else last


Trimmed = Annotated[str, BeforeValidator(_trimmed), Field(json_schema_extra={"format": "uri"})]
Url = Annotated[Trimmed, AfterValidator(_fetchable)]
UploadUrl = Annotated[Trimmed, AfterValidator(_http)]
Base64 = Annotated[
    str,
    BeforeValidator(_trimmed),
    AfterValidator(_base64),
    Field(json_schema_extra={"contentEncoding": "base64"}),
]
WHOLE = BeforeValidator(_whole)  # after the range, which it would hide from the schema
KnownMode = Annotated[Mode, BeforeValidator(_known_mode), Field(json_schema_extra=_list_modes)]
MIN_SIDE, MAX_SIDE = 256, 1536
Side = Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE), WHOLE]


class Part(BaseModel):
    """An object inside of a request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _given(cls, data: object) -> object:
        return as_given(data) if isinstance(data, Mapping) else data


class SpeakerFields(Part):
    """One of `speakers`; without a voice it is somebody who only listens."""

    audio_url: Url | None = Field(None, description="The voice; without one, somebody who listens")
    mask_url: Url | None = Field(None, description="A picture, white where the person is")
    box: Annotated[list[float], Field(min_length=4, max_length=4)] | None = Field(
        None, description="Where the person is: x0, y0, x1, y1 in pixels or all within 0 to 1"
    )


class PromptFields(Part):
    """One of `prompts`: a text, and from when on it holds."""

    at: Annotated[float, Field(ge=0, le=7200)] = Field(
        description="Seconds of the video from which on the text holds"
    )
    text: Annotated[str, Field(min_length=1)] = Field(
        description="What the picture shall show from then on, up to 512 tokens"
    )


class Options(BaseModel):
    """What a request may add, whatever its contract. None: the plan or the settings choose."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    negative_prompt: str | None = Field(
        None, description="What the picture shall not show, up to 512 tokens; the template has one"
    )
    fps: Annotated[float, Field(ge=10, le=60)] = Field(
        25, description="Of the delivered file; the model renders 25 frames a second"
    )
    steps: Annotated[int, Field(ge=1, le=50), WHOLE] | None = Field(
        None, description="Of the sampler; if unset 4 with the speed LoRA, 30 without"
    )
    cfg_scale: Annotated[float, Field(ge=0.1, le=20)] | None = Field(
        None, description="How closely the prompt is followed; if unset 1 with the LoRA, 5 without"
    )
    audio_cfg_scale: Annotated[float, Field(ge=0, le=10)] | None = Field(
        None,
        description="How closely the voice is followed, as a multiple of `cfg_scale`; other than 1 "
        "costs a pass of the model more a step; if unset 1 with the LoRA, 4 / `cfg_scale` without",
    )
    audio_scale: Annotated[float, Field(ge=0, le=3)] | None = Field(
        None,
        description="How strongly the voice moves the face; if unset 1, and 1.5 with "
        '`video_method` "denoise"',
    )
    shift: Annotated[float, Field(ge=1, le=20)] | None = Field(
        None,
        description="Shifts the sampler's noise schedule: higher gives more to the rough form; if "
        "unset 11, and 7 at 480p without the speed LoRA",
    )
    scheduler: Scheduler | None = Field(
        None,
        description="Of the sampler; if unset `flowmatch_distill` with the speed LoRA in 4 steps, "
        "`dpm++_sde` with it in others, `unipc` without",
    )
    max_frame: Annotated[int, Field(ge=1), WHOLE] | None = Field(
        None, description="Cuts the sound: the most frames of the delivered file"
    )
    max_audio_duration: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Cuts the sound: the longest video, in seconds"
    )
    voice_filter: VoiceFilter | None = Field(
        None,
        description='"speech": [all but speech](docs/quality.md#what-the-model-hears), singing and '
        "laughter too, is silence to the model; the delivered sound stays as it is",
    )
    crop: Crop = Field(
        "faces",
        description="Which part of the source stays where its shape is another; "
        '"faces": the middle, moved as little as the speakers\' faces ask for',
    )
    video_method: VideoMethod = Field(
        "keyframes",
        description='What a source video gives. "keyframes", for dubbing: a frame of it every '
        '2.88 s guides the model. "denoise": camera and motion stay; up to 40 s',
    )
    keep_outside: bool = Field(
        False,
        description="With `video_url`: the source's own pixels around the speakers, feathered; "
        "with keyframes its camera has to stand still. A draft does so anyway",
    )
    draft: bool = Field(False, description="A quick preview on the CPU, without the model")
    retry_out_of_memory: bool = Field(
        True,
        description="When the GPU's memory does not suffice: free memory, swap blocks, tile the "
        "VAE, make smaller windows. false: fail at once",
    )
    check_picture: CheckPicture | None = Field(
        None,
        description="A [picture](docs/quality.md) that is black, of one colour or noise: `fail` "
        "renders it again in safer ways, and at last fails; `warn` delivers it; `off` does not "
        "look at it; if unset `fail`",
    )
    long: bool | None = Field(
        None,
        description="true: window by window, in constant memory; false: in one prompt, up to "
        "400 s; if unset as length, size and memory [ask for](docs/long.md)",
    )
    color_match: bool = Field(
        False, description="Every window gets the colours of its reference picture"
    )
    delivery: Delivery | None = Field(
        None,
        description="Where the video goes, of what the worker has; if unset `s3` if that is "
        "configured, else `inline`",
    )
    upload_url: UploadUrl | None = Field(
        None,
        description="A presigned PUT URL, signed for `Content-Type: video/mp4`; instead of "
        "`delivery`",
    )
    bundle: bool | None = Field(
        None, description="A replay bundle goes with the video; if unset as `BUNDLE` says"
    )
    embed_workflow: bool = Field(
        False,
        description="The video carries its workflow, prompts included; dropped on ComfyUI's GUI, "
        "it opens",
    )
    playlist: bool = Field(
        False, description="An HLS playlist to watch the video with while it is rendered"
    )
    continue_later: bool = Field(
        False,
        description="A job that would take longer than `JOB_TIMEOUT_SECONDS` stops in time; the "
        "next one with this `request_id` goes on",
    )
    request_id: Annotated[str, Field(pattern=REQUEST_ID)] | None = Field(
        None,
        description="1 to 64 letters, digits, `_`, `-`: jobs of one id are one render; what one "
        "leaves, the next continues; if unset the job's id",
    )
    dry_run: bool = Field(
        False,
        description="Nothing is rendered; the result is an "
        "[estimate](docs/long.md#what-it-will-take) of windows, time, price, memory and disk",
    )
    price_per_hour: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="What an hour of the worker costs, for the estimate and the result's `cost`; "
        "if unset as `PRICE_PER_HOUR` says",
    )


class RequestFields(Options):
    """Every field of both contracts and the native ones, as they come in the job's `input`."""

    input_type: Literal["image", "video"] | None = Field(
        None, description="Which of `image_url` and `video_url` counts; if unset the one given"
    )
    person_count: Literal["single", "multi"] | None = Field(
        None, description='Contract A: "multi" for two voices; if unset "single"'
    )
    image_url: Url | None = Field(None, description="The picture of who speaks")
    video_url: Url | None = Field(None, description="A video of who speaks, in its place")
    wav_url: Url | None = Field(None, description="Contract A: the voice")
    wav_url_2: Url | None = Field(None, description="Contract A: the second voice")
    image_base64: Base64 | None = Field(None, description="The file itself, for `image_url`")
    video_base64: Base64 | None = Field(None, description="The file itself, for `video_url`")
    wav_base64: Base64 | None = Field(None, description="The file itself, for `wav_url`")
    wav_base64_2: Base64 | None = Field(None, description="The file itself, for `wav_url_2`")
    audio_urls: Annotated[list[Url], Field(min_length=1, max_length=4)] | None = Field(
        None, description="Contract B: the voices"
    )
    image: Url | None = Field(None, description="`image_url`, as contract C calls it")
    audio: Url | None = Field(None, description="Contract C: the voice")
    size: Literal["480p", "720p"] | None = Field(
        None, description="`resolution`, as contract C calls it"
    )
    enable_safety_checker: bool | None = Field(
        None, description="Contract C: taken, and of no effect: this worker checks no content"
    )
    speakers: Annotated[list[SpeakerFields], Field(min_length=1, max_length=4)] | None = Field(
        None, description="Native: the people, each `{audio_url, box or mask_url}`"
    )
    prompt: str | None = Field(
        None, description="What the picture shall show, up to 512 tokens; each contract has one"
    )
    positive_prompt: str | None = Field(None, description="`prompt`, as contract B calls it")
    prompts: Annotated[list[PromptFields], Field(min_length=1, max_length=200)] | None = Field(
        None,
        description="More prompts over a long video, each `{at: seconds, text}`, which holds from "
        "then on, [window by window](docs/long.md#more-than-one-prompt)",
    )
    aspect_ratio: Literal["16:9", "9:16", "auto"] | None = Field(
        None,
        description='Of the video, with `resolution`; "auto": the source\'s; if unset "9:16", or '
        "the source's if that would leave out a speaker's face or cut one of several heads, and "
        "with contract C",
    )
    resolution: Literal["480p", "720p"] | None = Field(
        None, description='Of the video, with `aspect_ratio`; if unset "480p"'
    )
    width: Side | None = Field(
        None,
        description="Of the video, in pixels, instead of the two above; by contract; without "
        "`height` the source's shape",
    )
    height: Side | None = Field(
        None, description="Of the video, in pixels; by contract; alone as `width` is"
    )
    seed: Annotated[int, Field(ge=-1, le=MAX_SEED), WHOLE] | None = Field(
        None, description="0, -1 or none chooses one; the result tells which"
    )
    mode: KnownMode | None = Field(
        None, description="The talk model (MultiTalk: pictures only); by contract"
    )
    audio_mode: AudioMode | None = Field(
        None, description="Several voices begin together, or follow one another; by contract"
    )
    use_block_swap: bool | None = Field(
        None,
        description="Keep a part of the model in the host's memory; if unset "
        "[as the GPU needs](docs/tuning.md)",
    )
    blocks_to_swap: Annotated[int, Field(ge=0, le=40), WHOLE] = Field(
        20, description="How many of the 40 blocks, with `use_block_swap`"
    )
    use_speed_lora: bool = Field(
        True, description="Render with the LoRA that needs 4 steps instead of 30"
    )
    speed_lora_strength: Annotated[float, Field(ge=0, le=2)] = Field(
        1.0, description="Of that LoRA; 0 is without it"
    )


def field_order() -> list[str]:
    """The request's fields as people are told of them: sources and people first, then options."""
    own = [name for name in RequestFields.model_fields if name not in Options.model_fields]
    return [*own, *Options.model_fields]


@functools.cache
def url_fields() -> frozenset[str]:
    """The names of the fields, a speaker's too, that hold a URL or several."""
    schema = RequestFields.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    fields = [each for model in models for each in model["properties"].items()]
    return frozenset(name for name, rule in fields if _holds_url(rule))


def _holds_url(rule: Mapping[str, Any]) -> bool:
    inner = [*rule.get("anyOf", ()), *([rule["items"]] if "items" in rule else ())]
    return rule.get("format") == "uri" or any(_holds_url(each) for each in inner)
