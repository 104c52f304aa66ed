"""`talkinghead serve` behaves as RunPod's API does: verbs, states, bodies, limits, who may call."""

from __future__ import annotations

import http.server
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import requests

from talkinghead.client import WebhookForged, read_webhook, signed_webhook
from talkinghead.local_api import http as local_api_http
from talkinghead.local_api.http import Access, ApiServer, OpenToAll, access_of
from talkinghead.local_api.jobs import MOST_QUEUED, JobQueue, Submission
from talkinghead.local_api.webhook import tell
from talkinghead.net.guard import PUBLIC_ONLY
from talkinghead.plan.openapi import openapi
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.settings import Settings
from tests.loopback import LoopbackServer, QuietHandler
from tests.timing import LAST_RESORT_SECONDS, wait_until

DONE = {"status": "completed", "video": "data:video/mp4;base64,AA=="}


class Renders:
    """In the place of renders: each says how far it is, and waits until it is let go on."""

    def __init__(self) -> None:
        self.begun: list[Job] = []
        self.go_on = threading.Event()
        self.result: dict[str, Any] = dict(DONE)

    def __call__(self, job: Job) -> dict[str, Any]:
        self.begun.append(job)
        job.tell(Progress("render", "window 1 of 2", 0.5, window=1, windows=2))
        while not self.go_on.wait(0.01):
            if job.cancelled.is_set():
                return {"error": "the job was cancelled", "error_code": "cancelled"}
        return dict(self.result)


class Api:
    """The API with such renders, and a clock that a test sets."""

    def __init__(self, access: Access) -> None:
        self.renders, self.now = Renders(), 0.0
        self.queue = JobQueue(self.renders, tell, clock=lambda: self.now)
        self.queue.start()
        self.server = ApiServer(("127.0.0.1", 0), self.queue, access)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        url = f"{self.server.url}/{path}"
        return requests.request(method, url, timeout=LAST_RESORT_SECONDS, **options)

    def run(self, **beside: Any) -> str:
        answer = self.ask("POST", "run", json={"input": {"image_url": "x"}, **beside}).json()
        assert answer["status"] == "IN_QUEUE"
        return str(answer["id"])

    def state(self, job: str) -> dict[str, Any]:
        content: dict[str, Any] = self.ask("GET", f"status/{job}").json()
        return content

    def until(self, job: str, status: str) -> dict[str, Any]:
        wait_until(lambda: self.state(job)["status"] == status, f"{job} is {status}")
        return self.state(job)

    def close(self) -> None:
        self.queue.close()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def api_with() -> Iterator[Callable[[Access], Api]]:
    started: list[Api] = []

    def start(access: Access) -> Api:
        started.append(Api(access))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture
def api(api_with: Callable[[Access], Api]) -> Api:
    return api_with(Access())


def test_progress_is_in_output_while_a_job_runs_and_the_result_after(api: Api) -> None:
    job = api.run()
    wait_until(lambda: "output" in api.state(job), "its progress")
    running = api.state(job)
    assert running["status"] == "IN_PROGRESS"
    assert running["output"]["message"] == "window 1 of 2"
    assert running["output"]["percent"] == 51.5
    api.now = 2.0
    api.renders.go_on.set()
    done = api.until(job, "COMPLETED")
    assert done == {
        "id": job,
        "status": "COMPLETED",
        "delayTime": 0,
        "executionTime": 2000,
        "workerId": "local",
        "output": DONE,
    }


def test_a_failed_job_has_its_sentence_as_error_and_the_code_in_output(api: Api) -> None:
    api.renders.result = {"error": "wav_url is missing", "error_code": "invalid_request"}
    api.renders.go_on.set()
    failed = api.until(api.run(), "FAILED")
    assert failed["error"] == "wav_url is missing"
    assert failed["output"] == {"error_code": "invalid_request"}


def test_jobs_are_done_one_at_a_time_in_their_order(api: Api) -> None:
    jobs = [api.run() for _ in range(3)]
    wait_until(lambda: len(api.renders.begun) == 1, "the first begins")
    assert [api.state(job)["status"] for job in jobs] == ["IN_PROGRESS", "IN_QUEUE", "IN_QUEUE"]
    health = api.ask("GET", "health").json()
    assert (health["jobs"]["inProgress"], health["jobs"]["inQueue"]) == (1, 2)
    assert health["workers"]["running"] == 1
    api.renders.go_on.set()
    api.until(jobs[2], "COMPLETED")
    assert [job.id for job in api.renders.begun] == jobs
    assert api.ask("GET", "health").json()["jobs"]["completed"] == 3


