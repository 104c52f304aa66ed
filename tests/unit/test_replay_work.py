"""The threads of `talkinghead replay`: they all end, and nothing that one raises is lost."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from talkinghead.replay.places import Refused
from talkinghead.replay.report import Report
from talkinghead.replay.runs import Run
from tests.timing import LAST_RESORT_SECONDS
from tests.unit.test_replay import FakePlace, work


def test_a_stop_ends_those_that_wait_for_a_place_which_is_away(tmp_path: Path) -> None:
    stop = threading.Event()
    looked = threading.Event()

    class Gone(FakePlace):
        def connect(self) -> None:
            looked.set()
            super().connect()

    def refuse(run: Run) -> None:
        if run.name == "2":  # the last: all wait for the other place now
            assert looked.wait()
            threading.Thread(target=stop.set).start()
        raise Refused("no model")

    gone = Gone("gone")
    gone.away = True
    Report(tmp_path / "replay.jsonl").path.touch()
    assert work(tmp_path, gone, FakePlace("idle", refuse), stop=stop) == {}


def test_when_all_is_done_nobody_waits_for_a_place_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be looked for again after a pause, though there is nothing left for it to do."""
    monkeypatch.setattr("talkinghead.replay.work.FIRST_PAUSE_SECONDS", 10 * LAST_RESORT_SECONDS)
    looked = threading.Event()

    class Gone(FakePlace):
        def connect(self) -> None:
            looked.set()
            super().connect()

    gone = Gone("gone")
    gone.away = True
    found = work(tmp_path, gone, FakePlace("there", lambda run: assert_set(looked)))
    assert {line["status"] for line in found.values()} == {"done"}


def assert_set(event: threading.Event) -> None:
    assert event.wait(LAST_RESORT_SECONDS)


def test_a_fault_of_a_place_that_nobody_foresaw_ends_all(tmp_path: Path) -> None:
    def break_down(run: Run) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work(tmp_path, FakePlace("one", break_down), FakePlace("two"))


def test_a_report_that_cannot_be_written_is_told_even_of_the_last_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Report, entry: dict[str, Any]) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(Report, "add", fail)
    with pytest.raises(OSError, match="the disk is full"):
        work(tmp_path, FakePlace("one"), count=1)
