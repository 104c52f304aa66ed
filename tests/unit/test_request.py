from __future__ import annotations

import json
from typing import Any

import pytest

from talkinghead.errors import InvalidRequest
from talkinghead.plan.fields import MAX_SEED, RequestFields
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


def size(request: RenderRequest) -> tuple[int | None, int | None]:
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
    error = refused({"resolution": "4k", "fps": 100, "seed": -2, "image_url": "ftp://x/y"})
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
        (A | {"steps": "four"}, "steps is 'four', allowed: a whole number"),
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
    ["file:///etc/passwd", "s3://b/k", "http://", "https://a b/c", "nonsense", "//host/x"],
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


# What a form, a script or another worker's client sends


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"width": "480"}, 'width: got "480", a text; write 480 without quotes'),
        ({"steps": "4.0"}, 'steps: got "4.0", a text; write 4 without quotes'),
        ({"fps": " 29.97 "}, 'fps: got "29.97", a text; write 29.97 without quotes'),
        ({"draft": "True"}, 'draft: got "True", a text; write true without quotes'),
        ({"seed": "-1"}, 'seed: got "-1", a text; write -1 without quotes'),
        ({"fps": "25,5"}, 'fps: got "25,5", a text; write 25.5 without quotes'),
        ({"audio_scale": ".5"}, 'audio_scale: got ".5", a text; write 0.5 without quotes'),
        ({"audio_scale": "+1."}, 'audio_scale: got "+1.", a text; write 1 without quotes'),
        ({"max_audio_duration": "1,000"}, "max_audio_duration is '1,000', allowed: a number"),
        ({"steps": "4.5"}, "steps is '4.5', allowed: a whole number"),
        ({"steps": 4.5}, "steps is 4.5, allowed: a whole number"),
    ],
)
def test_a_number_in_quotes_is_refused_by_the_form_that_is_right(
    fields: dict[str, Any], sentence: str
) -> None:
    error = refused(A | fields)
    assert sentence in str(error)
    assert len(error.details["problems"]) == 1


def test_whole_numbers_may_have_a_point_and_minus_one_is_a_random_seed() -> None:
    request = parse_request(A | {"max_frame": 81.0, "width": 512.0, "seed": -1.0})
    assert (request.max_frame, request.width, request.seed) == (81, 512, None)
    assert all(type(each) is int for each in (request.max_frame, request.width))


def test_blanks_around_a_url_are_trimmed() -> None:
    speakers = [{"audio_url": f"\t{A['wav_url']}\n"}]
    request = parse_request({"image_url": f" {A['image_url']}\r\n", "speakers": speakers})
    assert (request.image_url, request.speakers[0].audio_url) == (A["image_url"], A["wav_url"])


def test_blanks_around_a_choice_are_trimmed_and_those_in_a_prompt_stay() -> None:
    request = parse_request(A | {"aspect_ratio": " 16:9 ", "mode": "multitalk\n", "prompt": " a "})
    assert (request.width, request.mode, request.prompt) == (854, "multitalk", " a ")
    assert "aspect_ratio is '16 : 9', allowed: " in str(refused(A | {"aspect_ratio": " 16 : 9"}))


@pytest.mark.parametrize("left", ["", " \n"])
def test_a_voice_that_a_form_left_empty_is_none(left: str) -> None:
    url, b = A["wav_url"], {"image_url": A["image_url"]}
    asked = parse_request(b | {"audio_urls": [url, left, left]})
    assert [each.audio_url for each in asked.speakers] == [url]
    assert "Missing required parameter: wav_url" in str(refused(b | {"audio_urls": [left, left]}))
    assert "audio_urls.0 is '" in str(refused(b | {"audio_urls": [left, url]}))


@pytest.mark.parametrize("left", ["", " \n"])
def test_a_field_that_a_form_left_empty_is_not_given(left: str) -> None:
    empty = dict.fromkeys(RequestFields.model_fields, left)
    assert parse_request(empty | A) == parse_request(A)
    speaker = {"audio_url": A["wav_url"], "mask_url": "", "box": ""}
    assert parse_request(NATIVE | {"speakers": [speaker]}).speakers[0].box is None
    assert "Missing required parameter: wav_url" in str(refused(A | {"wav_url": ""}))
    assert "stepps is not a known field" in str(refused(A | {"stepps": ""}))


