"""What a file does to its decoder ends a process of its own, and is told as the file's fault."""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from operator import gt
from pathlib import Path

import pytest

from talkinghead.errors import (
    Cancelled,
    DiskFull,
    InternalError,
    JobError,
    MediaInvalid,
    MediaTooLarge,
)
from talkinghead.media import sandbox as sandbox_module
from talkinghead.media.confinement import has_no_network
from talkinghead.media.heartbeat import beat
from talkinghead.media.sandbox import DECODERS, POLL_SECONDS, SILENT_SECONDS, Sandbox, Sandboxes
from tests.canary import CANARY
from tests.timing import LAST_RESORT_SECONDS, wait_until

# ---- What is called in the sandbox, in place of a decoder


@dataclass(frozen=True)
class Found:
    """What a decoder tells."""

    seconds: float
    path: Path
    notes: tuple[str, ...] = ()


def find(path: Path) -> Found:
    return Found(1.5, path, ("a \u2028 line\n", "another"))


def nothing() -> None:
    """A file that is in order."""


def fail() -> None:
    raise LookupError("of ours")


def refuse() -> None:
    raise MediaTooLarge("image_url: too large")


def crash() -> None:
    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def leave() -> None:
    os._exit(3)


def take_memory() -> None:
    taken = []
    while True:
        taken.append(b"x" * 2**26)


