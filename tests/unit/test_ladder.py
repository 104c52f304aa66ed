"""What a worker learns of its memory: for which renders it holds, and how long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from talkinghead.comfy.record import said_here
from talkinghead.comfy.studio import Studio
from talkinghead.errors import OutOfMemory
from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.plan.plan import Plan, make_plan
from talkinghead.plan.request import parse_request
from talkinghead.render.job import Job
from talkinghead.render.ladder import RENDERS_BETWEEN_TRIES, Ladder
from talkinghead.settings import Settings


def plan_of(seconds: float = 6.0, voices: int = 1, **fields: Any) -> Plan:
    urls = [f"http://a/{number}.wav" for number in range(voices)]
    asked = {"image_url": "http://a/a.png", "audio_urls": urls, "mode": "infinitetalk"}
    request = parse_request(asked | {"width": 480, "height": 480} | fields)
    sound = Sound(seconds, 16_000, 1, False)
    return make_plan(request, [sound] * voices, Picture(512, 512))


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    studio = Studio(Settings(comfyui_url="http://127.0.0.1:9", work_dir=tmp_path))
    studio.record.keep_in(tmp_path)
    return studio


def rendered(studio: Studio, plan: Plan, *, steps_down: int = 0) -> int:
    """Render; how many blocks it began to swap."""
    ladder = Ladder(Job("job", {}), plan, studio)
    begun = ladder.plan.blocks_to_swap
    for _ in range(steps_down):
        ladder.step_down(OutOfMemory("CUDA out of memory"))
    ladder.worked()
    return begun


@pytest.fixture
def learned(studio: Studio) -> Studio:
    """A worker that has rendered with 20 blocks swapped, after it ran out of memory twice."""
    assert rendered(studio, plan_of(), steps_down=2) == 0
    return studio


def test_what_needs_as_much_memory_or_more_begins_where_it_worked(learned: Studio) -> None:
    assert rendered(learned, plan_of()) == 20
    assert rendered(learned, plan_of(seconds=60.0)) == 20


@pytest.mark.parametrize(
    "other",
    [
        {"seconds": 2.0},
        {"width": 320},
        {"voices": 2},
        {"long": True},
        {"mode": "multitalk"},
    ],
    ids=str,
)
def test_of_another_kind_of_render_nothing_is_known(learned: Studio, other: dict[str, Any]) -> None:
    assert rendered(learned, plan_of(**other)) == 0


def test_longer_renders_may_need_less_at_a_time_than_shorter_ones(learned: Studio) -> None:
    assert rendered(learned, plan_of(seconds=60.0), steps_down=1) == 20
    assert rendered(learned, plan_of(seconds=60.0)) == 40
    assert rendered(learned, plan_of()) == 20


def test_the_length_of_a_chain_is_all_the_same_to_its_memory(studio: Studio) -> None:
    rendered(studio, plan_of(seconds=60.0, long=True), steps_down=2)
    assert rendered(studio, plan_of(seconds=6.0, long=True)) == 20


def test_after_some_renders_the_callers_plan_is_tried_again(learned: Studio) -> None:
    begun = [rendered(learned, plan_of()) for _ in range(RENDERS_BETWEEN_TRIES + 1)]
    assert begun == [20] * RENDERS_BETWEEN_TRIES + [0]


def test_the_doctor_is_told(learned: Studio) -> None:
    (said,) = said_here(learned.settings.work_dir)
    assert said.sentences == [
        "infinitetalk_single infinitetalk_i2v, 480 x 480, 1 speaking: memory ran out, and sufficed "
        "with 20 blocks swapped"
    ]
