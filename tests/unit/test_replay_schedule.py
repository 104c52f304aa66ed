"""What `talkinghead replay` decides: which run goes where, and what becomes of it. No threads."""

from __future__ import annotations

from pathlib import Path

import pytest

from talkinghead.replay.runs import Run
from talkinghead.replay.schedule import MAX_DEATHS, Schedule, State, Task

WAIT_SECONDS = 10.0


def run(name: str) -> Run:
    return Run(
        key=name,
        name=name,
        path=Path(f"{name}.json"),
        kind="workflow",
        content={},
        gui=None,
        files={},
        row=None,
        changes={},
        seed=None,
    )


def schedule(
    *names: str,
    places: tuple[str, ...] = ("one", "two"),
    in_flight: int = 9,
    retries: int = 0,
    wait_seconds: float = WAIT_SECONDS,
    reached: bool = True,
) -> Schedule:
    """Runs of these names at time 0, the places reachable or not."""
    made = Schedule(
        [run(name) for name in names],
        places,
        in_flight=in_flight,
        retries=retries,
        wait_seconds=wait_seconds,
        now=0.0,
    )
    if reached:
        for place in places:
            made.reached(place)
    return made


def take(plan: Schedule, place: str = "one") -> Task:
    task = plan.take(place)
    assert task is not None
    assert task.state is State.UNDER_WAY
    return task


def order(plan: Schedule, place: str = "one") -> list[str]:
    """What the place would do now, one after the other."""
    names = []
    while (task := plan.take(place)) is not None:
        names.append(task.run.name)
    return names


# ---- Which run goes to which place


def test_runs_go_in_their_order_to_whoever_asks() -> None:
    plan = schedule("a", "b", "c")
    assert [take(plan, place).run.name for place in ("two", "one", "two")] == ["a", "b", "c"]
    assert plan.take("one") is None
    assert plan.under_way == 3
    assert not plan.is_done


def test_a_place_that_is_away_gets_nothing_until_it_is_reached() -> None:
    plan = schedule("a", reached=False)
    assert plan.is_away("one")
    assert plan.take("one") is None
    plan.reached("one")
    assert (plan.is_away("one"), plan.is_away("two")) == (False, True)
    assert take(plan).run.name == "a"


def test_no_more_than_so_many_are_in_flight() -> None:
    plan = schedule("a", "b", in_flight=1)
    first = take(plan, "one")
    assert plan.take("two") is None
    plan.end(first, State.DONE)
    assert take(plan, "two").run.name == "b"


def test_all_is_done_when_nothing_waits_and_nothing_is_under_way() -> None:
    plan = schedule("a")
    task = take(plan)
    assert not plan.is_done
    plan.end(task, State.DONE)
    assert plan.is_done
    assert (task.state, task.tries, task.why) == (State.DONE, 1, "")


# ---- What becomes of a run


def test_what_a_dead_place_had_is_the_next_of_another() -> None:
    plan = schedule("a", "b")
    task = take(plan, "one")
    plan.died(task, "one", "killed", now=1.0)
    assert (task.state, task.why, task.tries) == (State.BACK, "killed", 1)
    assert plan.is_away("one")
    assert plan.take("one") is None
    assert order(plan, "two") == ["a", "b"]


def test_a_run_that_its_places_die_of_fails_in_the_end_and_deaths_are_no_retries() -> None:
    plan = schedule("a", "b", retries=9)
    for _ in range(MAX_DEATHS):
        task = take(plan)
        plan.died(task, "one", "killed", now=1.0)
        plan.reached("one")
    assert task.state is State.FAILED
    assert task.why == f"its server died, or went away, {MAX_DEATHS} times: killed"
    assert order(plan) == ["b"]


def test_what_a_place_refuses_it_is_not_offered_again_and_another_does_it_next() -> None:
    plan = schedule("a", "b")
    task = take(plan, "one")
    plan.refused(task, "one", "no model")
    assert (task.state, task.why, task.tries) == (State.BACK, "refused: no model", 0)
    assert order(plan, "one") == ["b"]
    assert order(plan, "two") == ["a"]


