"""The command line: `talkinghead run`, `estimate`, `replay`, `doctor` and others: see `--help`."""

from __future__ import annotations

import json
import logging
import math
import signal
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from talkinghead.bench.command import bench
from talkinghead.cli import checkpoints, gui, models
from talkinghead.cli.endpoint import render_there
from talkinghead.cli.lint import lint
from talkinghead.cli.look import look
from talkinghead.cli.serve import serve
from talkinghead.client import TalkingheadError
from talkinghead.comfy.studio import Studio
from talkinghead.delivery.file import FilePlace, bundle_path
from talkinghead.delivery.place import as_json
from talkinghead.doctor import Check, examine
from talkinghead.errors import JobError
from talkinghead.files import read_json
from talkinghead.logs import start_logging
from talkinghead.models.gpu import read_host
from talkinghead.plan.estimate import Estimate, estimate
from talkinghead.plan.pace import CARDS, Pace, card_named, duration_text
from talkinghead.plan.plan import Plan
from talkinghead.plan.request import RenderRequest, parse_request
from talkinghead.render import progress
from talkinghead.render.dry_run import plan_of
from talkinghead.render.job import Job
from talkinghead.render.run import run_job
from talkinghead.replay.command import replay
from talkinghead.replay.sources import BadInput, as_urls, check_target, files_of
from talkinghead.settings import Settings, wrong_settings

app = typer.Typer(add_completion=False, no_args_is_help=True)
app.add_typer(models.app, name="models")
app.add_typer(checkpoints.app, name="checkpoints")
app.command()(replay)
app.command()(bench)
app.command()(lint)
app.command()(look)
app.command()(serve)
console = Console(stderr=True)


@app.callback()
def _talkinghead() -> None:
    """Talking-head videos from a picture and a voice."""


@app.command()
def run(
    request: Annotated[Path, typer.Argument(help="A request as JSON; its URLs may be local files")],
    out: Annotated[Path, typer.Option(help="Where the video goes")] = Path("out/video.mp4"),
    draft: Annotated[
        bool, typer.Option(help="A quick preview on the CPU, without the model")
    ] = False,
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="Render there: a RunPod endpoint's id, or the URL of `talkinghead serve`"
        ),
    ] = None,
) -> None:
    """Render one request, as the worker would, and write the video to a file."""
    start_logging("plain", level=logging.ERROR)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        fields = _read_request(request)
        if fields.get("dry_run"):
            raise typer.BadParameter(f"{request}: dry_run is for jobs; see `talkinghead estimate`")
        for target in (out, bundle_path(out)):
            check_target(target, [request, *files_of(fields)])
        fields |= {"draft": True} if draft else {}
        if endpoint is not None:
            result = _render_there(fields, endpoint, out)
        else:
            result = _render(fields, Settings(), out)
    except (BadInput, JobError, TalkingheadError, OSError, ValidationError) as error:
        result = {"error": str(error)}
    if "error" in result:
        console.print(f"[red]failed:[/] {result['error']}", highlight=False)
        raise typer.Exit(1)
    _tell(result, out)


def _read_request(path: Path) -> dict[str, Any]:
    """The request's fields, with its local files as file:// URLs."""
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{path} is not a JSON file: {error}") from None
    fields = content.get("input", content) if isinstance(content, dict) else content
    if not isinstance(fields, dict):
        raise typer.BadParameter(f"{path} holds no request: a JSON object is needed")
    if "workflow" in fields:
        raise typer.BadParameter(f"{path} brings a workflow: `talkinghead replay` runs those")
    return {name: as_urls(name, value, path.parent) for name, value in fields.items()}


def _bars() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
    )


def _render_there(fields: dict[str, Any], endpoint: str, out: Path) -> dict[str, Any]:
    with _bars() as bars:
        bar = bars.add_task("sending", total=100, left="")

        def told(percent: float, message: str, eta_seconds: float | None) -> None:
            bars.update(bar, description=message, completed=percent, left=_time_left(eta_seconds))

        return render_there(fields, endpoint, out, told)


def _render(fields: dict[str, Any], settings: Settings, out: Path) -> dict[str, Any]:
    bars = _bars()
    with bars, Studio(settings, store=FilePlace(out), local_files=True) as studio:
        bar = bars.add_task("starting", total=100, left="")

        def report(seen: progress.Progress) -> None:
            left = _time_left(seen.eta_seconds)
            bars.update(bar, description=seen.message, completed=seen.percent, left=left)

        return run_job(Job(id="local", input=fields, report=report), studio)


