"""`talkinghead bench`: what this host's card can do, measured."""

from __future__ import annotations

import datetime
import logging
import re
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from talkinghead.bench.measure import Row
from talkinghead.bench.report import OtherBench, Report, notes, table
from talkinghead.bench.run import CannotBench, Run, Told
from talkinghead.bench.standard import Standard
from talkinghead.errors import JobError
from talkinghead.logs import start_logging
from talkinghead.models.choice import TUNABLE, Choice, save_choice
from talkinghead.plan.fields import MAX_SIDE
from talkinghead.settings import Settings

USUAL, TINY = "480x832", "64x64"
TINY_STEPS = 2
LEAST_SIDE = 32

console = Console(stderr=True)


def bench(
    *,
    size: Annotated[str | None, typer.Option(help=f"Of the video; {USUAL} if not given")] = None,
    windows: Annotated[int, typer.Option(min=1, max=20, help="Of 81 frames, 72 of them new")] = 1,
    speakers: Annotated[int, typer.Option(min=1, max=4)] = 1,
    tiny: Annotated[
        bool, typer.Option("--tiny", help="Try the bench itself: on the CPU, with the tiny models")
    ] = False,
    save: Annotated[
        bool, typer.Option("--save", help="Have workers on hosts like this take what was quickest")
    ] = False,
    json: Annotated[
        Path, typer.Option("--json", help="What was measured, and videos beside it")
    ] = Path("out/bench/bench.json"),
) -> None:
    """Measure this host's card in each configuration; called again, it goes on where it was.

    Exits with 0 if the plain configuration could be measured, with 1 if not, with 130 after Ctrl-C.
    """
    start_logging("plain", level=logging.CRITICAL)  # what fails is in the table's notes
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        settings = _settings(tiny=tiny)
        width, height = _size(size or (TINY if tiny else USUAL))
        standard = Standard(width, height, windows, speakers, TINY_STEPS if tiny else None)
        if save:
            save_choice(settings)  # whether it can be, is told before hours of measuring
        report = _measured(settings, standard, json)
        _tell_best(report)
        if save:
            _save(settings, report)
    except (CannotBench, OtherBench, JobError, OSError) as error:
        console.print(f"[red]failed:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        if isinstance(error, OSError):
            _tell_kept(json)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        _tell_kept(json)
        raise typer.Exit(130) from None
    raise typer.Exit(0 if report.plain else 1)


def _settings(*, tiny: bool) -> Settings:
    settings = Settings()
    if settings.comfyui_url:
        raise CannotBench(
            "a ComfyUI of its own is needed, for each configuration: unset COMFYUI_URL"
        )
    if not tiny:
        if settings.on_cpu:
            raise CannotBench(
                "there is no GPU here; `talkinghead bench --tiny` tries the bench alone"
            )
        return settings
    profile = "tiny" if settings.model_profile == "auto" else settings.model_profile
    return settings.model_copy(update={"comfyui_cpu": True, "model_profile": profile})


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    sides = [int(each) for each in found.groups()] if found else [0]
    if not all(LEAST_SIDE <= side <= MAX_SIDE and side % 2 == 0 for side in sides):
        limits = f"two even numbers from {LEAST_SIDE} to {MAX_SIDE}"
        raise typer.BadParameter(f"--size {text}: width and height as {USUAL}, {limits}")
    return sides[0], sides[1]


def _measured(settings: Settings, standard: Standard, path: Path) -> Report:
    with _bars() as bars:
        bar = bars.add_task("", step="", total=None)

        def begin(name: str, number: int, total: int) -> None:
            bars.update(bar, description=name, step="", completed=number, total=total)

        def tell(row: Row) -> None:
            known = row.window_seconds
            said = row.note or "" if known is None else f"{known:.2f} s a window"
            text = f"{escape(row.name)}: {escape(said)}"
            bars.console.print(text, highlight=False, soft_wrap=True)

        told = Told(begin, tell, lambda seen: bars.update(bar, step=seen.message))
        run = Run(settings, standard, path, told)
        _tell(f"{standard}; {run.report.machine}")
        return run.measure()


def _bars() -> Progress:
    return Progress(
        MofNCompleteColumn(),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}[dim] {task.fields[step]}[/]"),
        console=console,
    )


def _save(settings: Settings, report: Report) -> None:
    best = report.best
    if best is None or best.times_published is None:
        return
    chosen = {name: value for name, value in best.settings.items() if name in TUNABLE}
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    choice = Choice(report.machine, report.profile, chosen, day, best.times_published)
    saved = save_choice(settings, choice)
    _tell(f"The choice is in {saved}: workers on hosts like this take it when they start")


def _tell_best(report: Report) -> None:
    Console().print(table(report.rows))
    for note in notes(report.rows):
        console.print(f"[yellow]note:[/] {escape(note)}", highlight=False, soft_wrap=True)
    plain, best = report.plain, report.best
    if plain is not None and best is not None and plain.window_seconds and best.window_seconds:
        times = plain.window_seconds / best.window_seconds
        said = f"quickest: {best.name}, {times:.2f} times as quick as {plain.name}"
        _tell(said if best is not plain else "nothing is quicker than the plain configuration")
    _tell(f"All of it is in {report.path}, a video of each configuration beside it")


def _tell_kept(path: Path) -> None:
    if path.exists():
        _tell(f"what is measured is kept in {path}: the same command goes on from there")


def _tell(text: str) -> None:
    console.print(escape(text), highlight=False, soft_wrap=True)
