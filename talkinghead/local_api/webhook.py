"""Telling a job's end to the URL that its caller gave, as RunPod does."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import Any

import requests

from talkinghead.client.webhook import HEADER, webhook_signature
from talkinghead.errors import UrlBlocked
from talkinghead.net.guard import UrlGuard
from talkinghead.redact import redact_url

log = logging.getLogger("talkinghead")

TRIES, PAUSE_SECONDS, ASK_SECONDS = 3, 10.0, 30.0


def tell(
    url: str, body: dict[str, Any], guard: UrlGuard | None = None, token: str | None = None
) -> None:
    """POST the body in the background: up to three times, until 200 is answered.

    With a guard only where that lets it; with a token a header signs the body and its time.
    """
    sent = json.dumps(body).encode()
    try:
        threading.Thread(target=_tell, args=(url, sent, guard, token), daemon=True).start()
    except RuntimeError as error:  # no thread is to be had: the jobs go on
        log.warning("the webhook %s was told nothing: %s", redact_url(url), error)


def _tell(url: str, body: bytes, guard: UrlGuard | None, token: str | None) -> None:
    problem, headers = "", {"Content-Type": "application/json"}
    for number in range(TRIES):
        time.sleep(number and PAUSE_SECONDS)
        try:
            if guard is not None:
                parts = guard.check(url)
                guard.addresses(parts, parts.port or 443)
            if token is not None:
                headers[HEADER] = webhook_signature(body, token)
            answer = requests.post(
                url, data=body, headers=headers, timeout=ASK_SECONDS, allow_redirects=False
            )
        except UrlBlocked as error:
            log.warning("a webhook was told nothing: %s; ALLOW_PRIVATE_URLS would let it", error)
            return
        except (requests.RequestException, OSError) as error:
            problem = type(error).__name__
            continue
        if answer.status_code == requests.codes.ok:
            return
        problem = f"HTTP {answer.status_code}"
    log.warning("the webhook %s was told nothing: %s", redact_url(url), problem)
