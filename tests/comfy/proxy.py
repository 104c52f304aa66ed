"""A TCP proxy before ComfyUI that makes the faults of a network and of a busy server."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self

from tests.timing import LAST_RESORT_SECONDS

CHUNK_BYTES = 1 << 16
CONNECT_SECONDS = LAST_RESORT_SECONDS

Kind = Literal["cut", "deaf"]
Absence = Literal["silent", "refuses"]


@dataclass
class SocketFault:
    """What happens to a WebSocket once `after` has passed from server to client.

    `cut` closes it on both sides; `deaf` leaves it open, and drops all that the server says.
    """

    kind: Kind
    after: str = '"status"'  # in the first message of every socket


@dataclass
class Canned:
    """An answer of the proxy itself to a path, for the next `times` requests.

    With `length`, that many bytes are announced, whatever the body has.
    """

    body: object
    status: int = 200
    times: int = 1_000_000
    length: int | None = None

    def response(self) -> bytes:
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        head = (
            f"HTTP/1.1 {self.status} Canned\r\nContent-Type: application/json\r\n"
            f"Content-Length: {self.length or len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + body


class Proxy:
    """Passes connections on to ComfyUI's port; one request a connection, as `requests` makes them.

    Set `websocket`, `http`, `delay_seconds` and `canned` at any time: they act on what comes next,
    `websocket` on open sockets too. `http` says what requests meet: a server that answers, one
    that takes them and is `silent`, or one that `refuses` them. `paths` are those asked for;
    `given_up` those that met silence until the client left.
    """

    def __init__(self, port: int) -> None:
        self.websocket: SocketFault | None = None
        self.http: Literal["answers"] | Absence = "answers"
        self.delay_seconds = 0.0
        self.canned: dict[str, Canned] = {}
        self.paths: list[str] = []
        self.given_up: list[str] = []
        self._target = ("127.0.0.1", port)
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    proxy._serve(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False  # silent connections end with the process
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextlib.contextmanager
    def away(self, how: Absence) -> Iterator[None]:
        """Nothing of the server is to be had: no request, no socket."""
        self.websocket, self.http = SocketFault("cut", after=""), how
        try:
            yield
        finally:
            self.websocket, self.http = None, "answers"

    def _serve(self, client: socket.socket) -> None:
        path, request = _read_head(client)
        self.paths.append(path)
        time.sleep(self.delay_seconds)
        if self.http == "refuses":
            return
        if self.http == "silent":
            with contextlib.suppress(OSError):
                _drain(client)
            self.given_up.append(path)
        elif (answer := self._canned(path)) is not None:
            client.sendall(answer)
            client.shutdown(socket.SHUT_WR)
            _drain(client)
        else:
            self._pass_on(client, request, is_socket=path == "/ws")

    def _canned(self, path: str) -> bytes | None:
        """The canned response to the path, or to the nearest folder above it that has one."""
        parts = path.split("/")
        for end in range(len(parts), 1, -1):
            canned = self.canned.get("/".join(parts[:end]))
            if canned is not None and canned.times > 0:
                canned.times -= 1
                return canned.response()
        return None

    def _pass_on(self, client: socket.socket, request: bytes, *, is_socket: bool) -> None:
        with socket.create_connection(self._target, timeout=CONNECT_SECONDS) as server:
            server.settimeout(None)
            # One request a connection: each is looked at.
            server.sendall(request.replace(b"Connection: keep-alive", b"Connection: close"))
            threading.Thread(target=_copy, args=(client, server), daemon=True).start()
            if is_socket:
                self._copy_messages(server, client)
            else:
                _copy(server, client)

    def _copy_messages(self, server: socket.socket, client: socket.socket) -> None:
        """What the server says, as far as the fault lets it pass."""
        passed = ""
        while data := server.recv(CHUNK_BYTES):
            fault = self.websocket
            if fault is None or fault.after not in passed:
                client.sendall(data)
                passed += data.decode(errors="replace")
            if fault is not None and fault.kind == "cut" and fault.after in passed:
                break
        for end in (server, client):
            end.shutdown(socket.SHUT_RDWR)


def port_of(url: str) -> int:
    """The port of an address such as http://127.0.0.1:8188."""
    return int(url.rsplit(":", 1)[1])


def node_errors(node_id: str, class_type: str, message: str) -> dict[str, Any]:
    """ComfyUI's account of one invalid output, as `/prompt` gives it."""
    error = {"type": "canned", "message": message, "details": "width", "extra_info": {}}
    return {node_id: {"errors": [error], "dependent_outputs": [], "class_type": class_type}}


def _read_head(client: socket.socket) -> tuple[str, bytes]:
    """The path of a request, and all of it that has come."""
    request = b""
    while b"\r\n\r\n" not in request:
        data = client.recv(CHUNK_BYTES)
        if not data:
            raise ConnectionError("the client left before it asked")
        request += data
    return request.split(b" ", 2)[1].decode().split("?")[0], request


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK_BYTES):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _drain(client: socket.socket) -> None:
    """Take in what the client says, until it leaves."""
    while client.recv(CHUNK_BYTES):
        pass
