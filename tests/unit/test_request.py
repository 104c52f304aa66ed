from __future__ import annotations

from typing import Any

import pytest

from talkinghead.errors import InvalidRequest
from talkinghead.plan.fields import MAX_SEED
from talkinghead.plan.request import RenderRequest, parse_request

A = {"image_url": "https://example.com/i.jpg", "wav_url": "https://example.com/a.wav"}
B = {"image_url": "https://example.com/i.jpg", "audio_urls": ["https://example.com/a.mp3"]}
NATIVE = {
    "image_url": "https://example.com/i.jpg",
    "speakers": [{"audio_url": "https://example.com/a.mp3"}],
}


def refused(data: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse_request(data)
    return caught.value


def fields_of(error: InvalidRequest) -> set[str]:
    return {problem["field"] for problem in error.details["problems"]}


def size(request: RenderRequest) -> tuple[int, int]:
    return request.width, request.height


def test_the_audio_field_decides_the_contract_and_the_contract_its_defaults() -> None:
    a, b, native = parse_request(A), parse_request(B), parse_request(NATIVE)
    assert (a.dialect, a.mode, a.audio_mode, size(a)) == (
        "A",
        "infinitetalk",
        "parallel",
        (480, 854),
    )
    assert (b.dialect, b.mode, b.audio_mode, size(b)) == (
        "B",
        "multitalk",
        "sequential",
        (400, 704),
    )
    assert (native.dialect, native.mode, native.fps) == ("native", "infinitetalk", 25)
    assert a.prompt == "A person talking naturally"
    assert b.prompt == "The person takes turns talking"


@pytest.mark.parametrize(
    ("aspect_ratio", "resolution", "expected"),
    [
        ("16:9", "480p", (854, 480)),
        ("9:16", "480p", (480, 854)),
        ("16:9", "720p", (1280, 720)),
        ("9:16", "720p", (720, 1280)),
    ],
)
def test_contract_a_promises_four_sizes(
    aspect_ratio: str, resolution: str, expected: tuple[int, int]
) -> None:
    request = parse_request(A | {"aspect_ratio": aspect_ratio, "resolution": resolution})
    assert size(request) == expected


def test_every_optional_field_is_open_to_both_contracts() -> None:
    a = parse_request(A | {"seed": 5, "steps": 8, "width": 640, "height": 640, "mode": "multitalk"})
    b = parse_request(B | {"aspect_ratio": "16:9", "prompt": "hello", "max_frame": 90})
    assert (a.seed, a.steps, size(a), a.mode) == (5, 8, (640, 640), "multitalk")
    assert (size(b), b.prompt, b.max_frame) == ((854, 480), "hello", 90)


def test_seed_zero_asks_for_a_chosen_seed() -> None:
    assert parse_request(B | {"seed": 0}).seed is None
    assert parse_request(B | {"seed": MAX_SEED}).seed == MAX_SEED


def test_the_speed_lora_and_block_swap_are_one_number_each_and_off_is_zero() -> None:
    on = parse_request(B | {"use_block_swap": True})
    off = parse_request(B | {"use_speed_lora": False, "use_block_swap": False, "blocks_to_swap": 9})
    assert (on.speed_lora_strength, on.blocks_to_swap) == (1.0, 20)
    assert (off.speed_lora_strength, off.blocks_to_swap) == (0.0, 0)


def test_null_is_the_same_as_absent() -> None:
    assert parse_request(A | {"seed": None, "width": None}) == parse_request(A)


def test_all_mistakes_are_reported_at_once() -> None:
    error = refused({"resolution": "4k", "fps": 100, "seed": -1, "image_url": "ftp://x/y"})
    assert fields_of(error) == {"wav_url", "resolution", "fps", "seed", "image_url"}
    assert str(error).startswith("Missing required parameter: wav_url")
    assert 'resolution is \'4k\', allowed: "480p" or "720p"' in str(error)
    assert "fps is 100, allowed: 10 to 60" in str(error)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"image_url": A["image_url"]}, "Missing required parameter: wav_url"),
        ({"wav_url": A["wav_url"]}, "Missing required parameter: image_url (or video_url)"),
        (A | {"input_type": "video"}, "Missing required parameter: video_url"),
        (A | {"person_count": "multi"}, "Missing required parameter: wav_url_2"),
        (A | {"stepps": 4}, "stepps is not a known field; the nearest known one is steps"),
        (A | {"steps": "4"}, "steps is '4', allowed: a whole number"),
        (A | {"width": 255}, "width is 255, allowed: 256 to 1536"),
        (A | {"draft": "yes"}, "draft is 'yes', allowed: true or false"),
        (A | {"scheduler": "euler_a"}, "scheduler is 'euler_a', allowed: \"unipc\""),
        (A | {"max_audio_duration": 0}, "max_audio_duration is 0, allowed: more than 0"),
        (A | {"max_frame": 0}, "max_frame is 0, allowed: 1 or more"),
        (A | {"audio_urls": [A["wav_url"]]}, "wav_url and audio_urls exclude each other"),
        (A | {"prompt": "a", "positive_prompt": "b"}, "are the same field: give one"),
        (A | {"width": 640, "resolution": "480p"}, "width and resolution exclude each other"),
        (A | {"steps": 6, "scheduler": "flowmatch_distill"}, "works with 4 steps only"),
        (B | {"audio_urls": []}, "audio_urls is 'list of 0', allowed: 1 to 4 items"),
        (B | {"audio_urls": [A["wav_url"], 3]}, "audio_urls.1 is 3, allowed: a string"),
        ({**NATIVE, "speakers": [{"box": [0, 0, 1]}]}, "speakers.0.box is 'list of 3', allowed: 4"),
        ({**NATIVE, "speakers": [{}]}, "Missing required parameter: speakers.0.audio_url"),
        ([], "input must be a JSON object"),
    ],
)
def test_an_error_names_the_field_what_came_and_what_is_allowed(
    data: dict[str, Any], expected: str
) -> None:
    assert expected in str(refused(data))


def test_mistakes_come_in_the_order_of_the_fields_sources_first() -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse_request({"steps": 0, "nonsense": 1, "fps": 0, "seed": "x", "wav_url": 3})
    fields = [problem["field"] for problem in raised.value.details["problems"]]
    assert fields[1:] == ["wav_url", "seed", "fps", "steps", "nonsense"]  # a missing one is first


def test_a_box_must_have_an_area() -> None:
    speaker = {"audio_url": A["wav_url"], "box": [0.5, 0, 0.2, 1]}
    assert "speakers.0.box" in str(refused({**NATIVE, "speakers": [speaker]}))


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "s3://b/k", "http://", "https://a b/c", "nonsense", "//host/x", ""],
)
def test_only_http_urls_are_taken(url: str) -> None:
    assert "allowed: an http:// or https:// URL" in str(refused(A | {"wav_url": url}))


def test_an_error_shows_no_password_and_no_query_of_a_url() -> None:
    url = "ftp://user:hunter2@example.com/a.wav?X-Amz-Signature=topsecret"
    error = refused(A | {"wav_url": url})
    shown = str(error) + str(error.details)
    assert "example.com/a.wav" in shown
    assert "hunter2" not in shown and "topsecret" not in shown


def test_fields_that_a_contract_lets_a_client_send_in_vain_give_a_warning() -> None:
    request = parse_request(A | {"wav_url_2": A["wav_url"], "person_count": "single"})
    assert len(request.speakers) == 1
    assert "wav_url_2 has no effect" in request.warnings[0]
