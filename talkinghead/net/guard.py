"""Which URLs may be fetched, and from which addresses: what is on the public internet, no other.

Every URL, the one of the request and each that a server redirects to, goes through `check` and
`addresses`, and the connection is made to one of those very addresses: a name that is resolved
again could give others by then.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from urllib3.util import Url

from talkinghead.errors import UrlBlocked
from talkinghead.net.urls import literal_address, parse_http_url
from talkinghead.redact import redact_url

Networks = tuple[IPv4Network | IPv6Network, ...]
Resolver = Callable[[str, int], list[str]]

# IANA's special-purpose registries. Not the flags of ipaddress (is_private, is_global): what these
# say differs between Python versions.
NOT_PUBLIC: Networks = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; a cloud's metadata at 100.100.100.200
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host, from inside
        "169.254.0.0/16",  # link-local; the clouds' metadata at 169.254.169.254
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # multicast relays
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        # Public IPv6 addresses are all in 2000::/3. These three are the rest: loopback, local and
        # private ones, multicast, and all that stand for IPv4 ones (mapped, compatible, NAT64).
        "::/3",
        "4000::/2",
        "8000::/1",
        "2001::/23",  # protocol assignments, Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: any IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)


def system_addresses(host: str, port: int) -> list[str]:
    """What the system's resolver knows of a name.

    Raises:
        socket.gaierror: nothing.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


@dataclass(frozen=True)
class UrlGuard:
    """Lets URLs of public addresses through: none in `blocked`."""

    blocked: Networks = NOT_PUBLIC
    resolver: Resolver = system_addresses

    def check(self, url: str) -> Url:
        """The parts of a URL that nothing forbids, as far as is seen without resolving its name.

        Raises:
            UrlBlocked: not a URL of http or https, one with a user or password, or of an address
                that is not public.
        """
        try:
            parts = parse_http_url(url)
        except ValueError as error:
            raise _blocked(url, f"it is not a URL to fetch: {error}") from None
        if parts.auth is not None:
            raise _blocked(url, "it holds a user name or password; use a presigned URL")
        literal = literal_address(parts.host or "")
        if literal is not None and self._forbids(literal):
            raise _blocked(url, "its address is not on the public internet")
        return parts

    def addresses(self, parts: Url, port: int) -> list[str]:
        """The addresses of a URL's host, resolved once, to connect to without resolving again.

        Raises:
            UrlBlocked: one of them or more is not public. Then none is used: a name that has both
                is made to lead inside.
            socket.gaierror: there are none.
        """
        host = parts.host or ""
        literal = literal_address(host)
        found = self.resolver(host, port) if literal is None else [str(literal)]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        try:
            addresses = [ip_address(text) for text in found]
        except ValueError:
            addresses = []
        if not addresses or any(self._forbids(address) for address in addresses):
            # Not which address: that would tell a caller about the network of the worker.
            raise _blocked(parts.url, "its host has an address that is not on the public internet")
        return list(dict.fromkeys(str(address) for address in addresses))

    def _forbids(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self.blocked)


PUBLIC_ONLY = UrlGuard()


def _blocked(url: str, reason: str) -> UrlBlocked:
    return UrlBlocked(f"{redact_url(url)} may not be fetched: {reason}")
