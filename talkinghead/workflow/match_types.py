"""The types of sockets that take what others of their group take, as links have made them. Pure.

In the GUI an input of a match type has the type that links bring to the *other* inputs of its
group, and an output of the group the type that they bring to all. (Comfy.MatchType in the source of
comfyui_frontend_package 1.32.9, and in that of newer ones.)
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from talkinghead.workflow.gui_file import Link, Node, NodeId, sockets_in
from talkinghead.workflow.schemas import InputSpec, NodeSchema


class MatchGroup(NamedTuple):
    """The inputs of a node that have one type, each with what it may be, and its outputs of it.

    `links` has the links to those inputs that have one, by the input's name.
    """

    node: NodeId
    allowed: Mapping[str, str]
    outputs: Sequence[int]
    links: Mapping[str, Link]


class MatchedTypes(NamedTuple):
    """Types by a node's id and an input's name, and by a node's id and an output's slot."""

    inputs: Mapping[tuple[NodeId, str], str]
    outputs: Mapping[tuple[NodeId, int], str]


def match_groups(
    node: Node, specs: Iterable[InputSpec], schema: NodeSchema, links: Mapping[int, Link]
) -> Iterator[MatchGroup]:
    """The groups of a node with these inputs; `links`: all of its graph, by id."""
    allowed: dict[str, dict[str, str]] = defaultdict(dict)
    for each in specs:
        if each.match_group:
            allowed[each.match_group][each.name] = each.type
    fed = {
        each["name"]: links[each["link"]] for each in sockets_in(node) if each.get("link") in links
    }
    made = schema.get("output_matchtypes") or ()
    for group, types in allowed.items():
        outputs = [slot for slot, each in enumerate(made) if each == group]
        own = {name: link for name, link in fed.items() if name in types}
        yield MatchGroup(node["id"], types, outputs, own)


def matched_types(groups: Sequence[MatchGroup], type_of: Callable[[Link], str]) -> MatchedTypes:
    """What the links of one graph make of its groups; `type_of`: what a link brings by itself."""
    outputs: dict[tuple[NodeId, int], str] = {}

    def brought(group: MatchGroup) -> dict[str, str]:
        return {
            name: outputs.get((link.origin, link.origin_slot)) or type_of(link)
            for name, link in group.links.items()
        }

    fed_by: dict[NodeId, list[MatchGroup]] = defaultdict(list)
    for group in groups:
        for link in group.links.values():
            fed_by[link.origin].append(group)
    waiting = deque(groups)
    while waiting:  # ends: each time round, what an output can be is less than it was
        group = waiting.popleft()
        common = _common(brought(group).values())
        changed = [slot for slot in group.outputs if outputs.get((group.node, slot)) != common]
        if common and changed:  # what has nothing in common leaves the output as it is
            outputs |= {(group.node, slot): common for slot in changed}
            waiting += fed_by[group.node]
    inputs: dict[tuple[NodeId, str], str] = {}
    for group in groups:
        types = brought(group)
        for name, allowed in group.allowed.items():
            others = (types[other] for other in types if other != name)
            inputs[group.node, name] = _common([*others, allowed]) or allowed
    return MatchedTypes(inputs, outputs)


def _common(types: Iterable[str]) -> str | None:
    """The types that all of these have; each may be a list with commas."""
    lists = [each.split(",") for each in types if each not in ("*", "")]
    if not lists:
        return "*"
    return ",".join(each for each in lists[0] if all(each in other for other in lists)) or None