@pytest.mark.parametrize(
    ("fields", "field", "sentence"),
    [
        (
            {"prompt": "a\ud83d"},
            "prompt",
            "prompt: half of a character ('\\ud83d') at its character 2",
        ),
        ({"aspect_ratio": "\udc00"}, "aspect_ratio", "aspect_ratio: half of a character"),
        ({"pro\ud83dmpt": "a"}, "pro\\ud83dmpt", "its name has half of a character"),
        ({"fps": float("nan")}, "fps", "fps: no number: JSON has no NaN and no Infinity"),
        ({"speakers": [{"box": [0, float("inf")]}]}, "speakers.0.box.1", "no NaN and no Infinity"),
        ({3: "a"}, "3", "the name of a field is no text"),
        ({"seed": 10**400}, "seed", "seed: a number of more than 308 digits"),
    ],
)
def test_what_json_cannot_carry_is_refused_with_its_field(
    fields: dict[Any, Any], field: str, sentence: str
) -> None:
    error = refused(A | fields | {"steps": 0})
    assert sentence in str(error)
    assert field in fields_of(error) and "steps" in fields_of(error)
    json.dumps(error.details, ensure_ascii=False, allow_nan=False).encode()


def test_values_nested_without_end_are_refused() -> None:
    deep: Any = "end"
    for _ in range(100_000):
        deep = [deep]
    assert "prompt.0.0" in str(refused(A | {"prompt": deep}))


# Files in the request itself


PNG = "data:image/png;base64,iVBORw0KGgo="


def test_a_file_itself_may_stand_wherever_a_url_does() -> None:
    assert parse_request(A | {"image_url": PNG}).image_url == PNG
    assert parse_request(B | {"audio_urls": [PNG, f" {PNG}"]}).speakers[1].audio_url == PNG
    speaker = {"audio_url": PNG, "mask_url": PNG}
    assert parse_request(NATIVE | {"speakers": [speaker]}).speakers[0].mask_url == PNG
    assert "upload_url" in str(refused(A | {"upload_url": PNG}))


def test_the_base64_fields_of_the_public_worker_are_taken_with_and_without_a_prefix() -> None:
    fields = {"image_base64": PNG, "wav_base64": "UklGRg==", "wav_base64_2": "UklGRg=="}
    request = parse_request({**fields, "person_count": "multi"})
    assert (request.dialect, request.image_url, request.picture_field) == ("A", PNG, "image_base64")
    assert [(each.field, each.audio_url) for each in request.speakers] == [
        ("wav_base64", "data:;base64,UklGRg=="),
        ("wav_base64_2", "data:;base64,UklGRg=="),
    ]
    video = parse_request({"video_base64": "AAAA", "wav_base64": "UklGRg==", "input_type": "video"})
    assert (video.video_url, video.picture_field) == ("data:;base64,AAAA", "video_base64")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (A | {"image_base64": PNG}, "image_url and image_base64 exclude each other"),
        ({**B, "wav_base64": "UklG"}, "wav_base64 and audio_urls exclude each other"),
        (A | {"image_url": "data:image/png,x"}, "allowed: data:, its type, ;base64, and the file"),
        (A | {"image_url": "data:image/png (123 bytes)"}, "which a bundle or report tells by its"),
        ({"image_base64": A["image_url"], "wav_url": A["wav_url"]}, "image_base64 is 'https://"),
        ({"image_base64": 3, "wav_base64": "UklG"}, "image_base64 is 3, allowed: a string"),
        ({"image_base64": PNG}, "Missing required parameter: wav_url"),
    ],
)
def test_a_file_that_cannot_be_one_is_refused(fields: dict[str, Any], expected: str) -> None:
    error = refused(fields)
    assert expected in str(error)
    assert len(error.details["problems"]) == 1


