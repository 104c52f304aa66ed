"""`talkinghead replay`: the command line, and what it asks for."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from talkinghead.errors import JobError
from talkinghead.logs import start_logging
from talkinghead.plan.fields import MAX_SEED
from talkinghead.replay.batch import Batch, How, tell_failed
from talkinghead.replay.changes import parse_assignments, read_rows
from talkinghead.replay.runs import Seed, Wanted, check_name
from talkinghead.replay.sources import BadInput, read_sources
from talkinghead.replay.target import Target


def replay(
    files: Annotated[
        list[str],
        typer.Argument(help="Workflows, replay bundles, requests; folders and patterns of them"),
    ],
    *,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="title.input=value of a workflow, field=value of a request"),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(help="A CSV or JSONL file: a run of each file per row; columns as in --set"),
    ] = None,
    seed: Annotated[str, typer.Option(help="A number, random or keep")] = "keep",
    repeat: Annotated[
        int, typer.Option(min=1, help="So many runs of each file, each with a seed of its own")
    ] = 1,
    server: Annotated[
        list[str] | None,
        typer.Option(help="A ComfyUI to run on, and another; without it, our own"),
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="A RunPod endpoint's id; RUNPOD_API_KEY is its key")
    ] = None,
    endpoint_url: Annotated[
        str | None,
        typer.Option(help="The URL of `talkinghead serve`; TALKINGHEAD_TOKEN is its API_TOKEN"),
    ] = None,
    as_batch: Annotated[
        bool,
        typer.Option("--batch", help="One of RunPod's batches: hours of time, workers of its own"),
    ] = False,
    low_priority: Annotated[
        bool,
        typer.Option("--low-priority", help="Jobs that start no worker of the endpoint"),
    ] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs in flight at most")] = None,
    retry: Annotated[int, typer.Option(min=0, help="Tries more for a run that fails")] = 0,
    wait: Annotated[
        float, typer.Option(min=0, help="How long all servers may be away, seconds")
    ] = 300.0,
    strict: Annotated[
        bool, typer.Option("--strict", help="Run nothing if a file cannot be run as asked")
    ] = False,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0, help="What an hour of the GPU costs, for the sum")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where outputs and report go")] = Path("out/replay"),
    name: Annotated[
        str, typer.Option(help="Of the outputs; from {stem}, {seed}, {row} and {key}")
    ] = "{stem}-{key}",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check all, tell what would be run, run nothing")
    ] = False,
) -> None:
    """Run saved files in a batch, on one ComfyUI or many; run again, it goes on where it was.

    A file that cannot be run stops none of the others.

    Exits with 0 if all runs succeeded, now or before; with 1 if not, with 130 after Ctrl-C.
    """
    start_logging("plain", level=logging.CRITICAL)  # what is to be seen, the bars and lines say
    if sum(map(bool, (server, endpoint, endpoint_url))) > 1:
        raise typer.BadParameter("give one of --server, --endpoint and --endpoint-url")
    try:
        sources = read_sources(files)
        wanted = Wanted(
            parse_assignments(changes or []),
            read_rows(rows) if rows else [],
            _parse_seed(seed, repeat),
            name,
            repeat,
        )
        check_name(name)
        at = _endpoint(endpoint, endpoint_url)
        if (as_batch or low_priority) and at is None:
            raise BadInput("--batch and --low-priority are for an endpoint: give --endpoint ID")
        target = Target(_servers(server or []), at, jobs, low_priority, as_batch)
        command = shlex.join(["talkinghead", *sys.argv[1:]])
        how = How(retry, wait, strict, price_per_hour, command)
        batch = Batch(sources, wanted, target, out, how)
        code = batch.tell_plan() if dry_run else batch.run()
    except (BadInput, JobError) as error:
        tell_failed(str(error))
        raise typer.Exit(1) from None
    raise typer.Exit(code)


def _parse_seed(text: str, repeats: int) -> Seed:
    if text == "random" or (text == "keep" and repeats > 1):
        return "random"
    if repeats > 1:
        raise BadInput(f"--repeat {repeats} --seed {text}: the same again; leave --seed away")
    if text == "keep":
        return text
    if text.isdecimal() and int(text) <= MAX_SEED:
        return int(text)
    raise BadInput(f"--seed {text}: a number from 0 to {MAX_SEED}, random or keep")


def _servers(urls: Sequence[str]) -> tuple[str, ...]:
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise BadInput(f"--server {url}: a URL such as http://127.0.0.1:8188")
    return tuple(dict.fromkeys(url.rstrip("/") for url in urls))


def _endpoint(name: str | None, url: str | None) -> str | None:
    if name is None and url is None:
        return None
    try:
        from talkinghead.client.wire import Wire, endpoint_url  # noqa: PLC0415 - a slow import

        found = Wire(endpoint_url(name) if name is not None else str(url)).url
    except ValueError as error:
        raise BadInput(f"--endpoint: {error}") from None
    if name is not None and not os.environ.get("RUNPOD_API_KEY"):
        raise BadInput("--endpoint needs the environment variable RUNPOD_API_KEY")
    return found