def take_memory_in_c() -> None:
    """As a library that does not look whether it got any."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    while True:
        libc.memset(ctypes.c_void_p(libc.malloc(2**26)), 1, 2**26)


def sleep(mark: Path) -> None:
    """A decoder whose threads wait for each other."""
    mark.with_name("new").write_text(str(os.getpid()))
    mark.with_name("new").replace(mark)
    time.sleep(LAST_RESORT_SECONDS)


def spin(mark: Path) -> None:
    while True:
        pass


def beat_for(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        beat()
        time.sleep(0.01)


def lie() -> int:
    return "text"  # type: ignore[return-value]


def say(answer: bytes) -> None:
    """A decoder that was taken over: it answers what it likes."""
    os.write(only_socket(), answer)
    time.sleep(LAST_RESORT_SECONDS)


def say_without_end() -> None:
    while True:
        os.write(only_socket(), b"x" * 65536)


def only_socket() -> int:
    """The one file that is open besides the standard ones."""
    (found,) = filter(_is_open, range(3, 64))
    return found


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def all_i_know() -> str:
    return json.dumps(dict(os.environ)) + Path("/proc/self/environ").read_text()


def try_out(folder: Path, worker: int) -> dict[str, str]:
    """What comes of all that a decoder has no use for."""
    tries: dict[str, Callable[[], object]] = {
        "connect": socket.socket,
        "connect by IPv6": lambda: socket.socket(socket.AF_INET6),
        "run a program": lambda: os.execv("/bin/true", ["true"]),
        "start a process": lambda: subprocess.run(["/bin/true"], check=True),
        "fork": os.fork,
        "signal the worker": lambda: os.kill(worker, 0),
        "signal its parent": lambda: os.kill(os.getppid(), 0),
        "signal itself": lambda: os.kill(os.getpid(), 0),
        "link": lambda: (folder / "picture.bmp").symlink_to("/etc/passwd"),
        "link hard": lambda: (folder / "picture.bmp").hardlink_to(__file__),
        "start a thread": lambda: ThreadPoolExecutor().submit(nothing).result(),
        "write": lambda: (folder / "picture.bmp").write_text(""),
    }
    return {name: _outcome(act) for name, act in tries.items()}


def _outcome(act: Callable[[], object]) -> str:
    try:
        act()
    except OSError as error:
        return type(error).__name__
    return "done"


# ---- The tests


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[Sandboxes]:
    with Sandboxes((*DECODERS, __name__)) as sandboxes:
        yield sandboxes


@pytest.fixture
def sandbox(sandboxes: Sandboxes) -> Iterator[Sandbox]:
    with sandboxes.open() as sandbox:
        yield sandbox


def test_what_a_decoder_finds_and_what_it_refuses_comes_back_as_it_is(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    assert sandbox.call("wav_url", find, tmp_path) == find(tmp_path)
    with pytest.raises(MediaTooLarge, match=r"^image_url: too large$"):
        sandbox.call("image_url", refuse)


@pytest.mark.parametrize(
    ("decoder", "words"),
    [
        (crash, r"makes its decoder crash \(SIGSEGV\)"),
        (abort, r"makes its decoder crash \(SIGABRT\)"),
        (leave, r"makes its decoder crash \(exit code 3\)"),
        (take_memory, "takes more memory than is allowed, 2.1 GB"),
        (take_memory_in_c, r"makes its decoder crash \(SIGSEGV\)"),
        (lie, "makes its decoder answer nonsense"),
        (say_without_end, "makes its decoder answer nonsense"),
    ],
)
def test_what_ends_a_decoder_is_the_fault_of_its_file_and_the_next_is_opened(
    sandbox: Sandbox, decoder: Callable[[], None], words: str
) -> None:
    with pytest.raises(MediaInvalid, match=rf"^wav_url: .*{words}"):
        sandbox.call("wav_url", decoder)
    sandbox.call("image_url", nothing)


@pytest.mark.parametrize("decoder", [sleep, spin])
def test_a_decoder_that_never_returns_is_given_up(
    sandbox: Sandbox, tmp_path: Path, decoder: Callable[[Path], None]
) -> None:
    """The promise is 10 s; on a busy machine, of those that it had a processor for."""
    assert SILENT_SECONDS + 2 * POLL_SECONDS < 10
    with pytest.raises(MediaInvalid, match=r"^video_url: decoding it comes to no end$"):
        sandbox.call("video_url", decoder, tmp_path / "mark")
    sandbox.call("image_url", nothing)


def test_a_decoder_that_gets_on_is_left_alone_however_long_it_takes(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_module, "SILENT_SECONDS", 3.0)
    sandbox.call("wav_url", beat_for, 7.0)


def test_a_decoder_that_is_killed_is_told_from_one_that_crashed(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    for number, words in ((signal.SIGSEGV, "SIGSEGV"), (signal.SIGKILL, "memory")):
        mark = tmp_path / words
        with ThreadPoolExecutor() as pool:
            called = pool.submit(sandbox.call, "wav_url", sleep, mark)
            wait_until(mark.exists, "the decoder is at work")
            os.kill(int(mark.read_text()), number)
            with pytest.raises(MediaInvalid, match=rf"^wav_url: .*{words}"):
                called.result()


def test_a_cancelled_job_ends_its_decoder(sandboxes: Sandboxes, tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def check() -> None:
        if mark.exists():
            raise Cancelled("the job was cancelled")

    with sandboxes.open(check) as sandbox, pytest.raises(Cancelled):
        sandbox.call("wav_url", sleep, mark)
    assert not Path(f"/proc/{mark.read_text()}").exists()


def test_the_end_of_a_job_ends_what_it_still_decodes(sandboxes: Sandboxes, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with ThreadPoolExecutor() as pool, sandboxes.open() as sandbox:
        called = pool.submit(sandbox.call, "wav_url", sleep, mark)
        wait_until(mark.exists, "the decoder is at work")
    assert isinstance(called.exception(), JobError)
    assert not Path(f"/proc/{mark.read_text()}").exists()


def test_of_two_files_that_are_decoded_at_a_time_the_right_one_is_told(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with ThreadPoolExecutor() as pool:
        good = pool.submit(sandbox.call, "wav_url", beat_for, 1.0)
        bad = pool.submit(sandbox.call, "image_url", crash)
        assert str(bad.exception()).startswith("image_url: ")
        assert good.result() is None


@pytest.mark.parametrize(
    "answer",
    [
        pickle.dumps({"seconds": 1}) + b"\n",
        b'={"seconds": "no number"}\n',
        b'="\xff"\n',
        b'!["cancelled"]\n',
        b"=" + b"[" * 10_000 + b"\n",
    ],
    ids=["pickle", "another type", "no UTF-8", "half a failure", "deep"],
)
def test_no_more_is_believed_than_the_type_of_the_answer(sandbox: Sandbox, answer: bytes) -> None:
    with pytest.raises(MediaInvalid, match=r"^wav_url: .* answer nonsense"):
        sandbox.call("wav_url", say, answer)


def test_a_fault_of_ours_is_told_by_the_log_alone(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InternalError, match="its log has the details"):
        sandbox.call("wav_url", fail)
    assert "LookupError: of ours" in caplog.text


def test_a_full_disk_is_no_fault_of_the_file(sandbox: Sandbox) -> None:
    with pytest.raises(DiskFull):
        sandbox.call("wav_url", Path.write_text, Path("/dev/full"), "x")


def test_a_decoder_has_nothing_of_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_SECRET", CANARY)
    with Sandboxes((*DECODERS, __name__)) as own, own.open() as sandbox:
        assert CANARY not in sandbox.call("wav_url", all_i_know)
        sandbox.call("wav_url", only_socket)


def test_a_decoder_can_do_nothing_but_decode(sandbox: Sandbox, tmp_path: Path) -> None:
    if not sandbox.call("wav_url", has_no_network):
        pytest.skip("this kernel takes no filter")
    found = sandbox.call("wav_url", try_out, tmp_path, os.getpid())
    allowed = {name for name, outcome in found.items() if outcome == "done"}
    assert allowed == {"signal itself", "start a thread", "write"}
    assert {found[name] for name in found if name not in allowed} == {"PermissionError"}


def test_ctrl_c_is_the_workers(sandboxes: Sandboxes) -> None:
    sandboxes.start()
    assert sandboxes.server is not None
    assert os.getpgid(sandboxes.server.pid) != os.getpgid(0)


def test_a_server_that_died_is_started_again(sandboxes: Sandboxes, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with sandboxes.open() as sandbox, ThreadPoolExecutor() as pool:
        called = pool.submit(sandbox.call, "wav_url", sleep, mark)
        wait_until(mark.exists, "the decoder is at work")
        assert sandboxes.server is not None
        sandboxes.server.kill()
        assert isinstance(called.exception(), InternalError), "it is nobody's file"
        sandboxes.server.wait()
        sandbox.call("wav_url", nothing)
    wait_until(lambda: not Path(f"/proc/{mark.read_text()}").exists(), "its child ends with it")


WORKER = """
import sys
from operator import gt
from pathlib import Path
from talkinghead.media.sandbox import Sandboxes
from tests.unit.test_sandbox import sleep
with Sandboxes() as sandboxes, sandboxes.open() as sandbox:
    sandbox.call("wav_url", sleep, Path(sys.argv[1]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_all_ends_with_the_worker(tmp_path: Path, number: signal.Signals) -> None:
    mark = tmp_path / "mark"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(mark)], env=environment, stderr=subprocess.DEVNULL
    )
    wait_until(mark.exists, "the decoder is at work")
    child = int(mark.read_text())
    server = int(Path(f"/proc/{child}/stat").read_text().split()[3])
    worker.send_signal(number)
    worker.wait(LAST_RESORT_SECONDS)
    for process in (child, server):
        wait_until(lambda: not is_alive(process), "it ends")  # noqa: B023


