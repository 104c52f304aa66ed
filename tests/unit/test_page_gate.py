"""Who may see `talkinghead page`."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from talkinghead.page.gate import COOKIE, Gate

TOKEN = "secret-of-a-test"


def behind(token: str | None, host: str = "127.0.0.1:8080") -> TestClient:
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("in")

    async def page(request: object) -> PlainTextResponse:
        return PlainTextResponse("in")

    routes = [Route("/", page, methods=["GET", "POST"]), WebSocketRoute("/socket", echo)]
    return TestClient(Gate(Starlette(routes=routes), token), base_url=f"http://{host}")


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:8080"])
def test_on_loopback_this_machines_browsers_come_in(host: str) -> None:
    assert behind(None, host).get("/").text == "in"


def test_a_name_of_somebody_elses_that_leads_here_does_not() -> None:
    assert behind(None, "evil.test:8080").get("/").status_code == 403


@pytest.mark.parametrize("name", ["Host", "Origin"])
def test_an_address_that_is_none_is_refused_and_no_fault(name: str) -> None:
    assert behind(None).get("/", headers={name: "http://["}).status_code == 403
    assert behind(None).get("/", headers={name: "["}).status_code == 403


def test_another_page_may_not_call_this_one() -> None:
    client = behind(None)
    assert client.post("/", headers={"Origin": "http://127.0.0.1:8080"}).text == "in"
    assert client.post("/", headers={"Origin": "http://evil.test"}).status_code == 403
    socket = "ws://127.0.0.1:8080/socket"
    with client.websocket_connect(socket) as ours:
        assert ours.receive_text() == "in"
    evil = {"Origin": "http://evil.test"}
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(socket, headers=evil):
        pass


def test_elsewhere_the_token_is_shown_once_and_kept_in_a_cookie() -> None:
    client = behind(TOKEN, "pages.test")
    refused = client.get("/")
    assert refused.status_code == 403 and "?token=" in refused.text
    assert client.get("/?token=wrong").status_code == 403
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("ws://pages.test/socket"):
        pass
    shown = client.get(f"/?token={TOKEN}", follow_redirects=False)
    assert (shown.status_code, shown.headers["location"]) == (303, "/")
    assert "httponly" in shown.headers["set-cookie"].lower()
    assert client.get("/").text == "in"
    with client.websocket_connect("ws://pages.test/socket") as socket:
        assert socket.receive_text() == "in"


def test_a_cookie_that_is_none_is_refused_and_breaks_nothing() -> None:
    client = behind(TOKEN)
    for cookie in ("", f"{COOKIE}=", f"{COOKIE}=x", "=;;,", f"{COOKIE}=\u00e9"):
        answer = client.get("/", headers=[(b"cookie", cookie.encode("latin-1"))])
        assert answer.status_code == 403
