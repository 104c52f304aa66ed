"""The client on a real ComfyUI."""

from __future__ import annotations

import copy
import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from comfy_client import (
    ComfyClient,
    Event,
    ExecutionFailed,
    Interrupted,
    PromptRejected,
    TimedOut,
    Unreachable,
)
from talkinghead.workflow.graph import Graph
from tests.timing import LAST_RESORT_SECONDS, wait_until


def failing(graph: Graph) -> Graph:
    """A graph that fails when it runs: LoadAudio finds a file which is no sound."""
    return graph | {
        "8": {"class_type": "LoadAudio", "inputs": {"audio": "t/broken.wav"}},
        "9": {"class_type": "PreviewAny", "inputs": {"source": ["8", 0]}},
    }


class Clock:
    """The time as modules see it, which a test can put forward."""

    sleep = staticmethod(time.sleep)

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


def run(client: ComfyClient, graph: Graph) -> list[str]:
    outcome = client.run(graph, deadline_seconds=LAST_RESORT_SECONDS)
    return [file.filename for file in outcome.files]


def wait_idle(client: ComfyClient, prompt_id: str) -> None:
    wait_until(lambda: not client.is_queued(prompt_id), "the prompt neither waits nor runs")


@pytest.mark.usefixtures("all_events")
def test_a_graph_gives_its_files_texts_and_events(
    client: ComfyClient, graph: Graph, tmp_path: Path
) -> None:
    events: list[Event] = []
    graph["1"]["inputs"]["color"] = int(time.time()) % 0xFFFFFF
    outcome = client.run(graph, deadline_seconds=LAST_RESORT_SECONDS, on_event=events.append)
    assert [(f.node_id, f.key, f.subfolder, f.type) for f in outcome.files] == [
        ("2", "images", "t", "output")
    ] * 2
    assert outcome.texts["3"][0].startswith("tensor")
    client.download(outcome.files[0], tmp_path / "p.png")
    assert Image.open(tmp_path / "p.png").size == (64, 48)
    kinds = [event.type for event in events]
    assert kinds[0] == "execution_start" and "execution_success" in kinds


def test_a_graph_that_is_all_cache_still_names_its_files(client: ComfyClient, graph: Graph) -> None:
    assert run(client, graph) == run(client, graph) != []


@pytest.mark.parametrize("prompt_id", [str(uuid.uuid4()), "a job of Thursday, 7/8", "ÄÖ" * 99])
def test_the_prompt_runs_under_our_own_id(
    client: ComfyClient, graph: Graph, prompt_id: str
) -> None:
    assert (
        client.run(graph, deadline_seconds=LAST_RESORT_SECONDS, prompt_id=prompt_id).prompt_id
        == prompt_id
    )
    assert client.history(prompt_id) is not None
    client.forget(prompt_id)
    assert client.history(prompt_id) is None


def test_a_rejected_graph_names_node_input_and_value(client: ComfyClient, graph: Graph) -> None:
    graph["1"]["inputs"]["width"] = -5
    graph["1"]["_meta"] = {"title": "My canvas"}
    with pytest.raises(PromptRejected, match=r"My canvas \[EmptyImage\].*width") as caught:
        run(client, graph)
    assert caught.value.node_errors["1"]["class_type"] == "EmptyImage"


def test_a_graph_of_which_only_some_outputs_are_valid_is_rejected_and_not_run(
    client: ComfyClient, graph: Graph
) -> None:
    graph["4"] = copy.deepcopy(graph["2"]) | {
        "inputs": {"images": ["5", 0], "filename_prefix": "t/q"}
    }
    graph["5"] = copy.deepcopy(graph["1"])
    graph["5"]["inputs"]["height"] = "tall"
    prompt_id = str(uuid.uuid4())
    with pytest.raises(PromptRejected, match=r"height"):
        client.run(graph, deadline_seconds=LAST_RESORT_SECONDS, prompt_id=prompt_id)
    wait_idle(client, prompt_id)


