"""A RunPod endpoint's API, or that of a worker with --rp_serve_api: what it says, or that it won't.

By the SDK's client. Whatever comes, however odd, is an answer or one of two errors.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

import requests
import runpod
from requests.adapters import HTTPAdapter
from urllib3.exceptions import NewConnectionError

from talkinghead.redact import redact_url
from talkinghead.replay.places import Away

UNAUTHORIZED, NOT_FOUND, METHOD_NOT_ALLOWED = 401, 404, 405
ASK_SECONDS = 30.0
CANCEL_SECONDS, CANCELS, CANCEL_PAUSE_SECONDS = 10.0, 3, 1.0


class Unheard(Away):
    """Nobody is there: what was asked was not heard."""


class NoUse(Exception):
    """Somebody answered, and said nothing that is of use; `status` is HTTP's, of a refusal."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class EndpointApi:
    """The jobs of an endpoint; `name` is what people are told of it.

    Its methods raise `Away` if no answer comes, `Unheard` if nobody heard the question, and
    `NoUse` if the answer is a refusal, cut off, or no JSON object.

    Args:
        url: of the endpoint, or of a worker that runs with --rp_serve_api.
        api_key: RunPod's.
    """

    def __init__(self, url: str, api_key: str) -> None:
        self.name = redact_url(url)
        # The client makes URLs as <base>/<id>/run: a worker's own API has no id, so its host is it.
        base, self._id = url.rstrip("/").rsplit("/", 1)
        self._client = runpod.Endpoint(self._id, api_key).rp_client
        self._client.endpoint_url_base = base
        # The client's own would try five times, for half a minute, and hear no stop.
        self._client.rp_session.mount("http://", HTTPAdapter())

    def reach(self) -> None:
        """Return if anything answers; a worker's own API has no health.

        Raises:
            Away
        """
        with contextlib.suppress(NoUse):
            self._ask("GET", "health")

    def submit(self, content: Mapping[str, Any], *, low_priority: bool = False) -> str:
        """The id of a new job with this input; one of low priority starts no worker.

        Raises:
            Away, Unheard, NoUse
        """
        policy = {"policy": {"lowPriority": True}} if low_priority else {}
        job = self._ask("POST", "run", {"input": content, **policy}).get("id")
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
            state = self._ask("GET", f"status/{job}")
        except NoUse as error:
            if error.status != METHOD_NOT_ALLOWED:
                raise
            # A worker's own API: it renders only now, and answers when it is done.
            state = self._ask("POST", f"status/{job}", seconds=seconds)
        if not isinstance(state.get("status"), str):
            raise NoUse(f"{self.name} did not say how the job is")
        return state

    def cancel(self, job: str) -> None:
        """Have the job end: one that nobody waits for is paid for all the same. Never fails."""
        for number in range(CANCELS):
            time.sleep(number and CANCEL_PAUSE_SECONDS)
            try:
                self._ask("POST", f"cancel/{job}", seconds=CANCEL_SECONDS)
            except Away:
                continue
            except NoUse as error:
                if error.status is None or error.status >= 500:
                    continue
            return

    def _ask(
        self, method: str, path: str, data: object = None, *, seconds: float = ASK_SECONDS
    ) -> Mapping[str, Any]:
        try:
            if method == "GET":
                answer = self._client.get(f"{self._id}/{path}", timeout=seconds)
            else:
                answer = self._client.post(f"{self._id}/{path}", data, timeout=seconds)
        except requests.HTTPError as error:
            raise NoUse(f"HTTP {error.response.status_code}", error.response.status_code) from None
        except (requests.ConnectionError, requests.Timeout) as error:
            away = Unheard if _is_unheard(error) else Away
            raise away(f"{self.name} does not answer ({type(error).__name__})") from None
        except RuntimeError:  # the client's word for it
            raise NoUse("RUNPOD_API_KEY is not taken by the endpoint", UNAUTHORIZED) from None
        except ValueError:  # before requests' own: its error for bad JSON is one of those, too
            raise NoUse(f"{self.name} did not answer with JSON") from None
        except requests.RequestException as error:
            raise NoUse(f"{self.name} gave half an answer ({type(error).__name__})") from None
        if not isinstance(answer, Mapping):
            raise NoUse(f"{self.name} did not answer with a JSON object")
        return answer


def _is_unheard(error: requests.RequestException) -> bool:
    never_there = (requests.ConnectTimeout, requests.exceptions.SSLError)
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, never_there) or isinstance(reason, NewConnectionError)
