"""Who speaks where, and which part of the picture is shown, decided from faces at known places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from talkinghead.errors import InvalidRequest, UnsupportedCombination
from talkinghead.media.faces import Face
from talkinghead.media.masks import Box, Framing, speaker_masks
from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.plan.framing import held, like_source
from talkinghead.plan.plan import Plan, make_plan
from talkinghead.plan.request import parse_request

ONE = {"image_url": "https://x/i.jpg", "wav_url": "https://x/a.wav"}
TWO = {"image_url": "https://x/i.jpg", "audio_urls": ["https://x/a.wav", "https://x/b.wav"]}
TWO_OF_A = ONE | {"person_count": "multi", "wav_url_2": "https://x/b.wav"}
LEFT, RIGHT = (120, 180, 320, 490), (940, 190, 1160, 490)
MASKS = ((0.0, 0.0, 0.4, 1.0), (0.5, 0.0, 1.0, 1.0))  # fractions, as they are read
AT_THE_RIGHT = (1040, 200, 1160, 360)


def plan(
    fields: dict[str, Any],
    faces: list[Box] | None,
    size: tuple[int, int] = (1280, 720),
    masks: Sequence[Box | None] = (),
) -> Plan:
    request = parse_request(fields)
    voices = [Sound(2.0, 48_000, 1, False) if s.audio_url else None for s in request.speakers]
    found = None if faces is None else [Face(box, 0.9) for box in faces]
    return make_plan(request, voices, Picture(*size), faces=found, masks=masks)


def people(*boxes: list[float] | None, **fields: Any) -> dict[str, Any]:
    speakers = [{"audio_url": "https://x/a.wav"} | ({"box": box} if box else {}) for box in boxes]
    return {"image_url": "https://x/i.jpg", "speakers": speakers, **fields}


def masked(count: int = 2, **fields: Any) -> dict[str, Any]:
    speaker = {"audio_url": "https://x/a.wav", "mask_url": "https://x/m.png"}
    return {"image_url": "https://x/i.jpg", "speakers": [speaker] * count, **fields}


def said(made: Plan, words: str) -> bool:
    return any(words in warning for warning in made.warnings)


def test_a_person_at_the_right_of_a_landscape_photo_is_in_the_upright_video() -> None:
    made = plan(ONE, [AT_THE_RIGHT])
    assert (made.width, made.height) == (480, 854)
    assert held(made.framing, AT_THE_RIGHT) == 1
    assert not made.warnings


def test_the_crop_moves_no_further_than_it_has_to() -> None:
    middle = plan(ONE, [(600, 200, 700, 330)]).framing
    assert middle.cut[0] == pytest.approx(0.5)
    x0, _, x1, _ = plan(ONE, [AT_THE_RIGHT]).framing.crop_box
    assert x1 == pytest.approx(1160 + 0.6 * 120)
    assert x1 - x0 == pytest.approx(720 * 480 / 864)


@pytest.mark.parametrize("fields", [TWO, TWO_OF_A], ids=["contract B", "contract A"])
def test_two_people_whom_the_contracts_size_leaves_out_get_the_pictures_shape(
    fields: dict[str, Any],
) -> None:
    made = plan(fields, [LEFT, RIGHT])
    assert (made.width, made.height) == (854, 480)
    assert said(made, "854x480, the source's shape, is rendered instead of")
    assert all(held(made.framing, box) == 1 for box in (LEFT, RIGHT))


def test_two_people_whose_heads_the_contracts_size_cuts_get_the_pictures_shape() -> None:
    """Their faces are in the frame, side by side from edge to edge; half of their hair is not."""
    narrow: list[Box] = [(450, 200, 570, 350), (720, 200, 840, 350)]
    made = plan(TWO, narrow)
    assert said(made, "that would cut the head of audio_urls.0 and of audio_urls.1; aspect_ratio")
    assert (made.width, made.height) == (854, 480)
    asked = plan(TWO | {"aspect_ratio": "9:16"}, narrow)
    assert asked.width < asked.height
    apart: list[Box] = [(540, 200, 600, 280), (700, 200, 760, 280)]
    assert (plan(TWO, apart).width, plan(TWO, apart).height) == (400, 704)


def test_two_people_in_a_shape_that_cannot_hold_them_are_refused_with_one_that_can() -> None:
    with pytest.raises(UnsupportedCombination, match='aspect_ratio "16:9", which holds everybody'):
        plan(TWO | {"aspect_ratio": "9:16"}, [LEFT, RIGHT])
    with pytest.raises(UnsupportedCombination, match="400x704 would leave out"):
        plan(TWO | {"width": 400, "height": 704}, [LEFT, RIGHT])


def test_a_headless_portrait_is_refused_or_warned_of() -> None:
    face = (100, 100, 900, 1100)
    with pytest.raises(UnsupportedCombination, match='aspect_ratio "9:16"'):
        plan(ONE | {"aspect_ratio": "16:9"}, [face], (1000, 1780))
    made = plan(ONE | {"aspect_ratio": "16:9", "crop": "center"}, [face], (1000, 1780))
    assert said(made, "of the face of wav_url is cut away")


@pytest.mark.parametrize(
    ("crop", "shown"),
    [
        ("center", (438, 843)),
        ("left", (0, 405)),
        ("right", (875, 1280)),
        ("top", (438, 843)),
        ("bottom", (438, 843)),
    ],
)
def test_a_crop_that_the_caller_gives_is_obeyed(crop: str, shown: tuple[int, int]) -> None:
    made = plan(ONE | {"crop": crop, "width": 400, "height": 704}, [AT_THE_RIGHT])
    x0, _, x1, _ = made.framing.crop_box
    assert (x0, x1) == pytest.approx(shown, abs=5)
    assert said(made, "is cut away") == (crop != "right")


def test_the_bottom_of_an_upright_picture_stays() -> None:
    made = plan(ONE | {"crop": "bottom", "aspect_ratio": "16:9"}, None, (720, 1280))
    assert made.framing.crop_box[3] == pytest.approx(1280)


@pytest.mark.parametrize(
    ("size", "video"),
    [
        ((1280, 720), (854, 480)),
        ((1366, 768), (854, 480)),
        ((720, 1280), (480, 854)),
        ((1000, 1000), (640, 640)),
        ((1500, 1000), (768, 512)),
        ((3000, 500), (1536, 256)),
    ],
)
def test_auto_is_the_sources_shape(size: tuple[int, int], video: tuple[int, int]) -> None:
    made = plan(ONE | {"aspect_ratio": "auto"}, None, size)
    assert (made.width, made.height) == video == like_source(size, "480p")


def test_width_or_height_alone_takes_the_sources_shape() -> None:
    wide, high = plan(ONE | {"width": 640}, None), plan(ONE | {"height": 512}, None, (500, 1000))
    assert (wide.width, wide.height) == (640, 352)
    assert (high.width, high.height) == (256, 512)


@pytest.mark.parametrize(
    ("size", "side", "came", "allowed"),
    [
        ((720, 1280), "width", 1500, "256 to 868"),
        ((1920, 800), "height", 1536, "256 to 643"),
        ((1280, 720), "width", 257, "441 to 1536"),
        ((1280, 720), "width", 400, "441 to 1536"),
    ],
)
def test_a_side_alone_whose_other_side_cannot_follow_the_source_is_refused_with_those_that_can(
    size: tuple[int, int], side: str, came: int, allowed: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"{side} is {came}, allowed: {allowed}") as raised:
        plan(ONE | {side: came}, None, size)
    [problem] = raised.value.details["problems"]
    assert (problem["field"], problem["got"], problem["allowed"]) == (side, came, allowed)
    for possible in map(int, allowed.split(" to ")):
        made = plan(ONE | {side: possible}, None, size)
        assert made.width / made.height == pytest.approx(size[0] / size[1], rel=0.04)


def test_the_advice_to_give_a_shape_can_be_followed() -> None:
    sides = {"width": 512, "height": 512}
    advice = 'aspect_ratio "16:9" instead of width and height, which holds everybody'
    with pytest.raises(UnsupportedCombination, match=advice):
        plan(TWO | sides, [LEFT, RIGHT])
    with pytest.raises(UnsupportedCombination, match='aspect_ratio "16:9", which holds everybody'):
        plan(TWO | {"aspect_ratio": "9:16"}, [LEFT, RIGHT])


def test_each_speaker_gets_the_face_in_its_order_from_the_left() -> None:
    made = plan(TWO | {"aspect_ratio": "16:9"}, [LEFT, RIGHT])
    assert made.speakers_found == [
        {"speaker": "audio_urls.0", "face": [*LEFT], "box": [0, 0, 630, 720]},
        {"speaker": "audio_urls.1", "face": [*RIGHT], "box": [630, 0, 1280, 720]},
    ]
    masks = speaker_masks(made.framing, made.regions)
    for mask, (x0, y0, x1, y1) in zip(masks, (LEFT, RIGHT), strict=False):
        row = round((y0 + y1) / 2 / 720 * made.framing.render_height)
        assert mask[row, round((x0 + x1) / 2 / 1280 * made.framing.render_width)] == 255


def test_bystanders_are_told_and_stay_still() -> None:
    small = (600, 200, 660, 290)
    made = plan(TWO | {"aspect_ratio": "16:9"}, [LEFT, small, RIGHT])
    assert said(made, "3 faces were found for 2 speakers")
    assert made.speakers_found[-1] == {"speaker": None, "face": [*small], "box": None}
    masks = speaker_masks(made.framing, made.regions)
    row, column = (round(at * made.framing.render_height / 720) for at in (245, 630))
    assert masks[-1][row, column] == 255


def test_of_faces_as_large_as_each_other_one_voice_gets_the_one_nearest_the_middle() -> None:
    middle, larger = (560, 200, 765, 480), (940, 190, 1160, 480)
    pictures: list[list[Box]] = [[middle, larger], [(100, 190, 320, 480), middle]]
    for faces in pictures:
        made = plan(ONE, faces)
        assert made.speakers_found[0]["face"] == [*middle]
        assert held(made.framing, middle) == 1
    huge = (900, 150, 1160, 490)
    assert plan(ONE, [middle, huge]).speakers_found[0]["face"] == [*huge]


def test_of_several_faces_in_a_box_the_one_nearest_its_middle_speaks() -> None:
    middle = (560, 200, 760, 500)
    made = plan(people([0, 0, 1, 1], aspect_ratio="16:9"), [LEFT, middle, RIGHT])
    assert made.speakers_found[0]["face"] == [*middle]


def test_the_warnings_of_other_faces_say_whether_they_stay_still() -> None:
    faces: list[Box] = [LEFT, (600, 200, 660, 290), RIGHT]
    [one] = [each for each in plan(ONE, faces).warnings if "faces were found" in each]
    [two] = [
        each
        for each in plan(TWO | {"aspect_ratio": "auto"}, faces).warnings
        if "faces were found" in each
    ]
    assert "others may speak along" in one and "stay still" not in one
    assert "others stay still" in two


def test_fewer_faces_than_voices_are_told_and_strips_are_taken() -> None:
    made = plan(TWO | {"aspect_ratio": "16:9"}, [RIGHT])
    assert made.regions == (None, None)
    assert said(made, "1 face was found for 2 speakers")


def test_two_masked_people_whom_the_contracts_size_leaves_out_get_the_pictures_shape() -> None:
    made = plan(masked(), [LEFT, RIGHT], masks=MASKS)
    assert (made.width, made.height) == (854, 480)
    assert said(made, "854x480, the source's shape, is rendered instead of 480x854")


def test_two_masked_people_in_a_shape_that_cannot_hold_them_are_refused() -> None:
    with pytest.raises(UnsupportedCombination, match='aspect_ratio "16:9", which holds everybody'):
        plan(masked(aspect_ratio="9:16"), [LEFT, RIGHT], masks=MASKS)
    with pytest.raises(UnsupportedCombination, match=r"of the mask of speakers\.0"):
        plan(masked(aspect_ratio="9:16"), [], masks=MASKS)


def test_a_masked_speaker_is_found_with_the_face_that_lies_in_its_mask() -> None:
    made = plan(masked(aspect_ratio="16:9"), [LEFT, RIGHT], masks=MASKS[::-1])
    assert made.speakers_found == [
        {"speaker": "speakers.0", "face": [*RIGHT], "box": [640, 0, 1280, 720]},
        {"speaker": "speakers.1", "face": [*LEFT], "box": [0, 0, 512, 720]},
    ]
    assert not made.warnings


def test_one_masked_speaker_is_kept_in_the_frame_and_not_another_face() -> None:
    made = plan(masked(1, aspect_ratio="9:16"), [LEFT, RIGHT], masks=MASKS[:1])
    assert held(made.framing, LEFT) == 1
    assert said(made, "with one person a box or mask_url only keeps it in the frame")


def test_a_mask_without_a_face_is_kept_in_the_frame() -> None:
    made = plan(masked(1, aspect_ratio="9:16"), [LEFT], masks=[(0.8, 0.1, 0.95, 0.9)])
    assert held(made.framing, (1024, 72, 1216, 648)) == 1
    assert said(made, "speakers.0: no face was found in its mask")


def test_a_box_that_is_larger_than_the_frame_is_obeyed_where_the_face_is_in_it() -> None:
    made = plan(people([0, 0, 1, 1], aspect_ratio="9:16"), [AT_THE_RIGHT])
    assert held(made.framing, AT_THE_RIGHT) == 1
    halves = people([0, 0, 0.5, 1], [0.5, 0, 1, 1], aspect_ratio="9:16")
    near: list[Box] = [(500, 200, 600, 330), (680, 200, 780, 330)]
    made = plan(halves, near)
    assert all(held(made.framing, face) == 1 for face in near)


def test_a_box_without_a_face_is_refused_with_less_than_60_of_100_in_the_frame() -> None:
    assert plan(people([400, 0, 900, 720], aspect_ratio="9:16"), []).width == 480
    with pytest.raises(UnsupportedCombination, match=r"of the box of speakers\.0"):
        plan(people([0, 0, 1, 1], aspect_ratio="9:16"), [])


def test_no_face_is_told() -> None:
    assert said(plan(ONE, []), "image_url: no face was found")
    assert not said(plan(ONE, None), "face")


def test_a_draft_with_too_few_faces_says_which_mouths_move() -> None:
    only = "this draft moves a mouth only where it finds a face"
    assert said(plan(ONE | {"draft": True}, []), only)
    two = plan(TWO | {"draft": True, "aspect_ratio": "16:9"}, [RIGHT])
    assert said(two, "1 face was found for 2 speakers")
    assert said(two, only)
    assert not said(two, "no mouth")
    in_a_box = people([1000, 100, 1200, 500], draft=True)
    assert said(plan(in_a_box, [LEFT]), "speakers.0: no face was found in its box")


def test_one_person_with_a_box_is_told_that_others_in_the_frame_may_speak_along() -> None:
    in_a_box = people([100, 100, 500, 700])
    made = plan(in_a_box, [LEFT, RIGHT])
    assert said(made, "with one person a box or mask_url only keeps it in the frame")
    assert said(made, "others in the frame may speak along")
    draft = plan(in_a_box | {"draft": True}, [LEFT, RIGHT])
    assert said(draft, "in this draft the mouth moves where box or mask_url says")
    assert said(draft, "others in the frame may speak along")


@pytest.mark.parametrize(
    ("faces", "words"),
    [
        ([(300, 200, 500, 450), (450, 210, 650, 460)], "overlap"),
        ([(100, 200, 400, 600), (700, 200, 800, 320)], "differ in size by 3.0 times"),
    ],
)
def test_doubtful_faces_are_told_with_what_to_do(faces: list[Box], words: str) -> None:
    made = plan(TWO | {"aspect_ratio": "16:9"}, faces)
    assert said(made, words)
    assert said(made, "give each a box")


def test_a_box_of_the_request_wins_over_faces() -> None:
    swapped = people([900, 0, 1280, 720], [0.0, 0.0, 0.4, 1.0], aspect_ratio="16:9")
    made = plan(swapped, [LEFT, RIGHT])
    assert [person["face"] for person in made.speakers_found] == [[*RIGHT], [*LEFT]]
    assert made.regions[0] == (900, 0, 1280, 720)


def test_a_box_without_a_face_is_kept_in_the_frame() -> None:
    made = plan(people([1000, 100, 1200, 500]), [])
    assert held(made.framing, (1000, 100, 1200, 500)) == 1


def test_a_box_outside_of_the_picture_does_not_decide_the_shape() -> None:
    made = plan(people([1000, 0, 1200, 700], [2000, 0, 2100, 500], width=400, height=704), [])
    assert held(made.framing, (1000, 0, 1200, 700)) == 1


def test_faces_above_each_other_are_parted_by_a_level_line() -> None:
    faces: list[Box] = [(300, 100, 420, 260), (310, 800, 430, 960)]
    made = plan(TWO | {"aspect_ratio": "9:16"}, faces, (720, 1280))
    regions = [region for region in made.regions if region]
    assert regions[0][3] == 530 < regions[1][1]


def test_a_crop_that_shows_too_little_of_a_speaker_still_gives_masks() -> None:
    made = plan(TWO | {"crop": "left", "width": 400, "height": 704}, [LEFT, (1200, 300, 1260, 380)])
    assert made.regions == (None, None)
    assert said(made, "too little of audio_urls.1 is in the frame")
    assert speaker_masks(made.framing, made.regions).shape[0] == 3


def test_a_crop_that_leaves_out_the_one_speaker_does_not_speak_of_strips() -> None:
    made = plan(ONE | {"crop": "left"}, [AT_THE_RIGHT])
    assert said(made, "all of the face of wav_url is cut away")
    assert not said(made, "strips") and not said(made, "too little of")


def test_the_one_face_that_is_in_the_frame_is_not_said_to_be_cut_away() -> None:
    made = plan(TWO_OF_A, [AT_THE_RIGHT])
    assert held(made.framing, AT_THE_RIGHT) == 1
    assert said(made, "of its width is cut away, and perhaps who was not found: it has 1280x720")
    assert said(plan(TWO_OF_A, []), "is cut away, and who is there with it")


def test_the_framing_is_the_middle_unless_said() -> None:
    assert Framing(100, 300, 200, 200).at(0, 0).crop_box == (0, 0, 100, 100)
