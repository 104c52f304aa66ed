"""`talkinghead lint`: what ComfyUI would refuse of a workflow, and what goes wrong late."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from comfy_client import ComfyClient, ComfyError
from talkinghead.files import read_json
from talkinghead.media.sandbox import Sandboxes
from talkinghead.replay.runs import local_files
from talkinghead.settings import Settings
from talkinghead.workflow.forms import workflow_in, workflow_of_job
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.gui_file import ConvertError, Workflow, is_gui
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.lint import lint_workflow
from talkinghead.workflow.lint.view import Finding
from talkinghead.workflow.mask_files import mask_problems
from talkinghead.workflow.schemas import Schemas, load_known_schemas, recorded_from


def lint(
    files: Annotated[list[Path], typer.Argument(help="Workflows: GUI files or API graphs")],
    server: Annotated[
        str | None, typer.Option(help="A ComfyUI to check against; without it, recorded schemas")
    ] = None,
) -> None:
    """Find what ComfyUI would refuse, and what it accepts but fails late or is silently wrong.

    Exits with 1 if there is an error among the findings, with 2 if a file cannot be read.
    """
    schemas = _schemas(server)
    read = {file: _lint_file(file, schemas) for file in files}
    found = [each for findings in read.values() for each in findings or ()]
    errors = sum(each.severity == "error" for each in found)
    unreadable = sum(findings is None for findings in read.values())
    counts = [_count(len(files), "file"), _count(errors, "error")]
    counts.append(_count(len(found) - errors, "warning"))
    if server is None:
        typer.echo(_not_asked())
    typer.echo(", ".join(counts) + (f", {unreadable} unreadable" if unreadable else ""))
    raise typer.Exit(2 if unreadable else min(errors, 1))


def _schemas(server: str | None) -> Schemas:
    if server is None:
        return load_known_schemas()
    try:
        return ComfyClient(server).object_info()
    except ComfyError as error:
        raise typer.BadParameter(f"no schemas from {server}: {error}") from None


def _not_asked() -> str:
    return (
        f"no server was asked: nodes are those of ComfyUI {recorded_from()} and of this project's "
        "node packs, and which files are there is not known; --server URL asks yours"
    )


def _lint_file(file: Path, schemas: Schemas) -> list[Finding] | None:
    """Tell the file's findings; None if it cannot be read."""
    try:
        content = read_json(file)
    except (OSError, ValueError) as error:
        typer.echo(f"{file}: not readable as JSON: {error}")
        return None
    content = workflow_of_job(content)
    findings = lint_workflow(content, schemas)
    findings += _lint_masks(workflow_in(content) or {}, schemas, file.parent)
    for finding in findings:
        typer.echo(f"{file}: {finding}")
    return findings


def _lint_masks(content: Workflow | Graph, schemas: Schemas, folder: Path) -> list[Finding]:
    """What ComfyUI would make of the masks files that lie beside the workflow."""
    try:
        graph = to_api(content, schemas) if is_gui(content) else content
    except ConvertError:  # told already
        return []
    files = dict(local_files(graph, folder))
    megapixels = Settings().max_image_megapixels
    with Sandboxes() as sandboxes, sandboxes.open() as sandbox:
        problems = mask_problems(graph, files, sandbox, max_megapixels=megapixels)
        return [Finding("error", "", "", problem) for problem in problems]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
