"""What goes wrong between us and a real ComfyUI: each fault has a known end.

What is silent, stopped or held here stays so until the test says otherwise, so that whoever would
wait for it would not come back.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from comfy_client import (
    ComfyClient,
    ComfyError,
    Event,
    Outcome,
    OutputFile,
    PromptLost,
    PromptRejected,
    Unreachable,
)
from talkinghead.comfy import process
from talkinghead.comfy.studio import Studio, Turn
from talkinghead.errors import ComfyUIUnavailable, OutputMissing
from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.plan.plan import make_plan
from talkinghead.plan.request import parse_request
from talkinghead.render import one_prompt
from talkinghead.render.execute import Prompt
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.render.run import run_job
from talkinghead.settings import Settings
from talkinghead.workflow.graph import Graph
from tests.comfy.proxy import Absence, Canned, Kind, Proxy, SocketFault, node_errors, port_of
from tests.conftest import FileServer
from tests.timing import LAST_RESORT_SECONDS, wait_until


@pytest.fixture
def proxy(client: ComfyClient) -> Iterator[Proxy]:
    with Proxy(port_of(client.url)) as proxy:
        yield proxy


@pytest.fixture
def away(proxy: Proxy) -> ComfyClient:
    """A client that sees ComfyUI through the proxy, and gives a slow machine its time."""
    return patient(proxy.url)


def patient(url: str) -> ComfyClient:
    """A client that loses its patience only where the test has it do so."""
    return ComfyClient(
        url,
        answer_seconds=LAST_RESORT_SECONDS,
        unreachable_seconds=LAST_RESORT_SECONDS,
        history_seconds=LAST_RESORT_SECONDS,
    )


def hurry(
    client: ComfyClient,
    *,
    answer_seconds: float = 0.5,
    unreachable_seconds: float = LAST_RESORT_SECONDS,
) -> None:
    """Have the client give up a request, or the server, soon: from now on it is away."""
    client._answer_seconds = client._stop_seconds = answer_seconds
    client._unreachable_seconds = unreachable_seconds


@pytest.fixture
def picture_graph(graph: Graph) -> Graph:
    """A graph of an instant, of a colour of its own: nothing comes from ComfyUI's cache."""
    graph["1"]["inputs"]["color"] = random.randrange(0xFFFFFF)
    return graph


def run(client: ComfyClient, graph: Graph, **options: Any) -> Outcome:
    return client.run(graph, deadline_seconds=LAST_RESORT_SECONDS, **options)


def still_works(client: ComfyClient, graph: Graph) -> bool:
    """Whether the next prompt succeeds."""
    graph["1"]["inputs"]["color"] = random.randrange(0xFFFFFF)
    return len(run(client, graph).files) == 2


def once(type: str, act: Callable[[], object]) -> Callable[[Event], None]:
    """Does something, in a thread of its own, at the first event of a type."""
    started: list[threading.Thread] = []

    def hear(event: Event) -> None:
        if event.type == type and not started:
            started.append(threading.Thread(target=act, daemon=True))
            started[0].start()

    return hear


def queued(client: ComfyClient) -> int:
    """How many prompts wait or run."""
    queue = requests.get(f"{client.url}/queue", timeout=LAST_RESORT_SECONDS).json()
    return len(queue["queue_running"]) + len(queue["queue_pending"])


def cancels(url: str) -> bool:
    """Whether the server has the jobs API."""
    answer = requests.post(f"{url}/api/jobs/{uuid.uuid4()}/cancel", timeout=LAST_RESORT_SECONDS)
    return bool(answer.status_code == requests.codes.ok)


@pytest.mark.parametrize("kind", ["cut", "deaf"])
def test_a_socket_that_is_lost_at_the_start_does_not_cost_the_result(
    away: ComfyClient, proxy: Proxy, picture_graph: Graph, kind: Kind
) -> None:
    proxy.websocket = SocketFault(kind)
    events: list[Event] = []
    outcome = run(away, picture_graph, on_event=events.append)
    assert len(outcome.files) == 2 and events == []
    proxy.websocket = None
    assert still_works(away, picture_graph)


