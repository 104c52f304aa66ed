"""A RunPod endpoint's API, or that of a worker with --rp_serve_api: what it says, or that it won't.

By the client's wire. Whatever comes, however odd, is an answer or one of two errors.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from typing import Any

from talkinghead.client.wire import ASK_SECONDS, Unanswered, Wire, is_runpods
from talkinghead.client.wire import Unheard as WireUnheard
from talkinghead.redact import redact_url
from talkinghead.replay.places import Away

UNAUTHORIZED, NOT_FOUND, METHOD_NOT_ALLOWED = 401, 404, 405
CANCEL_SECONDS, CANCELS, CANCEL_PAUSE_SECONDS = 10.0, 3, 1.0


def key_name(url: str) -> str:
    """The environment variable that has the endpoint's key: RunPod's goes to nobody else."""
    return "RUNPOD_API_KEY" if is_runpods(url) else "TALKINGHEAD_TOKEN"


class Unheard(Away):
    """Nobody is there: what was asked was not heard."""


class NoUse(Exception):
    """Somebody answered, and said nothing that is of use; `status` is HTTP's, of a refusal."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class EndpointApi:
    """The jobs of an endpoint; `name` is what people are told of it.

    Its methods raise `Away` if no answer comes, or half of one, `Unheard` if nobody heard the
    question, and `NoUse` if the answer is a refusal, or says nothing.

    Args:
        url: of the endpoint, of `talkinghead serve`, or of a worker with --rp_serve_api.
    """

    def __init__(self, url: str) -> None:
        self.name, self._key = redact_url(url), key_name(url)
        self._wire = Wire(url, os.environ.get(self._key, "").strip())

    def reach(self) -> None:
        """Return if anything answers; a worker's own API has no health.

        Raises:
            Away
        """
        with contextlib.suppress(NoUse):
            self.ask("GET", "health")

    def submit(self, content: Mapping[str, Any], *, low_priority: bool = False) -> str:
        """The id of a new job with this input; one of low priority starts no worker.

        Raises:
            Away, Unheard, NoUse
        """
        policy = {"policy": {"lowPriority": True}} if low_priority else {}
        job = self.ask("POST", "run", {"input": content, **policy}).get("id")
        if not isinstance(job, str):
            raise NoUse("it gave the job no id")
        return job

    def state(self, job: str, *, seconds: float) -> Mapping[str, Any]:
        """What is said of the job; its `status` is in it.

        Args:
            seconds: how long a worker may take that answers when it is done.

        Raises:
            Away, NoUse
        """
        try:
            state = self.ask("GET", f"status/{job}")
        except NoUse as error:
            if error.status != METHOD_NOT_ALLOWED:
                raise
            # A worker's own API: it renders only now, and answers when it is done.
            state = self.ask("POST", f"status/{job}", seconds=seconds)
        if not isinstance(state.get("status"), str):
            raise NoUse(f"{self.name} did not say how the job is")
        return state

    def cancel(self, job: str) -> None:
        """Have the job end: one that nobody waits for is paid for all the same. Never fails."""
        for number in range(CANCELS):
            time.sleep(number and CANCEL_PAUSE_SECONDS)
            try:
                self.ask("POST", f"cancel/{job}", seconds=CANCEL_SECONDS)
            except Away:
                continue
            except NoUse as error:
                if error.status is None or error.status >= 500:
                    continue
            return

    def ask(
        self, method: str, path: str, data: object = None, *, seconds: float = ASK_SECONDS
    ) -> Mapping[str, Any]:
        """What the endpoint answers on that path, in so many seconds.

        Raises:
            Away, Unheard, NoUse
        """
        try:
            answer = self._wire.ask(method, path, data, seconds=seconds)
        except WireUnheard as error:
            raise Unheard(f"{self.name} does not answer ({error})") from None
        except Unanswered as error:
            raise Away(f"{self.name} gave no answer of use ({error})") from None
        if answer.status == UNAUTHORIZED:
            raise NoUse(f"{self._key} is not taken by the endpoint", UNAUTHORIZED)
        if not answer.is_ok:
            raise NoUse(answer.reason, answer.status)
        return answer.content
