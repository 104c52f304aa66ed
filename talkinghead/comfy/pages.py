"""Model files, read once, so that ComfyUI finds them in memory."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path

from talkinghead.memory import GIB, ram_gib

log = logging.getLogger("talkinghead")

BLOCK_BYTES = 1 << 24
MAX_SHARE = 0.8  # of the host or its container: beyond, what is read last drops what was first


def read_pages(files: Iterable[Path]) -> None:
    """Have the system read these files and keep them, as far as it has the memory for all.

    The loaders only map the base model: without this, the first render would read it from the
    disk, or from a network volume, a page at a time and while its caller waits.
    """
    paths = [path for path in files if path.is_file()]
    size = sum(path.stat().st_size for path in paths)
    if size > ram_gib() * GIB * MAX_SHARE:
        log.warning("the models (%.0f GB) do not fit into memory: not read ahead", size / 1e9)
        return
    block = bytearray(BLOCK_BYTES)
    for path in paths:
        # One that cannot be read is none for here: its loader says so.
        with contextlib.suppress(OSError), path.open("rb", buffering=0) as file:
            while file.readinto(block):
                pass
