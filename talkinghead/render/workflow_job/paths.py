"""What a graph may open, and where: only the job's own files, in folders of ours. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from talkinghead.workflow.check import Misfit
from talkinghead.workflow.file_inputs import ELSEWHERE, FILE_INPUTS
from talkinghead.workflow.graph import Graph, node_label
from talkinghead.workflow.nearest import nearest
from talkinghead.workflow.schemas import InputSpec, Schemas, inputs_of

# Texts that a node may open, by the name of the input. Prompts are not among them.
PATH_NAMES = re.compile(
    r"(^|[_.])(image|video|audio|file|filename|path|dir|directory|folder|url|uri)s?(_|\d|$)", re.I
)
PREFIX = "filename_prefix"
NEAREST_THERE = "; the nearest there is {!r}"


def path_problems(graph: Graph, schemas: Schemas, files: Mapping[str, str]) -> Iterator[Misfit]:
    """Where a node would open what is not in `files`, or what a link may say."""
    for key, entry in graph.items():
        kind, inputs = entry["class_type"], entry["inputs"]
        label = node_label(entry["_meta"]["title"], kind, key)
        for target in inputs_of(schemas[kind], inputs):
            for message in _faults(kind, target, inputs.get(target.name), files):
                yield Misfit(label, target.name, message)


def _faults(kind: str, target: InputSpec, value: object, files: Mapping[str, str]) -> Iterator[str]:
    opens = _opens_file(kind, target)
    if isinstance(value, list):
        if target.is_widget and (opens or target.name == PREFIX):
            yield "is fed by a link, which may say anything: write its value into the node itself"
        return
    for text in texts_in(value):
        if not text or text in _own_values(target):
            continue
        if "vhs_path_extensions" in target.options:
            yield (
                "takes a path on ComfyUI's disk, which no job may give: take a node that loads "
                "from the input folder, such as VHS_LoadVideo"
            )
        elif opens and text not in files:
            yield f"names {text!r}, which is not in files{nearest(text, files, NEAREST_THERE)}"
        elif not opens and not target.options.get("multiline") and ELSEWHERE.search(text):
            yield f"is {text!r}: a job may give no URL, absolute path, or one with .. in it"


def _opens_file(kind: str, target: InputSpec) -> bool:
    """Whether the node opens the file or folder that this input names."""
    if FILE_INPUTS.get(kind) == target.name or "vhs_path_extensions" in target.options:
        return True
    if target.is_upload:
        return True
    # A socket may take a value all the same: one of any type, say.
    is_text = (target.type == "STRING" or not target.is_widget) and target.name != PREFIX
    return is_text and bool(PATH_NAMES.search(target.name))


def _own_values(target: InputSpec) -> Sequence[object]:
    """What the node's author, or the server's disk, put there.

    Not the choices of an upload: these are files of other jobs in ComfyUI's input folder.
    """
    if target.type == "STRING":
        return [target.options.get("default")]
    return [] if target.is_upload else target.choices


def texts_in(value: object) -> Iterator[str]:
    """All texts in an input's value, or in all inputs of a node, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from texts_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts_in(each)


def set_paths(graph: Graph, uploaded: Mapping[str, str], subfolder: str) -> Graph:
    """The graph with our names of the files, and all that it saves in the job's own folder.

    Args:
        uploaded: the caller's name of a file -> where it lies in ComfyUI's input folder.
        subfolder: of ComfyUI's output folder; the job's.
    """
    return {
        key: {
            **entry,
            "inputs": {
                name: _prefixed(value, subfolder)
                if name == PREFIX and isinstance(value, str)
                else _renamed(value, uploaded)
                for name, value in entry["inputs"].items()
            },
        }
        for key, entry in graph.items()
    }


def _prefixed(prefix: str, subfolder: str) -> str:
    return f"{subfolder}/{prefix or 'output'}"


def _renamed(value: object, uploaded: Mapping[str, str]) -> object:
    if isinstance(value, str):
        return uploaded.get(value, value)
    if isinstance(value, Mapping):
        return {
            key: [_renamed(item, uploaded) for item in each]
            if isinstance(each, list)
            else _renamed(each, uploaded)
            for key, each in value.items()
        }
    return value  # a list is a link: a node's id in it may be the name of a file
