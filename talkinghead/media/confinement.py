"""What a process that decodes strangers' files may not do, should one of them take it over.

It ends with its parent, has bounds on memory, processor and files, and by a seccomp filter, where
the kernel takes one, no network, no other programs, no other processes, and no links by which a
file of its own would lead who reads it elsewhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import signal
import socket
import struct
import time
from pathlib import Path

GIB = 2**30
MEMORY_BYTES = 2 * GIB  # 4K HDR takes 0.8, most of it the frames that others refer to
FILE_BYTES = 16 * GIB  # a WAV has 4, an hour of near lossless 720p 8
OPEN_FILES = 64
# Of the processor, without a sign that it gets on. The worker is faster, but may be gone.
CPU_SECONDS = 60

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 1, 38, 22
SECCOMP_MODE_FILTER = 2
# By the names that `platform.machine` has: the kernel's own number, and those of system calls.
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
REFUSED = {  # what a decoder has no use for, and who took it over has
    "x86_64": {
        **{"socket": 41, "io_uring_setup": 425},  # the network
        **{"execve": 59, "execveat": 322, "fork": 57, "vfork": 58},  # other programs
        **{"ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "tkill": 200},
        **{"pidfd_open": 434, "pidfd_send_signal": 424, "pidfd_getfd": 438},
        **{"symlink": 88, "symlinkat": 266, "link": 86, "linkat": 265},
        **{"unshare": 272, "setns": 308},  # there, it would be root
    },
    "aarch64": {
        **{"socket": 198, "io_uring_setup": 425},
        **{"execve": 221, "execveat": 281},
        **{"ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "tkill": 130},
        **{"pidfd_open": 434, "pidfd_send_signal": 424, "pidfd_getfd": 438},
        **{"symlinkat": 36, "linkat": 37},
        **{"unshare": 97, "setns": 268},
    },
}
SIGNALS = {"x86_64": (62, 234), "aarch64": (129, 131)}  # kill, tgkill: to itself alone
CLONE = {"x86_64": 56, "aarch64": 220}  # for threads alone
CLONE3 = 435  # tells its flags where no filter sees them; without it, glibc uses clone
X32 = 0x40000000  # system calls of another ABI have numbers from here on
CLONE_THREAD = 0x10000
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # of the classic BPF
ALLOW, REFUSE, UNKNOWN = 0x7FFF0000, 0x00050001, 0x00050026  # go on, EPERM, ENOSYS
NUMBER, ARCH, FIRST_ARGUMENT = 0, 4, 16  # where they lie in what the filter sees

_libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent() -> None:
    """Have the kernel end this process when the thread that forked it ends: Linux alone can."""
    with contextlib.suppress(AttributeError):
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def limit() -> None:
    """Set the bounds on this process, beyond what it has by now."""
    _set(resource.RLIMIT_AS, _mapped_bytes() + MEMORY_BYTES)
    _set(resource.RLIMIT_FSIZE, FILE_BYTES)
    _set(resource.RLIMIT_NOFILE, OPEN_FILES)
    _set(resource.RLIMIT_CORE, 0)
    go_on()
    with contextlib.suppress(OSError):  # if the host's memory is out, this goes first
        Path("/proc/self/oom_score_adj").write_text("1000")


def go_on() -> None:
    """Grant CPU_SECONDS more of the processor."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    wanted = int(time.process_time()) + CPU_SECONDS
    soft = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, most))


def filter_system_calls() -> None:
    """Refuse what a decoder does not need, for good. Some kernels take no filter: then, nothing."""
    program = _program(platform.machine(), os.getpid())
    if not program:
        return
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    with contextlib.suppress(AttributeError):
        _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0)


def has_no_network() -> bool:
    """Whether this process cannot even ask for a connection."""
    try:
        socket.socket().close()
    except PermissionError:
        return True
    return False


def _set(kind: int, wanted: int) -> None:
    _, most = resource.getrlimit(kind)
    least = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(kind, (least, least))


def _mapped_bytes() -> int:
    """The address space that is in use; 0 where there is no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def _program(machine: str, process: int) -> bytes:
    """The filter, as BPF: instructions of a code, two jumps and a number. Empty if none is known.

    A jump tells how many instructions are left out if the comparison holds, and if it does not.
    """
    if machine not in AUDIT_ARCH:
        return b""
    lines = [
        *[(LOAD, 0, 0, ARCH), (EQUAL, 1, 0, AUDIT_ARCH[machine]), (RETURN, 0, 0, REFUSE)],
        *[(LOAD, 0, 0, NUMBER), (AT_LEAST, 0, 1, X32), (RETURN, 0, 0, REFUSE)],
        *[(EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, UNKNOWN)],
    ]
    for number in REFUSED[machine].values():
        lines += [(EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE)]
    for number in SIGNALS[machine]:
        lines += [(EQUAL, 0, 4, number), *_if_argument(EQUAL, process)]
    lines += [(EQUAL, 0, 4, CLONE[machine]), *_if_argument(ANY_BIT, CLONE_THREAD)]
    lines += [(RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def _if_argument(comparison: int, value: int) -> list[tuple[int, int, int, int]]:
    """Allow the call if its first argument compares so, else refuse it."""
    allow, refuse = (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE)
    return [(LOAD, 0, 0, FIRST_ARGUMENT), (comparison, 0, 1, value), allow, refuse]
