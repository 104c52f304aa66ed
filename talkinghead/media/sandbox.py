"""Strangers' files are opened in processes of their own: a job's sandbox, which has nothing else.

What a file does to its decoder ends that process, and is told as the file's fault. It gets what it
shall do by pickle; what it answers is JSON of the type that the function names, and nothing else is
believed.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError

from talkinghead.errors import (
    DiskFull,
    InternalError,
    JobError,
    MediaInvalid,
    MediaTooLarge,
    UnsupportedCombination,
)
from talkinghead.media.confinement import MEMORY_BYTES
from talkinghead.media.fork_server import (
    LENGTH,
    NUMBER,
    OUT_OF_MEMORY,
    VALUE,
)

log = logging.getLogger("talkinghead")

P = ParamSpec("P")
T = TypeVar("T")

SERVER = "talkinghead.media.fork_server"
# What it loads, so that no child has to.
DECODERS = tuple(
    f"talkinghead.media.{name}"
    for name in (
        *("camera", "faces", "inspection", "lip_sync", "looking", "mux", "outside", "picture"),
        *("regions", "sound", "source_video", "voice_filter"),
    )
)
POLL_SECONDS = 0.1  # how often a waiting worker looks whether the job shall end
# Since a decoder last got on by a packet, a frame or a block of samples, or began with a picture;
# its time in the queue for a processor not counted. A failure within 10 s is promised.
SILENT_SECONDS = 8.0
END_SECONDS = 10.0  # SIGKILL takes far less
MAX_ANSWER_BYTES = 4 * 2**20  # two hours of windows are a list of 300 KB
# Of the worker's environment; with it the credentials would be the decoder's, too.
KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
# One arena of malloc's: each reserves address space, of which there is a bound. No threads before
# the fork: they would be missing after it.
SET_VARIABLES = {
    **{"MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1"},
    **{"OMP_NUM_THREADS": "1", "OMP_THREAD_LIMIT": "1"},  # ggml asks for four, which spin
}
ERRORS: dict[str, type[JobError]] = {
    kind.code: kind for kind in (MediaInvalid, MediaTooLarge, UnsupportedCombination, DiskFull)
}
ENDLESS = "decoding it comes to no end"
NONSENSE = "the file makes its decoder answer nonsense"
FAILURES = TypeAdapter(tuple[str, str])


class Sandboxes:
    """Where a worker's sandboxes come from: a server with the decoders loaded, which forks.

    `modules` are those of the functions that are called: others, each child would load. The server
    and its children end with the worker, however that ends. Any thread may call any method.
    """

    def __init__(self, modules: Sequence[str] = DECODERS) -> None:
        self._modules = modules
        self._lock = threading.Lock()
        self.server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the server, without waiting for it; else the first file that is opened does."""
        with self._lock:
            self._running()

    def close(self) -> None:
        """End the server; the next file starts another."""
        with self._lock:
            if self.server is not None and self._control is not None:
                self._control.close()
                self.server.kill()
                self.server.wait()
            self.server = self._control = None

    @contextlib.contextmanager
    def open(self, check: Callable[[], None] = lambda: None) -> Iterator[Sandbox]:
        """A job's sandbox. `check` is called while a file is decoded; what it raises ends that."""
        sandbox = Sandbox(self, check)
        try:
            yield sandbox
        finally:
            sandbox.close()

    def fork(self) -> Child:
        """A new process for decoding; it may not be there yet."""
        data, theirs = socket.socketpair()
        leash, held = socket.socketpair()
        with theirs, held, self._lock:
            try:
                socket.send_fds(self._running(), [b"+"], [theirs.fileno(), held.fileno()])
            except OSError as error:
                raise InternalError("the decoders' server does not run") from error
        return Child(data, leash)

    def _running(self) -> socket.socket:
        """The socket of a server that has not ended."""
        if self.server is None or self._control is None or self.server.poll() is not None:
            self._control, theirs = socket.socketpair()
            with theirs:
                self.server = subprocess.Popen(
                    [sys.executable, "-P", "-m", SERVER, str(theirs.fileno()), *self._modules],
                    env=_environment(),
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the worker, which ends it
                )
        return self._control


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return kept | SET_VARIABLES | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


