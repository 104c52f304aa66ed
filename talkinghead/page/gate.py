"""Who may see the page: on loopback this machine's browsers; elsewhere who has the token."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

COOKIE = "talkinghead-token"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
NO_HOST = "This page is for the addresses of this machine alone."
NO_ORIGIN = "Another page may not call this one."
NO_TOKEN = "Open this page with ?token= and the API_TOKEN that it was started with.\n"


class Gate:
    """In front of everything else.

    Args:
        token: None on loopback: then the Host has to be this machine's, so that no other page
            reaches this one by a name that leads here.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the call through, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if self._token is not None and self._is_token(query.get("token", [""])[0]):
            answer = RedirectResponse(scope["path"], status_code=303)
            answer.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
            await answer(scope, receive, send)
            return
        if (refusal := self._refusal(headers)) is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await PlainTextResponse(refusal, status_code=403)(scope, receive, send)

    def _refusal(self, headers: Mapping[str, str]) -> str | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        try:
            name, caller = urlsplit(f"//{host}").hostname, urlsplit(origin or "").netloc
        except ValueError:  # a bracket that nothing closes
            return NO_HOST
        if self._token is None and name not in LOOPBACK:
            return NO_HOST
        if origin is not None and caller != host:
            return NO_ORIGIN
        if self._token is not None and not self._is_token(_cookie(headers)):
            return NO_TOKEN
        return None

    def _is_token(self, given: str) -> bool:
        return self._token is not None and hmac.compare_digest(given.encode(), self._token.encode())


def _cookie(headers: Mapping[str, str]) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""
