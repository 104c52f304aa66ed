"""Files x rows -> runs, each known by the hash of what it will do."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from talkinghead.errors import JobError
from talkinghead.files import hash_of, sha256_of
from talkinghead.plan.fields import MAX_SEED
from talkinghead.plan.request import parse_request
from talkinghead.render.workflow_job.graph import title_in
from talkinghead.render.workflow_job.request import is_workflow_job
from talkinghead.replay.changes import (
    Changes,
    change_graph,
    change_request,
    seed_of,
    set_seeds,
)
from talkinghead.replay.sources import BadInput, Kind, Problem, Source, as_urls, with_files
from talkinghead.workflow.file_inputs import ELSEWHERE, FILE_INPUTS
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.gui_file import ConvertError, Workflow, is_gui
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.packs import classes_in, lacking
from talkinghead.workflow.schemas import Schemas
from talkinghead.workflow.taken import with_converted_values
from talkinghead.workflow.template import fill

MAX_NAME = 160  # characters: a file system takes 255 bytes, and there is a suffix to come
SEED_TO_COME = "{seed}"
KEY_SHOWN = 8  # hex digits of a key in a file name
ANNOTATION = re.compile(r" \[input\]$")  # ComfyUI's own after the names of some files

# Loaders of files in ComfyUI's input folder, where uploads go; the rest of FILE_INPUTS take paths.
UPLOADS = {
    loader: name
    for loader, name in FILE_INPUTS.items()
    if name != "directory" and loader != "VHS_LoadAudio" and not loader.endswith("Path")
}

Seed = int | str  # a number, "random" or "keep"


@dataclass(frozen=True)
class Run:
    """One file with one set of changes.

    Attributes:
        key: SHA-256 of what it does: content after all changes, and that of its local files.
        name: of its outputs, without suffix; as long as the seed is not drawn, SEED_TO_COME is in
            it where that belongs.
        content: an API graph, or the fields of a request.
        gui: the GUI file of the graph, where it still says the same.
        files: of a graph, the local files by the names that its nodes give.
        row: of the table, from 1.
        seed: None if the worker will draw one.
        repeat: which one it is of those that differ in their seeds alone, from 1.
    """

    key: str
    name: str
    path: Path
    kind: Kind
    content: dict[str, Any]
    gui: Workflow | None
    files: Mapping[str, Path]
    row: int | None
    changes: Changes
    seed: int | None
    repeat: int | None = None

    def named(self, drawn: int | None) -> str:
        """The name of its outputs, once it is known which seed was drawn, if one was."""
        seed = "" if drawn is None else str(drawn)
        return self.name.replace(SEED_TO_COME, seed) or self.key[:KEY_SHOWN]


@dataclass(frozen=True)
class Wanted:
    """What the command line asks of every file."""

    changes: Changes
    rows: Sequence[Changes]
    seed: Seed
    name: str
    repeats: int = 1

    def of_rows(self) -> Iterator[Asked]:
        """What is asked of each run of a file."""
        none: list[tuple[int | None, Changes]] = [(None, {})]
        for number, row in [*enumerate(self.rows, 1)] or none:
            for repeat in range(1, self.repeats + 1):
                which = repeat if self.repeats > 1 else None
                yield Asked(number, which, {**self.changes, **row})


@dataclass(frozen=True)
class Asked:
    """A run of a file: the row, from 1, which of its repeats it is, and all its changes."""

    row: int | None
    repeat: int | None
    changes: dict[str, Any]


@dataclass(frozen=True)
class Same:
    """A file, in its row, that does what the run of this key does."""

    path: Path
    row: int | None
    key: str


@dataclass(frozen=True)
class Planned:
    """The runs, none of them twice; what does the same as one of them; what cannot be run."""

    runs: list[Run]
    same: list[Same]
    problems: list[Problem]


def plan_runs(
    sources: Sequence[Source], wanted: Wanted, schemas: Schemas, *, remote: bool
) -> Planned:
    """What is to be run, and what is not.

    Args:
        schemas: of the nodes of the workflows.
        remote: the runs go to an endpoint, whose nodes are not known.
    """
    runs: dict[str, Run] = {}
    same: list[Same] = []
    problems: list[Problem] = []
    for source in sources:
        for asked in wanted.of_rows():
            try:
                run = _make_run(source, asked, wanted, schemas, remote=remote)
            except (BadInput, ConvertError, JobError) as error:
                problems.append(Problem(source.path, str(error), asked.row))
            else:
                if run.key in runs:
                    same.append(Same(source.path, asked.row, run.key))
                runs.setdefault(run.key, run)
    return Planned(list(runs.values()), same, list(dict.fromkeys(problems)))


def by_cause(problems: Sequence[Problem]) -> list[str]:
    """A line for each cause, with the first file that has it and how many more do."""
    causes: dict[str, list[str]] = {}
    for each in problems:
        at = f"{each.path}, row {each.row}" if each.row else str(each.path)
        causes.setdefault(each.why, []).append(at)
    more = {why: f" and {len(at) - 1} more" if len(at) > 1 else "" for why, at in causes.items()}
    return [f"{at[0]}{more[why]}: {why}" for why, at in causes.items()]


def with_own_names(runs: Sequence[Run], taken: Mapping[str, str]) -> list[Run]:
    """The runs; those of one name, or of one that another run has `taken`, get the key added."""
    counts = Counter(run.name.lower() for run in runs)
    return [
        replace(run, name=f"{run.name}-{run.key[:KEY_SHOWN]}")
        if counts[run.name.lower()] > 1 or taken.get(run.name, run.key) != run.key
        else run
        for run in runs
    ]


def _make_run(
    source: Source, asked: Asked, wanted: Wanted, schemas: Schemas, *, remote: bool
) -> Run:
    def draw(key: str) -> int | None:
        return _seed(wanted.seed, key, asked)

    make = _workflow_run if source.kind == "workflow" else _request_run
    run = make(source, asked.changes, draw, schemas, remote=remote)
    name = _name(wanted.name, run, asked.row)
    return replace(run, row=asked.row, repeat=asked.repeat, name=name)


def _workflow_run(
    source: Source,
    changes: Changes,
    draw: Callable[[str], int | None],
    schemas: Schemas,
    *,
    remote: bool,
) -> Run:
    if not remote and (lacks := lacking(classes_in(source.content, schemas), schemas)):
        raise BadInput(lacks)
    before = _graph_in(source.content, schemas)
    graph = change_graph(before, changes, schemas)
    files = dict(local_files(graph, source.path.parent))
    # The seed after all other changes: a random one follows from what the run is without it.
    if (seed := draw(_graph_key(graph, files))) is not None:
        graph = set_seeds(graph, seed)
    return _run(
        source,
        _graph_key(graph, files),
        graph,
        changes=changes,
        seed=seed_of(graph),
        gui=_gui_of(source.content, before, graph, schemas),
        files=files,
    )


def _graph_in(content: Workflow | Graph, schemas: Schemas) -> Graph:
    """The graph of a file, with the values that its nodes get; raises ConvertError."""
    graph = to_api(content, schemas) if is_gui(content) else content
    return with_converted_values(graph, schemas)


def _gui_of(content: Workflow, before: Graph, graph: Graph, schemas: Schemas) -> Workflow | None:
    """The GUI file with what was changed in its graph; None where there is no file like that.

    ComfyUI writes it into the outputs, so that the GUI opens them as what made them.
    """
    if not is_gui(content):
        return None
    slots: dict[str, dict[str, Any]] = {}
    for key, entry in graph.items():
        old = before[key]["inputs"]
        new = {n: value for n, value in entry["inputs"].items() if old.get(n) != value}
        if new:
            slots[title_in(graph, key)] = new
    try:
        changed = fill(content, slots, schemas) if slots else content
        return changed if _graph_in(changed, schemas) == graph else None
    except (ConvertError, JobError):
        return None


def _request_run(
    source: Source,
    changes: Changes,
    draw: Callable[[str], int | None],
    schemas: Schemas,
    *,
    remote: bool,
) -> Run:
    changed = change_request(source.content, changes)
    folder = source.path.parent
    fields = {name: as_urls(name, value, folder) for name, value in changed.items()}
    if not is_workflow_job(fields):
        parse_request(fields, local_files=True)
        if (seed := draw(_request_key(fields))) is not None:
            fields["seed"] = seed
    elif not remote:
        raise BadInput("is a workflow job for an endpoint: give its workflow as a file of its own")
    asked = fields.get("seed")
    known = asked if isinstance(asked, int) and asked > 0 else None  # else the worker draws one
    return _run(source, _request_key(fields), fields, changes=changes, seed=known)


def _run(
    source: Source,
    key: str,
    content: dict[str, Any],
    *,
    changes: Changes,
    seed: int | None,
    gui: Workflow | None = None,
    files: Mapping[str, Path] | None = None,
) -> Run:
    """The run without its row and its name, which `_make_run` adds."""
    return Run(
        key=key,
        name="",
        path=source.path,
        kind=source.kind,
        content=content,
        gui=gui,
        files=files or {},
        row=None,
        changes=dict(changes),
        seed=seed,
    )


def _seed(wanted: Seed, key: str, asked: Asked) -> int | None:
    """The seed to set; a random one follows from content and row, so that a restart knows it."""
    if wanted == "keep":
        return None
    if isinstance(wanted, int):
        return wanted
    drawn_from = f"{key} {asked.row}" + (f" {asked.repeat}" if (asked.repeat or 1) > 1 else "")
    return int(hashlib.sha256(drawn_from.encode()).hexdigest(), 16) % MAX_SEED + 1


def _name(pattern: str, run: Run, row: int | None) -> str:
    # A NUL is in no file's name, and so in nothing else that fills the pattern.
    to_come = "\0" if run.kind == "request" and not is_workflow_job(run.content) else ""
    seed = to_come if run.seed is None else run.seed
    known = {"stem": run.path.stem, "seed": seed, "row": row, "key": run.key[:KEY_SHOWN]}
    filled = {name: "" if value is None else value for name, value in known.items()}
    name = pattern.format(**filled)
    safe = re.sub(r"[^\w.=+ \0-]", "_", name).strip(" .-")[:MAX_NAME]
    return safe.replace("\0", SEED_TO_COME) or run.key[:KEY_SHOWN]


def check_name(pattern: str) -> None:
    """Whether names can be made of it.

    Raises:
        BadInput: it has a field that there is not.
    """
    known = ("stem", "seed", "row", "key")
    try:
        pattern.format(**dict.fromkeys(known, ""))
    except (KeyError, IndexError, ValueError, AttributeError):
        names = ", ".join(f"{{{name}}}" for name in known)
        raise BadInput(f"--name {pattern}: known are {names}") from None


# ---- Keys


def _graph_key(graph: Graph, files: Mapping[str, Path]) -> str:
    """Titles and the names of local files count for nothing, the files' bytes do."""
    sums = {name: {"sha256": sha256_of_input(path)} for name, path in files.items()}
    return hash_of(
        {
            key: [
                entry["class_type"],
                {
                    n: sums.get(v, v) if isinstance(v, str) else v
                    for n, v in entry["inputs"].items()
                },
            ]
            for key, entry in graph.items()
        }
    )


def _request_key(fields: Mapping[str, Any]) -> str:
    return hash_of(with_files(fields, lambda path: {"sha256": sha256_of_input(path)}))


def sha256_of_input(path: Path) -> str:
    """The SHA-256 of a local file that a run takes, as hex digits.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        return sha256_of(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None


def local_files(graph: Graph, folder: Path) -> Iterator[tuple[str, Path]]:
    """The files that loaders name and that lie in the workflow's folder, never outside of it."""
    for entry in graph.values():
        value = entry["inputs"].get(UPLOADS.get(entry["class_type"], ""))
        if not isinstance(value, str) or ELSEWHERE.search(value):
            continue
        path = folder / ANNOTATION.sub("", value)
        if _is_file(path) and path.resolve().is_relative_to(folder.resolve()):
            yield value, path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long for any file
        return False