def test_a_running_job_that_is_cancelled_is_so_at_once_and_the_next_begins(api: Api) -> None:
    first, second = api.run(), api.run()
    wait_until(lambda: api.renders.begun, "it begins")
    assert api.ask("POST", f"cancel/{first}").json()["status"] == "CANCELLED"
    assert api.state(first)["status"] == "CANCELLED"
    wait_until(lambda: len(api.renders.begun) == 2, "the next begins")
    assert api.renders.begun[0].cancelled.is_set()
    api.renders.go_on.set()
    api.until(second, "COMPLETED")
    assert api.state(first)["status"] == "CANCELLED", "what it made meanwhile does not count"


def test_a_queued_job_that_is_cancelled_never_begins(api: Api) -> None:
    api.run()
    waiting = api.run()
    api.ask("POST", f"cancel/{waiting}")
    api.renders.go_on.set()
    api.until(api.run(), "COMPLETED")
    assert waiting not in [job.id for job in api.renders.begun]


def test_a_job_that_has_ended_stays_as_it_ended_when_it_is_cancelled(api: Api) -> None:
    api.renders.go_on.set()
    job = api.run()
    api.until(job, "COMPLETED")
    assert api.ask("POST", f"cancel/{job}").json()["status"] == "COMPLETED"


def test_runsync_waits_for_the_result(api: Api) -> None:
    api.renders.go_on.set()
    answer = api.ask("POST", "runsync", json={"input": {"image_url": "x"}}).json()
    assert answer["id"].startswith("sync-")
    assert (answer["status"], answer["output"]) == ("COMPLETED", DONE)


def test_runsync_says_how_the_job_is_when_its_wait_is_over(api: Api) -> None:
    answer = api.ask("POST", "runsync?wait=1000", json={"input": {"image_url": "x"}}).json()
    assert answer["status"] == "IN_PROGRESS"
    api.renders.go_on.set()
    api.until(answer["id"], "COMPLETED")


@pytest.mark.parametrize(("verb", "kept"), [("run", 1800), ("runsync", 60)])
def test_results_are_kept_as_long_as_runpod_keeps_them(api: Api, verb: str, kept: int) -> None:
    api.renders.go_on.set()
    job = api.ask("POST", verb, json={"input": {"image_url": "x"}}).json()["id"]
    api.until(job, "COMPLETED")
    api.now = kept
    assert api.state(job)["status"] == "COMPLETED"
    api.now = kept + 1
    assert api.ask("GET", f"status/{job}").status_code == 404


def test_a_job_runs_no_longer_than_its_execution_timeout(api: Api) -> None:
    job = api.run(policy={"executionTimeout": 5000})
    wait_until(lambda: api.renders.begun, "it begins")
    api.now = 5.1
    state = api.until(job, "TIMED_OUT")
    assert state["error"] == "executionTimeout exceeded"
    assert api.renders.begun[0].cancelled.is_set()


def test_a_job_is_ended_in_time_though_nobody_asks_how_it_is() -> None:
    queue = JobQueue(Renders(), tell)
    queue.start()
    job = queue.submit(Submission({"a": 1}, execution_seconds=0.1))["id"]
    state = queue.wait(job, 20.0)  # by itself it looks every 30 s
    queue.close()
    assert state is not None and state["status"] == "TIMED_OUT"


def test_a_job_that_waits_longer_than_its_ttl_is_not_begun(api: Api) -> None:
    api.run()
    waiting = api.run(policy={"ttl": 10_000})
    api.now = 11.0
    assert api.state(waiting)["status"] == "TIMED_OUT"


def test_streaming_gives_nothing_as_on_runpod_where_nothing_is_yielded(api: Api) -> None:
    job = api.run()
    wait_until(lambda: api.renders.begun, "it begins")
    answer = api.ask("GET", f"stream/{job}").json()
    assert answer == {"status": "IN_PROGRESS", "stream": []}


def test_the_paths_of_runpods_clients_are_taken_too(api: Api) -> None:
    api.renders.go_on.set()
    answer = api.ask("POST", "v2/my-endpoint/run", json={"input": {"image_url": "x"}}).json()
    api.until(answer["id"], "COMPLETED")
    assert api.ask("GET", f"v2/my-endpoint/status/{answer['id']}").json()["status"] == "COMPLETED"


