"""Webhooks: RunPod signs none, so the URL that it calls carries a signature of ours.

It covers a reference and when it expires. The body is signed where the caller is `talkinghead
serve` with API_TOKEN: by a header, like Stripe's, over its time and the body.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode, urlsplit

from .errors import WebhookForged
from .jobs import JobState

REFERENCE, EXPIRES, SIGNATURE = "reference", "expires", "signature"
EXPIRES_SECONDS = 7 * 86_400  # a job may wait for a day, or for what its ttl says
HEADER = "Talkinghead-Signature"
BODY_SECONDS = 300  # how old a signed body may be: clocks differ, and networks wait
_HEADER = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})")


@dataclass(frozen=True)
class WebhookCall:
    """A call that carries our signature: what it is about, and how the job is."""

    reference: str
    state: JobState


def signed_webhook(url: str, reference: str, secret: str, *, expires: float | None = None) -> str:
    """The URL to give as `webhook`, for a reference of yours: an order's number, say.

    Args:
        expires: from then on it is not taken any more, seconds since 1970; in a week if None.

    Raises:
        ValueError: the secret is empty: anybody could sign.
    """
    end = str(int(time.time() + EXPIRES_SECONDS if expires is None else expires))
    signature = _signature(reference, end, secret)
    query = urlencode({REFERENCE: reference, EXPIRES: end, SIGNATURE: signature})
    return f"{url}{'&' if urlsplit(url).query else '?'}{query}"


def read_webhook(
    url: str,
    body: bytes | str,
    secret: str,
    *,
    signature: str | None = None,
    token: str | None = None,
) -> WebhookCall:
    """What a call of your webhook says.

    Without a token the body is not signed: who knows the URL can send any. It tells that something
    happened; what it is worth money for, ask `Client.state` of the id that `submit` gave.

    Args:
        url: as it was called, or its path and query.
        signature: the call's header Talkinghead-Signature.
        token: API_TOKEN of the `talkinghead serve` that calls: body and header have to fit it.

    Raises:
        WebhookForged: it is not signed with this secret or token, or no longer, or no job's state
            is in it.
        ValueError: the secret, or the token, is empty.
    """
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    reference, end = query.get(REFERENCE, ""), query.get(EXPIRES)
    if not _is_equal(query.get(SIGNATURE, ""), _signature(reference, end, secret)):
        raise WebhookForged("the call does not carry our signature")
    if end is not None and float(end) < time.time():
        raise WebhookForged("the call's signature has expired")
    content = body.encode() if isinstance(body, str) else body
    if token is not None:
        _check_body(content, signature or "", token)
    try:
        return WebhookCall(reference, JobState.read(json.loads(content)))
    except (ValueError, AttributeError):
        raise WebhookForged("the call holds no job's state") from None


def webhook_signature(body: bytes, token: str, now: float | None = None) -> str:
    """The header Talkinghead-Signature of a body, sent now."""
    sent = str(int(time.time() if now is None else now))
    return f"t={sent},v1={_hmac(token, sent.encode() + b'.' + body)}"


def _check_body(body: bytes, header: str, token: str) -> None:
    found = _HEADER.fullmatch(header)
    if found is None or not _is_equal(header, webhook_signature(body, token, int(found[1]))):
        raise WebhookForged("the call's body does not carry the signature of this token")
    if abs(time.time() - int(found[1])) > BODY_SECONDS:
        raise WebhookForged("the call's body was signed at another time")


def _signature(reference: str, end: str | None, secret: str) -> str:
    """Of a URL. Those of earlier clients have no end, and another key: none passes for another."""
    if end is None or not secret:
        return _hmac(secret, reference.encode())
    return _hmac(f"{EXPIRES}:{secret}", f"{end}.{reference}".encode())


def _hmac(key: str, text: bytes) -> str:
    if not key:
        raise ValueError("the secret is empty: anybody could sign")
    return hmac.new(key.encode(), text, hashlib.sha256).hexdigest()


def _is_equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
