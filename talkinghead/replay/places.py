"""Where runs are done: what every such place can do, and how it says that it did not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from talkinghead.replay.runs import Run

Seen = Callable[[float, str], None]  # fraction, 0 to 1, and what is done

# Codes of the errors that come again however often a run is tried.
FINAL_CODES = frozenset(
    {
        "invalid_request",
        "unsupported_combination",
        "url_blocked",
        "media_invalid",
        "media_too_large",
        "result_too_large",
    }
)
# Codes of the errors that another server need not have.
PLACE_CODES = frozenset({"models_missing", "workflow_rejected"})


class Away(Exception):
    """The place does not answer: the run is to be done elsewhere, or later."""


class Refused(Exception):
    """The place cannot do this run; another may."""


class Failed(Exception):
    """The run failed. `again`: another try may end better."""

    def __init__(self, message: str, *, again: bool) -> None:
        super().__init__(message)
        self.again = again


class Stopped(Exception):
    """The replay is being stopped."""


@dataclass(frozen=True)
class RunResult:
    """What is said of a run that succeeded: its seed, if drawn there, and seconds by stage.

    `paid_seconds` are those of the worker, where they are told apart from the wait; `warnings` are
    the worker's.
    """

    seed: int | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    paid_seconds: float | None = None
    warnings: Sequence[str] = ()


class Place(Protocol):
    """Somewhere to do runs, `width` of them at a time; each from a thread of its own."""

    name: str
    width: int

    def connect(self) -> None:
        """Ask whether the place is there; called before the first run, and after it was away.

        Raises:
            Away: it does not answer.
            Failed: it answers, and will do no run.
            Stopped
        """

    def run(self, run: Run, folder: Path, seen: Seen, stop: threading.Event) -> RunResult:
        """Do a run; its outputs are left in the empty `folder`.

        Args:
            seen: is told how far the run is.
            stop: once it is set, the run is to be ended soon, by `Stopped`.

        Raises:
            Away, Refused, Failed, Stopped
        """


def error_of(message: str, code: str | None) -> Exception:
    """The worker's account of a failed job, its message and error code, as Refused or Failed."""
    if code in PLACE_CODES:
        return Refused(message)
    return Failed(message, again=code not in FINAL_CODES)


def read_result(result: Mapping[str, Any]) -> RunResult:
    """What the worker's result says of the run.

    Raises:
        Failed: the job ended well, and made no video.
    """
    match result.get("status"):
        case "estimated":
            raise Failed("dry_run is true, and renders nothing: set it to false", again=False)
        case "incomplete":
            done, all_ = result.get("windows_done"), result.get("windows")
            message = f"{done} of {all_} windows are rendered: the next try goes on after them"
            raise Failed(message, again=True)
    params, timings = result.get("generation_params"), result.get("timings")
    seed = params.get("seed") if isinstance(params, dict) else None
    warnings = result.get("warnings")
    return RunResult(
        seed if isinstance(seed, int) else None,
        timings if isinstance(timings, dict) else {},
        warnings=[str(each) for each in warnings] if isinstance(warnings, list) else [],
    )
