"""A client for ComfyUI's API: submit a graph, follow it, interrupt it, collect its files.

Twelve lines run any workflow, in API format, on any server:

    import json
    from pathlib import Path
    from comfy_client import ComfyClient

    client = ComfyClient("http://127.0.0.1:8188")
    graph = json.loads(Path("workflow_api.json").read_text())
    graph["30"]["inputs"]["image"] = client.upload(Path("portrait.png"), subfolder="my-job")
    outcome = client.run(graph, deadline_seconds=600, on_event=lambda event: print(event.type))
    for file in outcome.files:
        client.download(file, Path(file.filename))
    print(outcome.texts)

It knows ComfyUI, and nothing of what the graphs are for. The truth about a prompt is ComfyUI's
history under the prompt id that we chose; the WebSocket only makes it known sooner, so a socket
that closes or goes deaf costs a second, never the result, and an event that is left out nothing:
newer servers tell of progress ten times a second at most. Nothing waits for ever: a server that
stops to answer ends a run within `unreachable_seconds` and a few seconds more.

    ComfyError
     +- Unreachable      the server does not answer
     +- PromptRejected   the graph failed validation
     +- PromptLost       the server no longer knows the prompt: it was restarted, or cleared
     +- FileMissing      the server has no such output
     +- ExecutionFailed  a node raised
     +- Interrupted      the prompt was interrupted, or deleted from the queue
     +- TimedOut         the deadline passed; the prompt has been interrupted
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import requests
import websocket

Graph = Mapping[str, Mapping[str, Any]]

EVENT_SECONDS = 0.5  # between two calls of `watch`
POLL_SECONDS = 1.0  # between reads of history, whatever the socket says
REREAD_SECONDS = 0.1  # the same, when neither history nor queue knows the prompt
HISTORY_SECONDS = 10.0  # history is written after the success event; on a busy host much later
UNREACHABLE_SECONDS = 30.0  # a server that loads a model may not answer for some seconds
HTTP_SECONDS = 30.0  # uploads, downloads, schemas and the validation of a graph take their time
ANSWER_SECONDS = 5.0  # everything else is small, and mostly asked again
AGAIN_SECONDS = 0.05  # a prompt that begins at this moment has forgotten the first interrupt
STOP_SECONDS = 3.0  # a request of those made when somebody waits for the end
ID_SPACE = uuid.uuid5(uuid.NAMESPACE_URL, "comfy_client")  # of the UUIDs made from other texts
GATEWAY_ERRORS = (502, 503, 504)  # a reverse proxy says that there is no ComfyUI behind it
CHUNK_BYTES = 1 << 20
QUOTED = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})  # in a form, as browsers have it


class ComfyError(Exception):
    """Something went wrong between us and ComfyUI, or inside it."""


class Unreachable(ComfyError):
    """The server does not answer."""


class PromptRejected(ComfyError):
    """The graph failed validation; `node_errors` is ComfyUI's own account, by node id."""

    def __init__(self, message: str, node_errors: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.node_errors = node_errors


class PromptLost(ComfyError):
    """The server no longer knows the prompt."""


class FileMissing(ComfyError):
    """The server has no such output."""


class ExecutionFailed(ComfyError):
    """A node raised. `exception_type` is its Python name, such as `torch.OutOfMemoryError`."""

    def __init__(self, node_id: str, node_type: str, exception_type: str, message: str) -> None:
        super().__init__(f"{node_type} (node {node_id}): {message.strip()}")
        self.node_id = node_id
        self.node_type = node_type
        self.exception_type = exception_type
        self.message = message.strip()


class Interrupted(ComfyError):
    """The prompt was interrupted from outside, or deleted from the queue."""


class TimedOut(ComfyError):
    """The deadline passed. The prompt has been interrupted and deleted."""


@dataclass(frozen=True)
class Event:
    """One message of the WebSocket about our prompt, such as `progress` or `executed`."""

    type: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class OutputFile:
    """A file that an output node reported. `key` is the node's own, such as `gifs`, `images`."""

    node_id: str
    key: str
    filename: str
    subfolder: str
    type: str


@dataclass(frozen=True)
class Outcome:
    """A prompt that ended well: its files and texts, in the order of the history."""

    prompt_id: str
    files: tuple[OutputFile, ...]
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def server_id(prompt_id: str) -> str:
    """The id that a prompt has on the server, which may want lower-case UUIDs: one always.

    A UUID in that form is itself; of any other text it is another one, always the same.
    """
    with contextlib.suppress(ValueError):
        if str(uuid.UUID(prompt_id)) == prompt_id:
            return prompt_id
    return str(uuid.uuid5(ID_SPACE, prompt_id))


class ComfyClient:
    """One ComfyUI server. Methods raise `ComfyError`; each is safe to call from any thread.

    A prompt id is any text: outcomes and errors name it as it was given. Only what comes from the
    server as it is, events and history, names its `server_id`.

    Args:
        url: of the server.
        answer_seconds: how long one small request may take, such as a read of history.
        unreachable_seconds: how long the server may not answer at all while a prompt runs.
        history_seconds: how long it may answer that it knows nothing of a prompt it took.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8188",
        *,
        answer_seconds: float = ANSWER_SECONDS,
        unreachable_seconds: float = UNREACHABLE_SECONDS,
        history_seconds: float = HISTORY_SECONDS,
    ) -> None:
        self.url = url.rstrip("/")
        self._answer_seconds = answer_seconds
        self._stop_seconds = min(answer_seconds, STOP_SECONDS)
        self._unreachable_seconds = unreachable_seconds
        self._history_seconds = history_seconds
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy of the environment stands before ComfyUI

    def run(
        self,
        graph: Graph,
        *,
        deadline_seconds: float,
        prompt_id: str | None = None,
        workflow: Mapping[str, Any] | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
        watch: Callable[[], None] = lambda: None,
    ) -> Outcome:
        """Queue the graph and follow it to its end.

        Args:
            graph: in API format.
            deadline_seconds: for the whole run, time in the queue included.
            prompt_id: one of our own makes the prompt traceable; a random UUID if not given.
            workflow: the graph's GUI file, for nodes that write it into what they save.
            on_event: called with each event of this prompt.
            watch: called about twice a second, and every `answer_seconds` while the server does
                not answer; what it raises stops the prompt and comes out here.
        """
        deadline = time.monotonic() + deadline_seconds
        prompt_id = prompt_id or str(uuid.uuid4())
        with _Listener.connect(self.url, server_id(prompt_id), self._answer_seconds) as listener:
            try:
                self.submit(graph, prompt_id, client_id=listener.client_id, workflow=workflow)
                return _Run(self, prompt_id).follow(listener, deadline, on_event, watch)
            except PromptRejected:
                raise
            except BaseException:  # a submission without an answer may have been queued too
                self.stop(prompt_id)
                raise

    def submit(
        self,
        graph: Graph,
        prompt_id: str,
        *,
        client_id: str,
        workflow: Mapping[str, Any] | None = None,
    ) -> None:
        """Queue the graph under our prompt id.

        Raises:
            PromptRejected: also when only some of its outputs are valid; nothing stays queued.
        """
        extra = {"extra_pnginfo": {"workflow": workflow}} if workflow else {}
        body = {"prompt": graph, "prompt_id": server_id(prompt_id), "client_id": client_id}
        response = self._request("POST", "/prompt", json=body | {"extra_data": extra})
        answer = _json(response)
        if response.status_code == 200 and not answer.get("node_errors"):
            return
        if response.status_code == 200:
            self.stop(prompt_id)
        raise PromptRejected(_why_rejected(answer, graph), answer.get("node_errors") or {})

    def stop(self, prompt_id: str) -> None:
        """Take the prompt out of the queue, or interrupt it if it runs.

        Never raises, and takes a few seconds at most: a server that does not answer is left alone.
        """
        with contextlib.suppress(ComfyError):
            if self._cancel(prompt_id):
                time.sleep(AGAIN_SECONDS)
                self._cancel(prompt_id)
                return
            body = {"delete": [server_id(prompt_id)]}
            self._request("POST", "/queue", self._stop_seconds, json=body)
            self.interrupt(prompt_id)
            time.sleep(AGAIN_SECONDS)
            if self.is_queued(prompt_id):
                self.interrupt(prompt_id)

    def _cancel(self, prompt_id: str) -> bool:
        """Stop the prompt by the jobs API; False if the server has none, and nothing was done.

        On the server that is one step: it cannot hit a prompt that begins meanwhile. Whether there
        is such an API the call itself finds out, each time: the server may have been started again,
        as another version.
        """
        path = f"/api/jobs/{server_id(prompt_id)}/cancel"
        answer = self._request("POST", path, self._stop_seconds)
        return answer.status_code == requests.codes.ok and b'"cancelled"' in answer.content

    def interrupt(self, prompt_id: str) -> None:
        """Interrupt this prompt, no other; it acts between the steps of a sampler."""
        body = {"prompt_id": server_id(prompt_id)}
        self._request("POST", "/interrupt", self._stop_seconds, json=body)

    def history(self, prompt_id: str) -> Mapping[str, Any] | None:
        """The history entry of the prompt; None while it waits, runs, or is unknown."""
        its_id = server_id(prompt_id)
        answer = self._request("GET", f"/history/{its_id}", self._answer_seconds)
        entry = _json(answer).get(its_id)
        return entry if isinstance(entry, dict) else None

    def is_queued(self, prompt_id: str) -> bool:
        """Whether the prompt waits or runs."""
        queue = _json(self._request("GET", "/queue", self._answer_seconds))
        items = [*queue.get("queue_running", []), *queue.get("queue_pending", [])]
        return server_id(prompt_id) in (item[1] for item in items)

    def wait_idle(self, prompt_id: str, *, deadline_seconds: float) -> None:
        """Return when the prompt neither waits nor runs.

        Raises:
            TimedOut: it still does at the deadline: a node that does not hear the interrupt.
            Unreachable: the server does not answer, at the deadline still.
        """
        deadline = time.monotonic() + deadline_seconds
        while True:
            try:
                if not self.is_queued(prompt_id):
                    return
                error: ComfyError = TimedOut(f"prompt {prompt_id} does not end when interrupted")
            except Unreachable as unreachable:
                error = unreachable
            if time.monotonic() > deadline:
                raise error
            time.sleep(0.1)

    def forget(self, prompt_id: str) -> None:
        """Delete the prompt from the history."""
        body = {"delete": [server_id(prompt_id)]}
        self._request("POST", "/history", self._answer_seconds, json=body)

    def free_memory(self) -> None:
        """Drop everything that earlier prompts left, models included, before the next prompt."""
        everything = {"unload_models": True, "free_memory": True}
        self._request("POST", "/free", self._answer_seconds, json=everything)

    def system_stats(self) -> Mapping[str, Any]:
        """Versions, devices and memory of the server."""
        return _json(self._request("GET", "/system_stats", self._answer_seconds))

    def object_info(self) -> Mapping[str, Any]:
        """The schemas of all node classes of the server."""
        return _json(self._request("GET", "/object_info"))

    def upload(self, path: Path, *, subfolder: str = "") -> str:
        """Put a file into the server's input folder; returns its name as nodes take it."""
        boundary = uuid.uuid4().hex
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        body = _form(path, boundary, subfolder=subfolder, overwrite="true")
        answer = self._request("POST", "/upload/image", data=body, headers=kind)
        if answer.status_code != 200:
            raise ComfyError(
                f"ComfyUI refused the upload of {path.name}: HTTP {answer.status_code}"
            )
        stored = _json(answer)
        return "/".join(part for part in (stored["subfolder"], stored["name"]) if part)

    def download(
        self, file: OutputFile, path: Path, *, watch: Callable[[], None] = lambda: None
    ) -> None:
        """Stream an output to `path`. `watch` is called as data comes; what it raises ends it."""
        query = {"filename": file.filename, "subfolder": file.subfolder, "type": file.type}
        with self._request("GET", "/view", params=query, stream=True) as response:
            if response.status_code != 200:
                raise FileMissing(f"ComfyUI has no file {file.filename} of node {file.node_id}")
            with path.open("wb") as target, self._unreachable():
                for chunk in response.iter_content(CHUNK_BYTES):
                    watch()
                    target.write(chunk)

    def _request(
        self, method: str, path: str, seconds: float = HTTP_SECONDS, **options: Any
    ) -> requests.Response:
        with self._unreachable():
            response = self._session.request(method, self.url + path, timeout=seconds, **options)
        if response.status_code in GATEWAY_ERRORS:
            raise Unreachable(f"ComfyUI at {self.url} is away (HTTP {response.status_code})")
        return response

    @contextlib.contextmanager
    def _unreachable(self) -> Iterator[None]:
        try:
            yield
        except requests.RequestException as error:
            reason = type(error).__name__
            raise Unreachable(f"ComfyUI at {self.url} does not answer ({reason})") from error


class _Run:
    """A prompt that was submitted, on its way to its end. Used by one thread.

    Only answers count: while the server is unreachable, nothing is unknown to it.
    """

    def __init__(self, client: ComfyClient, prompt_id: str) -> None:
        self._client = client
        self._prompt_id = prompt_id
        self._last_answer = time.monotonic()
        self._next_poll = self._last_answer + POLL_SECONDS
        self._unknown_since: float | None = None

    def follow(
        self,
        listener: _Listener,
        deadline: float,
        on_event: Callable[[Event], None],
        watch: Callable[[], None],
    ) -> Outcome:
        """The outcome, when there is one; `deadline` is a time of the monotonic clock."""
        while True:
            watch()
            now = time.monotonic()
            if now > deadline:
                raise TimedOut(f"prompt {self._prompt_id} did not end within its deadline")
            event = listener.next_event(min(EVENT_SECONDS, self._next_poll - now))
            if event is not None:
                on_event(event)
            ended = event is not None and _is_last(event)
            if ended or now >= self._next_poll:
                self._next_poll = now + POLL_SECONDS
                outcome = self._reconcile(ended)
                if outcome is not None:
                    return outcome

    def _reconcile(self, ended: bool) -> Outcome | None:
        """What history and queue say: an outcome, an error, or None while it goes on."""
        try:
            entry = self._client.history(self._prompt_id)
            if entry is not None:
                return _outcome(self._prompt_id, entry)
            queued = self._client.is_queued(self._prompt_id)
        except Unreachable:
            if time.monotonic() - self._last_answer > self._client._unreachable_seconds:
                raise
            return None
        now = self._last_answer = time.monotonic()
        if queued and not ended:
            self._unknown_since = None
            return None
        self._unknown_since = self._unknown_since or now
        if now - self._unknown_since > self._client._history_seconds:
            raise PromptLost(f"ComfyUI no longer knows prompt {self._prompt_id}: was it restarted?")
        self._next_poll = now + REREAD_SECONDS
        return None


_LAST_EVENTS = ("execution_success", "execution_error", "execution_interrupted")


def _is_last(event: Event) -> bool:
    """Whether the prompt is over: success comes before the history is written, "no node" after."""
    no_node = event.type == "executing" and event.data.get("node") is None
    return no_node or event.type in _LAST_EVENTS


class _Listener:
    """The WebSocket, under a client id of its own; without a connection it hears nothing.

    A lost one is not opened again. ComfyUI sends a prompt's events only to the client id that
    submitted it: a fresh id hears nothing of it, and under the same id ComfyUI's clean-up of the
    old socket can remove the new one. Polling alone brings the rest.
    """

    def __init__(self, its_id: str, client_id: str, socket: websocket.WebSocket | None) -> None:
        self.client_id = client_id
        self._its_id = its_id  # the prompt's, on the server
        self._socket = socket

    @classmethod
    def connect(cls, url: str, its_id: str, seconds: float) -> Self:
        """A listener; a server that refuses the socket is followed by polling alone."""
        client_id = uuid.uuid4().hex
        address = f"ws{url.removeprefix('http')}/ws?clientId={client_id}"
        try:
            # ComfyUI's JSON is UTF-8; the library would check that in Python, byte by byte.
            socket = websocket.create_connection(
                address, timeout=seconds, skip_utf8_validation=True, http_no_proxy=["*"]
            )
        except (websocket.WebSocketException, OSError):
            return cls(its_id, client_id, None)
        return cls(its_id, client_id, socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._socket is not None:
            with contextlib.suppress(websocket.WebSocketException, OSError):
                self._socket.close(timeout=1)

    def next_event(self, seconds: float) -> Event | None:
        """The next event of our prompt, if one comes within so many seconds."""
        seconds = max(seconds, 0.01)
        if self._socket is None:
            time.sleep(seconds)
            return None
        try:
            self._socket.settimeout(seconds)
            message = self._socket.recv()
        except websocket.WebSocketTimeoutException:
            return None
        except (websocket.WebSocketException, OSError, UnicodeDecodeError):
            self._socket.close(timeout=0)
            self._socket = None
            return None
        return self._parse(message) if isinstance(message, str) else None

    def _parse(self, message: str) -> Event | None:
        try:
            content = json.loads(message)
            event = Event(content["type"], content["data"])
        except (ValueError, KeyError, TypeError):
            return None
        return event if event.data.get("prompt_id") == self._its_id else None


def _outcome(prompt_id: str, entry: Mapping[str, Any]) -> Outcome:
    """The end that a history entry tells of."""
    status = entry.get("status") or {}
    messages = dict(status.get("messages", []))
    if "execution_interrupted" in messages:
        raise Interrupted(f"prompt {prompt_id} was interrupted")
    if status.get("status_str") != "success":
        raise _failure(messages.get("execution_error", {}))
    files, texts = [], {}
    for node_id, output in entry.get("outputs", {}).items():
        for key, items in output.items():
            files += [_file(node_id, key, item) for item in items or [] if _is_file(item)]
        if "text" in output:
            texts[node_id] = tuple(str(text) for text in output["text"])
    return Outcome(prompt_id, tuple(files), texts)


def _failure(error: Mapping[str, Any]) -> ExecutionFailed:
    return ExecutionFailed(
        str(error.get("node_id", "?")),
        str(error.get("node_type", "?")),
        str(error.get("exception_type", "?")),
        str(error.get("exception_message", "ComfyUI gives no reason")),
    )


def _is_file(item: object) -> bool:
    return isinstance(item, dict) and "filename" in item and "type" in item


def _file(node_id: str, key: str, item: Mapping[str, Any]) -> OutputFile:
    return OutputFile(node_id, key, item["filename"], item.get("subfolder", ""), item["type"])


def _why_rejected(answer: Mapping[str, Any], graph: Graph) -> str:
    """ComfyUI's validation errors as one sentence that names nodes and inputs."""
    reasons = [
        f"{_name(node_id, graph)}: {error.get('message', '')} ({error.get('details', '')})"
        for node_id, account in (answer.get("node_errors") or {}).items()
        for error in account.get("errors", [])
    ]
    general = (answer.get("error") or {}).get("message", "ComfyUI rejected the graph")
    return "; ".join(reasons) or str(general)


def _name(node_id: str, graph: Graph) -> str:
    node = graph.get(node_id, {})
    title = node.get("_meta", {}).get("title") or node_id
    return f"{title} [{node.get('class_type', '?')}]"


def _form(path: Path, boundary: str, **fields: str) -> Iterator[bytes]:
    """A form with the file as its image, piece by piece: requests would hold it as a whole."""
    part = f'--{boundary}\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n'
    for name, value in fields.items():
        yield (part % (name, "") + f"{value}\r\n").encode()
    yield (part % ("image", f'; filename="{path.name.translate(QUOTED)}"')).encode()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
    yield f"\r\n--{boundary}--\r\n".encode()


def _json(response: requests.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ComfyError(f"ComfyUI answered HTTP {response.status_code} without a JSON object")
    return answer
