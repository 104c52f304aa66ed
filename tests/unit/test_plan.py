from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkinghead.errors import MediaInvalid, MediaTooLarge, UnsupportedCombination
from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.media.source_video import SourceVideo
from talkinghead.plan.fields import Mode
from talkinghead.plan.frames import MODEL_FPS, WINDOW_FRAMES
from talkinghead.plan.plan import Plan, lighter_plans, make_plan
from talkinghead.plan.request import parse_request
from talkinghead.plan.talk_models import MODELS

A = {"image_url": "https://example.com/i.jpg", "wav_url": "https://example.com/a.wav"}


PICTURE = Picture(512, 512)


def sound(seconds: float = 4.0, silent: bool = False) -> Sound:
    return Sound(seconds, 48_000, 2, silent)


def clip(seconds: float) -> SourceVideo:
    return SourceVideo(640, 480, seconds, round(seconds * 30), 30.0)


def plan(seconds: float = 4.0, **fields: Any) -> Plan:
    return make_plan(parse_request(A | fields), [sound(seconds)], PICTURE, new_seed=lambda: 99)


def plan_of(voices: Sequence[Sound | None], **fields: Any) -> Plan:
    urls = [f"https://example.com/{i}.wav" if voice else None for i, voice in enumerate(voices)]
    speakers = [{"audio_url": url} for url in urls]
    request = {"image_url": A["image_url"], "speakers": speakers} | fields
    return make_plan(parse_request(request), voices, PICTURE, new_seed=lambda: 99)


def plan_from_video(seconds: float = 4.0, video: float = 60.0, **fields: Any) -> Plan:
    request = {"video_url": "https://example.com/v.mp4", "wav_url": A["wav_url"]} | fields
    return make_plan(parse_request(request), [sound(seconds)], clip(video), new_seed=lambda: 99)


def test_854_is_rendered_as_864_and_cropped() -> None:
    made = plan()
    assert (made.framing.render_width, made.framing.render_height) == (480, 864)
    assert (made.width, made.height) == (480, 854)


def test_an_odd_size_is_made_even_and_said() -> None:
    made = plan(width=401, height=705)
    assert (made.width, made.height) == (400, 704)
    assert "401x705 is delivered as 400x704" in made.warnings[0]


@given(st.floats(0.4, 399.9), st.floats(10, 60))
def test_the_frames_cover_the_voice_to_within_one_frame(seconds: float, fps: float) -> None:
    made = plan(seconds, fps=fps)
    assert -1e-6 <= made.delivered_frames / fps - seconds < 1 / fps + 1e-6
    assert -1e-6 <= made.frames / MODEL_FPS - seconds < 1 / MODEL_FPS + 1e-6


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


def test_what_is_wrong_with_the_picture_is_told() -> None:
    damaged = Picture(512, 512, ("image_url: the picture is cut off",))
    made = make_plan(parse_request(A), [sound()], damaged)
    assert "image_url: the picture is cut off" in made.warnings


def test_people_at_the_sides_of_a_wide_picture_are_said_to_be_cut_away() -> None:
    wide, url = Picture(1280, 720), A["wav_url"]
    image = {"image_url": A["image_url"]}
    two = make_plan(parse_request(image | {"audio_urls": [url] * 2}), [sound()] * 2, wide)
    assert two.warnings[0] == (
        "image_url: 68% of its width is cut away, and who is there with it: it has 1280x720; "
        'aspect_ratio "auto" shows all of it'
    )


def test_a_picture_that_is_cut_to_less_than_half_is_said() -> None:
    def told(picture: Picture, **more: object) -> tuple[str, ...]:
        return make_plan(parse_request(A | more), [sound()], picture).warnings

    wide = Picture(1280, 720)
    assert "69% of its width is cut away:" in told(wide)[0]
    tall = told(Picture(600, 1000), aspect_ratio="16:9")
    assert "67% of its height is cut away:" in tall[0]
    assert not told(wide, width=640, height=360)
    assert not told(wide, aspect_ratio="16:9")
    assert not told(PICTURE)


def test_a_seed_is_chosen_when_none_is_given() -> None:
    assert plan(seed=0).seed == 99
    assert plan(seed=3).seed == 3


def test_max_frame_and_max_audio_duration_cut_the_voice() -> None:
    assert plan(max_frame=50).duration == 2.0
    assert plan(max_frame=60, fps=30).delivered_frames == 60
    assert plan(max_audio_duration=1.5).frames == 38
    assert plan(max_audio_duration=9).duration == 4.0


def test_a_voice_too_short_or_too_long_for_the_model_is_refused() -> None:
    with pytest.raises(MediaInvalid, match=r"wav_url: .*0\.30 s long.*allowed: 0\.4 s or more"):
        plan(0.3)
    with pytest.raises(
        MediaTooLarge, match=r"500\.0 s long; allowed: 399\.96 s.*max_audio_duration"
    ):
        plan(500, long=False)
    assert plan(500, max_audio_duration=100).frames == 2500
    assert plan(500, draft=True).frames == 12_500


@pytest.mark.parametrize("long", [None, True])
def test_multitalk_renders_9999_frames_and_is_told_of_what_has_no_limit(long: bool | None) -> None:
    assert plan(399.96, mode="multitalk", long=long).frames == 9_999
    expected = (
        r'399\.96 s with mode "multitalk", 9999 frames \(mode "infinitetalk" has no such limit'
    )
    with pytest.raises(MediaTooLarge, match=expected):
        plan(400, mode="multitalk", long=long)


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


