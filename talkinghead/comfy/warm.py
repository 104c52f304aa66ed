"""A ComfyUI that runs already, on this machine and for this person: said so in a file, and found.

Who keeps one holds a lock on the file for as long as it lives, however it ends. Which file it is
follows from what the ComfyUI was started with: its folder, Python, arguments and node packs as they
were. So one that is found has what a new one would have; one whose packs were changed since is not.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from comfy_client import ComfyClient, ComfyError
from talkinghead import __version__
from talkinghead.comfy.folders import Folders
from talkinghead.files import hash_of
from talkinghead.settings import Settings

ANSWER_SECONDS = 5.0
TRIES, PAUSE_SECONDS = 5, 0.1


@dataclass(frozen=True)
class Warm:
    """A ComfyUI that runs: where it answers, and the folder whose `input` and `output` it uses."""

    url: str
    folder: Path


@contextlib.contextmanager
def told(settings: Settings, warm: Warm) -> Iterator[None]:
    """Have others find this ComfyUI, until the end of the block, or of this process."""
    path = _path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _held(path)
    if file is None:  # there is one already, or there are no locks: then nobody finds ours
        yield
        return
    with file:
        file.truncate()
        json.dump({"url": warm.url, "folder": str(warm.folder)}, file)
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _held(path: Path) -> TextIO | None:
    """The file, locked; None if another holds it, and not only while it looks."""
    for _ in range(TRIES):
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+")
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:  # not of one that just ended
                return file
        file.close()
        time.sleep(PAUSE_SECONDS)
    return None


def find(settings: Settings) -> Warm | None:
    """The one that runs, answers, and says itself that it is the one; None if there is none."""
    warm = _read(_path(settings))
    if warm is None:
        return None
    with contextlib.suppress(ComfyError):
        client = ComfyClient(warm.url, http_seconds=ANSWER_SECONDS, unreachable_seconds=0)
        words = client.system_stats().get("system", {}).get("argv", [])
        if str(warm.folder) in " ".join(map(str, words)):
            return warm
    return None


def joined(settings: Settings) -> tuple[Settings, Folders | None]:
    """The settings with the ComfyUI that runs already, and its folders; else as they are, and none.

    One that the settings name goes before it.
    """
    return join(settings, None if settings.comfyui_url else find(settings))


def join(settings: Settings, found: Warm | None) -> tuple[Settings, Folders | None]:
    """As `joined`, with the one that was found."""
    if found is None:
        return settings, None
    return settings.model_copy(update={"comfyui_url": found.url}), Folders(found.folder)


def _read(path: Path) -> Warm | None:
    """What the file says, if it is ours and somebody holds it."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor) as file:
            if os.fstat(descriptor).st_uid != os.getuid():  # it would get our pictures
                return None
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                said = json.load(file)
                return Warm(said["url"], Path(said["folder"]))
    return None


def _path(settings: Settings) -> Path:
    comfy_dir = settings.comfyui_dir.absolute()
    packs = [comfy_dir / "custom_nodes", *settings.node_dirs]
    sources = sorted({path for pack in packs for path in pack.glob("**/*.py")})
    recipe = {
        "version": __version__,
        "folder": str(comfy_dir),
        "python": str(settings.comfyui_python),
        "arguments": settings.comfyui_args,
        "cpu": settings.on_cpu,
        "dynamic_vram": settings.dynamic_vram,
        "profile": settings.model_profile,
        "packs": [(str(path), path.stat().st_mtime_ns) for path in sources],
    }
    return settings.work_dir.absolute() / f"warm-{hash_of(recipe)[:16]}.json"
