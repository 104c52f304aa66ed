"""Webhooks: RunPod signs none, so the URL that it calls carries a signature of ours."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode, urlsplit

from .errors import WebhookForged
from .jobs import JobState

REFERENCE, SIGNATURE = "reference", "signature"


@dataclass(frozen=True)
class WebhookCall:
    """A call that carries our signature: what it is about, and how the job is."""

    reference: str
    state: JobState


def signed_webhook(url: str, reference: str, secret: str) -> str:
    """The URL to give as `webhook`, for a reference of yours: an order's number, say.

    Raises:
        ValueError: the secret is empty: anybody could sign.
    """
    query = urlencode({REFERENCE: reference, SIGNATURE: _signature(reference, secret)})
    return f"{url}{'&' if urlsplit(url).query else '?'}{query}"


def read_webhook(url: str, body: bytes | str, secret: str) -> WebhookCall:
    """What a call of your webhook says.

    Who knows the URL can send any body: it tells that something happened. What it is worth money
    for, ask `Client.state(call.state.id)` as well.

    Args:
        url: as it was called, or its path and query.

    Raises:
        WebhookForged: it is not signed with this secret, or no job's state is in it.
        ValueError: the secret is empty.
    """
    query = parse_qs(urlsplit(url).query)
    reference, signature = query.get(REFERENCE, [""])[0], query.get(SIGNATURE, [""])[0]
    if not hmac.compare_digest(signature.encode(), _signature(reference, secret).encode()):
        raise WebhookForged("the call does not carry our signature")
    try:
        content = json.loads(body)
        return WebhookCall(reference, JobState.read(content))
    except (ValueError, AttributeError):
        raise WebhookForged("the call holds no job's state") from None


def _signature(reference: str, secret: str) -> str:
    if not secret:
        raise ValueError("the secret is empty: anybody could sign")
    return hmac.new(secret.encode(), reference.encode(), hashlib.sha256).hexdigest()
