"""Model files on this host: where they are, whether they are whole, and fetching the rest.

A file is used where it lies, be it in a folder like ComfyUI's models/ or in a cache of the hub.
What is missing is fetched into one folder, which workers may share: a lock for each file, a partial
file that the next attempt goes on with, and a rename once size and sum are right.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError

from talkinghead.errors import ModelsMissing
from talkinghead.models.manifest import ModelFile, Profile, load_manifest
from talkinghead.settings import Settings

log = logging.getLogger("talkinghead")

PARALLEL = 4  # files at a time
LOCK_SECONDS = 3600.0  # as long as another worker may take for one file
SHA256_DIGITS = 64  # the hub's ETag of a large file is its sha256, of a small one a shorter sum
BAD_SUFFIX = ".bad"  # ComfyUI lists only files that end like models
# A cache of the hub on the network volume, which RunPod fills before it starts a worker.
VOLUME_CACHE = Path("huggingface-cache", "hub")
# Folders that ComfyUI also reads under another name.
ALIASES = {"diffusion_models": ("unet",), "text_encoders": ("clip",)}

Files = Mapping[str, ModelFile]  # name -> where it comes from


@dataclass(frozen=True)
class HubFile:
    """What the hub says of a file; `sha256` is None for small files, which it sums otherwise."""

    bytes: int
    sha256: str | None
    revision: str


class ModelStore:
    """`folder` is where files are fetched to; `folders` and `caches` are only looked into.

    Of `folders`, `scanned` are those that ComfyUI reads by itself.
    """

    def __init__(self, settings: Settings) -> None:
        own, volume = settings.comfyui_dir.absolute() / "models", settings.volume_dir
        extra = [Path(part) for part in settings.extra_model_dirs.split(":") if part]
        self.folder = settings.fetched_models_dir
        self.scanned = (self.folder, own)
        self.folders = tuple(dict.fromkeys([self.folder, own, volume / "models", *extra]))
        self.caches = (volume / VOLUME_CACHE, Path(constants.HF_HUB_CACHE))
        self._private = self.folder / ".talkinghead"

    # ---- Looking

    def find(self, name: str, file: ModelFile) -> Path | None:
        """A place where the file lies whole, if there is one."""
        places = self.candidates(name, file)
        return next((path for path in places if self.problem(path, file) is None), None)

    def candidates(self, name: str, file: ModelFile) -> Iterator[Path]:
        """Every place where a file of this name lies, whole or not."""
        for root in self.folders:
            for folder in (file.folder, *ALIASES.get(file.folder, ())):
                if (path := root / folder / name).is_file():
                    yield path
        if file.repo is not None and file.path is not None:
            for cache in self.caches:
                snapshots = cache / f"models--{file.repo.replace('/', '--')}" / "snapshots"
                found = [path for path in snapshots.glob(f"*/{file.path}") if path.is_file()]
                yield from sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)

    def problem(self, path: Path, file: ModelFile, *, fresh: bool = False) -> str | None:
        """Why the file cannot be used, if so. Where the manifest has no sum, its download's counts.

        The sum of a file whose size and time did not change is remembered; `fresh` takes it anew.
        """
        size = path.stat().st_size
        if size == 0 or (file.bytes is not None and size != file.bytes):
            return f"has {size} bytes, expected: {file.bytes or 'some'}"
        known, known_stamp = self._remembered(path)
        expected, stamp = file.sha256 or known, _stamp(path)
        if expected is None or (not fresh and (known, known_stamp) == (expected, stamp)):
            return None
        found = sha256_of(path)
        if found != expected:
            return f"has the sum {found}, expected: {expected}"
        self._remember(path, stamp, found)
        return None

    def _note(self, path: Path) -> Path:
        key = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]
        return self._private / "sums" / f"{key}.json"

    def _remembered(self, path: Path) -> tuple[str, list[int]] | tuple[None, None]:
        """The sum that was right, and the stamp of the file then."""
        try:
            note = json.loads(self._note(path).read_text(encoding="utf-8"))
            return str(note["sha256"]), list(note["stamp"])
        except (OSError, ValueError, KeyError, TypeError):
            return None, None

    def _remember(self, path: Path, stamp: list[int], found: str) -> None:
        note = self._note(path)
        partial = note.with_suffix(f".{os.getpid()}")
        content = {"path": str(path), "stamp": stamp, "sha256": found}
        with contextlib.suppress(OSError):  # a folder that is only read: it is summed again
            note.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(content), encoding="utf-8")
            partial.replace(note)

    # ---- Setting aside

    def set_bad_aside(self, files: Files) -> None:
        """Rename damaged files where ComfyUI would see them.

        Raises:
            ModelsMissing: one cannot be renamed.
        """
        for name, file in files.items():
            for path in self.candidates(name, file):
                if problem := self.problem(path, file):
                    log.warning("%s %s: not used", path, problem)
                    if any(path.is_relative_to(folder) for folder in self.scanned):
                        self._set_aside(path, problem)

    def _set_aside(self, path: Path, problem: str) -> None:
        try:
            path.replace(path.with_name(path.name + BAD_SUFFIX))
            self._note(path).unlink(missing_ok=True)
        except FileNotFoundError:  # another worker was quicker
            return
        except OSError as error:
            raise ModelsMissing(
                f"{path} {problem}, and cannot be renamed ({error.strerror}): delete it"
            ) from None

    # ---- Fetching

    def fetch(self, files: Files, tell: Callable[[str], None] = log.info) -> dict[str, Path]:
        """Every file, found or fetched, whole.

        Raises:
            ModelsMissing: the hub does not have a file or has another, the disk is too small, or
                what arrives is damaged twice. All is said of that before the first byte.
        """
        self.set_bad_aside(files)
        places = {name: self.find(name, file) for name, file in files.items()}
        missing = {name: files[name] for name, path in places.items() if path is None}
        found = {name: path for name, path in places.items() if path is not None}
        if not missing:
            return found
        with ThreadPoolExecutor(PARALLEL) as pool:
            hub = dict(zip(missing, pool.map(_ask_hub, missing, missing.values()), strict=True))
            self._check_space(hub)
            fetched = pool.map(lambda name: self._fetch(name, missing[name], hub[name], tell), hub)
            found |= dict(zip(hub, fetched, strict=True))
        return {name: found[name] for name in files}

    def _check_space(self, hub: Mapping[str, HubFile]) -> None:
        try:
            self._private.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise ModelsMissing(
                f"{self.folder} cannot be written ({error.strerror}): set MODELS_DIR"
            ) from None
        parts = (part for name in hub for part in self._incoming(name).rglob("*.incomplete"))
        there = sum(part.stat().st_size for part in parts)
        needed = sum(each.bytes for each in hub.values()) - there
        if needed > free:
            raise ModelsMissing(
                f"{self.folder} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} GB are to be "
                f"fetched ({', '.join(hub)}): make room, or set MODELS_DIR"
            )

    def _fetch(self, name: str, file: ModelFile, hub: HubFile, tell: Callable[[str], None]) -> Path:
        lock = FileLock(self._private / f"{name}.lock", timeout=LOCK_SECONDS)
        try:
            with lock:
                if path := self.find(name, file):  # another worker fetched it meanwhile
                    return path
                tell(f"fetching {name}, {hub.bytes / 1e9:.2f} GB, from {file.repo}")
                staged = self._download(name, file, hub)
                return self._take(staged, self.folder / file.folder / name)
        except Timeout:
            raise ModelsMissing(
                f"{name}: another process holds {lock.lock_file} for over {LOCK_SECONDS:g} s"
            ) from None

    def _download(self, name: str, file: ModelFile, hub: HubFile) -> Path:
        """The file, whole, in a folder of its own; a damaged one is fetched once more."""
        folder, problem = self._incoming(name), ""
        for again in (False, True):  # again: also not from the hub's cache, which may be damaged
            staged = _hub_download(name, file, hub, folder, force=again)
            found = sha256_of(staged)
            expected = file.sha256 or hub.sha256 or found
            if found == expected:
                # It is renamed next, which changes neither its size nor its time.
                self._remember(self.folder / file.folder / name, _stamp(staged), found)
                return staged
            problem = f"has the sum {found}, expected: {expected}"
            log.warning("%s %s", name, problem)
            shutil.rmtree(folder)
        raise ModelsMissing(f"{name} from {file.repo} {problem}, twice")

    def _incoming(self, name: str) -> Path:
        return self._private / "incoming" / name

    def _take(self, staged: Path, target: Path) -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        staged.replace(target)
        shutil.rmtree(self._incoming(target.name), ignore_errors=True)
        return target


def _ask_hub(name: str, file: ModelFile) -> HubFile:
    """Size and sum at the hub, which must be those of the manifest.

    Raises:
        ModelsMissing: the hub does not have the file, or has another, or does not answer.
    """
    if file.repo is None or file.path is None:
        raise ModelsMissing(f"{name} is nowhere to be fetched: scripts/make-tiny-models makes it")
    url = hf_hub_url(file.repo, file.path, revision=file.revision, endpoint=_endpoint())
    try:
        seen = get_hf_file_metadata(url, token=_token())
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise _failure(name, file, error) from None
    sha256 = seen.etag if seen.etag and len(seen.etag) == SHA256_DIGITS else None
    hub = HubFile(seen.size or 0, sha256, seen.commit_hash or file.revision)
    for what, ours, theirs in (
        ("bytes", file.bytes, hub.bytes),
        ("sha256", file.sha256, hub.sha256),
    ):
        if ours is not None and theirs is not None and ours != theirs:
            raise ModelsMissing(
                f"{name}: {what} is {theirs} at {file.repo}, revision {file.revision}, and {ours} "
                "in the manifest"
            )
    return hub


def _hub_download(name: str, file: ModelFile, hub: HubFile, folder: Path, *, force: bool) -> Path:
    try:
        path = hf_hub_download(
            str(file.repo),
            str(file.path),
            revision=hub.revision,
            local_dir=folder,
            force_download=force,
            endpoint=_endpoint(),
            token=_token(),
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise _failure(name, file, error) from None
    return Path(path)


def _endpoint() -> str | None:
    """The hub, or a mirror of it."""
    return os.environ.get("HF_ENDPOINT") or None


def _token() -> str | bool:
    """From the environment alone, not one that lies in a home folder."""
    return os.environ.get("HF_TOKEN") or False


def _failure(name: str, file: ModelFile, error: Exception) -> ModelsMissing:
    """Without the error's own text, which may hold a signed URL."""
    response = getattr(error, "response", None)
    status = f"HTTP {response.status_code}" if response is not None else type(error).__name__
    reason = getattr(error, "strerror", None)
    hint = ": is HF_TOKEN set?" if status in ("HTTP 401", "HTTP 403") else ""
    return ModelsMissing(
        f"{name} cannot be fetched from {file.repo}, revision {file.revision}: "
        f"{reason or status}{hint}"
    )


def _stamp(path: Path) -> list[int]:
    """Size and time: a file with the same is not summed again."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def sha256_of(path: Path) -> str:
    """The sha256 of the file's content, read piece by piece."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


# ---- What ComfyUI is told


def found_models(settings: Settings, profile: Profile) -> dict[str, Path]:
    """The profile's files that are there and whole, as "folder/name" -> path.

    With FETCH_MODELS the others are fetched first.

    Raises:
        ModelsMissing: a damaged file lies where ComfyUI would load it, and cannot be renamed; or
            one cannot be fetched.
    """
    store, files = ModelStore(settings), load_manifest().files_of(profile)
    if settings.fetch_models:
        store.fetch(files)
    store.set_bad_aside(files)
    places = {f"{file.folder}/{name}": store.find(name, file) for name, file in files.items()}
    return {name: path for name, path in places.items() if path is not None}
