"""Every environment variable that the worker reads, with its default."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal, Self

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from talkinghead.bucket import BUCKET_FIELDS, Bucket, BucketNames, find_bucket

PROJECT_DIR = Path(__file__).resolve().parent.parent

DEFAULT_VOLUME_DIR = Path("/runpod-volume")  # where RunPod mounts an endpoint's network volume

LogFormat = Literal["plain", "json"]
BasePrecision = Literal["auto", "fp16", "fp16_fast", "bf16", "fp32"]
StepCache = Literal["off", "teacache", "magcache", "easycache"]
# What else the pinned WanVideoModelLoader lists, and why it is not taken.
OTHER_ATTENTION = {
    "flash_attn_2": "needs flash-attn, which the image lacks",
    "flash_attn_3": "needs FlashAttention 3, which the image lacks",
    "sageattn_3": "needs SageAttention 3, which the image lacks",
    "radial_sage_attention": "takes only sizes whose sides are multiples of 128",
    "sageattn_ultravico": "computes another attention, for clips longer than a window",
    "comfy": "fails in the audio attention of a talk model",
}


class Settings(BaseSettings):
    """Read from the environment; a field's name in capitals is its variable."""

    model_config = SettingsConfigDict(
        frozen=True,
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,  # it holds the secrets in clear
    )

    allow_workflows: bool = Field(
        False,
        description="Take jobs that bring a workflow of their own: whoever may send jobs can then "
        "run every node that ComfyUI has",
    )
    comfyui_url: str | None = Field(None, description="A running ComfyUI to use instead of our own")
    comfyui_dir: Path = Field(
        PROJECT_DIR / ".comfyui", description="The ComfyUI folder that the worker starts"
    )
    comfyui_python: Path | None = Field(
        None, description="The Python that runs ComfyUI; the worker's own if unset"
    )
    comfyui_args: str = Field("", description="More arguments for ComfyUI's main.py")
    comfyui_cpu: bool | None = Field(
        None, description="Run ComfyUI with --cpu; if unset, when no NVIDIA device is there"
    )
    dynamic_vram: bool = Field(
        False,
        description="Whether our own ComfyUI may use dynamic VRAM, where it has that by default "
        "(NVIDIA, in versions of 2026): it is off until it was tried with WanVideoWrapper, which "
        "loads and moves the weights in its own way",
    )
    comfyui_start_seconds: float = Field(
        300, gt=0, description="Longest wait for ComfyUI to answer; 30 s is usual on a cold disk"
    )
    comfyui_max_memory_gb: float | None = Field(
        None,
        gt=0,
        description="A ComfyUI that holds more RAM after a job is started again, GB; 90 % of the "
        "container's if unset",
    )
    extra_node_dirs: str = Field(
        "", description="More folders of node packs for ComfyUI, separated by ':'"
    )
    work_dir: Path = Field(
        Path(tempfile.gettempdir()) / "talkinghead",
        description="ComfyUI's input, output, temp and user folders, and its log",
    )
    model_profile: str = Field(
        "auto",
        description="Which set of model files of model_manifest.yaml to use; `auto`: what the GPU "
        "holds",
    )
    attention: Literal["auto", "sdpa", "sageattn", "sageattn_compiled"] = Field(
        "auto",
        description="The sampler's attention; `auto`: `sageattn` if it runs on this GPU. "
        "`sageattn_compiled` lets TORCH_COMPILE look into it",
    )
    base_precision: BasePrecision = Field(
        "auto",
        description="What the base model computes in; `auto`: as the profile says, which is fp16. "
        "`fp16_fast` also adds up in fp16",
    )
    fp8_matmul: bool | None = Field(
        None,
        description="Whether scaled fp8 weights are multiplied in fp8 (`_fast`); if unset, with "
        "the profile `fp8-distill` and where that is right and quicker on this GPU",
    )
    torch_compile: bool = Field(
        False,
        description="Compile the base model's blocks: for long renders, and for others once the "
        "worker has rendered. What was compiled is kept beside the models",
    )
    step_cache: StepCache = Field(
        "off",
        description="Leave out steps that would change little, in long renders of 10 steps and "
        "more",
    )
    light_vae: bool = Field(
        False,
        description="Decode long renders with a small VAE; the frames that the next window begins "
        "with are the full VAE's",
    )
    force_offload: bool | None = Field(
        None,
        description="Whether the weights leave the GPU after each render; if unset, unless the "
        "GPU holds them twice",
    )
    blocks_to_swap: int | None = Field(
        None,
        ge=0,
        le=40,
        description="How many of the base model's 40 blocks wait in RAM, for requests that do not "
        "say; if unset, as many as make room on the GPU for a window",
    )
    models_dir: Path | None = Field(
        None,
        description="Where model files are fetched to; if unset, `models` on the network volume, "
        "or without one ComfyUI's",
    )
    fetch_models: bool = Field(
        False, description="Fetch the profile's files that are missing before the worker starts"
    )
    extra_model_dirs: str = Field(
        "",
        description="More folders laid out like ComfyUI's `models`, to look for files in, "
        "separated by ':'",
    )
    job_timeout_seconds: float = Field(
        3600, gt=0, description="A job that takes longer is stopped: set it just under RunPod's own"
    )
    stall_seconds: float = Field(
        300,
        gt=0,
        description="A render without any progress for so long is stopped: longer than your card "
        "takes for one step, or to load the text encoder",
    )
    log_format: LogFormat = Field(
        "plain", description="The log's lines: `plain` for people, `json` for machines"
    )

    max_image_mb: float = Field(50, gt=0, description="Largest picture, MB downloaded")
    max_audio_mb: float = Field(200, gt=0, description="Largest voice, MB downloaded")
    max_video_mb: float = Field(1000, gt=0, description="Largest source video, MB downloaded")
    max_image_megapixels: float = Field(
        50,
        gt=0,
        description="Largest picture or mask, million pixels; half of that with transparency, "
        "CMYK, 16 bits, in progressive JPEG or HEIC, a third in TIFF or AVIF, a quarter in WebP",
    )
    max_video_megapixels: float = Field(
        9, gt=0, le=16, description="Largest frame of a source video, million pixels; 4K has 8.8"
    )
    download_seconds: float = Field(
        120, gt=0, description="Longest download of a job's files, all at once, retries included"
    )
    allow_private_urls: bool = Field(
        False,
        description="Fetch from private, loopback and other internal addresses, too: for tests and "
        "local use",
    )

    s3_bucket: str | None = Field(
        None, description="Bucket for the videos; inline results if unset"
    )
    s3_region: str | None = Field(None, description="Region of the bucket")
    s3_key: SecretStr | None = Field(None, description="Access key id")
    s3_secret: SecretStr | None = Field(None, description="Secret access key")
    s3_endpoint: str | None = Field(None, description="Endpoint of a store other than AWS")
    bucket_endpoint_url: str | None = Field(
        None, description="Endpoint, as RunPod names it; the bucket may be in its host or path"
    )
    bucket_access_key_id: SecretStr | None = Field(
        None, description="Access key id, as RunPod names it"
    )
    bucket_secret_access_key: SecretStr | None = Field(
        None, description="Secret access key, as RunPod names it"
    )
    bucket_name: str | None = Field(None, description="Bucket, where S3_BUCKET is not set")
    aws_access_key_id: SecretStr | None = Field(None, description="Access key id, as AWS names it")
    aws_secret_access_key: SecretStr | None = Field(
        None, description="Secret access key, as AWS names it"
    )
    aws_session_token: SecretStr | None = Field(
        None, description="Session token of AWS's temporary keys"
    )
    aws_region: str | None = Field(
        None,
        validation_alias=AliasChoices("aws_region", "aws_default_region"),
        description="Region with AWS's keys; or AWS_DEFAULT_REGION",
    )
    aws_endpoint_url: str | None = Field(
        None,
        validation_alias=AliasChoices("aws_endpoint_url_s3", "aws_endpoint_url"),
        description="Endpoint with AWS's keys; AWS_ENDPOINT_URL_S3 goes first",
    )
    s3_prefix: str = Field("", description="Prefix of the keys in the bucket")
    s3_url_seconds: int = Field(
        604_800, gt=0, le=604_800, description="Life of the presigned URL in the result, seconds"
    )
    s3_public_url: str | None = Field(
        None, description="Where the bucket is public: results get this URL and the key, unsigned"
    )
    volume_dir: Path = Field(
        DEFAULT_VOLUME_DIR,
        description="A network volume, if it is there: its folder `talkinghead` gets the videos "
        'of `delivery: "volume"`, and those that cannot be delivered',
    )
    delivery_seconds: float = Field(
        600, gt=0, description="Longest upload of a video, with all its repetitions, seconds"
    )
    max_inline_mb: float = Field(
        9.5, gt=0, description="Largest data URI in a result, MB: RunPod drops results over 10 MB"
    )
    bundle: bool = Field(
        False, description="Whether jobs that do not say get a replay bundle with the video"
    )
    price_per_hour: float | None = Field(
        None,
        gt=0,
        description="What an hour of this worker costs: each result then has the `cost` of its job",
    )
    api_token: SecretStr | None = Field(
        None,
        description="`talkinghead serve` and `page`: the key that callers have to send; without "
        "one they answer this machine alone",
    )
    api_cors_origins: str = Field(
        "",
        description="`talkinghead serve`: origins whose pages may call it, separated by commas; "
        "`*`: any",
    )

    @field_validator("attention", mode="before")
    @classmethod
    def _says_why_not(cls, value: object) -> object:
        if why := OTHER_ATTENTION.get(str(value)):
            raise ValueError(f"{value} {why}")
        return value

    @model_validator(mode="after")
    def _delivery_is_possible(self) -> Self:
        self.bucket  # noqa: B018 - raises for what is half configured
        if self.volume_dir != DEFAULT_VOLUME_DIR and not self.volume_dir.is_dir():
            raise ValueError(f"VOLUME_DIR is {self.volume_dir}, which is not a folder")
        return self

    @property
    def bucket(self) -> Bucket | None:
        """The bucket for the videos, if there is one.

        Raises:
            ValueError: it is half named.
        """
        return find_bucket(BucketNames(**{name: getattr(self, name) for name in BUCKET_FIELDS}))

    @property
    def node_dirs(self) -> tuple[Path, ...]:
        """Folders of node packs that ComfyUI loads besides its own `custom_nodes`."""
        extra = (Path(part) for part in self.extra_node_dirs.split(":") if part)
        return (PROJECT_DIR / "custom_nodes", *extra)

    @property
    def uploads_dir(self) -> Path:
        """Where callers of this endpoint put files that their jobs call volume:NAME."""
        return self.volume_dir / "talkinghead-uploads"

    @property
    def fetched_models_dir(self) -> Path:
        """Where model files are fetched to."""
        if self.models_dir is not None:
            return self.models_dir.absolute()
        base = self.volume_dir if self.volume_dir.is_dir() else self.comfyui_dir
        return base.absolute() / "models"

    @property
    def kept_dir(self) -> Path:
        """What is ours beside the fetched models, for all workers that share them."""
        return self.fetched_models_dir / ".talkinghead"

    @property
    def on_cpu(self) -> bool:
        """Whether our own ComfyUI runs without a GPU."""
        if self.comfyui_cpu is None:
            return not any(Path("/dev").glob("nvidia[0-9]*"))
        return self.comfyui_cpu

    @property
    def drafts_only(self) -> bool:
        """A host without GPU, and nobody asks for models: it renders the CPU preview."""
        return self.comfyui_url is None and self.on_cpu and self.model_profile == "auto"


def wrong_settings(error: ValidationError) -> str:
    """What is wrong with the environment, by the names of its variables."""
    found = (
        f"{'_'.join(map(str, each['loc'])).upper()}: {each['msg'].removeprefix('Value error, ')}"
        for each in error.errors()
    )
    return "; ".join(text.removeprefix(": ") for text in found)
