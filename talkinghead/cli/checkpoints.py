"""`talkinghead checkpoints list | remove`."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from talkinghead.delivery.blobs import BlobStore, StoredFile
from talkinghead.delivery.restore import (
    checkpoint_files,
    jobs_in,
    ledgers_in,
    read_ledger,
    remove_checkpoint,
)
from talkinghead.delivery.stores import Stores
from talkinghead.errors import CheckpointRefused, JobError
from talkinghead.logs import start_logging
from talkinghead.render.job import Job
from talkinghead.settings import Settings

DAY_SECONDS = 86_400
LOOKS = 8  # at once

app = typer.Typer(no_args_is_help=True, help="What unfinished long renders have left in the store.")
console = Console(stderr=True)


@dataclass(frozen=True)
class Left:
    """A checkpoint, as the store lists it."""

    job: str
    files: list[StoredFile]

    @property
    def age_seconds(self) -> float:
        """The seconds since its last window was written."""
        return time.time() - max(file.modified for file in self.files)

    @property
    def age(self) -> str:
        """The time since its last window in minutes, hours or days."""
        minutes = max(0, round(self.age_seconds / 60))
        if minutes < 120:
            return f"{minutes} min"
        return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"

    @property
    def size(self) -> str:
        """What all its files take, as kB or MB."""
        return decimal(sum(file.size for file in self.files))


@app.command("list")
def list_checkpoints() -> None:
    """The renders that can be continued: how far they are, how old, how large."""
    table = Table(box=None)
    for column in ("job", "done", "last window", "size"):
        table.add_column(column, overflow="fold")
    with _failures():
        store = _store()
        for each in _all(store):
            table.add_row(each.job, _progress(store, each), f"{each.age} ago", each.size)
    Console().print(table if table.row_count else "there are none")


@app.command()
def remove(
    ids: Annotated[
        list[str] | None, typer.Argument(help="Of the jobs, or their request_id", metavar="ID…")
    ] = None,
    older_than: Annotated[
        float | None, typer.Option(min=0, help="All whose last window is so many days old")
    ] = None,
) -> None:
    """Delete checkpoints: the render starts anew. Exits with 1 if an ID has none."""
    if bool(ids) == (older_than is not None):
        raise typer.BadParameter("say which: ID…, or --older-than DAYS")
    with _failures():
        store = _store()
        if older_than is None:
            found = [_left(store, Job(each, None).key) for each in ids or ()]
        else:
            least = older_than * DAY_SECONDS
            found = [each for each in _all(store) if each.age_seconds >= least]
        for each in found:
            if each.files:
                remove_checkpoint(store, each.job, each.files)
            typer.echo(f"{each.job}: " + (f"{each.size} removed" if each.files else "has none"))
    if not found:
        typer.echo("there are none so old")
    raise typer.Exit(0 if all(each.files for each in found) else 1)


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    start_logging("plain", level=logging.ERROR)
    try:
        yield
    except JobError as error:
        console.print(f"[red]failed:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


def _store() -> BlobStore:
    store = Stores(Settings()).checkpoints()
    if store is None:
        raise typer.BadParameter("there is neither a bucket nor a volume (S3_BUCKET, VOLUME_DIR)")
    return store


def _left(store: BlobStore, job: str) -> Left:
    return Left(job, checkpoint_files(store, job))


def _all(store: BlobStore) -> list[Left]:
    # Folders that no job could have are somebody else's.
    jobs = sorted(job for job in jobs_in(store) if Job(job, None).key == job)
    with ThreadPoolExecutor(LOOKS) as pool:
        return [each for each in pool.map(partial(_left, store), jobs) if each.files]


def _progress(store: BlobStore, left: Left) -> str:
    """How far the renders of this id are: there is more than one if several requests had it.

    Of several runs of one render, that which is furthest.
    """
    furthest: dict[str, tuple[int, str]] = {}
    for name in ledgers_in(left.files):
        render = name.rpartition("/")[0]
        furthest[render] = max(_progress_of(store, left.job, name), furthest.get(render, (-1, "")))
    return ", ".join(said for _, said in furthest.values()) or "none whole"


def _progress_of(store: BlobStore, job: str, name: str) -> tuple[int, str]:
    try:
        ledger = read_ledger(store, job, name)
    except CheckpointRefused:
        return 0, "unreadable"
    return (ledger.windows_done, ledger.progress) if ledger else (0, "none whole")
