"""What this worker's failures tell of it: whether ComfyUI is to be replaced, or the worker."""

from __future__ import annotations

import random

from talkinghead.errors import ComfyUIKilled, ComfyUIUnavailable, GpuFailed, RenderStalled
from talkinghead.workflow.graph import Graph

# What is not the input's fault: the next job gets another ComfyUI.
SICK = (ComfyUIUnavailable, ComfyUIKilled, GpuFailed, RenderStalled)
FAILURES_IN_A_ROW = 3  # of one worker, whatever the jobs: then RunPod shall replace it


def one_operation() -> Graph:
    """A graph of ComfyUI's own nodes that computes a little on the device, and loads nothing."""
    colour = random.randrange(1 << 24)  # nothing comes from ComfyUI's cache
    size = {"width": 64, "height": 64, "batch_size": 1, "color": colour}
    blur = {"image": ["1", 0], "blur_radius": 1, "sigma": 1.0}
    return {
        "1": {"class_type": "EmptyImage", "inputs": size},
        "2": {"class_type": "ImageBlur", "inputs": blur},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
    }


class Health:
    """The failures since a render last went well, none of which was the input's fault."""

    def __init__(self) -> None:
        self._failures: list[str] = []

    def is_sick(self, error: BaseException) -> bool:
        """Whether ComfyUI is to be replaced, after what a job ended in; taken note of if so."""
        if isinstance(error, SICK):
            self._failures.append(str(error).partition("\n")[0])
        return isinstance(error, SICK)

    def computed(self) -> None:
        """A prompt went well: it is none of this worker's habits to fail."""
        self._failures.clear()

    @property
    def is_lost(self) -> bool:
        """Whether so many failed that the next one will, too."""
        return len(self._failures) >= FAILURES_IN_A_ROW

    def __str__(self) -> str:
        return (
            f"{len(self._failures)} renders in a row failed here, and not for what was asked; "
            f"the last: {self._failures[-1]}"
            if self._failures
            else "no render has failed here since one went well"
        )
