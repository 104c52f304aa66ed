"""What is sent and what comes back, written by scripts/write-docs from schemas."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

# ruff: noqa: E501
# fmt: off


class Problem(TypedDict, total=False):
    """One mistake of a request."""

    # As in the request: speakers.0.audio_url
    field: str
    # What is wrong, in a sentence
    message: str
    # What came
    got: Any
    # What is allowed
    allowed: Any
    # Of a file's own fault
    error_code: Literal["invalid_request", "unsupported_combination", "url_blocked", "download_failed", "media_invalid", "media_too_large", "models_missing", "comfyui_unavailable", "workflow_rejected", "checkpoint_refused", "out_of_memory", "render_failed", "render_defective", "render_stalled", "deadline_exceeded", "cancelled", "output_missing", "result_too_large", "delivery_failed", "disk_full", "internal_error"]
    # Of that file, without its query
    url: str


class Details(TypedDict, total=False):
    """More of an error; what there is depends on its code."""

    # All mistakes at once
    problems: list[Problem]
    # The field at fault
    field: str
    # Of the file at fault, without its query
    url: str
    # Where a video that was not delivered is kept
    video_path: str
    # The end of ComfyUI's log
    log_tail: Any
    # What was tried before it was given up
    tried: Any
    # What is wrong with the picture
    seen: Any
    # Its frames, on the volume
    contact_sheet: str
    # Where a kept render is of another request
    differs: Any


class Estimate(TypedDict):
    """What a render will take; null is what nobody knows."""

    # How it is rendered
    way: Literal["prompt", "chain", "frames", "draft"]
    # That the model makes, at 25 a second
    frames: int
    # That the model makes; 0 of a draft
    windows: int
    # Of the file
    delivered_frames: int
    # Of the file, pixels
    width: int
    # Of the file, pixels
    height: int
    # Of the file
    duration_seconds: float
    # The GPU that the times are of
    card: str | None
    # The render takes, with models loaded
    seconds: float | None
    # Who says so
    seconds_source: str | None
    # The same on other GPUs
    seconds_by_card: dict[str, float]
    # In the currency of price_per_hour
    price: float | None
    # Of the request or the worker
    price_per_hour: float | None
    # Of frames in the host's memory, 10^9 bytes
    ram_gb: float
    # That the host has
    host_ram_gb: float | None
    # Of temporary files at most, 10^9 bytes
    disk_gb: float
    # JOB_TIMEOUT_SECONDS
    timeout_seconds: float | None
    # Whether the render ends within it
    fits_timeout: bool | None
    # Whether the frames fit into the memory
    fits_ram: bool | None
    # The settings to be used
    generation_params: dict[str, Any]


class Failure(TypedDict, total=False):
    """What is told of a job that failed. On RunPod `error` stands beside `output`, which has the
    rest."""

    # What went wrong, in a sentence
    error: str
    # Always failed
    status: Literal["failed"]
    # For programs; docs/troubleshooting.md
    error_code: Literal["invalid_request", "unsupported_combination", "url_blocked", "download_failed", "media_invalid", "media_too_large", "models_missing", "comfyui_unavailable", "workflow_rejected", "checkpoint_refused", "out_of_memory", "render_failed", "render_defective", "render_stalled", "deadline_exceeded", "cancelled", "output_missing", "result_too_large", "delivery_failed", "disk_full", "internal_error"]
    # Where in the job it happened
    stage: Literal["understand", "fetch", "prepare", "start", "patch", "render", "collect", "deliver", "done"]
    # Whether the same request may succeed later
    retryable: bool
    # RunPod's id of the job
    job_id: str
    # Seconds by stage
    timings: dict[str, float]
    # Of the job, as in a result
    cost: float
    # More, by code
    details: Details


class Policy(TypedDict, total=False):
    """RunPod's limits of this one job, in milliseconds."""

    # A job that runs longer is ended; the endpoint has a default
    executionTimeout: int
    # A job that is older is ended, also in the queue. Default: 86400000
    ttl: int
    # true: the job starts no worker. Default: false
    lowPriority: bool


