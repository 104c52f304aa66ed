"""What is seen of a job while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from comfy_client import Event
from talkinghead.convert import Graph


@dataclass(frozen=True)
class Progress:
    """`fraction` of the `stage`, 0 to 1; None where it is not known. `message` is for people."""

    stage: str
    message: str
    fraction: float | None = None


Report = Callable[[Progress], None]


def render_progress(event: Event, graph: Graph) -> Progress | None:
    """What an event of ComfyUI says of the render.

    Several nodes count something; the title tells which (the loader counts tensors, the sampler
    windows x steps, the video node frames).
    """
    entry = graph.get(str(event.data.get("node")), {})
    title = entry.get("_meta", {}).get("title")
    if title is None:
        return None
    if event.type == "executing":
        return Progress("render", title)
    if event.type == "progress" and event.data.get("max"):
        return Progress("render", title, event.data["value"] / event.data["max"])
    return None
