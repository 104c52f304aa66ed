"""The caller's workflow as an API graph, and what its nodes are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from talkinghead.errors import WorkflowRejected
from talkinghead.workflow.graph import Graph, own_title
from talkinghead.workflow.gui_file import ConvertError, Workflow, is_gui, title_of
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.schemas import Schemas
from talkinghead.workflow.taken import remarks, that_runs, with_converted_values, without_unnamed


def read_graph(content: Workflow | Graph, schemas: Schemas) -> tuple[Graph, list[str]]:
    """A GUI file or an API graph as a graph of what runs, all of whose nodes have titles.

    Also what ComfyUI leaves out of it or makes something else of, a sentence each. What no class
    names is left out here: a node that takes it all the same could open it as a file.

    Raises:
        WorkflowRejected: a GUI file that cannot be converted.
    """
    try:
        graph = to_api(content, schemas) if is_gui(content) else content
    except ConvertError as error:
        raise WorkflowRejected(f"the workflow does not fit this ComfyUI: {error}") from None
    graph = {key: _titled(entry, schemas) for key, entry in graph.items()}
    said = [str(each) for each in remarks(graph, schemas)]
    runs = without_unnamed(that_runs(graph, schemas), schemas)
    return with_converted_values(runs, schemas), said


def _titled(entry: Mapping[str, Any], schemas: Schemas) -> dict[str, Any]:
    kind = entry["class_type"]
    title = own_title(entry) or title_of({"type": kind}, schemas)
    return {"class_type": kind, "inputs": entry["inputs"], "_meta": {"title": title}}


def title_in(graph: Graph, key: str) -> str:
    """The title of a node; its class, where the graph has none.

    Of a node that another one made while the graph ran, which is not in it, the id.
    """
    if key not in graph:
        return key
    return own_title(graph[key]) or str(graph[key]["class_type"])