class _Progress(TypedDict):
    """What every Progress has."""

    # What the worker is doing
    stage: Literal["understand", "fetch", "prepare", "start", "patch", "render", "collect", "deliver", "done"]
    # Of the whole job
    percent: float
    # The same for people
    message: str
    # The window under way, from 1
    window: int | None
    # How many there are
    windows: int | None
    # Until the last window is sampled and decoded; null before the first
    eta_seconds: float | None


class Progress(_Progress, total=False):
    """How far a job is; on RunPod the `output` of /status while the job is IN_PROGRESS."""

    # Where the finished windows can be watched, HLS
    playlist_url: str


class Speaker(TypedDict, total=False):
    """One of `speakers`; without a voice it is somebody who only listens."""

    # The voice; without one, somebody who listens
    audio_url: str | None
    # A picture, white where the person is
    mask_url: str | None
    # Where the person is: x0, y0, x1, y1 in pixels or all within 0 to 1
    box: list[float] | None


class TimedPrompt(TypedDict):
    """One of `prompts`: a text, and from when on it holds."""

    # Seconds of the video from which on the text holds
    at: float
    # What the picture shall show from then on, up to 512 tokens
    text: str


class Request(TypedDict, total=False):
    """What is asked for."""

    # Which of `image_url` and `video_url` counts; if unset the one given
    input_type: Literal["image", "video"] | None
    # Contract A: "multi" for two voices; if unset "single"
    person_count: Literal["single", "multi"] | None
    # The picture of who speaks
    image_url: str | None
    # A video of who speaks, in its place
    video_url: str | None
    # Contract A: the voice
    wav_url: str | None
    # Contract A: the second voice
    wav_url_2: str | None
    # The file itself, for `image_url`
    image_base64: str | None
    # The file itself, for `video_url`
    video_base64: str | None
    # The file itself, for `wav_url`
    wav_base64: str | None
    # The file itself, for `wav_url_2`
    wav_base64_2: str | None
    # Contract B: the voices
    audio_urls: list[str] | None
    # `image_url`, as contract C calls it
    image: str | None
    # Contract C: the voice
    audio: str | None
    # `resolution`, as contract C calls it
    size: Literal["480p", "720p"] | None
    # Contract C: taken, and of no effect: this worker checks no content
    enable_safety_checker: bool | None
    # Native: the people, each `{audio_url, box or mask_url}`
    speakers: list[Speaker] | None
    # What the picture shall show, up to 512 tokens; each contract has one
    prompt: str | None
    # `prompt`, as contract B calls it
    positive_prompt: str | None
    # More prompts over a long video, each `{at: seconds, text}`, which holds from then on, [window
    # by window](docs/long.md#more-than-one-prompt)
    prompts: list[TimedPrompt] | None
    # Of the video, with `resolution`; "auto": the source's; if unset "9:16", or the source's if
    # that would leave out a speaker's face or cut one of several heads, and with contract C
    aspect_ratio: Literal["16:9", "9:16", "auto"] | None
    # Of the video, with `aspect_ratio`; if unset "480p"
    resolution: Literal["480p", "720p"] | None
    # Of the video, in pixels, instead of the two above; by contract; without `height` the source's
    # shape
    width: int | None
    # Of the video, in pixels; by contract; alone as `width` is
    height: int | None
    # 0, -1 or none chooses one; the result tells which
    seed: int | None
    # The talk model (MultiTalk: pictures only); by contract
    mode: Literal["infinitetalk", "multitalk"] | None
    # Several voices begin together, or follow one another; by contract
    audio_mode: Literal["parallel", "sequential"] | None
    # Keep a part of the model in the host's memory; if unset [as the GPU needs](docs/tuning.md)
    use_block_swap: bool | None
    # How many of the 40 blocks, with `use_block_swap`. Default: 20
    blocks_to_swap: int | None
    # Render with the LoRA that needs 4 steps instead of 30. Default: true
    use_speed_lora: bool | None
    # Of that LoRA; 0 is without it. Default: 1.0
    speed_lora_strength: float | None
    # What the picture shall not show, up to 512 tokens; the template has one
    negative_prompt: str | None
    # Of the delivered file; the model renders 25 frames a second. Default: 25
    fps: float | None
    # Of the sampler; if unset 4 with the speed LoRA, 30 without
    steps: int | None
    # How closely the prompt is followed; if unset 1 with the LoRA, 5 without
    cfg_scale: float | None
    # How closely the voice is followed, as a multiple of `cfg_scale`; other than 1 costs a pass of
    # the model more a step; if unset 1 with the LoRA, 4 / `cfg_scale` without
    audio_cfg_scale: float | None
    # How strongly the voice moves the face; if unset 1, and 1.5 with `video_method` "denoise"
    audio_scale: float | None
    # Shifts the sampler's noise schedule: higher gives more to the rough form; if unset 11, and 7
    # at 480p without the speed LoRA
    shift: float | None
    # Of the sampler; if unset `flowmatch_distill` with the speed LoRA in 4 steps, `dpm++_sde` with
    # it in others, `unipc` without
    scheduler: Literal["unipc", "unipc/beta", "dpm++", "dpm++/beta", "dpm++_sde", "dpm++_sde/beta", "euler", "euler/beta", "deis", "lcm", "lcm/beta", "res_multistep", "er_sde", "sa_ode_stable", "flowmatch_distill"] | None
    # Cuts the sound: the most frames of the delivered file
    max_frame: int | None
    # Cuts the sound: the longest video, in seconds
    max_audio_duration: float | None
    # "speech": [all but speech](docs/quality.md#what-the-model-hears), singing and laughter too, is
    # silence to the model; the delivered sound stays as it is
    voice_filter: Literal["speech"] | None
    # Which part of the source stays where its shape is another; "faces": the middle, moved as
    # little as the speakers' faces ask for. Default: "faces"
    crop: Literal["faces", "center", "top", "left", "right", "bottom"] | None
    # What a source video gives. "keyframes", for dubbing: a frame of it every 2.88 s guides the
    # model. "denoise": camera and motion stay; up to 40 s. Default: "keyframes"
    video_method: Literal["keyframes", "denoise"] | None
    # With `video_url`: the source's own pixels around the speakers, feathered; with keyframes its
    # camera has to stand still. A draft does so anyway. Default: false
    keep_outside: bool | None
    # A quick preview on the CPU, without the model. Default: false
    draft: bool | None
    # When the GPU's memory does not suffice: free memory, swap blocks, tile the VAE, make smaller
    # windows. false: fail at once. Default: true
    retry_out_of_memory: bool | None
    # A [picture](docs/quality.md) that is black, of one colour or noise: `fail` renders it again in
    # safer ways, and at last fails; `warn` delivers it; `off` does not look at it; if unset `fail`
    check_picture: Literal["fail", "warn", "off"] | None
    # true: window by window, in constant memory; false: in one prompt, up to 400 s; if unset as
    # length, size and memory [ask for](docs/long.md)
    long: bool | None
    # Every window gets the colours of its reference picture. Default: false
    color_match: bool | None
    # Where the video goes, of what the worker has; if unset `s3` if that is configured, else
    # `inline`
    delivery: Literal["s3", "volume", "inline"] | None
    # A presigned PUT URL, signed for `Content-Type: video/mp4`; instead of `delivery`
    upload_url: str | None
    # A replay bundle goes with the video; if unset as `BUNDLE` says
    bundle: bool | None
    # The video carries its workflow, prompts included; dropped on ComfyUI's GUI, it opens. Default:
    # false
    embed_workflow: bool | None
    # An HLS playlist to watch the video with while it is rendered. Default: false
    playlist: bool | None
    # A job that would take longer than `JOB_TIMEOUT_SECONDS` stops in time; the next one with this
    # `request_id` goes on. Default: false
    continue_later: bool | None
    # 1 to 64 letters, digits, `_`, `-`: jobs of one id are one render; what one leaves, the next
    # continues; if unset the job's id
    request_id: str | None
    # Nothing is rendered; the result is an [estimate](docs/long.md#what-it-will-take) of windows,
    # time, price, memory and disk. Default: false
    dry_run: bool | None
    # What an hour of the worker costs, for the estimate and the result's `cost`; if unset as
    # `PRICE_PER_HOUR` says
    price_per_hour: float | None


