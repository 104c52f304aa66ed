"""Which node pack a class is of that a ComfyUI lacks: those that public Wan workflows use.

packs.json has the classes of each pack by its URL, with `*` for the rest of a name. They are those
of the examples of WanVideoWrapper and of InfiniteTalk workflows that people share; a GUI file names
the pack of each node itself.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

CORE = "comfy-core"  # how a GUI file calls ComfyUI's own nodes
NEWER = "it is ComfyUI's own, of a newer version or another name"


@functools.cache
def _packs() -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Pack by class, and patterns with their packs."""
    path = Path(__file__).with_name("packs.json")
    pairs = [(n, url) for url, names in json.loads(path.read_text("utf-8")).items() for n in names]
    exact = {name: url for name, url in pairs if "*" not in name}
    return exact, [(name, url) for name, url in pairs if "*" in name]


def pack_of(class_type: str, properties: Mapping[str, Any] | None = None) -> str | None:
    """The URL or the name of the pack that has the class; None if nobody says.

    Args:
        properties: of the node in a GUI file.
    """
    exact, patterns = _packs()
    if (known := exact.get(class_type)) is not None:
        return known
    for pattern, url in patterns:
        if fnmatchcase(class_type, pattern):
            return url
    said = properties or {}
    if isinstance(owner := said.get("aux_id"), str) and owner.count("/") == 1:
        return f"https://github.com/{owner}"
    return name if isinstance(name := said.get("cnr_id"), str) and name else None


def where_from(
    class_type: str, there: Iterable[str], properties: Mapping[str, Any] | None = None
) -> str:
    """The end of a sentence that says where the class comes from; empty if nobody knows.

    It is empty, too, if others of its pack are `there`: then its name is likely to be a mistake.
    """
    pack = pack_of(class_type, properties)
    if pack is None or pack in {pack_of(each) for each in there}:
        return ""
    return f"; {NEWER}" if pack == CORE else f"; it is of the node pack {pack}"
