"""`talkinghead estimate`: what a render will take, told beforehand."""

from __future__ import annotations

import json
import logging
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from talkinghead.cli.asked import Boxes, Files, request_of, with_fields
from talkinghead.cli.run import console, tell_failed, tell_notes
from talkinghead.comfy.studio import Studio
from talkinghead.errors import JobError
from talkinghead.logs import start_logging
from talkinghead.models.gpu import read_host
from talkinghead.plan.estimate import Estimate, estimate
from talkinghead.plan.pace import CARDS, Pace, card_named, duration_text
from talkinghead.plan.plan import Plan
from talkinghead.plan.request import RenderRequest, parse_request
from talkinghead.render.dry_run import plan_of
from talkinghead.replay.sources import BadInput
from talkinghead.settings import Settings


@with_fields
def tell_estimate(
    files: Files,
    *,
    box: Boxes = None,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0, help="What an hour of the GPU costs")
    ] = None,
    card: Annotated[
        str | None, typer.Option(help="Another GPU than this host's, as `RTX 4090`")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As a job's dry_run answers")] = False,
    fields: Mapping[str, Any],
) -> None:
    """What a render will take: windows, time, price, memory, disk. ComfyUI is not needed."""
    start_logging("plain", level=logging.ERROR)
    if card is not None and card_named(card) is None:
        known = ", ".join(each.name for each in CARDS)
        raise typer.BadParameter(f"--card {card}: there are figures for {known}")
    try:
        asked = parse_request(request_of(files, box or [], fields), local_files=True)
        plan, found = _estimate(asked, Settings(), card, price_per_hour or asked.price_per_hour)
    except (BadInput, JobError) as error:
        tell_failed(error)
        raise typer.Exit(1) from None
    if as_json:
        told = {"speakers_found": plan.speakers_found, "warnings": plan.warnings}
        typer.echo(json.dumps(found.payload() | told, indent=1))
        return
    tell_notes(plan.warnings)
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
