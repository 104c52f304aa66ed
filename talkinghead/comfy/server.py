"""Our ComfyUI: start, wait until it answers, start again, end."""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from comfy_client import ComfyClient, ComfyError
from talkinghead.comfy.claim import new_name
from talkinghead.comfy.folders import Folders, command_line
from talkinghead.comfy.options import memory_options
from talkinghead.comfy.process import ComfyProcess, compile_caches, unavailable
from talkinghead.errors import ComfyUIUnavailable
from talkinghead.memory import GIB, ram_gib
from talkinghead.settings import Settings

log = logging.getLogger("talkinghead")

# Of one that has answered, when it is needed: a host may be busy for a minute, and a new process
# would read the models for as long. A start, of a process or of a render, has limits of its own.
UNRESPONSIVE_SECONDS = 75
MAX_MEMORY_SHARE = 0.9  # of the host or its container: above, the kernel is near to ending it
READY_POLL_SECONDS = 0.1


class ComfyServer:
    """One ComfyUI as a child process on 127.0.0.1 and a free port, in folders of its own.

    `process` is all its state: None before the first start and when we stopped it, else one that
    lives or has died by itself. Each start makes another: what was read from a ComfyUI, such as
    its node schemas, holds as long as `process` stays the same.

    One thread at a time starts it or waits for it: that which has the `Studio`'s lock. `stop` may
    come from any thread at any moment, as when the worker ends; a start waits until it is done.
    """

    def __init__(
        self,
        comfy_dir: Path,
        work_dir: Path,
        *,
        python: Path = Path(sys.executable),
        cpu: bool = False,
        node_dirs: Sequence[Path] = (),
        args: Sequence[str] = (),
        start_seconds: float = 300,
        max_memory_mb: float = math.inf,
        compiled_dir: Path | None = None,
    ) -> None:
        self.folders = Folders(work_dir)
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: ComfyProcess | None = None
        self._comfy_dir = comfy_dir
        self._python = python
        self._args = [*args, "--cpu"] if cpu else list(args)
        self._node_dirs = node_dirs
        self._start_seconds = start_seconds
        self._max_memory_mb = max_memory_mb
        self._compiled_dir = compiled_dir
        self._models: Mapping[str, Path] = {}
        self._changing = threading.RLock()  # held while a process is started or ended
        self._ended = False

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The server that the environment describes; each has folders of its own."""
        comfy_dir, args = settings.comfyui_dir.absolute(), shlex.split(settings.comfyui_args)
        memory = memory_options(comfy_dir, args, dynamic_vram=settings.dynamic_vram)
        return cls(
            comfy_dir,
            settings.work_dir.absolute() / new_name(),
            python=settings.comfyui_python or Path(sys.executable),
            cpu=settings.on_cpu,
            node_dirs=settings.node_dirs,
            args=[*memory, *args],
            start_seconds=settings.comfyui_start_seconds,
            max_memory_mb=_max_memory_mb(settings),
            # Whether it will compile is not known yet: a choice that a bench saved is read later.
            compiled_dir=settings.kept_dir / "compiled",
        )

    def use_models(self, models: Mapping[str, Path]) -> None:
        """Have ComfyUI find these files, by folder/name: now, and when it is started again."""
        self._models = models
        self.folders.link(models)

    def start(self) -> None:
        """Start a process, which is not ready yet; one that there is ends before.

        Raises:
            ComfyUIUnavailable: if there is no ComfyUI in `comfy_dir`, or it was stopped for good.
        """
        with self._changing:
            self.stop()
            self._start()

    def _start(self) -> None:
        if self._ended:
            raise ComfyUIUnavailable("the worker is ending")
        if not (self._comfy_dir / "main.py").is_file():
            raise ComfyUIUnavailable(
                f"there is no ComfyUI in {self._comfy_dir}: run scripts/install-comfyui, or set "
                "COMFYUI_DIR or COMFYUI_URL"
            )
        self.folders.make(self._models, self._node_dirs)
        caches = compile_caches(self._compiled_dir) if self._compiled_dir else {}
        self.process = ComfyProcess(self._command(), self._comfy_dir, self.folders.log, caches)
        atexit.register(self.stop)

    def stop(self, *, for_good: bool = False) -> None:
        """End ComfyUI, in `STOP_SECONDS` at most, and delete its folders.

        After one `for_good` nothing starts it again.
        """
        self._ended = self._ended or for_good
        with self._changing:
            atexit.unregister(self.stop)
            process, self.process = self.process, None
            if process is not None:
                process.end()
                self.folders.delete()

    def is_running(self) -> bool:
        """Whether the process lives; it may not answer yet."""
        process = self.process
        return process is not None and process.is_alive()

    def has_died(self) -> bool:
        """Whether the process ended by itself: nobody stopped it."""
        process = self.process
        return process is not None and not process.is_alive()

    def check(self) -> ComfyProcess:
        """The process, which lives.

        Raises:
            ComfyUIUnavailable: it is dead; with the last lines of its log.
        """
        process = self.process
        if process is None:
            raise ComfyUIUnavailable("ComfyUI has not been started")
        if (how := process.how_it_ended()) is not None:
            raise unavailable(f"ComfyUI ended {how}", self.folders.log)
        return process

    def ensure_ready(self, check: Callable[[], None] = lambda: None) -> None:
        """Return when ComfyUI answers. `check` is called while waiting, and may raise.

        One that does not run, or that answered before and is silent now, is started again.

        Raises:
            ComfyUIUnavailable: if it dies while it starts, or takes longer than the settings allow,
                with the last lines of its log; if it may not hold what it needs to be there.
        """

        def look() -> None:
            self.check()
            check()

        process = self.process
        if process is None or not process.is_alive():
            self.start()
        elif process.has_answered:
            with contextlib.suppress(ComfyUIUnavailable):  # it dies, or is stopped, as we ask
                if _answers_within(UNRESPONSIVE_SECONDS, self.url, look):
                    return
            if self.process is not None:  # not stopped by us meanwhile: the worker may be ending
                log.warning("ComfyUI has died, or not answered for %g s", UNRESPONSIVE_SECONDS)
                self.start()
        if not _answers_within(self._start_seconds, self.url, look):
            what = f"ComfyUI did not answer within {self._start_seconds:g} s of its start"
            raise unavailable(what, self.folders.log)
        self.check().has_answered = True
        self._check_limit()

    def memory_mb(self) -> float:
        """What ComfyUI and its children hold in RAM, MB; 0 if there is none."""
        process = self.process
        return 0 if process is None else process.memory_mb()

    def is_bloated(self) -> bool:
        """Whether it holds more memory than it may."""
        return self.memory_mb() > self._max_memory_mb

    def _check_limit(self) -> None:
        """Refuse a limit that a ComfyUI which has done nothing yet is above: none would render."""
        used, allowed = self.memory_mb(), self._max_memory_mb
        if used > allowed:
            raise ComfyUIUnavailable(
                f"ComfyUI holds {used:.0f} MB before its first prompt, allowed: {allowed:.0f} MB: "
                "raise COMFYUI_MAX_MEMORY_GB, or give the worker more memory"
            )

    def recycle(self) -> None:
        """End a ComfyUI that holds too much memory; the next job starts another."""
        used, allowed = self.memory_mb(), self._max_memory_mb
        if used > allowed:
            log.warning("ComfyUI holds %.0f MB, allowed: %.0f MB; ended", used, allowed)
            self.stop()

    def _command(self) -> list[str]:
        return command_line(self._python, self.folders, self.port, self._args)


def _answers_within(seconds: float, url: str, check: Callable[[], None]) -> bool:
    """Whether the ComfyUI there answers in that time. `check` ends the wait by raising."""
    client = ComfyClient(url)
    deadline = time.monotonic() + seconds
    while True:
        check()
        with contextlib.suppress(ComfyError):
            client.system_stats()
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(READY_POLL_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _max_memory_mb(settings: Settings) -> float:
    """The limit of the settings, or a share of what the container or the host has."""
    if settings.comfyui_max_memory_gb is not None:
        return settings.comfyui_max_memory_gb * 1000
    return ram_gib() * GIB / 1e6 * MAX_MEMORY_SHARE
