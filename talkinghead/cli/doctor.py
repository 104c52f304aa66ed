"""`talkinghead doctor`: whether this host can render."""

from __future__ import annotations

import logging
import signal
import sys

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from talkinghead.comfy.studio import Studio
from talkinghead.doctor import Check, examine
from talkinghead.errors import JobError
from talkinghead.logs import start_logging
from talkinghead.settings import Settings, wrong_settings

console = Console(stderr=True)


def doctor() -> None:
    """Whether this host can render, and what to do if not. Exits with 1 if a check fails."""
    start_logging("plain", level=logging.ERROR)
    signal.signal(signal.SIGINT, signal.default_int_handler)
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
