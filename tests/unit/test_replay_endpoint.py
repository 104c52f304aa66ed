"""Runs as jobs of an endpoint: whatever its API says, and whenever it says nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from talkinghead.replay.endpoint import EndpointPlace
from talkinghead.replay.endpoint_api import EndpointApi
from talkinghead.replay.places import Away, Failed, RunResult, Seen, Stopped
from talkinghead.replay.runs import Run
from talkinghead.replay.sending import Sender
from talkinghead.replay.sources import Source
from talkinghead.settings import Settings
from tests.loopback import LoopbackServer, QuietHandler
from tests.store import S3Server
from tests.timing import LAST_RESORT_SECONDS
from tests.unit.test_replay import graph, planned, source

State = Mapping[str, Any] | bytes | int  # a job's, or what comes in its place: HTTP's status


class RunPod(LoopbackServer):
    """The paths of RunPod's API that a client uses, with states that a test gives.

    The last state stays. A state that is text is the whole answer; one that ends in b"..." is cut
    off. Who cancels, hears "CANCELLED" from then on, unless the states say otherwise.
    """

    def __init__(self, *states: State) -> None:
        self.states = list(states)
        self.lives = False  # though it is cancelled
        self.next_states: list[State] = []  # of the job after the first
        self.busy = 0  # how often it takes no job
        self.busy_says = 429
        self.cuts_off = False  # it takes jobs, and says so with half an answer
        self.asked: list[str] = []
        self.inputs: list[Any] = []
        self.policies: list[Any] = []
        outer = self

        class Handler(QuietHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.asked.append(f"{self.path} {self.headers['Authorization']}")
                if self.path.endswith("/run") and outer.busy:
                    outer.busy -= 1
                    self.send_error(outer.busy_says)
                    return
                if self.path.endswith("/run"):
                    outer.inputs.append(json.loads(body)["input"])
                    outer.policies.append(json.loads(body).get("policy"))
                    if len(outer.inputs) > 1:
                        outer.states = outer.next_states
                if "/cancel/" in self.path and not outer.lives:
                    outer.states = [{"status": "CANCELLED"}]
                self._answer({"id": f"job-{len(outer.inputs)}", "status": "IN_QUEUE"})

            def do_GET(self) -> None:
                outer.asked.append(self.path)
                if self.path.endswith("/health"):
                    self._answer({})
                    return
                state = outer.states.pop(0) if len(outer.states) > 1 else outer.states[0]
                if isinstance(state, int):
                    self.send_error(state)
                elif isinstance(state, bytes):
                    self._send(state)
                else:
                    self._answer({"id": self.path.rpartition("/")[2], **state})

            def _answer(self, content: object) -> None:
                self._send(json.dumps(content).encode() + b"..." * outer.cuts_off)

            def _send(self, body: bytes) -> None:
                self.send_response(200)
                length = len(body) + 100 * body.endswith(b"...")
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(body)

        super().__init__(Handler)
        self.url = f"{self.origin}/v2/abc"


@pytest.fixture
def runpod(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., RunPod]]:
    monkeypatch.setattr("talkinghead.replay.endpoint.POLL_SECONDS", 0.05)
    monkeypatch.setattr("talkinghead.replay.endpoint_api.CANCEL_PAUSE_SECONDS", 0.0)
    monkeypatch.setenv("RUNPOD_API_KEY", "not for this host")
    monkeypatch.setenv("TALKINGHEAD_TOKEN", "key")
    started: list[RunPod] = []

    def start(*states: State) -> RunPod:
        started.append(RunPod(*states))
        return started[-1]

    yield start
    for each in started:
        each.close()


def endpoint_place(
    api: RunPod,
    *,
    job_seconds: float = LAST_RESORT_SECONDS,
    lost_seconds: float = LAST_RESORT_SECONDS,
    low_priority: bool = False,
) -> EndpointPlace:
    return EndpointPlace(
        EndpointApi(api.url),
        width=1,
        job_of=Sender(Settings()).job,
        low_priority=low_priority,
        job_seconds=job_seconds,
        lost_seconds=lost_seconds,
        download_seconds=LAST_RESORT_SECONDS,
    )


def on_endpoint(
    api: RunPod, folder: Path, seen: Seen, stop: threading.Event | None = None
) -> RunResult:
    (run,) = planned(source(graph()))
    place = endpoint_place(api)
    place.connect()
    return place.run(run, folder, seen, stop or threading.Event())


def test_a_workflow_is_a_job_of_the_endpoint_and_its_outputs_come(
    runpod: Callable[..., RunPod], tmp_path: Path
) -> None:
    content = b"a picture"
    data = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    sha256 = hashlib.sha256(content).hexdigest()
    outputs = [
        {"node": "Save", "kind": "image", "filename": "p.png", "data": data, "sha256": sha256},
        {"node": "Text", "kind": "text", "text": "hello"},
    ]
    api = runpod(
        {"status": "IN_QUEUE"},
        {"status": "IN_PROGRESS", "output": {"percent": 40, "message": "Sampler"}},
        {"status": "COMPLETED", "output": {"outputs": outputs}},
    )
    told: list[tuple[float, str]] = []
    on_endpoint(api, tmp_path, lambda fraction, message: told.append((fraction, message)))
    assert api.inputs == [{"workflow": graph()}]
    assert told == [(0.0, "in queue"), (0.4, "Sampler")]
    assert (tmp_path / "1-p.png").read_bytes() == content
    assert (tmp_path / "2.txt").read_text() == "hello"
    assert any("Bearer key" in asked for asked in api.asked)


@pytest.mark.parametrize(
    ("state", "again", "problem"),
    [
        ({"status": "FAILED", "error": "the GPU is gone"}, True, "the GPU is gone"),
        (
            {"status": "FAILED", "error": "no", "output": {"error_code": "invalid_request"}},
            False,
            "no",
        ),
        ({"status": "TIMED_OUT"}, True, "the job is TIMED_OUT"),
        ({"status": "COMPLETED", "output": {}}, False, "the result is not here"),
        (
            {
                "status": "COMPLETED",
                "output": {"status": "incomplete", "windows_done": 3, "windows": 9},
            },
            True,
            "3 of 9 windows are rendered: the next try goes on after them",
        ),
        (
            {"status": "COMPLETED", "output": {"status": "estimated"}},
            False,
            "dry_run is true, and renders nothing",
        ),
        (
            {"status": "COMPLETED", "output": {"video_path": "/runpod-volume/v.mp4"}},
            False,
            "lies on the endpoint's volume: /runpod-volume/v.mp4",
        ),
        (
            {
                "status": "COMPLETED",
                "output": {"video": "data:video/mp4;base64,AA==", "video_info": {"sha256": "0"}},
            },
            True,
            "talkinghead.mp4 came damaged",
        ),
    ],
)
def test_a_job_that_gives_no_result_says_why(
    runpod: Callable[..., RunPod],
    tmp_path: Path,
    state: dict[str, Any],
    again: bool,
    problem: str,
) -> None:
    with pytest.raises(Failed, match=problem) as caught:
        on_endpoint(runpod(state), tmp_path, lambda fraction, message: None)
    assert caught.value.again is again


def test_the_seed_that_the_worker_drew_is_told(
    runpod: Callable[..., RunPod], tmp_path: Path
) -> None:
    output = {"video": "data:video/mp4;base64,AA==", "generation_params": {"seed": 57}}
    api = runpod({"status": "COMPLETED", "output": output})
    assert on_endpoint(api, tmp_path, lambda *_: None).seed == 57


def test_a_stopped_job_is_cancelled_on_the_endpoint(
    runpod: Callable[..., RunPod], tmp_path: Path
) -> None:
    api = runpod({"status": "IN_PROGRESS"})
    stop = threading.Event()
    with pytest.raises(Stopped):
        on_endpoint(api, tmp_path, lambda fraction, message: stop.set(), stop)
    assert any("/cancel/job-1" in asked for asked in api.asked)


TEXT = {"status": "COMPLETED", "output": {"outputs": [{"kind": "text", "text": "hello"}]}}
BROKEN_POLLS = {
    "cut off": b'{"id": ...',
    "a web page": b"<html>maintenance</html>",
    "a list": b"[]",
    "no status": b"{}",
    "a status that is no text": b'{"status": null}',
    "401": 401,
    "404": 404,
    "500": 500,
}


@pytest.mark.parametrize("broken", BROKEN_POLLS.values(), ids=BROKEN_POLLS)
def test_one_broken_poll_is_no_end_of_a_run(
    runpod: Callable[..., RunPod], tmp_path: Path, broken: State
) -> None:
    api = runpod({"status": "IN_PROGRESS"}, broken, {"status": "IN_PROGRESS"}, TEXT)
    on_endpoint(api, tmp_path, lambda fraction, message: None)
    assert (tmp_path / "1.txt").read_text() == "hello"
    assert len(api.inputs) == 1
    assert not any("/cancel/" in asked for asked in api.asked)


@pytest.mark.parametrize(
    ("limits", "states", "problem"),
    [
        ({"lost_seconds": 0.0}, [401], "job-1 is lost: TALKINGHEAD_TOKEN is not taken"),
        ({"lost_seconds": 0.0}, [b"<html>"], "job-1 is lost: .*the answer is no JSON object"),
        ({"job_seconds": 0.0}, [{"status": "IN_PROGRESS"}], "took longer than JOB_TIMEOUT_SECONDS"),
    ],
)
def test_a_job_that_is_given_up_is_cancelled_on_the_endpoint(
    runpod: Callable[..., RunPod],
    tmp_path: Path,
    limits: dict[str, Any],
    states: list[State],
    problem: str,
) -> None:
    api = runpod({"status": "IN_QUEUE"}, *states)
    (run,) = planned(source(graph()))
    with pytest.raises(Failed, match=problem):
        endpoint_place(api, **limits).run(run, tmp_path, lambda *_: None, threading.Event())
    assert any("/cancel/job-1" in asked for asked in api.asked)


def test_a_fault_of_our_own_cancels_the_job_too(
    runpod: Callable[..., RunPod], tmp_path: Path
) -> None:
    def break_down(fraction: float, message: str) -> None:
        raise ZeroDivisionError

    api = runpod({"status": "IN_PROGRESS"})
    with pytest.raises(ZeroDivisionError):
        on_endpoint(api, tmp_path, break_down)
    assert any("/cancel/job-1" in asked for asked in api.asked)


def tried_twice(api: RunPod, folder: Path) -> None:
    """A run whose job is lost, and that is tried once more."""
    (run,) = planned(source(graph()))
    place = endpoint_place(api, lost_seconds=0.0)
    with pytest.raises(Failed) as caught:
        place.run(run, folder, lambda *_: None, threading.Event())
    assert caught.value.again
    place.run(run, folder, lambda *_: None, threading.Event())
    assert (folder / "1.txt").read_text() == "hello"


def test_a_lost_job_that_was_made_all_the_same_is_not_sent_anew(
    runpod: Callable[..., RunPod], tmp_path: Path
) -> None:
    api = runpod({"status": "IN_PROGRESS"}, 500, TEXT)
    api.lives = True
    tried_twice(api, tmp_path)
    assert len(api.inputs) == 1


@pytest.mark.parametrize("ended", [{"status": "CANCELLED"}, {"status": "FAILED"}, 404])
def test_a_lost_job_that_made_nothing_is_sent_anew(
    runpod: Callable[..., RunPod], tmp_path: Path, ended: State
) -> None:
    api = runpod({"status": "IN_PROGRESS"}, 500, ended)
    api.lives, api.next_states = True, [TEXT]
    tried_twice(api, tmp_path)
    assert len(api.inputs) == 2


def test_outputs_that_did_not_come_are_asked_for_again_and_not_made_again(
    runpod: Callable[..., RunPod], tmp_path: Path
) -> None:
    damaged = {"filename": "1.txt", "data": "data:text/plain;base64,AA==", "sha256": "0"}
    api = runpod({"status": "COMPLETED", "output": {"outputs": [damaged]}}, TEXT)
    tried_twice(api, tmp_path)
    assert len(api.inputs) == 1


def test_an_endpoint_that_may_have_taken_the_job_is_not_sent_it_at_once_again(
    runpod: Callable[..., RunPod], tmp_path: Path
) -> None:
    api = runpod({"status": "IN_QUEUE"})
    api.cuts_off = True
    (run,) = planned(source(graph()))
    with pytest.raises(Failed, match="may have taken the job"):
        endpoint_place(api).run(run, tmp_path, lambda *_: None, threading.Event())
    assert len(api.inputs) == 1


@pytest.mark.parametrize(
    "output",
    [[], "text", {"outputs": ["a"]}, {"outputs": {"a": 1}}, {"video_info": [], "video": 3}],
)
def test_a_result_of_another_kind_of_worker_fails_and_ends_nothing_else(
    runpod: Callable[..., RunPod], tmp_path: Path, output: object
) -> None:
    api = runpod({"status": "COMPLETED", "output": output})
    with pytest.raises(Failed, match="the result is not here"):
        on_endpoint(api, tmp_path, lambda fraction, message: None)


def test_a_busy_endpoint_is_asked_again(runpod: Callable[..., RunPod], tmp_path: Path) -> None:
    text = {"node": "Text", "kind": "text", "text": "hello"}
    api = runpod({"status": "COMPLETED", "output": {"outputs": [text]}})
    api.busy = 2
    on_endpoint(api, tmp_path, lambda fraction, message: None)
    assert len(api.inputs) == 1
    assert (tmp_path / "1.txt").read_text() == "hello"


@pytest.mark.parametrize("status", [500, 503])
def test_a_job_that_a_gateway_may_have_passed_on_is_not_sent_again(
    runpod: Callable[..., RunPod], tmp_path: Path, status: int
) -> None:
    api = runpod({"status": "COMPLETED", "output": {}})
    api.busy, api.busy_says = 1, status
    with pytest.raises(Failed, match=f"HTTP {status}, and may have taken the job"):
        on_endpoint(api, tmp_path, lambda fraction, message: None)
    assert not api.inputs


def test_an_endpoint_that_does_not_answer_is_away(tmp_path: Path) -> None:
    api = EndpointApi("http://127.0.0.1:9")
    place = EndpointPlace(
        api,
        width=1,
        job_of=Sender(Settings()).job,
        job_seconds=1,
        lost_seconds=1,
        download_seconds=1,
    )
    with pytest.raises(Away, match="does not answer"):
        place.connect()


# ---- Local files, on their way


def request_run(folder: Path, **fields: Any) -> Run:
    for name in ("me.png", "me.wav"):
        (folder / name).write_bytes(name.encode())
    content = {"image_url": "me.png", "speakers": [{"audio_url": "me.wav"}], **fields}
    (run,) = planned(Source(folder / "request.json", "request", content))
    return run


def test_local_files_go_to_an_endpoint_within_the_job(tmp_path: Path) -> None:
    job = Sender(Settings()).job(request_run(tmp_path, draft=True))
    assert base64.b64decode(job["image_url"].removeprefix("data:image/png;base64,")) == b"me.png"
    assert job["speakers"][0]["audio_url"].endswith(base64.b64encode(b"me.wav").decode())
    assert job["draft"] is True


def test_the_files_of_a_workflow_go_with_it_under_plain_names(tmp_path: Path) -> None:
    (tmp_path / "me.png").write_bytes(b"png")
    flow = {"1": {"class_type": "LoadImage", "inputs": {"image": "me.png [input]"}}}
    (run,) = planned(source(flow, str(tmp_path / "flow.json")))
    job = Sender(Settings()).job(run)
    ((name, uri),) = job["files"].items()
    assert name.endswith("-me.png") and uri == "data:image/png;base64,cG5n"
    assert job["workflow"]["1"]["inputs"]["image"] == name


def test_a_file_that_is_too_large_for_a_job_needs_a_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("talkinghead.client.files.INLINE_BYTES", 5)
    with pytest.raises(Failed, match=r"me\.png has 0\.0 MB, .* set S3_BUCKET"):
        Sender(Settings()).job(request_run(tmp_path))


def test_a_large_file_goes_by_the_bucket_and_the_job_gets_its_url(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("talkinghead.client.files.INLINE_BYTES", 5)
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    job = Sender(Settings()).job(request_run(tmp_path))
    for url, content in (
        (job["image_url"], b"me.png"),
        (job["speakers"][0]["audio_url"], b"me.wav"),
    ):
        assert requests.get(url, timeout=LAST_RESORT_SECONDS).content == content


def test_a_job_of_low_priority_says_so_and_what_is_paid_is_told_apart_from_the_wait(
    runpod: Callable[..., RunPod], tmp_path: Path
) -> None:
    text = {"node": "Text", "kind": "text", "text": "hello"}
    done = {"status": "COMPLETED", "output": {"outputs": [text]}, "executionTime": 2500}
    api = runpod(done)
    (run,) = planned(source(graph()))
    place = endpoint_place(api, low_priority=True)
    result = place.run(run, tmp_path, lambda fraction, message: None, threading.Event())
    assert api.policies == [{"lowPriority": True}]
    assert result.paid_seconds == 2.5
