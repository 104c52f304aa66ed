"""`talkinghead replay`."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from filelock import FileLock, Timeout
from pydantic import ValidationError
from rich.console import Console

from talkinghead.errors import JobError
from talkinghead.logs import start_logging
from talkinghead.plan.request import MAX_SEED
from talkinghead.redact import redact_urls
from talkinghead.replay import report
from talkinghead.replay.changes import parse_assignments, read_rows
from talkinghead.replay.display import Display
from talkinghead.replay.places import Away, ComfyPlace, Failed, Place, Stopped
from talkinghead.replay.report import Report
from talkinghead.replay.runs import Run, Seed, Wanted, plan_runs, with_own_names
from talkinghead.replay.sources import BadInput, Source, find_files, read_source
from talkinghead.replay.work import Work
from talkinghead.settings import Settings
from talkinghead.workflow.lint import lint_workflow
from talkinghead.workflow.schemas import Schemas, load_schemas

ENDPOINTS = "https://api.runpod.ai/v2"
ENDPOINT_JOBS = 4  # in flight, if --jobs does not say

console = Console(stderr=True)


def replay(
    files: Annotated[
        list[str],
        typer.Argument(help="Workflows, replay bundles, requests; folders and patterns of them"),
    ],
    *,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="title.input=value of a workflow, field=value of a request"),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(help="A CSV or JSONL file: a run of each file per row; columns as in --set"),
    ] = None,
    seed: Annotated[str, typer.Option(help="A number, random or keep")] = "keep",
    server: Annotated[
        list[str] | None,
        typer.Option(help="A ComfyUI to run on, and another; without it, our own"),
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="A RunPod endpoint's id; RUNPOD_API_KEY is its key")
    ] = None,
    endpoint_url: Annotated[
        str | None, typer.Option(help="The URL of a worker with --rp_serve_api")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs in flight at most")] = None,
    retry: Annotated[int, typer.Option(min=0, help="Tries more for a run that fails")] = 0,
    wait: Annotated[
        float, typer.Option(min=0, help="How long all servers may be away, seconds")
    ] = 300.0,
    out: Annotated[Path, typer.Option(help="Where outputs and report go")] = Path("out/replay"),
    name: Annotated[
        str, typer.Option(help="Of the outputs; from {stem}, {seed}, {row} and {key}")
    ] = "{stem}-{key}",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check all, tell what would be run, run nothing")
    ] = False,
) -> None:
    """Run saved files in a batch, on one ComfyUI or many; run again, it goes on where it was.

    Exits with 0 if all runs succeeded, now or before; with 1 if not, with 130 after Ctrl-C.
    """
    start_logging("plain", level=logging.CRITICAL)
    if sum(map(bool, (server, endpoint, endpoint_url))) > 1:
        raise typer.BadParameter("give one of --server, --endpoint and --endpoint-url")
    try:
        sources = [read_source(path) for path in find_files(files)]
        wanted = Wanted(
            parse_assignments(changes or []),
            read_rows(rows) if rows else [],
            _parse_seed(seed),
            name,
        )
        target = Target(_servers(server or []), _endpoint(endpoint, endpoint_url))
        batch = Batch(sources, wanted, target, out, jobs=jobs, retries=retry, wait_seconds=wait)
        code = batch.tell_plan() if dry_run else batch.run()
    except (BadInput, JobError, ValidationError) as error:
        _tell_failed(str(error))
        raise typer.Exit(1) from None
    raise typer.Exit(code)


def _parse_seed(text: str) -> Seed:
    if text in ("random", "keep"):
        return text
    if text.isdecimal() and int(text) <= MAX_SEED:
        return int(text)
    raise BadInput(f"--seed {text}: a number from 0 to {MAX_SEED}, random or keep")


def _servers(urls: Sequence[str]) -> tuple[str, ...]:
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise BadInput(f"--server {url}: a URL such as http://127.0.0.1:8188")
    return tuple(dict.fromkeys(url.rstrip("/") for url in urls))


def _endpoint(name: str | None, url: str | None) -> str | None:
    if name is not None and not os.environ.get("RUNPOD_API_KEY"):
        raise BadInput("--endpoint needs the environment variable RUNPOD_API_KEY")
    return f"{ENDPOINTS}/{name}" if name is not None else url


def _tell_failed(message: str) -> None:
    console.print("[red]failed:[/]", end=" ")
    console.print(message, soft_wrap=True, markup=False, highlight=False)


@dataclass(frozen=True)
class Target:
    """Where runs go: to these servers, to this endpoint, or if there are none to our ComfyUI."""

    servers: tuple[str, ...]
    endpoint: str | None

    def __str__(self) -> str:
        return ", ".join(self.servers) or self.endpoint or "own ComfyUI"


class Batch:
    """One call of the command."""

    def __init__(
        self,
        sources: Sequence[Source],
        wanted: Wanted,
        target: Target,
        out: Path,
        *,
        jobs: int | None,
        retries: int,
        wait_seconds: float,
    ) -> None:
        self._sources, self._wanted, self._target, self._out = sources, wanted, target, out
        self._jobs, self._retries, self._wait_seconds = jobs, retries, wait_seconds
        self._settings = Settings()
        self._stop = threading.Event()
        self._signal: int | None = None

    def run(self) -> int:
        """Do what is not done yet; returns the exit code."""
        try:
            self._out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"--out {self._out}: {error.strerror}") from None
        with self._alone(), self._signals(), contextlib.ExitStack() as stack:
            places = self._places(stack)
            failed = 0
            with contextlib.suppress(Stopped):
                failed = self._run_on(places)
        if self._signal is not None:
            return 128 + self._signal
        return min(failed, 1)

    def _run_on(self, places: Sequence[Place]) -> int:
        """How many runs failed."""
        rest = self._not_done(self._plan(self._schemas(places)))
        failed = self._do(rest, places) if rest else 0
        if not self._stop.is_set():
            _say(f"{_count(len(rest) - failed)} done, {failed} failed; {self._report_path}")
        return failed

    def tell_plan(self) -> int:
        """Print the plan and what is wrong with it; returns the exit code."""
        with contextlib.ExitStack() as stack:
            places = self._places(stack) if self._target.servers else []
            schemas = self._schemas(places) if places else load_schemas()
            runs = self._plan(schemas)
        rest = {run.key for run in self._not_done(runs)}
        errors = 0
        for run in runs:
            state = "to do" if run.key in rest else "done before"
            typer.echo(f"{run.name}: {run.path}{_settings_of(run)}: {state}")
            findings = lint_workflow(run.content, schemas) if run.kind == "workflow" else []
            for finding in findings:
                typer.echo(f"    {finding}")
            errors += any(finding.severity == "error" for finding in findings)
        where = f"on {self._target}, {self._in_flight(places)} at a time"
        typer.echo(f"{_count(len(rest))} to do {where}, {errors} with errors")
        return min(errors, 1)

    def _in_flight(self, places: Sequence[Place]) -> int:
        width = self._endpoint_width if self._target.endpoint else max(len(places), 1)
        return min(width, self._jobs or width)

    @property
    def _endpoint_width(self) -> int:
        return self._jobs or ENDPOINT_JOBS

    @property
    def _report_path(self) -> Path:
        return self._out / report.NAME

    def _plan(self, schemas: Schemas) -> list[Run]:
        remote = self._target.endpoint is not None
        runs, problems = plan_runs(self._sources, self._wanted, schemas, remote=remote)
        for problem in problems:
            _tell_failed(problem)
        if problems:
            raise BadInput("nothing was run, for what is told above")
        same = len(self._sources) * max(len(self._wanted.rows), 1) - len(runs)
        if same:
            _say(f"{_count(same)} left out: others do the same")
        return with_own_names(runs, Report(self._report_path).names())

    def _not_done(self, runs: Sequence[Run]) -> list[Run]:
        done = Report(self._report_path).done()
        rest = [run for run in runs if run.key not in done]
        if len(rest) < len(runs):
            _say(f"{_count(len(runs) - len(rest))} done before")
        return rest

    def _do(self, runs: Sequence[Run], places: Sequence[Place]) -> int:
        with Display(console, len(runs)) as display:
            work = Work(
                runs,
                places,
                out=self._out,
                report=Report(self._report_path),
                watcher=display,
                in_flight=self._in_flight(places),
                retries=self._retries,
                wait_seconds=self._wait_seconds,
                stop=self._stop,
            )
            work.do()
        return work.failed

    # ---- Places

    def _places(self, stack: contextlib.ExitStack) -> Sequence[Place]:
        if self._target.endpoint is not None:
            return [self._endpoint_place(self._target.endpoint)]
        servers = self._target.servers
        given = [self._settings.model_copy(update={"comfyui_url": url}) for url in servers]
        every = given or [self._settings]
        return [stack.enter_context(ComfyPlace(settings, self._stop)) for settings in every]

    def _endpoint_place(self, url: str) -> Place:
        from talkinghead.replay.endpoint import EndpointPlace  # noqa: PLC0415 - a slow import

        return EndpointPlace(
            url,
            os.environ.get("RUNPOD_API_KEY") or "none",
            width=self._endpoint_width,
            job_seconds=self._settings.job_timeout_seconds,
            lost_seconds=self._wait_seconds,
            download_seconds=self._settings.download_seconds,
        )

    def _schemas(self, places: Sequence[Place]) -> Schemas:
        """Of all servers that answer; recorded ones where none is needed or can be asked.

        Raises:
            BadInput: no server answers.
        """
        comfys = [place for place in places if isinstance(place, ComfyPlace)]
        if not comfys or all(source.kind == "request" for source in self._sources):
            return load_schemas()
        schemas: Schemas = {}
        faults = []
        for place in reversed(comfys):
            try:
                place.connect()
                schemas = {**schemas, **place.schemas}
            except (Away, Failed) as error:
                faults.append(str(error))
        if len(faults) == len(comfys):
            raise BadInput(f"no server answers: {'; '.join(faults)}")
        return schemas

    # ---- Signals, and being alone

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Two replays into one folder would do everything twice."""
        lock = FileLock(self._out / ".replay.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise BadInput(f"--out {self._out}: another replay is at work there") from None
        try:
            for left in self._out.glob(".part-*"):  # by one that was killed
                shutil.rmtree(left, ignore_errors=True)
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """The first Ctrl-C ends what runs, a second one ends us."""

        def end(number: int, frame: FrameType | None) -> None:
            if self._stop.is_set():
                sys.exit(128 + number)
            self._signal = number
            self._stop.set()
            _say("stopping what is under way; once more to leave it")

        before = {s: signal.signal(s, end) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _settings_of(run: Run) -> str:
    row = f", row {run.row}" if run.row else ""
    seed = "" if run.seed is None else f", seed {run.seed}"
    changes = "".join(f", {name}={value}" for name, value in run.changes.items())
    return redact_urls(row + seed + changes)


def _say(text: str) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)


def _count(number: int) -> str:
    return f"{number} run" + ("" if number == 1 else "s")
