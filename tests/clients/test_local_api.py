"""The clients on `talkinghead serve`, whose renders are stand-ins: what it says is RunPod's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from talkinghead.local_api.http import Access
from tests.clients.drivers import Driver
from tests.unit.test_local_api import (  # noqa: F401 - a fixture
    DONE,
    Api,
    api_with,
)

REQUEST = {"wav_url": "https://example.com/a.wav"}


@pytest.fixture
def serve(api_with: Callable[[Access], Api]) -> Api:  # noqa: F811
    api = api_with(Access("secret"))
    api.renders.go_on.set()
    return api


def call(client: Driver, api: Api, op: str, **given: Any) -> Any:  # noqa: ANN401 - as it comes
    return client.call(op, **{"url": api.server.url, "key": "secret", **given})


def test_a_render_with_a_local_file_is_done(client: Driver, serve: Api, tmp_path: Path) -> None:
    files = {"image_url": ("me.jpg", 5)}
    found = call(client, serve, "render", request=REQUEST, files=files)
    assert found.value["status"] == "completed"
    assert found.value["output"] == DONE
    (job,) = serve.renders.begun
    assert isinstance(job.input, dict)
    assert job.input["image_url"] == "data:image/jpeg;base64,eHh4eHg="


def test_its_failures_are_errors_by_their_code(client: Driver, serve: Api) -> None:
    serve.renders.result = {"error": "no", "error_code": "media_invalid", "retryable": False}
    error = call(client, serve, "render", request=REQUEST).error
    assert (error["class"], error["message"]) == ("MediaInvalid", "no")


def test_who_gives_up_waiting_ends_its_job(client: Driver, serve: Api) -> None:
    serve.renders.go_on.clear()
    error = call(client, serve, "render", request=REQUEST, give_up="IN_PROGRESS").error
    assert error["class"] == "GaveUp"
    assert serve.renders.begun[0].cancelled.is_set()


def test_its_refusals_are_told_in_its_words(client: Driver, serve: Api) -> None:
    assert call(client, serve, "render", request=REQUEST, key="no").error["class"] == "Unauthorized"
    error = call(client, serve, "submit", request=REQUEST, webhook="nowhere").error
    assert error["class"] == "BadRequest"
    assert "webhook must be an http:// or https:// URL" in error["message"]


def test_its_webhook_is_read_as_runpods(client: Driver, serve: Api) -> None:
    job = call(client, serve, "submit", request=REQUEST).value["id"]
    call(client, serve, "wait", job=job)
    hook = client.call("sign", hook="https://example.com/", reference="17", secret="s").value
    body = json.dumps(serve.queue.state(job))
    found = client.call("read", hook=hook, body=body, secret="s").value
    assert found == {"reference": "17", "status": "COMPLETED"}
