"""A further talk model is a row in one table."""

from __future__ import annotations

import pytest

from talkinghead.errors import InvalidRequest, UnsupportedCombination
from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.media.source_video import SourceVideo
from talkinghead.plan.plan import Plan, make_plan
from talkinghead.plan.request import parse_request
from talkinghead.plan.talk_models import MODELS, TalkModel, model_of_file
from talkinghead.plan.windows import windows

MADE_UP = TalkModel(
    name="chattertalk",
    title="ChatterTalk",
    motion_frames=17,
    files=("chattertalk_one", "chattertalk_many"),
    long="chain",
    from_video=False,
    mark="chatter",
)
URLS = {"image_url": "https://x.example/i.jpg", "audio_urls": ["https://x.example/a.wav"] * 3}


@pytest.fixture(autouse=True)
def _a_made_up_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, MADE_UP.name, MADE_UP)


def plan(seconds: float, *, long: bool) -> Plan:
    request = parse_request(URLS | {"mode": "chattertalk", "long": long})
    return make_plan(request, [Sound(seconds / 3, 48_000, 1, silent=False)] * 3, Picture(512, 512))


def test_a_job_is_planned_with_its_motion_frames_and_its_files() -> None:
    made = plan(60, long=False)
    assert made.model.motion_frames == 17
    assert made.windows == 1 + -(-(1500 - 81) // 64)
    assert made.talk_model == "chattertalk_many"
    assert any(warning.startswith("ChatterTalk was trained on two") for warning in made.warnings)


def test_a_long_render_goes_window_by_window_if_the_row_says_so() -> None:
    made = plan(600, long=True)
    assert made.chained
    assert [window.start for window in windows(made)][:3] == [0, 64, 128]


def test_its_limits_are_those_of_its_row() -> None:
    request = parse_request(
        {"video_url": "https://x.example/v.mp4", "wav_url": URLS["audio_urls"][0]}
        | {"mode": "chattertalk"}
    )
    with pytest.raises(UnsupportedCombination, match="renders from a picture only"):
        make_plan(request, [Sound(4, 48_000, 1, silent=False)], SourceVideo(640, 480, 9, 225, 25))


def test_a_mode_that_is_not_in_the_table_is_told_what_is() -> None:
    expected = 'mode is .talker., allowed: "infinitetalk", "multitalk" or "chattertalk"'
    with pytest.raises(InvalidRequest, match=expected):
        parse_request(URLS | {"mode": "talker"})


def test_its_files_are_known_by_their_names() -> None:
    assert model_of_file("Wan2_1-ChatterTalk_fp8.safetensors") is MADE_UP
    assert model_of_file("InfiniteTalk_Multi.gguf").name == "infinitetalk"
    assert model_of_file("WanVideo_2_1_Multitalk_14B.safetensors").name == "multitalk"
