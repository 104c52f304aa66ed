"""Where the finished video goes: S3-compatible storage, or into the result as a data URI."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, Protocol

import boto3
from boto3.exceptions import S3UploadFailedError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from talkinghead.errors import DeliveryFailed, ResultTooLarge
from talkinghead.settings import Settings


class Store(Protocol):
    """A place for finished videos."""

    def deliver(self, video: Path, job_id: str) -> dict[str, Any]:
        """Put the video there; returns the part of the result that says where it is."""


def open_store(settings: Settings) -> Store:
    """S3 if it is configured, else inline."""
    return S3Store(settings) if settings.s3_bucket else InlineStore(settings.max_inline_mb)


class InlineStore:
    """The result carries the video itself."""

    def __init__(self, max_mb: float) -> None:
        self._max_mb = max_mb

    def deliver(self, video: Path, job_id: str) -> dict[str, Any]:
        """Raises:
        ResultTooLarge: the platform would drop the result.
        """
        size_mb = 4 * -(-video.stat().st_size // 3) / 1e6
        if size_mb > self._max_mb:
            raise ResultTooLarge(
                f"the video makes a result of {size_mb:.1f} MB, allowed: {self._max_mb:g} MB; "
                "configure S3 storage, or ask for a shorter or smaller video"
            )
        content = base64.b64encode(video.read_bytes()).decode("ascii")
        return {"video": f"data:video/mp4;base64,{content}"}


class S3Store:
    """A bucket. The key is prefix/job id/name, so a retried job overwrites its own video."""

    def __init__(self, settings: Settings) -> None:
        assert settings.s3_key and settings.s3_secret and settings.s3_bucket
        self._bucket = settings.s3_bucket
        self._prefix = settings.s3_prefix.strip("/")
        self._url_seconds = settings.s3_url_seconds
        custom = settings.s3_endpoint is not None
        self._client = boto3.client(
            "s3",
            region_name=settings.s3_region,
            endpoint_url=settings.s3_endpoint,
            aws_access_key_id=settings.s3_key.get_secret_value(),
            aws_secret_access_key=settings.s3_secret.get_secret_value(),
            config=Config(
                signature_version="s3v4",
                # R2, B2 and older MinIO refuse the checksums that boto3 sends by default.
                request_checksum_calculation="when_required" if custom else "when_supported",
                response_checksum_validation="when_required" if custom else "when_supported",
                s3={"addressing_style": "path"} if custom else {},
                connect_timeout=10,
                retries={"mode": "standard", "max_attempts": 5},
            ),
        )

    def deliver(self, video: Path, job_id: str) -> dict[str, Any]:
        """Raises:
        DeliveryFailed: the store refuses the video, or does not answer.
        """
        key = "/".join(part for part in (self._prefix, job_id, video.name) if part)
        try:
            self._client.upload_file(
                str(video), self._bucket, key, ExtraArgs={"ContentType": "video/mp4"}
            )
        except (S3UploadFailedError, BotoCoreError, ClientError) as error:
            raise DeliveryFailed(
                f"the bucket {self._bucket} did not take the video: {error}"
            ) from None
        url = self._client.generate_presigned_url(
            "get_object",
            Params={"Bucket": self._bucket, "Key": key},
            ExpiresIn=self._url_seconds,
        )
        return {"video_url": url, "output_video_url": url}
