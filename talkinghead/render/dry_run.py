"""A render planned, and nothing of it rendered: for who wants to know what it would take."""

from __future__ import annotations

import tempfile
from pathlib import Path

from talkinghead.comfy.studio import Studio
from talkinghead.plan.plan import Plan
from talkinghead.plan.request import RenderRequest
from talkinghead.render.prepare import decide
from talkinghead.render.sources import fetch, open_files


def plan_of(request: RenderRequest, studio: Studio) -> Plan:
    """The render as a job would plan it. The studio need not be entered: ComfyUI is not asked.

    Raises:
        JobError: one of those that end a job before it renders.
    """
    with tempfile.TemporaryDirectory(prefix="talkinghead-") as name:
        folder = Path(name)
        with studio.sandboxes.open() as sandbox:
            sources = fetch(request, folder, studio, lambda: None)
            opened = open_files(request, sources, studio.settings, sandbox)
            return decide(request, sources, opened, folder=folder, studio=studio, sandbox=sandbox)
