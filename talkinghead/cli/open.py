"""`talkinghead open`: the workflow that made a video, in ComfyUI's GUI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from talkinghead.cli import gui
from talkinghead.delivery.place import as_json
from talkinghead.replay.sources import BadInput, check_target

console = Console(stderr=True)


def open_bundle(
    bundle: Annotated[Path, typer.Argument(help="A replay bundle: `bundle` in the request")],
    out: Annotated[Path | None, typer.Option(help="Write the GUI's file here")] = None,
    server: Annotated[
        str | None,
        typer.Option(envvar="COMFYUI_URL", help="A ComfyUI: its GUI gets the workflow in its list"),
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PATH: upload PATH as the file that the workflow calls NAME"),
    ] = None,
) -> None:
    """Bring the workflow that made a video into ComfyUI's GUI."""
    if out is None and server is None:
        raise typer.BadParameter("say where to: --out FILE, or --server URL (or COMFYUI_URL)")
    try:
        found = gui.read_workflow(bundle)
        if found.windows > 1:
            _tell_first(found.windows, bundle)
        if out is not None:
            check_target(out, [bundle])
            out.write_bytes(as_json(found.workflow))
            console.print(
                f"The workflow is in {out}: drop it on ComfyUI's GUI",
                highlight=False,
                soft_wrap=True,
            )
        if server is not None:
            files = dict(_name_and_path(each) for each in file or ())
            opened = gui.GuiServer(server).open(found.workflow, found.name, files)
            _tell_opened(server, *opened)
    except (BadInput, gui.OpenError) as error:
        raise typer.BadParameter(str(error)) from None


def _name_and_path(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise typer.BadParameter(f"--file {text} is not NAME=PATH")
    return name, Path(path)


def _tell_first(windows: int, bundle: Path) -> None:
    console.print(
        f"[yellow]note:[/] the video was made in {windows} windows, and this is the first: its own "
        f"note says how to make the next, `talkinghead replay {escape(str(bundle))}` makes all",
        highlight=False,
        soft_wrap=True,
    )


def _tell_opened(server: str, name: str, lacking: list[gui.FileInput]) -> None:
    console.print(
        f"Open {server}, press w (Workflows) and choose {name}", highlight=False, soft_wrap=True
    )
    for each in lacking:
        console.print(
            f"[yellow]missing there:[/] {escape(each.title)} loads {escape(each.short)}: choose a "
            f"file in that node, or open with --file {escape(each.short)}=PATH",
            highlight=False,
            soft_wrap=True,
        )
