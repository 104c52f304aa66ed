"""Runs as a batch of RunPod's, on a stand-in that behaves as documented."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from talkinghead.media.sandbox import Sandboxes
from talkinghead.replay.display import Display
from talkinghead.replay.endpoint_api import EndpointApi
from talkinghead.replay.endpoint_batch import NAME, EndpointBatch, Into
from talkinghead.replay.look import OutputLook
from talkinghead.replay.outputs import OutputFolder
from talkinghead.replay.places import Stopped
from talkinghead.replay.report import Report, lines_of
from talkinghead.replay.runs import Run
from talkinghead.replay.sending import Sender
from talkinghead.replay.sources import BadInput, Source
from talkinghead.settings import Settings
from tests.runpod_batches import Answer, Batches
from tests.timing import LAST_RESORT_SECONDS
from tests.unit.test_replay import graph, planned, source

Start = Callable[..., Batches]


def answer(content: Any) -> Answer:  # noqa: ANN401 - JSON
    """What a worker would say: the prompt back as a file; "bad" fails."""
    text = content["workflow"]["2"]["inputs"]["text"] if "workflow" in content else "request"
    if text.startswith("bad"):
        return {"error": f"no room for {text}"}
    data = f"data:text/plain;base64,{base64.b64encode(text.encode()).decode()}"
    return {"output": {"outputs": [{"node": "T", "filename": "t.txt", "data": data}]}}


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr("talkinghead.replay.endpoint_batch.POLL_SECONDS", 0.01)
    monkeypatch.setattr("talkinghead.replay.endpoint_batch.PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("talkinghead.replay.endpoint_batch.PAGE", 4)
    started: list[Batches] = []

    def start(render: Callable[[Any], Answer] = answer, per_look: int = 3) -> Batches:
        started.append(Batches(render, per_look))
        return started[-1]

    yield start
    for each in started:
        each.close()


def runs_of(*texts: str) -> list[Run]:
    flows = [source(graph(text), f"{text}.json") for text in texts]
    return planned(*flows, name="{stem}")


def do(
    api: Batches, runs: list[Run], folder: Path, stop: threading.Event | None = None
) -> dict[str, dict[str, Any]]:
    """Do the runs; the report's lines by name."""
    stop = stop or threading.Event()
    report = Report(folder / "replay.jsonl")
    batch = EndpointBatch(
        EndpointApi(api.url),
        job_of=Sender(Settings()).job,
        lost_seconds=LAST_RESORT_SECONDS,
        download_seconds=LAST_RESORT_SECONDS,
        stop=stop,
    )
    with Sandboxes() as sandboxes, Display(Console(stderr=True), len(runs)) as display:
        outputs = OutputFolder(folder, report, OutputLook(sandboxes, stop))
        batch.do(runs, Into(outputs, report, display))
    return {line["name"]: line for line in lines_of(report.path)}


def test_each_run_gets_the_result_of_its_own_request_in_whatever_order_they_are_listed(
    batches: Start, tmp_path: Path
) -> None:
    api = batches()
    names = [*(f"run{number}" for number in range(11)), "bad1", "bad2"]
    lines = do(api, runs_of(*names), tmp_path)
    assert {line["status"] for name, line in lines.items() if name.startswith("run")} == {"done"}
    for name in names[:11]:
        (file,) = lines[name]["files"]
        assert (tmp_path / file["path"]).read_text() == name
        assert lines[name]["paid_seconds"] == 30.0
    assert lines["bad1"]["error"] == "no room for bad1"
    assert lines["bad2"]["status"] == "failed"
    assert [each["status"] for each in api.batches.values()] == ["FINALIZED"]
    assert not (tmp_path / NAME).exists()


