"""The command line: `talkinghead run | lint`."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from comfy_client import ComfyClient, ComfyError
from talkinghead import progress
from talkinghead.convert import Schemas
from talkinghead.errors import JobError
from talkinghead.lint import Finding, lint_workflow
from talkinghead.logs import start_logging
from talkinghead.render import Job, run_job
from talkinghead.settings import Settings
from talkinghead.studio import Studio
from talkinghead.workflow import load_schemas

app = typer.Typer(add_completion=False, no_args_is_help=True)
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
) -> None:
    """Render one request, as the worker would, and write the video to a file."""
    start_logging("plain", level=logging.ERROR)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        fields = _read_request(request)
        settings = Settings()
        result = _render(fields | ({"draft": True} if draft else {}), settings, out)
    except (JobError, ValidationError) as error:
        result = {"error": str(error)}
    if "error" in result:
        console.print(f"[red]failed:[/] {result['error']}", highlight=False)
        raise typer.Exit(1)
    _tell(result, out)


def _read_request(path: Path) -> dict[str, Any]:
    """The request's fields, with its local files as file:// URLs."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{path} is not a JSON file: {error}") from None
    fields = content.get("input", content) if isinstance(content, dict) else content
    if not isinstance(fields, dict):
        raise typer.BadParameter(f"{path} holds no request: a JSON object is needed")
    return {name: _as_url(name, value, path.parent) for name, value in fields.items()}


def _as_url(name: str, value: object, folder: Path) -> object:
    if isinstance(value, dict):
        return {key: _as_url(key, item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_url(name, item, folder) for item in value]
    is_url = name.endswith(("_url", "_url_2", "_urls"))
    if is_url and isinstance(value, str) and "://" not in value:
        return (folder / value).absolute().as_uri()
    return value


def _render(fields: dict[str, Any], settings: Settings, out: Path) -> dict[str, Any]:
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
    )
    with bars, Studio(settings, store=FileStore(out), local_files=True) as studio:
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
    for warning in result["warnings"]:
        console.print(f"[yellow]note:[/] {warning}", highlight=False)
    info = result["video_info"]
    console.print(
        f"{info['width']}x{info['height']}, {info['frames']} frames, "
        f"{info['duration_seconds']:.2f} s, seed {result['generation_params']['seed']}, "
        f"rendered in {result['generation_time_seconds']} s",
        highlight=False,
    )
    console.print(f"The video is in {out}", highlight=False)


@app.command()
def lint(
    files: Annotated[list[Path], typer.Argument(help="Workflows: GUI files or API graphs")],
    server: Annotated[
        str | None, typer.Option(help="A ComfyUI to check against; without it, recorded schemas")
    ] = None,
) -> None:
    """Find what ComfyUI would refuse, and what it accepts but fails late or is silently wrong.

    Exits with 1 if there is an error among the findings, with 2 if a file cannot be read.
    """
    schemas = _schemas(server)
    read = {file: _lint_file(file, schemas) for file in files}
    found = [each for findings in read.values() for each in findings or ()]
    errors = sum(each.severity == "error" for each in found)
    unreadable = sum(findings is None for findings in read.values())
    counts = [_count(len(files), "file"), _count(errors, "error")]
    counts.append(_count(len(found) - errors, "warning"))
    typer.echo(", ".join(counts) + (f", {unreadable} unreadable" if unreadable else ""))
    raise typer.Exit(2 if unreadable else min(errors, 1))


def _schemas(server: str | None) -> Schemas:
    if server is None:
        return load_schemas()
    try:
        return ComfyClient(server).object_info()
    except ComfyError as error:
        raise typer.BadParameter(f"no schemas from {server}: {error}") from None


def _lint_file(file: Path, schemas: Schemas) -> list[Finding] | None:
    """Tell the file's findings; None if it cannot be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        typer.echo(f"{file}: not readable as JSON: {error}")
        return None
    findings = lint_workflow(content, schemas)
    for finding in findings:
        typer.echo(f"{file}: {finding}")
    return findings


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


class FileStore:
    """Delivers to one path on this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def deliver(self, video: Path, job_id: str) -> dict[str, Any]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(video, self._path)
        return {"path": str(self._path)}


if __name__ == "__main__":
    app()
