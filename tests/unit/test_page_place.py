"""Where `talkinghead page` has its videos rendered."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from talkinghead.client import AsyncClient, Unauthorized
from talkinghead.comfy import warm
from talkinghead.comfy.warm import Warm
from talkinghead.page import place as places
from talkinghead.page.making import Making
from talkinghead.page.place import Place, there
from talkinghead.page.words import GENERAL, UNHEARD, fault_of
from talkinghead.settings import Settings
from tests.clients.runpod import KEY, RUNNING, RunPod
from tests.timing import LAST_RESORT_SECONDS
from tests.unit.test_page_words import asked


@pytest.mark.parametrize(
    ("endpoint", "key"),
    [("http://127.0.0.1:8000", "of-serve"), ("abc123xyz", "of-runpod")],
)
def test_an_endpoint_gets_its_own_key_and_no_other(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, key: str
) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", "of-runpod")
    monkeypatch.setenv("TALKINGHEAD_TOKEN", "of-serve")
    with there(Settings(), endpoint) as place:
        assert place.renders.api_key == key


def test_who_gave_no_key_is_told_the_variables_that_the_page_takes() -> None:
    told = fault_of(Unauthorized("the endpoint wants a key, and api_key gives none")).at(GENERAL)
    assert "RUNPOD_API_KEY" in told and "TALKINGHEAD_TOKEN" in told and "api_key" not in told


def test_a_cancel_that_nobody_heard_can_be_pressed_again(tmp_path: Path) -> None:
    api = RunPod()
    api.script, api.faults["cancel"] = [RUNNING], [400]
    client = AsyncClient(url=api.url, api_key=KEY, poll_seconds=0.01)
    told: list[bool] = []

    async def story() -> Making:
        made = Making(Place(client, client), asked(), lambda: told.append(made.is_cancelled))
        following = asyncio.create_task(made.follow(tmp_path / "video.mp4"))
        while not made.progress:
            await asyncio.sleep(0.01)
        await made.cancel()
        assert made.fault is not None and made.fault.at(GENERAL) == UNHEARD
        assert not made.is_cancelled and not made.is_over
        await made.cancel()
        await following
        return made

    made = asyncio.run(story())
    api.close()
    assert made.is_cancelled and made.is_over and made.fault is None
    assert api.cancelled == ["job-1"]


def cancelled_while_sending(url: str, tmp_path: Path, when: Callable[[], bool]) -> Making:
    client = AsyncClient(url=url, api_key=KEY, poll_seconds=0.01)

    async def story() -> Making:
        made = Making(Place(client, client), asked(), lambda: None)
        following = asyncio.create_task(made.follow(tmp_path / "video.mp4"))
        while not when():
            await asyncio.sleep(0.01)
        await made.cancel()
        await asyncio.wait_for(following, LAST_RESORT_SECONDS)
        return made

    return asyncio.run(story())


def test_a_cancel_does_not_wait_for_an_endpoint_that_is_not_there(tmp_path: Path) -> None:
    looks = iter((False, False, True))
    made = cancelled_while_sending("http://127.0.0.1:9", tmp_path, lambda: next(looks))
    assert made.is_cancelled and made.is_over and made.fault is None


def test_a_cancel_ends_the_job_that_was_just_being_sent(tmp_path: Path) -> None:
    api = RunPod()
    api.script = [RUNNING]
    sending = threading.Event()

    def meanwhile() -> None:
        sending.set()
        time.sleep(0.5)  # the cancel comes while /run waits for its answer

    api.meanwhile = meanwhile
    made = cancelled_while_sending(api.url, tmp_path, sending.is_set)
    api.close()
    assert made.is_cancelled and made.is_over and api.cancelled == ["job-1"]


def test_the_page_goes_on_after_the_comfyui_of_up_has_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    running: list[Warm | None] = [Warm("http://127.0.0.1:1", tmp_path)]
    monkeypatch.setattr(warm, "find", lambda settings: running[0])
    monkeypatch.setattr(places, "stay_ready", lambda studio: None)
    with places._Studios(Settings(work_dir=tmp_path), None) as studios:
        first = studios.now()
        assert first.settings.comfyui_url == "http://127.0.0.1:1"
        assert studios.now() is first
        running[0] = None
        own = studios.now()
        assert own.settings.comfyui_url is None
        running[0] = Warm("http://127.0.0.1:2", tmp_path)
        assert studios.now() is own, "it has started, and stays"
