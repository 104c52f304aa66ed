"""What a ledger says of the windows that are stored (pure), and the order of what is written."""

from __future__ import annotations

import threading
from dataclasses import replace

from talkinghead.delivery.ledger import Ledger, folder_of, motion_name, parse_ledger, segment_name
from talkinghead.delivery.writer import BackgroundWriter
from talkinghead.errors import DeliveryFailed
from tests.timing import LAST_RESORT_SECONDS

BEGUN = Ledger(fit={"plan": "a1"}, seed=7, windows=9)


def after(windows: int, ledger: Ledger = BEGUN, token: str = "0000000a") -> Ledger:
    """The ledger with so many windows more."""
    for _ in range(windows):
        window = ledger.windows_done + 1
        ledger = ledger.with_window(window, segment=f"s{window}", motion=f"m{window}", token=token)
    return ledger


def test_a_ledger_has_the_last_two_marks_and_each_run_once() -> None:
    ledger = after(2, after(3), token="0000000b")
    assert [mark.window for mark in ledger.marks] == [4, 5]
    assert [(run.first, run.token) for run in ledger.runs] == [(1, "0000000a"), (4, "0000000b")]
    assert ledger.progress == "5 of 9 windows"
    folder = folder_of(BEGUN.fit)
    assert ledger.stored(segment_name(3), 3) == f"{folder}segment_00003_0000000a.mp4"
    assert ledger.stored(motion_name(4), 4) == f"{folder}motion_00004_0000000b.latent"
    assert parse_ledger("job", ledger.as_json()) == ledger


def test_a_ledger_goes_on_with_the_marks_of_the_stored_one_and_its_own_state() -> None:
    now = replace(BEGUN, state={"tiled_vae": True})
    assert now.going_on(None) == now
    assert now.going_on(after(2)) == replace(after(2), state={"tiled_vae": True})


def test_marks_are_borne_out_by_all_segments_up_to_them() -> None:
    ledger, sums = after(4), ["s1", "s2", "s3", "s4"]
    whole = [(mark.window, good.windows_done) for mark, good in ledger.whole_marks(sums)]
    assert whole == [(4, 4), (3, 3)]
    for damaged, left in (
        ([*sums[:3], "x"], [3]),
        ([*sums[:3], None], [3]),
        (["x", *sums[1:]], []),
    ):
        assert [mark.window for mark, _ in ledger.whole_marks(damaged)] == left


def test_writes_are_done_in_order_each_until_it_succeeds_and_the_last_when_all_are() -> None:
    done: list[str] = []
    ended = threading.Event()

    def failing_once() -> None:
        done.append("tried")
        if done.count("tried") == 1:
            raise DeliveryFailed("no")

    def last() -> None:
        done.append("last")
        ended.set()

    writer = BackgroundWriter()
    writer.add(failing_once)
    writer.add(lambda: done.append("next"))
    writer.close(last)
    assert ended.wait(LAST_RESORT_SECONDS)
    assert done == ["tried", "tried", "next", "last"]
