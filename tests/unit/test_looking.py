"""The worker's eyes: broken videos are told by name, and unusual ones raise nothing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from pydantic import TypeAdapter

from talkinghead.media.defects import judge
from talkinghead.media.looking import (
    Eye,
    Glances,
    Luma,
    Seen,
    glance,
    luma_of,
    save_glances,
)
from talkinghead.media.quality import Quality
from tests.broken_videos import BROKEN, HARMLESS, broken, harmless, looked_at
from tests.textures import KINDS, TOLD

SCENES = ("portrait", "pair", "cartoon", "drawn")
DEFECTS = ("black", "flat", "noise")


def measured(frames: Iterable[Luma], source: Luma) -> Seen:
    """All of the frames, made from one picture."""
    eye, beside = Eye(), glance(source)
    for frame in frames:
        eye.see(glance(frame), beside)
    return eye.seen()


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_video_is_told_by_name(name: str) -> None:
    _, kind, window = BROKEN[name]
    found, _ = looked_at(broken(name))
    first = found[0]
    assert (first.kind, first.is_defect) == (kind, kind in DEFECTS)
    where = f"window {window}"
    assert where in first.text or (window == 1 and "first frame" in first.text)


@pytest.mark.parametrize(("name", "scene"), [*itertools.product(HARMLESS, SCENES)])
def test_an_unusual_video_raises_nothing(name: str, scene: str) -> None:
    found, quality = looked_at(harmless(name, scene))
    assert found == []
    assert quality.black_frames == 0 and quality.frozen_seconds == 0


@pytest.mark.parametrize("name", KINDS)
def test_a_good_video_that_looks_like_noise_or_goes_dark_is_delivered(name: str) -> None:
    found, _ = looked_at(KINDS[name]())
    assert [each.text for each in found if each.is_defect] == []
    if name not in TOLD:
        assert [each.text for each in found] == []


def test_a_black_rest_is_told_as_one_whose_first_frame_is_right() -> None:
    found, _ = looked_at(broken("only the first frame is right"))
    expected = "window 1 is black from its frame 2 on; before, the picture is right"
    assert found[0].text == expected


def test_noise_out_of_latents_is_seen_from_its_first_frame_on() -> None:
    found, _ = looked_at(broken("latent noise from the second window on"))
    assert found[0].text == "window 2 is noise in all its 72 frames"


def test_what_fades_to_noise_is_refused_where_nothing_else_is_left() -> None:
    found, _ = looked_at(broken("fading to noise"))
    assert [each.kind for each in found if each.is_defect] == ["noise"]
    assert found[-1].text == "window 3 is noise in all its 72 frames"


def test_the_figures_are_those_of_what_was_done_to_the_video() -> None:
    _, jumped = looked_at(broken("the brightness falls by 12 at a seam"))
    told = jumped.payload()
    assert told["seam_jump"] == pytest.approx(-12, abs=2)
    assert told["brightness_drift"] == pytest.approx(-12, abs=2)
    assert told["worst_window"]["window"] == 3 and told["windows"] == 3
    assert told["first_frame_likeness"] > 0.95
    _, flashed = looked_at(broken("black frames now and then"))
    assert flashed.payload()["black_frames"] == 4
    _, dark = looked_at(broken("black from the first frame on"))
    assert (dark.payload()["black_frames"], dark.payload()["frozen_seconds"]) == (225, 0)
    _, stood = looked_at(broken("frozen"))
    assert stood.payload()["frozen_seconds"] == pytest.approx(9, abs=0.5)


def test_a_camera_that_turns_from_a_soft_portrait_to_a_sharp_room_sees_no_noise(
    portrait: Path,
) -> None:
    """It is finer than its source, and unlike it; noise is rough all over."""
    sharp = Image.open(portrait).convert("RGB").resize((480, 480))
    soft = sharp.filter(ImageFilter.GaussianBlur(8))
    room = sharp.transpose(Image.Transpose.ROTATE_180)
    frames = [soft if number < 10 else room for number in range(81)]
    seen = measured([luma_of(frame) for frame in frames], luma_of(soft))
    sight = judge(seen, 1, Quality(), fps=25)
    assert sight.defect is None, sight.defect


def test_noise_of_a_source_that_looks_like_it_is_told_and_delivered() -> None:
    """Nobody can say that leaves in a storm are not what the source has."""
    random, leaves = np.random.default_rng(8), KINDS["fine foliage"]().frames[0]
    cells = (leaves.shape[0] // 8, leaves.shape[1] // 8)
    noise = [random.integers(0, 256, cells, np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(10)]
    source = luma_of(Image.fromarray(leaves))
    seen = measured([source, *(noise[number // 4] for number in range(40))], source)
    sight = judge(seen, 1, Quality(), fps=25)
    assert sight.findings[0].text == "40 frames in window 1 are noise"
    assert sight.defect is None


def test_lights_that_go_out_at_once_in_the_first_second_are_a_failure() -> None:
    """So a model fails; a short video has no last second that is an end."""
    source = np.full((96, 96), 80, np.uint8)
    source[20:60] = 160
    for shown in (1, 5, 9):
        seen = measured([source] * shown + [np.full_like(source, 16)] * (20 - shown), source)
        assert judge(seen, 1, Quality(), fps=25, is_last=True).defect


def test_a_last_window_that_is_black_from_its_beginning_is_a_failure() -> None:
    source = np.full((96, 96), 80, np.uint8)
    source[20:60] = 160
    before = Quality().with_window(judge(measured([source] * 81, source), 1, Quality(), fps=25))
    seen = measured([np.full_like(source, 16)] * 20, source)
    assert judge(seen, 2, before, fps=25, is_last=True).defect


def test_without_sound_nobody_is_said_to_speak() -> None:
    source = np.full((96, 96), 80, np.uint8)
    source[20:60] = 160
    seen = measured([source] * 81, source)
    (still,) = judge(seen, 1, Quality(), fps=25).findings
    assert still.text == "nothing moves for 3.2 s in window 1"
    (still,) = judge(seen, 1, Quality(), fps=25, voiced=np.ones(81, bool)).findings
    assert still.text == "nothing moves for 3.2 s in window 1, though somebody speaks"


def test_who_is_silent_may_be_still() -> None:
    source = np.full((96, 96), 80, np.uint8)
    source[20:60] = 160
    seen = measured([source] * 81, source)
    assert judge(seen, 1, Quality(), fps=25).frozen_seconds > 3
    silent = np.zeros(81, bool)
    assert judge(seen, 1, Quality(), fps=25, voiced=silent).findings == ()


def test_a_dub_is_compared_with_its_source_frame_by_frame() -> None:
    """A video that goes dark, stands still and is cut gives one that does so, too."""
    random = np.random.default_rng(1)
    scenes = [random.integers(60, 200, (12, 12)).repeat(8, 0).repeat(8, 1) for _ in range(2)]
    frames = [*[scenes[0]] * 30, *[scenes[0] * 0 + 16] * 50, *[scenes[1]] * 70]
    eye, quality = Eye(), Quality()
    for number, (start, stop) in enumerate(((0, 81), (81, 150)), 1):
        eye = Eye()
        for frame in frames[start:stop]:
            shown = frame.astype(np.uint8)
            eye.see(glance(shown), glance(shown.copy()))
        sight = judge(eye.seen(), number, quality, fps=25)
        assert sight.findings == ()
        quality = quality.with_window(sight)


def test_figures_that_were_kept_go_on_as_if_there_had_been_no_pause() -> None:
    source = np.full((96, 96), 80, np.uint8)
    source[20:60] = 160
    first = judge(measured([source] * 81, source), 1, Quality(), fps=25)
    quality = Quality().with_window(first)
    again = TypeAdapter(Quality).validate_json(json.dumps(quality.state()))
    assert again == quality
    second = judge(measured([source + np.uint8(20)] * 72, source), 2, again, fps=25)
    assert [each.kind for each in second.findings] == ["frozen", "jump"]


def test_what_is_kept_of_pictures_is_what_is_seen_of_them(tmp_path: Path, portrait: Path) -> None:
    picture = Image.open(portrait).convert("RGB").resize((200, 120))
    picture.save(tmp_path / "0.png")
    picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "1.png")
    paths = [tmp_path / "0.png", tmp_path / "1.png"]
    save_glances(paths, tmp_path / "kept", box=(4, 2, 196, 118))
    kept = Glances(tmp_path / "kept", 192, 116)
    seen = glance(np.ascontiguousarray(luma_of(picture)[2:118, 4:196]))
    assert np.abs(kept[0].small - seen.small).max() < 0.2
    assert kept[0].fine == pytest.approx(seen.fine, abs=1e-3)
    assert kept[7] is kept[1] and kept[1] is not kept[0]
