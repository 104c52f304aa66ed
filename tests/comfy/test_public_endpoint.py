"""RunPod's public InfiniteTalk, in whose place a worker stands: its request, its response."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from talkinghead.comfy.studio import Studio
from talkinghead.local_api.http import Access, ApiServer
from talkinghead.local_api.jobs import JobQueue
from talkinghead.local_api.webhook import tell
from talkinghead.net.fetch import Fetcher, Input
from talkinghead.render.run import run_job
from talkinghead.settings import PROJECT_DIR
from tests.conftest import FileServer
from tests.timing import LAST_RESORT_SECONDS

# Word for word what RunPod's documentation of the endpoint `infinitetalk` shows.
DOCUMENTED = PROJECT_DIR / "tests" / "contract" / "requests" / "c1_public.json"
PRICE_PER_HOUR = 3600.0  # so that a second costs 1


@pytest.fixture
def example_com(
    studio: Studio, files: FileServer, portrait: Path, voice: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The documented request's files are there, on another host."""
    (files.folder / "avatar.jpg").write_bytes(portrait.read_bytes())
    (files.folder / "speech.wav").write_bytes(voice.read_bytes())
    fetch = studio.fetcher.fetch

    def there(inputs: Sequence[Input], *args: Any, **named: Any) -> Any:  # noqa: ANN401
        moved = [replace(each, url=files.url(each.url.rpartition("/")[2])) for each in inputs]
        return fetch(moved, *args, **named)

    assert isinstance(studio.fetcher, Fetcher)
    monkeypatch.setattr(studio.fetcher, "fetch", there)


@pytest.fixture
def endpoint(
    studio: Studio, example_com: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], requests.Response]]:
    """Sends the documented request to /runsync."""
    priced = studio.settings.model_copy(update={"price_per_hour": PRICE_PER_HOUR})
    monkeypatch.setattr(studio, "settings", priced)
    queue = JobQueue(lambda job: run_job(job, studio), tell)
    server = ApiServer(("127.0.0.1", 0), queue, Access())
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    queue.start()
    yield lambda: requests.post(
        f"{server.url}/v2/infinitetalk/runsync?wait=300000",
        data=DOCUMENTED.read_bytes(),
        headers={"Authorization": "Bearer any", "Content-Type": "application/json"},
        timeout=LAST_RESORT_SECONDS,
    )
    queue.close()
    server.shutdown()
    server.server_close()


def check_response(answer: dict[str, Any]) -> dict[str, Any]:
    """It has what the documentation says that it has; returns its output."""
    assert answer["id"].startswith("sync-")
    assert answer["status"] == "COMPLETED", answer
    assert isinstance(answer["delayTime"], int)
    assert isinstance(answer["workerId"], str)
    output: dict[str, Any] = answer["output"]
    # Of the seconds that it held the worker, to within those that the API itself takes.
    assert 0 < output["cost"] <= (answer["executionTime"] + 1) / 1000  # which is rounded
    assert output["cost"] >= output["processing_time_seconds"] - 0.1
    return output


def test_the_documented_request_gives_the_documented_response(
    on_s3: Studio, endpoint: Callable[[], requests.Response]
) -> None:
    output = check_response(endpoint().json())
    video = requests.get(output["video_url"], timeout=LAST_RESORT_SECONDS).content
    assert video[4:8] == b"ftyp"
    info = output["video_info"]
    assert (info["width"], info["height"]) == (640, 640)  # in the picture's shape, and 480p
    assert "enable_safety_checker has no effect" in output["warnings"][0]


def test_without_a_bucket_the_video_url_is_the_video_itself(
    endpoint: Callable[[], requests.Response],
) -> None:
    output = check_response(endpoint().json())
    assert output["video_url"].startswith("data:video/mp4;base64,")
    assert "video" not in output
