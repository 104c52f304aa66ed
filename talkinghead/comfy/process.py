"""One ComfyUI process: how it is called, what it holds, what it says, how it ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from talkinghead.errors import ComfyUIDied, ComfyUIKilled, ComfyUIUnavailable, JobError

STOP_SECONDS = 6  # RunPod kills a worker about 10 s after its SIGTERM, and folders take time
# Waits until the worker has ended, however it did, and takes its whole process group along.
GUARD = ("/bin/sh", "-c", "read -r _; kill -KILL 0")
LOG_TAIL_LINES = 15
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # newer ComfyUIs write them to files too
LOG_TAIL_BYTES = 8192
# Names of variables that hold the worker's credentials: ComfyUI and its node packs need none.
CREDENTIAL_PREFIXES = (
    "API_TOKEN",
    "S3_",
    "AWS_",
    "BUCKET_",
    "RUNPOD_",
    "HF_TOKEN",
    "HUGGING_FACE_",
)


class ComfyProcess:
    """A ComfyUI from its start to its end, with its children: they are a process group.

    It never comes back: who starts ComfyUI again has another one of these. So `has_answered`, and
    what others keep for one process, need not be reset. Any thread may call any method.
    """

    def __init__(
        self,
        command: Sequence[str],
        comfy_dir: Path,
        log_path: Path,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.has_answered = False  # since its start; who waits for its answers sets it
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=comfy_dir,
                env=environment_of_comfyui() | dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,  # a group of its own, so that its children end with it
            )
        self.pid = self._process.pid  # also that of the group
        # The pipe's other end closes when the worker is gone, after a SIGKILL too. Not
        # PR_SET_PDEATHSIG: that fires when the thread ends that started the process. As the guard
        # is in the group, nothing else can get the group's id.
        self._guard = subprocess.Popen(
            GUARD,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=self.pid,
        )

    def is_alive(self) -> bool:
        """Whether it has not ended; it may not answer yet, or no more."""
        return self._process.poll() is None

    def how_it_ended(self) -> str | None:
        """Such as "with exit code 2", or "by SIGKILL"; None while it lives."""
        code = self._process.poll()
        if code is None:
            return None
        if code < 0:
            hint = " (out of memory?)" if code == -signal.SIGKILL else ""
            return f"by {signal.Signals(-code).name}{hint}"
        return f"with exit code {code}"

    @property
    def was_killed(self) -> bool:
        """Whether SIGKILL ended it, or what a shell started in its place: who is out of memory."""
        return self._process.poll() in (-signal.SIGKILL, 128 + signal.SIGKILL)

    def memory_mb(self) -> float:
        """What it and its children hold in RAM, MB; model files mapped from disk not counted.

        0 of a process that is dead, and where there is no /proc.
        """
        return sum(map(_private_bytes, _members(self.pid))) / 1e6

    def end(self) -> None:
        """End the whole group: SIGTERM, a bounded wait, SIGKILL."""
        self._signal_group(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        self._signal_group(signal.SIGKILL)
        self._process.wait()
        self._guard.communicate()

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def environment_of_comfyui() -> dict[str, str]:
    """Ours without the credentials."""
    return {k: v for k, v in os.environ.items() if not k.startswith(CREDENTIAL_PREFIXES)}


def compile_caches(folder: Path) -> dict[str, str]:
    """The variables by which torch.compile and Triton keep what they compiled in this folder.

    Its entries are named by card, versions and code: workers of several kinds may share it. Where
    nobody may write, as on a volume that is read-only, compiling would fail: there are none.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return {}
    if not os.access(folder, os.W_OK):
        return {}
    return {
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
    }


def log_tail(path: Path) -> str:
    """The last lines of a ComfyUI's log, without colours; empty if there is none."""
    try:
        content = path.read_bytes()[-LOG_TAIL_BYTES:]
    except FileNotFoundError:
        return ""
    text = COLOURS.sub("", content.decode(errors="replace"))
    return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])


def unavailable(what: str, log_path: Path) -> ComfyUIUnavailable:
    """The error for what happened to a ComfyUI, with the last lines of its log."""
    tail = log_tail(log_path)
    return ComfyUIUnavailable(f"{what}; the end of its log:\n{tail}", log_tail=tail)


def death_of(process: ComfyProcess | None, log_path: Path) -> JobError | None:
    """What its death is for the job that had it; None of one that lives, or that we ended."""
    if process is None or (how := process.how_it_ended()) is None:
        return None
    tail = log_tail(log_path)
    kind = ComfyUIKilled if process.was_killed else ComfyUIDied
    return kind(f"ComfyUI ended {how}; the end of its log:\n{tail}", log_tail=tail)


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
