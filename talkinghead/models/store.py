"""Model files on this host: where they are, and whether they are whole.

A file is used where it lies, be it in a folder like ComfyUI's models/ or in a cache of the hub.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from huggingface_hub import constants

from talkinghead.errors import ModelsMissing
from talkinghead.files import sha256_of
from talkinghead.models.manifest import ModelFile
from talkinghead.models.sums import KnownSums, Sum, stamp_of
from talkinghead.settings import Settings

log = logging.getLogger("talkinghead")

BAD_SUFFIX = ".bad"  # ComfyUI lists only files that end like models
# A cache of the hub on the network volume, which RunPod fills before it starts a worker.
VOLUME_CACHE = Path("huggingface-cache", "hub")
# Folders that ComfyUI also reads under another name.
ALIASES = {"diffusion_models": ("unet",), "text_encoders": ("clip",)}

Files = Mapping[str, ModelFile]  # name -> where it comes from


class ModelStore:
    """The places where model files may lie, and which files in them can be used.

    `folder` is where files are fetched to; `folders`, that one among them, and `caches` are looked
    into. Of `folders`, `scanned` are those that ComfyUI reads by itself. `private` is for what is
    ours beside the fetched files: `sums` of all files, locks, and parts that still come.
    """

    def __init__(self, settings: Settings) -> None:
        own, volume = settings.comfyui_dir.absolute() / "models", settings.volume_dir
        extra = [Path(part) for part in settings.extra_model_dirs.split(":") if part]
        self.folder = settings.fetched_models_dir
        self.scanned = (self.folder, own)
        self.folders = tuple(dict.fromkeys([self.folder, own, volume / "models", *extra]))
        self.caches = (volume / VOLUME_CACHE, Path(constants.HF_HUB_CACHE))
        self.private = settings.kept_dir
        self.sums = KnownSums(self.private / "sums", self.folder)

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
        # In the hub's caches: of the file's own repository, or of what `models gather` laid out.
        gathered = f"models--*/snapshots/*/{file.folder}/{name}"
        own = f"models--{(file.repo or '').replace('/', '--')}/snapshots/*/{file.path}"
        for cache in self.caches:
            for pattern in (own, gathered) if file.repo else (gathered,):
                found = [path for path in cache.glob(pattern) if path.is_file()]
                yield from sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)

    def problem(self, path: Path, file: ModelFile, *, fresh: bool = False) -> str | None:
        """Why the file cannot be used, if so. Where the manifest has no sum, its download's counts.

        The sum of a file whose size and time did not change is remembered; `fresh` takes it anew.
        """
        size = path.stat().st_size
        if size == 0 or (file.bytes is not None and size != file.bytes):
            return f"has {size} bytes, expected: {file.bytes or 'some'}"
        known = self.sums.known(path)
        expected = file.sha256 or (known and known.sha256)
        if expected is None:
            return None
        # The stamp is taken before the file is read: one that changes meanwhile is summed again.
        right = Sum(expected, stamp_of(path))
        if known == right and not fresh:
            return None
        found = sha256_of(path)
        if found != expected:
            return f"has the sum {found}, expected: {expected}"
        self.sums.remember(path, right)
        return None

    def set_bad_aside(self, files: Files) -> None:
        """Rename damaged files where ComfyUI would see them: it loads any that is in its folders.

        Those that lie elsewhere are only not used. Each is written into the log.

        Raises:
            ModelsMissing: one cannot be renamed.
        """
        for name, file in files.items():
            for path in self.candidates(name, file):
                seen = stamp_of(path)
                if problem := self.problem(path, file):
                    log.warning("%s %s: not used", path, problem)
                    if any(path.is_relative_to(folder) for folder in self.scanned):
                        self._set_aside(path, problem, seen)

    def _set_aside(self, path: Path, problem: str, seen: list[int]) -> None:
        try:
            if stamp_of(path) == seen:  # else another worker has fetched it while it was summed
                path.replace(path.with_name(path.name + BAD_SUFFIX))
                self.sums.forget(path)
        except FileNotFoundError:  # another worker was quicker
            return
        except OSError as error:
            raise ModelsMissing(
                f"{path} {problem}, and cannot be renamed ({error.strerror}): delete it"
            ) from None