def test_the_crop_is_that_of_the_request() -> None:
    assert plan(crop="top").framing.cut == (0.5, 0.0)


def test_voices_in_parallel_begin_at_once_and_the_longest_decides() -> None:
    made = plan_of([sound(2), sound(3)], audio_mode="parallel")
    assert (made.offsets, made.duration) == ((0.0, 0.0), 3.0)


def test_voices_in_sequence_follow_one_another() -> None:
    made = plan_of([sound(2), sound(3), sound(0.1)], audio_mode="sequential")
    assert (made.offsets, made.duration) == ((0.0, 2.0, 5.0), 5.1)


def test_somebody_who_only_listens_has_no_offset_and_no_length() -> None:
    made = plan_of([sound(2), None, sound(3)], audio_mode="sequential")
    assert (made.offsets, made.duration) == ((0.0, None, 2.0), 5.0)


def test_a_voice_that_would_begin_after_the_cut_is_said() -> None:
    made = plan_of([sound(2), sound(3)], audio_mode="sequential", max_audio_duration=2)
    assert any("speakers.1 is not heard" in warning for warning in made.warnings)


def test_silence_is_said() -> None:
    quiet = plan_of([sound(2, silent=True)])
    assert any("the sound is silent" in warning for warning in quiet.warnings)
    assert not plan_of([sound(2, silent=True), sound(2)], width=512, height=512).warnings


def test_what_a_voice_has_lost_is_told() -> None:
    note = "audio_urls.0: 0.20 s of the sound (3%) are damaged and left out"
    lossy = replace(sound(2), notes=(note,))
    assert note in plan_of([lossy, sound(2)]).warnings
    assert note in plan_of([lossy, sound(2)], draft=True).warnings


def test_the_talk_model_suits_mode_and_number_of_people() -> None:
    assert plan().talk_model == "infinitetalk_single"
    assert plan_of([sound(), None]).talk_model == "infinitetalk_multi"
    assert plan(mode="multitalk").talk_model == "multitalk"
    assert (plan().model.motion_frames, plan(mode="multitalk").model.motion_frames) == (9, 25)


def test_more_than_two_speakers_are_said_to_be_untrained() -> None:
    assert any("trained on two" in w for w in plan_of([sound(), sound(), None]).warnings)


@given(st.integers(1, 9_999), st.sampled_from(["infinitetalk", "multitalk"]))
def test_the_windows_cover_the_frames_and_the_last_one_is_needed(frames: int, mode: Mode) -> None:
    windows, new = MODELS[mode].windows(frames), MODELS[mode].new_frames()
    assert WINDOW_FRAMES + new * (windows - 1) >= frames
    assert windows == 1 or WINDOW_FRAMES + new * (windows - 2) < frames


def test_keyframes_take_one_frame_of_the_video_a_window() -> None:
    source = plan_from_video(10).source
    assert source is not None
    assert source.times == pytest.approx([0, 2.88, 5.76, 8.64])
    assert plan_from_video(3.24).source.times == [0]  # type: ignore[union-attr]


def test_denoise_takes_every_frame_that_the_windows_make_and_starts_half_way() -> None:
    made = plan_from_video(10, video_method="denoise")
    assert made.source is not None
    assert (made.source.count, made.source.step_seconds) == (81 + 3 * 72, 1 / 25)
    sampling = made.sampling
    assert (sampling.steps, sampling.start_step, sampling.audio_scale) == (4, 2, 1.5)


def test_a_draft_of_a_video_takes_each_frame_in_the_delivered_size() -> None:
    made = plan_from_video(2, draft=True, fps=30)
    assert made.source is not None and (made.source.count, made.source.fps) == (60, 30)
    assert (made.framing.render_width, made.framing.render_height) == (480, 854)


def test_a_video_shorter_than_the_sound_is_said_to_be_repeated() -> None:
    assert any("repeated" in warning for warning in plan_from_video(10, video=4).warnings)
    assert not plan_from_video(10, video=10.5, width=640, height=480).warnings


def test_denoise_has_a_limit_of_its_own() -> None:
    with pytest.raises(MediaTooLarge, match='allowed: 40 s with video_method "denoise"'):
        plan_from_video(50, video_method="denoise")
    assert plan_from_video(50).video_method == "keyframes"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"mode": "multitalk"}, "from a picture only"),
        ({"video_method": "denoise", "steps": 1}, "needs 2 or more"),
    ],
)
def test_what_the_models_cannot_do_with_a_video_is_refused(
    fields: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UnsupportedCombination, match=expected):
        plan_from_video(**fields)


def test_each_second_try_after_out_of_memory_takes_less_memory_than_the_one_before() -> None:
    ways = [lighter for _, lighter in lighter_plans(plan(20))]
    assert [w.blocks_to_swap for w in ways] == [0, 20, 40, 40]
    assert [w.tiled_vae for w in ways] == [False, False, True, True]
    assert [(w.window_frames, w.windows) for w in ways] == [(81, 7)] * 3 + [(49, 13)]


def test_the_frames_of_a_source_video_stay_those_of_its_windows() -> None:
    assert {lighter.window_frames for _, lighter in lighter_plans(plan_from_video(10))} == {81}


def test_a_draft_and_a_caller_who_forbids_it_get_no_second_try() -> None:
    assert not list(lighter_plans(plan(draft=True)))
    assert not list(lighter_plans(plan(retry_out_of_memory=False)))
