"""Telling a job's end to the URL that its caller gave, as RunPod does."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import requests

from talkinghead.redact import redact_url

log = logging.getLogger("talkinghead")

TRIES, PAUSE_SECONDS, ASK_SECONDS = 3, 10.0, 30.0


def tell(url: str, body: dict[str, Any]) -> None:
    """POST the body in the background: up to three times, until 200 is answered."""
    threading.Thread(target=_tell, args=(url, body), daemon=True).start()


def _tell(url: str, body: dict[str, Any]) -> None:
    problem = ""
    for number in range(TRIES):
        time.sleep(number and PAUSE_SECONDS)
        try:
            answer = requests.post(url, json=body, timeout=ASK_SECONDS, allow_redirects=False)
        except requests.RequestException as error:
            problem = type(error).__name__
            continue
        if answer.status_code == requests.codes.ok:
            return
        problem = f"HTTP {answer.status_code}"
    log.warning("the webhook %s was told nothing: %s", redact_url(url), problem)