def test_the_webhook_is_told_the_last_state_and_again_until_it_says_200(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("talkinghead.local_api.webhook.PAUSE_SECONDS", 0.0)
    told: list[dict[str, Any]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200 if len(told) > 1 else 500)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not part of a test's output."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as hook:
        threading.Thread(target=hook.serve_forever, args=(0.01,), daemon=True).start()
        job = api.run(webhook=f"http://127.0.0.1:{hook.server_port}/done?order=17")
        api.renders.go_on.set()
        wait_until(lambda: len(told) == 2, "the webhook is told twice")
        hook.shutdown()
    assert told[0] == told[1] == api.state(job)


def test_with_a_token_the_webhooks_body_is_signed() -> None:
    heard: list[tuple[str, bytes]] = []

    class Hook(QuietHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append((self.headers["Talkinghead-Signature"], body))
            self.send_response(200)
            self.end_headers()

    hook = LoopbackServer(Hook)
    tell(hook.origin, {"id": "job-1", "status": "COMPLETED"}, token="secret")
    wait_until(lambda: heard, "it is told")
    hook.close()
    ((signature, body),) = heard
    url = signed_webhook("http://shop.test/", "17", "s")
    assert read_webhook(url, body, "s", signature=signature, token="secret").state.id == "job-1"
    with pytest.raises(WebhookForged):
        read_webhook(url, body + b" ", "s", signature=signature, token="secret")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'{"image_url": "x"}', "the request as `input`"),
        (b"[]", "the request as `input`"),
        (b'{"input": {}}', "the request as `input`"),
        (b"{", "the request as `input`"),
        (b'{"input": {"a": 1}, "policy": {"ttl": "1"}}', "policy.ttl"),
        (b'{"input": {"a": 1}, "policy": {"executionTimeout": 10}}', "5000 or more"),
        (b'{"input": {"a": 1}, "policy": {"executionTimeout": 1e12}}', "up to 604800000"),
        (b'{"input": {"a": 1}, "webhook": "example.com"}', "webhook must be"),
        (b'{"input": {"a": "' + b"x" * 11_000_000 + b'"}}', "max body size of 10MiB"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_body_that_is_no_job_is_refused_in_words(api: Api, body: bytes, problem: str) -> None:
    answer = api.ask("POST", "run", data=body)
    assert answer.status_code == 400
    assert problem in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "status/nobody", 404),
        ("POST", "cancel/nobody", 404),
        ("GET", "status", 404),
        ("GET", "nothing", 404),
        ("GET", "run", 405),
        ("POST", "status/x", 405),
    ],
)
def test_what_there_is_not_is_said_to_be_so(api: Api, method: str, path: str, status: int) -> None:
    answer = api.ask(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("PUT", "run", 405, "POST, OPTIONS"),
        ("DELETE", "status/x", 405, "GET, HEAD, OPTIONS"),
        ("PATCH", "v2/abc/health", 405, "GET, HEAD, OPTIONS"),
        ("GET", "cancel/x", 405, "POST, OPTIONS"),
        ("PUT", "nothing", 404, None),
        ("BREW", "run", 501, None),
    ],
)
def test_another_method_is_refused_in_json_that_says_which_are_allowed(
    api: Api, method: str, path: str, status: int, allow: str | None
) -> None:
    answer = api.ask(method, path, data=b"{}")
    assert (answer.status_code, answer.headers.get("Allow")) == (status, allow)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["error"]


def test_head_answers_as_get_does_without_the_body(api: Api) -> None:
    for path, status in (("health", 200), ("status/nobody", 404), ("run", 405)):
        answer = api.ask("HEAD", path)
        assert (answer.status_code, answer.content) == (status, b"")
        assert int(answer.headers["Content-Length"]) > 0
    assert api.ask("HEAD", "health").headers["Content-Length"] == str(
        len(api.ask("GET", "health").content)
    )


@pytest.mark.parametrize(
    "line", ["GET /health HTTP/9.9", "GET /health nonsense here", f"GET /{'x' * 70_000} HTTP/1.1"]
)
def test_what_is_no_call_at_all_is_refused_in_json(api: Api, line: str) -> None:
    with socket.create_connection(("127.0.0.1", api.server.server_port)) as caller:
        caller.settimeout(LAST_RESORT_SECONDS)
        caller.sendall(f"{line}\r\n\r\n".encode())
        caller.shutdown(socket.SHUT_WR)
        head, _, body = caller.makefile("rb").read().partition(b"\r\n\r\n")
    assert b"application/json" in head
    assert json.loads(body)["error"]


