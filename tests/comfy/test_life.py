"""One truth of life: what stalls a job, and what looks like it and is none."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from comfy_client import ComfyClient, Event
from talkinghead.comfy import health
from talkinghead.comfy.studio import Studio
from talkinghead.comfy.warm_up import warm_up
from talkinghead.doctor import examine
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.render.run import run_job
from talkinghead.settings import Settings
from talkinghead.workflow.graph import Graph
from tests.comfy.proxy import Canned, Kind, Proxy, SocketFault, port_of
from tests.timing import LAST_RESORT_SECONDS, wait_until

STALL_SECONDS = 3.0
POLLS_TOO_MANY = 5  # a second lies between two: these take longer than a render may stall


@pytest.fixture
def proxy(client: ComfyClient) -> Iterator[Proxy]:
    with Proxy(port_of(client.url)) as proxy:
        yield proxy


@pytest.fixture
def far(proxy: Proxy, settings: Settings) -> Iterator[Studio]:
    """A worker with COMFYUI_URL, whose patience with a stalled render is short."""
    changes = {"comfyui_url": proxy.url, "stall_seconds": STALL_SECONDS}
    with Studio(settings.model_copy(update=changes)) as studio:
        studio.idle_seconds = LAST_RESORT_SECONDS
        yield studio


def polled(proxy: Proxy, since: int) -> bool:
    """Whether so much time has gone by, in looks at the queue, that a render would be stalled."""
    return proxy.paths.count("/queue") > since + POLLS_TOO_MANY


@pytest.mark.parametrize("kind", ["cut", "deaf"])
def test_a_job_whose_socket_is_lost_renders_to_its_end(
    far: Studio,
    proxy: Proxy,
    short_job: dict[str, Any],
    control: Callable[..., None],
    tmp_path: Path,
    *,
    kind: Kind,
) -> None:
    """It gets on, step by step, and nobody hears it."""
    proxy.websocket, begun = SocketFault(kind), tmp_path / "begun"
    control(step_seconds=1, seeds_log=str(begun))
    before: list[int] = []

    def hurry() -> None:
        wait_until(begun.exists, "a sampler begins")
        before.append(proxy.paths.count("/queue"))
        wait_until(lambda: polled(proxy, *before), "it is silent for longer than it may stall")
        control()

    threading.Thread(target=hurry, daemon=True).start()
    result = run_job(Job("lost", short_job | {"steps": 40}), far)
    assert result["status"] == "completed", result
    assert not [each for each in result["warnings"] if "twice" in each]
    assert polled(proxy, *before)


@pytest.mark.parametrize("kind", ["cut", "deaf"])
def test_a_job_that_hangs_after_its_socket_was_lost_is_stopped_by_the_stall_limit(
    far: Studio,
    proxy: Proxy,
    short_job: dict[str, Any],
    held: Callable[[], None],
    *,
    kind: Kind,
) -> None:
    proxy.websocket = SocketFault(kind)
    result = run_job(Job("hangs", short_job), far)
    assert result["error_code"] == "render_stalled", result
    assert proxy.paths.count("/internal/logs/raw") > 1


def test_of_a_server_that_shows_neither_events_nor_its_log_nothing_is_taken_for_a_stall(
    far: Studio,
    proxy: Proxy,
    short_job: dict[str, Any],
    held: Callable[[], None],
    control: Callable[..., None],
) -> None:
    proxy.websocket = SocketFault("cut")
    proxy.canned["/internal/logs"] = Canned({"error": "no such page"}, status=404)

    def release() -> None:
        held()
        before = proxy.paths.count("/queue")
        wait_until(lambda: polled(proxy, before), "it is silent for longer than it may stall")
        control()

    threading.Thread(target=release, daemon=True).start()
    assert run_job(Job("dark", short_job), far)["status"] == "completed"


class Submitted(list[Graph]):
    """The graphs that ComfyUI was given."""

    def has_one_operation(self) -> bool:
        return any("ImageBlur" in {node["class_type"] for node in each.values()} for each in self)


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> Submitted:
    seen, submit = Submitted(), ComfyClient.submit

    def note(client: ComfyClient, graph: Graph, *rest: Any, **more: Any) -> None:
        seen.append(graph)
        submit(client, graph, *rest, **more)

    monkeypatch.setattr(ComfyClient, "submit", note)
    return seen


def test_somebody_elses_comfyui_that_failed_has_to_compute_something_before_the_next_job(
    far: Studio, short_job: dict[str, Any], control: Callable[..., None], submitted: Submitted
) -> None:
    assert run_job(Job("first", short_job), far)["status"] == "completed"
    control(WanVideoSampler={"action": "raise", "message": "CUDA error: ECC error", "times": 1})
    assert run_job(Job("second", short_job), far)["error_code"] == "render_failed"
    assert not submitted.has_one_operation()
    assert run_job(Job("third", short_job), far)["status"] == "completed"
    assert submitted.has_one_operation()
    submitted.clear()
    assert run_job(Job("fourth", short_job), far)["status"] == "completed"
    assert not submitted.has_one_operation()


def test_a_job_on_somebody_elses_comfyui_that_computes_nothing_any_more_fails_at_once(
    far: Studio,
    short_job: dict[str, Any],
    control: Callable[..., None],
    submitted: Submitted,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    control(WanVideoSampler={"action": "raise", "message": "CUDA error: ECC error", "times": 1})
    run_job(Job("first", short_job), far)
    submitted.clear()
    broken = health.one_operation()
    broken["1"]["inputs"] |= {"width": 1, "height": 1}  # the blur has nothing to take from, fails
    monkeypatch.setattr(health, "one_operation", lambda: broken)
    result = run_job(Job("second", short_job), far)
    assert (result["error_code"], result["stage"]) == ("comfyui_unavailable", "start"), result
    assert "failed before, and does not compute: " in result["error"]
    assert [*submitted] == [broken], "nothing of the job was tried"


@pytest.mark.parametrize("kind", ["cut", "deaf"])
def test_a_lost_socket_is_followed_by_another_that_tells_of_the_same_prompt(
    client: ComfyClient,
    proxy: Proxy,
    slow_graph: Graph,
    control: Callable[..., None],
    *,
    kind: Kind,
) -> None:
    events, far = list[Event](), ComfyClient(proxy.url, unreachable_seconds=LAST_RESORT_SECONDS)
    proxy.websocket = SocketFault(kind, after='"progress"')

    def mend() -> None:
        # The fault stays until the other socket is there: a deaf one that hears again is not lost.
        wait_until(lambda: proxy.paths.count("/ws") > 1, "another is opened")
        proxy.websocket = None
        before = proxy.paths.count("/queue")
        wait_until(lambda: proxy.paths.count("/queue") > before + 1, "the other is open")
        control()  # the held sampler goes on

    threading.Thread(target=mend, daemon=True).start()
    far.run(slow_graph, deadline_seconds=LAST_RESORT_SECONDS, on_event=events.append)
    assert proxy.paths.count("/ws") > 1
    assert "executed" in {each.type for each in events}, "that of the video, at the end"


def test_a_job_behind_another_clients_prompt_waits_for_it_and_says_so(
    far: Studio,
    client: ComfyClient,
    short_job: dict[str, Any],
    slow_graph: Graph,
    held: Callable[[], None],
    *,
    control: Callable[..., None],
) -> None:
    other, waits = str(uuid.uuid4()), list[Progress]()
    client.submit(slow_graph, other, client_id="other")
    held()

    def report(progress: Progress) -> None:
        if progress.message == "ComfyUI is at another prompt first":
            waits.append(progress)
        if len(waits) > POLLS_TOO_MANY:
            control()  # the other goes on

    result = run_job(Job("behind", short_job, report=report), far)
    assert result["status"] == "completed", result
    assert len(waits) > POLLS_TOO_MANY


def test_a_worker_that_starts_behind_another_clients_prompt_is_fit_and_waits_with_its_models(
    far: Studio,
    proxy: Proxy,
    client: ComfyClient,
    slow_graph: Graph,
    held: Callable[[], None],
    *,
    control: Callable[..., None],
) -> None:
    client.submit(slow_graph, str(uuid.uuid4()), client_id="other")
    held()
    device = next(each for each in examine(far) if each.name == "device")
    assert (device.state, device.message) == ("skipped", "ComfyUI is at other prompts first")

    before = proxy.paths.count("/queue")

    def release() -> None:
        wait_until(lambda: polled(proxy, before), "it waits for longer than a render may stall")
        control()

    threading.Thread(target=release, daemon=True).start()
    warm_up(far)
    assert "no render has failed here" in str(far.health)


def test_a_prompt_that_makes_no_progress_is_stalled_though_the_server_answers(
    far: Studio, proxy: Proxy, short_job: dict[str, Any], held: Callable[[], None]
) -> None:
    result = run_job(Job("stalled", short_job), far)
    assert result["error_code"] == "render_stalled", result
    assert proxy.paths.count("/queue") > 1


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client has no patience with a server that it knows nothing of."""
    waits = {"answer_seconds": 0.5, "http_seconds": 0.5, "unreachable_seconds": 0.5}
    defaults = waits | {"history_seconds": 10.0}
    monkeypatch.setattr(ComfyClient.__init__, "__kwdefaults__", defaults)


