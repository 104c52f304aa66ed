"""`talkinghead up`: a ComfyUI that stays, for `talkinghead run` to find."""

from __future__ import annotations

import logging
import threading

import typer

from talkinghead.cli.run import console, tell_failed
from talkinghead.comfy import warm
from talkinghead.comfy.server import ComfyServer
from talkinghead.errors import JobError
from talkinghead.logs import start_logging
from talkinghead.models.fetch import found_models
from talkinghead.models.gpu import active_profile, read_host
from talkinghead.settings import Settings
from talkinghead.stopping import stopping

LOOK_SECONDS = 1.0  # at whether it still lives


def up() -> None:
    """Keep a ComfyUI running, for `talkinghead run` to use, until Ctrl-C.

    Without it, each render starts a ComfyUI of its own.
    """
    start_logging("plain", level=logging.ERROR)
    try:
        settings = Settings()
        if settings.comfyui_url:
            tell_failed(f"COMFYUI_URL is set: {settings.comfyui_url} is used as it is")
            raise typer.Exit(1)
        if (there := warm.find(settings)) is not None:
            console.print(f"There is one already, at {there.url}", highlight=False)
            return
        _keep(settings)
    except JobError as error:
        tell_failed(error)
        raise typer.Exit(1) from None


def _keep(settings: Settings) -> None:
    """Run ComfyUI until Ctrl-C.

    Raises:
        ComfyUIUnavailable: it does not start, or it dies.
        ModelsMissing: MODEL_PROFILE names no profile.
    """
    stop = threading.Event()
    server = ComfyServer.from_settings(settings)
    server.use_models(found_models(settings, active_profile(settings, read_host(settings))))
    with stopping(stop):
        try:
            server.start()
            with console.status("starting ComfyUI; 30 s is usual"):
                server.ensure_ready(lambda: _check(stop))
            folder = server.folders.work_dir
            with warm.told(settings, warm.Warm(server.url, folder)):
                console.print(
                    f"ComfyUI is at {server.url}, and `talkinghead run` uses it. Ctrl-C ends it.",
                    highlight=False,
                    soft_wrap=True,
                )
                while not stop.wait(LOOK_SECONDS):
                    server.check()
        except _Stopped:
            return
        finally:
            server.stop(for_good=True)


class _Stopped(Exception):
    """Ctrl-C came while ComfyUI started."""


def _check(stop: threading.Event) -> None:
    if stop.is_set():
        raise _Stopped