def test_every_refusal_of_the_api_is_in_its_description() -> None:
    source = Path(local_api_http.__file__).read_text("utf-8")
    said = {str(HTTPStatus[name].value) for name in re.findall(r"HTTPStatus\.([A-Z_]+)", source)}
    calls = [call for path in openapi()["paths"].values() for call in path.values()]
    told = {status for call in calls for status in call["responses"]}
    assert said - told == {"204"}, "of a preflight, which is no call"
    assert told <= said


def test_a_body_without_a_length_is_refused(api: Api) -> None:
    answer = api.ask("POST", "run", data=iter([b'{"input": {"a": 1}}']))
    assert answer.status_code == 411


def test_a_caller_who_is_gone_before_the_answer_is_no_event(
    api: Api, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    body = b'{"input": {"image_url": "x"}}'
    head = f"POST /runsync?wait=1000 HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", api.server.server_port)) as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        caller.sendall(head + body)
        wait_until(lambda: api.renders.begun, "it begins")
    api.renders.go_on.set()
    wait_until(lambda: api.ask("GET", "health").json()["jobs"]["completed"], "it is done")
    assert not caplog.records
    assert "Traceback" not in capfd.readouterr().err


def test_a_full_queue_says_429(api: Api) -> None:
    for _ in range(MOST_QUEUED + 1):
        api.run()
    answer = api.ask("POST", "run", json={"input": {"image_url": "x"}})
    assert answer.status_code == 429


@pytest.mark.parametrize(
    ("header", "status"),
    [("Bearer secret", 200), ("secret", 200), ("Bearer other", 401), (None, 401)],
)
def test_with_a_token_only_who_has_it_may_call(
    api_with: Callable[[Access], Api], header: str | None, status: int
) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = api_with(Access("secret")).ask("GET", "health", headers=headers)
    assert answer.status_code == status


def test_a_page_may_call_only_if_its_origin_is_named(api_with: Callable[[Access], Api]) -> None:
    api = api_with(Access(origins=frozenset({"http://shop.test"})))
    good, bad = {"Origin": "http://shop.test"}, {"Origin": "http://evil.test"}
    asked = api.ask("OPTIONS", "run", headers=good)
    assert asked.status_code == 204
    assert asked.headers["Access-Control-Allow-Origin"] == "http://shop.test"
    assert "Authorization" in asked.headers["Access-Control-Allow-Headers"]
    answer = api.ask("GET", "health", headers=good)
    assert answer.headers["Access-Control-Allow-Origin"] == "http://shop.test"
    assert api.ask("OPTIONS", "run", headers=bad).status_code == 403
    refused = api.ask("POST", "run", headers=bad, json={"input": {"image_url": "x"}})
    assert refused.status_code == 403
    assert "API_CORS_ORIGINS" in refused.json()["error"]
    assert not api.renders.begun


def test_without_a_token_it_listens_to_this_machine_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for host in ("127.0.0.1", "localhost", "::1"):
        assert access_of(Settings(), host).token is None
    with pytest.raises(OpenToAll, match="Set API_TOKEN"):
        access_of(Settings(), "0.0.0.0")
    monkeypatch.setenv("API_TOKEN", "secret")
    monkeypatch.setenv("API_CORS_ORIGINS", "http://a.test/, http://b.test")
    access = access_of(Settings(), "0.0.0.0")
    assert access == Access("secret", frozenset({"http://a.test", "http://b.test"}))


