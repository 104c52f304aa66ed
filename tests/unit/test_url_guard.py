"""What the guard lets through. The verdicts are in verdicts/, the same for every Python."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from talkinghead.errors import UrlBlocked
from talkinghead.net.guard import UrlGuard
from talkinghead.net.urls import parse_http_url

VERDICTS = Path(__file__).parent / "verdicts"


def verdicts(name: str) -> list[tuple[str, str]]:
    """The lines of a table: what is judged, and how."""
    lines = (VERDICTS / name).read_text("ascii").splitlines()
    rows = [line.split(" ", 1) for line in lines if not line.startswith("#")]
    return [(what, verdict) for verdict, what in rows]


def urls() -> list[tuple[str, str]]:
    table = verdicts("urls.txt")
    return [(text.encode("ascii").decode("unicode_escape"), verdict) for text, verdict in table]


def as_url(address: str) -> str:
    return f"http://[{address}]/a" if ":" in address else f"http://{address}/a"


def judge(url: str, *addresses: str) -> str:
    """The verdict on a URL whose host, if it is a name, has these addresses."""
    guard = UrlGuard(resolver=lambda host, port: list(addresses))
    try:
        parse_http_url(url)
    except ValueError:
        return "bad"
    try:
        guard.addresses(guard.check(url), 80)
    except UrlBlocked:
        return "blocked"
    return "allowed"


def test_the_tables_hold_hundreds_of_different_rows() -> None:
    addresses, forms = dict(verdicts("addresses.txt")), dict(urls())
    assert len(addresses) > 150 and len(forms) > 150
    assert len(addresses) + len(forms) == len(verdicts("addresses.txt")) + len(urls())


@pytest.mark.parametrize(("address", "verdict"), verdicts("addresses.txt"))
def test_an_address_is_judged_alike_in_the_url_and_from_the_resolver(
    address: str, verdict: str
) -> None:
    assert judge(as_url(address)) == verdict
    assert judge("http://example.com/", address) == verdict


@pytest.mark.parametrize(("url", "verdict"), urls())
def test_a_form_of_url_has_its_verdict(url: str, verdict: str) -> None:
    assert judge(url, "93.184.215.14") == verdict


@pytest.mark.parametrize(("url", "verdict"), urls())
def test_no_form_of_url_gets_through_to_an_internal_address(url: str, verdict: str) -> None:
    is_public_literal = verdict == "allowed" and parse_http_url(url).host in (
        "8.8.8.8",
        "[2606:4700:4700::1111]",
        "[2606:4700:4700:0:0:0:0:1111]",
    )
    assert (judge(url, "127.0.0.1") == "allowed") == is_public_literal


@pytest.mark.parametrize(
    "answers",
    [
        ("8.8.8.8", "10.0.0.1"),
        ("10.0.0.1", "8.8.8.8"),
        ("8.8.8.8", "::1"),
        ("2606:4700:4700::1111", "8.8.8.8", "169.254.169.254"),
        ("2606:4700:4700::1111", "fe80::1%eth0"),
        ("8.8.8.8", "nonsense"),
        ("8.8.8.8", ""),
    ],
)
def test_one_bad_answer_of_several_blocks_the_host(answers: tuple[str, ...]) -> None:
    assert judge("http://example.com/", *answers) == "blocked"


def test_a_host_without_addresses_is_not_known() -> None:
    guard = UrlGuard(resolver=lambda host, port: [])
    with pytest.raises(socket.gaierror):
        guard.addresses(guard.check("http://example.com/"), 80)


def test_the_answers_are_connected_to_in_their_order_and_once_each() -> None:
    answers = ["8.8.8.8", "2606:4700:4700:0::1111", "8.8.8.8"]
    guard = UrlGuard(resolver=lambda host, port: answers)
    found = guard.addresses(guard.check("http://example.com/"), 80)
    assert found == ["8.8.8.8", "2606:4700:4700::1111"]


def test_a_literal_address_is_not_asked_of_the_resolver() -> None:
    def resolver(host: str, port: int) -> list[str]:
        raise AssertionError(host)

    guard = UrlGuard(resolver=resolver)
    assert guard.addresses(guard.check("http://8.8.8.8/"), 80) == ["8.8.8.8"]


def test_the_resolver_gets_a_full_name_as_it_is_with_its_dot() -> None:
    asked = []

    def resolver(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["8.8.8.8"]

    guard = UrlGuard(resolver=resolver)
    guard.addresses(guard.check("http://B\u00fccher.example./"), 81)
    assert asked == [("xn--bcher-kva.example.", 81)]


def test_the_error_tells_neither_the_address_nor_what_is_secret_in_the_url() -> None:
    guard = UrlGuard(resolver=lambda host, port: ["10.11.12.13"])
    with pytest.raises(UrlBlocked) as caught:
        guard.addresses(guard.check("https://example.com/a.wav?sig=canary"), 443)
    assert str(caught.value).startswith("https://example.com/a.wav?... may not be fetched: ")
    assert "10.11" not in str(caught.value) and "canary" not in str(caught.value)


def test_a_password_is_refused_in_words_and_not_repeated() -> None:
    with pytest.raises(UrlBlocked, match="user name or password") as caught:
        UrlGuard().check("https://someone:canary@example.com/")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "gopher://127.0.0.1/", "http://u:p@host/"])
def test_a_guard_that_allows_private_addresses_allows_nothing_else(url: str) -> None:
    guard = UrlGuard(blocked=())
    assert guard.addresses(guard.check("http://127.0.0.1/"), 80) == ["127.0.0.1"]
    with pytest.raises(UrlBlocked):
        guard.check(url)
