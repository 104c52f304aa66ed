"""One file over HTTP: guarded at every connection, tried again, resumed where it broke off."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import threading
import time
from pathlib import Path
from urllib.parse import urljoin

from urllib3.connection import HTTPConnection
from urllib3.exceptions import DecodeError, HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as Urllib3Timeout
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry, Url

from talkinghead.errors import NO_ROOM, Cancelled, DownloadFailed, MediaTooLarge
from talkinghead.net.connections import base_headers, connect, cut
from talkinghead.net.guard import UrlGuard
from talkinghead.redact import redact_url

READ_SECONDS = 10.0  # longest silence of the server
CHUNK_BYTES = 1 << 16
MAX_REDIRECTS = 5
BACKOFF_SECONDS = (0.3, 0.6, 1.2)  # before each further attempt
MAX_RETRY_AFTER_SECONDS = 20.0  # a server that wants more time is not waited for

_REDIRECTS = (301, 302, 303, 307, 308)
_RETRIED_STATUSES = (408, 425, 429, 500, 502, 503, 504)
# Of OSError these alone: what else it may be, such as a full disk, another attempt does not mend.
_RETRIED_ERRORS = (
    HTTPError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
    socket.gaierror,
)
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')


class _Broken(Exception):
    """An attempt failed in a way that another may not; the server may say when to come again."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class _Received:
    """What has come of the file: its bytes on disk, and the ETag by which a server goes on with it.

    A strong ETag alone makes sure that the rest is of the same file; without one, and from a server
    that does not go on, it is received from the start.
    """

    def __init__(self, target: Path, max_bytes: int) -> None:
        self.file = target.open("wb")
        self._max_bytes = max_bytes
        self._etag: str | None = None

    @property
    def size(self) -> int:
        """How many bytes have come, unpacked."""
        return self.file.tell()

    def range_headers(self) -> dict[str, str]:
        """What to ask with for the rest alone; empty where all must be asked for."""
        if not self.size or not self._etag:
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self._etag}

    def begin(self, response: BaseHTTPResponse) -> None:
        """Decide from the head of an answer, 200, 206 or 416, where its content goes.

        Raises:
            _Broken: it is not the rest that was asked for; what there was is dropped.
        """
        resumes = response.headers.get("Content-Range", "").startswith(f"bytes {self.size}-")
        if response.status != 206 or not resumes:
            if self.size:
                self.file.seek(0)
                self.file.truncate()
            self._etag = _strong_etag(response) if response.status == 200 else None
            if response.status != 200:
                raise _Broken("the server did not go on where it broke off")
        self._check(self.size + (response.length_remaining or 0))

    def write(self, chunk: bytes) -> None:
        """Append what came.

        Raises:
            MediaTooLarge: it would be more than is allowed.
        """
        self._check(self.size + len(chunk))
        self.file.write(chunk)

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            raise MediaTooLarge(f"the file is larger than {self._max_bytes / 1e6:g} MB")


