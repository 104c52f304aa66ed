"""Where large files are uploaded to: a bucket of one's own, or a RunPod network volume."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from .errors import FileTooLarge
from .files import Presigned

SIGNED_SECONDS = 86_400  # a job may wait for a day in the queue
VOLUME_BYTES = 500_000_000  # RunPod's for one PUT to a volume
VOLUME_FOLDER = "talkinghead-uploads"  # where the worker looks for what a job calls volume:NAME
UTC = datetime.timezone(datetime.timedelta(0))  # datetime.UTC is of Python 3.11


@dataclass(frozen=True)
class _Keys:
    """Signs requests to S3. Source: AWS, Signature Version 4."""

    access: str
    secret: str = field(repr=False)
    region: str
    token: str | None = field(default=None, repr=False)

    def query(self, method: str, url: str) -> str:
        """The URL, signed in its query."""
        when = stamp, scope = self._now()
        query = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self.access}/{scope}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(SIGNED_SECONDS),
            "X-Amz-SignedHeaders": "host",
        }
        if self.token:
            query["X-Amz-Security-Token"] = self.token
        pairs = sorted(query.items())
        encoded = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in pairs)
        headers = {"host": urlsplit(url).netloc}
        signature = self._signature(f"{method}\n{urlsplit(url).path}\n{encoded}", headers, when)
        return f"{url}?{encoded}&X-Amz-Signature={signature}"

    def headers(self, method: str, url: str) -> dict[str, str]:
        """Headers that sign a request to the URL, for as long as its clock is right."""
        when = stamp, scope = self._now()
        signed = {
            "host": urlsplit(url).netloc,
            "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
            "x-amz-date": stamp,
        }
        signature = self._signature(f"{method}\n{urlsplit(url).path}\n", signed, when)
        signed["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access}/{scope}, "
            f"SignedHeaders={';'.join(signed)}, Signature={signature}"
        )
        del signed["host"]  # who sends it writes its own
        return signed

    def _now(self) -> tuple[str, str]:
        now = datetime.datetime.now(tz=UTC)
        return now.strftime("%Y%m%dT%H%M%SZ"), f"{now:%Y%m%d}/{self.region}/s3/aws4_request"

    def _signature(self, asked: str, headers: Mapping[str, str], when: tuple[str, str]) -> str:
        """Of what is asked: method, path and query; and of these headers."""
        stamp, scope = when
        told = "".join(f"{name}:{value}\n" for name, value in headers.items())
        names = ";".join(headers)
        whole = f"{asked}\n{told}\n{names}\nUNSIGNED-PAYLOAD"
        secret = f"AWS4{self.secret}".encode()
        for step in scope.split("/"):
            secret = hmac.new(secret, step.encode(), hashlib.sha256).digest()
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(whole.encode()).hexdigest()}"
        return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def _new_name(name: str) -> str:
    """A name that nobody can guess, with the suffix of this one, if that is a usual one."""
    suffix = Path(name).suffix.lower()
    return uuid.uuid4().hex + (suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else "")


@dataclass(frozen=True)
class S3Bucket:
    """Your own bucket as storage: files are put and read by URLs that are signed for a day.

    Args:
        endpoint: of a store other than AWS: R2, B2, MinIO.
        prefix: of the keys; a lifecycle rule on it may delete old files.
    """

    bucket: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    endpoint: str | None = None
    prefix: str = "talkinghead/uploads"
    session_token: str | None = field(default=None, repr=False)

    @classmethod
    def from_env(cls) -> S3Bucket | None:
        """The bucket that S3_BUCKET, S3_KEY, S3_SECRET, S3_REGION, S3_ENDPOINT name, if they do."""
        get = os.environ.get
        bucket, key, secret = get("S3_BUCKET"), get("S3_KEY"), get("S3_SECRET")
        if not (bucket and key and secret):
            return None
        return cls(bucket, key, secret, get("S3_REGION") or "us-east-1", get("S3_ENDPOINT") or None)

    def presign(self, name: str, content_type: str, size: int) -> Presigned:
        """URLs to put and get a file under a key that nobody can guess."""
        base = (self.endpoint or f"https://s3.{self.region}.amazonaws.com").rstrip("/")
        url = f"{base}/{quote(self.bucket)}/{quote(f'{self.prefix}/{_new_name(name)}')}"
        keys = _Keys(self.access_key, self.secret_key, self.region, self.session_token)
        return Presigned(
            keys.query("PUT", url), keys.query("GET", url), {"Content-Type": content_type}
        )


@dataclass(frozen=True)
class RunpodVolume:
    """The endpoint's network volume as storage, by RunPod's S3 API; it signs no URLs.

    The worker finds the file on its volume. Nobody deletes it but you.

    Args:
        volume_id: the network volume's, which the endpoint has.
        datacenter: the volume's, such as EU-RO-1.
        access_key, secret_key: an S3 API key of RunPod's settings page; not the API key.
        endpoint: of another place that has the volume.
    """

    volume_id: str
    datacenter: str
    access_key: str
    secret_key: str = field(repr=False)
    endpoint: str | None = None

    def presign(self, name: str, content_type: str, size: int) -> Presigned:
        """Where to put the file, with headers that are good for minutes.

        Raises:
            FileTooLarge: RunPod takes no more in one piece.
        """
        if size > VOLUME_BYTES:
            raise FileTooLarge(
                f"{name} has {size / 1e6:.0f} MB: RunPod's volumes take 500 MB in one piece"
            )
        own = _new_name(name)
        base = self.endpoint or f"https://s3api-{self.datacenter.lower()}.runpod.io"
        url = f"{base.rstrip('/')}/{quote(self.volume_id)}/{VOLUME_FOLDER}/{own}"
        keys = _Keys(self.access_key, self.secret_key, self.datacenter)
        return Presigned(url, f"volume:{own}", keys.headers("PUT", url))
