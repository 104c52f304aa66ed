"""What is told of a render, from ComfyUI's events and a clock; and how it is sent."""

from __future__ import annotations

import functools
import itertools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from comfy_client import Event
from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.plan.frames import WINDOW_FRAMES
from talkinghead.plan.plan import SMALL_WINDOW_FRAMES, Plan, make_plan
from talkinghead.plan.request import parse_request
from talkinghead.plan.talk_models import MODELS, TalkModel
from talkinghead.render.clock import SamplerClock, WindowClock
from talkinghead.render.job import Job
from talkinghead.render.progress import (
    COUNTED,
    STAGES,
    ChainProgress,
    Progress,
    ProgressSender,
    RenderProgress,
)
from talkinghead.render.window_log import WindowLog
from talkinghead.settings import PROJECT_DIR
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.template import load_template
from tests.timing import LAST_RESORT_SECONDS, wait_until

FOREVER = 100 * LAST_RESORT_SECONDS

TENSORS = 1233  # as the real sampler counts them, under its own node, before its first step
TITLES = ["Wan model", "Audio embeds", "Sampler", "Frames", "Video", "Draft"]
GRAPH: Graph = {
    str(number): {"class_type": "Any", "inputs": {}, "_meta": {"title": title}}
    for number, title in enumerate(TITLES)
}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def executing(title: str) -> Event:
    return Event("executing", {"node": str(TITLES.index(title))})


def counted(title: str, value: int, total: int) -> Event:
    return Event("progress", {"node": str(TITLES.index(title)), "value": value, "max": total})


def render(windows: int = 3, steps: int = 4, clock: Clock | None = None) -> RenderProgress:
    return RenderProgress(GRAPH, windows=windows, steps=steps, clock=clock or Clock())


def seen(progress: RenderProgress, *events: Event) -> list[Progress]:
    return [told for event in events if (told := progress.see(event)) is not None]


def sampled(
    progress: RenderProgress, clock: Clock, *, windows: int, steps: int, between: float = 4.0
) -> Iterator[tuple[int, float, Progress]]:
    """Steady sampling, 2 s a step, after a slow start: steps done, when, what is told."""
    progress.see(executing("Sampler"))
    clock.now += 60
    for window in range(windows):
        for step in range(steps):
            clock.now += 2
            done = window * steps + step + 1
            (told,) = seen(progress, counted("Sampler", done, (windows + 1) * steps))
            yield done, clock.now, told
        clock.now += between


def weighed() -> Iterator[Event]:
    """The sampler's way to its first step, as recorded on the real packs."""
    yield executing("Sampler")
    yield from (counted("Sampler", value, TENSORS) for value in range(1, TENSORS + 1))
    yield counted("Sampler", 0, TENSORS)


@pytest.mark.parametrize("windows", [1, 3, 6])
@pytest.mark.parametrize("steps", [1, 3, 4])
def test_the_tensors_that_the_sampler_counts_are_no_steps(windows: int, steps: int) -> None:
    progress = render(windows, steps)
    told = seen(progress, *weighed(), counted("Sampler", 1, windows * steps))
    assert [each.message for each in told] == [
        "Sampler",
        f"window 1 of {windows}, step 1 of {steps}",
    ]
    assert told[0].fraction == 0


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
@pytest.mark.parametrize("window_frames", [WINDOW_FRAMES, SMALL_WINDOW_FRAMES])
def test_the_sampler_counts_steps_whatever_it_thinks_how_many_windows_there_are(
    model: TalkModel, window_frames: int
) -> None:
    for frames in range(window_frames + 1, 400):
        windows = model.windows(frames, window_frames)
        expected = frames // model.new_frames(window_frames) + 1  # as multitalk_loop.py has it
        (told,) = seen(render(windows), counted("Sampler", 1, expected * 4))
        assert told.message == f"window 1 of {windows}, step 1 of 4"


# --- what the real packs send, recorded with tiny models on both ComfyUIs -------------------


RECORDED = json.loads((PROJECT_DIR / "tests/recordings/sampler_events.json").read_text("utf-8"))
RECORDED_TITLES = {"WanVideoSampler": "Sampler", "VHS_VideoCombine": "Video"}


