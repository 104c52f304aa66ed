"""An HTTP server of a test's own, on loopback and in a thread."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable
from typing import Any


class QuietHandler(http.server.BaseHTTPRequestHandler):
    """A handler whose requests are not part of a test's output."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class LoopbackServer:
    """Answers by `handler` until `close`; `origin` is where."""

    def __init__(self, handler: Callable[..., Any]) -> None:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.origin = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