def _time_left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"about {round(seconds) // 60}:{round(seconds) % 60:02} left"


def _tell(result: dict[str, Any], out: Path) -> None:
    _tell_notes(result["warnings"])
    info = result["video_info"]
    console.print(
        f"{info['width']}x{info['height']}, {info['frames']} frames, "
        f"{info['duration_seconds']:.2f} s, seed {result['generation_params']['seed']}, "
        f"rendered in {result['generation_time_seconds']} s",
        highlight=False,
    )
    console.print(f"The video is in {out}", highlight=False)


def _tell_notes(notes: Iterable[str]) -> None:
    for note in notes:
        console.print(f"[yellow]note:[/] {escape(note)}", highlight=False, soft_wrap=True)


@app.command("estimate")
def tell_estimate(
    request: Annotated[Path, typer.Argument(help="A request as JSON; its URLs may be local files")],
    price_per_hour: Annotated[
        float | None, typer.Option(min=0, help="What an hour of the GPU costs")
    ] = None,
    card: Annotated[
        str | None, typer.Option(help="Another GPU than this host's, as `RTX 4090`")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As a job's dry_run answers")] = False,
) -> None:
    """What a render will take: windows, time, price, memory, disk. ComfyUI is not needed."""
    start_logging("plain", level=logging.ERROR)
    if card is not None and card_named(card) is None:
        known = ", ".join(each.name for each in CARDS)
        raise typer.BadParameter(f"--card {card}: there are figures for {known}")
    try:
        asked = parse_request(_read_request(request), local_files=True)
        plan, found = _estimate(asked, Settings(), card, price_per_hour or asked.price_per_hour)
    except (JobError, ValidationError) as error:
        console.print(f"[red]failed:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    if as_json:
        told = {"speakers_found": plan.speakers_found, "warnings": plan.warnings}
        typer.echo(json.dumps(found.payload() | told, indent=1))
        return
    _tell_notes(plan.warnings)
    Console().print(_estimate_table(found))
    for person in plan.speakers_found:
        found_text = f"[dim]found:[/] {escape(json.dumps(person))}"
        console.print(found_text, highlight=False, soft_wrap=True)


def _estimate(
    asked: RenderRequest, settings: Settings, card: str | None, price_per_hour: float | None
) -> tuple[Plan, Estimate]:
    """The render as it would be planned, with what its result would warn of, and what it takes."""
    host = read_host(settings)
    with tempfile.TemporaryDirectory(prefix="talkinghead-") as name:
        # Not entered: its ComfyUI never starts, and leaves nothing outside of this folder.
        own = settings.model_copy(update={"work_dir": Path(name)})
        studio = Studio(own, local_files=True)
        with studio.sandboxes:
            plan = plan_of(asked, studio)
    found = estimate(
        plan,
        gpu_name=card or (host.gpu.name if host.gpu else None),
        ram_gib=math.inf if card else host.ram_gib,
        pace=Pace() if card else studio.pace,
        price_per_hour=price_per_hour or settings.price_per_hour,
        timeout_seconds=settings.job_timeout_seconds,
    )
    return plan, found


def _estimate_table(found: Estimate) -> Table:
    """For people; what is not known is left out."""
    ways = {
        "prompt": "in one prompt",
        "chain": "as a chain of windows",
        "frames": "in one prompt, frames on disk",
        "draft": "as a draft, without the model",
    }
    table = Table(box=None, show_header=False)
    table.add_row("it runs", ways[found.way])
    if found.windows:
        table.add_row("windows", f"{found.windows}, of {found.frames} frames in all")
    video = f"{found.width}x{found.height}, {found.duration_seconds:.2f} s"
    table.add_row("video", f"{video}, {found.delivered_frames} frames")
    if found.seconds is not None:
        takes = f"{duration_text(found.seconds)} ({found.seconds_source})"
        table.add_row("time", takes if found.fits_timeout else f"{takes}: {_over(found)}")
    if found.price is not None:
        table.add_row("price", f"{found.price:.2f} at {found.price_per_hour:g} an hour")
    table.add_row("memory", f"{found.ram_gb:.2f} GB beside the models")
    table.add_row("disk", f"{found.disk_gb:.2f} GB")
    table.add_row("settings", _settings_text(found.params))
    for name, seconds in found.seconds_by_card.items():
        table.add_row(f"on {name}", duration_text(seconds))
    return table


def _settings_text(params: Mapping[str, Any]) -> str:
    """What the render will use, prompts apart; nothing that is not set."""
    told = {name: each for name, each in params.items() if not name.endswith("_prompt")}
    return ", ".join(f"{name} {each}" for name, each in told.items() if each is not None)


def _over(found: Estimate) -> str:
    return f"[yellow]longer than JOB_TIMEOUT_SECONDS, {found.timeout_seconds:g} s[/]"


@app.command("open")
def open_bundle(
    bundle: Annotated[Path, typer.Argument(help="A replay bundle: `bundle` in the request")],
    out: Annotated[Path | None, typer.Option(help="Write the GUI's file here")] = None,
    server: Annotated[
        str | None,
        typer.Option(envvar="COMFYUI_URL", help="A ComfyUI: its GUI gets the workflow in its list"),
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PATH: upload PATH as the file that the workflow calls NAME"),
    ] = None,
) -> None:
    """Bring the workflow that made a video into ComfyUI's GUI."""
    if out is None and server is None:
        raise typer.BadParameter("say where to: --out FILE, or --server URL (or COMFYUI_URL)")
    try:
        found = gui.read_workflow(bundle)
        if found.windows > 1:
            _tell_first(found.windows, bundle)
        if out is not None:
            check_target(out, [bundle])
            out.write_bytes(as_json(found.workflow))
            console.print(
                f"The workflow is in {out}: drop it on ComfyUI's GUI",
                highlight=False,
                soft_wrap=True,
            )
        if server is not None:
            files = dict(_name_and_path(each) for each in file or ())
            opened = gui.GuiServer(server).open(found.workflow, found.name, files)
            _tell_opened(server, *opened)
    except (BadInput, gui.OpenError) as error:
        raise typer.BadParameter(str(error)) from None


def _name_and_path(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise typer.BadParameter(f"--file {text} is not NAME=PATH")
    return name, Path(path)


def _tell_first(windows: int, bundle: Path) -> None:
    console.print(
        f"[yellow]note:[/] the video was made in {windows} windows, and this is the first: its own "
        f"note says how to make the next, `talkinghead replay {escape(str(bundle))}` makes all",
        highlight=False,
        soft_wrap=True,
    )


def _tell_opened(server: str, name: str, lacking: list[gui.FileInput]) -> None:
    console.print(
        f"Open {server}, press w (Workflows) and choose {name}", highlight=False, soft_wrap=True
    )
    for each in lacking:
        console.print(
            f"[yellow]missing there:[/] {escape(each.title)} loads {escape(each.short)}: choose a "
            f"file in that node, or open with --file {escape(each.short)}=PATH",
            highlight=False,
            soft_wrap=True,
        )


@app.command("gui")
def start_gui(
    port: Annotated[int, typer.Option(help="Of ComfyUI, on 127.0.0.1")] = 8188,
) -> None:
    """Start the local ComfyUI with our workflows in its GUI; Ctrl-C ends it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    def tell(url: str) -> None:
        where = f"{url}, press w (Workflows) and choose {gui.LISTED}/draft_i2v; then Run"
        console.print(f"\n[bold]Open {where}[/]\n", highlight=False, soft_wrap=True)

    try:
        settings = Settings()
        for path in gui.prepare_folders(settings.comfyui_dir):
            console.print(
                f"kept as it was saved: {path}; without it, a fresh copy comes", soft_wrap=True
            )
        raise typer.Exit(gui.serve(settings, port, tell))
    except (JobError, ValidationError) as error:
        console.print(f"[red]failed:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


@app.command()
def doctor() -> None:
    """Whether this host can render, and what to do if not. Exits with 1 if a check fails."""
    start_logging("plain", level=logging.ERROR)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        # It looks, and does not fetch tens of GB first, as a worker would.
        settings = Settings().model_copy(update={"fetch_models": False})
        with console.status("looking"), Studio(settings) as studio:
            checks = list(examine(studio))
    except ValidationError as error:
        checks = [Check("settings", "failed", wrong_settings(error))]
    except JobError as error:
        checks = [Check("settings", "failed", str(error))]
    table = Table(box=None)
    for column in ("check", "", "found, or what to do"):
        table.add_column(column, overflow="fold")
    colours = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}
    for each in checks:
        state = f"[{colours[each.state]}]{each.state}[/]"
        table.add_row(each.name, state, escape(each.message))
    Console().print(table)
    raise typer.Exit(1 if any(each.state == "failed" for each in checks) else 0)


if __name__ == "__main__":
    app()
