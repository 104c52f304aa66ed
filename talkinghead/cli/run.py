"""`talkinghead run`: one video, from a picture and voices, or from a request."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from talkinghead.cli.asked import Boxes, Files, request_of, with_fields
from talkinghead.client import TalkingheadError
from talkinghead.delivery.file import FilePlace, bundle_path
from talkinghead.errors import JobError
from talkinghead.files import numbered
from talkinghead.replay.sources import BadInput, check_target, files_of
from talkinghead.settings import Settings

OUT_DIR = Path("out")
LAST_START = "last-start-seconds"  # a file in WORK_DIR: how long ComfyUI took to start
SLOW_START_SECONDS = 5.0
NO_GPU = "no NVIDIA GPU is here, and the model needs one"
WAYS = "--draft renders a quick preview on the CPU; --server URL and --endpoint ID render elsewhere"
console = Console(stderr=True)


@with_fields
def run(
    files: Files,
    *,
    out: Annotated[
        Path | None, typer.Option(help="Where the video goes; if unset out/NAME.mp4, or NAME-2")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there")] = False,
    box: Boxes = None,
    report: Annotated[
        bool, typer.Option("--report", help="Add it to a page to look at: report.html beside it")
    ] = False,
    server: Annotated[
        str | None,
        typer.Option(help="A running ComfyUI; if unset that of `talkinghead up`, or our own"),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="Render there: a RunPod endpoint's id, or the URL of `talkinghead serve`"
        ),
    ] = None,
    fields: Mapping[str, Any],
) -> None:
    """Render one video, as the worker would, and write it to a file.

    talkinghead run picture.jpg voice.mp3 --draft

    Of several voices the first belongs to who is most to the left, unless --box says otherwise.
    """
    from talkinghead.logs import start_logging  # noqa: PLC0415 - a slow import

    start_logging("plain", level=logging.ERROR)
    target = None
    try:
        asked = request_of(files, box or [], fields)
        if asked.get("dry_run"):
            raise BadInput("dry_run is for jobs; see `talkinghead estimate`")
        target, replaces = _target(out, files, asked, overwrite=overwrite)
        if endpoint is not None:
            result = _render_there(asked, endpoint, target, overwrite=replaces)
        else:
            settings = _settings(server)
            if not asked.get("draft") and settings.drafts_only:
                asked["draft"] = _wants_draft()
            result = _render(asked, settings, FilePlace(target, overwrite=replaces))
        target = Path(result.get("path", target))  # another run may have taken the name meanwhile
    except (BadInput, JobError, TalkingheadError, OSError) as error:
        result = {"error": str(error)}
    if "error" in result:
        tell_failed(result["error"])
    elif target is not None:
        _tell(result, target)
    if report and target is not None:
        from talkinghead.cli import reporting  # noqa: PLC0415 - a slow import

        page = reporting.report(target, files[0], fields, result)
        console.print(f"The page is {escape(str(page))}", highlight=False, soft_wrap=True)
    raise typer.Exit(1 if "error" in result else 0)


def _settings(server: str | None) -> Settings:
    if server is None:
        return Settings()
    if not server.startswith(("http://", "https://")):
        raise BadInput(f"--server {server}: a URL such as http://127.0.0.1:8188")
    from comfy_client import ComfyClient, ComfyError  # noqa: PLC0415 - a slow import

    try:
        ComfyClient(server, unreachable_seconds=0).system_stats()
    except ComfyError as error:
        raise BadInput(f"--server: {error}") from None
    return Settings().model_copy(update={"comfyui_url": server})


def _wants_draft() -> bool:
    """Whether a preview will do, where nothing else can be rendered.

    Raises:
        BadInput: it will not.
    """
    if sys.stdin.isatty() and console.is_terminal:
        console.print(f"[yellow]{NO_GPU}[/]: {WAYS}", highlight=False, soft_wrap=True)
        if typer.confirm("Render the draft?", default=True, err=True):
            return True
        raise BadInput("nothing was rendered")
    raise BadInput(f"{NO_GPU}: {WAYS}")


# ---- Where it goes


def _target(
    out: Path | None, files: list[Path], asked: Mapping[str, Any], *, overwrite: bool
) -> tuple[Path, bool]:
    """Where the video goes, and whether over what is there: only if somebody says so.

    Raises:
        BadInput: something is there, no file can be, or it is named as what it is not.
    """
    sources = [*files, *files_of(asked)]
    target = out or (OUT_DIR / f"{files[0].stem}.mp4")
    if out is None and not overwrite:
        target = next(path for path in numbered(target) if not _there(path))
    for path in (target, bundle_path(target)):
        check_target(path, sources)
    if out is not None and out.suffix.lower() not in ("", ".mp4"):
        raise BadInput(f"--out {out}: the video is an MP4, such as {out.with_suffix('.mp4')}")
    if out is not None and not overwrite and (there := _there(target)):
        _ask_to_overwrite(there)
        overwrite = True
    return target, overwrite


def _there(target: Path) -> Path | None:
    return next((path for path in (target, bundle_path(target)) if path.exists()), None)


def _ask_to_overwrite(there: Path) -> None:
    if sys.stdin.isatty() and console.is_terminal:
        if typer.confirm(f"{there} is there already. Overwrite it?", err=True):
            return
        raise BadInput("nothing was rendered")
    raise BadInput(f"{there} is there already: --overwrite replaces it, or give another --out")


# ---- The render


def _render(fields: dict[str, Any], settings: Settings, place: FilePlace) -> dict[str, Any]:
    # These take seconds: decoders, stores, the SDK.
    from talkinghead.cli.watching import Bar  # noqa: PLC0415
    from talkinghead.comfy import warm  # noqa: PLC0415
    from talkinghead.comfy.studio import Studio  # noqa: PLC0415
    from talkinghead.render.job import Job  # noqa: PLC0415
    from talkinghead.render.run import run_job  # noqa: PLC0415
    from talkinghead.stopping import stopping  # noqa: PLC0415

    settings, folders = warm.joined(settings)
    if folders is not None:
        console.print(f"with the ComfyUI that runs at {settings.comfyui_url}", highlight=False)
    job = Job(id="local", input=fields, cancelled=threading.Event())
    with stopping(job.cancelled) as caught:
        studio = Studio(settings, store=place, local_files=True, folders=folders)
        log = studio.server.folders.log if studio.server else None
        with studio, Bar(console, log, _last_start(settings)) as bar:
            job.report = bar.report
            result = run_job(job, studio)
    if caught:
        console.print("stopped: no video was written", highlight=False)
        raise typer.Exit(128 + caught[0])
    if log is not None and "error" not in result:
        _keep_start(settings, result["timings"].get("start", 0.0))
    return result


def _render_there(
    fields: dict[str, Any], endpoint: str, out: Path, *, overwrite: bool
) -> dict[str, Any]:
    from talkinghead.cli.endpoint import render_there  # noqa: PLC0415 - a slow import
    from talkinghead.cli.watching import Bar  # noqa: PLC0415
    from talkinghead.render.progress import Progress  # noqa: PLC0415

    signal.signal(signal.SIGINT, signal.default_int_handler)  # the client cancels its job then
    with Bar(console, None, None) as bar:

        def told(percent: float, message: str, eta_seconds: float | None) -> None:
            bar.report(Progress("render", message, eta_seconds=eta_seconds, least_percent=percent))

        try:
            return render_there(fields, endpoint, out, told, overwrite=overwrite)
        except KeyboardInterrupt as stop:
            if isinstance(stop.__cause__, TalkingheadError):  # of a job that may still be running
                tell_failed(stop.__cause__)
            raise typer.Exit(130) from None


def _last_start(settings: Settings) -> float | None:
    try:
        return float((settings.work_dir / LAST_START).read_text())
    except (OSError, ValueError):
        return None


def _keep_start(settings: Settings, seconds: float) -> None:
    try:
        (settings.work_dir / LAST_START).write_text(f"{seconds:.1f}")
    except OSError:  # somebody else's, and no more than a figure
        return


# ---- What is told


def _tell(result: dict[str, Any], out: Path) -> None:
    tell_notes(result["warnings"])
    info = result["video_info"]
    start = result["timings"].get("start", 0.0)
    waited = f", {start:.0f} s of them for ComfyUI to start" if start > SLOW_START_SECONDS else ""
    console.print(
        f"{info['width']}x{info['height']}, {info['frames']} frames, "
        f"{info['duration_seconds']:.2f} s, seed {result['generation_params']['seed']}; "
        f"done in {result['processing_time_seconds']:.0f} s{waited}",
        highlight=False,
        soft_wrap=True,
    )
    if waited:
        keep = "`talkinghead up` in another terminal keeps ComfyUI running: then there is no wait"
        console.print(f"[dim]{keep}[/]", highlight=False, soft_wrap=True)
    console.print(f"The video is in {escape(str(out))}", highlight=False, soft_wrap=True)


def tell_notes(notes: Iterable[str]) -> None:
    """A line for each of a render's warnings."""
    for note in notes:
        console.print(f"[yellow]note:[/] {escape(note)}", highlight=False, soft_wrap=True)


def tell_failed(error: object) -> None:
    """A line that says why there is nothing."""
    console.print(f"[red]failed:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