def is_alive(process: int) -> bool:
    """Whether it runs; one that nobody asks how it ended does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_two_hundred_jobs_leave_nothing_behind(sandboxes: Sandboxes) -> None:
    def one(number: int) -> None:
        with sandboxes.open() as sandbox:
            sandbox.call("wav_url", nothing)
            if number % 10 == 0:
                with pytest.raises(MediaInvalid):
                    sandbox.call("wav_url", crash)

    one(0)
    assert sandboxes.server is not None
    server = sandboxes.server.pid

    def held() -> tuple[int, int, int]:
        return files_of(os.getpid()), files_of(server), threading.active_count()

    before = held()
    for number in range(200):
        one(number)
    # Not ==: what other tests left may end meanwhile.
    wait_until(lambda: not any(map(gt, held(), before)), "no file and no thread is left")
    wait_until(lambda: not children_of(server), "no process is left")


def children_of(process: int) -> str:
    return Path(f"/proc/{process}/task/{process}/children").read_text()


def test_a_job_finds_its_decoder_ready_and_its_end_does_not_wait_for_one_that_does_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox_module, "END_SECONDS", 10 * LAST_RESORT_SECONDS)
    with Sandboxes((*DECODERS, __name__)) as sandboxes:
        with sandboxes.open() as sandbox:
            assert sandboxes.server is not None
            server = sandboxes.server.pid
            wait_until(lambda: bool(children_of(server)), "it is there before the first file")
            sandbox.call("wav_url", nothing)
            os.kill(server, signal.SIGSTOP)  # nobody tells now that the child has ended
        os.kill(server, signal.SIGCONT)
        wait_until(lambda: not children_of(server), "it has ended all the same")


def files_of(process: int) -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))
