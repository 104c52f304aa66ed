"""One call of `talkinghead replay`: planned, told or done, into one folder, until Ctrl-C."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer
from filelock import FileLock, Timeout
from rich.console import Console

from talkinghead.media.sandbox import Sandboxes
from talkinghead.redact import redact_urls
from talkinghead.replay import report
from talkinghead.replay.display import Display
from talkinghead.replay.look import OutputLook
from talkinghead.replay.outputs import OutputFolder
from talkinghead.replay.places import Place, Stopped
from talkinghead.replay.report import Report
from talkinghead.replay.runs import Run, Wanted, plan_runs, with_own_names
from talkinghead.replay.sources import BadInput, Source
from talkinghead.replay.target import Target, schemas_of
from talkinghead.replay.work import Work
from talkinghead.settings import Settings
from talkinghead.stopping import stopping
from talkinghead.workflow.lint import lint_workflow
from talkinghead.workflow.schemas import Schemas, load_known_schemas

console = Console(stderr=True)


class Batch:
    """One call of the command.

    Args:
        out: the folder of outputs and report.
        retries: how often a failed run is tried again.
        wait_seconds: how long all servers may be away.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        wanted: Wanted,
        target: Target,
        out: Path,
        *,
        retries: int,
        wait_seconds: float,
    ) -> None:
        self._sources, self._wanted, self._target, self._out = sources, wanted, target, out
        self._retries, self._wait_seconds = retries, wait_seconds
        self._settings = Settings()
        self._stop = threading.Event()
        self._report_path = out / report.NAME

    def run(self) -> int:
        """Do what is not done yet; returns the exit code.

        Raises:
            BadInput: the folder cannot be used, a run has a mistake, or no server answers.
        """
        try:
            self._out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"--out {self._out}: {error.strerror}") from None
        # The signals before the places: a Ctrl-C while ComfyUI starts ends that, too.
        with (
            alone_in(self._out),
            stopping(self._stop) as caught,
            contextlib.ExitStack() as stack,
        ):
            places = self._places(stack)
            failed = 0
            with contextlib.suppress(Stopped):
                failed = self._run_on(places)
        if caught:
            return 128 + caught[0]
        return min(failed, 1)

    def _run_on(self, places: Sequence[Place]) -> int:
        """How many runs failed."""
        rest = self._not_done(self._plan(self._schemas(places)))
        failed = self._do(rest, places) if rest else 0
        if not self._stop.is_set():
            say(f"{_count(len(rest) - failed)} done, {failed} failed; {self._report_path}")
        return failed

    def tell_plan(self) -> int:
        """Print the plan and what is wrong with it; returns the exit code.

        Raises:
            BadInput: a run has a mistake, or none of the servers that were given answers.
        """
        with contextlib.ExitStack() as stack:
            # Of a ComfyUI of our own the recorded schemas do: a dry run starts none.
            places = self._places(stack) if self._target.servers else []
            schemas = self._schemas(places)
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
        where = f"on {self._target}, {self._target.in_flight} at a time"
        typer.echo(f"{_count(len(rest))} to do {where}, {errors} with errors")
        return min(errors, 1)

    def _places(self, stack: contextlib.ExitStack) -> Sequence[Place]:
        return self._target.open(stack, self._settings, self._stop, lost_seconds=self._wait_seconds)

    def _schemas(self, places: Sequence[Place]) -> Schemas:
        """Of all servers that answer; recorded ones where none is needed or can be asked."""
        needed = any(source.kind == "workflow" for source in self._sources)
        schemas = schemas_of(places) if needed else None
        return load_known_schemas() if schemas is None else schemas

    def _plan(self, schemas: Schemas) -> list[Run]:
        remote = self._target.endpoint is not None
        runs, problems = plan_runs(self._sources, self._wanted, schemas, remote=remote)
        for problem in problems:
            tell_failed(problem)
        if problems:
            raise BadInput("nothing was run, for what is told above")
        same = len(self._sources) * max(len(self._wanted.rows), 1) - len(runs)
        if same:
            say(f"{_count(same)} left out: others do the same")
        return with_own_names(runs, Report(self._report_path).names())

    def _not_done(self, runs: Sequence[Run]) -> list[Run]:
        done = Report(self._report_path).done()
        rest = [run for run in runs if run.key not in done]
        if len(rest) < len(runs):
            say(f"{_count(len(runs) - len(rest))} done before")
        return rest

    def _do(self, runs: Sequence[Run], places: Sequence[Place]) -> int:
        kept = Report(self._report_path)
        with Sandboxes() as sandboxes, Display(console, len(runs)) as display:
            work = Work(
                runs,
                places,
                outputs=OutputFolder(self._out, kept, OutputLook(sandboxes, self._stop)),
                report=kept,
                watcher=display,
                in_flight=self._target.in_flight,
                retries=self._retries,
                wait_seconds=self._wait_seconds,
                stop=self._stop,
            )
            work.do()
        return work.failed


@contextlib.contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Two replays into one folder would do everything twice.

    Raises:
        BadInput: another one is at work there.
    """
    lock = FileLock(out / ".replay.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BadInput(f"--out {out}: another replay is at work there") from None
    try:
        for left in out.glob(".part-*"):  # by one that was killed
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()


def _settings_of(run: Run) -> str:
    row = f", row {run.row}" if run.row else ""
    seed = "" if run.seed is None else f", seed {run.seed}"
    changes = "".join(f", {name}={value}" for name, value in run.changes.items())
    return redact_urls(row + seed + changes)


def say(text: str) -> None:
    """A line for the person at the terminal, as it is."""
    console.print(text, soft_wrap=True, markup=False, highlight=False)


def tell_failed(message: str) -> None:
    """A line that says why nothing comes of it."""
    console.print("[red]failed:[/]", end=" ")
    say(message)


def _count(number: int) -> str:
    return f"{number} run" + ("" if number == 1 else "s")
