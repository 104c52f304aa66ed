"""Of a thousand renders over a network that loses every fifth answer, none is started twice.

Half of them are Python's, half TypeScript's.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.clients.drivers import Driver
from tests.clients.runpod import (
    BEHIND_GATEWAY,
    HALF,
    KEY,
    LOST,
    LOST_BEHIND_GATEWAY,
    Fault,
    RunPod,
    completed,
)

CALLS, LOST_SHARE = 500, 0.2
FAULTS: tuple[Fault, ...] = (LOST, BEHIND_GATEWAY, LOST_BEHIND_GATEWAY, HALF)


class Lossy(RunPod):
    """Loses answers at random, always the same ones, and is too busy now and then."""

    def __init__(self) -> None:
        super().__init__()
        self._random = random.Random(21)

    def fault(self, verb: str) -> Fault | None:
        with self._lock:
            if self._random.random() < LOST_SHARE:
                return self._random.choice(FAULTS)
            return 429 if self._random.random() < 0.02 else None


@pytest.mark.parametrize("client", ["python", "typescript"], indirect=True)
def test_no_job_is_started_twice_though_every_fifth_answer_is_lost(client: Driver) -> None:
    api = Lossy()
    api.script = [completed()]
    ended: Counter[str] = Counter()
    for number in range(CALLS):
        request = {"image_url": "https://x/i.jpg", "request_id": f"order-{number}"}
        given = {"url": api.url, "key": KEY, "request": request, "poll_seconds": 0.001}
        outcome = client.call("render", **given)
        ended[outcome.error.get("class", "done")] += 1
    api.close()
    assert ended.keys() == {"done", "AnswerLost"}, ended
    assert 0.7 * CALLS < ended["done"] < CALLS
    assert len(api.started) == CALLS
    assert set(api.started.values()) == {1}
