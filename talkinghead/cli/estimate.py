"""`talkinghead estimate`: what a render will take, told beforehand."""

from __future__ import annotations

import json
import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from talkinghead.cli.asked import Boxes, Files, request_of, with_fields
from talkinghead.cli.run import tell_failed, tell_notes
from talkinghead.comfy.studio import Studio
from talkinghead.errors import JobError
from talkinghead.logs import start_logging
from talkinghead.media.masks import Box
from talkinghead.models.gpu import read_host
from talkinghead.plan.estimate import Estimate, estimate
from talkinghead.plan.pace import CARDS, Pace, card_named, duration_text
from talkinghead.plan.people import Person
from talkinghead.plan.plan import Plan
from talkinghead.plan.request import RenderRequest, Speaker, parse_request
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
    if plan.people:
        _tell_people(plan.people, asked, is_request=len(files) == 1)


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
    if found.way != "draft":
        table.add_row("memory", f"{found.ram_gb:.2f} GB beside the models")
        table.add_row("disk", f"{found.disk_gb:.2f} GB")
        table.add_row("settings", _settings_text(found.params))
    for name, seconds in found.seconds_by_card.items():
        table.add_row(f"on {name}", duration_text(seconds))
    return table


def _tell_people(people: Sequence[Person], asked: RenderRequest, *, is_request: bool) -> None:
    """Who speaks where, and how to say it otherwise."""
    voices = {each.field: _name(each) for each in asked.speakers}
    table = Table(box=None)
    for column in ("voice", "face", "moves"):
        table.add_column(column, no_wrap=True)
    for person in people:
        still = "stays still" if person.field is None else "not known"
        voice = escape(voices.get(person.field or "", "of nobody"))
        table.add_row(voice, _edges(person.face) or "not found", _edges(person.region) or still)
    out = Console()
    out.print("\nWho speaks where: left, top, right, bottom, in pixels of the source")
    out.print(table)
    if is_request:
        out.print("If it is not so: `box` of a speaker in the request, in these pixels or 0 to 1")
        return
    found = {person.field: _edges(person.region) for person in people}
    boxes = (f"--box {found.get(field) or 'x0,y0,x1,y1'}" for field in voices)
    out.print(f"If it is not so, a box for each voice: {' '.join(boxes)}", soft_wrap=True)


def _name(speaker: Speaker) -> str:
    """A voice as a person calls it: the name of its file, where it has one."""
    path = urlsplit(speaker.audio_url or "data:")
    return speaker.field if path.scheme == "data" else unquote(PurePosixPath(path.path).name)


def _edges(box: Box | None) -> str | None:
    return ",".join(f"{edge:.0f}" for edge in box) if box else None


def _settings_text(params: Mapping[str, Any]) -> str:
    """What the render will use, prompts apart; nothing that is not set."""
    told = {name: each for name, each in params.items() if not name.endswith("_prompt")}
    return ", ".join(f"{name} {each}" for name, each in told.items() if each is not None)


def _over(found: Estimate) -> str:
    return f"[yellow]longer than JOB_TIMEOUT_SECONDS, {found.timeout_seconds:g} s[/]"
