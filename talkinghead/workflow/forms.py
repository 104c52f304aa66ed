"""The forms in which people hand over a workflow, besides the file as ComfyUI saves it. Pure."""

from __future__ import annotations

import json
from typing import Any

from talkinghead.files import parse_json
from talkinghead.workflow.graph import is_api
from talkinghead.workflow.gui_file import is_gui

MAX_WRAPPINGS = 4  # the text of a body that holds the graph as text, say
MAX_DEPTH = 100  # of lists and objects in each other; what reads workflows goes down into all


def workflow_in(content: object) -> dict[str, Any] | None:
    """The GUI file or the API graph in this parsed JSON; None where there is none.

    It may be that itself, the body of a POST /prompt, which has the graph as `prompt`, or a text
    that holds one of these.
    """
    for _ in range(MAX_WRAPPINGS):
        if is_gui(content) or is_api(content):
            return None if _is_too_deep(content) else content
        if isinstance(content, dict):
            content = content.get("prompt")
        elif isinstance(content, str):
            try:
                content = parse_json(content)
                json.dumps(content, ensure_ascii=False).encode()  # nor half of a character
            except (ValueError, RecursionError):
                break
    return None


def workflow_of_job(content: object) -> object:
    """The `workflow` of a job, with its `input` around it or not; what is none as it is."""
    if not isinstance(content, dict) or workflow_in(content) is not None:
        return content
    job = content.get("input", content)
    return job["workflow"] if isinstance(job, dict) and "workflow" in job else content


def _is_too_deep(content: object) -> bool:
    level = [content]
    for _ in range(MAX_DEPTH):
        inner = [each for each in level if isinstance(each, dict | list)]
        level = [each for one in inner for each in (one.values() if isinstance(one, dict) else one)]
    return bool(level)