def test_a_node_that_raises_is_named_with_its_message(
    client: ComfyClient, graph: Graph, tmp_path: Path
) -> None:
    (tmp_path / "broken.wav").write_text("no sound")
    client.upload(tmp_path / "broken.wav", subfolder="t")
    with pytest.raises(ExecutionFailed) as caught:
        run(client, failing(graph))
    assert (caught.value.node_id, caught.value.node_type) == ("8", "LoadAudio")
    assert "Invalid data" in caught.value.message


def test_an_interrupt_from_outside_is_no_failure_of_a_node(
    client: ComfyClient, slow_graph: Graph
) -> None:
    prompt_id = str(uuid.uuid4())

    def interrupt(event: Event) -> None:
        if event.type == "progress":
            client.interrupt(prompt_id)

    with pytest.raises(Interrupted):
        client.run(
            slow_graph,
            deadline_seconds=LAST_RESORT_SECONDS,
            prompt_id=prompt_id,
            on_event=interrupt,
        )


def test_the_deadline_ends_the_prompt_on_the_server_too(
    client: ComfyClient, slow_graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt_id, clock = str(uuid.uuid4()), Clock()
    monkeypatch.setattr("comfy_client.time", clock)

    def pass_time(event: Event) -> None:
        if event.type == "progress":
            clock.ahead = LAST_RESORT_SECONDS + 1

    with pytest.raises(TimedOut):
        client.run(
            slow_graph,
            deadline_seconds=LAST_RESORT_SECONDS,
            prompt_id=prompt_id,
            on_event=pass_time,
        )
    wait_idle(client, prompt_id)


def test_what_the_watch_raises_ends_the_prompt_and_comes_out(
    client: ComfyClient, slow_graph: Graph
) -> None:
    events: list[str] = []
    calls: list[int] = []

    def watch() -> None:
        if "progress" in events:
            calls.append(len(events))
        if len(calls) > 4:  # there are two steps: some of the calls come between two events
            raise KeyError("enough")

    prompt_id = str(uuid.uuid4())
    with pytest.raises(KeyError, match="enough"):
        client.run(
            slow_graph,
            deadline_seconds=LAST_RESORT_SECONDS,
            prompt_id=prompt_id,
            on_event=lambda event: events.append(event.type),
            watch=watch,
        )
    wait_idle(client, prompt_id)


def test_a_prompt_behind_another_can_be_taken_back(
    client: ComfyClient, graph: Graph, slow_graph: Graph, held: Callable[[], None]
) -> None:
    first, second = "the first", "the second"
    client.submit(slow_graph, first, client_id="other")
    held()
    with pytest.raises(TimedOut):
        client.run(graph, deadline_seconds=1, prompt_id=second)
    wait_idle(client, second)
    assert client.is_queued(first)
    client.stop(first)
    wait_idle(client, first)


def test_stopping_ends_that_prompt_and_no_other(
    client: ComfyClient, graph: Graph, slow_graph: Graph, held: Callable[[], None]
) -> None:
    done, running, waiting = "is done", "runs", "waits"
    client.run(graph, deadline_seconds=LAST_RESORT_SECONDS, prompt_id=done)
    client.submit(slow_graph, running, client_id="other")
    held()
    client.submit(graph, waiting, client_id="other")
    for prompt_id in (done, "was never there"):
        client.stop(prompt_id)
    assert client.is_queued(running) and client.is_queued(waiting)
    client.stop(running)
    wait_until(lambda: client.history(waiting), "the prompt behind it ends")
    assert (client.history(waiting) or {})["status"]["status_str"] == "success"
    assert (client.history(running) or {})["status"]["status_str"] == "error"


def test_a_server_without_websocket_is_followed_by_polling(
    client: ComfyClient, graph: Graph, socketless: str
) -> None:
    assert len(run(ComfyClient(socketless), graph)) == 2


def test_no_server_is_unreachable(graph: Graph) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(Unreachable, match="does not answer"):
        run(ComfyClient(f"http://127.0.0.1:{port}"), graph)
