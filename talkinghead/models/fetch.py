"""Fetching the model files that are not on this host; which there are for ComfyUI then.

What is missing is fetched into one folder, which workers may share: a lock for each file, a partial
file that the next attempt goes on with, and a rename once size and sum are right.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.pool import ThreadPool
from pathlib import Path

from filelock import FileLock, Timeout

from talkinghead.errors import ModelsMissing
from talkinghead.files import sha256_of
from talkinghead.models.hub import HubFile, ask_hub, download
from talkinghead.models.manifest import ModelFile, ModelProfile, load_manifest
from talkinghead.models.store import Files, ModelStore
from talkinghead.models.sums import Sum, stamp_of
from talkinghead.settings import Settings

log = logging.getLogger("talkinghead")

PARALLEL = 4  # files at a time
LOCK_SECONDS = 3600.0  # as long as another worker may take for one file


class ModelFetcher:
    """Fetches what a store lacks into its folder.

    Files come side by side, each in a thread; `tell` is called with a sentence as each begins, from
    that thread.
    """

    def __init__(self, store: ModelStore, tell: Callable[[str], None] = log.info) -> None:
        self._store = store
        self._tell = tell

    def fetch(self, files: Files) -> dict[str, Path]:
        """Every file, found or fetched, whole.

        Raises:
            ModelsMissing: the hub does not have a file or has another, or the disk is too small,
                which is said before the first byte of any is fetched; or a file arrives damaged
                twice.
        """
        self._store.set_bad_aside(files)
        places = {name: self._store.find(name, file) for name, file in files.items()}
        missing = {name: files[name] for name, path in places.items() if path is None}
        found = {name: path for name, path in places.items() if path is not None}
        if not missing:
            return found
        # Its threads keep no process that ends: neither a worker's SIGTERM nor the failure of one
        # file waits until the others have come.
        with ThreadPool(PARALLEL) as pool:
            seen = pool.imap(lambda name: ask_hub(name, missing[name]), missing)
            hub = dict(zip(missing, seen, strict=True))
            self._check_space(hub)
            fetched = pool.imap(lambda name: self._fetch(name, missing[name], hub[name]), hub)
            found |= dict(zip(hub, fetched, strict=True))
        return {name: found[name] for name in files}

    def _check_space(self, hub: Mapping[str, HubFile]) -> None:
        folder = self._store.folder
        try:
            self._store.private.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self._store.private).close()
            free = shutil.disk_usage(folder).free
        except OSError as error:
            raise ModelsMissing(
                f"{folder} cannot be written ({error.strerror}): set MODELS_DIR"
            ) from None
        needed = sum(each.bytes for each in hub.values()) - sum(map(self._bytes_there, hub))
        if needed > free:
            raise ModelsMissing(
                f"{folder} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} GB are to be "
                f"fetched ({', '.join(hub)}): make room, or set MODELS_DIR"
            )

    def _bytes_there(self, name: str) -> int:
        """Of a file that is being fetched or summed; 0 where another worker is done with it."""
        with contextlib.suppress(FileNotFoundError):
            parts = self._incoming(name).rglob("*")
            return sum(part.stat().st_size for part in parts if part.is_file())
        return 0

    def _fetch(self, name: str, file: ModelFile, hub: HubFile) -> Path:
        """Fetch one file, or take it from the worker that fetches the same and holds the lock."""
        lock = FileLock(self._store.private / f"{name}.lock", timeout=LOCK_SECONDS)
        if lock_is_held(lock):
            self._tell(f"waiting for {name}: another worker fetches it")
        try:
            with lock:
                if path := self._store.find(name, file):  # another worker fetched it meanwhile
                    return path
                self._tell(f"fetching {name}, {hub.bytes / 1e9:.2f} GB, from {file.repo}")
                return self._download(name, file, hub)
        except Timeout:
            raise ModelsMissing(
                f"{name}: another process holds {lock.lock_file} for over {LOCK_SECONDS:g} s"
            ) from None

    def _download(self, name: str, file: ModelFile, hub: HubFile) -> Path:
        """Download into a folder of its own, and rename; what is damaged is fetched once more."""
        folder, target = self._incoming(name), self._store.folder / file.folder / name
        problem = ""
        for again in (False, True):  # again: also not from the hub's cache, which may be damaged
            staged = download(name, file, hub, folder, afresh=again)
            found = sha256_of(staged)
            expected = file.sha256 or hub.sha256 or found
            if found == expected:
                # A layer of an image keeps whole seconds: by others the file would be another.
                seconds = int(staged.stat().st_mtime)
                os.utime(staged, (seconds, seconds))
                # Noted before the rename, which changes neither size nor time: where the manifest
                # has no sum, a file without a note would be taken for whole at any content.
                self._store.sums.remember(target, Sum(found, stamp_of(staged)))
                target.parent.mkdir(parents=True, exist_ok=True)
                staged.replace(target)
                shutil.rmtree(folder, ignore_errors=True)
                return target
            problem = f"has the sum {found}, expected: {expected}"
            log.warning("%s %s", name, problem)
            shutil.rmtree(folder)
        raise ModelsMissing(f"{name} from {file.repo} {problem}, twice")

    def _incoming(self, name: str) -> Path:
        return self._store.private / "incoming" / name


def lock_is_held(lock: FileLock) -> bool:
    """Whether another process has it at this moment."""
    with contextlib.suppress(Timeout), lock.acquire(timeout=0):
        return False
    return True


def found_models(settings: Settings, profile: ModelProfile) -> dict[str, Path]:
    """The profile's files that are there and whole, as "folder/name" -> path.

    With FETCH_MODELS the others are fetched first.

    Raises:
        ModelsMissing: a damaged file lies where ComfyUI would load it, and cannot be renamed; or
            one cannot be fetched.
    """
    store, files = ModelStore(settings), load_manifest().files_of(profile)
    if settings.fetch_models:
        ModelFetcher(store).fetch(files)
    store.set_bad_aside(files)
    places = {f"{file.folder}/{name}": store.find(name, file) for name, file in files.items()}
    return {name: path for name, path in places.items() if path is not None}
