"""HTTP connections to the very address that the guard has checked.

urllib3 is given the address in place of the name, since it would resolve a name again, and who owns
the name could answer the second time with an address inside. The name goes into the Host header,
and the certificate must be the name's. Connections follow no redirect, and use neither a proxy nor
what the environment says of one: whoever asks decides on each step.
"""

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
    """A context that checks certificates: certifi's authorities, and the system's (SSL_CERT_FILE).

    Made once and shared: threads may connect with it at the same time.
    """
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
    """An open connection to the first of the host's addresses that takes one; the caller closes it.

    `parts` are what `guard.check` gave. It waits for DNS, and CONNECT_SECONDS for each address;
    `check` is called between two addresses; what it raises ends it.

    Raises:
        UrlBlocked: one of the addresses may not be spoken to: then none is.
        socket.gaierror: the name has no address.
        NewConnectionError, ConnectTimeoutError: urllib3's, of the last address.
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
    """An unopened connection to the address; the certificate must be the host's all the same."""
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
    """The headers of every request to this URL; each connection is for one request."""
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
    """End what another thread sends or receives there; that thread sees the connection close.

    The socket stays open: only its own thread closes it, since the number of a closed one could by
    then be another connection's.
    """
    if connected is not None:
        with contextlib.suppress(OSError):
            # Not SSLSocket.shutdown, which takes the TLS state away under that thread.
            socket.socket.shutdown(connected, socket.SHUT_RDWR)
