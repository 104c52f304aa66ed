"""By what a video is found again: the same request, whoever signs its URLs anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from talkinghead.delivery.asked import DELIVERY_FIELDS, asked_by
from talkinghead.net.signatures import without_signature
from talkinghead.plan.fields import RequestFields

FACE = "https://store.example/faces/me.jpg"
REQUEST = {"image_url": FACE, "wav_url": "https://x.example/a.wav", "prompt": "a talk", "seed": 7}

SIGV4 = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK%2F20261129%2Fr%2Fs3%2Faws4_request&"
    "X-Amz-Date=20261129T0{n}0000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&"
    "X-Amz-Security-Token=tok{n}&X-Amz-Signature=5ec{n}"
)
SIGNED = {
    "S3": SIGV4,
    "S3, its names in lower case": SIGV4.lower(),
    "S3 version 2": "AWSAccessKeyId=AK&Expires=176{n}&Signature=5ec{n}%3D",
    "Google": "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=a%40b&X-Goog-Date=2026{n}&"
    "X-Goog-Expires=90&X-Goog-SignedHeaders=host&X-Goog-Signature=5ec{n}",
    "Google version 2": "GoogleAccessId=a%40b&Expires=176{n}&Signature=5ec{n}",
    "Google's CDN": "Expires=176{n}&KeyName=k&Signature=5ec{n}",
    "CloudFront": "Expires=176{n}&Signature=5ec{n}&Key-Pair-Id=K2",
    "CloudFront, a policy": "Policy=e{n}&Signature=5ec{n}&Key-Pair-Id=K2",
    "Azure": "sv=2024-11-04&st=2026-11-29T0{n}&se=2026-11-30T0{n}&sr=b&sp=r&spr=https&sig=5ec{n}",
    "Azure, for a user": "sv=2024-11-04&se=2026{n}&sr=b&sp=r&skoid=1&sktid=2&skt=2026{n}&ske=2026&"
    "sks=b&skv=2024-11-04&sig=5ec{n}",
    "Alibaba": "OSSAccessKeyId=AK&Expires=176{n}&Signature=5ec{n}",
    "Alibaba version 4": "x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-credential=c&"
    "x-oss-date=2026{n}&x-oss-expires=90&x-oss-signature=5ec{n}",
    "Tencent": "q-sign-algorithm=sha1&q-ak=AK&q-sign-time=1{n}&q-key-time=1{n}&q-header-list=host&"
    "q-url-param-list=&q-signature=5ec{n}",
}  # fmt: skip


@pytest.mark.parametrize("signature", SIGNED.values(), ids=SIGNED)
def test_a_fresh_signature_asks_for_the_same_video(signature: str) -> None:
    first, second = (
        asked_by(REQUEST | {"image_url": f"{FACE}?{signature.format(n=number)}"})
        for number in (1, 2)
    )
    assert first.video == second.video == asked_by(REQUEST).video
    assert first.signed != second.signed
    assert first.is_signed


@pytest.mark.parametrize(
    "url",
    [
        "https://p.supabase.co/storage/v1/object/sign/faces/me.jpg?token={n}",
        "https://firebasestorage.googleapis.com/v0/b/b/o/me.jpg?alt=media&token={n}",
    ],
)
def test_a_token_is_a_signature_where_the_path_is_what_it_signs(url: str) -> None:
    first, second = (asked_by({"image_url": url.format(n=number)}) for number in (1, 2))
    assert first.video == second.video


@pytest.mark.parametrize(
    "query",
    [
        "v={n}",
        "id={n}",
        "token={n}",
        "Expires={n}",
        "Signature={n}",
        "sig={n}",
        "key={n}&X-Amz-Signature=5ec",
        "versionId={n}&" + SIGV4.format(n=1),
        "sv=1&sig=2&snapshot=2026{n}",
    ],
)
def test_any_other_query_names_another_file_and_so_another_video(query: str) -> None:
    first, second = (
        asked_by({"image_url": f"{FACE}?{query.format(n=number)}"}) for number in (1, 2)
    )
    assert first.video != second.video


@pytest.mark.parametrize("url", [FACE, f"{FACE}?v=2&w=%20a+b&flag", "https://[bad", "me.jpg", ""])
def test_a_url_without_a_signature_is_left_as_it_is(url: str) -> None:
    assert without_signature(url) == url


def test_of_a_signed_url_the_rest_of_the_query_stays_as_it_is() -> None:
    query = f"w=%20a+b&{SIGV4.format(n=1)}&flag"
    assert without_signature(f"{FACE}?{query}") == f"{FACE}?w=%20a+b&flag"


def test_all_urls_of_a_request_may_be_signed_anew() -> None:
    def signed(number: int) -> dict[str, Any]:
        query = SIGV4.format(n=number)
        urls = dict.fromkeys(("image_url", "wav_url", "wav_url_2"), f"{FACE}?{query}")
        person = {"audio_url": f"{FACE}?{query}", "mask_url": f"{FACE}?{query}"}
        return {**urls, "audio_urls": [f"{FACE}?{query}"], "speakers": [person]}

    assert asked_by(signed(1)).video == asked_by(signed(2)).video
    in_a_prompt = ({"prompt": f"{FACE}?{SIGV4.format(n=number)}"} for number in (1, 2))
    assert len({asked_by(fields).video for fields in in_a_prompt}) == 2


@pytest.mark.parametrize("field", DELIVERY_FIELDS)
def test_where_and_when_the_video_goes_is_no_part_of_what_is_asked(field: str) -> None:
    assert field in RequestFields.model_fields
    assert asked_by(REQUEST | {field: "one"}) == asked_by(REQUEST | {field: None})
    assert asked_by(REQUEST | {field: "one"}) == asked_by(REQUEST)


@pytest.mark.parametrize("more", [{"prompt": ""}, {"wav_url_2": None}, {"seed": -1}, {"seed": 0}])
def test_what_a_form_leaves_blank_is_no_part_of_what_is_asked(more: dict[str, Any]) -> None:
    unasked = {name: value for name, value in REQUEST.items() if name not in more}
    assert asked_by(unasked | more) == asked_by(unasked)
    assert asked_by(unasked | {"seed": 1}) != asked_by(unasked)


def test_every_field_that_holds_urls_is_known_as_one() -> None:
    """A field of another name would have its signatures taken for a part of the file's name."""
    named = {name for name in RequestFields.model_fields if "url" in name}
    assert named == {
        *("image_url", "video_url", "wav_url", "wav_url_2", "audio_urls", "upload_url"),
    }


def test_who_has_another_signature_gets_the_video_once_that_opened_the_same_files() -> None:
    made = replace(asked_by({"image_url": f"{FACE}?{SIGV4.format(n=1)}"}), files={"image_url": "a"})
    same = asked_by({"image_url": f"{FACE}?{SIGV4.format(n=1)}"})
    other = asked_by({"image_url": f"{FACE}?{SIGV4.format(n=2)}"})
    assert same.may_have(made)
    assert not other.may_have(made)
    assert replace(other, files={"image_url": "a"}).may_have(made)
    assert not replace(other, files={"image_url": "another"}).may_have(made)
    assert not replace(asked_by({"image_url": f"{FACE}?v=2"}), files=made.files).may_have(made)
