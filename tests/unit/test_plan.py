from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkinghead.errors import MediaInvalid, MediaTooLarge, UnsupportedCombination
from talkinghead.media import Sound
from talkinghead.plan import MODEL_FPS, Plan, make_plan
from talkinghead.request import parse_request

A = {"image_url": "https://example.com/i.jpg", "wav_url": "https://example.com/a.wav"}


def plan(seconds: float = 4.0, **fields: Any) -> Plan:
    request = parse_request(A | fields)
    return make_plan(request, Sound(seconds, 48_000, 2), new_seed=lambda: 99)


def test_854_is_rendered_as_864_and_cropped() -> None:
    made = plan()
    assert (made.render_width, made.render_height) == (480, 864)
    assert (made.width, made.height) == (480, 854)


def test_an_odd_size_is_made_even_and_said() -> None:
    made = plan(width=401, height=705)
    assert (made.width, made.height) == (400, 704)
    assert "401x705 is delivered as 400x704" in made.warnings[0]


@given(st.floats(0.4, 399.9), st.floats(10, 60))
def test_the_frames_cover_the_voice_to_within_one_frame(seconds: float, fps: float) -> None:
    made = plan(seconds, fps=fps)
    assert 0 <= made.delivered_frames / fps - seconds < 1 / fps + 1e-6
    assert 0 <= made.frames / MODEL_FPS - seconds < 1 / MODEL_FPS + 1e-6


@given(st.integers(10, 9_999))
def test_the_speech_track_gives_the_node_every_frame(frames: int) -> None:
    """As MultiTalkWav2VecEmbeds counts: cut to num_frames, then int(seconds * fps)."""
    made = plan(frames / MODEL_FPS)
    kept = min(made.speech_samples, int((made.frames + 1) / 25.0 * 16_000))
    assert int(kept / 16_000 * 25.0) == made.frames == frames


def test_another_rate_is_rendered_at_25_and_losslessly() -> None:
    assert (plan(fps=30).fps, plan(fps=30).crf, plan(fps=30).delivered_frames) == (25, 0, 120)
    assert (plan().fps, plan().crf) == (25, 19)


def test_a_draft_renders_at_the_asked_rate() -> None:
    made = plan(fps=30, draft=True)
    assert (made.fps, made.frames, made.template) == (30, 120, "draft_i2v")
    assert "draft" in made.warnings[0]


def test_a_seed_is_chosen_when_none_is_given() -> None:
    assert plan(seed=0).seed == 99
    assert plan(seed=3).seed == 3


def test_max_frame_and_max_audio_duration_cut_the_voice() -> None:
    assert plan(max_frame=50).duration == 2.0
    assert plan(max_frame=60, fps=30).delivered_frames == 60
    assert plan(max_audio_duration=1.5).frames == 38
    assert plan(max_audio_duration=9).duration == 4.0


def test_a_voice_too_short_or_too_long_for_the_model_is_refused() -> None:
    with pytest.raises(MediaInvalid, match=r"0\.30 s long.*allowed: 0\.4 s or more"):
        plan(0.3)
    with pytest.raises(
        MediaTooLarge, match=r"500\.0 s long; allowed: 399\.96 s.*max_audio_duration"
    ):
        plan(500)
    assert plan(500, max_audio_duration=100).frames == 2500
    assert plan(500, draft=True).frames == 12_500


def test_the_speed_lora_sets_few_steps_without_guidance() -> None:
    sampling = plan().sampling
    assert (sampling.steps, sampling.cfg, sampling.scheduler) == (4, 1.0, "flowmatch_distill")


def test_without_the_speed_lora_the_official_settings_are_used() -> None:
    sampling = plan(use_speed_lora=False).sampling
    assert (sampling.steps, sampling.cfg, sampling.scheduler) == (30, 5.0, "unipc")
    assert sampling.cfg * sampling.audio_cfg == pytest.approx(4)
    assert (sampling.shift, plan(use_speed_lora=False, resolution="720p").sampling.shift) == (7, 11)


def test_steps_that_flowmatch_distill_cannot_take_get_another_scheduler_and_a_word() -> None:
    made = plan(steps=6)
    assert (made.sampling.steps, made.sampling.scheduler) == (6, "dpm++_sde")
    assert any("dpm++_sde" in warning for warning in made.warnings)


def test_a_negative_prompt_without_guidance_is_said_to_have_no_effect() -> None:
    assert any("negative_prompt" in w for w in plan(negative_prompt="ugly").warnings)
    assert not plan(negative_prompt="ugly", cfg_scale=2.0).warnings


@pytest.mark.parametrize(
    "fields",
    [
        {"input_type": "video", "video_url": "https://example.com/v.mp4"},
        {"person_count": "multi", "wav_url_2": "https://example.com/b.wav"},
        {"mode": "multitalk"},
        {"crop": "top"},
    ],
)
def test_what_this_version_does_not_render_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedCombination, match="this version"):
        plan(**fields)
