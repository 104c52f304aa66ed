"""API graphs checked against node schemas: what ComfyUI would refuse. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from talkinghead.errors import JobError, ModelsMissing, WorkflowRejected
from talkinghead.workflow.file_inputs import MODEL_SUFFIXES, UNFLAGGED_UPLOADS
from talkinghead.workflow.graph import Graph, label_in
from talkinghead.workflow.nearest import NEAREST, nearest
from talkinghead.workflow.packs import where_from
from talkinghead.workflow.schemas import (
    DYNAMIC_COMBO,
    InputSpec,
    Schemas,
    can_link,
    inputs_of,
    output_types,
)
from talkinghead.workflow.values import CONVERSIONS, WRAPPER, converted


@dataclass(frozen=True)
class Misfit:
    """What does not fit at one input of one node; `missing_file` is a model that is not there.

    `node` is its label. `input` is "-" where the node as a whole does not fit.
    """

    node: str
    input: str
    message: str
    missing_file: str | None = None

    def __str__(self) -> str:
        place = self.node if self.input == "-" else f"{self.node}, input {self.input}"
        return f"{place}: {self.message}"


def rejection(misfits: Sequence[Misfit]) -> JobError:
    """The error that a job with these misfits ends in: ModelsMissing if all are missing models."""
    missing = sorted({each.missing_file for each in misfits if each.missing_file})
    if missing and all(each.missing_file for each in misfits):
        return ModelsMissing(f"Required models are missing: {', '.join(missing)}", files=missing)
    text = "; ".join(map(str, misfits))
    return WorkflowRejected(f"the workflow does not fit this ComfyUI: {text}")


def check(graph: Graph, schemas: Schemas) -> list[Misfit]:
    """Everything in the graph that ComfyUI would refuse, as far as the schemas tell."""
    return [misfit for key in graph for misfit in _check_node(graph, key, schemas)]


def _check_node(graph: Graph, key: str, schemas: Schemas) -> Iterator[Misfit]:
    entry, name = graph[key], label_in(graph, key)
    schema = schemas.get(entry["class_type"])
    if schema is None:
        yield Misfit(name, "-", unknown_class(entry["class_type"], schemas))
        return
    known = {each.name: each for each in inputs_of(schema, entry["inputs"])}
    for each in known.values():
        if each.name not in entry["inputs"] and not each.optional and not each.from_format:
            yield Misfit(name, each.name, "is required, and missing")
    for input_name, value in entry["inputs"].items():
        if isinstance(value, list):
            if input_name in known:
                yield from _check_link(graph, name, known[input_name], value, schemas)
            else:  # ComfyUI hands over what it brings, and most nodes then fail
                hint = nearest(input_name, known, NEAREST)
                yield Misfit(name, input_name, f"is not an input of {entry['class_type']}{hint}")
        elif input_name not in known:
            continue  # ComfyUI leaves it out: `remarks` says so
        elif (entry["class_type"], input_name) not in UNFLAGGED_UPLOADS:
            yield from _check_value(name, known[input_name], value)


def unknown_class(
    class_type: str, schemas: Schemas, properties: Mapping[str, Any] | None = None
) -> str:
    """The message for a node class that is not in the schemas; `properties` are a GUI node's."""
    hint = where_from(class_type, schemas, properties) or nearest(class_type, schemas, NEAREST)
    return f"this ComfyUI has no node class {class_type}{hint}"


def _check_link(
    graph: Graph, name: str, target: InputSpec, link: list[Any], schemas: Schemas
) -> Iterator[Misfit]:
    is_link = len(link) == 2 and isinstance(link[0], str) and isinstance(link[1], int)
    source = graph.get(link[0]) if is_link else None
    if source is None:
        yield Misfit(name, target.name, f"is linked to {link}, which is not there")
        return
    schema = schemas.get(source["class_type"])
    types = output_types(schema) if schema else []
    if schema and not 0 <= link[1] < len(types):
        yield Misfit(name, target.name, f"is linked to output {link[1]}, which is not there")
    elif schema and not can_link(types[link[1]], target.type):
        yield Misfit(name, target.name, f"takes {target.type}, got {types[link[1]]}")


def _check_value(name: str, target: InputSpec, value: object) -> Iterator[Misfit]:
    try:
        made = converted(target, value)
    except ValueError as error:
        yield Misfit(name, target.name, f"takes {target.type}, got {value!r}: {error}")
        return
    if target.type in ("COMBO", DYNAMIC_COMBO):
        yield from _check_choice(name, target, made)
    elif target.from_format:
        yield from _check_format_value(name, target, made)
    elif isinstance(made, int | float) and target.type in ("INT", "FLOAT"):
        yield from _check_range(name, target, made, value)
    elif not target.is_widget and not _takes_constant(target, made):
        yield Misfit(name, target.name, f"takes a link from a {target.type}, got {value!r}")


def _takes_constant(target: InputSpec, value: object) -> bool:
    """Whether a node can be expected to do something with a value where the GUI has a socket."""
    return (value is None and target.optional) or bool(
        {"*", "", *CONVERSIONS} & set(target.type.split(","))
    )


def _check_format_value(name: str, target: InputSpec, value: object) -> Iterator[Misfit]:
    """VHS writes these into ffmpeg's arguments as they are."""
    if target.type in ("INT", "FLOAT"):
        try:
            number = float(str(value))
        except ValueError:
            yield Misfit(name, target.name, f"takes {target.type}, got {value!r}")
        else:
            yield from _check_range(name, target, number, value)


def _check_range(name: str, target: InputSpec, number: float, given: object) -> Iterator[Misfit]:
    low, high = target.options.get("min"), target.options.get("max")
    # So, and not by what it is below or above: NaN is neither.
    if not ((low is None or low <= number) and (high is None or number <= high)):
        yield Misfit(name, target.name, f"is {given}, allowed: {low} to {high}")


def _check_choice(name: str, target: InputSpec, value: object) -> Iterator[Misfit]:
    choices = target.choices
    # Files of the input folder are checked by the node itself; an empty list in a recorded schema
    # is one of files that were not recorded.
    if target.is_upload or not choices:
        return
    several = value.get(WRAPPER) if isinstance(value, Mapping) else None
    chosen = several if isinstance(several, list) and target.options.get("multiselect") else [value]
    for each in chosen:
        if each not in choices:
            is_model = isinstance(each, str) and each.endswith(MODEL_SUFFIXES)
            shown = ", ".join(map(str, choices[:20])) + (", ..." if len(choices) > 20 else "")
            message = f"is {each!r}, allowed: {shown}"
            yield Misfit(name, target.name, message, str(each) if is_model else None)
