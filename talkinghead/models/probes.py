"""What the card was found to compute rightly and quicker, by a program for ComfyUI's Python.

A probe takes half a minute, and its answer holds for all hosts with the same card, driver and
packages: it is kept beside the models, which workers may share.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

Subject = Literal["attention", "fp8"]

CALL_SECONDS = 120.0  # importing torch from a cold disk, and compiling kernels
ASK_SECONDS = 15.0
WAN_TOKENS = 32_760  # of a window of 81 frames at 832x480
PROGRAM = Path(__file__).with_name("probe_card.py")
PACKAGES = ("torch", "triton", "sageattention")
VERSIONS = (
    "import importlib.metadata as m, json, sys\n"
    "def v(n):\n try: return m.version(n)\n except m.PackageNotFoundError: return None\n"
    "print(json.dumps([v(n) for n in sys.argv[1:]]))"
)
DRIVER = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")


@dataclass(frozen=True)
class Finding:
    """What a probe found: `error` is relative, `times` how often as quick as PyTorch's plain way.

    `is_there` is false where what it is about is not installed, and no number was found.
    """

    is_there: bool
    error: float
    times: float
    is_good: bool

    def __str__(self) -> str:
        if not self.is_there:
            return "not there"
        taken = "taken" if self.is_good else "not taken"
        return f"{self.times:.2f} times as quick, error {self.error:.3f}: {taken}"


FINDING = TypeAdapter(Finding)


@functools.cache
def probe(
    subject: Subject,
    python: str,
    card: str,
    kept: Path,
    *,
    device: str = "cuda",
    sizes: tuple[int, ...] = (WAN_TOKENS,),
) -> Finding | None:
    """What this probe finds on the card, or found on one like it; None without an answer.

    No answer is not kept: a driver that fails now, or a slow disk, says nothing of the next host.

    Args:
        subject: SageAttention, or products of fp8.
        python: ComfyUI's own.
        card: the GPU's name.
        kept: the folder of what was found.
        sizes: how many tokens, then what else the program takes.
    """
    place = kept / f"{subject}-{_key(python, card, device, sizes)}.json"
    with contextlib.suppress(OSError, ValueError):
        return FINDING.validate_python(json.loads(place.read_text("utf-8")))
    try:
        command = [python, str(PROGRAM), subject, device, *map(str, sizes)]
        found = FINDING.validate_python(json.loads(_said(command, CALL_SECONDS)))
    except ValueError:
        return None
    partial = place.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):  # where it cannot be kept, it is found again
        kept.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(asdict(found)), encoding="utf-8")
        partial.replace(place)
    return found


def _key(python: str, card: str, device: str, sizes: tuple[int, ...]) -> str:
    """A sum of what the answer depends on."""
    versions = _said([python, "-I", "-c", VERSIONS, *PACKAGES], ASK_SECONDS)
    driver = _said(DRIVER, ASK_SECONDS) if device == "cuda" else ""
    parts = [card, driver, versions, device, sizes, PROGRAM.read_text("utf-8")]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _said(command: Sequence[str], seconds: float) -> str:
    """What a command prints at last; empty if it fails, is not there or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip().rpartition("\n")[2]
