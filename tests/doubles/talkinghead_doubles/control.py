"""Failing on demand: what the JSON file named by DOUBLES_CONTROL asks of a node class."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypedDict, cast

import comfy.model_management

HELD_SECONDS = 3600.0  # far beyond any test's patience, yet a forgotten process ends
LOOK_SECONDS = 0.05  # between two looks whether a held node may go on
OOM_MESSAGE = (
    "CUDA out of memory. Tried to allocate 2.36 GiB. GPU 0 has a total capacity of 23.64 GiB "
    "of which 1.12 GiB is free. Of the allocated memory 21.30 GiB is allocated by PyTorch."
)


class Fault(TypedDict, total=False):
    """One class's entry in the control file."""

    action: str
    times: int
    at_step: int
    message: str
    mb: int
    after: int


_leaked: list[bytearray] = []


def step_seconds() -> float:
    """Seconds one sampler step takes."""
    return float(cast(float, _read().get("step_seconds", 0.0)))


def is_black(means: object) -> bool:
    """Whether what is computed with this attention, or precision, comes out black."""
    return means in cast(list[object], _read().get("black_with", []))


def tell_seed(seed: int) -> None:
    """Write the sampler's seed into the file that the control file names, if it names one."""
    if path := _read().get("seeds_log"):
        with Path(str(path)).open("a", encoding="utf-8") as file:
            file.write(f"{seed}\n")


def on_a_full_disk(path: Path, class_type: str) -> None:
    """Make the file one that the kernel has no room for, if the control file asks for it."""
    if cast(Fault, _read().get(class_type, {})).get("action") == "full":
        path.symlink_to("/dev/full")


def trip(class_type: str, step: int | None = None) -> None:
    """Fail as the control file asks.

    `step` counts what the node's progress counts, from 0; None is the start of the execution,
    where faults without `at_step` happen.
    """
    control = _read()
    fault = cast(Fault, control.get(class_type, {}))
    if (
        not fault
        or fault["action"] == "full"
        or fault.get("at_step") != step
        or fault.get("times") == 0
    ):
        return
    # Written before the fault happens: after "exit" nobody is left to write it.
    if fault.get("after"):
        fault["after"] -= 1
        _write(control)
        return
    if "times" in fault:
        fault["times"] -= 1
        _write(control)
    _fail(class_type, fault)


def _fail(class_type: str, fault: Fault) -> None:
    message = fault.get("message")
    match fault["action"]:
        case "raise":
            raise RuntimeError(message or f"{class_type} fails because the test asked for it")
        case "oom":
            _raise_oom(message or OOM_MESSAGE)
        case "hold":
            _hold(class_type, comfy.model_management.throw_exception_if_processing_interrupted)
        case "hang":
            _hold(class_type, lambda: None)
        case "leak":
            _leaked.append(bytearray(b"x") * (fault["mb"] * 1_000_000))
        case "exit":
            os._exit(1)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case action:
            raise ValueError(f"unknown action {action!r} for {class_type} in DOUBLES_CONTROL")


def _hold(class_type: str, hear: Callable[[], None]) -> None:
    """Return when the control file no longer names the class; `hear` may end it before."""
    until = time.monotonic() + HELD_SECONDS
    while class_type in _read() and time.monotonic() < until:
        hear()
        time.sleep(LOOK_SECONDS)


def _raise_oom(message: str) -> NoReturn:
    raise comfy.model_management.OOM_EXCEPTION(message)


def _read() -> dict[str, object]:
    path = os.environ.get("DOUBLES_CONTROL")
    if not path or not Path(path).exists():
        return {}
    return cast(dict[str, object], json.loads(Path(path).read_text(encoding="utf-8")))


def _write(control: dict[str, object]) -> None:
    path = Path(os.environ["DOUBLES_CONTROL"])
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(control), encoding="utf-8")
    fresh.replace(path)
