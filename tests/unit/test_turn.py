"""Turns at ComfyUI: who has it, when the next has it, what is known of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from comfy_client import ComfyClient
from talkinghead.comfy.studio import Studio
from talkinghead.errors import Cancelled
from talkinghead.settings import Settings
from tests.timing import LAST_RESORT_SECONDS


class FakeClient(ComfyClient):
    """Counts the reads of the schemas; comes to rest when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.may_rest = threading.Event()

    def object_info(self) -> Mapping[str, Any]:
        self.reads += 1
        return {f"Read{self.reads}": {}}

    def wait_idle(self, prompt_id: str, *, deadline_seconds: float) -> None:
        assert self.may_rest.wait(LAST_RESORT_SECONDS)

    def forget(self, prompt_id: str) -> None:
        """History is of no interest here."""


class FakeStudio(Studio):
    """A studio with that client."""

    client: FakeClient

    def new_client(self) -> ComfyClient:
        return self.client


@pytest.fixture
def studio() -> FakeStudio:
    studio = FakeStudio(Settings(comfyui_url="http://127.0.0.1:9"))
    studio.client = FakeClient()
    return studio


def give_up() -> None:
    raise Cancelled("the job was cancelled")


def has_turn(studio: Studio) -> bool:
    """Whether a job that will not wait gets a turn now."""
    try:
        with studio.comfy("impatient", give_up):
            return True
    except Cancelled:
        return False


def test_after_a_success_the_next_job_waits_until_comfyui_is_at_rest(studio: FakeStudio) -> None:
    with studio.comfy("first", lambda: None) as turn:
        turn.set_last_prompt("a-prompt", {})
    assert not has_turn(studio)
    studio.client.may_rest.set()
    with studio.comfy("next", lambda: None):
        assert not has_turn(studio)


def test_after_a_failure_comfyui_is_at_rest_when_the_failure_is_told(studio: FakeStudio) -> None:
    studio.client.may_rest.set()
    with pytest.raises(ValueError), studio.comfy("first", lambda: None) as turn:
        turn.set_last_prompt("a-prompt", {})
        raise ValueError
    assert has_turn(studio)


def test_a_turn_whose_end_fails_lets_the_next_job_in(
    studio: FakeStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(prompt_id: str) -> None:
        raise ZeroDivisionError

    studio.client.may_rest.set()
    monkeypatch.setattr(studio.client, "forget", fail)
    with pytest.raises(ZeroDivisionError), studio.comfy("first", lambda: None) as turn:
        turn.set_last_prompt("a-prompt", {})
        raise ValueError
    assert has_turn(studio)


def test_schemas_of_somebodys_server_are_read_once_and_again_when_asked(
    studio: FakeStudio,
) -> None:
    for _ in range(2):
        with studio.comfy("a-job", lambda: None) as turn:
            assert set(turn.schemas()) == {"Read1"}
    with studio.comfy("a-job", lambda: None) as turn:
        assert set(turn.schemas(fresh=True)) == {"Read2"}
        assert set(turn.schemas()) == {"Read2"}


@pytest.fixture
def own_comfyui(tmp_path: Path) -> Iterator[FakeStudio]:
    """A studio with a process of its own that sleeps, in the place of ComfyUI."""
    (tmp_path / "main.py").write_text("import time; time.sleep(99)")
    settings = Settings(comfyui_dir=tmp_path, work_dir=tmp_path / "work", comfyui_cpu=True)
    with FakeStudio(settings) as studio:
        studio.client = FakeClient()
        yield studio


def test_schemas_are_read_again_from_a_comfyui_that_was_started_again(
    own_comfyui: FakeStudio,
) -> None:
    studio, client = own_comfyui, own_comfyui.client
    assert set(studio.schemas(client)) == {"Read1"}
    assert set(studio.schemas(client)) == {"Read1"}
    assert studio.server is not None
    studio.server.start()
    assert set(studio.schemas(client)) == {"Read2"}
