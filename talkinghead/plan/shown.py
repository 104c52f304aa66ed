"""A request as it may be shown, or summed up: the model knows which fields hold URLs and files."""

from __future__ import annotations

from collections.abc import Mapping

from talkinghead.plan.fields import BASE64_FIELDS, url_fields
from talkinghead.redact import content_shown, redact_url, redact_urls

LEFT_OUT = "upload_url"  # what it is for ends with the job


def without_secrets(asked: object, name: str = "") -> object:
    """A request without `upload_url`, the queries and passwords of its URLs, and inline files.

    Args:
        asked: the request, or a field of it.
        name: of that field, or of several with dots between them.
    """
    if isinstance(asked, Mapping):
        return {k: without_secrets(v, str(k)) for k, v in asked.items() if k != LEFT_OUT}
    if isinstance(asked, list):
        return [without_secrets(item, name) for item in asked]
    return shown(asked, name) if isinstance(asked, str) else asked


def shown(text: str, name: str) -> str:
    """What a field of that name holds; whole where it is a URL, else what in it looks like one."""
    names = set(name.split("."))
    if names & BASE64_FIELDS.keys():
        return content_shown(text)
    return redact_url(text) if names & url_fields() else redact_urls(text)