class SpeakerFound(TypedDict):
    """Somebody in the source picture; boxes are x0, y0, x1, y1 in its pixels."""

    # The request's field of who speaks; null: who stays still
    speaker: str | None
    # The face, if one was found
    face: list[int] | None
    # The region that moves
    box: list[int] | None


class VideoInfo(TypedDict):
    """What the delivered file is; read from it."""

    # Pixels
    width: int
    # Pixels
    height: int
    # Frames a second
    fps: float
    # How many frames it has
    frames: int
    # How long it is
    duration_seconds: float
    # Samples a second of its sound
    audio_rate: int | None
    # Channels of its sound
    audio_channels: int | None
    # 10^6 bytes
    file_size_mb: float
    # Of the file, hex digits
    sha256: str
    # The talk model: infinitetalk or multitalk
    mode: str
    # How many of the voices are in it
    audio_files_used: int


class WorkflowOutput(TypedDict, total=False):
    """One thing that a job with a workflow of its own made: a file, or a text."""

    # The title of the node that made it
    node: str
    # image, video, audio, text or file
    kind: str
    # Where it is, in a bucket
    url: str
    # The file as a data: URI
    data: str
    # Where it is, on the volume
    path: str
    # The text itself
    text: str
    # The file's name
    filename: str
    # Of the file, hex digits
    sha256: str
    # Bytes
    size: int


