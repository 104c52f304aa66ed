"""Delivery to a presigned PUT URL of the caller's. Nobody sees its query again."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from urllib3.exceptions import HTTPError

from talkinghead.delivery.asked import Asked
from talkinghead.delivery.place import VIDEO_TYPE, FinishedVideo, Place
from talkinghead.delivery.retry import PassingFault, Patience, keep_trying, wait_for
from talkinghead.errors import DeliveryFailed, UrlBlocked
from talkinghead.net.connections import base_headers, connect, cut, port_of, trusted_authorities
from talkinghead.net.guard import UrlGuard
from talkinghead.redact import redact_url

ANSWER_SECONDS = 30.0  # longest silence of the server
PASSING_STATUSES = (408, 425, 429, 500, 502, 503, 504)


class UploadPlace(Place):
    """One PUT of the video; a bundle goes into the result, since no file can lie beside it."""

    def __init__(self, url: str, guard: UrlGuard) -> None:
        self._url = url
        self._guard = guard
        self._tls = trusted_authorities()
        self._shown = f"upload_url: {redact_url(url)}"

    def find(self, job: str, asked: Asked, patience: Patience) -> None:
        """Nothing: what lies there cannot be asked; whether it may be written to, can.

        Raises:
            UrlBlocked, DeliveryFailed
        """
        try:
            parts = self._guard.check(self._url)
            self._guard.addresses(parts, port_of(parts))
        except UrlBlocked as error:
            raise UrlBlocked(f"upload_url: {error}", field="upload_url") from None
        except socket.gaierror:
            raise DeliveryFailed(f"{self._shown}: its host is not known") from None

    def deliver(self, video: FinishedVideo, patience: Patience) -> dict[str, Any]:
        """PUT the video, again and again until it is taken; what it says of the URL is no secret.

        Raises:
            DeliveryFailed: the host refuses the video, or does not take it in time.
        """
        keep_trying(lambda: self._put(video.path, patience), patience)
        bundle = {} if video.bundle is None else {"bundle": video.bundle}
        return {"uploaded_to": redact_url(self._url), **bundle}

    def _put(self, video: Path, patience: Patience) -> None:
        pool = ThreadPoolExecutor(1, thread_name_prefix="upload")
        with video.open("rb") as file:
            put = _Put(self._url, file, video.stat().st_size, self._guard, self._tls)
            running = pool.submit(put.run)
            pool.shutdown(wait=False)  # nobody waits for a thread that is stopped
            try:
                status = wait_for(running, patience)
            except socket.gaierror:
                raise PassingFault(f"{self._shown}: its host name could not be resolved") from None
            except (HTTPError, http.client.HTTPException, OSError) as error:
                reason = f"{self._shown} gave no answer: {type(error).__name__}"
                raise PassingFault(reason) from None
            finally:
                put.stop()
        self._judge(status)

    def _judge(self, status: int) -> None:
        if status in PASSING_STATUSES:
            raise PassingFault(f"{self._shown} gave HTTP {status}")
        if status not in (200, 201, 204):
            raise DeliveryFailed(
                f"{self._shown} gave HTTP {status}: it must be signed for PUT with Content-Type "
                "video/mp4, and still be valid",
                field="upload_url",
            )


class _Put:
    """One request. `run` works, in a thread of its own; `stop` ends it from another."""

    def __init__(
        self, url: str, file: BinaryIO, size: int, guard: UrlGuard, tls: ssl.SSLContext
    ) -> None:
        self._url = url
        self._file = file
        self._size = size
        self._guard = guard
        self._tls = tls
        self._socket: socket.socket | None = None

    def run(self) -> int:
        """Send the file; returns the HTTP status. The answer's text may quote the signature."""
        parts = self._guard.check(self._url)
        headers = {"Content-Type": VIDEO_TYPE, "Content-Length": str(self._size)}
        with contextlib.closing(connect(parts, self._guard, self._tls)) as connection:
            self._socket = connection.sock
            connection.timeout = ANSWER_SECONDS
            # A server that refuses does not take the rest.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(
                    "PUT",
                    parts.request_uri,
                    body=self._file,
                    headers=base_headers(parts) | headers,
                    preload_content=False,
                )
            with contextlib.closing(connection.getresponse()) as response:
                return response.status

    def stop(self) -> None:
        """End it soon."""
        cut(self._socket)
