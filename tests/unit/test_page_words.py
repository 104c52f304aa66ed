"""What `talkinghead page` makes of what a person has put together, and of what comes back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from talkinghead.client import FileTooLarge, InvalidRequest, MediaInvalid, TalkingheadError
from talkinghead.client.files import INLINE_BYTES, Attached
from talkinghead.errors import MediaTooLarge
from talkinghead.media.preview import Preview, picture_preview, video_preview
from talkinghead.media.sandbox import Sandbox
from talkinghead.page.asked import DRAFT, MODEL, Asked, Box, Source, Voice, source_field
from talkinghead.page.overlay import overlay
from talkinghead.page.words import (
    GENERAL,
    SOURCE,
    eta_text,
    fault_of,
    plan_rows,
    progress_line,
    silence_text,
)
from talkinghead.plan.request import parse_request
from tests.conftest import write_pan

SHOWN = Source(Path("/mine/1.jpg"), "me & you.jpg", "image_url", Path("/x"), Preview(9, 9, 1.0))


def asked(voices: int = 1) -> Asked:
    made = Asked(DRAFT, SHOWN)
    made.voices = [Voice(Path(f"/mine/{each}.wav"), f"{each}.wav") for each in range(voices)]
    return made


def test_what_was_put_together_is_a_request_that_a_worker_takes() -> None:
    made = asked(2)
    made.prompt, made.seconds, made.seed, made.turns = " a talk ", 2.5, 7.0, "sequential"
    made.voices[0].box, made.voices[1].box = Box(0, 0, 40, 50), Box(40, 0, 40, 50)
    request = parse_request(made.local_request(), local_files=True)
    assert [each.box for each in request.speakers] == [(0, 0, 40, 50), (40, 0, 80, 50)]
    assert (request.prompt, request.seed, request.audio_mode) == ("a talk", 7, "sequential")
    assert request.draft and request.max_audio_duration == 2.5


def test_the_request_that_is_shown_has_urls_and_no_path_of_this_machine() -> None:
    shown = asked().shown_request()
    assert shown["image_url"] == "https://example.com/me%20%26%20you.jpg"
    assert "/mine" not in str(shown)


def test_two_recordings_have_two_urls_in_the_request_that_is_shown() -> None:
    made = asked(2)
    for voice in made.voices:
        voice.name = "recording.webm"
    first, second = (each["audio_url"] for each in made.shown_request()["speakers"])
    assert first == "https://example.com/recording.webm"
    assert second == "https://example.com/2/recording.webm"


def test_what_is_missing_is_told_in_turn() -> None:
    assert Asked(DRAFT).missing == "Add a picture or a video, and a voice."
    assert Asked(DRAFT, SHOWN).missing == "Add a voice."
    assert asked().missing == ""


def test_only_a_model_render_can_be_watched() -> None:
    made = asked()
    made.watch = True
    assert "playlist" not in made.options()
    made.draft_or_model = MODEL
    assert made.options()["playlist"] is True


def test_a_fault_is_told_at_the_part_that_it_is_of() -> None:
    problems = [
        {"field": "image_url", "message": "image_url: the picture is far too large"},
        {"field": "speakers.1.box", "message": "speakers.1.box is [0]", "allowed": "four numbers"},
        {"field": "speakers.1.audio_url", "message": "speakers.1: it is silent"},
        {"field": "fps", "message": "fps is 1, allowed: 10 to 60"},
    ]
    fault = fault_of(InvalidRequest("two", output={"details": {"problems": problems}}))
    assert fault.at(SOURCE) == "The picture: the picture is far too large."
    assert fault.at("voice1") == (
        "The box of voice 2 is [0]; allowed: four numbers. Voice 2: it is silent."
    )
    assert fault.at(GENERAL) == "Fps is 1, allowed: 10 to 60."
    assert fault.at("voice0") == ""


def test_a_fault_without_details_is_told_by_the_field_that_its_sentence_begins_with() -> None:
    assert fault_of(MediaInvalid("speakers.0.box: it lies outside")).at("voice0")
    assert fault_of(MediaTooLarge("video_url: 60 megapixels")).at(SOURCE)
    assert fault_of(TalkingheadError("nobody answers")).at(GENERAL) == "Nobody answers."


def test_a_file_that_is_too_large_for_an_endpoint_is_told_with_the_way_that_it_can_go() -> None:
    with pytest.raises(FileTooLarge) as raised:
        Attached({}, {"video_url": bytes(INLINE_BYTES + 1)}, None)
    said = fault_of(raised.value).at(GENERAL)
    assert "7.0 MB" in said and said.endswith("S3_SECRET set.") and "storage" not in said


def test_time_and_price_are_those_of_a_card_or_of_all() -> None:
    found: dict[str, Any] = {
        "width": 480,
        "height": 854,
        "duration_seconds": 10.0,
        "delivered_frames": 250,
    }
    found |= {"way": "chain", "windows": 4, "ram_gb": 1.0, "disk_gb": 0.1}
    known = {"seconds": 300, "seconds_source": "measured", "price": 0.06, "price_per_hour": 0.69}
    rows = dict(plan_rows({"estimate": found | known}))
    assert rows["Rendered"] == "window by window, 4 windows"
    assert (rows["Time"], rows["Price"]) == ("5 min (measured)", "0.06, at 0.69 an hour")
    nobody = {"seconds": None, "seconds_by_card": {"RTX 4090": 300}, "price_per_hour": None}
    rows = dict(plan_rows({"estimate": found | nobody}))
    assert "RTX 4090: 5 min" in rows["Time"] and "PRICE_PER_HOUR" in rows["Price"]


def test_progress_is_told_by_stage_and_window() -> None:
    window = {"stage": "render", "window": 2, "windows": 5, "message": "window 2 of 5, step 1"}
    assert progress_line(window) == "Rendering window 2 of 5"
    assert progress_line({"stage": "fetch", "message": "fetching"}) == "Fetching the files"
    assert (eta_text(None), eta_text(130)) == ("", "about 2 min left")
    assert (silence_text(8), silence_text(45)) == ("", "no answer for 45 s")


@pytest.mark.parametrize("name", ["portrait.jpg", "voice.wav"])
def test_a_picture_is_no_video(name: str, portrait: Path) -> None:
    assert source_field(portrait.with_name(name)) == "image_url"


def test_a_preview_stands_for_the_whole_picture_and_a_videos_first_frame(
    tmp_path: Path, portrait: Path, sandbox: Sandbox
) -> None:
    shown = tmp_path / "shown.jpg"
    preview = sandbox.call(
        "image_url", picture_preview, "image_url", portrait, shown, side=128, max_megapixels=50
    )
    assert (preview.width, preview.scale, preview.seconds) == (512, 4.0, None)
    video = write_pan(tmp_path / "pan.mp4", portrait)
    assert source_field(video) == "video_url"
    preview = sandbox.call(
        "video_url", video_preview, "video_url", video, shown, side=160, max_megapixels=50
    )
    assert (preview.width, preview.height, preview.scale) == (320, 240, 2.0)
    assert preview.seconds


def test_who_has_a_box_gives_the_others_theirs() -> None:
    made = asked(3)
    made.voices[0].box = Box(1, 1, 2, 2)
    made.give_boxes([{"speaker": "speakers.1", "box": [3, 0, 6, 9], "face": None}])
    assert [voice.box for voice in made.voices] == [
        *(Box(1, 1, 2, 2), Box(3, 0, 3, 9)),
        Box(6, 0, 3, 9),  # nobody was found: a third of the picture
    ]


def test_a_picture_shows_who_speaks_who_stays_still_and_whose_face_nobody_knows() -> None:
    face, box = [1, 1, 2, 2], [0, 0, 9, 9]
    known = {"speaker": "speakers.0", "face": face, "box": box}
    nobody = {"speaker": None, "face": face, "box": None}
    drawn = overlay(asked(), [known, nobody])
    assert re.findall(r">([a-z0-9 ]+)</text>", drawn) == ["voice 1", "still"]
    assert "dasharray" in drawn
    assert re.findall(r">([a-z0-9 ]+)</text>", overlay(asked(2), [nobody])) == ["face"]


def test_a_box_takes_the_place_of_what_was_found() -> None:
    made = asked()
    made.voices[0].box = Box(1, 2, 3, 4)
    drawn = overlay(made, [{"speaker": "speakers.0", "face": None, "box": [0, 0, 9, 9]}])
    assert 'x="1.0" y="2.0" width="3.0" height="4.0"' in drawn and "dasharray" not in drawn
    pulled = overlay(made, [], drawing=made.voices[0], pulled=[0, 0, 1, 1])
    assert "dasharray" in pulled, "a box that is being drawn"
