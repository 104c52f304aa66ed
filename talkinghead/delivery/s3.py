"""Delivery to a bucket of an S3-compatible store."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from s3transfer.futures import TransferFuture
from s3transfer.subscribers import BaseSubscriber

from talkinghead.bucket import Bucket
from talkinghead.delivery.checkpoint import CHUNK_BYTES, Stored
from talkinghead.delivery.parcel import (
    BUNDLE_NAME,
    POLL_SECONDS,
    RESULT_NAME,
    VIDEO_NAME,
    Item,
    Parcel,
    PassingFault,
    Patience,
    keep_trying,
    read_kept,
    wait_for,
)
from talkinghead.errors import DeliveryFailed, JobError
from talkinghead.redact import redact_urls
from talkinghead.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef, ObjectIdentifierTypeDef

log = logging.getLogger("talkinghead")

# AWS_ENDPOINT_URL may be set though the bucket is another's. (The type stubs lack this option.)
OWN_ENDPOINT: dict[str, Any] = {"ignore_configured_endpoint_urls": True}
ASKED = "asked"  # the name of the video's metadata that holds the hash of the request
DELETED_AT_ONCE = 1000  # the most that S3 takes
# No repetition helps against these, and they are known before anything is rendered.
CONFIGURATION_ERRORS = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "InvalidSecurity",
    "NoSuchBucket",
    "InvalidBucketName",
    "AuthorizationHeaderMalformed",  # the region is another
    "PermanentRedirect",
)
# Status 4xx, and yet another try may go well.
PASSING_ERRORS = (
    "NoSuchUpload",  # aborted by another worker with the same job, or lost by the store
    "RequestTimeout",
    "IncompleteBody",
    "ClientDisconnected",  # SeaweedFS's name for it
    "BadDigest",
)


class S3Store:
    """A bucket. Keys are prefix/job id/name: a retried job finds its video, or overwrites it.

    The video is the last to be written: where it is, the documents beside it are too.
    """

    max_mb: float | None = None

    def __init__(
        self, bucket: Bucket, *, prefix: str, url_seconds: int, public_url: str | None
    ) -> None:
        self._bucket = bucket.name
        self._prefix = prefix.strip("/")
        self._url_seconds = url_seconds
        self._public_url = public_url and public_url.rstrip("/")
        self._client = _client(bucket, read_timeout=30, attempts=3)
        # For what a job shall not wait for: to look, and to clean up.
        self._brief = _client(bucket, read_timeout=5, attempts=2)
        self._config = TransferConfig(preferred_transfer_client="classic")
        self._transfers = create_transfer_manager(self._client, self._config)
        self._aside = ThreadPoolExecutor(4, thread_name_prefix="s3")
        self._unclean: set[str] = set()  # keys with parts of uploads that did not end

    @classmethod
    def from_settings(cls, bucket: Bucket, settings: Settings) -> S3Store:
        """The bucket as the settings want it used."""
        return cls(
            bucket,
            prefix=settings.s3_prefix,
            url_seconds=settings.s3_url_seconds,
            public_url=settings.s3_public_url,
        )

    def deliver(self, parcel: Parcel, patience: Patience) -> dict[str, Any]:
        """Raises:
        DeliveryFailed: the store refuses the video, or does not answer in time.
        """

        def attempt() -> None:
            try:
                for name, content in parcel.documents():
                    key, about = self._key(parcel.job, name), {"ContentType": "application/json"}
                    self._send(io.BytesIO(content), key, about, patience)
                self._send_video(parcel, patience)
            except (BotoCoreError, ClientError) as error:
                raise self._fault(error) from None

        try:
            keep_trying(attempt, patience)
        except DeliveryFailed:
            self._abort_leftovers()
            raise
        self._abort_leftovers()
        return self._place(parcel.job, bundled=parcel.bundle is not None)

    def put(self, job: str, items: Sequence[Item], patience: Patience) -> list[dict[str, Any]]:
        """Raises:
        DeliveryFailed: the store refuses an item, or does not answer in time.
        """
        try:
            for item in items:
                keep_trying(partial(self._put, job, item, patience), patience)
        finally:
            self._abort_leftovers()
        return [{"url": self._url(self._key(job, item.path.name))} for item in items]

    def _put(self, job: str, item: Item, patience: Patience) -> None:
        key = self._key(job, item.path.name)
        if item.path.stat().st_size >= self._config.multipart_threshold:
            self._unclean.add(key)
        try:
            self._send(str(item.path), key, {"ContentType": item.content_type}, patience)
        except (BotoCoreError, ClientError) as error:
            raise self._fault(error) from None

    def find(self, job: str, asked: str, patience: Patience) -> dict[str, Any] | None:
        """Raises:
        DeliveryFailed: the bucket or its keys are not right.
        """
        return wait_for(self._aside.submit(self._look, job, asked), patience)

    def _look(self, job: str, asked: str) -> dict[str, Any] | None:
        try:
            stored = self._brief.get_object(Bucket=self._bucket, Key=self._key(job, RESULT_NAME))
            kept = read_kept(stored["Body"].read(), asked)
            if kept is None:
                return None
            video = self._brief.head_object(Bucket=self._bucket, Key=self._key(job, VIDEO_NAME))
        except (BotoCoreError, ClientError) as error:
            if _code(error) in CONFIGURATION_ERRORS:
                raise self._fault(error) from None
            if _status(error) not in (403, 404):  # who may not list gets 403 for what is not there
                log.warning("the bucket could not be asked for the job: %s", _said(error))
            return None
        if video["Metadata"].get(ASKED) != asked:
            return None
        return {**kept.result, **self._place(job, bundled=kept.bundled)}

    def save(self, job: str, name: str, content: Path | bytes, content_type: str) -> None:
        """Raises:
        DeliveryFailed, PassingFault, OSError
        """
        caching: dict[str, Any] = {"CacheControl": "no-cache"} if name.endswith(".m3u8") else {}
        with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as body:
            try:
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=self._key(job, name),
                    Body=body,
                    ContentType=content_type,
                    **caching,
                )
            except (BotoCoreError, ClientError) as error:
                raise self._fault(error, "take the checkpoint") from None

    def load(self, job: str, name: str, into: BinaryIO, patience: Patience) -> bool:
        """Raises:
        DeliveryFailed, PassingFault, OSError, and what `patience` raises
        """
        try:
            stored = self._brief.get_object(Bucket=self._bucket, Key=self._key(job, name))
            for chunk in stored["Body"].iter_chunks(CHUNK_BYTES):
                patience.check()
                into.write(chunk)
        except (BotoCoreError, ClientError) as error:
            # Who may not list gets 403 for what is not there.
            if _status(error) in (403, 404) and _code(error) not in CONFIGURATION_ERRORS:
                return False
            raise self._fault(error, "give the checkpoint") from None
        return True

    def files(self, job: str, folder: str) -> list[Stored]:
        """Raises:
        DeliveryFailed
        """
        base = self._key(job, "") + "/"
        return [
            Stored(each["Key"].removeprefix(base), each["Size"], each["LastModified"].timestamp())
            for page in self._pages(base + folder)
            for each in page.get("Contents", [])
        ]

    def jobs(self) -> list[str]:
        """Raises:
        DeliveryFailed
        """
        base = self._prefix and f"{self._prefix}/"
        return [
            each["Prefix"].removeprefix(base).rstrip("/")
            for page in self._pages(base, Delimiter="/")
            for each in page.get("CommonPrefixes", [])
        ]

    def remove(self, job: str, names: Iterable[str]) -> None:
        """Raises:
        DeliveryFailed: not all could be deleted.
        """
        keys = [self._key(job, name) for name in names]
        try:
            for start in range(0, len(keys), DELETED_AT_ONCE):
                self._delete(keys[start : start + DELETED_AT_ONCE])
        except (BotoCoreError, ClientError) as error:
            raise self._refused(error, "delete the checkpoint") from None

    def url(self, job: str, name: str) -> str:
        """Where anybody can read the file, for a while unless the bucket is public."""
        return self._url(self._key(job, name))

    def _pages(self, prefix: str, **options: Any) -> Iterator[ListObjectsV2OutputTypeDef]:
        pages = self._brief.get_paginator("list_objects_v2")
        try:
            yield from pages.paginate(Bucket=self._bucket, Prefix=prefix, **options)
        except (BotoCoreError, ClientError) as error:
            raise self._refused(error, "list what it holds") from None

    def _delete(self, keys: list[str]) -> None:
        objects: list[ObjectIdentifierTypeDef] = [{"Key": key} for key in keys]
        try:
            answer = self._client.delete_objects(
                Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True}
            )
        except ClientError as error:
            if _status(error) == 403:
                raise
            # Some stores lack this call, or want a Content-MD5 that boto3 no longer sends.
            list(self._aside.map(self._delete_one, keys))
            return
        if faults := answer.get("Errors", []):
            raise DeliveryFailed(
                f"the bucket {self._bucket} did not delete {len(faults)} files of the checkpoint: "
                f"{faults[0].get('Code')}"
            )

    def _delete_one(self, key: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=key)

    def check(self) -> None:
        """Write a tiny object, and delete it where that is allowed.

        Raises:
            DeliveryFailed: the bucket cannot be written.
        """
        key = self._key("doctor", "probe")
        try:
            self._brief.put_object(Bucket=self._bucket, Key=key, Body=b"")
            with contextlib.suppress(ClientError):
                self._brief.delete_object(Bucket=self._bucket, Key=key)
        except (BotoCoreError, ClientError) as error:
            raise DeliveryFailed(
                f"the bucket {self._bucket} cannot be written: {_said(error)}"
            ) from None

    def _key(self, job: str, name: str) -> str:
        return "/".join(part for part in (self._prefix, job, name) if part)

    def _send_video(self, parcel: Parcel, patience: Patience) -> None:
        key = self._key(parcel.job, VIDEO_NAME)
        if parcel.video.stat().st_size >= self._config.multipart_threshold:
            self._unclean.add(key)
        about = {"ContentType": "video/mp4", "Metadata": {ASKED: parcel.asked}}
        self._send(str(parcel.video), key, about, patience)

    def _send(
        self, source: str | BinaryIO, key: str, about: dict[str, Any], patience: Patience
    ) -> None:
        """Stream a file, in parts if it is large. Ends early as `patience` does."""
        done = _Done()
        upload = self._transfers.upload(source, self._bucket, key, about, [done])
        try:
            while not done.event.wait(POLL_SECONDS):
                patience.check()
        except JobError:
            upload.cancel()  # not waited for: where a store says nothing, it ends at its timeout
            raise
        upload.result()

    def _abort_leftovers(self) -> None:
        """Delete the parts of uploads that did not end; those that cannot be, at the next job."""
        for key in tuple(self._unclean):
            try:
                listed = self._brief.list_multipart_uploads(Bucket=self._bucket, Prefix=key)
                for upload in listed.get("Uploads", []):
                    if upload["Key"] == key:
                        self._brief.abort_multipart_upload(
                            Bucket=self._bucket, Key=key, UploadId=upload["UploadId"]
                        )
                self._unclean.discard(key)
            except (BotoCoreError, ClientError) as error:
                if _status(error) == 403:  # nor will it be allowed later
                    self._unclean.discard(key)
                log.warning("parts of %s may be left in the bucket: %s", key, _said(error))

    def _place(self, job: str, *, bundled: bool) -> dict[str, Any]:
        video = self._url(self._key(job, VIDEO_NAME))
        bundle = {"bundle_url": self._url(self._key(job, BUNDLE_NAME))} if bundled else {}
        return {"video_url": video, "output_video_url": video, **bundle}

    def _url(self, key: str) -> str:
        if self._public_url:
            return f"{self._public_url}/{quote(key)}"
        return self._client.generate_presigned_url(
            "get_object",
            Params={"Bucket": self._bucket, "Key": key},
            ExpiresIn=self._url_seconds,
        )

    def _fault(
        self, error: BotoCoreError | ClientError, what: str = "take the video"
    ) -> DeliveryFailed | PassingFault:
        refused = self._refused(error, what)
        status = _status(error)
        final = status is not None and 400 <= status < 500 and status not in (408, 409, 429)
        if final and _code(error) not in PASSING_ERRORS:
            return refused
        return PassingFault(str(refused))

    def _refused(self, error: BotoCoreError | ClientError, what: str) -> DeliveryFailed:
        return DeliveryFailed(f"the bucket {self._bucket} did not {what}: {_said(error)}")


class _Done(BaseSubscriber):
    """Hears the end of a transfer, whatever it is."""

    def __init__(self) -> None:
        super().__init__()
        self.event = threading.Event()

    def on_done(self, future: TransferFuture, **_: object) -> None:
        self.event.set()


def _client(bucket: Bucket, *, read_timeout: int, attempts: int) -> S3Client:
    custom = bucket.endpoint is not None
    return boto3.client(
        "s3",
        region_name=bucket.region,
        endpoint_url=bucket.endpoint,
        aws_access_key_id=bucket.key.get_secret_value(),
        aws_secret_access_key=bucket.secret.get_secret_value(),
        aws_session_token=bucket.token.get_secret_value() if bucket.token else None,
        config=Config(
            signature_version="s3v4",
            # R2, B2 and older MinIO refuse the checksums that boto3 sends by default.
            request_checksum_calculation="when_required" if custom else "when_supported",
            response_checksum_validation="when_required" if custom else "when_supported",
            s3={"addressing_style": "path"} if custom else {},
            connect_timeout=5,
            read_timeout=read_timeout,
            retries={"mode": "standard", "max_attempts": attempts},
            **OWN_ENDPOINT,
        ),
    )


def _code(error: BotoCoreError | ClientError) -> str:
    return str(error.response["Error"].get("Code")) if isinstance(error, ClientError) else ""


def _status(error: BotoCoreError | ClientError) -> int | None:
    """The HTTP status of the answer; None if there was none."""
    if not isinstance(error, ClientError):
        return None
    return error.response["ResponseMetadata"].get("HTTPStatusCode")


def _said(error: BotoCoreError | ClientError) -> str:
    return redact_urls(str(error))
