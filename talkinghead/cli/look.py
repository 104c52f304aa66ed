"""`talkinghead look`: what a worker would say of a video."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from talkinghead.errors import JobError
from talkinghead.media.sandbox import Sandboxes
from talkinghead.replay import look as looks

SHEET_SUFFIX = ".look.png"


def look(
    video: Annotated[
        Path,
        typer.Argument(help="A video, of a worker or of anybody", exists=True, dir_okay=False),
    ],
    source: Annotated[
        Path | None,
        typer.Option(help="The picture that it was made from", exists=True, dir_okay=False),
    ] = None,
    sound: Annotated[
        Path | None,
        typer.Option(
            help="The voice; without it, the video's own sound", exists=True, dir_okay=False
        ),
    ] = None,
) -> None:
    """Look at a video as a worker does; a contact sheet is written beside it, as NAME.look.png.

    Exits with 1 if a worker would not have delivered it, with 2 if a file cannot be read or
    written. Warnings alone exit with 0.
    """
    target = video.with_name(video.stem + SHEET_SUFFIX)
    try:
        with (
            TemporaryDirectory(prefix="talkinghead-") as folder,
            Sandboxes() as sandboxes,
            sandboxes.open() as sandbox,
        ):
            sheet = Path(folder) / target.name
            seen = looks.look(video, sandbox, source=source, sound=sound, sheet=sheet)
            shutil.copyfile(sheet, target)
    except (JobError, OSError) as error:
        typer.echo(f"failed: {error}", err=True)
        raise typer.Exit(2) from None
    for name, figure in seen.quality.items():
        typer.echo(f"{name}: {json.dumps(figure)}")
    for sentence in seen.sentences:
        typer.echo(sentence)
    typer.echo(f"The contact sheet is in {target}")
    raise typer.Exit(1 if seen.defect else 0)
