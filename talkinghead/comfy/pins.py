"""Which ComfyUI and which node packs run: what is installed, not what custom_nodes.txt lists."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talkinghead.settings import Settings

STAMP = ".install-comfyui.json"  # what scripts/install-comfyui remembers
VERSION = re.compile(r'__version__ = "([^"]+)"')


def pins(settings: Settings, machine: Mapping[str, Any]) -> dict[str, str]:
    """ComfyUI and its node packs: where from, and at which tag or commit; ComfyUI comes first.

    Of what scripts/install-comfyui did not install only ComfyUI's version is known, under the key
    "ComfyUI". `machine` is the /system_stats of a server at COMFYUI_URL, whose folder is not here.
    """
    if settings.comfyui_url:
        system = machine.get("system") or {}
        return {"ComfyUI": str(system.get("comfyui_version") or "unknown")}
    return _stamped(settings.comfyui_dir) or {"ComfyUI": _version_in(settings.comfyui_dir)}


def _stamped(folder: Path) -> dict[str, str]:
    """What the installer put into the folder; empty where it made none of it."""
    try:
        stamp = json.loads((folder / STAMP).read_text("utf-8"))
        found = {pin["url"]: pin["ref"] for pin in stamp["pins"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    if "without node packs" in stamp.get("source", ""):  # older stamps list them all the same
        return dict([*found.items()][:1])
    return found


def _version_in(folder: Path) -> str:
    try:
        found = VERSION.search((folder / "comfyui_version.py").read_text("utf-8"))
    except OSError:
        found = None
    return found[1] if found else "unknown"
