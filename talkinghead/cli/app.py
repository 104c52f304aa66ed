"""The command line: which commands there are, and where; each is imported when it is called.

So `talkinghead --help`, a typo and a Ctrl-C need not wait for decoders, stores and the SDK.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

import talkinghead


@dataclass(frozen=True)
class Command:
    """Where a command is, as module:name, and the first line of its help."""

    place: str
    help: str

    def load(self, name: str) -> Any:  # noqa: ANN401 - typer has no public name for its commands
        """The command itself."""
        module, _, attribute = self.place.partition(":")
        found = getattr(importlib.import_module(f"talkinghead.{module}"), attribute)
        if isinstance(found, typer.Typer):
            return get_command(found)
        alone = typer.Typer(add_completion=False)
        alone.command(name)(found)
        return get_command(alone)


COMMANDS: Mapping[str, Command] = {
    "run": Command("cli.run:run", "Render one video, as the worker would, and write it to a file"),
    "up": Command("cli.up:up", "Keep a ComfyUI running, for `talkinghead run` to use"),
    "serve": Command("cli.serve:serve", "Answer as a RunPod endpoint does"),
    "page": Command("page.command:page", "A page to try it on, in the browser"),
    "gui": Command("cli.gui:start_gui", "Start the local ComfyUI with our workflows in its GUI"),
    "replay": Command(
        "replay.command:replay", "Run saved files in a batch, on one ComfyUI or many"
    ),
    "estimate": Command(
        "cli.estimate:tell_estimate", "What a render will take: windows, time, price, memory, disk"
    ),
    "bench": Command("bench.command:bench", "Measure this host's card in each configuration"),
    "look": Command("cli.look:look", "Look at a video as a worker does"),
    "lint": Command("cli.lint:lint", "Find what ComfyUI would refuse, and what it accepts but"),
    "open": Command(
        "cli.open:open_bundle", "Bring the workflow that made a video into ComfyUI's GUI"
    ),
    "models": Command("cli.models:app", "The model files: what there is, and the rest"),
    "checkpoints": Command(
        "cli.checkpoints:app", "What unfinished long renders have left in the store"
    ),
    "doctor": Command("cli.doctor:doctor", "Whether this host can render, and what to do if not"),
}


class Commands(TyperGroup):
    """The commands; their help is known before they are loaded."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        self.commands = {
            name: TyperCommand(name, help=each.help) for name, each in COMMANDS.items()
        }

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's own types
        """Run the command; a setting that is wrong is one line, by the name of its variable."""
        try:
            return super().invoke(ctx)
        except ValueError as error:
            from pydantic import ValidationError  # noqa: PLC0415 - --help need not wait for it

            from talkinghead.settings import wrong_settings  # noqa: PLC0415

            if not isinstance(error, ValidationError) or error.title != "Settings":
                raise
            typer.secho("failed:", fg="red", nl=False, err=True)
            typer.echo(f" {wrong_settings(error)}", err=True)
            raise typer.Exit(1) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - typer's own types
        """The command that was called, loaded."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and COMMANDS[str(name)].load(str(name)), rest


app = typer.Typer(cls=Commands, add_completion=False, no_args_is_help=True)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"talkinghead {talkinghead.__version__}")
        raise typer.Exit


@app.callback()
def _talkinghead(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Which it is")
    ] = False,
) -> None:
    """Talking-head videos from a picture and a voice."""
