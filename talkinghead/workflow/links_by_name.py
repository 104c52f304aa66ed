"""Links by name: KJNodes' Set gives a name to a link, and Get takes it by that name. Pure.

They live in the browser alone, and are followed by the rules of that pack's setgetnodes.js: a Get
sees the Sets of its own level first, then those of the levels around it.
"""

from __future__ import annotations

from collections.abc import Iterator

from talkinghead.workflow.gui_file import SETTER, Node
from talkinghead.workflow.levels import Level
from talkinghead.workflow.nearest import DID_YOU_MEAN, nearest


def setter_of(level: Level, getter: Node) -> tuple[Level, Node] | None:
    """The Set that a Get of this level takes from, and its level; None for a Get without a name.

    Raises:
        ConvertError: no Set has the name; or several have it around the level and none in it, where
            the browser alerts and follows none.
    """
    if not (name := _name(getter)):
        return None
    seen = [(each, node) for each in _around(level) for node in _setters(each)]
    named = [(each, node) for each, node in seen if _name(node) == name]
    if not named:
        others = [_name(node) for _, node in seen]
        close = nearest(name, others, DID_YOU_MEAN)
        raise level.error(f"no SetNode here or around it has the name {name!r}{close}", getter)
    if named[0][0] is not level and len(named) > 1:
        raise level.error(f"{len(named)} SetNodes around it have the name {name!r}", getter)
    return named[0]


def _around(level: Level) -> Iterator[Level]:
    """The level, and those that it is in, from the inside out."""
    while True:
        yield level
        if level.host is None:
            return
        level = level.host[0]


def _setters(level: Level) -> list[Node]:
    return [node for node in level.nodes.values() if node["type"] == SETTER]


def _name(node: Node) -> str:
    values = node.get("widgets_values")
    return str(values[0]) if isinstance(values, list) and values else ""
