"""RunPod's batches as documented in August 2026, on a server of our own: a stand-in."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.loopback import LoopbackServer, QuietHandler

MAX_BYTES = 10 * 1024 * 1024  # of one call
Answer = Mapping[str, Any]  # {"output": ...} or {"error": ...}


class Batches(LoopbackServer):
    """An endpoint that takes batches, and renders `per_look` requests between two looks at one.

    Its lists are in an order that nobody can foresee: of requests that wait, run and ended.

    Args:
        render: what a worker would answer to an input.
    """

    def __init__(self, render: Callable[[Any], Answer], per_look: int = 7) -> None:
        self.render, self.per_look = render, per_look
        self.batches: dict[str, dict[str, Any]] = {}
        self.busy = 0  # how often it answers 429
        self.deaf = 0  # how often its answer to what is added does not come
        self._lock = threading.Lock()
        self._random = random.Random(7)
        outer = self

        class Handler(QuietHandler):
            def do_POST(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(size) or b"null")
                with outer._lock:
                    answer = 413 if size > MAX_BYTES else outer._post(self.path, body)
                if outer.deaf and self.path.endswith("/requests"):
                    outer.deaf -= 1
                    self.close_connection = True
                    return
                self._answer(answer)

            def do_GET(self) -> None:
                with outer._lock:
                    self._answer(outer._get(self.path))

            def _answer(self, content: object) -> None:
                if isinstance(content, int):
                    self.send_error(content)
                    return
                body = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        super().__init__(Handler)
        self.url = f"{self.origin}/v2/abc"

    def _post(self, path: str, body: Any) -> object:  # noqa: ANN401 - JSON
        if self.busy:
            self.busy -= 1
            return 429
        parts = path.split("/")[3:]  # after /v2/ID
        if parts == ["batch"]:
            name = f"batch-{len(self.batches) + 1}"
            self.batches[name] = {"status": "DRAFT", "requests": []}
            self._add(name, body)
            return {"id": name, "status": "DRAFT"}
        batch = self.batches.get(parts[1]) if parts[:1] == ["batch"] and len(parts) == 3 else None
        if batch is None:
            return 404
        match parts[2]:
            case "requests" if batch["status"] == "DRAFT":
                self._add(parts[1], body["requests"])
            case "finalize" if batch["status"] == "DRAFT":
                batch["status"] = "FINALIZED"
            case "cancel":
                batch["status"] = "CANCELLED"
            case _:
                return 400
        return {"id": parts[1], "status": batch["status"]}

    def _add(self, name: str, requests: list[Any]) -> None:
        for request in requests:
            new = {"id": f"r{self._random.getrandbits(60):x}", "status": "IN_QUEUE"}
            self.batches[name]["requests"].append({**new, "input": request["input"]})

    def _get(self, path: str) -> object:
        url = urlsplit(path)
        parts = url.path.split("/")[3:]
        if parts == ["health"]:
            return {}
        batch = self.batches.get(parts[1]) if parts[:1] == ["batch"] else None
        if batch is None:
            return 404
        if parts[2:] == ["requests"]:
            return self._listed(batch, parse_qs(url.query))
        if batch["status"] == "FINALIZED":
            self._work(batch)
        states = [each["status"] for each in batch["requests"]]
        return {
            **{"id": parts[1], "status": batch["status"], "requestTotal": len(states)},
            "requestInProgress": 0,
            "requestCompleted": states.count("COMPLETED"),
            "requestFailed": states.count("FAILED"),
        }

    def _work(self, batch: dict[str, Any]) -> None:
        waiting = [each for each in batch["requests"] if each["status"] == "IN_QUEUE"]
        for request in self._random.sample(waiting, min(self.per_look, len(waiting))):
            answer = self.render(request["input"])
            request |= {"status": "FAILED" if "error" in answer else "COMPLETED", **answer}
            request |= {"startedAt": "2026-08-01T00:00:00Z", "completedAt": "2026-08-01T00:00:30Z"}

    def _listed(self, batch: dict[str, Any], query: dict[str, list[str]]) -> object:
        offset, limit = int(query["offset"][0]), int(query["limit"][0])
        ordered = sorted(
            batch["requests"], key=lambda each: (each["status"] != "FAILED", each["id"])
        )
        page = [{k: v for k, v in each.items() if k != "input"} for each in ordered]
        return {"requests": page[offset : offset + limit], "hasMore": offset + limit < len(page)}
