"""Delivery to a bucket of an S3-compatible store."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.exceptions import ClientError
from s3transfer.futures import TransferFuture
from s3transfer.subscribers import BaseSubscriber

from talkinghead.bucket import BUCKET_FIELDS, CREDENTIAL_FIELDS, Bucket
from talkinghead.delivery.blobs import CHUNK_BYTES, StoredFile, StoredPlace, StoreError
from talkinghead.delivery.place import BUNDLE_NAME, VIDEO_NAME, PlaceKind
from talkinghead.delivery.retry import POLL_SECONDS, Patience, wait_for
from talkinghead.delivery.s3_client import (
    FAULTS,
    open_bucket,
    raise_unless_absent,
    refusals,
    said_by,
    status_of,
)
from talkinghead.errors import DeliveryFailed, JobError
from talkinghead.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef, ObjectIdentifierTypeDef

log = logging.getLogger("talkinghead")

TAG = "asked"  # the name of the metadata that holds a file's tag
DELETED_AT_ONCE = 1000  # the most that S3 takes
DELETES = 4  # at once, where each is a request


class S3Store:
    """A bucket. Keys are prefix/job id/name: a retried job finds its video, or overwrites it."""

    keeps_tags = True

    def __init__(self, bucket: Bucket, settings: Settings) -> None:
        self.name = f"the bucket {bucket.name}"
        self._bucket = bucket.name
        self._prefix = settings.s3_prefix.strip("/")
        self._url_seconds = settings.s3_url_seconds
        public_url = settings.s3_public_url
        self._public_url = public_url and public_url.rstrip("/")
        self._client = open_bucket(bucket, read_timeout=30, attempts=3)
        # For what a job shall not wait for: to look, and to clean up.
        self._brief = open_bucket(bucket, read_timeout=5, attempts=2)
        self._uploads = _Uploads(bucket.name, self._client, self._brief)

    def put(
        self,
        job: str,
        name: str,
        content: Path | bytes,
        content_type: str,
        *,
        tag: str | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        """Write an object; with `check` by the threads of boto3, in parts if it is large.

        Raises:
            StoreError; OSError: `content` cannot be read
        """
        key, about = self._key(job, name), _about(name, content_type, tag)
        with refusals():
            if check is not None:
                self._uploads.send(content, key, about, check)
                return
            with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as body:
                self._client.put_object(Bucket=self._bucket, Key=key, Body=body, **about)

    def get(
        self, job: str, name: str, into: BinaryIO, check: Callable[[], None] = lambda: None
    ) -> bool:
        """Read an object; False if there is none, or none that these keys may see.

        Raises:
            StoreError, OSError, and what `check` raises
        """
        try:
            for chunk in _chunks(self._brief, self._bucket, self._key(job, name), check):
                into.write(chunk)
        except FAULTS as error:
            raise_unless_absent(error)
            return False
        return True

    def has(self, job: str, name: str, tag: str) -> bool:
        """Whether there is such an object, with this tag.

        Raises:
            StoreError
        """
        try:
            found = self._brief.head_object(Bucket=self._bucket, Key=self._key(job, name))
        except FAULTS as error:
            raise_unless_absent(error)
            return False
        return found["Metadata"].get(TAG) == tag

    def files(self, job: str, folder: str) -> list[StoredFile]:
        """All objects whose keys begin with the folder's.

        Raises:
            StoreError
        """
        base = self._key(job, "") + "/"
        return [
            StoredFile(
                each["Key"].removeprefix(base), each["Size"], each["LastModified"].timestamp()
            )
            for page in self._pages(base + folder)
            for each in page.get("Contents", [])
        ]

    def jobs(self) -> list[str]:
        """The next parts of all keys after the prefix.

        Raises:
            StoreError
        """
        base = self._prefix and f"{self._prefix}/"
        return [
            each["Prefix"].removeprefix(base).rstrip("/")
            for page in self._pages(base, Delimiter="/")
            for each in page.get("CommonPrefixes", [])
        ]

    def _pages(self, prefix: str, **options: Any) -> Iterator[ListObjectsV2OutputTypeDef]:
        pages = self._brief.get_paginator("list_objects_v2")
        with refusals():
            yield from pages.paginate(Bucket=self._bucket, Prefix=prefix, **options)

    def delete(self, job: str, names: Iterable[str]) -> list[str]:
        """Delete objects, as many at once as S3 takes; returns the codes of those that stay.

        Raises:
            StoreError
        """
        keys = [self._key(job, name) for name in names]
        with refusals():
            for start in range(0, len(keys), DELETED_AT_ONCE):
                batch = keys[start : start + DELETED_AT_ONCE]
                if stay := _delete(self._client, self._bucket, batch):
                    return stay
        return []

    def url(self, job: str, name: str) -> str:
        """Where anybody can read the object, for a while unless the bucket is public."""
        key = self._key(job, name)
        if self._public_url:
            return f"{self._public_url}/{quote(key)}"
        return self._client.generate_presigned_url(
            "get_object",
            Params={"Bucket": self._bucket, "Key": key},
            ExpiresIn=self._url_seconds,
        )

    def tidy(self) -> None:
        """Delete the parts of uploads that did not end; those that cannot be, the next time."""
        self._uploads.abort_leftovers()

    def check(self) -> None:
        """Write a tiny object, and delete it where that is allowed.

        Raises:
            StoreError: the bucket cannot be written.
        """
        key = self._key("doctor", "probe")
        with refusals():
            self._brief.put_object(Bucket=self._bucket, Key=key, Body=b"")
            with contextlib.suppress(ClientError):
                self._brief.delete_object(Bucket=self._bucket, Key=key)

    def _key(self, job: str, name: str) -> str:
        return "/".join(part for part in (self._prefix, job, name) if part)


def _chunks(client: S3Client, bucket: str, key: str, check: Callable[[], None]) -> Iterator[bytes]:
    """An object, piece by piece. What `check` raises ends it at once, whatever the store does."""
    aside = ThreadPoolExecutor(1, thread_name_prefix="s3")
    patience = Patience(math.inf, check)
    try:
        asked = aside.submit(client.get_object, Bucket=bucket, Key=key)
        chunks = wait_for(asked, patience)["Body"].iter_chunks(CHUNK_BYTES)
        while chunk := wait_for(aside.submit(next, chunks, b""), patience):
            check()
            yield chunk
    finally:
        aside.shutdown(wait=False)  # a thread that hears nothing ends at its timeout


def _about(name: str, content_type: str, tag: str | None) -> dict[str, Any]:
    """What the store is told of an object."""
    tagged: dict[str, Any] = {} if tag is None else {"Metadata": {TAG: tag}}
    # A playlist grows while it is played: it has to be read again.
    caching = {"CacheControl": "no-cache"} if name.endswith(".m3u8") else {}
    return {"ContentType": content_type, **tagged, **caching}


def _delete(client: S3Client, bucket: str, keys: list[str]) -> list[str]:
    """Delete objects; returns the codes of those that stay."""
    objects: list[ObjectIdentifierTypeDef] = [{"Key": key} for key in keys]
    try:
        answer = client.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
    except ClientError as error:
        if status_of(error) == 403:
            raise
        # Some stores lack this call, or want a Content-MD5 that boto3 no longer sends.
        with ThreadPoolExecutor(DELETES, thread_name_prefix="s3") as pool:
            list(pool.map(lambda key: client.delete_object(Bucket=bucket, Key=key), keys))
        return []
    return [str(each.get("Code")) for each in answer.get("Errors", [])]


class _Uploads:
    """Uploads by threads of boto3, in parts if they are large, and the parts that these leave."""

    def __init__(self, bucket: str, client: S3Client, brief: S3Client) -> None:
        self._bucket = bucket
        self._brief = brief
        self._config = TransferConfig(preferred_transfer_client="classic")
        self._transfers = create_transfer_manager(client, self._config)
        self._unclean: set[str] = set()  # keys with parts of uploads that did not end

    def send(
        self, content: Path | bytes, key: str, about: dict[str, Any], check: Callable[[], None]
    ) -> None:
        """Stream a file; memory does not grow with it. What `check` raises ends it at once."""
        source: str | BinaryIO
        if isinstance(content, bytes):
            source = io.BytesIO(content)
        else:
            source = str(content)
            if content.stat().st_size >= self._config.multipart_threshold:
                self._unclean.add(key)
        done = _Done()
        upload = self._transfers.upload(source, self._bucket, key, about, [done])
        try:
            while not done.event.wait(POLL_SECONDS):
                check()
        except JobError:
            upload.cancel()  # not waited for: where a store says nothing, it ends at its timeout
            raise
        upload.result()

    def abort_leftovers(self) -> None:
        """Delete the parts of uploads that did not end; those that cannot be, the next time."""
        for key in tuple(self._unclean):
            try:
                listed = self._brief.list_multipart_uploads(Bucket=self._bucket, Prefix=key)
                for upload in listed.get("Uploads", []):
                    if upload["Key"] == key:
                        self._brief.abort_multipart_upload(
                            Bucket=self._bucket, Key=key, UploadId=upload["UploadId"]
                        )
                self._unclean.discard(key)
            except FAULTS as error:
                if status_of(error) == 403:  # nor will it be allowed later
                    self._unclean.discard(key)
                log.warning("parts of %s may be left in the bucket: %s", key, said_by(error))


class _Done(BaseSubscriber):
    """Hears the end of a transfer, whatever it is."""

    def __init__(self) -> None:
        super().__init__()
        self.event = threading.Event()

    def on_done(self, future: TransferFuture, **_: object) -> None:
        """Called by a thread of boto3."""
        self.event.set()


class BucketPlace(StoredPlace):
    """A bucket that whoever has the result can read from."""

    items_are = "the video"  # as its errors have always said

    def where(self, job: str, *, bundled: bool) -> dict[str, Any]:
        """The URLs of the video, under the names of both contracts, and of its bundle."""
        video = self.store.url(job, VIDEO_NAME)
        bundle = {"bundle_url": self.store.url(job, BUNDLE_NAME)} if bundled else {}
        return {"video_url": video, "output_video_url": video, **bundle}

    def where_item(self, job: str, name: str) -> dict[str, Any]:
        """The item's URL."""
        return {"url": self.store.url(job, name)}


def _open(settings: Settings) -> BucketPlace | None:
    bucket = settings.bucket
    return None if bucket is None else BucketPlace(S3Store(bucket, settings))


def _check(settings: Settings) -> str | None:
    bucket = settings.bucket
    if bucket is None:
        return None
    try:
        S3Store(bucket, settings).check()
    except StoreError as error:
        raise DeliveryFailed(f"the bucket {bucket.name} cannot be written: {error}") from None
    return f"the bucket {bucket.name} can be written"


BUCKET = PlaceKind(
    name="s3",
    settings=(*BUCKET_FIELDS, "s3_prefix", "s3_url_seconds", "s3_public_url"),
    credentials=CREDENTIAL_FIELDS,
    open=_open,
    check=_check,
)
