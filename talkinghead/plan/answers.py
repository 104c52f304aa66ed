"""What a caller gets, field by field: progress, results, estimates and failures.

`render/results.py` and the like make these; docs/*.schema.json and the clients' types are made of
them. A result may have more than is told here: who reads one leaves alone what he does not know.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from talkinghead.errors import JobError
from talkinghead.plan.estimate import Way

Box = Annotated[list[int], Field(min_length=4, max_length=4)]
Stage = Literal[
    "understand", "fetch", "prepare", "start", "patch", "render", "collect", "deliver", "done"
]
Codes = Annotated[str, Field(json_schema_extra=lambda schema: schema.update(enum=error_codes()))]


def error_codes() -> list[str]:
    """Every error_code there is."""
    return [error.code for error in JobError.__subclasses__()]


class ProgressFields(TypedDict):
    """How far a job is; on RunPod the `output` of /status while the job is IN_PROGRESS."""

    stage: Annotated[Stage, Field(description="What the worker is doing")]
    percent: Annotated[float, Field(ge=0, le=100, description="Of the whole job")]
    message: Annotated[str, Field(description="The same for people")]
    window: Annotated[int | None, Field(description="The window under way, from 1")]
    windows: Annotated[int | None, Field(description="How many there are")]
    eta_seconds: Annotated[
        float | None,
        Field(description="Until the last window is sampled and decoded; null before the first"),
    ]
    playlist_url: NotRequired[
        Annotated[str, Field(description="Where the finished windows can be watched, HLS")]
    ]


class VideoInfoFields(TypedDict):
    """What the delivered file is; read from it."""

    width: Annotated[int, Field(description="Pixels")]
    height: Annotated[int, Field(description="Pixels")]
    fps: Annotated[float, Field(description="Frames a second")]
    frames: Annotated[int, Field(description="How many frames it has")]
    duration_seconds: Annotated[float, Field(description="How long it is")]
    audio_rate: Annotated[int | None, Field(description="Samples a second of its sound")]
    audio_channels: Annotated[int | None, Field(description="Channels of its sound")]
    file_size_mb: Annotated[float, Field(description="10^6 bytes")]
    sha256: Annotated[str, Field(description="Of the file, hex digits")]
    mode: Annotated[str, Field(description="The talk model: infinitetalk or multitalk")]
    audio_files_used: Annotated[int, Field(description="How many of the voices are in it")]


class SpeakerFoundFields(TypedDict):
    """Somebody in the source picture; boxes are x0, y0, x1, y1 in its pixels."""

    speaker: Annotated[
        str | None, Field(description="The request's field of who speaks; null: who stays still")
    ]
    face: Annotated[Box | None, Field(description="The face, if one was found")]
    box: Annotated[Box | None, Field(description="The region that moves")]


class EstimateFields(TypedDict):
    """What a render will take; null is what nobody knows."""

    way: Annotated[Way, Field(description="How it is rendered")]
    frames: Annotated[int, Field(description="That the model makes, at 25 a second")]
    windows: Annotated[int, Field(description="That the model makes; 0 of a draft")]
    delivered_frames: Annotated[int, Field(description="Of the file")]
    width: Annotated[int, Field(description="Of the file, pixels")]
    height: Annotated[int, Field(description="Of the file, pixels")]
    duration_seconds: Annotated[float, Field(description="Of the file")]
    card: Annotated[str | None, Field(description="The GPU that the times are of")]
    seconds: Annotated[float | None, Field(description="The render takes, with models loaded")]
    seconds_source: Annotated[str | None, Field(description="Who says so")]
    seconds_by_card: Annotated[dict[str, float], Field(description="The same on other GPUs")]
    price: Annotated[float | None, Field(description="In the currency of price_per_hour")]
    price_per_hour: Annotated[float | None, Field(description="Of the request or the worker")]
    ram_gb: Annotated[float, Field(description="Of frames in the host's memory, 10^9 bytes")]
    host_ram_gb: Annotated[float | None, Field(description="That the host has")]
    disk_gb: Annotated[float, Field(description="Of temporary files at most, 10^9 bytes")]
    timeout_seconds: Annotated[float | None, Field(description="JOB_TIMEOUT_SECONDS")]
    fits_timeout: Annotated[bool | None, Field(description="Whether the render ends within it")]
    fits_ram: Annotated[bool | None, Field(description="Whether the frames fit into the memory")]
    generation_params: Annotated[dict[str, Any], Field(description="The settings to be used")]


class WorkflowOutputFields(TypedDict, total=False):
    """One thing that a job with a workflow of its own made: a file, or a text."""

    node: Annotated[str, Field(description="The title of the node that made it")]
    kind: Annotated[str, Field(description="image, video, audio, text or file")]
    url: Annotated[str, Field(description="Where it is, in a bucket")]
    data: Annotated[str, Field(description="The file as a data: URI")]
    path: Annotated[str, Field(description="Where it is, on the volume")]
    text: Annotated[str, Field(description="The text itself")]
    filename: Annotated[str, Field(description="The file's name")]
    sha256: Annotated[str, Field(description="Of the file, hex digits")]
    size: Annotated[int, Field(description="Bytes")]


class ResultFields(TypedDict, total=False):
    """What a job gives that ended well; on RunPod the `output` of a COMPLETED job.

    Where the video is depends on `delivery`: one of `video_url`, `video`, `video_path` and
    `uploaded_to` tells.
    """

    status: Annotated[
        Literal["completed", "incomplete", "estimated"],
        Field(
            description='"incomplete": the next job with this request_id goes on; "estimated": '
            "a dry run"
        ),
    ]
    job_id: Annotated[str, Field(description="RunPod's id of the job")]
    video_url: Annotated[str, Field(description="The video, in a bucket")]
    output_video_url: Annotated[str, Field(description="The same, as contract B calls it")]
    video: Annotated[str, Field(description="The video itself, as a data: URI")]
    video_path: Annotated[str, Field(description="The video, on the worker's network volume")]
    uploaded_to: Annotated[str, Field(description="upload_url without its query")]
    bundle: Annotated[Any, Field(description="The replay bundle, or where it was uploaded to")]
    bundle_url: Annotated[str, Field(description="The replay bundle, in a bucket")]
    bundle_path: Annotated[str, Field(description="The replay bundle, on the volume")]
    cost: Annotated[
        float,
        Field(
            description="What the job's time on the worker cost, in the currency of the hour's "
            "price; only where that is known"
        ),
    ]
    processing_time_seconds: Annotated[float, Field(description="The job took on the worker")]
    generation_time_seconds: Annotated[float, Field(description="Of these, the render")]
    video_info: Annotated[VideoInfoFields, Field(description="What the file is")]
    quality: Annotated[
        dict[str, Any], Field(description="Figures of the picture, and of lips and sound")
    ]
    generation_params: Annotated[
        dict[str, Any], Field(description="All that was really used, such as the seed")
    ]
    timings: Annotated[dict[str, float], Field(description="Seconds by stage")]
    speakers_found: Annotated[list[SpeakerFoundFields], Field(description="Who speaks where")]
    warnings: Annotated[list[str], Field(description="What the caller should know")]
    draft: Annotated[bool, Field(description="Whether it is the CPU's preview")]
    estimate: Annotated[EstimateFields, Field(description="Of a dry run")]
    request_id: Annotated[str, Field(description="By which an incomplete render goes on")]
    windows: Annotated[int, Field(description="Of an incomplete render: all of them")]
    windows_done: Annotated[int, Field(description="Of an incomplete render: those made")]
    playlist_url: Annotated[str, Field(description="Where its windows can be watched, HLS")]
    outputs: Annotated[
        list[WorkflowOutputFields], Field(description="All that a workflow job made")
    ]


class ProblemFields(TypedDict, total=False):
    """One mistake of a request."""

    field: Annotated[str, Field(description="As in the request: speakers.0.audio_url")]
    message: Annotated[str, Field(description="What is wrong, in a sentence")]
    got: Annotated[Any, Field(description="What came")]
    allowed: Annotated[Any, Field(description="What is allowed")]
    error_code: Annotated[Codes, Field(description="Of a file's own fault")]
    url: Annotated[str, Field(description="Of that file, without its query")]


class DetailsFields(TypedDict, total=False):
    """More of an error; what there is depends on its code."""

    problems: Annotated[list[ProblemFields], Field(description="All mistakes at once")]
    field: Annotated[str, Field(description="The field at fault")]
    url: Annotated[str, Field(description="Of the file at fault, without its query")]
    video_path: Annotated[str, Field(description="Where a video that was not delivered is kept")]
    log_tail: Annotated[Any, Field(description="The end of ComfyUI's log")]
    tried: Annotated[Any, Field(description="What was tried before it was given up")]
    seen: Annotated[Any, Field(description="What is wrong with the picture")]
    contact_sheet: Annotated[str, Field(description="Its frames, on the volume")]
    differs: Annotated[Any, Field(description="Where a kept render is of another request")]


class FailureFields(TypedDict, total=False):
    """What is told of a job that failed. On RunPod `error` stands beside `output`, which has the
    rest."""

    error: Annotated[str, Field(description="What went wrong, in a sentence")]
    status: Annotated[Literal["failed"], Field(description="Always failed")]
    error_code: Annotated[Codes, Field(description="For programs; docs/troubleshooting.md")]
    stage: Annotated[Stage, Field(description="Where in the job it happened")]
    retryable: Annotated[bool, Field(description="Whether the same request may succeed later")]
    job_id: Annotated[str, Field(description="RunPod's id of the job")]
    timings: Annotated[dict[str, float], Field(description="Seconds by stage")]
    cost: Annotated[float, Field(description="Of the job, as in a result")]
    details: Annotated[DetailsFields, Field(description="More, by code")]
