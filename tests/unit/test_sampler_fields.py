"""A setting of the sampler goes from the request to the graph, and is told where settings are."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from talkinghead.errors import InvalidRequest
from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.models.manifest import load_manifest
from talkinghead.plan.estimate import estimate
from talkinghead.plan.fields import Options
from talkinghead.plan.pace import Pace
from talkinghead.plan.plan import Plan, make_plan
from talkinghead.plan.request import parse_request
from talkinghead.plan.schema import request_schema
from talkinghead.settings import PROJECT_DIR
from talkinghead.workflow import template
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.schemas import load_schemas
from talkinghead.workflow.slots import Inputs

URLS = {"image_url": "https://x.example/i.jpg", "wav_url": "https://x.example/a.wav"}
GIVEN = {"shift": 8.0, "audio_scale": 1.25, "audio_cfg_scale": 2.0}
NODES = {"shift": "Sampler", "audio_scale": "Audio embeds", "audio_cfg_scale": "Audio embeds"}


def plan(**fields: Any) -> Plan:
    request = parse_request(URLS | fields)
    return make_plan(request, [Sound(4.0, 48_000, 1, silent=False)], Picture(512, 512))


@pytest.mark.parametrize(("name", "value"), GIVEN.items())
def test_it_reaches_its_node_and_is_told(name: str, value: float) -> None:
    made = plan(**{name: value})
    schemas = load_schemas()
    inputs = Inputs("p.png", ("s.wav",), "m.wav", None, "out")
    profile = load_manifest().profile("gguf-q4")
    graph = to_api(template.fill_template(made, inputs, profile, schemas), schemas)
    node = next(each for each in graph.values() if each["_meta"]["title"] == NODES[name])
    assert node["inputs"][name] == value
    assert made.params()[name] == value
    found = estimate(made, gpu_name=None, ram_gib=math.inf, pace=Pace())
    assert found.payload()["generation_params"][name] == value
    assert value in json.loads(json.dumps(made.payload()))["sampling"].values()


@pytest.mark.parametrize("name", GIVEN)
def test_it_is_in_the_schema_and_in_the_readme(name: str) -> None:
    assert name in request_schema([])["properties"]["input"]["properties"]
    assert f"| `{name}` |" in (PROJECT_DIR / "docs" / "request.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("shift", 0.5, "1 to 20"),
        ("audio_scale", 3.5, "0 to 3"),
        ("audio_cfg_scale", -1, "0 to 10"),
    ],
)
def test_its_range_is_told(name: str, value: float, allowed: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{name} is {value}, allowed: {allowed}"):
        parse_request(URLS | {name: value})


def test_another_render_is_another_render_of_its_content() -> None:
    assert plan(seed=7).content() == plan(seed=7).content()
    for name, value in GIVEN.items():
        assert plan(seed=7).content() != plan(seed=7, **{name: value}).content()


# What asks for the same pixels and samples in another way, or decides none of them.
RENAMED = {"cfg_scale": "cfg", "audio_cfg_scale": "audio_cfg"}
DECIDED = {
    "draft": "template",
    "max_frame": "frames",
    "max_audio_duration": "duration",
    "crop": "framing",
}
OUTSIDE = {
    *("retry_out_of_memory", "check_picture", "delivery", "upload_url", "bundle", "embed_workflow"),
    *("playlist", "continue_later", "request_id", "dry_run", "price_per_hour"),
}


def test_each_option_decides_which_kept_render_goes_on_or_is_said_not_to() -> None:
    content = plan().content()
    sampling = vars(content["sampling"])
    told = {**RENAMED, **DECIDED}
    known = {name for name in Options.model_fields if told.get(name, name) in content | sampling}
    assert set(Options.model_fields) - known == OUTSIDE
