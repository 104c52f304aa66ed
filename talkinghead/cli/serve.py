"""`talkinghead serve`: RunPod's API on this machine."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import threading
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from talkinghead.cli.run import NO_GPU
from talkinghead.comfy.studio import Studio
from talkinghead.comfy.warm_up import stay_ready
from talkinghead.errors import JobError
from talkinghead.local_api.http import Access, ApiServer, OpenToAll, access_of
from talkinghead.local_api.jobs import JobQueue
from talkinghead.local_api.webhook import tell
from talkinghead.logs import start_logging
from talkinghead.net.guard import PUBLIC_ONLY
from talkinghead.render.run import run_job
from talkinghead.settings import Settings

console = Console(stderr=True)


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the API; 0: any free one")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen at; other than this machine's own with API_TOKEN")
    ] = "127.0.0.1",
) -> None:
    """Answer as a RunPod endpoint does: /run, /status, /cancel and the others; Ctrl-C ends it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        settings = Settings()
        access = access_of(settings, host)
        start_logging(settings.log_format)
        _serve(settings, access, host, port)
    except OpenToAll as error:
        raise typer.BadParameter(str(error)) from None
    except (JobError, OSError) as error:
        console.print(f"[red]failed:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _serve(settings: Settings, access: Access, host: str, port: int) -> None:
    with Studio(settings) as studio, contextlib.ExitStack() as stack:
        # Without a token callers are on this machine, and could call its addresses themselves.
        is_open = access.token is None or settings.allow_private_urls
        guard = None if is_open else PUBLIC_ONLY
        guarded = functools.partial(tell, guard=guard, token=access.token)
        queue = JobQueue(lambda job: run_job(job, studio), guarded)
        server = stack.enter_context(ApiServer((host, port), queue, access))
        stack.callback(queue.close)
        studio.record.keep_in(settings.work_dir)
        stack.callback(studio.record.stop)
        studio.sandboxes.start()
        threading.Thread(target=stay_ready, args=(studio,), daemon=True).start()
        queue.start()
        key = "the key is API_TOKEN" if access.token else "it takes any key"
        console.print(
            f"The API is at [bold]{server.url}[/], instead of "
            f"https://api.runpod.ai/v2/ENDPOINT_ID; {key}. POST /run takes a job; Ctrl-C ends it",
            highlight=False,
            soft_wrap=True,
        )
        if settings.drafts_only:
            told = f'{NO_GPU}: here are drafts alone, of requests with "draft": true'
            console.print(f"[yellow]{told}[/]", highlight=False, soft_wrap=True)
        server.serve_forever()
