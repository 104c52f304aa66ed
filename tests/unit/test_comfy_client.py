"""What the client asks of servers of different ages; the rest of it is in tests/comfy."""

from __future__ import annotations

import http.server
import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any, Self

import pytest

from comfy_client import ComfyClient, PromptRejected, TimedOut, server_id

A_UUID = "0b7e6a0e-7d3f-4f6e-9a51-0d1f4f0c8a11"
TEXTS = ["job 7", "a/b?c", "", "Ä", A_UUID.upper(), A_UUID.replace("-", ""), f"{{{A_UUID}}}"]


class Server:
    """A ComfyUI that has queue, history and interrupt, and if `jobs`, the jobs API too.

    `asked` are the requests that change something, with what they name.
    """

    def __init__(self, *, jobs: bool) -> None:
        self.jobs = jobs
        self.running: list[str] = []
        self.ends = True  # a prompt, when it is queued
        self.errors: dict[str, Any] = {}
        self.history: dict[str, Any] = {}
        self.asked: list[tuple[str, str]] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/queue":
                    running = [[0, each] for each in server.running]
                    return self.answer({"queue_running": running, "queue_pending": []})
                kind, _, prompt_id = self.path[1:].partition("/")
                if kind == "history":
                    return self.answer({k: v for k, v in server.history.items() if k == prompt_id})
                return self.send_error(404)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or "{}")
                self.answer_to(self.path, body)

            def answer_to(self, path: str, body: dict[str, Any]) -> None:
                if path.startswith("/api/jobs/"):
                    if not server.jobs:  # the files of the GUI are there, and are not posted to
                        return self.send_error(405)
                    server.asked.append(("cancel", path.split("/")[3]))
                    return self.answer({"cancelled": server.end(path.split("/")[3])})
                if path == "/prompt":
                    server.queue(body["prompt_id"])
                    return self.answer({"node_errors": server.errors})
                told = body.get("prompt_id") or body["delete"][0]
                server.asked.append((path[1:], told))
                if path == "/interrupt":
                    server.end(told)
                if path == "/history":
                    server.history.pop(told, None)
                return self.answer({})

            def answer(self, content: object) -> None:
                body = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Requests are not part of a test's output."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def queue(self, prompt_id: str) -> None:
        """A prompt comes; as of ComfyUI 0.24, under a UUID alone."""
        assert str(uuid.UUID(prompt_id)) == prompt_id
        if self.ends:
            self.history[prompt_id] = {"status": {"status_str": "success"}, "outputs": {}}
        else:
            self.running.append(prompt_id)

    def end(self, prompt_id: str) -> bool:
        """Whether the prompt ran, and ends."""
        ran = prompt_id in self.running
        self.running = [each for each in self.running if each != prompt_id]
        return ran


@pytest.fixture(params=[True, False], ids=["with-jobs", "without"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(jobs=request.param) as server:
        yield server


@pytest.fixture
def client(server: Server) -> ComfyClient:
    return ComfyClient(server.url)


def test_a_lower_case_uuid_is_itself_on_the_server() -> None:
    assert server_id(A_UUID) == A_UUID


def test_any_other_text_is_a_uuid_of_its_own_on_the_server() -> None:
    ids = {server_id(text) for text in [*TEXTS, A_UUID]}
    assert len(ids) == len(TEXTS) + 1
    for text in TEXTS:
        its_id = server_id(text)
        assert str(uuid.UUID(its_id)) == its_id == server_id(text) == server_id(its_id)


@pytest.mark.parametrize("prompt_id", ["job 7", A_UUID])
def test_a_prompt_is_followed_and_forgotten_by_the_callers_own_id(
    server: Server, client: ComfyClient, prompt_id: str
) -> None:
    assert client.run({}, deadline_seconds=600, prompt_id=prompt_id).prompt_id == prompt_id
    assert client.history(prompt_id) is not None
    client.forget(prompt_id)
    assert client.history(prompt_id) is None
    assert server.asked == [("history", server_id(prompt_id))]


def test_errors_name_the_callers_own_id(server: Server, client: ComfyClient) -> None:
    server.ends = False
    with pytest.raises(TimedOut, match="job 7"):
        client.run({}, deadline_seconds=0, prompt_id="job 7")
    assert not client.is_queued("job 7")


def test_a_prompt_is_stopped_in_one_step_where_the_server_can(
    server: Server, client: ComfyClient
) -> None:
    other, its_id = str(uuid.uuid4()), server_id("job 7")
    server.running = [its_id, other]
    client.stop("job 7")
    assert server.running == [other]
    # Twice: one that begins at that moment forgets the first interrupt.
    expected = ["cancel", "cancel"] if server.jobs else ["queue", "interrupt"]
    assert server.asked == [(kind, its_id) for kind in expected]


def test_a_prompt_that_is_over_is_stopped_in_silence(server: Server, client: ComfyClient) -> None:
    client.stop(A_UUID)
    assert server.asked


def test_a_server_that_is_another_version_after_its_restart_is_asked_anew(
    server: Server, client: ComfyClient
) -> None:
    for jobs in (not server.jobs, server.jobs):
        server.jobs, server.running = jobs, [A_UUID]
        client.stop(A_UUID)
        assert server.running == []
        assert ("cancel" in dict(server.asked)) is jobs
        server.asked.clear()


def test_a_prompt_of_which_only_a_part_is_valid_is_taken_back(
    server: Server, client: ComfyClient
) -> None:
    server.ends, server.errors = False, {"1": {"errors": [{"message": "no"}]}}
    with pytest.raises(PromptRejected, match="no"):
        client.submit({}, "job 7", client_id="any")
    assert server.running == []


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_graph_that_is_no_json_is_rejected_and_no_silence_of_the_server(
    server: Server, client: ComfyClient, number: float
) -> None:
    graph = {"1": {"class_type": "ImageBlur", "inputs": {"sigma": number}}}
    with pytest.raises(PromptRejected, match="no JSON"):
        client.run(graph, deadline_seconds=9.0)
    assert not server.running
