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

from talkinghead.workflow.graph import Graph
from talkinghead.workflow.gui_file import BYPASSED, MUTED, VIRTUAL, Workflow, is_gui
from talkinghead.workflow.schemas import Schemas

CORE = "comfy-core"  # how a GUI file calls ComfyUI's own nodes


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
    if pack == CORE:
        return "; a newer ComfyUI may have it"
    if pack is None or pack in {pack_of(each) for each in there}:
        return ""
    return f"; it is of the node pack {pack}"


def classes_in(content: Workflow | Graph, schemas: Schemas) -> Mapping[str, str | None]:
    """The classes that a GUI file or an API graph runs and the schemas lack, with their packs."""
    if not is_gui(content):
        missing = {str(each.get("class_type")) for each in content.values()} - schemas.keys()
        return {name: pack_of(name) for name in sorted(missing)}
    subgraphs = list((content.get("definitions") or {}).get("subgraphs") or [])
    known = {*schemas, *VIRTUAL, *(each.get("id") for each in subgraphs)}
    nodes = [node for level in (content, *subgraphs) for node in level.get("nodes") or []]
    active = [node for node in nodes if node.get("mode") not in (MUTED, BYPASSED)]
    missing_nodes = [node for node in active if node.get("type") not in known]
    return {
        str(node["type"]): pack_of(str(node["type"]), node.get("properties"))
        for node in sorted(missing_nodes, key=lambda node: str(node.get("type")))
    }


def lacking(classes: Mapping[str, str | None], there: Iterable[str]) -> str:
    """The sentence that says which node packs a file needs; empty if all is there.

    A class that nobody knows is left to the check that names the nearest.
    """
    have = {pack_of(each) for each in there} - {CORE}
    packs: dict[str, list[str]] = {}
    for name, pack in classes.items():
        if pack is not None and pack not in have:
            packs.setdefault(pack, []).append(name)
    names = {pack: "a newer ComfyUI" if pack == CORE else pack for pack in packs}
    told = [f"{names[pack]} ({', '.join(each)})" for pack, each in packs.items()]
    return f"needs node packs that are not there: {'; '.join(told)}" if told else ""