@pytest.mark.parametrize("kind", ["cut", "deaf"])
def test_a_socket_that_is_lost_in_the_middle_does_not_cost_the_result(
    away: ComfyClient,
    proxy: Proxy,
    picture_graph: Graph,
    slow_graph: Graph,
    control: Callable[..., None],
    *,
    kind: Kind,
) -> None:
    proxy.websocket = SocketFault(kind, after='"progress"')
    events: list[str] = []

    def hear(event: Event) -> None:
        events.append(event.type)
        if event.type == "progress":
            control()

    assert videos(run(away, slow_graph, on_event=hear))
    assert "progress" in events and "execution_success" not in events
    proxy.websocket = None
    assert still_works(away, picture_graph)


def test_a_socket_that_closes_after_the_last_event_costs_nothing(
    away: ComfyClient, proxy: Proxy, picture_graph: Graph
) -> None:
    proxy.websocket = SocketFault("cut", after='"execution_success"')
    assert len(run(away, picture_graph).files) == 2
    proxy.websocket = None
    assert still_works(away, picture_graph)


def test_a_success_told_before_the_history_is_there_is_waited_for(
    away: ComfyClient, proxy: Proxy, picture_graph: Graph
) -> None:
    prompt_id = str(uuid.uuid4())
    proxy.canned[f"/history/{prompt_id}"] = Canned({}, times=5)
    assert len(run(away, picture_graph, prompt_id=prompt_id).files) == 2
    assert proxy.canned[f"/history/{prompt_id}"].times == 0
    assert still_works(away, picture_graph)


def test_a_success_whose_history_never_comes_is_lost_within_its_bound(
    proxy: Proxy, picture_graph: Graph
) -> None:
    proxy.canned["/history"] = Canned({})
    away = ComfyClient(proxy.url, unreachable_seconds=LAST_RESORT_SECONDS, history_seconds=1)
    with pytest.raises(PromptLost, match="no longer knows"):
        run(away, picture_graph)
    proxy.canned.clear()
    assert still_works(away, picture_graph)


def test_a_200_with_node_errors_is_a_rejection_and_takes_the_prompt_back(
    away: ComfyClient, proxy: Proxy, picture_graph: Graph
) -> None:
    errors = node_errors("1", "EmptyImage", "Value too small")
    proxy.canned["/prompt"] = Canned({"prompt_id": "x", "number": 1, "node_errors": errors})
    with pytest.raises(PromptRejected, match=r"1 \[EmptyImage\]: Value too small"):
        run(away, picture_graph)
    jobs, asked = cancels(proxy.url), proxy.paths[proxy.paths.index("/prompt") + 1 :]
    assert all(path.endswith("/cancel") for path in asked[: 2 if jobs else 1])
    assert jobs or asked[1:4] == ["/queue", "/interrupt", "/queue"]
    proxy.canned.clear()
    assert still_works(away, picture_graph)


def test_a_400_with_node_errors_is_a_rejection_that_names_the_node(
    away: ComfyClient, picture_graph: Graph
) -> None:
    width, picture_graph["1"]["inputs"]["width"] = picture_graph["1"]["inputs"]["width"], -5
    with pytest.raises(PromptRejected, match=r"1 \[EmptyImage\].*width"):
        run(away, picture_graph)
    picture_graph["1"]["inputs"]["width"] = width
    assert still_works(away, picture_graph)


def test_a_server_that_answers_late_costs_time_only(
    away: ComfyClient, proxy: Proxy, picture_graph: Graph
) -> None:
    proxy.delay_seconds = 0.5
    assert len(run(away, picture_graph).files) == 2
    proxy.delay_seconds = 0
    assert still_works(away, picture_graph)


def test_a_server_that_is_silent_for_seconds_in_the_middle_gives_the_result_when_it_is_back(
    away: ComfyClient,
    proxy: Proxy,
    picture_graph: Graph,
    slow_graph: Graph,
    control: Callable[..., None],
) -> None:
    def leave() -> None:
        hurry(away)
        with proxy.away("silent"):
            control()  # it renders on
            wait_until(lambda: len(proxy.given_up) > 2, "requests are given up")

    assert videos(run(away, slow_graph, on_event=once("progress", leave)))
    assert len(proxy.given_up) > 2
    assert still_works(away, picture_graph)