def recorded(version: str, case: str, clock: Clock) -> Iterator[Event]:
    """The events of a real render, as the clock comes to them; nodes are named by their class."""
    for seconds, kind, class_type, value, most in RECORDED[version][case]:
        clock.now = 1000 + seconds
        yield Event(kind, {"node": class_type, "value": value, "max": most})


def recorded_graph() -> Graph:
    return {
        class_type: {"class_type": class_type, "inputs": {}, "_meta": {"title": title}}
        for class_type, title in RECORDED_TITLES.items()
    }


def check_told(told: list[tuple[float, Progress]], windows: int, steps: int) -> None:
    """No step too many, no percent back, and an ETA."""
    sampled = [(at, each) for at, each in told if each.step]
    assert [(each.window, each.step) for _, each in sampled] == [
        (window, step) for window in range(1, windows + 1) for step in range(1, steps + 1)
    ]
    percents = [each.percent for _, each in told]
    assert percents == sorted(percents)
    assert all(each.eta_seconds for _, each in sampled if each.window not in (1, windows))


@pytest.mark.parametrize("version", RECORDED)
def test_a_real_render_in_one_prompt_is_told_as_it_is(version: str) -> None:
    clock, told = Clock(), list[tuple[float, Progress]]()
    progress = RenderProgress(recorded_graph(), windows=3, steps=4, clock=clock)
    for event in recorded(version, "one", clock):
        told += [(clock.now, each) for each in [progress.see(event)] if each]
    check_told(told, 3, 4)
    assert told[-1][1].percent == STAGES["render"][1]


@pytest.mark.parametrize("version", RECORDED)
def test_a_real_render_of_gguf_files_is_told_as_it_is(version: str) -> None:
    clock, told = Clock(), list[tuple[float, Progress]]()
    progress = RenderProgress(recorded_graph(), windows=1, steps=4, clock=clock)
    for event in recorded(version, "gguf", clock):
        told += [(clock.now, each) for each in [progress.see(event)] if each]
    check_told(told, 1, 4)


@pytest.mark.parametrize("version", RECORDED)
def test_a_real_chain_is_told_as_it_is(version: str) -> None:
    clock, told = Clock(), list[tuple[float, Progress]]()
    log = WindowLog(chain_plan(seconds=8.0), Path("unused"))
    progress = ChainProgress(log, clock=clock)
    for event in recorded(version, "chain", clock):
        if event.data["node"] == "WanVideoSampler" and event.type == "executing":
            progress.begin(recorded_graph())
        told += [(clock.now, each) for each in [progress.see(event)] if each]
        is_video = event.data["node"] == "VHS_VideoCombine"
        if is_video and event.data["value"] and event.data["value"] == event.data["max"]:
            log.add()
            progress.end()
            told.append((clock.now, progress.now()))
    check_told(told, 3, 4)


def chain_plan(seconds: float) -> Plan:
    fields = {"image_url": "http://x/p.png", "wav_url": "http://x/a.wav", "long": True}
    sound = Sound(seconds, 16_000, 1, False)
    return make_plan(parse_request(fields), [sound], Picture(512, 512))


def test_the_weights_way_to_the_gpu_is_no_part_of_the_eta() -> None:
    clock = Clock()
    progress = render(3, 4, clock)
    for event in weighed():
        clock.now += 0.1
        progress.see(event)
    for step in range(1, 5):
        clock.now += 2
        (told,) = seen(progress, counted("Sampler", step, 12))
    assert told.eta_seconds == pytest.approx(2 * 4 * 2)


@pytest.mark.parametrize("encode", [0.0, 4.0])
def test_the_first_step_of_the_second_window_tells_what_a_window_takes(encode: float) -> None:
    """Before its steps the VAE encodes, and after them it decodes."""
    clock, windows, steps, decode = Clock(), 6, 4, 15.0
    progress, told = render(windows, steps, clock), list[tuple[int, float, float | None]]()
    seen(progress, *weighed())
    for window in range(windows):
        clock.now += encode
        for step in range(1, steps + 1):
            clock.now += 2
            (each,) = seen(progress, counted("Sampler", window * steps + step, windows * steps))
            told.append((window, clock.now, each.eta_seconds))
        clock.now += decode
    for window, at, eta in told:
        if window:
            assert eta == pytest.approx(clock.now - at, rel=0.25, abs=encode)
    assert progress.window_seconds == pytest.approx(encode + 8 + decode)


