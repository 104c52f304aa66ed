"""RunPod's verbs over HTTP: /run, /runsync, /status, /stream, /cancel and /health.

Each also below /v2/<any id>, as clients of RunPod write it.
"""

from __future__ import annotations

import contextlib
import hmac
import http.client
import http.server
import ipaddress
import json
import logging
import re
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from talkinghead.local_api.jobs import TTL_SECONDS, JobQueue, Submission, TooManyJobs
from talkinghead.net.urls import parse_http_url
from talkinghead.settings import Settings

log = logging.getLogger("talkinghead")

# RunPod's, in bytes of the request's body.
RUN_BYTES, RUNSYNC_BYTES = 10 * 1024**2, 20 * 1024**2
WAIT_SECONDS, LEAST_WAIT_SECONDS, MOST_WAIT_SECONDS = 90.0, 1.0, 300.0  # of /runsync
LEAST_EXECUTION_MS, LEAST_TTL_MS, MOST_MS = 5_000, 10_000, 7 * 86_400_000
# A connection that says nothing for so long is closed; the first, of who has not shown the token.
STRANGER_SECONDS, IDLE_SECONDS = 10.0, 120.0
MOST_CALLS = 400  # at once; each has a file and a thread, which jobs need, too
_BUSY = b'{"error": "too many calls at once: try again later"}'
BUSY = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_BUSY), _BUSY)
)
PREFLIGHT_SECONDS = 600
_PATH = re.compile(r"/(?:v2/[^/]+/)?(run|runsync|health|status|stream|cancel)(?:/([^/]+))?/?")
_WITH_ID = ("status", "stream", "cancel")
_BY_POST, _BY_GET = ("POST",), ("GET", "HEAD")
_METHODS = dict.fromkeys(("run", "runsync", "cancel"), _BY_POST) | dict.fromkeys(
    ("health", "status", "stream"), _BY_GET
)
_NUMBER = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True)
class Access:
    """Who may call: with this token, if there is one, and from pages of these origins."""

    token: str | None = None
    origins: frozenset[str] = frozenset()

    def admits_page(self, origin: str) -> bool:
        """Whether pages of this origin may call."""
        return "*" in self.origins or origin in self.origins

    def admits(self, authorization: str) -> bool:
        """Whether the Authorization header has the token, with or without "Bearer"."""
        if self.token is None:
            return True
        given = authorization.removeprefix("Bearer ").strip()
        return hmac.compare_digest(given.encode(), self.token.encode())


class OpenToAll(Exception):
    """Anybody on the network could call: the address is not this machine's own, without a token."""


