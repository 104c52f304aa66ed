"""The ComfyUI process: start, ready, watch, end."""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from comfy_client import ComfyClient, ComfyError
from talkinghead.errors import ComfyUIUnavailable
from talkinghead.memory import GIB, ram_gib
from talkinghead.models.links import link_models, write_paths
from talkinghead.settings import Settings

log = logging.getLogger("talkinghead")

STOP_SECONDS = 8  # RunPod kills a worker about 10 s after its SIGTERM
# Between two jobs there is little to keep it from answering: loaders that are still at work take
# Python's lock for a second or two. A start, of a process or of a render, has limits of its own.
UNRESPONSIVE_SECONDS = 10
MAX_MEMORY_SHARE = 0.9  # of the host or its container: above, the kernel is near to ending it
LOG_TAIL_LINES = 15
LOG_TAIL_BYTES = 8192
READY_POLL_SECONDS = 0.1
# Names of variables that hold the worker's credentials: ComfyUI and its node packs need none.
CREDENTIAL_PREFIXES = ("S3_", "AWS_", "BUCKET_", "RUNPOD_", "HF_TOKEN", "HUGGING_FACE_")


class ComfyServer:
    """One ComfyUI as a child process on 127.0.0.1 and a free port, in folders of its own."""

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
    ) -> None:
        self.comfy_dir = comfy_dir
        self.work_dir = work_dir
        self.input_dir = work_dir / "input"
        self.output_dir = work_dir / "output"
        self.temp_dir = work_dir / "temp"
        self.log_path = work_dir / "comfyui.log"
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._python = python
        self._args = [*args, "--cpu"] if cpu else list(args)
        self._node_dirs = node_dirs
        self._start_seconds = start_seconds
        self._max_memory_mb = max_memory_mb
        self._models: Mapping[str, Path] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._answered = False  # since its start

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The server that the environment describes; each worker process has its own folders."""
        return cls(
            settings.comfyui_dir.absolute(),
            settings.work_dir.absolute() / f"comfyui-{os.getpid()}",
            python=settings.comfyui_python or Path(sys.executable),
            cpu=settings.on_cpu,
            node_dirs=settings.node_dirs,
            args=shlex.split(settings.comfyui_args),
            start_seconds=settings.comfyui_start_seconds,
            max_memory_mb=_max_memory_mb(settings),
        )

    def use_models(self, models: Mapping[str, Path]) -> None:
        """Have ComfyUI find these files, by folder/name: now, and when it is started again."""
        self._models = models
        link_models(models, self._models_dir)

    def start(self) -> None:
        """Start the process; it is not ready yet.

        Raises:
            ComfyUIUnavailable: if there is no ComfyUI in `comfy_dir`.
        """
        if not (self.comfy_dir / "main.py").is_file():
            raise ComfyUIUnavailable(
                f"there is no ComfyUI in {self.comfy_dir}: run scripts/install-comfyui, or set "
                "COMFYUI_DIR or COMFYUI_URL"
            )
        self._make_folders()
        self._answered = False
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self.comfy_dir,
                env=environment_of_comfyui(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own, so that its children end with it
            )
        atexit.register(self.stop)

    def is_running(self) -> bool:
        """Whether the process lives; it may not answer yet."""
        return self._process is not None and self._process.poll() is None

    def has_died(self) -> bool:
        """Whether the process ended by itself: nobody stopped it."""
        return self._process is not None and self._process.poll() is not None

    def wait_ready(self, check: Callable[[], None] = lambda: None) -> None:
        """Return when ComfyUI answers. `check` is called while waiting, and may raise.

        One that answered before, and has died since or is silent now, is started again.

        Raises:
            ComfyUIUnavailable: if it dies while it starts, or takes longer than the settings allow;
                with the last lines of its log.
        """
        if self._answered:
            with contextlib.suppress(ComfyUIUnavailable):
                if self._answers_within(UNRESPONSIVE_SECONDS, check):
                    return
            if self._process is not None:  # not stopped by us meanwhile: the worker may be ending
                log.warning("ComfyUI has died, or not answered for %g s", UNRESPONSIVE_SECONDS)
                self.stop()
                self.start()
        if not self._answers_within(self._start_seconds, check):
            seconds = f"{self._start_seconds:g} s"
            raise self._failure(f"ComfyUI did not answer within {seconds} of its start")
        self._answered = True

    def _answers_within(self, seconds: float, check: Callable[[], None]) -> bool:
        client = ComfyClient(self.url)
        deadline = time.monotonic() + seconds
        while True:
            self.check()
            check()
            with contextlib.suppress(ComfyError):
                client.system_stats()
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(READY_POLL_SECONDS)

    def memory_mb(self) -> float:
        """What ComfyUI and its children hold in RAM, MB; model files mapped from disk not counted.

        0 of a process that is dead, and where there is no /proc.
        """
        process = self._process
        return 0 if process is None else sum(map(_private_bytes, _members(process.pid))) / 1e6

    def is_bloated(self) -> bool:
        """Whether it holds more memory than it may."""
        return self.memory_mb() > self._max_memory_mb

    def recycle(self) -> None:
        """End a ComfyUI that holds too much memory; the next job starts another."""
        if self.is_bloated():
            used, allowed = self.memory_mb(), self._max_memory_mb
            log.warning("ComfyUI holds %.0f MB, allowed: %.0f MB; ended", used, allowed)
            self.stop()

    def check(self) -> None:
        """Raise `ComfyUIUnavailable`, with the last lines of its log, if the process is dead."""
        if self._process is None:
            raise ComfyUIUnavailable("ComfyUI has not been started")
        code = self._process.poll()
        if code is not None:
            raise self._failure(f"ComfyUI ended {_how(code)}")

    def stop(self) -> None:
        """End the whole process group: SIGTERM, a bounded wait, SIGKILL. Its folders go too."""
        atexit.unregister(self.stop)
        process, self._process = self._process, None
        if process is None:
            return
        _signal_group(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        _signal_group(process, signal.SIGKILL)
        process.wait()
        shutil.rmtree(self.work_dir, ignore_errors=True)

    def clear(self, subfolder: str) -> None:
        """Delete what a job left: its subfolder of input and output, and all temporary files."""
        for folder in (self.input_dir / subfolder, self.output_dir / subfolder):
            shutil.rmtree(folder, ignore_errors=True)
        for path in self.temp_dir.glob("*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def log_tail(self) -> str:
        """The last lines of ComfyUI's log."""
        try:
            content = self.log_path.read_bytes()[-LOG_TAIL_BYTES:]
        except FileNotFoundError:
            return ""
        return "\n".join(content.decode(errors="replace").splitlines()[-LOG_TAIL_LINES:])

    def _failure(self, what: str) -> ComfyUIUnavailable:
        tail = self.log_tail()
        return ComfyUIUnavailable(f"{what}; the end of its log:\n{tail}", log_tail=tail)

    def _make_folders(self) -> None:
        for folder in (self.input_dir, self.output_dir, self.temp_dir, self.work_dir / "user"):
            folder.mkdir(parents=True, exist_ok=True)
        link_models(self._models, self._models_dir)
        write_paths(self._paths_file, node_dirs=self._node_dirs, models_dir=self._models_dir)

    @property
    def _models_dir(self) -> Path:
        return self.work_dir / "models"

    @property
    def _paths_file(self) -> Path:
        return self.work_dir / "extra_model_paths.yaml"

    def _command(self) -> list[str]:
        # A job's files are uploaded over HTTP: 1000 MB holds any sound that the limits admit.
        return [
            *(str(self._python), "-u", "main.py"),
            *("--listen", "127.0.0.1", "--port", str(self.port)),
            *("--input-directory", str(self.input_dir)),
            *("--output-directory", str(self.output_dir)),
            *("--temp-directory", str(self.work_dir)),  # ComfyUI adds /temp itself
            *("--user-directory", str(self.work_dir / "user")),
            *("--extra-model-paths-config", str(self._paths_file)),
            *("--database-url", "sqlite:///:memory:"),
            *("--max-upload-size", "1000"),
            *("--disable-auto-launch", "--disable-api-nodes", "--disable-metadata"),
            *self._args,
        ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment_of_comfyui() -> dict[str, str]:
    """Ours without the credentials."""
    return {k: v for k, v in os.environ.items() if not k.startswith(CREDENTIAL_PREFIXES)}


def _max_memory_mb(settings: Settings) -> float:
    """The limit of the settings, or a share of what the container or the host has."""
    if settings.comfyui_max_memory_gb is not None:
        return settings.comfyui_max_memory_gb * 1000
    return ram_gib() * GIB / 1e6 * MAX_MEMORY_SHARE


def _members(group: int) -> Iterator[int]:
    """The ids of the processes in a process group."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getpgid(int(path.name)) == group:
                yield int(path.name)


def _private_bytes(process: int) -> int:
    """Resident memory that no file backs: the rest can be read again, and kills nobody."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    sizes = re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB$", status, re.MULTILINE)
    return 1024 * sum(map(int, sizes))


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _how(code: int) -> str:
    if code < 0:
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        return f"by {signal.Signals(-code).name}{hint}"
    return f"with exit code {code}"
