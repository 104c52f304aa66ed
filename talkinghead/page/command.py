"""`talkinghead page`: a page to try it on."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

console = Console(stderr=True)
FOLDER = "talkinghead-page-"
EXTRA = "talkinghead page needs NiceGUI: `make page`, or pip install --editable '.[page]'"


def page(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of the page; 0: any free one")
    ] = 8080,
    host: Annotated[
        str, typer.Option(help="Address to listen at; other than this machine's own with API_TOKEN")
    ] = "127.0.0.1",
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="Render there: a RunPod endpoint's id, or the URL of `talkinghead serve`"
        ),
    ] = None,
) -> None:
    """A page to try it on, in the browser.

    Drop a picture and a voice, see who was found and what it takes, and start. Ctrl-C ends it.
    """
    if importlib.util.find_spec("nicegui") is None:
        console.print(escape(EXTRA), highlight=False, soft_wrap=True)
        raise typer.Exit(2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        # The terminal was closed: people's files would be left.
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    from talkinghead.errors import JobError  # noqa: PLC0415 - a slow import

    try:
        _serve(host, port, endpoint)
    except (JobError, ValidationError, OSError) as error:
        console.print(f"[red]failed:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _serve(host: str, port: int, endpoint: str | None) -> None:
    # These take seconds: decoders, stores, NiceGUI.
    from talkinghead.local_api.http import OpenToAll, access_of  # noqa: PLC0415
    from talkinghead.logs import start_logging  # noqa: PLC0415
    from talkinghead.media.sandbox import Sandboxes  # noqa: PLC0415
    from talkinghead.page import place  # noqa: PLC0415
    from talkinghead.settings import Settings  # noqa: PLC0415

    start_logging("plain", level=logging.ERROR)
    settings = Settings()
    try:
        token = access_of(settings, host).token
    except OpenToAll as error:
        raise typer.BadParameter(str(error)) from None
    if endpoint is not None and "://" not in endpoint and not place.has_key():
        raise typer.BadParameter("--endpoint needs the environment variable RUNPOD_API_KEY")
    with contextlib.ExitStack() as stack:
        starting = stack.enter_context(console.status("starting"))
        listener = stack.enter_context(_listen(host, port))
        folder = stack.enter_context(_folder())
        sandboxes = stack.enter_context(Sandboxes())
        sandboxes.start()
        renders = (
            place.here(settings, folder) if endpoint is None else place.there(settings, endpoint)
        )
        try:
            at = stack.enter_context(renders)
        except ValueError as error:
            raise typer.BadParameter(f"--endpoint: {error}") from None
        from talkinghead.page.server import People, serve  # noqa: PLC0415

        people = People(at, folder, sandboxes, settings)

        def ready() -> None:
            starting.stop()
            _tell(host, listener, token)

        serve(people, listener, token, ready)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Where people's files are while the page is; what one that was killed has left goes."""
    from talkinghead.comfy.claim import delete_unless_held  # noqa: PLC0415

    for left in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        delete_unless_held(left)
    with tempfile.TemporaryDirectory(prefix=FOLDER) as name:
        descriptor = os.open(name, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # a file system without locks: nobody sweeps there
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield Path(name)
        finally:
            os.close(descriptor)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(f"port {port} of {host}: {why}; --port 0 takes any free one") from None


def _tell(host: str, listener: socket.socket, token: str | None) -> None:
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}"
    if token is not None:
        url += "/?token=…"
    key = ", with API_TOKEN as the token; a cookie keeps it" if token is not None else ""
    console.print(
        f"The page is at [bold]{url}[/]{key}. Ctrl-C ends it", highlight=False, soft_wrap=True
    )
