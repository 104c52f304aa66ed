"""A request as it may be shown, or summed up: the model knows which fields hold URLs and files."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from typing import Any

from talkinghead.plan.fields import BASE64_FIELDS, RequestFields
from talkinghead.redact import content_shown, is_data, redact_url, redact_urls

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
    return redact_url(text) if names & _url_fields() else redact_urls(text)


def with_sums(asked: object, name: str = "") -> object:
    """A request with a sum in place of each inline file, which may have millions of characters."""
    if isinstance(asked, Mapping):
        return {key: with_sums(value, str(key)) for key, value in asked.items()}
    if isinstance(asked, list):
        return [with_sums(item, name) for item in asked]
    if isinstance(asked, str) and (name in BASE64_FIELDS or is_data(asked)):
        content = asked.encode("utf-8", "surrogatepass")
        return f"sha256:{hashlib.sha256(content).hexdigest()}"
    return asked


@functools.cache
def _url_fields() -> frozenset[str]:
    schema = RequestFields.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    fields = [each for model in models for each in model["properties"].items()]
    return frozenset(name for name, rule in fields if _holds_url(rule))


def _holds_url(rule: Mapping[str, Any]) -> bool:
    inner = [*rule.get("anyOf", ()), *([rule["items"]] if "items" in rule else ())]
    return rule.get("format") == "uri" or any(_holds_url(each) for each in inner)
