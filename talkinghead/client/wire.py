"""One call of an endpoint over HTTP: what it answered, or how it did not.

It matters whether a call that failed was heard: only one that surely was not may be sent again.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ASK_SECONDS = 30.0
FILE_SECONDS = 300.0  # without a byte of a file, up or down
# urllib's own name is refused by the platform's front, as a robot's.
AGENT = "talkinghead-client/0.1"


RUNPOD_URL = "https://api.runpod.ai/v2"
_ENDPOINT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:~-]{0,199}")
_PLAIN = re.compile(r"[!-~]+")


def is_runpods(url: str) -> bool:
    """Whether the URL is RunPod's own, over TLS: nobody else is to get RunPod's key."""
    return url.startswith(RUNPOD_URL.removesuffix("v2"))


def endpoint_url(endpoint_id: str) -> str:
    """That of a RunPod endpoint.

    Raises:
        ValueError: it is no id.
    """
    if not _ENDPOINT.fullmatch(endpoint_id):
        raise ValueError(f"{endpoint_id!r} is no endpoint's id, such as abc123xyz: is it a url?")
    return f"{RUNPOD_URL}/{endpoint_id}"


def is_job_id(name: str) -> bool:
    """Whether it may be what /run answered, of whatever endpoint."""
    return _JOB.fullmatch(name) is not None


def _check_url(url: str) -> None:
    """Raises ValueError unless calls can be made below the URL."""
    shown = url.partition("?")[0].rpartition("@")[2]
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        good = good and not parts.query and not parts.fragment
    except ValueError:
        good = False
    if not (good and _PLAIN.fullmatch(url)):
        raise ValueError(
            f"url: {shown!r} is no http:// or https:// URL of an endpoint, such as "
            "http://127.0.0.1:8000"
        )


class Unheard(Exception):
    """Nobody was there: what was asked was not heard."""


class Unanswered(Exception):
    """What was asked may have been heard; no answer came, or only a part of one."""


@dataclass(frozen=True)
class Answer:
    """What came back: HTTP's status, and the JSON object, empty where there was none."""

    status: int
    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_ok(self) -> bool:
        """Whether the call did what was asked."""
        return 200 <= self.status < 300

    @property
    def reason(self) -> str:
        """What a refusal says."""
        said = self.content.get("error") or self.content.get("message") or self.content.get("title")
        return f"HTTP {self.status}: {said}" if said else f"HTTP {self.status}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        """A redirect would take the key with it to another host."""


_API = urllib.request.build_opener(_NoRedirect)
_FILES = urllib.request.build_opener()


@dataclass(frozen=True)
class Wire:
    """The endpoint at `url`: https://api.runpod.ai/v2/ID, or that of `talkinghead serve`.

    Raises:
        ValueError: it is no URL.
    """

    url: str
    api_key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        _check_url(self.url)

    def key_refused(self, reason: str) -> str:
        """What to say where the endpoint does not take the key, or there is none."""
        if self.api_key:
            return f"the endpoint does not take the key ({reason})"
        own = "RUNPOD_API_KEY is for https://api.runpod.ai alone"
        return f"the endpoint wants a key, and api_key gives none ({reason}): {own}"

    def ask(
        self, method: str, path: str, body: object = None, *, seconds: float = ASK_SECONDS
    ) -> Answer:
        """Ask the endpoint, as `ask("POST", "run", {"input": …})`.

        Raises:
            Unheard, Unanswered
        """
        headers = {"User-Agent": AGENT, "Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        data = None if body is None and method == "GET" else json.dumps(body or {}).encode()
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/{path}", data, headers, method=method
        )
        try:
            with _API.open(request, timeout=seconds) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, _refusal(error))
        except urllib.error.URLError as error:
            away = Unheard if _is_unheard(error.reason) else Unanswered
            raise away(str(error.reason) or type(error.reason).__name__) from None
        except (OSError, http.client.HTTPException) as error:
            raise Unanswered(str(error) or type(error).__name__) from None
        found = _object(content)
        if found is None:
            raise Unanswered("the answer is no JSON object, or half of one")
        return Answer(status, found)


def _is_unheard(reason: object) -> bool:
    """Whether a connection did not come about. A timeout may be of the sending: that is none."""
    never = (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError)
    return isinstance(reason, never)


def _refusal(error: urllib.error.HTTPError) -> Mapping[str, Any]:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return _object(error.read()) or {}
    return {}


def _object(content: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(content)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def put_file(url: str, content: Path | bytes, headers: Mapping[str, str]) -> None:
    """PUT a file to a URL.

    Raises:
        OSError: it was not taken; the message says why.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(content, bytes):
            data: Any = content
            size = len(content)
        else:
            data = stack.enter_context(content.open("rb"))
            size = content.stat().st_size
        sent = {"User-Agent": AGENT, "Content-Length": str(size), **headers}
        request = urllib.request.Request(url, data, sent, method="PUT")
        _transfer(request).close()


def get_file(url: str, target: Path) -> None:
    """Download a file, to `target` whole or not at all.

    Raises:
        OSError: it did not come; the message says why.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        with _transfer(urllib.request.Request(url, headers={"User-Agent": AGENT})) as answer:
            with part.open("wb") as file:
                shutil.copyfileobj(answer, file)
            length = answer.headers.get("Content-Length")
        if length is not None and part.stat().st_size != int(length):
            raise OSError("it was cut off")
        part.replace(target)
    except http.client.HTTPException as error:
        raise OSError(f"it was cut off ({type(error).__name__})") from None
    finally:
        part.unlink(missing_ok=True)


def _transfer(request: urllib.request.Request) -> Any:  # noqa: ANN401 - urllib's response
    """The answer; an error tells no URL, which may be signed."""
    if request.type not in ("http", "https"):  # urllib knows file:, too
        raise OSError("it is not at an http:// or https:// URL")
    try:
        return _FILES.open(request, timeout=FILE_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"HTTP {error.code}") from None
    except urllib.error.URLError as error:
        raise OSError(str(error.reason) or type(error.reason).__name__) from None
    except http.client.HTTPException as error:
        raise OSError(type(error).__name__) from None
