"""What ComfyUI accepts, and what then fails late or is silently wrong. Pure.

A rule reads an API graph and yields findings; inputs that a link feeds are left alone, since their
value is not known before the run. `traps` are the rules for any graph that is about to run,
`lint_workflow` adds the node schemas and what the GUI would change.
"""

from collections.abc import Iterator

from talkinghead.workflow.check import Misfit, check, unknown_class
from talkinghead.workflow.forms import workflow_in
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.gui_file import (
    BYPASSED,
    MUTED,
    VIRTUAL,
    ConvertError,
    Workflow,
    check_convertible,
    is_gui,
    label_of,
)
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.lint import (
    chain_window,
    files,
    gui_changes,
    gui_file_rules,
    model_files,
    rates,
    sampler,
    speakers,
    speed,
    talk_model,
    video_to_video,
)
from talkinghead.workflow.lint.rules import file_rule, gui_rule, trap
from talkinghead.workflow.lint.view import Finding, GraphView, Severity
from talkinghead.workflow.schemas import Schemas
from talkinghead.workflow.taken import remarks, that_runs, with_converted_values

__all__ = ["SUBJECTS", "Finding", "lint_workflow", "traps"]

# The files of rules, in the order in which people see their findings.
SUBJECTS = (
    model_files,
    speakers,
    talk_model,
    chain_window,
    sampler,
    speed,
    video_to_video,
    rates,
    files,
    gui_changes,
    gui_file_rules,
)


def lint_workflow(content: object, schemas: Schemas) -> list[Finding]:
    """Everything in a GUI file or an API graph that would be refused, fail or come out wrong."""
    workflow = workflow_in(content)
    if workflow is not None:
        lint = _lint_gui if is_gui(workflow) else _lint_graph
        return lint(workflow, schemas)
    message = (
        "is neither a GUI workflow, with lists of nodes and links, nor an API graph, in which "
        "every entry has a class_type and inputs: save or export it in the GUI again"
    )
    return [Finding("error", "", "", message)]


def traps(graph: Graph, schemas: Schemas | None = None) -> list[Finding]:
    """What an API graph that passes validation would still fail or go wrong on.

    With schemas, inputs that the graph leaves out count with their defaults.
    """
    view = GraphView(graph, schemas or {})
    return [finding for rule in trap.of(SUBJECTS) for finding in rule(view)]


def _lint_gui(gui: Workflow, schemas: Schemas) -> list[Finding]:
    if not all(isinstance(node, dict) and {"id", "type"} <= node.keys() for node in gui["nodes"]):
        return [Finding("error", "", "", "has nodes without id or type: save it in the GUI again")]
    try:
        check_convertible(gui)
    except ConvertError as error:
        return [Finding("error", "", "", str(error))]
    of_file = [finding for rule in file_rule.of(SUBJECTS) for finding in rule(gui, schemas)]
    if unknown := list(_unknown_classes(gui, schemas)):
        return unknown + of_file
    try:
        graph = to_api(gui, schemas)
    except ConvertError as error:
        return [Finding("error", "", "", str(error)), *of_file]
    return _lint_graph(graph, schemas) + of_file


def _unknown_classes(gui: Workflow, schemas: Schemas) -> Iterator[Finding]:
    """All of them; conversion stops at the first."""
    subgraphs = {each["id"] for each in (gui.get("definitions") or {}).get("subgraphs") or []}
    known = {*schemas, *VIRTUAL, *subgraphs}
    for node in gui["nodes"]:
        if node["type"] in known or node.get("mode") in (MUTED, BYPASSED):
            continue
        message = unknown_class(node["type"], schemas, node.get("properties"))
        yield Finding("error", label_of(node, schemas), "", message)


def _lint_graph(graph: Graph, schemas: Schemas) -> list[Finding]:
    runs = with_converted_values(that_runs(graph, schemas), schemas)
    view = GraphView(runs, schemas)
    in_gui = [finding for rule in gui_rule.of(SUBJECTS) for finding in rule(view)]
    said = [_finding("warning", each) for each in remarks(graph, schemas)]
    refused = [_finding("error", each) for each in check(runs, schemas)]
    return [*refused, *said, *traps(runs, schemas), *in_gui]


def _finding(severity: Severity, misfit: Misfit) -> Finding:
    name = "" if misfit.input == "-" else misfit.input
    return Finding(severity, misfit.node, name, misfit.message)
