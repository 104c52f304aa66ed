from __future__ import annotations

from typing import Any

import pytest

from comfy_client import ComfyClient, TimedOut
from talkinghead.comfy.studio import Studio
from talkinghead.settings import Settings


class WatchedStudio(Studio):
    """Hands out a client of the test's; tells whether it ended its ComfyUI."""

    ended = False
    client: ComfyClient

    def new_client(self) -> ComfyClient:
        return self.client

    def close(self, *, for_good: bool = False) -> None:
        self.ended = True


class SlowClient(ComfyClient):
    """A ComfyUI that does not make it in time: at coming to rest, or at running a graph."""

    def __init__(self, slow_at: str) -> None:
        super().__init__()
        self._slow_at = slow_at

    def wait_idle(self, prompt_id: str, *, deadline_seconds: float) -> None:
        if self._slow_at == "wait_idle":
            raise TimedOut("still busy")

    def run(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        raise TimedOut("still loading")

    def forget(self, prompt_id: str) -> None:
        """History is of no interest here."""


@pytest.mark.parametrize(("slow_at", "ended"), [("wait_idle", True), ("run", False)])
def test_a_comfyui_that_does_not_rest_is_ended_and_one_that_loads_models_slowly_is_not(
    slow_at: str, ended: bool
) -> None:
    studio = WatchedStudio(Settings(comfyui_url="http://127.0.0.1:9"))
    studio.client = SlowClient(slow_at)
    with studio.comfy("first", lambda: None) as turn:
        turn.set_last_prompt("a-prompt", {"1": {"class_type": "Loader", "inputs": {}}})
    with studio.comfy("next", lambda: None):
        assert studio.ended is ended
