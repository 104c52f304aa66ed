"""URLs and inline files as they may be shown: without the secrets, and the contents, in them."""

from __future__ import annotations

import re

# What a user name or password can be before a host: also one with a slash or a question mark,
# which no URL may hold unescaped. What looks like a port is none.
_USER = r"(?:[^\s/?#@]*|[^\s/?#@:]*:(?!\d{0,5}(?:[/?#]|$))[^\s@]*)@"
_USERS = re.compile(rf"(?<=[:/\\][/\\]){_USER}")
_FIRST_USER = re.compile(rf"^{_USER}")
# Without a scheme a host is known by its dot or port; in a text, before it, a user by the password.
_HOST = r"(?:(?:[\w-]+\.)+[\w-]+(?::\d+)?|[\w-]+:\d+|localhost|\[[\da-fA-F:.]+\](?::\d+)?)"
_BARE_USERS = re.compile(rf"(?<![\w.:/\\@%+-])[\w.%+-]{{1,100}}:[^\s/@]{{1,300}}@(?={_HOST})")
# From the slashes on, whatever the scheme, up to the next blank; or a host and path with a query.
_URLS = re.compile(rf"(?:[:/\\][/\\]|(?<![\w.-]){_HOST}(?:/[^\s?]*\?|\?(?=[\w.-]{{1,100}}=)))\S*")
_DATA = re.compile(
    r"(data:(?:[^\s,/]{1,80}/[^\s,]{0,200}|[^\s,]{0,200};base64),[\w+/=%-]*)\S*", re.IGNORECASE
)
_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+")


def is_data(url: str) -> bool:
    """Whether it is a data: URI, a file itself, as far as its beginning tells."""
    return url[:5].lower() == "data:"


def redact_url(url: str) -> str:
    """The URL without user, password, query and fragment; of a data: URI its type and size.

    It need not be a good one: what stands in the place of a URL may be one without its scheme.
    """
    if is_data(url):
        return _data_shown(url)
    return _without_secrets(_FIRST_USER.sub("", url))


def redact_urls(text: str) -> str:
    """The text; each URL in it loses what `redact_url` takes, as does what follows it in its word.

    A URL is known by two slashes, one after a colon, by its query after a host, or by a user and a
    password before one.
    """
    shorter = _BARE_USERS.sub("", _DATA.sub(lambda data: _data_shown(data[1]), text))
    return _URLS.sub(lambda url: _without_secrets(url[0]), shorter)


def is_base64(text: str) -> bool:
    """Whether it may be base64, as far as its beginning tells."""
    return re.fullmatch(r"[A-Za-z0-9+/=_\s-]+", text[:80]) is not None


def content_shown(text: str) -> str:
    """A file in base64, or as a data: URI, by its size."""
    return f"base64 ({_bytes_of(text, 0)} bytes)" if is_base64(text) else redact_urls(text)


def _without_secrets(url: str) -> str:
    whole = _USERS.sub("", url)
    end = re.search(r"[?#](?=.)", whole)  # a sentence may end there
    if end is None:
        return whole
    return whole[: end.start()] + ("?..." if end[0] == "?" else "")


def _data_shown(uri: str) -> str:
    begin = uri.find(",", 0, 300) + 1
    kind = _TYPE.match(uri, 5, begin) if begin else None
    return f"data:{kind[0] if kind else ''} ({_bytes_of(uri, begin or 5)} bytes)"


def _bytes_of(base64: str, begin: int) -> int:
    """How many bytes the base64 text from `begin` on stands for."""
    blanks = sum(base64.count(blank, begin) for blank in " \t\r\n")
    return (len(base64) - begin - blanks - base64[-2:].count("=")) * 3 // 4
