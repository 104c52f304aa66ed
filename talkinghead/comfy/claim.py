"""Whose a folder of a ComfyUI is: workers of several containers may share a WORK_DIR.

A worker holds a lock on its folder for as long as it lives, however it ends; a folder that nobody
holds is left over. The folder's name begins with that of the kernel's boot: of a lock on a shared
volume, no more is certain than that it holds among the processes of one kernel. What a worker of
another machine has left is known by its heartbeat, a file that a worker touches every hour: if that
is days old, by the volume's own clock, nobody lives there. Without the file, nothing is known.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import threading
import time
from pathlib import Path

# The name is known beforehand, and start.sh follows the log there.
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PROCESS_IDS = Path("/proc/self/ns/pid")  # within which an id is one process: a container's own
HEARTBEAT = "heartbeat"
BEAT_SECONDS = 3600.0
DEAD_SECONDS = 7 * 24 * BEAT_SECONDS  # a machine that slept over a weekend lives
SWEEP_SECONDS = 5.0  # at most: another worker takes a left over folder of our name for one
_number = itertools.count(1)


def new_name() -> str:
    """A folder's name that no other worker has; each call in one process gives another."""
    number = next(_number)
    with contextlib.suppress(OSError):
        ids = "".join(filter(str.isdigit, str(PROCESS_IDS.readlink())))
        name = f"{_prefix()}{ids}-{os.getpid()}"
        return name if number == 1 else f"{name}-{number}"
    return f"comfyui-{os.getpid()}-{number}"


class Hold:
    """A folder that is made, and held until `release`, or until this process ends."""

    def __init__(self, folder: Path) -> None:
        self._released = threading.Event()
        self._descriptor = _locked(folder)
        _touch(folder)
        threading.Thread(target=self._beat, args=(folder,), daemon=True).start()

    def release(self) -> None:
        """Let others have it, or sweep it."""
        self._released.set()
        os.close(self._descriptor)

    def _beat(self, folder: Path) -> None:
        while not self._released.wait(BEAT_SECONDS):
            _touch(folder)


def _touch(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it is gone, or the volume is away: then until the next
        (folder / HEARTBEAT).touch()


def _locked(folder: Path) -> int:
    """The folder, made; a descriptor that holds it for as long as it is open."""
    end = time.monotonic() + SWEEP_SECONDS
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        if not _is_busy(descriptor) and _is_still(folder, descriptor):
            return descriptor
        if time.monotonic() > end:
            return descriptor
        os.close(descriptor)
        time.sleep(0.01)


def sweep(parent: Path) -> None:
    """Delete what workers of this machine that were killed have left in `parent`."""
    with contextlib.suppress(OSError):
        for folder in parent.glob(f"{_prefix()}*"):
            delete_unless_held(folder)


def sweep_dead(own: Path) -> None:
    """Delete what workers of other machines have left beside our `own` folder, which we hold."""
    with contextlib.suppress(OSError):
        now = (own / HEARTBEAT).stat().st_mtime
        for beat in own.parent.glob(f"comfyui-*/{HEARTBEAT}"):
            if now - beat.stat().st_mtime > DEAD_SECONDS:
                delete_unless_held(beat.parent, needs_lock=False)


def delete_unless_held(folder: Path, *, needs_lock: bool = True) -> None:
    """Delete it if nobody holds it; where there are no locks, only if it does not need one."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            needs_lock = True
        except OSError:
            pass
        else:
            needs_lock = False
        try:
            if not needs_lock:
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def _is_busy(descriptor: int) -> bool:
    """Whether another worker holds what is open there; if not, we do from now on."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # not every file system has locks: then nobody sweeps it either
        return False
    return False


def _is_still(folder: Path, descriptor: int) -> bool:
    """Whether the folder is the one that was opened, and not swept since."""
    with contextlib.suppress(OSError):
        return folder.stat().st_ino == os.fstat(descriptor).st_ino
    return False


def _prefix() -> str:
    boot, _, _ = BOOT_ID.read_text().partition("-")
    return f"comfyui-{boot}-"
