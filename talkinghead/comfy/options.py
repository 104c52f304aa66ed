"""ComfyUI's options for memory: which we choose for our own, and what others run with.

What a ComfyUI knows is read from its source: it ends at once when it gets an option that it does
not know.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

OPTIONS_FILE = Path("comfy", "cli_args.py")
# The cache that keeps what the last prompt's nodes gave, and nothing else. The default of newer
# versions keeps the frames of all earlier jobs while the host has memory free, and knows of no
# container's limit.
CLASSIC = "--cache-classic"
# An option of these names the cache already; ComfyUI takes one of them only.
CACHES = ("--cache-", "--high-ram")
CACHES_THAT_LET_GO = (CLASSIC, "--cache-none", "--high-ram")
NO_DYNAMIC_VRAM = "--disable-dynamic-vram"
# Nothing of the API tells which cache is the default: it is the other one since this version.
KEEPS_BY_DEFAULT = (0, 22)


def memory_options(comfy_dir: Path, args: Sequence[str], *, dynamic_vram: bool) -> list[str]:
    """What our ComfyUI gets for its memory, as far as it knows it, and `args` do not say otherwise.

    `args` are those of COMFYUI_ARGS. Without `dynamic_vram` it is switched off.
    """
    known = ""
    with contextlib.suppress(OSError):
        known = (comfy_dir / OPTIONS_FILE).read_text(encoding="utf-8")
    wanted = [] if _has(args, CACHES) else [CLASSIC]
    if not dynamic_vram:
        wanted.append(NO_DYNAMIC_VRAM)
    return [option for option in wanted if f'"{option}"' in known]


def keeps_frames(system: Mapping[str, Any]) -> bool:
    """Whether a ComfyUI keeps the frames of earlier jobs, by `system` of its /system_stats."""
    args = [str(each) for each in system.get("argv") or []]
    if _has(args, CACHES):
        return not _has(args, CACHES_THAT_LET_GO)
    numbers = re.match(r"v?(\d+)\.(\d+)", str(system.get("comfyui_version", "")))
    return numbers is not None and tuple(map(int, numbers.groups())) >= KEEPS_BY_DEFAULT


def _has(args: Sequence[str], options: tuple[str, ...]) -> bool:
    return any(each.startswith(options) for each in args)
