"""More than one prompt over a long video: each window takes the one of its beginning."""

from __future__ import annotations

import math
from typing import Any

import pytest

from talkinghead.errors import InvalidRequest, UnsupportedCombination
from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.models.manifest import load_manifest
from talkinghead.plan.estimate import estimate
from talkinghead.plan.pace import TEXT_SECONDS, Pace
from talkinghead.plan.plan import Plan, make_plan
from talkinghead.plan.request import parse_request
from talkinghead.plan.windows import prompt_notes, prompt_of, window, windows
from talkinghead.workflow import template
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.schemas import load_schemas
from talkinghead.workflow.slots import WindowInputs

A = {"image_url": "http://x/i.png", "wav_url": "http://x/a.wav", "seed": 5}
LATER = [{"at": 3, "text": "she smiles"}, {"at": 6, "text": "she looks away"}]


def planned(seconds: float = 9.0, **fields: Any) -> Plan:
    request = parse_request(A | {"prompts": LATER} | fields)
    return make_plan(request, [Sound(seconds, 16_000, 1, False)], Picture(64, 64))


def texts(plan: Plan) -> list[str]:
    return [prompt_of(plan, each) for each in windows(plan)]


def refused(**fields: Any) -> dict[str, str]:
    """The mistakes by their fields."""
    with pytest.raises(InvalidRequest) as caught:
        parse_request(A | fields)
    return {each["field"]: each["message"] for each in caught.value.details["problems"]}


def test_a_window_has_the_prompt_that_holds_when_its_first_new_frame_is_shown() -> None:
    plan = planned(prompt="she speaks")  # new frames from 0, 3.24 and 6.12 s on
    assert texts(plan) == ["she speaks", "she smiles", "she looks away"]
    assert list(prompt_notes(plan)) == []
    assert list(prompt_notes(planned(prompts=None, long=True))) == []


def test_the_text_reaches_the_graph_of_its_window() -> None:
    plan, schemas = planned(positive_prompt="she speaks"), load_schemas()
    names = WindowInputs("p.png", "p.png", ("s.wav",), None, "m.latent", "out")
    profile = load_manifest().profile("gguf-q4")
    gui = template.fill_window(plan, window(plan, 1), names, profile, schemas)
    heard = {node["_meta"]["title"]: node["inputs"] for node in to_api(gui, schemas).values()}
    assert heard["Prompt"]["text"] == "she smiles"


def test_more_prompts_make_the_render_a_chain_by_themselves() -> None:
    assert planned().chained
    assert not planned(draft=True).long
    assert any("prompts: no effect on a draft" in each for each in planned(draft=True).warnings)


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": "multitalk"},
        {"long": False},
        {"video_url": "http://x/v.mp4", "input_type": "video", "video_method": "denoise"},
    ],
)
def test_where_windows_cannot_have_their_own_prompt_more_of_them_are_refused(
    fields: dict[str, Any],
) -> None:
    with pytest.raises(UnsupportedCombination, match="prompts needs a render window by window"):
        planned(**fields)


def test_a_bar_in_a_prompt_is_a_bar() -> None:
    assert planned(prompts=[{"at": 1, "text": "a|b"}]).request.prompt_at(2) == "a|b"


def test_a_prompt_that_no_window_takes_is_told() -> None:
    plan = planned(
        prompts=[{"at": 3.1, "text": "a"}, {"at": 3.2, "text": "b"}, {"at": 60, "text": "c"}]
    )
    assert list(prompt_notes(plan)) == [
        "prompts.0 is not used: no window begins between 3.1 s and 3.2 s",
        "prompts.2 is not used: no window begins from 60 s on",
    ]


def test_what_is_wrong_with_prompts_is_told_by_its_field() -> None:
    assert refused(prompts=[{"at": 5, "text": "a"}, {"at": 5, "text": "b"}]) == {
        "prompts.1.at": "prompts.1.at is 5, allowed: more than 5, as of the one before"
    }
    assert refused(prompts=[{"at": -1, "text": "a"}]) == {
        "prompts.0.at": "prompts.0.at is -1, allowed: 0 to 7200"
    }
    assert refused(prompts=[{"at": 1}]) == {
        "prompts.0.text": "Missing required parameter: prompts.0.text"
    }
    assert refused(prompts=[{"at": 1, "txt": "a", "text": "a"}]) == {
        "prompts.0.txt": "prompts.0.txt is not a known field; the nearest known one is text"
    }
    assert list(refused(prompt="a", prompts=[{"at": 0, "text": "b"}])) == ["prompts.0.at"]


def test_another_prompt_for_later_windows_is_another_render() -> None:
    other = planned(prompts=[LATER[0], {"at": 6, "text": "she laughs"}])
    assert planned().content() == planned().content()
    assert planned().content() != other.content()


def test_a_result_and_a_bundle_tell_the_prompts() -> None:
    plan = planned()
    assert plan.params()["prompts"] == LATER
    assert plan.payload()["prompts"] is not None
    assert "prompts" not in planned(prompts=None).params()


def test_urls_in_later_prompts_lose_their_secrets_too() -> None:
    plan = planned(prompts=[{"at": 1, "text": "as in https://u:p@x.example/a?sig=1"}])
    assert "sig" not in plan.request.prompts[0].text
    assert any(each.startswith("prompts.0.text: a URL") for each in plan.warnings)


def test_the_estimate_counts_what_the_text_encoder_runs_more() -> None:
    def seconds(plan: Plan) -> float:
        found = estimate(plan, gpu_name="RTX 4090", ram_gib=math.inf, pace=Pace())
        assert found.seconds is not None
        return found.seconds

    alone = planned(prompts=None, long=True)
    assert seconds(planned()) - seconds(alone) == pytest.approx(2 * TEXT_SECONDS)
