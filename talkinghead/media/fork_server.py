"""The process that sandboxes are forked from, with the decoders loaded: `sandbox` starts it.

Not multiprocessing's: that one has the worker's environment, credentials included, shows each child
the worker's other connections, and has it import the worker's `__main__` again, which takes longer
than most files.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pickle
import selectors
import signal
import socket
import struct
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from talkinghead.errors import NO_ROOM, DiskFull, JobError
from talkinghead.media import confinement
from talkinghead.media.heartbeat import tell_beats

PARENT_SECONDS = 1.0  # until a worker is missed whose end of the pipe somebody else holds, too
LENGTH, NUMBER = struct.Struct("!I"), struct.Struct("!i")
# What a child's lines begin with. An empty one says that it gets on.
VALUE, FAILURE = b"=", b"!"
# Codes that are not the caller's, beside those of talkinghead.errors.
OUT_OF_MEMORY, FAULT = "memory", "fault"


def main(control: socket.socket) -> None:
    """Fork a child for each pair of sockets that the worker sends, until the worker is gone.

    The first is the child's own. The second is its leash: the server tells its process id there,
    and once the worker lets go of it, ends the child and tells its wait status.
    """
    gc.freeze()  # what is loaded stays shared with the children
    parent = os.getppid()
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while os.getppid() == parent:
            for key, _ in selector.select(PARENT_SECONDS):
                if key.fileobj is not control:
                    selector.unregister(key.fileobj)
                    _end(*key.data)
                elif child := _fork(control):
                    selector.register(child[0], selectors.EVENT_READ, child)
                else:
                    return


def _fork(control: socket.socket) -> tuple[socket.socket, int] | None:
    """A new child's leash and process id; None when the worker is gone."""
    message, descriptors, _, _ = socket.recv_fds(control, 1, 2)
    if not message:
        return None
    data, leash = (socket.socket(fileno=each) for each in descriptors)
    process = os.fork()
    if process == 0:
        _live(data)
    data.close()
    _tell(leash, process)
    return leash, process


def _end(leash: socket.socket, process: int) -> None:
    # Nobody else waits for it: the id is this child's as long as it is not asked how it ended.
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    _tell(leash, status)
    leash.close()


def _tell(leash: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # the worker is gone, and its server is about to see that
        leash.send(NUMBER.pack(number))


def _live(data: socket.socket) -> NoReturn:
    """The child: call what the worker sends, and answer with what comes of it."""
    confinement.end_with_parent()
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    os.closerange(3, data.fileno())
    os.closerange(data.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
    confinement.limit()
    confinement.filter_system_calls()

    def tell() -> None:
        confinement.go_on()
        data.sendall(b"\n")

    tell_beats(tell)
    tell()
    with data.makefile("rb") as requests:
        while length := requests.read(LENGTH.size):
            request = requests.read(*LENGTH.unpack(length))
            data.sendall(_answer(request) + b"\n")
    os._exit(0)


def _answer(request: bytes) -> bytes:
    try:
        function, arguments, options = pickle.loads(request)
        value = function(*arguments, **options)
        return VALUE + json.dumps(value, default=_plain).encode()
    except JobError as error:
        return _failure(error.code, str(error))
    except MemoryError:
        return _failure(OUT_OF_MEMORY, "")
    except Exception as error:  # noqa: BLE001 - the worker's log tells it
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return _failure(DiskFull.code, "the worker's temporary folder has no room left")
        return _failure(FAULT, traceback.format_exc())


def _failure(code: str, message: str) -> bytes:
    return FAILURE + json.dumps([code, message]).encode()


def _plain(value: object) -> object:
    """What JSON has for it: the answers are such values, and dataclasses and paths."""
    return str(value) if isinstance(value, Path) else vars(value)


if __name__ == "__main__":
    for name in sys.argv[2:]:
        importlib.import_module(name)
    main(socket.socket(fileno=int(sys.argv[1])))