def test_a_failure_is_tried_again_after_all_others_as_often_as_asked() -> None:
    plan = schedule("a", "b", retries=1)
    task = take(plan)
    plan.failed(task, "out of luck", again=True)
    assert (task.state, task.why) == (State.BACK, "out of luck")
    assert take(plan).run.name == "b"
    assert take(plan) is task
    plan.failed(task, "out of luck again", again=True)
    assert (task.state, task.why, task.tries) == (State.FAILED, "out of luck again", 2)


def test_a_failure_that_would_come_again_is_not_tried_again() -> None:
    plan = schedule("a", retries=5)
    task = take(plan)
    plan.failed(task, "bad request", again=False)
    assert task.state is State.FAILED
    assert plan.is_done


def test_a_death_takes_none_of_the_retries_of_a_run() -> None:
    plan = schedule("a", retries=1)
    plan.died(take(plan), "one", "killed", now=1.0)
    plan.reached("one")
    task = take(plan)
    plan.failed(task, "out of luck", again=True)
    assert task.state is State.BACK
    assert take(plan) is task
    plan.end(task, State.DONE)
    assert task.tries == 3


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_a_run_that_ends_for_good_is_not_a_try_and_does_not_come_back(state: State) -> None:
    plan = schedule("a", retries=5)
    task = take(plan)
    plan.end(task, state, "the disk is full")
    assert (task.state, task.why, task.tries) == (state, "the disk is full", 0)
    assert plan.is_done


# ---- Runs that no place will do


def test_a_run_that_all_places_refused_fails_with_each_reason_once() -> None:
    plan = schedule("a", "b")
    for place in ("one", "two"):
        plan.refused(take(plan, place), place, "no model")
    assert plan.next_hopeless_at() is not None
    (task,) = plan.end_hopeless(now=0.0)
    assert (task.run.name, task.state, task.why) == ("a", State.FAILED, "no model")
    assert plan.next_hopeless_at() is None
    assert order(plan) == ["b"]


def test_runs_fail_when_all_places_were_away_for_so_long() -> None:
    plan = schedule("a", "b", reached=False)
    plan.lost("two", "no answer", now=1.0)
    assert plan.next_hopeless_at() == WAIT_SECONDS
    assert plan.end_hopeless(now=WAIT_SECONDS) == []
    failed = plan.end_hopeless(now=WAIT_SECONDS + 0.1)
    why = "no server answered for 10 s: one: it was never reached; two: no answer"
    assert [(task.run.name, task.why, task.tries) for task in failed] == [
        ("a", why, 0),
        ("b", why, 0),
    ]
    assert plan.is_done


def test_the_wait_counts_from_when_the_last_place_went_away() -> None:
    plan = schedule("a")
    plan.lost("one", "killed", now=3.0)
    assert plan.next_hopeless_at() is None, "two is there"
    plan.lost("two", "killed", now=5.0)
    plan.lost("two", "no answer", now=9.0)  # still away: since 5, and now of this
    assert plan.next_hopeless_at() == 5.0 + WAIT_SECONDS
    plan.reached("two")
    plan.lost("two", "killed again", now=11.0)
    assert plan.next_hopeless_at() == 11.0 + WAIT_SECONDS
    (task,) = plan.end_hopeless(now=22.0)
    assert task.why.endswith("one: killed; two: killed again")


def test_a_run_waits_only_for_the_places_that_did_not_refuse_it() -> None:
    plan = schedule("a", "b")
    plan.refused(take(plan, "one"), "one", "no model")
    plan.lost("two", "killed", now=2.0)
    assert plan.next_hopeless_at() == 2.0 + WAIT_SECONDS
    (task,) = plan.end_hopeless(now=13.0)
    assert task.run.name == "a"
    assert task.why == "no server answered for 10 s: no model; two: killed"
    assert order(plan, "one") == ["b"], "one is there for it"


def test_a_run_under_way_is_never_hopeless() -> None:
    plan = schedule("a")
    task = take(plan, "one")
    for place in ("one", "two"):
        plan.lost(place, "killed", now=0.0)
    assert plan.next_hopeless_at() is None
    assert plan.end_hopeless(now=100.0) == []
    assert task.state is State.UNDER_WAY


def test_without_a_wait_a_place_has_the_time_for_a_first_answer() -> None:
    plan = schedule("a", wait_seconds=0, reached=False)
    assert plan.end_hopeless(now=0.1) == []
    (task,) = plan.end_hopeless(now=0.3)
    assert task.why.startswith("no server answered for 0 s: ")
