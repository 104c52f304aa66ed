"""The caller's workflow as an API graph, and what its nodes are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from talkinghead.errors import WorkflowRejected
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.gui_file import ConvertError, Workflow, is_gui, title_of
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.schemas import Schemas


def read_graph(content: Workflow | Graph, schemas: Schemas) -> Graph:
    """A GUI file or an API graph as a graph whose nodes all have titles.

    Raises:
        WorkflowRejected: a GUI file that cannot be converted.
    """
    try:
        graph = to_api(content, schemas) if is_gui(content) else content
    except ConvertError as error:
        raise WorkflowRejected(f"the workflow does not fit this ComfyUI: {error}") from None
    return {key: _titled(entry, schemas) for key, entry in graph.items()}


def _titled(entry: Mapping[str, Any], schemas: Schemas) -> dict[str, Any]:
    kind, meta = entry["class_type"], entry.get("_meta")
    given = meta.get("title") if isinstance(meta, dict) else None
    title = given if isinstance(given, str) and given else title_of({"type": kind}, schemas)
    return {"class_type": kind, "inputs": entry["inputs"], "_meta": {"title": title}}


def title_in(graph: Graph, key: str) -> str:
    """The title of a node; its class, where the graph has none.

    Of a node that another one made while the graph ran, which is not in it, the id.
    """
    if key not in graph:
        return key
    entry = graph[key]
    return str((entry.get("_meta") or {}).get("title") or entry["class_type"])