@pytest.mark.parametrize(
    "head",
    [
        "POST /cancel/x HTTP/1.1\r\nContent-Length: -1\r\n",
        "POST /cancel/x HTTP/1.1\r\nContent-Length: 1x\r\n",
        "POST /cancel/x HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 9\r\n",
        f"POST /cancel/x HTTP/1.1\r\nContent-Length: {'9' * 5000}\r\n",
        "OPTIONS /run HTTP/1.1\r\nContent-Length: 30\r\n",
    ],
    ids=["negative", "no number", "two", "too long", "of a preflight"],
)
def test_a_body_of_unsure_length_is_not_read_as_the_next_call(api: Api, head: str) -> None:
    with socket.create_connection(("127.0.0.1", api.server.server_port)) as caller:
        caller.settimeout(LAST_RESORT_SECONDS)
        caller.sendall(f"{head}\r\nGET /health HTTP/1.1\r\n\r\n".encode())
        caller.shutdown(socket.SHUT_WR)
        heard = caller.makefile("rb").read()
    assert heard.count(b"HTTP/1.1 ") == 1, heard


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("GET http://[/health", b""),
        (f"POST /runsync?wait={'9' * 5000}", b'{"input": {}}'),
        ("POST /run", b'{"input": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"),
    ],
    ids=["no path", "an endless wait", "a deep body"],
)
def test_an_odd_call_is_refused_and_no_traceback(
    api: Api, caplog: pytest.LogCaptureFixture, head: str, body: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", api.server.server_port)) as caller:
        caller.settimeout(LAST_RESORT_SECONDS)
        told = f"{head} HTTP/1.1\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        caller.sendall(told.encode() + body)
        heard = caller.makefile("rb").read()
    assert heard.startswith(b"HTTP/1.1 40"), heard
    assert not caplog.records


def test_of_who_may_not_call_no_body_is_kept(
    api_with: Callable[[Access], Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[object] = []
    monkeypatch.setattr("talkinghead.local_api.http._Handler._body", kept.append)
    answer = api_with(Access("secret")).ask("POST", "run", data=b"x" * 5_000_000)
    assert answer.status_code == 401
    assert kept == []


def test_it_listens_at_an_ipv6_address(api: Api) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with ApiServer(("::1", 0), api.queue, Access()) as server:
        assert server.url == f"http://[::1]:{server.server_port}"


def test_of_a_job_that_has_ended_its_files_are_not_kept(api: Api) -> None:
    api.renders.go_on.set()
    job = api.run()
    api.until(job, "COMPLETED")
    assert [each.sent.input for each in api.queue._entries.values()] == [{}]


def test_a_webhook_hears_of_a_ttl_that_is_over_while_another_job_runs() -> None:
    told: list[dict[str, Any]] = []
    now = 0.0
    go_on = threading.Event()

    def run(job: Job) -> dict[str, Any]:
        go_on.wait(LAST_RESORT_SECONDS)
        job.tell(Progress("render", "window 1 of 2", 0.5, window=1, windows=2))
        wait_until(lambda: told, "the webhook is told")
        return dict(DONE)

    queue = JobQueue(run, lambda url, body: told.append(body), clock=lambda: now)
    queue.start()
    queue.submit(Submission({"a": 1}))
    late = queue.submit(Submission({"a": 1}, webhook="http://hook.test", ttl_seconds=10.0))
    now = 11.0
    go_on.set()
    wait_until(lambda: told, "the webhook is told")
    queue.close()
    assert [(body["id"], body["status"]) for body in told] == [(late["id"], "TIMED_OUT")]


def test_a_callers_webhook_reaches_nothing_on_the_workers_own_network(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as inside:
        url = f"http://127.0.0.1:{inside.getsockname()[1]}/interrupt?token=secret"
        tell(url, {"id": "a"}, PUBLIC_ONLY)
        wait_until(lambda: caplog.records, "it is said")
        inside.setblocking(False)
        with pytest.raises(BlockingIOError):
            inside.accept()
    assert "ALLOW_PRIVATE_URLS" in caplog.text and "secret" not in caplog.text


def test_connections_that_say_nothing_leave_files_to_the_jobs(
    monkeypatch: pytest.MonkeyPatch, api_with: Callable[[Access], Api]
) -> None:
    monkeypatch.setattr("talkinghead.local_api.http.MOST_CALLS", 2)
    api = api_with(Access("secret"))
    address = ("127.0.0.1", api.server.server_port)
    idle = [socket.create_connection(address) for _ in range(2)]
    with socket.create_connection(address) as third:
        third.settimeout(LAST_RESORT_SECONDS)
        assert third.recv(100).startswith(b"HTTP/1.1 429 ")
    for each in idle:
        each.close()
    headers = {"Authorization": "secret"}
    wait_until(lambda: api.ask("GET", "health", headers=headers).ok, "there is room again")


def test_jobs_go_on_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    renders = Renders()
    renders.go_on.set()
    queue = JobQueue(renders, tell)
    queue.start()
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        sent = Submission({"a": 1}, execution_seconds=60.0, webhook="http://127.0.0.1:9/")
        jobs = [queue.submit(sent)["id"] for _ in range(2)]
        for job in jobs:
            queue.wait(job, LAST_RESORT_SECONDS)
    assert [(queue.state(job) or {})["status"] for job in jobs] == ["COMPLETED"] * 2
    queue.close()


def test_a_queue_of_large_files_says_429(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("talkinghead.local_api.jobs.MOST_QUEUED_BYTES", 3_000)
    api.run()
    wait_until(lambda: api.renders.begun, "it begins")
    large = {"input": {"image_url": "x" * 2_000}}
    assert [api.ask("POST", "run", json=large).status_code for _ in range(2)] == [200, 429]
