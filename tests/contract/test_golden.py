"""What each of the contracts' requests makes ComfyUI do, as files that a reviewer can diff.

`UPDATE_GOLDEN=1 pytest tests/contract/test_golden.py` writes them anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.media.source_video import SourceVideo
from talkinghead.models.manifest import load_manifest
from talkinghead.plan.plan import make_plan
from talkinghead.plan.request import parse_request
from talkinghead.workflow import template
from talkinghead.workflow.check import check
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.lint import traps
from talkinghead.workflow.schemas import load_schemas
from talkinghead.workflow.slots import Inputs

HERE = Path(__file__).parent
REQUESTS = sorted((HERE / "requests").glob("*.json"))
GOLDEN = HERE / "golden"


def graph_of(request: Path) -> Graph:
    """The graph for a 640x480 source and voices of 4 s and 3 s, with the seed 1234."""
    parsed = parse_request(json.loads(request.read_text("utf-8"))["input"])
    people = len(parsed.speakers)
    voices = [Sound(seconds, 48_000, 2, False) for seconds in (4.0, 3.0)[:people]]
    source = SourceVideo(640, 480, 9.0, 225, 25.0) if parsed.video_url else Picture(640, 480)
    plan = make_plan(parsed, voices, source, new_seed=lambda: 1234)
    inputs = Inputs(
        picture="job/source.mp4" if parsed.video_url else "job/picture.png",
        speech=tuple(f"job/speech_{number}.wav" for number in range(1, people + 1)),
        sound="job/sound.wav",
        masks="job/masks.gif" if people > 1 else None,
        output_prefix="job/video",
    )
    schemas = load_schemas()
    graph = to_api(
        template.fill_template(plan, inputs, load_manifest().profile("gguf-q4"), schemas), schemas
    )
    assert check(graph, schemas) == [] and traps(graph, schemas) == []
    return graph


@pytest.mark.parametrize("request_file", REQUESTS, ids=lambda path: path.stem)
def test_the_graph_of_a_request_is_the_reviewed_one(request_file: Path) -> None:
    graph = graph_of(request_file)
    golden = GOLDEN / request_file.name
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        golden.write_text(json.dumps(graph, indent=1, ensure_ascii=False) + "\n", "utf-8")
    assert graph == json.loads(golden.read_text("utf-8"))
