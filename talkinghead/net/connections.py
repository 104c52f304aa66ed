"""HTTP connections to the very address that the guard has checked."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable

import certifi
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util import Url

from talkinghead.net.guard import UrlGuard

CONNECT_SECONDS = 5.0  # for each address of a host
_PORTS = {"http": 80, "https": 443}


def trusted_authorities() -> ssl.SSLContext:
    """Checks certificates against certifi's authorities and the system's (SSL_CERT_FILE)."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    return context


def port_of(parts: Url) -> int:
    """The URL's port, or its scheme's."""
    return parts.port or _PORTS[str(parts.scheme)]


def connect(
    parts: Url,
    guard: UrlGuard,
    tls: ssl.SSLContext,
    check: Callable[[], None] = lambda: None,
) -> HTTPConnection:
    """A connection to the first of the host's addresses that takes one.

    `check` is called between two addresses; what it raises ends it.

    Raises:
        UrlBlocked: one of them is not public.
        socket.gaierror, urllib3's NewConnectionError and ConnectTimeoutError
    """
    for address in guard.addresses(parts, port_of(parts)):
        connection = _connection(parts, address, tls)
        try:
            connection.connect()
        except (NewConnectionError, ConnectTimeoutError) as error:
            check()
            failure = error
        else:
            return connection
    raise failure


def _connection(parts: Url, address: str, tls: ssl.SSLContext) -> HTTPConnection:
    """To the address; the certificate must be the host's all the same."""
    if parts.scheme == "http":
        return HTTPConnection(address, port_of(parts), timeout=CONNECT_SECONDS)
    return HTTPSConnection(
        address,
        port_of(parts),
        timeout=CONNECT_SECONDS,
        ssl_context=tls,
        server_hostname=_host(parts).strip("[]"),
    )


def base_headers(parts: Url) -> dict[str, str]:
    """What every request says."""
    usual = port_of(parts) == _PORTS[str(parts.scheme)]
    return {
        "Host": _host(parts) if usual else f"{_host(parts)}:{parts.port}",
        "User-Agent": "talkinghead",
        "Connection": "close",
    }


def _host(parts: Url) -> str:
    """As in the Host header and in certificates: without the dot that ends a full name."""
    return str(parts.host).rstrip(".")


def cut(connected: socket.socket | None) -> None:
    """End what another thread sends or receives there."""
    if connected is not None:
        with contextlib.suppress(OSError):
            # Not SSLSocket.shutdown, which takes the TLS state away under that thread.
            socket.socket.shutdown(connected, socket.SHUT_RDWR)
