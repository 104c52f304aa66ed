"""Runs shared by places: whoever is free takes the next; what a dead place had goes back."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Protocol

from talkinghead.redact import redact_urls
from talkinghead.render.bundle import without_secrets
from talkinghead.replay.places import Away, Failed, Made, Place, Refused, Seen, Stopped
from talkinghead.replay.report import Report
from talkinghead.replay.runs import Run
from talkinghead.replay.sources import BadInput

Status = Literal["done", "failed", "cancelled"]

TICK_SECONDS = 0.2
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0  # between two looks for a place that is away
MAX_DEATHS = 3  # a run that was under way so often when its place died may be why it died


class Watcher(Protocol):
    """Who is told of the runs; called from any thread."""

    def started(self, run: Run, place: str) -> Seen:
        """Returns what is to be told how far the run is."""

    def ended(self, run: Run, place: str, entry: Mapping[str, Any]) -> None: ...

    def back_in_queue(self, run: Run, place: str, why: str) -> None: ...


@dataclass
class _Task:
    run: Run
    tries: int = 0  # that ended, in a failure or a death
    deaths: int = 0
    refusals: dict[str, str] = field(default_factory=dict)  # by the place's name


class Work:
    """Does all runs, each once.

    Args:
        in_flight: the most runs at a time.
        retries: how often a failed run is tried again.
        wait_seconds: how long all places that could do a run may be away before it fails.
        stop: set from outside, ends what is under way and starts nothing more.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        places: Sequence[Place],
        *,
        out: Path,
        report: Report,
        watcher: Watcher,
        in_flight: int,
        retries: int,
        wait_seconds: float,
        stop: threading.Event,
    ) -> None:
        self._waiting = deque(_Task(run) for run in runs)
        self._places, self._out, self._report, self._watcher = places, out, report, watcher
        self._in_flight, self._retries, self._wait_seconds = in_flight, retries, wait_seconds
        self._stop = stop
        self._lock = threading.Lock()
        self._under_way = 0
        now = time.monotonic()
        self._away = {place.name: (now, "it was never reached") for place in places}
        self.failed = 0

    def do(self) -> None:
        """Return when all runs ended, or were stopped."""
        with ThreadPoolExecutor(sum(place.width for place in self._places)) as pool:
            threads = [
                pool.submit(self._serve, place)
                for place in self._places
                for _ in range(place.width)
            ]
            try:
                while not self._is_over():
                    for ended in wait(threads, TICK_SECONDS, FIRST_EXCEPTION).done:
                        ended.result()
                    self._give_up()
            except BaseException:
                self._stop.set()
                raise

    def _is_over(self) -> bool:
        with self._lock:
            return not self._under_way and (self._stop.is_set() or not self._waiting)

    # ---- A place's thread

    def _serve(self, place: Place) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._is_over():
            if not self._reach(place):
                self._stop.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            elif task := self._take(place):
                pause = FIRST_PAUSE_SECONDS
                self._do(task, place)
            else:
                time.sleep(TICK_SECONDS / 4)

    def _reach(self, place: Place) -> bool:
        if place.name not in self._away:
            return True
        try:
            place.connect()
        except (Away, Failed) as error:
            self._lose(place, str(error))
            return False
        except Stopped:
            return False
        with self._lock:
            self._away.pop(place.name, None)
        return True

    def _lose(self, place: Place, why: str) -> None:
        with self._lock:
            since, _ = self._away.get(place.name, (time.monotonic(), ""))
            self._away[place.name] = (since, why)

    def _take(self, place: Place) -> _Task | None:
        with self._lock:
            if self._stop.is_set() or self._under_way >= self._in_flight:
                return None
            for task in self._waiting:
                if place.name not in task.refusals:
                    self._waiting.remove(task)
                    self._under_way += 1
                    return task
        return None

    def _do(self, task: _Task, place: Place) -> None:
        try:
            self._try(task, place)
        finally:
            with self._lock:
                self._under_way -= 1

    def _try(self, task: _Task, place: Place) -> None:
        clock = _Clock()
        seen = self._watcher.started(task.run, place.name)
        try:
            with TemporaryDirectory(prefix=".part-", dir=self._out) as name:
                made = place.run(task.run, Path(name), seen, self._stop)
                files = publish(Path(name), self._out, task.run.name)
        except Away as error:
            self._lose(place, str(error))
            task.tries, task.deaths = task.tries + 1, task.deaths + 1
            if task.deaths < MAX_DEATHS:
                self._return(task, place, str(error), first=True)
                return
            what = f"its server died, or went away, {task.deaths} times: {error}"
            self._end(task, "failed", place.name, clock, error=what)
        except Refused as error:
            task.refusals[place.name] = str(error)
            self._return(task, place, f"refused: {error}", first=True)
        except Failed as error:
            task.tries += 1
            if error.again and task.tries - task.deaths <= self._retries:
                self._return(task, place, str(error), first=False)
                return
            self._end(task, "failed", place.name, clock, error=str(error))
        except (OSError, BadInput) as error:  # of this machine's disk
            self._end(task, "failed", place.name, clock, error=str(error))
        except Stopped:
            self._end(task, "cancelled", place.name, clock, error="the replay was stopped")
        else:
            task.tries += 1
            self._end(task, "done", place.name, clock, made=made, files=files)

    def _return(self, task: _Task, place: Place, why: str, *, first: bool) -> None:
        self._watcher.back_in_queue(task.run, place.name, redact_urls(why))
        with self._lock:
            (self._waiting.appendleft if first else self._waiting.append)(task)

    # ---- The main thread

    def _give_up(self) -> None:
        """End the runs that no place will do."""
        with self._lock:
            hopeless = [(t, why) for t in self._waiting if (why := self._why_not(t)) is not None]
            for task, _ in hopeless:
                self._waiting.remove(task)
        for task, why in hopeless:
            self._end(task, "failed", "", _Clock(), error=why)

    def _why_not(self, task: _Task) -> str | None:
        able = [place.name for place in self._places if place.name not in task.refusals]
        now = time.monotonic()
        for name in able:
            since, _ = self._away.get(name, (now, ""))
            if now - since <= self._wait_seconds:
                return None
        gone = [f"{name}: {self._away[name][1]}" for name in able]
        reasons = [*dict.fromkeys(task.refusals.values()), *gone]
        waited = f"no server answered for {self._wait_seconds:g} s: " if gone else ""
        return waited + "; ".join(reasons)

    def _end(
        self,
        task: _Task,
        status: Status,
        place: str,
        clock: _Clock,
        *,
        error: str | None = None,
        made: Made | None = None,
        files: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        run, made = task.run, made or Made()
        entry = {
            "key": run.key,
            "status": status,
            "name": run.name,
            "file": str(run.path),
            "kind": run.kind,
            "row": run.row,
            "set": without_secrets(run.changes),
            "seed": run.seed if run.seed is not None else made.seed,
            "server": place,
            "tries": task.tries,
            "started": clock.started.isoformat(timespec="seconds"),
            "seconds": clock.seconds,
            "timings": dict(made.timings),
            "files": list(files),
            "error": None if error is None else redact_urls(error),
        }
        with self._lock:
            self._report.add(entry)
            self.failed += status == "failed"
        self._watcher.ended(run, place, entry)


class _Clock:
    """When a try began."""

    def __init__(self) -> None:
        self.started = datetime.now(UTC)
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._start, 2)


def publish(folder: Path, out: Path, name: str) -> list[dict[str, Any]]:
    """Move a run's outputs to their place; returns path, hash and size of each.

    Where each has a suffix of its own they are `name` + suffix, else `name`-their own name.
    """
    made = sorted(folder.iterdir())
    short = len({path.suffix for path in made}) == len(made)
    files = []
    for path in made:
        target = out / (f"{name}{path.suffix}" if short else f"{name}-{path.name}")
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        path.replace(target)
        size = target.stat().st_size
        files.append({"path": target.name, "sha256": sha256, "bytes": size})
    return files
