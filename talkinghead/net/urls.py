"""What a URL of http or https may look like. Pure: whether it may be fetched, the guard tells."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

# Seen before the URL is parsed: nothing in the host that two parsers could read in two ways.
_BEGINNING = re.compile(r"https?://[^/?#\\%]+(?:[/?#]|$)", re.IGNORECASE)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# A file that a caller has put on the worker's volume, by a name that nobody else can guess.
_ON_VOLUME = re.compile(r"volume:([A-Za-z0-9_-]{20,64}(?:\.[A-Za-z0-9]{1,8})?)")
# A last label that is a number makes an IPv4 address of it (127.1, 0x7f000001), not a name.
_NAME = re.compile(rf"(?:{_LABEL}\.)*(?!(?:[0-9]+|0x[0-9a-f]*)\.?$){_LABEL}\.?")


def parse_http_url(url: str) -> Url:
    """The parts of a URL of http or https; its host is a name, or an IP address as usually written.

    Raises:
        ValueError: it is none; the text completes "not a URL: ...".
    """
    if not all(c.isprintable() and not c.isspace() for c in url):
        raise ValueError("it has a space or a control character")
    if not _BEGINNING.match(url):
        raise ValueError("it does not begin with http:// or https:// and a plain host")
    try:
        parts = parse_url(url)
    except LocationParseError:
        raise ValueError("its host or port is malformed") from None
    host = parts.host or ""
    if literal_address(host) is None and not (_NAME.fullmatch(host) and len(host) <= 253):
        raise ValueError("its host is neither a name nor an IP address in the usual form")
    if parts.port == 0:
        raise ValueError("its port is 0")
    return parts


def name_on_volume(url: str) -> str | None:
    """The name of a file in the volume's folder of uploads, if the URL is volume:NAME."""
    found = _ON_VOLUME.fullmatch(url)
    return found[1] if found else None


def literal_address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a URL's host is, if it is no name; IPv6 stands in brackets."""
    try:
        return IPv6Address(host[1:-1]) if host.startswith("[") else IPv4Address(host)
    except ValueError:
        return None
