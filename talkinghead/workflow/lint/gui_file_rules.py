"""Rules on what a GUI file says beside the graph that it stands for."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from talkinghead.workflow.gui_file import VIRTUAL, Node, Workflow, label_of, title_of
from talkinghead.workflow.lint.rules import file_rule
from talkinghead.workflow.lint.view import Finding
from talkinghead.workflow.schemas import Schemas, widget_slots


@file_rule
def _seeds_are_fixed(gui: Workflow, schemas: Schemas) -> Iterator[Finding]:
    for node in gui["nodes"]:
        for name, control in _controls(node, schemas):
            if control != "fixed":
                yield Finding(
                    "warning",
                    label_of(node, schemas),
                    name,
                    f'its control_after_generate is "{control}": the GUI changes it after each '
                    'run; set it to "fixed"',
                )


def _controls(node: Node, schemas: Schemas) -> Iterator[tuple[str, object]]:
    """Widgets with a control_after_generate, and its value: the list's slot after theirs."""
    values = node.get("widgets_values")
    if node["type"] not in schemas or not isinstance(values, list):
        return
    slots = widget_slots(schemas[node["type"]], values)
    for (name, after), value in zip(pairwise([*slots, ""]), values[1:], strict=False):
        if name and after is None:
            yield name, value


@file_rule
def _titles_are_unique(gui: Workflow, schemas: Schemas) -> Iterator[Finding]:
    nodes = [node for node in gui["nodes"] if node["type"] not in VIRTUAL]
    for title, count in Counter(title_of(node, schemas) for node in nodes).items():
        if count > 1:
            ids = ", ".join(str(n["id"]) for n in nodes if title_of(n, schemas) == title)
            yield Finding(
                "warning",
                title,
                "",
                f"{count} nodes have this title (nodes {ids}), and the worker finds nodes by "
                "title: give each its own",
            )
