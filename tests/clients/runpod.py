"""A stand-in of RunPod's API, as far as a client sees it: states, refusals, answers that get lost.

How it answers was read off RunPod's documentation and its SDK, and off what issues tell of it.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.loopback import LoopbackServer, QuietHandler

KEY = "key-of-a-test"
IN_QUEUE = {"status": "IN_QUEUE"}
PROGRESS = {
    "stage": "render",
    "percent": 40.0,
    "message": "window 1 of 2, step 1 of 4",
    "window": 1,
    "windows": 2,
    "eta_seconds": None,
}
RUNNING = {"status": "IN_PROGRESS", "delayTime": 12, "output": PROGRESS}
VIDEO = b"a video"
SHA256 = "3dbe53a2de431feaea25139a6ea5eb705629d3fb419181298046d78d55acb055"

# What may befall a call: HTTP's status, without doing it; or it is done, and then
LOST = "lost"  # no answer comes
BEHIND_GATEWAY = "502 after all"
LOST_BEHIND_GATEWAY = "503 after all"
HALF = "half an answer"
PAGE = "a web page"
NO_ID = "no id"
Fault = int | str


class RunPod(LoopbackServer):
    """The API at `url`. `script` is what a job's polls say, one after another; the last one stays.

    `scripts` are those of the first jobs, where these differ. `faults` are what befalls the next
    calls of a verb, None where nothing does. `files` is a bucket without any keys, at `files_url`.
    `meanwhile` is called while a /run waits for its answer.
    """

    def __init__(self) -> None:
        outer = self

        class Handler(_Handler):
            api = outer

        super().__init__(Handler)
        self.url, self.files_url = f"{self.origin}/v2/abc", f"{self.origin}/files"
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Be as new: one server is enough for all tests."""
        self.script: Sequence[Mapping[str, Any]] = [IN_QUEUE, RUNNING, completed()]
        self.scripts: list[Sequence[Mapping[str, Any]]] = []
        self.faults: dict[str, list[Fault | None]] = defaultdict(list)
        self.meanwhile: Callable[[], object] = lambda: None
        self.bodies: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.keys: list[str | None] = []
        self.cancelled: list[str] = []
        self.started: Counter[str] = Counter()  # by request_id
        self.files: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self._jobs: dict[str, list[Mapping[str, Any]]] = {}

    def job(self, *script: Mapping[str, Any]) -> str:
        """A job that somebody else has started."""
        with self._lock:
            return self._new_job(list(script or self.script))

    def finish(self, job: str, state: Mapping[str, Any]) -> None:
        """The job ends in this state."""
        with self._lock:
            self._jobs[job] = [state]

    def expire(self, job: str) -> None:
        """Nobody knows the job any more."""
        with self._lock:
            del self._jobs[job]

    def _new_job(self, script: list[Mapping[str, Any]]) -> str:
        name = f"job-{len(self._jobs) + 1}"
        self._jobs[name] = script
        return name

    def fault(self, verb: str) -> Fault | None:
        """What befalls this call."""
        with self._lock:
            return self.faults[verb].pop(0) if self.faults[verb] else None

    def do(self, verb: str, name: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """What the call does, and is answered."""
        with self._lock:
            if verb == "run":
                self.bodies.append(body)
                self.started[str(body["input"].get("request_id"))] += 1
                script = self.scripts.pop(0) if self.scripts else self.script
                return 200, {"id": self._new_job(list(script)), "status": "IN_QUEUE"}
            if verb == "health":
                return 200, {"jobs": {"inQueue": 3}, "workers": {"idle": 1}}
            script_ = self._jobs.get(name)
            if script_ is None:
                return 404, {"error": "job not found"}
            if verb == "cancel":
                self.cancelled.append(name)
                self._jobs[name] = [{"status": "CANCELLED"}]
                return 200, {"id": name, "status": "CANCELLED"}
            state = script_.pop(0) if len(script_) > 1 else script_[0]
            return 200, {"id": name, **state}


def completed(**output: Any) -> dict[str, Any]:
    """The last state of a job that made something."""
    made = {"status": "completed", "video": "data:video/mp4;base64,YSB2aWRlbw==", "warnings": []}
    return {"status": "COMPLETED", "executionTime": 9000, "output": {**made, **output}}


def failed(error: str, **output: Any) -> dict[str, Any]:
    """The last state of a job that failed."""
    return {"status": "FAILED", "error": error, **({"output": output} if output else {})}


class _Handler(QuietHandler):
    api: RunPod

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.startswith("/files/"):
            self._file(content)
            return
        api, (verb, name) = self.api, [*self.path.split("/")[3:], ""][:2]
        api.asked.append(f"{self.command} {verb}")
        api.keys.append(self.headers["Authorization"])
        fault = api.fault(verb)
        if self.headers["Authorization"] != f"Bearer {KEY}":
            fault = 401
        if isinstance(fault, int):
            self._send(fault, b'{"error": "refused: %d"}' % fault)
            return
        status, answer = api.do(verb, name, json.loads(content or b"{}"))
        if verb == "run":
            api.meanwhile()
        body = json.dumps(answer).encode()
        match fault:
            case "lost":
                self.close_connection = True
                self.connection.close()
            case "502 after all" | "503 after all":
                self._send(int(str(fault)[:3]), b"<html>Bad gateway</html>")
            case "half an answer":
                self._send(status, body[:-5], length=len(body))
            case "a web page":
                self._send(200, b"<html>Maintenance</html>")
            case "no id":
                self._send(200, b"{}")
            case _:
                self._send(status, body)

    def _file(self, content: bytes) -> None:
        name, files = self.path.rpartition("/")[2].partition("?")[0], self.api.files
        self.api.asked.append(f"{self.command} files")
        fault = self.api.fault("files")
        if isinstance(fault, int):
            self._send(fault, b"")
        elif self.command == "PUT":
            files[name] = content
            self.api.types[name] = self.headers.get("Content-Type", "")
            self._send(200, b"")
        elif fault == HALF:
            self._send(200, files[name][:-1], length=len(files[name]))
        else:
            self._send(200 if name in files else 404, files.get(name, b""))

    def _send(self, status: int, body: bytes, *, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
