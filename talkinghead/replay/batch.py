"""One call of `talkinghead replay`: planned, told or done, into one folder, until Ctrl-C."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from filelock import FileLock, Timeout
from rich.console import Console

from talkinghead.media.sandbox import Sandboxes
from talkinghead.redact import redact_urls
from talkinghead.replay import page, report
from talkinghead.replay.comfy_place import ComfyPlace
from talkinghead.replay.display import Display
from talkinghead.replay.endpoint_batch import Into
from talkinghead.replay.look import OutputLook
from talkinghead.replay.outputs import OutputFolder
from talkinghead.replay.page import PageWriter, write_page
from talkinghead.replay.places import Place, Stopped
from talkinghead.replay.report import Report
from talkinghead.replay.runs import Planned, Run, Wanted, by_cause, plan_runs, with_own_names
from talkinghead.replay.sources import BadInput, Problem, Source, make_writable
from talkinghead.replay.summary import Tally, failures_by_cause
from talkinghead.replay.target import Target, schemas_of
from talkinghead.replay.work import Work
from talkinghead.settings import Settings
from talkinghead.stopping import stopping
from talkinghead.workflow.lint import lint_workflow
from talkinghead.workflow.schemas import Schemas, load_known_schemas

console = Console(stderr=True)


@dataclass(frozen=True)
class How:
    """How a batch goes on.

    Attributes:
        retries: how often a failed run is tried again.
        wait_seconds: how long all servers may be away.
        strict: a file that cannot be run ends it before anything is run.
        price_per_hour: of what renders, if that is known.
        command: what was typed, to be told at the end.
    """

    retries: int = 0
    wait_seconds: float = 300.0
    strict: bool = False
    price_per_hour: float | None = None
    command: str = "talkinghead replay"


class Batch:
    """One call of the command.

    Args:
        sources: the files, and those that could not be read.
        out: the folder of outputs and report.
    """

    def __init__(
        self,
        sources: tuple[Sequence[Source], Sequence[Problem]],
        wanted: Wanted,
        target: Target,
        out: Path,
        how: How,
    ) -> None:
        self._sources, self._unread = sources
        self._wanted, self._target, self._out, self._how = wanted, target, out, how
        self._settings = Settings()
        self._stop = threading.Event()
        self._report_path = out / report.NAME

    def run(self) -> int:
        """Do what is not done yet; returns the exit code.

        Raises:
            BadInput: the folder cannot be used, no server answers, or `strict` and a file cannot
                be run.
        """
        try:
            make_writable(self._out)
        except OSError as error:
            raise BadInput(f"--out {self._out}: {error.strerror}") from None
        # The signals before the places: a Ctrl-C while ComfyUI starts ends that, too.
        with (
            alone_in(self._out),
            stopping(self._stop) as caught,
            contextlib.ExitStack() as stack,
        ):
            failed = 0
            with contextlib.suppress(Stopped):
                failed = self._run_on(self._places(stack))
        if caught:
            return 128 + caught[0]
        return min(failed, 1)

    def _run_on(self, places: Sequence[Place]) -> int:
        """How many runs failed, or could not be begun."""
        kept = Report(self._report_path)
        planned = self._plan(self._schemas(places))
        for problem in planned.problems:
            kept.add_once(report.not_run(problem))
        names = {run.key: run.name for run in planned.runs}
        for same in planned.same:
            kept.add_once(report.left_out(same, names[same.key]))
        rest = self._not_done(planned.runs)
        tally = Tally(len(rest), self._how.price_per_hour)
        if rest:
            self._do(rest, places, tally)
        self._tell_end(planned, tally)
        return tally.counts["failed"] + len(planned.problems)

    def tell_plan(self) -> int:
        """Print the plan and what is wrong with it; returns the exit code.

        Raises:
            BadInput: none of the servers that were given answers, or as `run`.
        """
        with contextlib.ExitStack() as stack:
            # Of a ComfyUI of our own the recorded schemas do: a dry run starts none.
            places = self._places(stack) if self._target.servers else []
            schemas = self._schemas(places)
            planned = self._plan(schemas)
        rest = {run.key for run in self._not_done(planned.runs)}
        errors = len(planned.problems)
        for run in planned.runs:
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
        lost_seconds = self._how.wait_seconds
        places = self._target.open(stack, self._settings, self._stop, lost_seconds=lost_seconds)
        for place in places:
            if isinstance(place, ComfyPlace) and place.joined:
                say(f"with the ComfyUI that runs at {place.joined}")
            elif isinstance(place, ComfyPlace) and place.is_own:
                say("starting ComfyUI; 30 s is usual")
        return places

    def _schemas(self, places: Sequence[Place]) -> Schemas:
        """Of all servers that answer; recorded ones where none is needed or can be asked."""
        needed = any(source.kind == "workflow" for source in self._sources)
        schemas = schemas_of(places) if needed else None
        return load_known_schemas() if schemas is None else schemas

    def _plan(self, schemas: Schemas) -> Planned:
        """The runs, under their names; what cannot be run is told, all of it before anything is."""
        remote = self._target.endpoint is not None
        planned = plan_runs(self._sources, self._wanted, schemas, remote=remote)
        problems = [*self._unread, *planned.problems]
        for line in by_cause(problems):
            tell_failed(line)
        if problems and self._how.strict:
            raise BadInput("nothing was run, for what is told above")
        if problems:
            say(f"{_count(len(problems))} cannot be done as asked, and the rest goes on")
        runs = with_own_names(planned.runs, Report(self._report_path).names())
        if planned.same:
            say(f"{_count(len(planned.same))} left out: others do the same, see {report.NAME}")
        return Planned(runs, planned.same, problems)

    def _not_done(self, runs: Sequence[Run]) -> list[Run]:
        done = Report(self._report_path).done()
        rest = [run for run in runs if run.key not in done]
        if len(rest) < len(runs):
            say(f"{_count(len(runs) - len(rest))} done before")
        return rest

    def _do(self, runs: Sequence[Run], places: Sequence[Place], tally: Tally) -> None:
        kept = Report(self._report_path)
        with (
            Sandboxes() as sandboxes,
            PageWriter(self._report_path, len(runs)) as pages,
            Display(console, len(runs), tally, pages.ended) as display,
        ):
            outputs = OutputFolder(self._out, kept, OutputLook(sandboxes, self._stop))
            if self._target.as_batch:
                self._do_batch(runs, Into(outputs, kept, display))
                return
            work = Work(
                runs,
                places,
                outputs=outputs,
                report=kept,
                watcher=display,
                in_flight=self._target.in_flight,
                retries=self._how.retries,
                wait_seconds=self._how.wait_seconds,
                stop=self._stop,
            )
            work.do()

    def _do_batch(self, runs: Sequence[Run], into: Into) -> None:
        lost_seconds = self._how.wait_seconds
        batch = self._target.batch(self._settings, self._stop, lost_seconds=lost_seconds)
        say("As a batch: it goes on when this command is ended, which then fetches the rest")
        batch.do(runs, into)

    def _tell_end(self, planned: Planned, tally: Tally) -> None:
        """Counts, failures by cause, and the next command."""
        first, *causes = tally.lines(len(planned.problems))
        say(first)
        bad = [report.not_run(problem) for problem in planned.problems]
        for line in [*causes, *failures_by_cause(bad)]:
            say(line)
        write_page(self._report_path, self._out / page.NAME)
        say(f"Look at them: {self._out / page.NAME}; the report is {self._report_path}")
        if causes or bad or tally.counts["cancelled"]:
            say(f"What is done stays done. The rest again: {self._how.command}")


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
