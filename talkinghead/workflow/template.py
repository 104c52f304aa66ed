"""Templates: GUI files of `workflows/`, filled with what a plan and a profile of models say."""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from talkinghead.errors import WorkflowRejected
from talkinghead.plan.plan import Plan
from talkinghead.plan.windows import Window
from talkinghead.settings import PROJECT_DIR
from talkinghead.workflow.gui_file import (
    ACTIVE,
    BYPASSED,
    VIRTUAL,
    ConvertError,
    Node,
    Workflow,
    set_widget,
    title_of,
)
from talkinghead.workflow.nearest import nearest
from talkinghead.workflow.node_classes import DRAFT, SOUND_AND_LENGTH, SPEAKER_BOXES
from talkinghead.workflow.optional_nodes import OPTIONAL, add_optional, stand_aside, take_out
from talkinghead.workflow.schemas import Schemas, Value
from talkinghead.workflow.slots import Inputs, Slots, WindowInputs, slots_of, window_slots


class Profile(Protocol):
    """A set of model files that go together."""

    def filling(self, plan: Plan) -> Slots:
        """What it puts into the plan's template, and the nodes that it adds."""


def template_path(name: str) -> Path:
    """The GUI file of this name in `workflows/`."""
    return PROJECT_DIR / "workflows" / f"{name}.json"


def load_template(name: str) -> Workflow:
    """The template of this name."""
    content: Workflow = json.loads(template_path(name).read_text(encoding="utf-8"))
    return content


def for_jobs(workflow: Workflow) -> Workflow:
    """The template without what helps a person at the GUI, and jobs bring; changed in place.

    Masks, sound and lengths are a job's own, and a server at COMFYUI_URL need not have our nodes.
    """
    for node in workflow["nodes"]:
        if node["type"] in (SPEAKER_BOXES, SOUND_AND_LENGTH):
            stand_aside(workflow, node)
    return workflow


def fingerprint(template: str) -> str:
    """A short hash of the template file, so that a result tells which edit of it ran."""
    return hashlib.sha256(template_path(template).read_bytes()).hexdigest()[:12]


def fill_template(plan: Plan, inputs: Inputs, profile: Profile, schemas: Schemas) -> Workflow:
    """The plan's template with the models of the profile and everything that the plan decided.

    Raises:
        WorkflowRejected: this ComfyUI lacks a node class, or the template a slot.
    """
    workflow = for_jobs(load_template(plan.template))
    slots = slots_of(plan, inputs)
    _fill(workflow, slots if plan.request.draft else _with(profile.filling(plan), slots), schemas)
    return workflow


def fill_window(
    plan: Plan, window: Window, inputs: WindowInputs, profile: Profile, schemas: Schemas
) -> Workflow:
    """The template of one window of the plan's chain, filled. Raises as `fill_template`."""
    workflow = for_jobs(load_template(plan.template))
    _fill(workflow, _with(profile.filling(plan), window_slots(plan, window, inputs)), schemas)
    return workflow


def _with(models: Slots, plan: Slots) -> Slots:
    """Both: of a node that one of them takes out, nothing is left to fill."""
    titles = [*models, *(title for title in plan if title not in models)]
    return {title: _both(title, models, plan) for title in titles}


def _both(title: str, models: Slots, plan: Slots) -> Mapping[str, Value] | None:
    one, other = models.get(title, {}), plan.get(title, {})
    return None if one is None or other is None else {**one, **other}


def fill(template: Workflow, slots: Slots, schemas: Schemas) -> Workflow:
    """A copy of the template with the slots filled, and without the nodes whose slot is None.

    A node with a slot is switched on: in the file as it lies it may be muted.

    Raises:
        WorkflowRejected: the template has no such node or widget, or two nodes of one title.
    """
    workflow = copy.deepcopy(template)
    _fill(workflow, slots, schemas)
    return workflow


def _fill(workflow: Workflow, slots: Slots, schemas: Schemas) -> None:
    """Fill in place."""
    _check_classes(workflow, schemas)
    try:
        for title, values in slots.items():
            node = _titled(workflow, title, schemas)
            if values is None:
                take_out(workflow, node)
                continue
            node["mode"] = ACTIVE
            # A choice before what comes with it, which has its name before a dot.
            for name, value in sorted((values or {}).items(), key=lambda each: each[0].count(".")):
                set_widget(node, name, value, schemas)
    except ConvertError as error:
        raise WorkflowRejected(f"the template does not fit: {error}") from error


def _check_classes(workflow: Workflow, schemas: Schemas) -> None:
    subgraphs = (workflow.get("definitions") or {}).get("subgraphs") or []
    nodes = [node for graph in (workflow, *subgraphs) for node in graph["nodes"]]
    classes = {node["type"] for node in nodes if node.get("mode") != BYPASSED}
    classes -= VIRTUAL | {subgraph["id"] for subgraph in subgraphs}
    if absent := sorted(classes - set(schemas)):
        raise WorkflowRejected(f"this ComfyUI has no {', '.join(absent)}: {_remedy(absent)}")


def _remedy(absent: Sequence[str]) -> str:
    """What to do where node classes are absent: those of packs, and our own, which have a name."""
    own = [name for name in absent if name.startswith("TalkingHead")]
    remedies = []
    if len(own) < len(absent):
        remedies.append("are the node packs of custom_nodes.txt installed?")
    if own:
        remedies.append(
            f"{own[0]} is of this project's own custom_nodes/, which the ComfyUI at COMFYUI_URL "
            "needs among its folders of custom nodes."
        )
    if set(own) - {DRAFT, SPEAKER_BOXES, SOUND_AND_LENGTH}:
        remedies.append('A job with "long": false does without.')
    return " ".join([*remedies, "If they are there, ComfyUI's log says why one did not load"])


def _titled(workflow: Workflow, title: str, schemas: Schemas) -> Node:
    titles = [title_of(node, schemas) for node in workflow["nodes"]]
    if title in OPTIONAL and title not in titles:
        return add_optional(workflow, title, schemas)
    if titles.count(title) == 1:
        node: Node = workflow["nodes"][titles.index(title)]
        return node
    if titles.count(title) > 1:
        raise ConvertError(f"{titles.count(title)} nodes have the title {title!r}")
    raise ConvertError(f"no node has the title {title!r}{nearest(title, titles)}")
