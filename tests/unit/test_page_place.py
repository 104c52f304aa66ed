"""Where `talkinghead page` has its videos rendered."""

from __future__ import annotations

import pytest

from talkinghead.client import Unauthorized
from talkinghead.page.place import there
from talkinghead.page.words import GENERAL, fault_of
from talkinghead.settings import Settings


@pytest.mark.parametrize(
    ("endpoint", "key"),
    [("http://127.0.0.1:8000", "of-serve"), ("abc123xyz", "of-runpod")],
)
def test_an_endpoint_gets_its_own_key_and_no_other(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, key: str
) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", "of-runpod")
    monkeypatch.setenv("TALKINGHEAD_TOKEN", "of-serve")
    with there(Settings(), endpoint) as place:
        assert place.renders.api_key == key


def test_who_gave_no_key_is_told_the_variables_that_the_page_takes() -> None:
    told = fault_of(Unauthorized("the endpoint wants a key, and api_key gives none")).at(GENERAL)
    assert "RUNPOD_API_KEY" in told and "TALKINGHEAD_TOKEN" in told and "api_key" not in told
