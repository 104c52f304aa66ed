"""The client of a bucket's store, and what its errors mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from talkinghead.bucket import Bucket
from talkinghead.delivery.blobs import StoreError
from talkinghead.redact import redact_urls

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

FAULTS = (BotoCoreError, ClientError)
# AWS_ENDPOINT_URL may be set though the bucket is another's. (The type stubs lack this option.)
OWN_ENDPOINT: dict[str, Any] = {"ignore_configured_endpoint_urls": True}
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


def open_bucket(bucket: Bucket, *, read_timeout: int, attempts: int) -> S3Client:
    """A client for the bucket's store; it waits so many seconds, so often, for an answer."""
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


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """What a bucket refuses, as a StoreError."""
    try:
        yield
    except FAULTS as error:
        raise _refusal(error) from None


def raise_unless_absent(error: BotoCoreError | ClientError) -> None:
    """Return if the error says that there is no such object.

    Who may not list gets 403 for what is not there.

    Raises:
        StoreError
    """
    if status_of(error) not in (403, 404) or _code(error) in CONFIGURATION_ERRORS:
        raise _refusal(error) from None


def _refusal(error: BotoCoreError | ClientError) -> StoreError:
    code, status = _code(error), status_of(error)
    final = status is not None and 400 <= status < 500 and status not in (408, 409, 429)
    return StoreError(
        said_by(error),
        passes=not final or code in PASSING_ERRORS,
        misconfigured=code in CONFIGURATION_ERRORS,
    )


def _code(error: BotoCoreError | ClientError) -> str:
    return str(error.response["Error"].get("Code")) if isinstance(error, ClientError) else ""


def status_of(error: BotoCoreError | ClientError) -> int | None:
    """The HTTP status of the answer; None if there was none."""
    if not isinstance(error, ClientError):
        return None
    return error.response["ResponseMetadata"].get("HTTPStatusCode")


def said_by(error: BotoCoreError | ClientError) -> str:
    """Its message, without what signs a URL."""
    return redact_urls(str(error))
