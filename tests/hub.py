"""A stand-in for the hub on loopback: what a download asks of it, ranges included."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.timing import wait_until

COMMIT = "5" * 40
PIECE = 256 * 1024


@dataclass
class HubFile:
    """A file at the hub; `announced` is the size it claims, `faulty` how many GETs are damaged."""

    content: bytes
    announced: int | None = None
    faulty: int = 0

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


class Hub:
    """Serves `files` ("org/name/path" -> file); counts GETs, ranges and bytes that were sent.

    When `limit` bytes were sent in all, it holds back the others until the limit is another; and
    `held_back`, which names a file, until it is None.
    """

    def __init__(self, files: Mapping[str, HubFile], *, pause_seconds: float = 0) -> None:
        self.files = files
        self.pause_seconds = pause_seconds
        self.limit = math.inf
        self.held_back: str | None = None
        self.gets: Counter[str] = Counter()
        self.ranges: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.tokens: set[str | None] = set()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Hub]:
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()
        try:
            yield self
        finally:
            self.limit, self.held_back = math.inf, None
            self._server.shutdown()
            self._server.server_close()

    def _may_send(self, name: str) -> bool:
        return self.sent.total() < self.limit and name != self.held_back

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                if found := self._found():
                    self._say(200, found[1], found[1].announced or len(found[1].content))

            def do_GET(self) -> None:
                if found := self._found():
                    name, file = found
                    start = self._start()
                    hub.gets[name] += 1
                    hub.ranges[name] += bool(start)
                    content = file.content
                    if hub.gets[name] <= file.faulty:
                        content = bytes(1) + content[1:]
                    self._say(206 if start else 200, file, len(content) - start)
                    self._send(name, content[start:])

            def _found(self) -> tuple[str, HubFile] | None:
                hub.tokens.add(self.headers.get("Authorization"))
                match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", self.path)
                name = "/".join(match.groups()) if match else ""
                if name in hub.files:
                    return name, hub.files[name]
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None

            def _start(self) -> int:
                match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
                return int(match[1]) if match else 0

            def _say(self, status: int, file: HubFile, length: int) -> None:
                size, start = file.announced or len(file.content), self._start()
                self.send_response(status)
                self.send_header("ETag", f'"{file.sha256}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("X-Linked-Size", str(size))
                self.send_header("Content-Length", str(length))
                if status == 206:
                    self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
                self.end_headers()

            def _send(self, name: str, content: bytes) -> None:
                with contextlib.suppress(ConnectionError):  # a client that was killed
                    for at in range(0, len(content), PIECE):
                        wait_until(lambda: hub._may_send(name), "leave to send more")
                        piece = content[at : at + PIECE]
                        self.wfile.write(piece)
                        hub.sent[name] += len(piece)
                        time.sleep(hub.pause_seconds)

            def log_message(self, format: str, *args: object) -> None:
                """Requests are not part of a test's output."""

        return Handler
