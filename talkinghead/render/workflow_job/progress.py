"""How far a graph of any kind is."""

from __future__ import annotations

from comfy_client import Event
from talkinghead.render.progress import Progress
from talkinghead.render.workflow_job.graph import title_in
from talkinghead.workflow.graph import Graph


class NodeProgress:
    """ComfyUI's events about any graph as progress of the stage "render": each node counts one."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._done: set[str] = set()
        self._current = ""

    def see(self, event: Event) -> Progress | None:
        """What the event says of the run; None if nothing."""
        if event.type == "execution_cached":
            self._done |= set(map(str, event.data.get("nodes") or ())) & set(self._graph)
            return None
        node = str(event.data.get("node"))
        if node not in self._graph or event.type not in ("executing", "progress"):
            return None
        if node != self._current:
            # ComfyUI does not say that a node is done, only which one it begins after it.
            self._done |= {self._current} & set(self._graph)
            self._current = node
        part = event.data["value"] / event.data["max"] if event.data.get("max") else 0.0
        done = len(self._done - {node})
        return Progress("render", title_in(self._graph, node), (done + part) / len(self._graph))