def test_a_call_that_was_ended_goes_on_with_the_same_batch(batches: Start, tmp_path: Path) -> None:
    stop = threading.Event()

    def render(content: Any) -> Answer:  # noqa: ANN401 - JSON
        stop.set()
        return answer(content)

    api = batches(render, per_look=1)
    runs = runs_of("a", "b", "c")
    with pytest.raises(Stopped):
        do(api, runs, tmp_path, stop)
    assert json.loads((tmp_path / NAME).read_text())["batch"] == "batch-1"
    done = Report(tmp_path / "replay.jsonl").done()
    api.render = answer
    lines = do(api, [run for run in runs if run.key not in done], tmp_path)
    assert [lines[name]["status"] for name in "abc"] == ["done"] * 3
    assert list(api.batches) == ["batch-1"], "nothing is rendered twice"


def test_what_came_since_an_earlier_batch_is_another_one(batches: Start, tmp_path: Path) -> None:
    api, stop = batches(per_look=1), threading.Event()

    def render(content: Any) -> Answer:  # noqa: ANN401 - JSON
        stop.set()
        return answer(content)

    api.render = render
    with pytest.raises(Stopped):
        do(api, runs_of("a", "b"), tmp_path, stop)
    api.render = answer
    done = Report(tmp_path / "replay.jsonl").done()
    lines = do(api, [run for run in runs_of("a", "b", "c") if run.key not in done], tmp_path)
    assert {name: line["status"] for name, line in lines.items()} == dict.fromkeys("abc", "done")
    assert list(api.batches) == ["batch-1", "batch-2"]


def test_a_draft_that_was_left_is_cancelled_and_made_anew(batches: Start, tmp_path: Path) -> None:
    api = batches()
    api.batches["batch-0"] = {"status": "DRAFT", "requests": []}
    left = {"endpoint": EndpointApi(api.url).name, "batch": "batch-0"}
    (tmp_path / NAME).write_text(json.dumps(left))
    lines = do(api, runs_of("a"), tmp_path)
    assert lines["a"]["status"] == "done" and api.batches["batch-0"]["status"] == "CANCELLED"


def test_a_batch_that_runpod_ends_fails_the_rest_and_says_so(
    batches: Start, tmp_path: Path
) -> None:
    api = batches(per_look=1)

    def render(content: Any) -> Answer:  # noqa: ANN401 - JSON
        api.batches["batch-1"]["status"] = "FAILED"
        return answer(content)

    api.render = render
    lines = do(api, runs_of("a", "b"), tmp_path)
    assert sorted(line["status"] for line in lines.values()) == ["done", "failed"]
    assert "the batch ended without it" in {line["error"] for line in lines.values()}


def test_a_busy_endpoint_is_asked_again_and_one_without_batches_is_told(
    batches: Start, tmp_path: Path
) -> None:
    api = batches()
    api.busy = 3
    assert do(api, runs_of("a"), tmp_path)["a"]["status"] == "done"
    api.url = api.url.replace("/v2/abc", "/other")
    with pytest.raises(BadInput, match=r"no batch: .* is it an endpoint of RunPod\?"):
        do(api, runs_of("b"), tmp_path)


def test_a_run_whose_picture_is_gone_fails_alone(batches: Start, tmp_path: Path) -> None:
    (tmp_path / "me.png").write_bytes(b"png")
    (tmp_path / "me.wav").write_bytes(b"wav")
    fields = {"image_url": "me.png", "wav_url": "me.wav"}
    (bad,) = planned(Source(tmp_path / "bad.json", "request", fields), name="{stem}")
    (tmp_path / "me.png").unlink()
    out = tmp_path / "out"
    out.mkdir()
    lines = do(batches(), [bad, *runs_of("a")], out)
    assert lines["a"]["status"] == "done"
    assert "me.png cannot be read" in lines["bad"]["error"]


def test_an_answer_that_does_not_come_adds_nothing_twice(batches: Start, tmp_path: Path) -> None:
    api = batches()
    api.deaf = 2
    lines = do(api, runs_of("a", "b", "c", "d"), tmp_path)
    assert {line["status"] for line in lines.values()} == {"done"}
    assert len(api.batches["batch-1"]["requests"]) == 4
