"""URLs -> files. The only door through which a job's inputs come in.

The job's own thread waits here, and each file comes in a thread of its own. Those are stopped, not
waited for: a thread that waits for DNS cannot be woken, and ends by itself.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from talkinghead.errors import (
    FILE_FAULTS,
    NO_ROOM,
    DownloadFailed,
    JobError,
    MediaTooLarge,
    together,
)
from talkinghead.net.connections import trusted_authorities
from talkinghead.net.download import Download
from talkinghead.net.guard import PUBLIC_ONLY, UrlGuard
from talkinghead.net.inline import save_inline
from talkinghead.net.urls import name_on_volume
from talkinghead.redact import is_data, redact_url

POLL_SECONDS = 0.1  # how soon a cancelled job is noticed
# How much longer the others may take once a file has failed for good: enough for their own four
# attempts, so that one answer tells of all, and not for a large file that will not be used.
GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Input:
    """A file to fetch. `name` is the request's field; `max_mb` is in 10^6 bytes, unpacked.

    `url` may be a data: URI, which holds the file itself.
    """

    name: str
    url: str
    target: Path
    max_mb: float


class Fetcher:
    """Downloads a job's files, all at once, bounded in bytes and in total time.

    `seconds` is for all files together, attempts and redirects included. `local_files` admits
    file:// URLs: for the command line, never for a job. `uploads` is the folder in which files are
    that jobs call volume:NAME. One serves all jobs, from any thread.
    """

    def __init__(
        self,
        *,
        seconds: float,
        guard: UrlGuard = PUBLIC_ONLY,
        local_files: bool = False,
        uploads: Path | None = None,
    ) -> None:
        self.local_files = local_files
        self._uploads = uploads
        self._seconds = seconds
        self._guard = guard
        self._tls = trusted_authorities()

    def fetch(self, inputs: Sequence[Input], *, check: Callable[[], None] = lambda: None) -> None:
        """Fetch all of `inputs`; what is wrong with several of them is told together.

        Where one cannot be had, those that have come are left, and of the others no file.

        `check` is called while they come; what it raises ends them at once.

        Raises:
            UrlBlocked: a URL, or what it redirects to, may not be fetched.
            DownloadFailed: no answer, an answer without the file, or not in time.
            MediaInvalid: a data: URI is not base64.
            MediaTooLarge: more than `max_mb`.
            OSError: the disk is full.

        The first four say in their details which field and which URL it is, and each that failed.
        """
        deadline = time.monotonic() + self._seconds
        faults: dict[Input, JobError] = {}
        remote: list[Input] = []
        waiting: Collection[Input] = ()
        for each in inputs:
            with _noted(each, faults):
                if is_data(each.url):
                    save_inline(each.url, each.target, max_bytes=_bytes(each))
                elif self.local_files and each.url.startswith("file://"):
                    _copy(each)
                elif name := name_on_volume(each.url):
                    _copy_upload(each, self._uploads, name)
                else:
                    self._guard.check(each.url)
                    remote.append(each)
        if remote:
            waiting = self._download(remote, deadline, check, faults)
        if faults:
            for each in (*faults, *waiting):
                each.target.unlink(missing_ok=True)
            raise together([(each.name, faults[each]) for each in inputs if each in faults])

    def _download(
        self,
        inputs: Sequence[Input],
        deadline: float,
        check: Callable[[], None],
        faults: dict[Input, JobError],
    ) -> Collection[Input]:
        """Returns those that nobody waits for any more."""
        pool = ThreadPoolExecutor(len(inputs), thread_name_prefix="download")
        with contextlib.ExitStack() as stack:
            # Nobody waits for a thread that is stopped: it may be waiting for DNS.
            stack.callback(pool.shutdown, wait=False)
            running: dict[Future[None], Input] = {}
            for each in inputs:
                download = Download(
                    each.url,
                    each.target,
                    max_bytes=_bytes(each),
                    deadline=deadline,
                    guard=self._guard,
                    tls=self._tls,
                )
                stack.callback(download.stop)
                running[pool.submit(download.run)] = each
            return _wait(running, deadline, check, faults)


def _wait(
    running: Mapping[Future[None], Input],
    deadline: float,
    check: Callable[[], None],
    faults: dict[Input, JobError],
) -> Collection[Input]:
    """Return when all have come or failed, or their time is up: once one has failed, soon.

    Returns those that have done neither.
    """
    pending = set(running)
    failed_at: float | None = None
    while pending:
        now = time.monotonic()
        if failed_at is not None and now >= failed_at + GRACE_SECONDS:
            break
        timeout = max(0.0, min(deadline - now, POLL_SECONDS))
        done, pending = wait(pending, timeout=timeout, return_when=FIRST_COMPLETED)
        for future in done:
            with _noted(running[future], faults):
                future.result()
        failed_at = now if faults and failed_at is None else failed_at
        check()
        if now >= deadline:
            for future in pending:
                each = running[future]
                with _noted(each, faults):
                    raise DownloadFailed(f"{redact_url(each.url)} took too long to download")
            break
    return [running[future] for future in pending]


def _bytes(each: Input) -> int:
    return int(each.max_mb * 1e6)


def _copy(each: Input) -> None:
    path = unquote(urlsplit(each.url).path)
    try:
        shutil.copyfile(path, each.target)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        raise DownloadFailed(f"{path} could not be read: {error.strerror}") from None


def _copy_upload(each: Input, uploads: Path | None, name: str) -> None:
    """Errors do not tell the name: who knows it can have the file, and errors are logged."""
    path = None if uploads is None else uploads / name
    try:
        if path is None or path.is_symlink() or not path.is_file():
            raise DownloadFailed("the file is not on this worker's volume")
        if path.stat().st_size > _bytes(each):
            raise MediaTooLarge(f"the file is larger than {each.max_mb:g} MB")
        shutil.copyfile(path, each.target)
    except OSError as error:  # of the volume, which is a network's
        if error.errno in NO_ROOM:
            raise
        raise DownloadFailed(f"the file could not be read: {error.strerror}") from None


@contextlib.contextmanager
def _noted(each: Input, faults: dict[Input, JobError]) -> Iterator[None]:
    """Note what is wrong with the file, and that it is this one, and go on with the others."""
    try:
        yield
    except FILE_FAULTS as error:
        url = redact_url(each.url)
        faults[each] = type(error)(f"{each.name}: {error}", field=each.name, url=url)