class Sandbox:
    """A job's processes for decoding: one, and another while two files are decoded at a time.

    So it is known whose file it was that made one crash. Any thread may call.
    """

    def __init__(self, sandboxes: Sandboxes, check: Callable[[], None]) -> None:
        self._sandboxes, self._check = sandboxes, check
        self._lock = threading.Lock()
        self._idle = [sandboxes.fork()]  # ready by the time that the first file is there
        self._busy: set[Child] = set()
        self._is_closed = False

    def call(self, field: str, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """What a function of `media` returns, called there. `field` is told to be at fault.

        Raises:
            MediaInvalid: the file makes its decoder crash, hang or take too much memory.
            JobError: what the function raises, and `check`.
        """
        request = pickle.dumps((function, args, options))
        with self._child() as child:
            try:
                answer = child.ask(request, self._check)
            except EOFError:
                raise _fault(field, child.end(), child.given_up) from None
            return _value(field, function, answer)

    def close(self) -> None:
        """End all of its processes, whatever they do; for those that are idle it does not wait."""
        with self._lock:
            self._is_closed = True
            idle, busy, self._idle = self._idle, list(self._busy), []
        for child in idle:
            child.let_go()
        for child in busy:
            child.end()  # whoever waits for it closes it

    @contextlib.contextmanager
    def _child(self) -> Iterator[Child]:
        """A process for one call; none is used again in which something went wrong."""
        with self._lock:
            if self._is_closed:
                raise InternalError("the job's sandbox is closed")
            child = self._idle.pop() if self._idle else self._sandboxes.fork()
            self._busy.add(child)
        is_well = False
        try:
            yield child
            is_well = True
        finally:
            with self._lock:
                self._busy.discard(child)
                is_well = is_well and not self._is_closed
                if is_well:
                    self._idle.append(child)
            if not is_well:
                child.close()


class Child:
    """A process that decodes: asked by one thread at a time, and ended by any."""

    def __init__(self, data: socket.socket, leash: socket.socket) -> None:
        data.setblocking(False)
        leash.settimeout(END_SECONDS)
        self._data, self._leash = data, leash
        self._received = bytearray()
        self._lock = threading.Lock()
        self._exit: int | None = None
        self._has_ended = False
        self._process: int | None = None
        self._is_born = False
        self._silent_since = 0.0
        self._queued_before: dict[str, float] = {}
        self.given_up = ""  # if it was: why

    def ask(self, request: bytes, check: Callable[[], None]) -> bytes:
        """The line that it answers with. What `check` raises ends the waiting.

        Raises:
            EOFError: it crashed or hung, or says too much.
        """
        left = memoryview(LENGTH.pack(len(request)) + request)
        self._got_on()
        while (line := self._line()) is None:
            check()
            if self._is_born and self._silent_seconds() > SILENT_SECONDS:
                self.given_up = ENDLESS
                raise EOFError
            left = self._move(left)
        return line

    def end(self) -> int | None:
        """End it; returns its exit code, negative that of a signal, None if nobody knows."""
        with self._lock:
            if not self._has_ended:
                self._has_ended = True
                with contextlib.suppress(OSError):
                    self._leash.shutdown(socket.SHUT_WR)
                self._process = self._process or self._number()
                status = self._number()
                self._exit = None if status is None else os.waitstatus_to_exitcode(status)
                self._leash.close()
            return self._exit

    def close(self) -> None:
        """End it, and forget it."""
        self.end()
        self._data.close()

    def let_go(self) -> None:
        """Have the server end it, and do not wait until its memory is taken apart."""
        self._leash.close()
        self._data.close()

    def _move(self, left: memoryview) -> memoryview:
        """Send and receive what goes at once, or wait a moment; returns what is left to send."""
        poll = select.poll()
        poll.register(self._data, select.POLLIN | (select.POLLOUT if left else 0))
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            for _, ready in poll.poll(POLL_SECONDS * 1000):
                if ready & select.POLLOUT:
                    left = left[self._data.send(left) :]
                if ready & ~select.POLLOUT:
                    self._receive()
        return left

    def _receive(self) -> None:
        try:
            received = self._data.recv(1 << 16)
        except ConnectionResetError:
            received = b""
        if len(self._received) > MAX_ANSWER_BYTES:
            self.given_up = NONSENSE
        if not received or self.given_up:
            raise EOFError
        self._received += received

    def _line(self) -> bytes | None:
        """What was received as an answer, if it is whole; empty lines are heartbeats."""
        while b"\n" in self._received:
            line, _, self._received = self._received.partition(b"\n")
            if line:
                return bytes(line)
            self._is_born = True
            self._got_on()
        return None

    def _got_on(self) -> None:
        self._silent_since, self._queued_before = time.monotonic(), self._queued_seconds()

    def _silent_seconds(self) -> float:
        """Since it last got on, but for the time in which a thread of it waited for a processor."""
        before = self._queued_before
        queued = [now - before.get(thread, 0) for thread, now in self._queued_seconds().items()]
        return time.monotonic() - self._silent_since - max(queued, default=0)

    def _queued_seconds(self) -> dict[str, float]:
        """How long each thread has waited for one; empty where the kernel does not tell."""
        if not self._is_born:
            return {}
        with self._lock:
            if self._process is None and not self._has_ended:
                self._process = self._number()
        queued = {}
        with contextlib.suppress(OSError, LookupError, ValueError):
            for thread in Path(f"/proc/{self._process}/task").iterdir():
                told = (thread / "schedstat").read_text()
                queued[thread.name] = int(told.split()[1]) / 1e9
        return queued

    def _number(self) -> int | None:
        """The next one that the server tells on the leash."""
        try:
            told = self._leash.recv(NUMBER.size)
        except OSError:
            return None
        return int(NUMBER.unpack(told)[0]) if len(told) == NUMBER.size else None


def _fault(field: str, exit_code: int | None, given_up: str) -> JobError:
    """What is told of a file whose decoder ended."""
    if given_up or exit_code == -signal.SIGXCPU:
        return MediaInvalid(f"{field}: {given_up or ENDLESS}")
    if exit_code is None:
        return InternalError("the decoders' server has ended: the worker's log has the details")
    if exit_code == -signal.SIGKILL:  # not by us
        return _too_much_memory(field)
    how = signal.Signals(-exit_code).name if exit_code < 0 else f"exit code {exit_code}"
    return MediaInvalid(f"{field}: the file makes its decoder crash ({how})")


def _too_much_memory(field: str) -> JobError:
    allowed = f"{MEMORY_BYTES / 1e9:.1f} GB"
    return MediaInvalid(f"{field}: to decode it takes more memory than is allowed, {allowed}")


@functools.cache
def _answer_type(function: Callable[..., Any]) -> TypeAdapter[Any]:
    """What travels for the value that the function returns: JSON of the type that it names."""
    return TypeAdapter(get_type_hints(function)["return"])


def _value(field: str, function: Callable[..., T], answer: bytes) -> T:
    """The value that the child tells; or what it tells of a failure, raised."""
    kind, content = answer[:1], answer[1:]
    try:
        if kind == VALUE:
            return cast(T, _answer_type(function).validate_json(content))
        code, message = FAILURES.validate_json(content)
    except ValidationError:
        raise MediaInvalid(f"{field}: {NONSENSE}") from None
    if code == OUT_OF_MEMORY:
        raise _too_much_memory(field)
    if code in ERRORS:
        raise ERRORS[code](message)
    log.error("a decoder failed at %s: %s", field, message)
    raise InternalError("internal error of the worker: its log has the details")
