"""How much memory there is."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

GIB = 2**30
LIMIT_FILES = ("memory.max", "memory/memory.limit_in_bytes")  # of control groups, both versions


def ram_gib() -> float:
    """The host's memory, or what the container may use of it."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in LIMIT_FILES:
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            sizes.append(int(Path("/sys/fs/cgroup", name).read_text(encoding="ascii")))
    return min(sizes) / GIB
