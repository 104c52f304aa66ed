"""Runs as one of RunPod's batches: workers of its own, hours of time, and no terminal that waits.

A batch is a DRAFT until it is finalized, and FINALIZED from then on; it is over when as many of its
requests are completed or failed as there are. What RunPod lists of them is in no known order, so
each is added alone, and the id that is new is its own. Which id is which run stands in a file in
the folder of outputs: a call that was ended goes on with the same batch.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from talkinghead.client.flow import BUSY
from talkinghead.net.fetch import Fetcher
from talkinghead.net.guard import UrlGuard
from talkinghead.replay.endpoint import bring
from talkinghead.replay.endpoint_api import NOT_FOUND, EndpointApi, NoUse, Unheard
from talkinghead.replay.outputs import OutputFolder
from talkinghead.replay.places import Away, Failed, Place, RunResult, Seen, Stopped
from talkinghead.replay.report import Report
from talkinghead.replay.runs import Run
from talkinghead.replay.schedule import State, Task
from talkinghead.replay.sources import BadInput
from talkinghead.replay.work import Watcher, attempt, entry_of

NAME = "batch.json"
PAGE = 100
POLL_SECONDS = 15.0
PAUSE_SECONDS = 2.0
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")


@dataclass
class Kept:
    """What the file in the folder says: the batch, and the key of the run by each request's id.

    `refused` are the keys of runs that never got into it.
    """

    endpoint: str
    batch: str
    finalized: bool = False
    keys: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write it, whole."""
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(json.dumps(vars(self)), encoding="utf-8")
        fresh.replace(path)


@dataclass(frozen=True)
class Into:
    """Where what was made goes: the outputs, the report, and who is told."""

    outputs: OutputFolder
    report: Report
    watcher: Watcher

    def end(self, run: Run, place: Place, stop: threading.Event) -> None:
        """Let the place, which has the result already, do the run, and report how it ended."""
        task = Task(run)
        ended = attempt(run, place, lambda fraction, message: None, self.outputs, stop)
        if isinstance(ended.fault, Stopped):
            raise ended.fault
        task.state = State.DONE if ended.fault is None else State.FAILED
        task.why, task.failures = str(ended.fault or ""), int(ended.fault is not None)
        entry = entry_of(task, ended)
        self.report.add(entry)
        self.watcher.ended(run, place.name, entry)


