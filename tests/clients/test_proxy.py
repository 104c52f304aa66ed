"""The proxy of examples/calling, which has the key: who may use it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from talkinghead.settings import PROJECT_DIR
from tests.clients.drivers import NODE
from tests.clients.runpod import KEY, RunPod
from tests.timing import LAST_RESORT_SECONDS


@pytest.fixture
def proxy(api: RunPod) -> Iterator[str]:
    process = subprocess.Popen(
        [NODE, str(PROJECT_DIR / "examples" / "calling" / "proxy.mjs"), "0"],
        env=os.environ | {"TALKINGHEAD_URL": api.url, "TALKINGHEAD_TOKEN": KEY},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield process.stdout.readline().split()[-1]
    process.terminate()
    process.communicate()


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        (None, None, 200),
        ("own", None, 200),
        ("http://evil.test", None, 403),
        ("http://evil.test", "evil.test", 403),
    ],
    ids=["no page", "its own page", "another page", "a name that leads here"],
)
def test_only_its_own_page_may_use_the_key(
    proxy: str, api: RunPod, origin: str | None, host: str | None, status: int
) -> None:
    headers = {"Content-Type": "text/plain"}
    headers |= {"Origin": proxy if origin == "own" else origin} if origin else {}
    headers |= {"Host": host} if host else {}
    answer = requests.post(
        f"{proxy}/api/run",
        data='{"input": {"wav_url": "x"}}',
        headers=headers,
        timeout=LAST_RESORT_SECONDS,
    )
    assert answer.status_code == status
    assert len(api.bodies) == (status == 200)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_never_ends_is_not_kept(proxy: str, api: RunPod, chunked: bool) -> None:
    piece = b"x" * (1 << 20)
    data: Any = (piece for _ in range(12)) if chunked else piece * 12
    try:
        answer = requests.post(f"{proxy}/api/run", data=data, timeout=LAST_RESORT_SECONDS)
        assert answer.status_code == 413
        assert "10 MB" in answer.json()["error"]
    except requests.ConnectionError:
        assert chunked, "it was cut off in the middle"
    assert api.bodies == []
    assert requests.get(proxy, timeout=LAST_RESORT_SECONDS).ok
