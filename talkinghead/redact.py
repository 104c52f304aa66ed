"""URLs as they may be shown: without the secrets in them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit


def redact_url(url: str) -> str:
    """The URL without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(not a URL)"
    hidden = "?..." if parts.query else ""
    return urlunsplit((parts.scheme, host + port, parts.path, "", "")) + hidden


def redact_urls(text: str) -> str:
    """The text; its URLs lose their passwords, and what follows their path: signatures, mostly."""
    return re.sub(r"\bhttps?://[^\s\"'<>]+", lambda url: redact_url(url[0]), text)