def test_an_error_shows_nothing_of_a_file() -> None:
    data = f"data:image/png;base64,{'Y2FuYXJ5' * 1000}"
    for fields in (
        {"image": data},
        {"image_url": data[:-9] + ",", "fps": data},
        {"speakers": data},
    ):
        error = refused(A | fields)
        assert "Y2Fu" not in str(error) + str(error.details)
    error = refused(A | {"picture": "Y2FuYXJ5" * 1000})
    assert len(str(error.details)) < 300


def test_a_prompt_loses_what_its_urls_carry_in_secret_and_says_so() -> None:
    request = parse_request(A | {"prompt": "as on HTTPS://me:canary@h.example/'a'?x=canary today"})
    assert request.prompt == "as on HTTPS://h.example/'a'?... today"
    assert request.warnings == (
        "prompt: a URL in it is used without its user name, password and query",
    )
    assert parse_request(A | {"negative_prompt": "//h/?canary"}).negative_prompt == "//h/?..."


C = {
    "prompt": "a cartoon computer talking",
    "image": "https://example.com/avatar.jpg",
    "audio": "https://example.com/speech.wav",
    "size": "480p",
    "enable_safety_checker": True,
}


def test_the_public_endpoints_request_is_taken_as_it_is_documented() -> None:
    request = parse_request(C)
    assert (request.dialect, request.mode, request.prompt) == ("C", "infinitetalk", C["prompt"])
    assert (request.image_url, request.picture_field) == (C["image"], "image")
    assert [(each.field, each.audio_url) for each in request.speakers] == [("audio", C["audio"])]
    assert (size(request), request.resolution) == ((None, None), "480p")  # of the picture's shape
    assert request.warnings == (
        "enable_safety_checker has no effect: this worker checks no content",
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"audio": None}, "Missing required parameter: audio"),
        ({"image": None}, "Missing required parameter: image"),
        ({"size": "4k"}, "size is '4k'"),
        ({"image": "avatar.jpg"}, "image is 'avatar.jpg'"),
        ({"wav_url": "https://x/a.wav"}, "wav_url and audio exclude each other"),
        ({"image_url": "https://x/i.jpg"}, "image_url and image exclude each other"),
        ({"image_base64": "iVBORw0KGgo="}, "image_base64 and image exclude each other"),
        ({"resolution": "480p"}, "resolution and size exclude each other"),
        ({"width": 512}, "width and size exclude each other"),
        ({"wav_url_2": "https://x/b.wav"}, "wav_url_2 does not go with audio"),
        ({"person_count": "multi"}, 'person_count is "multi", but audio is one voice'),
    ],
)
def test_mistakes_of_the_public_endpoints_request_are_told_in_its_names(
    changes: dict[str, Any], problem: str
) -> None:
    assert problem in str(refused({**C, **changes}))


@pytest.mark.parametrize(
    ("name", "count", "voices", "is_told"),
    [
        ("audio_urls", "multi", 1, True),
        ("audio_urls", "single", 2, True),
        ("speakers", "multi", 1, True),
        ("audio_urls", "multi", 2, False),
        ("speakers", "single", 1, False),
    ],
)
def test_a_count_of_people_that_is_not_that_of_the_voices_is_told(
    name: str, count: str, voices: int, is_told: bool
) -> None:
    url = "https://x/a.wav"
    each: list[Any] = [url if name == "audio_urls" else {"audio_url": url}] * voices
    asked = {"image_url": "https://x/i.jpg", name: each, "person_count": count}
    told = f'person_count "{count}" has no effect: {name} has the voices'
    assert (told in parse_request(asked).warnings) == is_told


def test_the_other_fields_go_with_the_public_endpoints_request() -> None:
    request = parse_request({**C, "aspect_ratio": "16:9", "size": "720p", "seed": 7})
    assert (size(request), request.seed) == ((1280, 720), 7)
    assert size(parse_request({**A, "size": "720p"})) == (720, 1280)


def test_a_file_on_the_volume_is_named_by_a_name_that_nobody_guesses() -> None:
    good = "volume:0123456789abcdef0123456789abcdef.wav"
    assert parse_request({**A, "wav_url": good}).speakers[0].audio_url == good
    for bad in ("volume:a.wav", "volume:../0123456789abcdef0123456789", f"{good}/x", "volume:"):
        assert fields_of(refused({**A, "wav_url": bad})) == {"wav_url"}