def test_a_gateway_without_a_server_behind_it_is_waited_out(
    away: ComfyClient, proxy: Proxy, picture_graph: Graph
) -> None:
    prompt_id = str(uuid.uuid4())
    proxy.canned[f"/history/{prompt_id}"] = Canned(b"<html>Bad gateway</html>", 502, times=2)
    assert len(run(away, picture_graph, prompt_id=prompt_id).files) == 2
    assert proxy.canned[f"/history/{prompt_id}"].times == 0
    assert still_works(away, picture_graph)


@pytest.mark.parametrize("how", ["silent", "refuses"])
def test_a_server_that_is_gone_for_good_is_unreachable_within_its_bound(
    client: ComfyClient, proxy: Proxy, picture_graph: Graph, slow_graph: Graph, how: Absence
) -> None:
    away = patient(proxy.url)
    prompt_id = str(uuid.uuid4())
    gone = contextlib.ExitStack()

    def leave(event: Event) -> None:
        if event.type == "progress":
            hurry(away, unreachable_seconds=1)
            gone.enter_context(proxy.away(how))

    with gone, pytest.raises(Unreachable, match="does not answer"):
        run(away, slow_graph, prompt_id=prompt_id, on_event=leave)
    client.stop(prompt_id)
    client.wait_idle(prompt_id, deadline_seconds=LAST_RESORT_SECONDS)
    assert still_works(away, picture_graph)


def test_a_silent_server_does_not_keep_what_watches_the_run_from_ending_it(
    client: ComfyClient, proxy: Proxy, picture_graph: Graph, slow_graph: Graph
) -> None:
    waiting, prompt_id = patient(proxy.url), str(uuid.uuid4())

    def leave(event: Event) -> None:
        if event.type == "progress":
            hurry(waiting)
            proxy.http = "silent"

    def watch() -> None:
        if len(proxy.given_up) > 2:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        run(waiting, slow_graph, prompt_id=prompt_id, on_event=leave, watch=watch)
    proxy.http = "answers"
    client.stop(prompt_id)
    client.wait_idle(prompt_id, deadline_seconds=LAST_RESORT_SECONDS)
    assert still_works(patient(proxy.url), picture_graph)


def test_a_submission_that_is_not_answered_leaves_nothing_in_the_queue(
    away: ComfyClient,
    client: ComfyClient,
    proxy: Proxy,
    slow_graph: Graph,
    picture_graph: Graph,
    *,
    held: Callable[[], None],
) -> None:
    prompt_id = str(uuid.uuid4())
    proxy.canned["/prompt"] = Canned(b"", 504)
    client.submit(slow_graph, prompt_id, client_id="other")  # it came through, the answer does not
    held()
    with pytest.raises(Unreachable, match="504"):
        run(away, slow_graph, prompt_id=prompt_id)
    client.wait_idle(prompt_id, deadline_seconds=LAST_RESORT_SECONDS)
    proxy.canned.clear()
    assert still_works(away, picture_graph)


def test_a_stop_is_over_in_seconds_even_if_the_server_is_silent(
    proxy: Proxy, picture_graph: Graph
) -> None:
    with proxy.away("silent"):
        ComfyClient(proxy.url).stop("any")
    assert still_works(patient(proxy.url), picture_graph)


def test_a_download_that_breaks_off_is_an_unreachable_server(
    away: ComfyClient, proxy: Proxy, picture_graph: Graph, tmp_path: Path
) -> None:
    proxy.canned["/view"] = Canned(b"half of it", length=4000)
    file = OutputFile("2", "images", "p.png", "t", "output")
    with pytest.raises(Unreachable, match="does not answer"):
        away.download(file, tmp_path / "p.png")
    assert still_works(away, picture_graph)


def test_a_prompt_behind_another_waits_for_it_and_hears_nothing_of_it(
    away: ComfyClient,
    client: ComfyClient,
    picture_graph: Graph,
    slow_graph: Graph,
    control: Callable[..., None],
) -> None:
    other, events = str(uuid.uuid4()), list[Event]()
    client.submit(slow_graph, other, client_id="other")

    def watch() -> None:
        if queued(client) == 2:
            control()  # the other goes on

    assert len(run(away, picture_graph, on_event=events.append, watch=watch).files) == 2
    assert not client.is_queued(other)
    assert {event.data["node"] for event in events if event.type == "executed"} <= {"2", "3"}
    assert still_works(away, picture_graph)


