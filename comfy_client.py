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
that closes or goes deaf costs some events until there is another, never the result, and an event
that is left out nothing: newer servers tell of progress ten times a second at most. Nothing waits
for ever: a server that stops to answer ends a run within `unreachable_seconds` and a few more.

    ComfyError
     +- Unreachable      the server does not answer
     +- PromptRejected   the graph failed validation
     +- PromptLost       the server no longer knows the prompt: restarted, or its queue cleared
     +- FileMissing      the server has no such output
     +- ExecutionFailed  a node raised
     +- Interrupted      the prompt was interrupted while it ran
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
RECONNECT_SECONDS = 3.0  # after a socket was lost; until then the server has forgotten it
QUIET_SECONDS = 60.0  # a socket that replaced another is replaced, if so long no event comes
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


class UploadTooLarge(ComfyError):
    """The server, or a proxy before it, takes no file so large."""


class PromptRejected(ComfyError):
    """The graph failed validation; `node_errors` is ComfyUI's own account, by node id."""

    def __init__(self, message: str, node_errors: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.node_errors = node_errors


class PromptLost(ComfyError):
    """The server no longer knows the prompt: restarted, or it was taken from the queue."""


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
    """The prompt was interrupted from outside, while it ran."""


class TimedOut(ComfyError):
    """The deadline passed. The prompt has been interrupted and deleted."""


@dataclass(frozen=True)
class Event:
    """One message of the WebSocket about our prompt, such as `progress` or `executed`."""

    type: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Where our prompt is, as the server said when it was last asked.

    `ahead` are the prompts that it works on before ours; with none, ours is executed. `hears` is
    whether an event of ours would have come: without it, silence says nothing. Then `last_line` is
    the time of the last line in the server's log, None if it does not tell: nodes that take long
    say there how far they are.
    """

    ahead: int
    hears: bool
    last_line: str | None = None


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
        http_seconds: how long the server may be silent in the others, such as an upload.
        unreachable_seconds: how long the server may not answer at all while a prompt runs.
        history_seconds: how long it may answer that it knows nothing of a prompt it took.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8188",
        *,
        answer_seconds: float = ANSWER_SECONDS,
        http_seconds: float = HTTP_SECONDS,
        unreachable_seconds: float = UNREACHABLE_SECONDS,
        history_seconds: float = HISTORY_SECONDS,
    ) -> None:
        self.url = url.rstrip("/")
        self._answer_seconds = answer_seconds
        self._http_seconds = http_seconds
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
        on_place: Callable[[Place], None] = lambda place: None,
        watch: Callable[[], None] = lambda: None,
    ) -> Outcome:
        """Queue the graph and follow it to its end.

        Args:
            graph: in API format.
            deadline_seconds: for the whole run, time in the queue included.
            prompt_id: one of our own makes the prompt traceable; a random UUID if not given.
            workflow: the graph's GUI file, for nodes that write it into what they save.
            on_event: called with each event of this prompt.
            on_place: called about once a second with what the server says of a prompt that goes on.
            watch: called about twice a second, and every `answer_seconds` while the server does
                not answer; what it raises stops the prompt and comes out here.
        """
        deadline = time.monotonic() + deadline_seconds
        prompt_id = prompt_id or str(uuid.uuid4())
        with _Listener.connect(self.url, server_id(prompt_id), self._answer_seconds) as listener:
            try:
                self.submit(graph, prompt_id, client_id=listener.client_id, workflow=workflow)
                run = _Run(self, prompt_id, listener)
                return run.follow(deadline, on_event=on_event, on_place=on_place, watch=watch)
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
        try:
            content = json.dumps(body | {"extra_data": extra}, allow_nan=False)
        except ValueError as error:  # of the graph, not of the server
            raise PromptRejected(f"the graph is no JSON: {error}", {}) from None
        kind = {"Content-Type": "application/json"}
        response = self._request("POST", "/prompt", data=content.encode(), headers=kind)
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
        return self.queue_position(prompt_id) is not None

    def queue_position(self, prompt_id: str) -> int | None:
        """How many prompts are done before this one: 0 if it runs, or is the next while none does.

        None if it neither waits nor runs.
        """
        queue = _json(self._request("GET", "/queue", self._answer_seconds))
        its_id, running = server_id(prompt_id), queue.get("queue_running", [])
        if its_id in (item[1] for item in running):
            return 0
        waiting = sorted(queue.get("queue_pending", []), key=lambda item: item[0])
        ids = [item[1] for item in waiting]
        return len(running) + ids.index(its_id) if its_id in ids else None

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

    def last_line(self) -> str | None:
        """When the server's log got its last line, by its clock; None if it does not tell.

        The page's own API, which a server, or a proxy before it, need not have.
        """
        with contextlib.suppress(ComfyError, KeyError, IndexError, TypeError):
            answer = self._request("GET", "/internal/logs/raw", self._answer_seconds)
            return str(_json(answer)["entries"][-1]["t"])
        return None

    def object_info(self) -> Mapping[str, Any]:
        """The schemas of all node classes of the server."""
        return _json(self._request("GET", "/object_info"))

    def upload(self, path: Path, *, subfolder: str = "") -> str:
        """Put a file into the server's input folder; returns its name as nodes take it."""
        boundary = uuid.uuid4().hex
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        body = _form(path, boundary, subfolder=subfolder, overwrite="true")
        answer = self._request("POST", "/upload/image", data=body, headers=kind)
        if answer.status_code == requests.codes.request_entity_too_large:
            raise UploadTooLarge(
                f"ComfyUI takes no file as large as {path.name}, {path.stat().st_size / 1e6:.0f} MB"
            )
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
        self, method: str, path: str, seconds: float | None = None, **options: Any
    ) -> requests.Response:
        timeout = self._http_seconds if seconds is None else seconds
        with self._unreachable():
            response = self._session.request(method, self.url + path, timeout=timeout, **options)
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

    def __init__(self, client: ComfyClient, prompt_id: str, listener: _Listener) -> None:
        self._client = client
        self._prompt_id = prompt_id
        self._listener = listener
        self._last_answer = time.monotonic()
        self._next_poll = self._last_answer + POLL_SECONDS
        self._unknown_since: float | None = None

    def follow(
        self,
        deadline: float,
        *,
        on_event: Callable[[Event], None],
        on_place: Callable[[Place], None],
        watch: Callable[[], None],
    ) -> Outcome:
        """The outcome, when there is one; `deadline` is a time of the monotonic clock."""
        while True:
            watch()
            now = time.monotonic()
            if now > deadline:
                raise TimedOut(f"prompt {self._prompt_id} did not end within its deadline")
            event = self._listener.next_event(min(EVENT_SECONDS, self._next_poll - now))
            if event is not None:
                on_event(event)
            ended = event is not None and _is_last(event)
            if ended or now >= self._next_poll:
                self._next_poll = now + POLL_SECONDS
                outcome = self._reconcile(ended, on_place)
                if outcome is not None:
                    return outcome

    def _reconcile(self, ended: bool, on_place: Callable[[Place], None]) -> Outcome | None:
        """What history and queue say: an outcome, an error, or None while it goes on."""
        try:
            entry = self._client.history(self._prompt_id)
            if entry is not None:
                return _outcome(self._prompt_id, entry)
            ahead = self._client.queue_position(self._prompt_id)
        except Unreachable:
            if time.monotonic() - self._last_answer > self._client._unreachable_seconds:
                raise
            return None
        now = self._last_answer = time.monotonic()
        if ahead is not None and not ended:
            self._unknown_since = None
            hears = self._listener.still_hears()
            blind = ahead == 0 and not hears
            on_place(Place(ahead, hears, self._client.last_line() if blind else None))
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

    A prompt's events go only to the client id that submitted it, so another socket is opened under
    the same one, as ComfyUI's own page does. When a socket ends, the server forgets the client id,
    even if it is a newer socket's by then. Therefore the old one is ended first, with some time
    between; and a newer one counts as hearing only after an event has come by it.
    """

    def __init__(self, url: str, its_id: str, seconds: float) -> None:
        self.client_id = uuid.uuid4().hex
        self._address = f"ws{url.removeprefix('http')}/ws?clientId={self.client_id}"
        self._its_id = its_id  # the prompt's, on the server
        self._seconds = seconds
        self._socket: websocket.WebSocket | None = None
        self._is_answered = True  # the last ping
        self._is_proven = True  # that events come by it
        self._changed = time.monotonic()  # since when the socket is open, or is not, or is silent

    @classmethod
    def connect(cls, url: str, its_id: str, seconds: float) -> Self:
        """A listener; a server that refuses the socket is followed by polling alone."""
        listener = cls(url, its_id, seconds)
        listener._open()
        return listener

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._close(1)

    def still_hears(self) -> bool:
        """Whether an event would have come; to be asked about once a second, as it also looks.

        A server that answers polls answers a ping, too: if not, the socket is deaf. A newer socket
        by which nothing has come for long may have been forgotten, and is replaced again.
        """
        hears = self._socket is not None and self._is_answered and self._is_proven
        silence = time.monotonic() - self._changed
        if self._socket is None and silence > RECONNECT_SECONDS:
            self._open()
        elif not self._is_answered and silence > RECONNECT_SECONDS:
            self._close(0)
        elif not self._is_proven and silence > QUIET_SECONDS:
            self._close(1)
        elif self._socket is not None and self._is_answered:
            self._ping(self._socket)
        return hears

    def next_event(self, seconds: float) -> Event | None:
        """The next event of our prompt, if one comes within so many seconds."""
        seconds = max(seconds, 0.01)
        if self._socket is None:
            time.sleep(seconds)
            return None
        try:
            self._socket.settimeout(seconds)
            opcode, data = self._socket.recv_data(control_frame=True)
        except websocket.WebSocketTimeoutException:
            return None
        except (websocket.WebSocketException, OSError, UnicodeDecodeError):
            self._close(0)
            return None
        self._is_answered = True
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            self._close(0)
        return self._parse(data) if opcode == websocket.ABNF.OPCODE_TEXT else None

    def _open(self) -> None:
        self._changed = time.monotonic()
        try:
            # ComfyUI's JSON is UTF-8; the library would check that in Python, byte by byte.
            self._socket = websocket.create_connection(
                self._address,
                timeout=self._seconds,
                skip_utf8_validation=True,
                http_no_proxy=["*"],
            )
            self._is_answered = True
        except (websocket.WebSocketException, OSError):
            self._is_proven = False

    def _close(self, seconds: float) -> None:
        """End the socket; the server has so long to agree."""
        socket, self._socket = self._socket, None
        self._is_proven = False
        self._changed = time.monotonic()
        if socket is not None:
            with contextlib.suppress(websocket.WebSocketException, OSError):
                socket.close(timeout=seconds)

    def _ping(self, socket: websocket.WebSocket) -> None:
        try:
            socket.ping()
        except (websocket.WebSocketException, OSError):
            self._close(0)
        else:
            self._is_answered = False
            if self._is_proven:
                self._changed = time.monotonic()

    def _parse(self, message: bytes) -> Event | None:
        try:
            content = json.loads(message)
            event = Event(content["type"], content["data"])
        except (ValueError, KeyError, TypeError):
            return None
        if event.data.get("prompt_id") != self._its_id:
            return None
        self._is_proven = True
        return event


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
