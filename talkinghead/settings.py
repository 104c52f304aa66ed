"""Every environment variable that the worker reads, with its default."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_DIR = Path(__file__).resolve().parent.parent

LogFormat = Literal["plain", "json"]


class Settings(BaseSettings):
    """Read from the environment; a field's name in capitals is its variable."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="ignore")

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
    comfyui_start_seconds: float = Field(
        300, gt=0, description="Longest wait for ComfyUI to answer; 30 s is usual on a cold disk"
    )
    extra_node_dirs: str = Field(
        "", description="More folders of node packs for ComfyUI, separated by ':'"
    )
    work_dir: Path = Field(
        Path(tempfile.gettempdir()) / "talkinghead",
        description="ComfyUI's input, output, temp and user folders, and its log",
    )
    model_profile: str = Field(
        "gguf-q4", description="Which set of model files of model_manifest.yaml to use"
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
        80, gt=0, description="Largest picture, mask or video frame, million pixels"
    )
    download_seconds: float = Field(120, gt=0, description="Longest download of one file, seconds")

    s3_bucket: str | None = Field(
        None, description="Bucket for the videos; inline results if unset"
    )
    s3_region: str | None = Field(None, description="Region of the bucket")
    s3_key: SecretStr | None = Field(None, description="Access key id")
    s3_secret: SecretStr | None = Field(None, description="Secret access key")
    s3_endpoint: str | None = Field(None, description="Endpoint of a store other than AWS")
    s3_prefix: str = Field("", description="Prefix of the keys in the bucket")
    s3_url_seconds: int = Field(
        604_800, gt=0, le=604_800, description="Life of the presigned URL in the result, seconds"
    )
    max_inline_mb: float = Field(
        9.5, gt=0, description="Largest data URI in a result, MB: RunPod drops results over 10 MB"
    )

    @model_validator(mode="after")
    def _s3_is_whole_or_absent(self) -> Self:
        given = {
            "S3_BUCKET": self.s3_bucket,
            "S3_REGION": self.s3_region,
            "S3_KEY": self.s3_key,
            "S3_SECRET": self.s3_secret,
        }
        missing = [name for name, value in given.items() if not value]
        if missing and len(missing) < len(given):
            raise ValueError(f"S3 storage is half configured: {', '.join(missing)} not set")
        return self

    @property
    def node_dirs(self) -> tuple[Path, ...]:
        """Folders of node packs that ComfyUI loads besides its own `custom_nodes`."""
        extra = (Path(part) for part in self.extra_node_dirs.split(":") if part)
        return (PROJECT_DIR / "custom_nodes", *extra)

    @property
    def on_cpu(self) -> bool:
        """Whether our own ComfyUI runs without a GPU."""
        if self.comfyui_cpu is None:
            return not any(Path("/dev").glob("nvidia[0-9]*"))
        return self.comfyui_cpu