def test_a_chain_does_not_count_the_models_way_from_the_disk_as_a_windows_time() -> None:
    clock, windows = Clock(), 6
    chain = WindowClock(clock)
    for comfyui in range(2):
        chain.start()
        clock.now += 300
        for window in range(windows // 2):
            chain.load()
            clock.now += 80
            seconds = chain.end()
            assert seconds == (80 if window else None)
            left = windows - comfyui * windows // 2 - window - 1
            assert chain.eta_seconds(left, 0.0) == pytest.approx(left * 80)


def test_a_chain_does_not_count_other_clients_prompts_as_its_windows_time() -> None:
    clock = Clock()
    chain = WindowClock(clock)
    for window in range(3):
        chain.queue()
        clock.now += 600
        chain.execute()
        chain.load()
        clock.now += 80
        assert chain.end() == (80 if window else None)
    assert chain.eta_seconds(2, 0.0) == 2 * 680, "which are likely to wait, too"


def test_a_window_that_takes_longer_takes_no_time_from_the_others() -> None:
    clock = Clock()
    chain = WindowClock(clock)
    chain.load()
    clock.now += 80
    chain.end()
    clock.now += 500
    assert chain.eta_seconds(3, 0.5) == pytest.approx(2 * 80 + 40)
    assert chain.eta_seconds(0, 0.0) == 0


def test_what_is_done_again_takes_no_percent_back() -> None:
    told: list[Progress] = []
    job = Job("again", {}, report=told.append)
    job.tell(Progress("render", "window 3", 0.5))
    with job.at("start", "waiting for ComfyUI"):
        job.tell(Progress("render", "window 1", 0.1))
    job.tell(Progress("render", "window 4", 0.6))
    assert [each.percent for each in told] == [51.5, 51.5, 51.5, 60.6]
    assert told[1].payload()["percent"] == 51.5


def test_a_step_of_the_sampler_tells_window_and_step() -> None:
    (told,) = seen(render(12, 4), counted("Sampler", 10, 48))
    assert told.message == "window 3 of 12, step 2 of 4"
    assert (told.window, told.windows, told.step, told.steps) == (3, 12, 2, 4)


def test_the_samplers_own_count_of_one_window_too_many_is_not_believed() -> None:
    (told,) = seen(render(3, 4), counted("Sampler", 12, 16))
    assert told.message == "window 3 of 3, step 4 of 4"
    assert told.fraction == COUNTED["Sampler"][1]


def test_more_steps_than_planned_stay_within_the_last_window() -> None:
    (told,) = seen(render(3, 4), counted("Sampler", 15, 16))
    assert (told.window, told.fraction) == (3, COUNTED["Sampler"][1])


def test_a_render_goes_from_its_beginning_to_its_end_and_never_back() -> None:
    told = seen(
        render(2, 2),
        executing("Wan model"),
        *(counted("Wan model", value, 1233) for value in (1, 600, 1233)),
        executing("Audio embeds"),
        counted("Audio embeds", 1, 9),
        executing("Sampler"),
        *(counted("Sampler", value, 6) for value in (1, 2, 3, 4)),
        executing("Frames"),
        executing("Video"),
        *(counted("Video", value, 143) for value in (1, 70, 143)),
    )
    percents = [each.percent for each in told]
    assert percents == sorted(percents)
    assert (percents[0], percents[-1]) == STAGES["render"]


def test_a_draft_counts_frames() -> None:
    told = seen(render(), executing("Draft"), counted("Draft", 143, 286), executing("Video"))
    assert told[1].message == "draft: frame 143 of 286"
    assert [each.fraction for each in told] == [0, 0.5, 0.5]


def test_events_without_a_node_or_a_count_tell_nothing() -> None:
    events = [
        Event("execution_start", {}),
        Event("executing", {"node": None}),
        Event("executing", {"node": "99"}),
        Event("executed", {"node": "0"}),
        counted("Sampler", 0, 0),
    ]
    assert seen(render(), *events) == []


def test_every_node_that_counts_is_in_a_template() -> None:
    templates = [load_template(name) for name in ("infinitetalk_i2v", "draft_i2v")]
    titles = {node.get("title") for template in templates for node in template["nodes"]}
    assert set(COUNTED) <= titles


def test_the_stages_share_the_whole_without_gaps() -> None:
    assert [end for _, end in STAGES.values()][:-1] == [begin for begin, _ in STAGES.values()][1:]
    assert Progress("understand", "").percent == 0
    assert Progress("done", "").percent == 100


def test_there_is_no_eta_before_the_first_window_is_done() -> None:
    clock = Clock()
    told = list(sampled(render(4, 4, clock), clock, windows=4, steps=4))
    assert [each.eta_seconds for _, _, each in told[:3]] == [None] * 3
    assert told[3][2].eta_seconds is not None


@pytest.mark.parametrize("steps", [1, 2, 4, 30])
@pytest.mark.parametrize("between", [0.0, 4.0, 40.0])
def test_from_the_second_window_on_the_eta_of_steady_work_is_right(
    steps: int, between: float
) -> None:
    clock = Clock()
    told = list(sampled(render(6, steps, clock), clock, windows=6, steps=steps, between=between))
    decode = between if steps > 1 else 0  # of one step a window, the two cannot be told apart
    end = told[-1][1] + decode
    for done, now, each in told:
        if done >= 2 * steps:
            assert each.eta_seconds == pytest.approx(end - now, abs=0.01)


@pytest.mark.parametrize("told_of", [2, 3, 5, 7, 10])
def test_events_that_are_left_out_do_not_cost_the_eta(told_of: int) -> None:
    clock, windows, steps, decode = Clock(), 50, 4, 4.0
    pace, last = SamplerClock(windows, steps, clock), windows * steps
    pace.begin()
    for done in range(1, last + 1):
        clock.now += 2
        if done in (1, last) or done % told_of == told_of // 2:
            pace.step(done)
            left = (last - done) * 2 + (windows - (done - 1) // steps) * decode
            if done >= 6 * steps:
                assert pace.eta_seconds == pytest.approx(left, rel=0.1, abs=2 * decode)
        if done % steps == 0:
            clock.now += decode


def test_the_eta_follows_work_that_becomes_slower() -> None:
    clock = Clock()
    pace = SamplerClock(10, 1, clock)
    pace.begin()
    for window, seconds in enumerate([10, 10, 10, 20, 20, 20], 1):
        clock.now += seconds
        pace.step(window)
    eta = pace.eta_seconds
    assert eta is not None and 4 * 15 <= eta <= 4 * 20


def test_the_eta_runs_down_and_never_below_zero() -> None:
    clock = Clock()
    pace = SamplerClock(2, 1, clock)
    pace.begin()
    clock.now += 10
    pace.step(1)
    assert pace.eta_seconds == 10
    clock.now += 4
    assert pace.eta_seconds == 6
    clock.now += 99
    assert pace.eta_seconds == 0


def test_without_the_samplers_start_the_second_window_gives_the_eta() -> None:
    clock = Clock()
    pace = SamplerClock(3, 1, clock)
    clock.now += 10
    pace.step(1)
    assert pace.eta_seconds is None
    clock.now += 10
    pace.step(2)
    assert pace.eta_seconds == 10


def test_a_payload_is_small_and_plain() -> None:
    told = Progress("render", "window 2 of 3, step 1 of 4", 0.5, 2, 3, 1, 4, 12.345)
    assert told.payload() == {
        "stage": "render",
        "percent": 51.5,
        "message": "window 2 of 3, step 1 of 4",
        "window": 2,
        "windows": 3,
        "eta_seconds": 12,
    }


# --- sending -------------------------------------------------------------------------------


def numbered(number: int) -> Progress:
    return Progress("render", str(number))


@pytest.fixture(autouse=True)
def _no_end_to_the_draining(monkeypatch: pytest.MonkeyPatch) -> None:
    """What closing waits for may be slow."""
    monkeypatch.setattr("talkinghead.render.progress.DRAIN_SECONDS", LAST_RESORT_SECONDS)


class Recorder:
    """Stands for RunPod: takes an update at once, or when the test lets it go on."""

    def __init__(self, *, held: bool = False) -> None:
        self.messages: list[str] = []
        self.times: list[float] = []
        self.began = threading.Event()
        self.go_on = threading.Event()
        if not held:
            self.go_on.set()

    def __call__(self, payload: dict[str, Any]) -> None:
        self.times.append(time.monotonic())
        self.began.set()
        self.go_on.wait(LAST_RESORT_SECONDS)
        self.messages.append(payload["message"])

    def wait(self, count: int) -> None:
        wait_until(lambda: len(self.messages) >= count, f"{count} updates")


def test_the_latest_wins_and_the_order_is_kept() -> None:
    send = Recorder(held=True)
    with ProgressSender(send, every_seconds=0.0) as sender:
        sender.report(numbered(0))
        assert send.began.wait(LAST_RESORT_SECONDS)
        for number in range(1, 100):
            sender.report(numbered(number))
        send.go_on.set()
        send.wait(2)
        sender.report(numbered(100))
        send.wait(3)
    assert send.messages == ["0", "99", "100"]


def test_updates_are_sent_no_oftener_than_allowed() -> None:
    send, every_seconds = Recorder(), 0.1
    with ProgressSender(send, every_seconds=every_seconds) as sender:
        numbers = itertools.count()
        while len(send.times) < 4:
            sender.report(numbered(next(numbers)))
            time.sleep(every_seconds / 10)
    gaps = [after - before for before, after in itertools.pairwise(send.times)]
    assert min(gaps) >= every_seconds


def test_the_first_update_is_sent_at_once() -> None:
    send = Recorder()
    with ProgressSender(send, every_seconds=FOREVER) as sender:
        sender.report(numbered(1))
        send.wait(1)


def test_closing_waits_for_what_is_under_way_and_sends_no_more() -> None:
    send, before = Recorder(held=True), set(threading.enumerate())
    with ProgressSender(send, every_seconds=0.0) as sender:
        sender.report(numbered(1))
        assert send.began.wait(LAST_RESORT_SECONDS)
        sender.report(numbered(2))
        threading.Timer(0.2, send.go_on.set).start()  # most likely when the closing has begun
    assert send.messages == ["1"]
    assert not senders(before), "nobody is left to send more"


def senders(before: set[threading.Thread]) -> list[threading.Thread]:
    """The threads that send, of those that were not there before."""
    new = set(threading.enumerate()) - before
    return [thread for thread in new if not isinstance(thread, threading.Timer)]


def test_closing_does_not_wait_for_the_next_turn() -> None:
    send, before = Recorder(), set(threading.enumerate())
    with ProgressSender(send, every_seconds=FOREVER) as sender:
        sender.report(numbered(1))
        send.wait(1)
        sender.report(numbered(2))
    assert send.messages == ["1"]
    assert not senders(before)


def test_a_report_does_not_wait_for_a_slow_sending() -> None:
    send = Recorder(held=True)
    with ProgressSender(send) as sender:
        sender.report(numbered(1))
        assert send.began.wait(LAST_RESORT_SECONDS)
        sender.report(numbered(2))
        assert send.messages == [], "the report was taken while the sending went on"
        send.go_on.set()


def test_a_sending_that_fails_is_logged_once_and_the_next_is_tried(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tried: list[str] = []

    def fail(payload: dict[str, Any]) -> None:
        tried.append(payload["message"])
        raise OSError("no route to https://example.com/?token=canary")

    def tries(count: int) -> bool:
        return len(tried) >= count

    with ProgressSender(fail, every_seconds=0.0) as sender:
        for number in range(3):
            sender.report(numbered(number))
            wait_until(functools.partial(tries, number + 1), "another try")
    assert tried == ["0", "1", "2"]
    assert [r.getMessage() for r in caplog.records] == ["progress cannot be sent: OSError"]


def test_a_sender_that_nothing_was_reported_to_closes() -> None:
    with ProgressSender(Recorder()):
        pass