def is_silent(studio: Studio) -> None:
    """Have ComfyUI answer nothing, for eight times what an impatient client would wait."""
    assert studio.server is not None and studio.server.process is not None
    group = studio.server.process.pid
    os.killpg(group, signal.SIGSTOP)
    time.sleep(4)
    os.killpg(group, signal.SIGCONT)


@pytest.mark.parametrize("stage", ["patch", "collect"])
def test_our_own_comfyui_may_be_silent_while_files_go_to_and_fro(
    studio: Studio, short_job: dict[str, Any], impatient: None, stage: str
) -> None:
    threads: list[threading.Thread] = []

    def report(progress: Progress) -> None:
        if progress.stage == stage and not threads:
            threads.append(threading.Thread(target=is_silent, args=(studio,), daemon=True))
            threads[0].start()
            time.sleep(0.5)  # it is silent when the first file goes

    result = run_job(Job("silent", short_job, report=report), studio)
    threads[0].join()
    assert result["status"] == "completed", result
    assert not result["warnings"], "it was rendered once"


def test_our_own_comfyui_may_be_silent_and_loses_nothing(
    studio: Studio,
    short_job: dict[str, Any],
    held: Callable[[], None],
    control: Callable[..., None],
    impatient: None,
) -> None:
    def be_silent() -> None:
        held()
        is_silent(studio)
        control()

    thread = threading.Thread(target=be_silent, daemon=True)
    thread.start()
    result = run_job(Job("silent", short_job), studio)
    thread.join()
    assert result["status"] == "completed", result
    assert not result.get("warnings"), result
