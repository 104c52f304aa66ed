"""The files to replay: found, read, and told apart."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from talkinghead.files import read_json
from talkinghead.plan.fields import url_fields
from talkinghead.plan.json_values import json_fault
from talkinghead.redact import is_data
from talkinghead.workflow.forms import workflow_in

Kind = Literal["workflow", "request"]


class BadInput(Exception):
    """A file or a setting that cannot be used; the message is one line and names it."""


@dataclass(frozen=True)
class Source:
    """One file. `content` is a GUI workflow, an API graph, or the fields of a request."""

    path: Path
    kind: Kind
    content: dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """A file that cannot be run as asked, in the row of a table if there is one, and why."""

    path: Path
    why: str
    row: int | None = None


def read_sources(names: Sequence[str]) -> tuple[list[Source], list[Problem]]:
    """What the arguments name, and what of it cannot be read: all of it, in one pass."""
    sources: dict[Path, Source] = {}
    problems: dict[Problem, None] = {}
    for name in names:
        if not (paths := find_files(name)):
            why = "there is no such file, and no *.json in it if it is a folder"
            problems[Problem(Path(name), why)] = None
        for path in paths:
            try:
                sources.setdefault(path, read_source(path))
            except BadInput as error:
                problems[Problem(path, str(error))] = None
    return list(sources.values()), list(problems)


def find_files(name: str) -> list[Path]:
    """The files that an argument names; of a folder its *.json, of a pattern what it matches."""
    path = Path(name)
    if path.is_dir():
        return sorted(path.glob("*.json"))
    if path.exists():
        return [path]
    root = Path(path.anchor)
    return sorted(root.glob(str(path.relative_to(root))))


def read_source(path: Path) -> Source:
    """The file as a workflow or as a request: a bundle is its request, a job is its input.

    Raises:
        BadInput: it is no JSON object, or none of these.
    """
    try:
        content = read_json(path)
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise BadInput(f"not readable as JSON: {error}") from None
    if (workflow := workflow_in(content)) is not None:
        return Source(path, "workflow", workflow)
    if isinstance(content, dict) and {"format", "request", "graph"} <= content.keys():
        return Source(path, "request", _of_bundle(content))
    fields = content.get("input", content) if isinstance(content, dict) else content
    if not isinstance(fields, dict):
        raise BadInput("neither a workflow, a replay bundle nor a request")
    return Source(path, "request", fields)


def _of_bundle(bundle: dict[str, Any]) -> dict[str, Any]:
    """The request of a bundle, with the seed that was drawn for it."""
    try:
        request = dict(bundle["request"])
        return {**request, "seed": bundle["result"]["generation_params"]["seed"]}
    except (KeyError, TypeError, ValueError):
        raise BadInput("a replay bundle without its request or its seed") from None


def as_urls(name: str, value: object, folder: Path) -> object:
    """A request's field, with the local files in it, relative to `folder`, as file:// URLs.

    What JSON cannot carry is left as it is: whoever reads the request refuses it.
    """
    return value if json_fault(value) else _as_urls(name, value, folder)


def _as_urls(name: str, value: object, folder: Path) -> object:
    if isinstance(value, dict):
        return {key: _as_urls(key, item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_urls(name, item, folder) for item in value]
    is_url = name in url_fields()
    path = value.strip() if is_url and isinstance(value, str) else ""
    is_path = path and not is_data(path) and "://" not in path
    return (folder / path).absolute().as_uri() if is_path else value


def path_of(url: str) -> Path:
    """The file that a file:// URL names."""
    return Path(unquote(urlsplit(url).path))


def files_of(value: object) -> Iterator[Path]:
    """The local files that a request's fields name, as `as_urls` made them."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from files_of(item)
    elif isinstance(value, str) and value.startswith("file://"):
        yield path_of(value)


def with_files(value: object, put: Callable[[Path], object]) -> object:
    """The same value; in the place of each local file, as `as_urls` made it, what `put` gives."""
    if isinstance(value, Mapping):
        return {name: with_files(item, put) for name, item in value.items()}
    if isinstance(value, list):
        return [with_files(item, put) for item in value]
    if isinstance(value, str) and value.startswith("file://"):
        return put(path_of(value))
    return value


def make_writable(folder: Path) -> None:
    """Make the folder, unless it is there, and see that it takes files.

    Raises:
        OSError
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def check_target(target: Path, sources: Iterable[Path]) -> None:
    """Nothing is written over what it is made of, by whatever name, nor where no file can be.

    Raises:
        BadInput: the target is one of the sources, or a folder, or lies in what is none or takes
            no file.
    """
    if target.is_dir():
        raise BadInput(f"{target} is a folder: name the file in it")
    try:
        make_writable(target.parent)
    except OSError as error:
        raise BadInput(f"{target} cannot be written: {error.strerror}") from None
    for source in sources:
        with contextlib.suppress(OSError):  # one of them is not there
            if target.samefile(source):
                raise BadInput(f"{target} would overwrite {source}, of which it is made")
