"""URLs -> files. The only door through which a job's inputs come in.

The job's own thread waits here, and each file comes in a thread of its own. Those are stopped, not
waited for: a thread that waits for DNS cannot be woken, and ends by itself.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from talkinghead.errors import NO_ROOM, Cancelled, DownloadFailed, JobError
from talkinghead.net.connections import trusted_authorities
from talkinghead.net.download import Download
from talkinghead.net.guard import PUBLIC_ONLY, UrlGuard
from talkinghead.redact import redact_url

POLL_SECONDS = 0.1  # how soon a cancelled job is noticed
GRACE_SECONDS = 0.2  # of failures so near to each other, the first in the request is told


@dataclass(frozen=True)
class Input:
    """A file to fetch. `name` is the request's field; `max_mb` is in 10^6 bytes, unpacked."""

    name: str
    url: str
    target: Path
    max_mb: float


class Fetcher:
    """Downloads a job's files, all at once, bounded in bytes and in total time.

    `seconds` is for all files together, attempts and redirects included. `local_files` admits
    file:// URLs: for the command line, never for a job. One serves all jobs, from any thread.
    """

    def __init__(
        self, *, seconds: float, guard: UrlGuard = PUBLIC_ONLY, local_files: bool = False
    ) -> None:
        self.local_files = local_files
        self._seconds = seconds
        self._guard = guard
        self._tls = trusted_authorities()

    def fetch(self, inputs: Sequence[Input], *, check: Callable[[], None] = lambda: None) -> None:
        """Fetch all of `inputs`, or none: the first that fails ends the others.

        `check` is called while they come; what it raises ends them, too.

        Raises:
            UrlBlocked: a URL, or what it redirects to, may not be fetched.
            DownloadFailed: no answer, an answer without the file, or not in time.
            MediaTooLarge: more than `max_mb`.
            OSError: the disk is full.

        The first three say in their details which field and which URL it is.
        """
        deadline = time.monotonic() + self._seconds
        remote = [each for each in inputs if not self._is_local(each)]
        for each in remote:
            with _blame(each):
                self._guard.check(each.url)
        for each in inputs:
            if self._is_local(each):
                with _blame(each):
                    _copy(each)
        if remote:
            self._download(remote, deadline, check)

    def _is_local(self, each: Input) -> bool:
        return self.local_files and each.url.startswith("file://")

    def _download(
        self, inputs: Sequence[Input], deadline: float, check: Callable[[], None]
    ) -> None:
        pool = ThreadPoolExecutor(len(inputs), thread_name_prefix="download")
        with contextlib.ExitStack() as stack:
            # Nobody waits for a thread that is stopped: it may be waiting for DNS.
            stack.callback(pool.shutdown, wait=False)
            running: dict[Future[None], Input] = {}
            for each in inputs:
                download = Download(
                    each.url,
                    each.target,
                    max_bytes=int(each.max_mb * 1e6),
                    deadline=deadline,
                    guard=self._guard,
                    tls=self._tls,
                )
                stack.callback(download.stop)
                running[pool.submit(download.run)] = each
            _wait(running, deadline, check)


def _wait(
    running: Mapping[Future[None], Input], deadline: float, check: Callable[[], None]
) -> None:
    """Return when all have come, or raise the first failure.

    Of those that come at about the same time it is the first in the request: the same request gets
    the same answer.
    """
    pending = set(running)
    while pending:
        left = deadline - time.monotonic()
        timeout = max(0.0, min(left, POLL_SECONDS))
        done, pending = wait(running, timeout=timeout, return_when=FIRST_EXCEPTION)
        if any(future.exception() for future in done):
            done, pending = wait(running, timeout=GRACE_SECONDS)
        for future, each in running.items():
            with _blame(each):
                if future in done:
                    future.result()
                elif left <= 0:
                    raise DownloadFailed(f"{redact_url(each.url)} took too long to download")
        check()


def _copy(each: Input) -> None:
    path = unquote(urlsplit(each.url).path)
    try:
        shutil.copyfile(path, each.target)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        raise DownloadFailed(f"{path} could not be read: {error.strerror}") from None


@contextlib.contextmanager
def _blame(each: Input) -> Iterator[None]:
    """Have an error say which field it is about. A cancelled job is about none."""
    try:
        yield
    except Cancelled:
        raise
    except JobError as error:
        url = redact_url(each.url)
        raise type(error)(f"{each.name}: {error}", field=each.name, url=url) from None
