"""Which bucket the videos go to, and what the names of endpoints tell of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
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


def check_whole(**given: object) -> None:
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
