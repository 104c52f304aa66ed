"""What is shown of a URL, wherever it stands and however it is written."""

from __future__ import annotations

import base64
import contextlib
import threading

import pytest

from talkinghead.redact import content_shown, redact_url, redact_urls
from talkinghead.replay.target import Target
from talkinghead.settings import Settings

SIGNED = "X-Amz-Signature=canary"
PNG = base64.b64encode(b"canary" * 2057 + b"x").decode()  # 12343 bytes


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"https://h.example/a.wav?{SIGNED}", "https://h.example/a.wav?..."),
        (f"HTTP://127.0.0.1:18931/p.jpg?{SIGNED}", "HTTP://127.0.0.1:18931/p.jpg?..."),
        (f"http://h.example/it's.wav?{SIGNED}", "http://h.example/it's.wav?..."),
        (f'http://h.example/<"a">.wav?{SIGNED}', 'http://h.example/<"a">.wav?...'),
        (f"bucket.s3.amazonaws.com/a.wav?{SIGNED}", "bucket.s3.amazonaws.com/a.wav?..."),
        (f"https:/h.example/a.wav?{SIGNED}", "https:/h.example/a.wav?..."),
        (f"//h.example/a.wav?{SIGNED}", "//h.example/a.wav?..."),
        (f"https:\\\\h.example\\a.wav?{SIGNED}", "https:\\\\h.example\\a.wav?..."),
        ("https://someone:canary@h.example/a", "https://h.example/a"),
        ("https://someone:c/anary@h.example/a", "https://h.example/a"),
        ("https://someone:c?anary@h.example/a", "https://h.example/a"),
        ("s3://canary@h.example/a#canary", "s3://h.example/a"),
        ("https://p.example/https://u:canary@h.example/", "https://p.example/https://h.example/"),
        ("http://[::1]:8188/a?canary", "http://[::1]:8188/a?..."),
        (f"h.example?{SIGNED}", "h.example?..."),
        (f"h.example:443?{SIGNED}", "h.example:443?..."),
        (f"minio:9000/b/a.wav?{SIGNED}", "minio:9000/b/a.wav?..."),
        (f"localhost/a.wav?{SIGNED}", "localhost/a.wav?..."),
        (f"[::1]:9000/a.wav?{SIGNED}", "[::1]:9000/a.wav?..."),
        ("someone:canary@h.example/a.wav", "h.example/a.wav"),
        (f"someone:canary@10.0.0.1:9/a.wav?{SIGNED}", "10.0.0.1:9/a.wav?..."),
        ("http://[::1", "http://[::1"),
        ("https://h.example:8080/@me/a.png", "https://h.example:8080/@me/a.png"),
        (f"data:image/png;base64,{PNG}", "data:image/png (12343 bytes)"),
        (f"DATA:;base64,{PNG}", "data: (12343 bytes)"),
        ("data:canary", "data: (4 bytes)"),
    ],
)
def test_a_url_is_shown_without_its_secrets_whatever_stands_around_it(url: str, shown: str) -> None:
    assert redact_url(url) == shown
    if url.startswith("data:canary"):  # nothing that a text could be searched for
        return
    for before, after in (
        ("", ""),
        ("('", "', 1)"),
        ("got ", " from it"),
        ("a=", '"}'),
        ("<", ">"),
    ):
        text = redact_urls(f"{before}{url}{after}")
        assert "canary" not in text and "Y2FuYXJ5" not in text
        assert text.startswith(before + shown)


def test_a_user_without_scheme_and_password_is_taken_where_a_url_is_meant() -> None:
    assert redact_url("canary@h.example/a.wav?canary") == "h.example/a.wav?..."


@pytest.mark.parametrize(
    "text",
    [
        "a woman says: hello / goodbye, 3:2, why? because=so",
        "C:\\films\\a.png is 1.5/2.5 of a@b.example",
        "/usr/lib/python3/x.py, line 3: see https://h.example/a/b.html, and ./x",
        "data: 1,2,3 and data:1,2",
        "what is a.b/c? nothing",
        "at 10:30? No.Or what?yes=no",
    ],
)
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert redact_urls(text) == text


def test_base64_is_shown_by_its_size() -> None:
    assert content_shown(PNG) == "base64 (12343 bytes)"
    assert content_shown(f"data:audio/wav;base64,{PNG}") == "data:audio/wav (12343 bytes)"
    wrapped = "\n".join(PNG[at : at + 76] for at in range(0, len(PNG), 76))
    assert content_shown(wrapped) == "base64 (12343 bytes)"


def test_a_word_as_long_as_a_file_is_searched_in_one_pass() -> None:
    text = "a." * 500_000 + "x" * 2_000_000 + "-:@" * 500_000
    assert redact_urls(text) == text  # in a second pass for each character it would never end


def test_two_servers_that_differ_in_their_secrets_alone_are_two_places() -> None:
    servers = tuple(f"http://127.0.0.1:9/{path}" for path in ("?canary=1", "?canary=2", "other"))
    with contextlib.ExitStack() as stack:
        target = Target(servers, None)
        places = target.open(stack, Settings(), threading.Event(), lost_seconds=1)
        names = [place.name for place in places]
    assert names == [
        "http://127.0.0.1:9/?...",
        "http://127.0.0.1:9/?... (2)",
        "http://127.0.0.1:9/other",
    ]
