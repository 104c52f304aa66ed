"""The arithmetic of a chain: every frame once, sound where it belongs, nothing that grows."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.plan.plan import Plan, make_plan
from talkinghead.plan.request import parse_request
from talkinghead.plan.windows import CONTEXT_FRAMES, delivered, seed_of, window, windows

REQUEST = {"image_url": "http://x/i.png", "wav_url": "http://x/a.wav", "long": True, "seed": 5}


def planned(seconds: float, **fields: Any) -> Plan:
    voice = Sound(seconds, 16_000, 1, False)
    return make_plan(parse_request(REQUEST | fields), [voice], Picture(64, 64))


LENGTHS = st.floats(0.4, 2000, allow_nan=False)
RATES = st.sampled_from([10, 12.5, 23.976, 24, 25, 29.97, 30, 50, 60])


@given(LENGTHS)
def test_the_new_frames_of_the_windows_are_those_of_the_render(seconds: float) -> None:
    plan = planned(seconds)
    made = list(windows(plan))
    assert made[0].first == 0
    assert all(one.first + one.new == other.first for one, other in pairwise(made))
    assert made[-1].first + made[-1].new == plan.frames
    assert all(1 <= each.new <= 81 - each.repeated for each in made)


@given(LENGTHS, RATES)
def test_every_delivered_frame_is_of_one_window_and_each_window_has_some(
    seconds: float, fps: float
) -> None:
    plan = planned(seconds, fps=fps)
    ranges = [delivered(plan, each) for each in windows(plan)]
    assert all(ranges)
    assert ranges[0].start == 0
    assert all(one.stop == other.start for one, other in pairwise(ranges))
    assert ranges[-1].stop == plan.delivered_frames


@given(LENGTHS, RATES)
def test_a_delivered_frame_shows_what_is_rendered_at_the_middle_of_its_time(
    seconds: float, fps: float
) -> None:
    plan = planned(seconds, fps=fps)
    for each in windows(plan):
        for shown in delivered(plan, each):
            middle = (shown + 0.5) * 25 / fps
            assert each.first <= min(middle, plan.frames - 1) + 1e-6
            assert min(middle, plan.frames - 1e-6) < each.first + each.new + 1e-6


@given(LENGTHS)
def test_a_window_hears_its_frames_with_context_and_no_stretch_grows_with_the_length(
    seconds: float,
) -> None:
    plan = planned(seconds)
    for each in windows(plan):
        heard = range(each.stretch.first, each.stretch.first + each.stretch.frames)
        end = min(each.start + 81, plan.frames)
        assert heard.start <= each.start < end <= heard.stop <= plan.frames
        assert heard.start == 0 or each.start - heard.start >= CONTEXT_FRAMES
        assert heard.stop == plan.frames or heard.stop - end >= CONTEXT_FRAMES
        assert len(heard) <= 25 * 72 + 9 + 2 * CONTEXT_FRAMES


def test_a_render_of_a_minute_is_heard_at_once() -> None:
    plan = planned(60)
    assert {each.stretch.frames for each in windows(plan)} == {plan.frames}


def test_seeds_are_of_the_render_and_the_window_alone() -> None:
    assert seed_of(7, 0) == 7
    assert [seed_of(7, 1), seed_of(7, 2)] == [4970316780120661, 2896232438869200]
    seeds = [seed_of(base, index) for base in range(50) for index in range(1, 50)]
    assert len(set(seeds)) == len(seeds)
    assert all(1 <= seed < 2**53 for seed in seeds)


def test_an_hour_is_1250_windows() -> None:
    plan = planned(3600)
    assert plan.windows == 1250
    assert window(plan, 1249).first + window(plan, 1249).new == 90_000


@pytest.mark.parametrize(
    ("seconds", "ram_gib", "fields", "long"),
    [
        (30, 60, {"long": None}, False),
        (300, 60, {"long": None}, True),
        (300, 500, {"long": None}, False),
        (500, 500, {"long": None}, True),  # past what one prompt takes
        (300, 60, {"long": False}, False),
        (2, 60, {"long": True}, True),
        (2, 60, {"long": None, "color_match": True}, True),
        (2, 60, {"long": True, "draft": True}, False),
        (300, 60, {"long": None, "mode": "multitalk"}, True),
    ],
)
def test_a_render_is_long_if_its_frames_would_fill_the_memory_or_on_request(
    seconds: float, ram_gib: float, fields: dict[str, Any], long: bool
) -> None:
    asked = {name: value for name, value in (REQUEST | fields).items() if value is not None}
    voice = Sound(seconds, 16_000, 1, False)
    plan = make_plan(parse_request(asked), [voice], Picture(64, 64), ram_gib=ram_gib)
    assert plan.long is long
    assert plan.chained is (long and plan.request.mode == "infinitetalk")
    assert plan.frames_on_disk is (long and plan.request.mode == "multitalk")
