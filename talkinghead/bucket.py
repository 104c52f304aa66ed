"""Which bucket the videos go to, and what the names of endpoints tell of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from urllib.parse import urlsplit

from pydantic import SecretStr


@dataclass(frozen=True)
class Bucket:
    """An S3 bucket and what opens it; `endpoint` is that of a store other than AWS."""

    name: str
    region: str
    key: SecretStr
    secret: SecretStr
    token: SecretStr | None = None
    endpoint: str | None = None


@dataclass(frozen=True)
class BucketNames:
    """What the settings of these names say: three families that can name a bucket, never mixed."""

    s3_bucket: str | None
    s3_region: str | None
    s3_key: SecretStr | None
    s3_secret: SecretStr | None
    s3_endpoint: str | None
    bucket_endpoint_url: str | None
    bucket_access_key_id: SecretStr | None
    bucket_secret_access_key: SecretStr | None
    bucket_name: str | None
    aws_access_key_id: SecretStr | None
    aws_secret_access_key: SecretStr | None
    aws_session_token: SecretStr | None
    aws_region: str | None
    aws_endpoint_url: str | None


# Of Settings; a field's type is its text here.
BUCKET_FIELDS = tuple(each.name for each in fields(BucketNames))
CREDENTIAL_FIELDS = tuple(each.name for each in fields(BucketNames) if "SecretStr" in each.type)


def find_bucket(names: BucketNames) -> Bucket | None:
    """The bucket that is named, if one is.

    Keys and endpoint are those of one family of names, never mixed: S3_*, else RunPod's
    BUCKET_*, else AWS_* if a bucket is named.

    Raises:
        ValueError: the first family of which something is set is not whole.
    """
    if names.s3_key or names.s3_secret or names.s3_endpoint:
        return _s3_bucket(names)
    if names.bucket_endpoint_url or names.bucket_access_key_id or names.bucket_secret_access_key:
        return _runpod_bucket(names)
    named = names.s3_bucket or names.bucket_name
    if named and (names.aws_access_key_id or names.aws_secret_access_key):
        return _aws_bucket(names)
    if names.s3_bucket or names.s3_region:
        return _s3_bucket(names)
    return _runpod_bucket(names) if names.bucket_name else None


def _s3_bucket(names: BucketNames) -> Bucket:
    name, region, key, secret = names.s3_bucket, names.s3_region, names.s3_key, names.s3_secret
    _check_whole(S3_BUCKET=name, S3_REGION=region, S3_KEY=key, S3_SECRET=secret)
    assert name and region and key and secret
    return Bucket(name, region, key, secret, endpoint=names.s3_endpoint)


def _runpod_bucket(names: BucketNames) -> Bucket:
    url = names.bucket_endpoint_url
    key, secret = names.bucket_access_key_id, names.bucket_secret_access_key
    _check_whole(BUCKET_ENDPOINT_URL=url, BUCKET_ACCESS_KEY_ID=key, BUCKET_SECRET_ACCESS_KEY=secret)
    assert url and key and secret
    endpoint, name = split_endpoint(url, names.bucket_name or names.s3_bucket)
    return Bucket(name, names.s3_region or region_of(endpoint), key, secret, endpoint=endpoint)


def _aws_bucket(names: BucketNames) -> Bucket:
    name, endpoint = names.s3_bucket or names.bucket_name, names.aws_endpoint_url
    region = names.s3_region or names.aws_region or (region_of(endpoint) if endpoint else None)
    key, secret = names.aws_access_key_id, names.aws_secret_access_key
    _check_whole(
        S3_BUCKET=name, AWS_REGION=region, AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret
    )
    assert name and region and key and secret
    return Bucket(name, region, key, secret, names.aws_session_token, endpoint)


def _check_whole(**given: object) -> None:
    if missing := [name for name, value in given.items() if not value]:
        raise ValueError(f"S3 storage is half configured: {', '.join(missing)} not set")


# A bucket before the host of a store: of AWS, B2 and what is named like them, Spaces, and R2.
_HOST = re.compile(
    r"(?:(?P<bucket>.+)\.)?"
    r"(?P<store>s3[.-].+|[a-z]+\d\.digitaloceanspaces\.com|[^.]+(?:\.eu)?\.r2\.cloudflarestorage\.com)"
)
_REGION = re.compile(
    r"(?:^|\.)(?:s3[.-](?P<s3>[a-z0-9]+(?:-[a-z0-9]+)+)\.|(?P<spaces>[a-z]+\d)\.digitaloceanspaces)"
)


def split_endpoint(url: str, name: str | None) -> tuple[str, str]:
    """The store's endpoint and the bucket, which the URL may have as its path or before the host.

    Raises:
        ValueError: there is no bucket, or another one.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
    except ValueError:
        host = port = ""
    if not host or parts.scheme not in ("http", "https"):
        raise ValueError("BUCKET_ENDPOINT_URL is not an http:// or https:// URL")
    found = parts.path.strip("/")
    if not found and name and host.startswith(f"{name}."):
        found, host = name, host.removeprefix(f"{name}.")
    elif not found and (match := _HOST.fullmatch(host)) and match["bucket"]:
        found, host = match["bucket"], match["store"]
    if not (found or name):
        raise ValueError("BUCKET_NAME is not set, and BUCKET_ENDPOINT_URL names no bucket")
    if found and name and found != name:
        raise ValueError(f"BUCKET_ENDPOINT_URL names the bucket {found}, and BUCKET_NAME {name}")
    return f"{parts.scheme}://{host}{port}", found or name or ""


def region_of(endpoint: str) -> str:
    """The region that is in an endpoint's name; where there is none, any will do."""
    match = _REGION.search(urlsplit(endpoint).hostname or "")
    return (match["s3"] or match["spaces"]) if match else "us-east-1"
