"""A workflow with dynamic inputs of a newer ComfyUI, as the newest frontend saved it, and schemas.

`node_schemas.json` is from ComfyUI 0.33.0. `workflow.json` was saved with Ctrl+S in 1.58.1:
two pictures are batched (an autogrow), resized (a dynamic combo) and saved (one in another).
"""

import json
from pathlib import Path

from talkinghead.workflow.gui_file import Workflow
from talkinghead.workflow.schemas import Schemas

FOLDER = Path(__file__).parent
WORKFLOW = FOLDER / "workflow.json"


def load_dynamic_schemas() -> Schemas:
    """The schemas of its classes, and of a few more."""
    schemas: Schemas = json.loads((FOLDER / "node_schemas.json").read_text("utf-8"))
    return schemas


def load_dynamic_workflow() -> Workflow:
    """The GUI file."""
    workflow: Workflow = json.loads(WORKFLOW.read_text("utf-8"))
    return workflow