class Output(TypedDict, total=False):
    """What a job gives that ended well; on RunPod the `output` of a COMPLETED job. Where the video
    is depends on `delivery`: one of `video_url`, `video`, `video_path` and `uploaded_to` tells."""

    # "incomplete": the next job with this request_id goes on; "estimated": a dry run
    status: Literal["completed", "incomplete", "estimated"]
    # RunPod's id of the job
    job_id: str
    # The video, in a bucket
    video_url: str
    # The same, as contract B calls it
    output_video_url: str
    # The video itself, as a data: URI
    video: str
    # The video, on the worker's network volume
    video_path: str
    # upload_url without its query
    uploaded_to: str
    # The replay bundle, or where it was uploaded to
    bundle: Any
    # The replay bundle, in a bucket
    bundle_url: str
    # The replay bundle, on the volume
    bundle_path: str
    # What the job's time on the worker cost, in the currency of the hour's price; only where that
    # is known
    cost: float
    # The job took on the worker
    processing_time_seconds: float
    # Of these, the render
    generation_time_seconds: float
    # What the file is
    video_info: VideoInfo
    # Figures of the picture, and of lips and sound
    quality: dict[str, Any]
    # All that was really used, such as the seed
    generation_params: dict[str, Any]
    # Seconds by stage
    timings: dict[str, float]
    # Who speaks where
    speakers_found: list[SpeakerFound]
    # What the caller should know
    warnings: list[str]
    # Whether it is the CPU's preview
    draft: bool
    # Of a dry run
    estimate: Estimate
    # By which an incomplete render goes on
    request_id: str
    # Of an incomplete render: all of them
    windows: int
    # Of an incomplete render: those made
    windows_done: int
    # Where its windows can be watched, HLS
    playlist_url: str
    # All that a workflow job made
    outputs: list[WorkflowOutput]
