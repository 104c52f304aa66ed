"""API graphs: what ``POST /prompt`` takes, node id -> class_type, inputs and ``_meta``. Pure."""

import json
from collections.abc import Mapping
from typing import Any, TypeAlias, TypeGuard

from talkinghead.workflow.file_inputs import MODEL_SUFFIXES
from talkinghead.workflow.node_classes import KEEP_WEIGHTS, SAMPLER
from talkinghead.workflow.schemas import Schemas, output_types

Graph: TypeAlias = dict[str, dict[str, Any]]

# What a loader gives, and ComfyUI shall keep between jobs.
MODEL_TYPES = frozenset({"WANVIDEOMODEL", "WANVAE", "CLIP_VISION", "WAV2VECMODEL", "CLIP"})
# Loads nothing: run after a job without models, so that ComfyUI drops what the job's nodes gave.
NOTHING: Graph = {
    "1": {"class_type": "PrimitiveInt", "inputs": {"value": 0}},
    "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
}


def is_api(workflow: object) -> TypeGuard[Graph]:
    """Whether this parsed JSON is an API graph: every entry has a class_type and inputs."""
    return (
        isinstance(workflow, dict)
        and bool(workflow)
        and all(
            isinstance(entry, dict)
            and isinstance(entry.get("class_type"), str)
            and isinstance(entry.get("inputs"), dict)
            for entry in workflow.values()
        )
    )


def label_in(graph: Graph, key: str) -> str:
    """How a message names this node of the graph; one without a title goes by its id."""
    return node_label(own_title(graph[key]) or key, graph[key]["class_type"], key)


def own_title(entry: Mapping[str, Any]) -> str:
    """The title that the graph has for a node; empty where it has none, or something else."""
    meta = entry.get("_meta")
    title = meta.get("title") if isinstance(meta, Mapping) else None
    return title if isinstance(title, str) else ""


def node_label(title: str, class_type: str, key: object) -> str:
    """How a message names a node."""
    return f"{title} ({class_type}, node {key})"


def model_files(graph: Graph) -> dict[str, str]:
    """The model files that the graph loads, by the title of the node that loads each."""
    return {
        entry["_meta"]["title"]: value
        for entry in graph.values()
        for value in entry["inputs"].values()
        if isinstance(value, str) and value.endswith(MODEL_SUFFIXES)
    }


def loaders_only(graph: Graph, schemas: Schemas) -> Graph:
    """The part of the graph that loads models; empty for one without models.

    ComfyUI keeps what the last prompt's nodes gave: running this after a job drops the job's frames
    from memory, and keeps the models.
    """
    models = {
        key
        for key, entry in graph.items()
        if MODEL_TYPES & set(output_types(schemas[entry["class_type"]]))
    }
    inner = {source for key in models for source in sources(graph[key])}
    kept: Graph = {}
    waiting = sorted(models)
    while waiting:
        key = waiting.pop()
        kept[key] = graph[key]
        waiting += sources(graph[key]) - set(kept)
    for key in sorted(models - inner):
        kept[f"{key}_kept"] = {"class_type": "PreviewAny", "inputs": {"source": [key, 0]}}
    return kept


def beside(graph: Graph, other: Graph) -> Graph:
    """The graph with all nodes of another one beside it, whose ids are none of its own."""
    ids = {key: f"beside-{key}" for key in other}
    moved: Graph = {}
    for key, entry in other.items():
        inputs = {
            name: [ids[str(value[0])], value[1]] if isinstance(value, list) else value
            for name, value in entry["inputs"].items()
        }
        moved[ids[key]] = {**entry, "inputs": inputs}
    return {**graph, **moved}


def keeping_weights(graph: Graph, schemas: Schemas) -> Graph:
    """The graph with a node of ours before each sampler, on a ComfyUI that has it.

    It has the sampler leave weights where they are that the prompt before left on the GPU.
    """
    kept = dict(graph)
    if KEEP_WEIGHTS not in schemas:
        return kept
    for key, entry in graph.items():
        if entry["class_type"] == SAMPLER:
            before = {"class_type": KEEP_WEIGHTS, "inputs": {"model": entry["inputs"]["model"]}}
            kept[f"{key}-weights"] = before
            kept[key] = {**entry, "inputs": {**entry["inputs"], "model": [f"{key}-weights", 0]}}
    return kept


def includes(graph: Graph, other: Graph) -> bool:
    """Whether ComfyUI has what each node of the other gives when it has what those of `graph` do.

    Its cache does not ask for a node's id: only for its class, its inputs and where they are from.
    """
    return _signatures(other) <= _signatures(graph)


def _signatures(graph: Graph) -> set[str]:
    return {_signature(graph, key) for key in graph}


def _signature(graph: Graph, key: str) -> str:
    entry = graph[key]
    inputs = {
        name: [_signature(graph, str(value[0])), value[1]] if isinstance(value, list) else value
        for name, value in entry["inputs"].items()
    }
    return json.dumps([entry["class_type"], inputs], sort_keys=True)


def sources(entry: Mapping[str, Any]) -> set[str]:
    """The ids of the nodes that the links into this one start at."""
    return {
        str(value[0]) for value in entry["inputs"].values() if isinstance(value, list) and value
    }