class EndpointBatch:
    """Does runs as batches of an endpoint, one after the other.

    Args:
        job_of: makes a job's input of a run.
        lost_seconds: how long the endpoint may be silent.
        download_seconds: how long one file of a result may take.
        stop: set from outside, ends the wait; the batch goes on without us.
    """

    def __init__(
        self,
        api: EndpointApi,
        *,
        job_of: Callable[[Run], dict[str, Any]],
        lost_seconds: float,
        download_seconds: float,
        stop: threading.Event,
    ) -> None:
        self._api, self._job_of, self._stop = api, job_of, stop
        self._lost_seconds = lost_seconds
        self._fetcher = Fetcher(seconds=download_seconds, guard=UrlGuard(blocked=()))

    def do(self, runs: Sequence[Run], into: Into) -> None:
        """Return when all runs ended; a batch that an earlier call left comes first.

        Raises:
            Stopped
            BadInput: the endpoint takes no batch, or does not answer.
        """
        path = into.outputs.path / NAME
        rest = {run.key: run for run in runs}
        while rest:
            kept = self._earlier(path) or self._new(list(rest.values()), path, into)
            for request in self._ended(kept):
                if (run := rest.pop(kept.keys[request["id"]], None)) is not None:
                    into.end(run, _Made(self._api.name, request, self._fetcher), self._stop)
            path.unlink(missing_ok=True)
            for key in {*kept.keys.values()} & rest.keys():
                failed = {"status": "FAILED", "error": "the batch ended without it"}
                into.end(rest.pop(key), _Made(self._api.name, failed, self._fetcher), self._stop)
            rest = {key: run for key, run in rest.items() if key not in kept.refused}

    def _earlier(self, path: Path) -> Kept | None:
        """The batch that an earlier call left; one that was not finalized is cancelled."""
        try:
            kept = Kept(**json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        if kept.endpoint != self._api.name:
            raise BadInput(f"{path}: a batch of {kept.endpoint} is not done: call that again first")
        if kept.finalized:
            return kept
        with contextlib.suppress(BadInput):
            self._ask("POST", f"batch/{kept.batch}/cancel")
        path.unlink()
        return None

    def _new(self, runs: Sequence[Run], path: Path, into: Into) -> Kept:
        """A batch of these runs, begun; those whose files cannot go along have failed."""
        kept = Kept(self._api.name, "")
        for run in runs:
            try:
                request = {"input": self._job_of(run)}
            except (Failed, BadInput) as error:
                kept.refused.append(run.key)
                failed = {"status": "FAILED", "error": str(error)}
                into.end(run, _Made(self._api.name, failed, self._fetcher), self._stop)
                continue
            if kept.batch:
                added = {"requests": [request]}
                heard = partial(self._new_id, kept)
                self._ask("POST", f"batch/{kept.batch}/requests", added, heard=heard)
            else:
                kept.batch = str(self._ask("POST", "batch", [request]).get("id"))
                kept.save(path)
            if (added_id := self._new_id(kept)) is None:
                what = f"{self._api.name} does not list what was added to batch {kept.batch}"
                raise BadInput(what)
            kept.keys[added_id] = run.key
        if kept.keys:
            self._ask("POST", f"batch/{kept.batch}/finalize")
            kept.finalized = True
            kept.save(path)
        return kept

    def _new_id(self, kept: Kept) -> str | None:
        """The id of the request that was added last: it is one more than are known."""
        last = self._page(kept, len(kept.keys), 1)
        for request in itertools.chain(last["requests"], self._all(kept)):
            if request["id"] not in kept.keys:
                return str(request["id"])
        return None

    def _ended(self, kept: Kept) -> Iterator[Mapping[str, Any]]:
        """The requests of the batch, each once, when it has ended."""
        told: set[str] = set()
        seen = -1
        while len(told) < len(kept.keys):
            state = self._ask("GET", f"batch/{kept.batch}")
            done = _count(state, "requestCompleted") + _count(state, "requestFailed")
            over = state.get("status") in ("FAILED", "CANCELLED") or done >= len(kept.keys)
            if done > seen or over:
                seen = done
                for request in self._all(kept):
                    ended = request.get("status") in ENDED
                    if ended and request["id"] in kept.keys and request["id"] not in told:
                        told.add(request["id"])
                        yield request
            if over:
                return
            if self._stop.wait(POLL_SECONDS):
                raise Stopped

    def _all(self, kept: Kept) -> Iterator[Mapping[str, Any]]:
        offset, more = 0, True
        while more:
            page = self._page(kept, offset, PAGE)
            yield from page["requests"]
            offset += len(page["requests"])
            more = bool(page.get("hasMore")) and bool(page["requests"])

    def _page(self, kept: Kept, offset: int, limit: int) -> Mapping[str, Any]:
        page = self._ask("GET", f"batch/{kept.batch}/requests?offset={offset}&limit={limit}")
        requests = page.get("requests")
        if not isinstance(requests, list):
            raise BadInput(f"{self._api.name} does not list the requests of batch {kept.batch}")
        good = [each for each in requests if isinstance(each, dict) and "id" in each]
        return {**page, "requests": good}

    def _ask(
        self,
        method: str,
        path: str,
        data: object = None,
        *,
        heard: Callable[[], object] = lambda: None,
    ) -> Mapping[str, Any]:
        """What the endpoint says; one that is away or busy is asked again.

        Args:
            heard: whether it did what was asked, though its answer did not come.

        Raises:
            BadInput: it refuses, or is away for too long.
            Stopped
        """
        deadline = time.monotonic() + self._lost_seconds
        while True:
            try:
                return self._api.ask(method, path, data)
            except (Away, NoUse) as error:
                if isinstance(error, Away) and not isinstance(error, Unheard) and heard():
                    return {}
                busy = not isinstance(error, NoUse) or error.status in BUSY
                if not busy or time.monotonic() > deadline:
                    why = f"{self._api.name}, {method} {path.partition('?')[0]}: {error}"
                    hint = "; is it an endpoint of RunPod?" if _is_unknown(error) else ""
                    raise BadInput(f"no batch: {why}{hint}") from None
            if self._stop.wait(PAUSE_SECONDS):
                raise Stopped


@dataclass
class _Made:
    """The place of a run whose request in a batch has ended."""

    name: str
    request: Mapping[str, Any]
    fetcher: Fetcher
    width: int = 1

    def connect(self) -> None:
        """It is there."""

    def run(self, run: Run, folder: Path, seen: Seen, stop: threading.Event) -> RunResult:
        """Bring what was made into the folder."""
        made = bring(self.request, folder, self.fetcher)
        return replace(made, paid_seconds=_seconds_of(self.request))


def _seconds_of(request: Mapping[str, Any]) -> float | None:
    """From its start to its end, as RunPod tells them."""
    try:
        start, end = (datetime.fromisoformat(request[at]) for at in ("startedAt", "completedAt"))
    except (KeyError, TypeError, ValueError):
        return None
    return (end - start).total_seconds()


def _count(state: Mapping[str, Any], name: str) -> int:
    value = state.get(name)
    return value if isinstance(value, int) else 0


def _is_unknown(error: Exception) -> bool:
    return isinstance(error, NoUse) and error.status == NOT_FOUND