def access_of(settings: Settings, host: str) -> Access:
    """Who may call at this address.

    Raises:
        OpenToAll
    """
    token = settings.api_token.get_secret_value() if settings.api_token else None
    if token is None and not _is_loopback(host):
        raise OpenToAll(
            f"--host {host}: others could use it then. Set API_TOKEN, which callers send as "
            "Authorization: Bearer TOKEN"
        )
    origins = (each.strip().rstrip("/") for each in settings.api_cors_origins.split(","))
    return Access(token, frozenset(each for each in origins if each))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Refused(Exception):
    """The call is answered with this HTTP status, and the sentence as `error`.

    `allowed` are the methods by which that path may be called, where this one is none.
    """

    def __init__(self, status: HTTPStatus, message: str, allowed: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.status, self.allowed = status, allowed


class ApiServer(http.server.ThreadingHTTPServer):
    """The API at `address`; each call has a thread of its own."""

    daemon_threads = True
    request_queue_size = (
        128  # of calls at once; the standard 5 leave the others waiting for a second
    )

    def __init__(self, address: tuple[str, int], queue: JobQueue, access: Access) -> None:
        self.queue, self.access = queue, access
        self._room = threading.Semaphore(MOST_CALLS)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - a socket
        """Begin with the call, if there is room for one more."""
        if self._room.acquire(blocking=False):
            try:
                super().process_request(request, client_address)
            except RuntimeError:  # no thread could be started
                self._room.release()
                raise
            return
        with contextlib.suppress(OSError):
            request.sendall(BUSY)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """The call, in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller who is gone before the answer is no event; a fault of ours is."""
        if not isinstance(sys.exception(), ConnectionError):
            log.exception("a call of the API could not be answered")

    @property
    def url(self) -> str:
        """Where it answers."""
        host = str(self.server_address[0])
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: ApiServer
    protocol_version = "HTTP/1.1"
    timeout = STRANGER_SECONDS
    headers = http.client.HTTPMessage()  # until those of the call are read

    def do_GET(self) -> None:
        """Answer the call; those by another method are told which are allowed."""
        try:
            self._check_access()
            self._send(HTTPStatus.OK, self._do(self._body()))
        except Refused as error:
            self._send(error.status, _error(str(error)), error.allowed)
        except TooManyJobs:
            self._send(HTTPStatus.TOO_MANY_REQUESTS, _error("the queue is full: try again later"))

    do_POST = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_GET

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What is no call of HTTP, or by a method that is none: said as all is said here."""
        self.close_connection, status = True, HTTPStatus(code)
        self.request_version = self.protocol_version  # else none of the headers would be sent
        self._send(status, _error(message or explain or status.phrase))

    def do_OPTIONS(self) -> None:
        """A browser asks whether its page may call."""
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = (
                True  # no browser's: what follows would be read as the next call
            )
        if self._page_is_refused():
            self._send(HTTPStatus.FORBIDDEN, _error(_NO_PAGES))
            return
        self.send_response(HTTPStatus.NO_CONTENT)
        self._send_cors()
        self.send_header("Access-Control-Allow-Methods", "GET, POST")
        self.send_header("Access-Control-Allow-Headers", "Authorization, Content-Type")
        self.send_header("Access-Control-Max-Age", str(PREFLIGHT_SECONDS))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _do(self, body: bytes) -> dict[str, Any]:
        """What the call asks for.

        Raises:
            Refused, TooManyJobs
        """
        try:
            parts = urlsplit(self.path)
        except ValueError:
            raise Refused(HTTPStatus.NOT_FOUND, f"that is no path: {_VERBS}") from None
        found = _PATH.fullmatch(parts.path)
        if found is None or (found[1] in _WITH_ID) != (found[2] is not None):
            raise Refused(HTTPStatus.NOT_FOUND, f"there is no {parts.path}: {_VERBS}")
        verb, name = found[1], found[2]
        if self.command not in (allowed := _METHODS[verb]):
            told = f"/{verb} is called by {allowed[0]}"
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, told, [*allowed, "OPTIONS"])
        queue = self.server.queue
        match verb:
            case "run":
                return queue.submit(_submission(body, is_sync=False))
            case "runsync":
                seconds = _wait_seconds(parts.query)
                job = queue.submit(_submission(body, is_sync=True))
                return queue.wait(job["id"], seconds) or job
            case "health":
                return queue.health()
        state = queue.cancel(name) if verb == "cancel" else queue.state(name)
        if state is None:
            raise Refused(HTTPStatus.NOT_FOUND, "job not found: unknown, or its result expired")
        # This worker yields nothing, so that nothing is streamed: progress is in /status.
        return {"status": state["status"], "stream": []} if verb == "stream" else state

    def _check_access(self) -> None:
        """Of who may not call, nothing is kept: a body is read away, unseen."""
        if self._page_is_refused():
            refused = Refused(HTTPStatus.FORBIDDEN, _NO_PAGES)
        elif not self.server.access.admits(self.headers.get("Authorization", "")):
            refused = Refused(
                HTTPStatus.UNAUTHORIZED, "the Authorization header has no token of ours"
            )
        else:
            self.connection.settimeout(IDLE_SECONDS)
            return
        self._read_away(min(self._length(), RUNSYNC_BYTES))
        self.close_connection = True
        raise refused

    def _page_is_refused(self) -> bool:
        """Whether a page asks that may not: else any page that is open could use the GPU."""
        origin = self.headers.get("Origin")
        return origin is not None and not self.server.access.admits_page(origin)

    def _length(self) -> int:
        """Of the body, in bytes. If it is not sure, what follows could be read as the next call."""
        lengths = set(self.headers.get_all("Content-Length", ["0"]))
        text = lengths.pop()
        if "Transfer-Encoding" in self.headers or lengths or not _NUMBER.fullmatch(text):
            self.close_connection = True
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "send the body with its Content-Length")
        return int(text)

    def _body(self) -> bytes:
        length = self._length()
        limit = RUNSYNC_BYTES if "/runsync" in self.path else RUN_BYTES
        if length > limit:
            self.close_connection = True
            self._read_away(min(length, 4 * limit))  # who is still sending hears no answer
            raise Refused(HTTPStatus.BAD_REQUEST, f"exceeded max body size of {limit >> 20}MiB")
        return self.rfile.read(length)

    def _read_away(self, length: int) -> None:
        while length > 0 and (read := len(self.rfile.read(min(length, 1 << 16)))):
            length -= read

    def _send(
        self, status: HTTPStatus, content: Mapping[str, Any], allowed: Sequence[str] = ()
    ) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self._send_cors()
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if allowed:
            self.send_header("Allow", ", ".join(allowed))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_cors(self) -> None:
        origin = self.headers.get("Origin")
        if origin is not None and self.server.access.admits_page(origin):
            self.send_header("Access-Control-Allow-Origin", origin)
            self.send_header("Vary", "Origin")

    def log_message(self, format: str, *args: object) -> None:
        """Jobs are logged, not polls."""


_VERBS = "/run, /runsync, /status/ID, /stream/ID, /cancel/ID and /health are"
_NO_PAGES = "pages of this origin may not call: API_CORS_ORIGINS names those that may"
_SHAPE = 'the body must be a JSON object with the request as `input`: {"input": {…}}'


def _error(message: str) -> dict[str, Any]:
    return {"error": message}


def _submission(body: bytes, *, is_sync: bool) -> Submission:
    """The job in a call's body.

    Raises:
        Refused: it holds none.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    fields = content.get("input") if isinstance(content, Mapping) else None
    if not isinstance(fields, Mapping) or not fields:
        raise Refused(HTTPStatus.BAD_REQUEST, _SHAPE)
    policy = content.get("policy") or {}
    if not isinstance(policy, Mapping):
        raise Refused(HTTPStatus.BAD_REQUEST, "policy must be a JSON object")
    execution = _ms(policy, "executionTimeout", LEAST_EXECUTION_MS)
    ttl = _ms(policy, "ttl", LEAST_TTL_MS)
    return Submission(
        fields,
        is_sync,
        _webhook(content.get("webhook")),
        execution,
        TTL_SECONDS if ttl is None else ttl,
        len(body),
    )


def _ms(policy: Mapping[str, Any], name: str, least: int) -> float | None:
    """A time of the policy, in seconds."""
    value = policy.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or not least <= value <= MOST_MS:
        allowed = f"{least} or more, up to {MOST_MS}, milliseconds"
        raise Refused(HTTPStatus.BAD_REQUEST, f"policy.{name} must be {allowed}")
    return value / 1000


def _webhook(url: object) -> str | None:
    if not url:
        return None
    try:
        return url if isinstance(url, str) and parse_http_url(url) else _refuse_webhook()
    except ValueError:
        return _refuse_webhook()


def _refuse_webhook() -> str:
    raise Refused(HTTPStatus.BAD_REQUEST, "webhook must be an http:// or https:// URL")


def _wait_seconds(query: str) -> float:
    """How long /runsync waits: `?wait=` in milliseconds, as RunPod takes it."""
    text = parse_qs(query).get("wait", [""])[0]
    if not _NUMBER.fullmatch(text):
        return WAIT_SECONDS
    return min(max(int(text) / 1000, LEAST_WAIT_SECONDS), MOST_WAIT_SECONDS)
