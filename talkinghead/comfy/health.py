"""What this worker's failures tell of it: whether ComfyUI is to be replaced, or the worker."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

from comfy_client import ComfyClient, Place
from talkinghead.comfy.failures import comfy_errors
from talkinghead.comfy.record import Record
from talkinghead.comfy.stall import StallLimit
from talkinghead.errors import (
    Cancelled,
    ComfyUIKilled,
    ComfyUIUnavailable,
    DeadlineExceeded,
    GpuFailed,
    JobError,
    RenderStalled,
    WorkflowRejected,
)
from talkinghead.workflow.graph import Graph

log = logging.getLogger("talkinghead")

# What is not the input's fault: the next job gets another ComfyUI.
SICK = (ComfyUIUnavailable, ComfyUIKilled, GpuFailed, RenderStalled)
FAILURES_IN_A_ROW = 3  # of one worker, whatever the jobs: then RunPod shall replace it
PROOF_SECONDS = 60.0  # for one operation, on a server that may have to wake its device for it


def computes(
    client: ComfyClient,
    *,
    deadline_seconds: float,
    on_place: Callable[[Place], None],
    watch: Callable[[], None] = lambda: None,
) -> None:
    """Return when ComfyUI has computed something on the device.

    Raises:
        what any prompt raises.
    """
    with comfy_errors():
        done = client.run(
            one_operation(), deadline_seconds=deadline_seconds, on_place=on_place, watch=watch
        )
        client.forget(done.prompt_id)


def prove(client: ComfyClient, check: Callable[[], None], deadline_seconds: float) -> None:
    """Have somebody else's ComfyUI, on which a render failed, show that it computes.

    Other clients' prompts may be first. `check` is called while waiting, and may raise.

    Raises:
        ComfyUIUnavailable: it does not compute.
    """
    limit = StallLimit("one operation")

    def watch() -> None:
        check()
        limit.check(PROOF_SECONDS)

    try:
        computes(client, deadline_seconds=deadline_seconds, on_place=limit.found, watch=watch)
    except (Cancelled, DeadlineExceeded):
        raise
    except WorkflowRejected as error:  # it has not all of ComfyUI's own nodes: so nothing is known
        log.warning("ComfyUI takes no prompt that would show whether it computes: %s", error)
    except JobError as error:
        raise ComfyUIUnavailable(
            f"the ComfyUI at COMFYUI_URL failed before, and does not compute: {error}; "
            "it has to be started again"
        ) from error


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
    """The failures since a render last went well, none of which was the input's fault.

    The record has them, too, for the doctor.
    """

    def __init__(self, record: Record | None = None) -> None:
        self._failures: list[str] = []
        self._record = record or Record()

    def is_sick(self, error: BaseException) -> bool:
        """Whether ComfyUI is to be replaced, after what a job ended in; taken note of if so."""
        if isinstance(error, SICK):
            self._failures.append(str(error).partition("\n")[0])
            self._record.say("health", [str(self)])
        return isinstance(error, SICK)

    def computed(self) -> None:
        """A prompt went well: it is none of this worker's habits to fail."""
        self._failures.clear()
        self._record.say("health", [])
        self._record.is_fit()

    def asked_for_another_worker(self) -> None:
        """Take note that RunPod was asked to replace this worker, for what failed here."""
        self._record.say("health", [f"it asked RunPod to replace it: {self}"])

    @property
    def is_doubtful(self) -> bool:
        """Whether what failed last says that ComfyUI may not compute."""
        return bool(self._failures)

    @property
    def is_lost(self) -> bool:
        """Whether so many failed that the next one will, too."""
        return len(self._failures) >= FAILURES_IN_A_ROW

    def __str__(self) -> str:
        count = len(self._failures)
        what = "a render" if count == 1 else f"{count} renders in a row"
        return (
            f"{what} failed here, and not for what was asked; the last: {self._failures[-1]}"
            if self._failures
            else "no render has failed here since one went well"
        )
