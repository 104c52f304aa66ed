"""All that a workflow made: brought here, and described in the job's result."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from comfy_client import ComfyClient, OutputFile
from talkinghead.delivery.place import Item
from talkinghead.errors import ResultTooLarge
from talkinghead.files import sha256_of
from talkinghead.render.workflow_job.content_types import content_type, kind_of
from talkinghead.render.workflow_job.graph import title_in
from talkinghead.workflow.graph import Graph


@dataclass(frozen=True)
class MadeFile:
    """A file that a node made; `node` is its title."""

    node: str
    item: Item


@dataclass(frozen=True)
class Outputs:
    """All that a workflow made. `texts` are titles and what these nodes say."""

    files: Sequence[MadeFile]
    texts: Sequence[tuple[str, str]]


def collect_files(
    reported: Sequence[OutputFile],
    graph: Graph,
    folder: Path,
    client: ComfyClient,
    check: Callable[[], None],
) -> list[MadeFile]:
    """Bring the files here, each under a name of its own. What `check` raises ends it."""
    folder.mkdir(exist_ok=True)  # of a first try, whose ComfyUI died
    made: dict[str, MadeFile] = {}
    for file in dict.fromkeys(reported):
        name = _free_name(PurePosixPath(file.filename).name, made)
        path = folder / name
        client.download(file, path, watch=check)
        made[name] = MadeFile(title_in(graph, file.node_id), Item(path, content_type(name)))
    return list(made.values())


def _free_name(name: str, taken: Container[str]) -> str:
    """The name, with the first number before it that makes it another than all before."""
    numbered = (f"{number}-{name}" for number in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if each not in taken)


def describe(
    outputs: Outputs, places: Sequence[Mapping[str, Any]], max_mb: float
) -> list[dict[str, Any]]:
    """What the result says of all that was made.

    Args:
        places: where each file was delivered, in the order of `outputs.files`.
        max_mb: of all of it as JSON, in 10^6 bytes.

    Raises:
        ResultTooLarge: its texts do not fit into a result.
    """
    files = [
        {"node": each.node, "kind": _kind(each.item), **place, **_facts_of(each.item.path)}
        for each, place in zip(outputs.files, places, strict=True)
    ]
    texts = [{"node": node, "kind": "text", "text": text} for node, text in outputs.texts]
    described = [*files, *texts]
    size_mb = len(json.dumps(described)) / 1e6
    if size_mb > max_mb:
        raise ResultTooLarge(
            f"the outputs make a result of {size_mb:.1f} MB, allowed: {max_mb:g} MB; save long "
            "texts as files, and deliver files to S3"
        )
    return described


def _kind(item: Item) -> str:
    kind = kind_of(item.path.name)
    return "file" if kind == "application" else kind


def _facts_of(path: Path) -> dict[str, Any]:
    return {"filename": path.name, "sha256": sha256_of(path), "size": path.stat().st_size}
