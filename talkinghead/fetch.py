"""URL -> file. The only door through which a job's inputs come in."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests
import urllib3

from talkinghead.errors import Cancelled, DownloadFailed, JobError, MediaTooLarge
from talkinghead.redact import redact_url

READ_SECONDS = 10  # longest silence of the server
CHUNK_BYTES = 1 << 16
MAX_REDIRECTS = 5


class Fetcher:
    """Downloads one file at a time, bounded in bytes and in total time.

    `local_files` admits file:// URLs: for the command line, never for a job.
    """

    def __init__(self, *, seconds: float, local_files: bool = False) -> None:
        self.local_files = local_files
        self._seconds = seconds

    def fetch(
        self,
        name: str,
        url: str,
        target: Path,
        *,
        max_mb: float,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Stream `url` to `target`. `name` is the request's field, for the message of an error.

        `check` is called while data comes; what it raises ends the download.

        Raises:
            DownloadFailed: no answer, an answer other than 200, or not in time.
            MediaTooLarge: more than `max_mb` (10^6 bytes), after decompression.
        """
        try:
            if self.local_files and url.startswith("file://"):
                shutil.copyfile(unquote(urlsplit(url).path), target)
            else:
                self._download(url, target, int(max_mb * 1e6), check)
        except Cancelled:
            raise
        except JobError as error:
            raise type(error)(f"{name}: {error}", field=name, url=redact_url(url)) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            # The library's own text may quote the URL with its query.
            reason = f"{name}: {redact_url(url)} could not be fetched: {_why(error)}"
            raise DownloadFailed(reason, field=name, url=redact_url(url)) from None

    def _download(self, url: str, target: Path, max_bytes: int, check: Callable[[], None]) -> None:
        deadline = time.monotonic() + self._seconds
        with requests.Session() as session:
            session.max_redirects = MAX_REDIRECTS
            with session.get(url, stream=True, timeout=READ_SECONDS) as response:
                if response.status_code != 200:
                    raise DownloadFailed(f"{redact_url(url)} gave HTTP {response.status_code}")
                _stream(response.raw, target, max_bytes, deadline, check)


def _stream(
    raw: urllib3.response.BaseHTTPResponse,
    target: Path,
    max_bytes: int,
    deadline: float,
    check: Callable[[], None],
) -> None:
    received = 0
    with target.open("wb") as file:
        # read1 returns what one read of the socket gave, so a slow drip meets the deadline too
        while chunk := raw.read1(CHUNK_BYTES, decode_content=True):
            check()
            received += len(chunk)
            if received > max_bytes:
                raise MediaTooLarge(f"the file is larger than {max_bytes / 1e6:g} MB")
            if time.monotonic() > deadline:
                raise DownloadFailed("the download took too long")
            file.write(chunk)


def _why(error: Exception) -> str:
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "the server does not answer"
    if isinstance(error, requests.TooManyRedirects):
        return f"more than {MAX_REDIRECTS} redirects"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
        return error.strerror or type(error).__name__
    return type(error).__name__