def test_a_render_that_ends_well_without_a_file_is_output_missing(
    turn: Turn, client: ComfyClient, picture_graph: Graph
) -> None:
    fileless = {key: node for key, node in picture_graph.items() if key != "2"}
    prompt = Prompt(str(uuid.uuid4()), {}, fileless)
    request = parse_request({"image_url": "http://x/i.jpg", "wav_url": "http://x/a.wav"})
    plan = make_plan(request, [Sound(2.0, 22_050, 1, False)], Picture(512, 512))
    with pytest.raises(OutputMissing, match="it reports: nothing"):
        one_prompt.run(Job("none", {}), plan, prompt, turn)
    assert still_works(client, picture_graph)


def test_a_server_that_was_started_again_in_the_middle_has_lost_the_prompt(
    studio: Studio, client: ComfyClient, slow_graph: Graph, picture_graph: Graph
) -> None:
    away = ComfyClient(
        client.url,
        answer_seconds=LAST_RESORT_SECONDS,
        unreachable_seconds=LAST_RESORT_SECONDS,
        history_seconds=1,
    )

    def restart() -> None:
        os.killpg(process_of(port_of(client.url)), signal.SIGKILL)
        studio.close()
        studio.__enter__()

    with pytest.raises(PromptLost, match="was it restarted"):
        run(away, slow_graph, on_event=once("progress", restart))
    assert still_works(client, picture_graph)


def test_a_comfyui_that_is_wedged_is_ended_and_the_next_job_has_another(
    studio: Studio,
    files: FileServer,
    portrait: Path,
    voice: Path,
    control: Callable[..., None],
    *,
    held: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (files.folder / "portrait.jpg").write_bytes(portrait.read_bytes())
    (files.folder / "voice.wav").write_bytes(voice.read_bytes())
    fields = {"image_url": files.url("portrait.jpg"), "wav_url": files.url("voice.wav")}
    with studio.comfy("unused", lambda: None) as turn:
        group = process_of(port_of(turn.client.url))

    def wedge(progress: Progress) -> None:
        if progress.message == "Sampler":
            with contextlib.suppress(ProcessLookupError):  # the second time it is another
                os.killpg(group, signal.SIGSTOP)
            impatient = studio.settings.model_copy(update={"stall_seconds": 1.0})
            hurried.setattr(studio, "settings", impatient)
            hurried.setattr(studio, "idle_seconds", 1.0)

    with monkeypatch.context() as hurried:
        hurried.setattr(process, "STOP_SECONDS", 1)  # it cannot end by itself
        result = run_job(Job("wedged", fields, report=wedge), studio)
    assert result["error_code"] == "render_stalled", result["error"]
    assert not Path(f"/proc/{group}").exists()
    control()
    assert run_job(Job("next", fields | {"draft": True, "max_frame": 10}), studio)["status"] == (
        "completed"
    )


def test_a_comfyui_that_never_answers_is_ended_and_the_next_job_starts_another(
    tmp_path: Path,
) -> None:
    ids = tmp_path / "ids"
    ids.touch()
    code = (
        "import os, time; print(os.getpid(), file=open('ids', 'a'), flush=True); time.sleep(3600)"
    )
    (tmp_path / "main.py").write_text(code)
    work = tmp_path / "work"
    settings = Settings(comfyui_dir=tmp_path, work_dir=work, comfyui_start_seconds=1)
    with Studio(settings) as studio:
        for number in (1, 2):

            def check(number: int = number) -> None:
                wait_until(lambda: len(ids.read_text().split()) == number, "it says its id")

            with pytest.raises(ComfyUIUnavailable, match="did not answer within 1 s"):
                studio.comfy("unused", check).__enter__()
    assert not any(Path(f"/proc/{number}").exists() for number in ids.read_text().split())


def process_of(port: int) -> int:
    """The id of the ComfyUI that listens on the port, which leads a process group."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_text(errors="replace").split("\0")
            if "main.py" in words and str(port) in words:
                return int(path.parent.name)
    raise ComfyError(f"no ComfyUI listens on port {port}")


def videos(outcome: Outcome) -> list[str]:
    return [file.filename for file in outcome.files if file.filename.endswith(".mp4")]