class Download:
    """One file's way to disk, in some attempts.

    It belongs to two threads: `run` works in one, which alone touches the file, and `stop` is
    called from another, at any time and more than once. They share the event and the socket.
    """

    def __init__(
        self,
        url: str,
        target: Path,
        *,
        max_bytes: int,
        deadline: float,
        guard: UrlGuard,
        tls: ssl.SSLContext,
    ) -> None:
        self._url = url
        self._deadline = deadline
        self._guard = guard
        self._tls = tls
        # Opened here, not by the thread: one that is left behind must not make a file anew.
        self._received = _Received(target, max_bytes)
        self._socket: socket.socket | None = None
        self._stopped = threading.Event()

    def run(self) -> None:
        """Write the file; to be called once.

        Raises:
            UrlBlocked: the URL, or one that a server redirects to, may not be fetched.
            MediaTooLarge: more than `max_bytes`, by the answer's head or by what came.
            DownloadFailed: no answer, or one without the file, after all attempts.
            OSError: the disk is full.
            Cancelled: `stop` was called.
        """
        try:
            with self._received.file:
                self._try_several_times()
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
            raise self._failed(error.strerror or type(error).__name__) from None

    def stop(self) -> None:
        """End it soon. It may still wait for DNS or for a connection, but for no more than that."""
        # In this order: a thread that connects just now stores its socket first and looks at the
        # event then, so that one of the two sees the other.
        self._stopped.set()
        cut(self._socket)

    def _try_several_times(self) -> None:
        for pause in (*BACKOFF_SECONDS, None):
            try:
                return self._try()
            except _Broken as error:
                self._check_stopped()  # a connection that was cut looks broken
                wait = None if pause is None else max(pause, error.retry_after)
                if wait is None or wait > self._longest_wait():
                    raise self._failed(str(error)) from None
            self._stopped.wait(wait)
            self._check_stopped()

    def _longest_wait(self) -> float:
        return min(MAX_RETRY_AFTER_SECONDS, self._deadline - time.monotonic())

    def _try(self) -> None:
        try:
            self._follow()
        except ssl.SSLCertVerificationError:
            raise self._failed("its certificate is not valid") from None
        except DecodeError:
            raise self._failed("its compressed content is damaged") from None
        except _RETRIED_ERRORS as error:
            if isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN:
                raise self._failed("its host is not known") from None
            # The library's own text may quote the URL with its query.
            raise _Broken(_why(error)) from None

    def _follow(self) -> None:
        """Ask, and ask where the answer sends us: each time the guard is asked first."""
        parts = self._guard.check(self._url)
        for _ in range(1 + MAX_REDIRECTS):
            location = self._get(parts)
            if location is None:
                return
            parts = self._guard.check(_redirected(parts, location))
        raise self._failed(f"more than {MAX_REDIRECTS} redirects")

    def _get(self, parts: Url) -> str | None:
        """Receive the file, or learn where else it is."""
        with (
            contextlib.closing(self._connect(parts)) as connection,
            contextlib.closing(self._ask(connection, parts)) as response,
        ):
            location: str | None = response.headers.get("Location")
            if response.status in _REDIRECTS and location is not None:
                return location
            self._check_status(response)
            self._receive(response)
            return None

    def _connect(self, parts: Url) -> HTTPConnection:
        connection = connect(parts, self._guard, self._tls, self._check_stopped)
        self._socket = connection.sock
        self._check_stopped()
        return connection

    def _ask(self, connection: HTTPConnection, parts: Url) -> BaseHTTPResponse:
        # Packed, a range of it would be one of the packed bytes, and those on disk are not packed.
        headers = base_headers(parts) | {"Accept-Encoding": "identity"}
        headers |= self._received.range_headers()
        connection.timeout = READ_SECONDS
        connection.request("GET", parts.request_uri, headers=headers, preload_content=False)
        return connection.getresponse()

    def _check_status(self, response: BaseHTTPResponse) -> None:
        status = response.status
        if status in _RETRIED_STATUSES:
            raise _Broken(f"it gave HTTP {status}", _retry_after(response))
        if status != 200 and not (self._received.size and status in (206, 416)):
            raise DownloadFailed(f"{redact_url(self._url)} gave HTTP {status}")

    def _receive(self, response: BaseHTTPResponse) -> None:
        self._received.begin(response)
        # read1 gives what one read of the socket gave: of a slow server, too, what came is kept.
        while chunk := response.read1(CHUNK_BYTES, decode_content=True):
            self._check_stopped()
            self._received.write(chunk)
        # Where the end of the connection is the end of the file, `stop` looks like one.
        self._check_stopped()

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise Cancelled("the download was stopped")

    def _failed(self, reason: str) -> DownloadFailed:
        return DownloadFailed(f"{redact_url(self._url)} could not be fetched: {reason}")


def _redirected(parts: Url, location: str) -> str:
    """A Location as a whole URL. Headers are read as Latin-1, though many are UTF-8."""
    try:
        location = location.encode("latin-1").decode("utf-8")
        return urljoin(parts.url, location.replace(" ", "%20"))
    except ValueError:
        return location


def _strong_etag(response: BaseHTTPResponse) -> str | None:
    """What makes sure that a resumed file is still the same, byte for byte."""
    etag = response.headers.get("ETag", "")
    plain = response.headers.get("Content-Encoding", "identity") == "identity"
    return etag if plain and _STRONG_ETAG.fullmatch(etag) else None


def _retry_after(response: BaseHTTPResponse) -> float:
    """Seconds; 0 if the server does not say, or not so that it can be understood."""
    try:
        return Retry().parse_retry_after(response.headers.get("Retry-After", "0"))
    except (HTTPError, ValueError, OverflowError):
        return 0.0


def _why(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "its host name could not be resolved"
    if isinstance(error, NewConnectionError):
        return "no connection"
    if isinstance(error, TimeoutError | Urllib3Timeout):
        return "the server does not answer"
    if isinstance(error, ssl.SSLError):
        return "no secure connection"
    return "the connection broke"
