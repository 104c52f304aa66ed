"""What a render will take, before it starts."""

from __future__ import annotations

import json
import math
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from talkinghead.cli.app import app
from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.media.source_video import SourceVideo
from talkinghead.memory import GIB
from talkinghead.plan.estimate import Estimate, can_end_within, estimate, too_long_text
from talkinghead.plan.pace import (
    CARDS,
    REMEMBERED_WINDOWS,
    Benched,
    Pace,
    card_named,
    duration_text,
    table,
    window_seconds,
)
from talkinghead.plan.plan import Plan, make_plan
from talkinghead.plan.request import parse_request
from talkinghead.settings import PROJECT_DIR
from tests.conftest import drawn_pair

DEPLOY = (PROJECT_DIR / "docs" / "deploy.md").read_text("utf-8")
PIXELS = 832 * 480
USUAL = {"width": 832, "height": 480}


def plan(seconds: float = 10.0, *, people: int = 1, **fields: Any) -> Plan:
    """A plan of the size that the figures are for, of as many speakers."""
    speakers = [{"audio_url": f"https://example.com/{i}.wav"} for i in range(people)]
    request = {"image_url": "https://example.com/i.jpg", "speakers": speakers} | USUAL | fields
    voices = [Sound(seconds, 48_000, 2, False)] * people
    return make_plan(parse_request(request), voices, Picture(832, 480), new_seed=lambda: 1)


def plan_from_video(method: str, seconds: float = 10.0) -> Plan:
    request = {"video_url": "https://example.com/v.mp4", "wav_url": "https://example.com/a.wav"}
    asked = parse_request({**request, "video_method": method, **USUAL})
    source = SourceVideo(832, 480, seconds, round(seconds * 30), 30.0)
    return make_plan(asked, [Sound(seconds, 48_000, 2, False)], source, new_seed=lambda: 1)


def of(
    made: Plan,
    gpu: str | None = "NVIDIA GeForce RTX 4090",
    pace: Pace | None = None,
    ram_gib: float = math.inf,
    **limits: float,
) -> Estimate:
    return estimate(made, gpu_name=gpu, ram_gib=ram_gib, pace=pace or Pace(), **limits)


BENCHED = Benched(0.5, "2026-11-29")


def test_a_saved_bench_is_better_known_than_what_others_published() -> None:
    found = of(plan(), pace=Pace(BENCHED))
    assert found.seconds == pytest.approx(0.5 * (of(plan()).seconds or 0))
    assert found.seconds_source == "measured by talkinghead bench on 2026-11-29"
    unknown = of(plan(), gpu="Some Card 9", pace=Pace(BENCHED))
    assert unknown.seconds == found.seconds
    assert of(plan(), gpu="Some Card 9").seconds is None


def test_windows_that_this_worker_has_rendered_are_better_known_than_a_bench() -> None:
    pace = Pace(BENCHED)
    pace.saw(plan(), 11.0)
    assert of(plan(), pace=pace).seconds_source == "measured on this worker"


def test_a_bench_of_one_window_refuses_a_job_no_sooner_than_a_published_figure() -> None:
    slow, published = of(plan(), pace=Pace(Benched(9.0, "2026-11-29"))), of(plan())
    assert slow.least_seconds == published.least_seconds
    quick = of(plan(), pace=Pace(BENCHED))
    assert quick.least_seconds == pytest.approx(0.5 * (quick.seconds or 0))


def pace_of(made: Plan, *seconds: float) -> Pace:
    pace = Pace()
    for each in seconds:
        pace.saw(made, each)
    return pace


# ---- Time


def test_ten_seconds_on_a_4090_are_four_windows_of_80_s() -> None:
    found = of(plan(10))
    assert (found.frames, found.windows, found.seconds) == (250, 4, 320)
    assert found.seconds_source == "published for RTX 4090"


def test_a_step_at_720p_takes_three_and_a_half_times_as_long() -> None:
    def step(**size: int) -> float:
        return window_seconds(plan(steps=5, **size)) - window_seconds(plan(steps=4, **size))

    assert step() == pytest.approx(15)
    assert step(width=1280, height=720) / step() == pytest.approx(3.5, abs=0.1)


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"steps": 8}, 20 + 8 * 15),
        ({"cfg_scale": 5.0}, 20 + 4 * 15 * 2),
        ({"use_speed_lora": False}, 20 + 30 * 15 * 3),  # text and sound are guided apart
        ({"people": 2}, 20 + 4 * 15 * 1.15),
        ({"people": 4}, 20 + 4 * 15 * 1.25),
    ],
)
def test_steps_passes_and_masks_count(fields: dict[str, Any], seconds: float) -> None:
    assert window_seconds(plan(**fields)) == pytest.approx(seconds)


def test_denoise_computes_half_of_the_steps() -> None:
    assert window_seconds(plan_from_video("denoise")) == 20 + 2 * 15


def test_a_window_of_fewer_frames_is_quicker_by_more_than_its_frames() -> None:
    made = plan()
    assert window_seconds(replace(made, window_frames=49)) < 80 * 49 / 81


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("cuda:0 NVIDIA GeForce RTX 3090 : cudaMallocAsync", "RTX 3090"),
        ("rtx5090", "RTX 5090"),
        ("4090", "RTX 4090"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L40", "L40"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", None),
        ("Tesla T4", None),
    ],
)
def test_a_card_is_known_by_what_its_host_calls_it(name: str, card: str | None) -> None:
    found = card_named(name)
    assert (found.name if found else None) == card


@pytest.mark.parametrize("gpu", [None, "Tesla T4"])
def test_without_a_figure_for_the_gpu_only_the_cards_are_told(gpu: str | None) -> None:
    found = of(plan(), gpu, price_per_hour=2.0, timeout_seconds=60)
    assert (found.card, found.seconds, found.price, found.fits_timeout) == (gpu, None, None, None)
    assert found.seconds_by_card["RTX 4090"] == 320
    assert found.seconds_by_card.keys() == {card.name for card in CARDS}
    assert can_end_within(found, 0)


def test_a_derived_figure_is_called_so() -> None:
    found = of(plan(), "NVIDIA H100 80GB HBM3")
    assert found.seconds == pytest.approx(320 / 2.8)
    assert found.seconds_source == "derived for H100"


def test_a_draft_needs_no_window() -> None:
    found = of(plan(draft=True), price_per_hour=1.0)
    assert (found.way, found.windows, found.seconds, found.price) == ("draft", 0, None, None)
    assert not found.seconds_by_card


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (45, "45 s"),
        (1680, "28 min"),
        (3599, "1 h"),
        (11_400, "3 h 10 min"),
        (36_000, "10 h"),
        (100_000, "28 h"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


# ---- What this worker has measured


def test_what_was_measured_goes_before_what_was_published() -> None:
    made = plan(10)
    found = of(made, pace=pace_of(made, 120, 50, 50))  # the first loads the models
    assert (found.seconds, found.seconds_source) == (200, "measured on this worker")
    assert found.seconds_by_card["RTX 4090"] == 320


def test_a_gpu_without_a_figure_is_known_once_it_was_measured() -> None:
    made = plan(10)
    assert of(made, "Tesla T4", pace_of(made, 400)).seconds == 1600


def test_a_measurement_scales_to_another_size() -> None:
    small, large = plan(10), plan(10, width=1280, height=720)
    found = of(large, pace=pace_of(small, 40))
    assert found.seconds == pytest.approx(4 * window_seconds(large) / 2)


def test_windows_of_the_same_kind_say_more_than_others() -> None:
    small, large = plan(10), plan(10, width=1280, height=720)
    pace = pace_of(small, 40, 40, 40)
    pace.saw(large, 300)
    assert of(large, pace=pace).seconds == 1200


def test_a_draft_says_nothing_of_windows() -> None:
    made = plan(10)
    assert of(made, pace=pace_of(plan(10, draft=True), 1)).seconds == 320


def test_old_windows_are_forgotten() -> None:
    made = plan(10)
    pace = pace_of(made, *[100] * REMEMBERED_WINDOWS, *[60] * REMEMBERED_WINDOWS)
    assert of(made, pace=pace).seconds == 240


def test_a_pace_is_read_while_others_write() -> None:
    made, pace = plan(10), Pace()

    def write() -> None:
        for _ in range(500):
            pace.saw(made, 80)

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    read = {of(made, pace=pace).seconds for _ in range(200)}
    for writer in writers:
        writer.join()
    assert read == {320}


# ---- Time that is left


@pytest.mark.parametrize(
    "seen",
    [
        [(plan(3), 140.0)] * 3,  # one prompt each, of one window, with what comes once in it
        [(plan(3), 300.0)],  # the models were loaded
        [(replace(plan(10, long=True), blocks_to_swap=40), 160.0)] * 3,
        [(replace(plan(10, long=True), tiled_vae=True), 160.0)] * 3,
        [(plan(10, long=True, people=2), 160.0)] * 3,
        [(plan(10, long=True), 300.0)] * 2 + [(plan(10, long=True), 80.0)],
    ],
    ids=["short jobs", "a load", "blocks swapped", "tiled", "two speakers", "a busy host"],
)
def test_what_other_renders_took_refuses_no_job_that_fits(seen: list[tuple[Plan, float]]) -> None:
    long, pace = plan(600, long=True), Pace()
    for made, seconds in seen:
        pace.saw(made, seconds)
    really = 60 + long.windows * 80.0
    assert can_end_within(of(long, pace=pace), really)


KINDS = st.builds(
    lambda swap, tiled, people, long: replace(
        plan(10, people=people, long=long), blocks_to_swap=swap, tiled_vae=tiled
    ),
    st.sampled_from([0, 20, 40]),
    st.booleans(),
    st.sampled_from([1, 2]),
    st.booleans(),
)


# How much longer than truly: of up to two windows that met a busy host, and of one that did not.
LUCK = st.tuples(st.lists(st.floats(1.0, 10.0), max_size=2), st.floats(0.5, 1.35))


@given(
    made=KINDS,
    before=st.lists(st.tuples(KINDS, LUCK), max_size=20),
    gpu=st.sampled_from(["NVIDIA GeForce RTX 4090", "NVIDIA H100 80GB HBM3", "Tesla T4"]),
    slower=st.floats(0.5, 20.0),
    load=st.floats(0, 600),
)
def test_a_job_that_truly_takes_less_than_four_fifths_of_its_time_is_never_refused(
    made: Plan,
    before: list[tuple[Plan, tuple[list[float], float]]],
    gpu: str,
    slower: float,
    load: float,
) -> None:
    """Whatever was rendered before, on a card that is at most twice as fast as published."""
    card = card_named(gpu)

    def true_seconds(kind: Plan) -> float:
        swapped = 1 + kind.blocks_to_swap / 40
        published = window_seconds(kind) / (card.speed if card else 1)
        return slower * swapped * (1.5 if kind.tiled_vae else 1) * published

    pace = Pace()
    for kind, (bad, good) in before:
        for luck in (*bad, good):
            pace.saw(kind, luck * true_seconds(kind))
    takes = load + made.windows * true_seconds(made)
    assert can_end_within(of(made, gpu, pace=pace), takes / 0.8)


def test_a_card_that_was_shared_for_a_while_refuses_nothing_that_it_did_before() -> None:
    made, pace = plan(10), Pace()
    for seconds in (80.0,) * 3 + (160.0,) * 40:
        pace.saw(made, seconds)
    found = pace.measured(made)
    assert found is not None and found.least_seconds == 80 and found.window_seconds == 160


@pytest.mark.parametrize(
    ("measured", "least"),
    [((), 160), ((80.0, 80.0), 160), ((80.0, 80.0, 80.0), 288)],
    ids=["published", "measured twice", "measured"],
)
def test_a_job_is_refused_only_if_it_surely_takes_longer(
    measured: tuple[float, ...], least: float
) -> None:
    made = plan(10)
    found = of(made, pace=pace_of(made, *measured))
    assert found.seconds == 320
    assert can_end_within(found, least)
    assert not can_end_within(found, least - 1)


def test_what_was_measured_on_another_size_is_no_sure_no() -> None:
    found = of(plan(10), pace=pace_of(plan(width=1280, height=720), *[window_seconds(plan())] * 9))
    assert found.least_seconds == pytest.approx((found.seconds or 0) / 2)


def test_a_refusal_says_how_long_and_what_to_do() -> None:
    made = plan(600, long=True)
    assert too_long_text(of(made, timeout_seconds=3600)) == (
        "209 windows take about 4 h 39 min on this RTX 4090 (published for RTX 4090), "
        "JOB_TIMEOUT_SECONDS is 3600 s: raise it, shorten the sound, or set continue_later"
    )


def test_a_mode_that_cannot_continue_is_not_told_to() -> None:
    made = plan(60, mode="multitalk", long=True)
    said = too_long_text(of(made, None, pace_of(made, 400), timeout_seconds=60))
    assert "on this worker (measured on this worker)" in said
    assert said.endswith("is 60 s: raise it or shorten the sound")


def test_whether_it_fits_is_told() -> None:
    assert of(plan(10), timeout_seconds=320).fits_timeout
    assert of(plan(10), timeout_seconds=319).fits_timeout is False
    assert of(plan(10)).fits_timeout is None


# ---- Price, memory, disk


def test_the_price_is_the_hour_s() -> None:
    assert of(plan(10), price_per_hour=2.25).price == pytest.approx(0.2)
    assert of(plan(10)).price is None


def test_one_prompt_holds_every_frame() -> None:
    found = of(plan(10, long=False))
    assert (found.way, found.ram_gb) == ("prompt", (81 + 3 * 72) * PIXELS * 18 / 1e9)


@pytest.mark.parametrize(("mode", "way"), [("infinitetalk", "chain"), ("multitalk", "frames")])
def test_a_long_render_holds_one_window(mode: str, way: str) -> None:
    short, long = (of(plan(seconds, mode=mode, long=True)) for seconds in (10, 300))
    assert short.way == long.way == way
    assert short.ram_gb == long.ram_gb == 81 * PIXELS * 18 / 1e9


def test_a_source_video_is_held_too() -> None:
    pictures = of(plan(10, long=False)).ram_gb
    denoised = of(plan_from_video("denoise")).ram_gb
    assert denoised == pytest.approx(pictures * (18 + 24) / 18)
    assert of(replace(plan_from_video("keyframes"), long=False)).ram_gb < pictures * 1.05


def test_the_vae_in_tiles_costs_memory_of_the_host() -> None:
    made = plan(10, long=False)
    assert of(replace(made, tiled_vae=True)).ram_gb > of(made).ram_gb


def test_a_host_that_cannot_hold_the_frames_is_told() -> None:
    made = plan(300, long=False)
    needed_gib = of(made).ram_gb * 1e9 / GIB
    assert of(made, ram_gib=needed_gib + 0.1).fits_ram
    assert of(made, ram_gib=needed_gib - 0.1).fits_ram is False
    assert of(made).fits_ram is None


def test_an_hour_as_a_chain_needs_little_disk() -> None:
    found = of(plan(3600, long=True))
    video, sound = 90_000 * PIXELS * 0.1 / 8 / 1e9, 3600 * 224_000 / 1e9
    assert found.disk_gb == pytest.approx(2 * video + 2 * sound)
    assert found.disk_gb < 3


def test_another_rate_needs_disk_for_a_lossless_render() -> None:
    assert of(plan(60, fps=30)).disk_gb > 5 * of(plan(60)).disk_gb


def test_frames_on_disk_are_most_of_what_lies_there() -> None:
    found = of(plan(60, mode="multitalk", long=True))
    assert found.disk_gb == pytest.approx(1500 * PIXELS * 2 / 1e9, rel=0.1)


# ---- What a caller gets


def test_the_result_holds_plain_numbers() -> None:
    made = plan(10.02, fps=30, long=True)
    said = of(made, ram_gib=24, price_per_hour=1.1, timeout_seconds=3600.0).payload()
    assert json.loads(json.dumps(said)) == said
    assert said == {
        "way": "chain",
        "frames": 251,
        "windows": 4,
        "delivered_frames": 301,
        "width": 832,
        "height": 480,
        "duration_seconds": 10.02,
        "card": "RTX 4090",
        "seconds": 320,
        "seconds_source": "published for RTX 4090",
        "seconds_by_card": said["seconds_by_card"],
        "price": 0.1,
        "price_per_hour": 1.1,
        "ram_gb": 0.58,
        "host_ram_gb": 25.8,
        "disk_gb": 0.06,
        "timeout_seconds": 3600.0,
        "fits_timeout": True,
        "fits_ram": True,
        "generation_params": made.params() | {"seed": None},
    }


def test_what_has_no_limit_is_null() -> None:
    said = of(plan(10)).payload()
    assert (said["host_ram_gb"], said["timeout_seconds"], said["price"]) == (None, None, None)


# ---- The pages


def test_the_table_in_the_docs_is_what_is_computed() -> None:
    assert table() in (PROJECT_DIR / "docs" / "tuning.md").read_text("utf-8")


def test_the_lengths_in_the_docs_are_those_of_a_4090() -> None:
    units = {"s": 1, "min": 60, "h": 3600}
    rows = re.findall(r"^\| (\d+) (s|min|h) \| ([\d,]+) \| ([\d,]+) \|", DEPLOY, re.MULTILINE)
    told = {int(n) * units[unit]: (windows, seconds) for n, unit, windows, seconds in rows}
    found = {length: of(plan(length, long=True)) for length in (10, 60, 600, 3600)}
    assert told == {
        length: (f"{each.windows:,}", f"{each.seconds:,.0f}") for length, each in found.items()
    }


def test_the_prices_in_the_docs_are_those_of_the_figures() -> None:
    rows = re.findall(
        r"^\| ([^|]+) \| (0\.\d{5}) \| ([\d.]+)(?: at most)? \|$", DEPLOY, re.MULTILINE
    )
    assert len(rows) == 5
    for name, per_second, told in rows:
        found = of(plan(60), name, price_per_hour=float(per_second) * 3600)
        assert f"{found.price:.2f}" == told, name


# ---- The command


def write_request(folder: Path, **fields: Any) -> str:
    examples = PROJECT_DIR / "examples"
    media = {name: str(examples / name) for name in ("portrait.jpg", "voice.wav")}
    request = {"image_url": media["portrait.jpg"], "wav_url": media["voice.wav"]} | fields
    (folder / "request.json").write_text(json.dumps({"input": request}))
    return str(folder / "request.json")


def run(*words: str, work: Path) -> tuple[int, str]:
    """The command's status and what it says, on a host without a GPU and without ComfyUI."""
    environment = {"COMFYUI_URL": "", "COMFYUI_DIR": str(work / "none"), "WORK_DIR": str(work)}
    ended = CliRunner().invoke(app, ["estimate", *words], env=environment)
    return ended.exit_code, " ".join(ended.output.split())


def test_the_command_tells_it_without_comfyui(tmp_path: Path) -> None:
    request = write_request(tmp_path, **USUAL)
    status, said = run(request, "--card", "4090", "--price-per-hour", "1.8", work=tmp_path / "w")
    assert status == 0
    assert "windows 2, of 143 frames in all" in said
    assert "time 3 min (published for RTX 4090)" in said
    assert "price 0.08 at 1.8 an hour" in said
    assert not (tmp_path / "w").exists()


def test_the_command_warns_of_what_a_dry_run_warns(tmp_path: Path) -> None:
    flat = {"width": 1024, "height": 256, "crop": "bottom"}
    status, said = run(write_request(tmp_path, **flat), work=tmp_path / "w")
    assert status == 0
    assert "note: all of the face of wav_url is cut away" in said


def test_the_command_gives_what_a_dry_run_answers(tmp_path: Path) -> None:
    request = write_request(tmp_path, long=True, price_per_hour=1.8, **USUAL)
    status, said = run(request, "--card", "RTX 4090", "--json", work=tmp_path / "w")
    told = json.loads(said)
    assert status == 0
    assert (told["way"], told["windows"], told["seconds"]) == ("chain", 2, 160)
    assert (told["price"], told["host_ram_gb"]) == (0.08, None)


def test_the_command_tells_the_size_of_the_video_beside_that_of_the_render(tmp_path: Path) -> None:
    request = write_request(tmp_path, aspect_ratio="9:16")
    told = json.loads(run(request, "--json", work=tmp_path / "w")[1])
    assert (told["width"], told["height"]) == (480, 854)
    assert told["generation_params"]["render_size"] == "480x864"
    assert "video 480x854, 5.72 s, 143 frames" in run(request, work=tmp_path / "w")[1]


def test_the_command_warns_of_the_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_TIMEOUT_SECONDS", "100")
    _, said = run(write_request(tmp_path), "--card", "4090", work=tmp_path / "w")
    assert "longer than JOB_TIMEOUT_SECONDS, 100 s" in said


def test_the_command_names_the_cards_that_it_knows(tmp_path: Path) -> None:
    status, said = run(write_request(tmp_path), "--card", "T4", work=tmp_path / "w")
    assert status == 2
    assert "--card T4: there are figures for RTX 3090" in said


def test_the_command_tells_what_is_wrong_with_a_request(tmp_path: Path) -> None:
    status, said = run(write_request(tmp_path, steps=99), work=tmp_path / "w")
    assert status == 1
    assert "failed: steps is 99" in said


def test_the_command_refuses_boxes_that_a_render_would_refuse(tmp_path: Path) -> None:
    voice = str(PROJECT_DIR / "examples" / "voice.wav")
    for places, fault in (
        ([[0, 0, 0.5, 1], [2000, 0, 2100, 500]], "speakers.1"),
        ([[0, 0, 0.5, 1], None], "speakers.1 has neither box nor mask_url"),
    ):
        people = [{"audio_url": voice, **({"box": box} if box else {})} for box in places]
        request = write_request(tmp_path, wav_url=None, speakers=people, crop="center")
        status, said = run(request, work=tmp_path / "w")
        assert status == 1
        assert fault in said


def test_the_command_tells_whose_face_lies_in_a_mask(tmp_path: Path) -> None:
    voice, masks = str(PROJECT_DIR / "examples" / "voice.wav"), [(0, 256), (256, 512)]
    people = [{"audio_url": voice, "mask_url": f"{x0}.png"} for x0, _ in masks]
    for x0, x1 in masks:
        mask = Image.new("L", (512, 512))
        mask.paste(255, (x0, 0, x1, 512))
        mask.save(tmp_path / f"{x0}.png")
    request = write_request(tmp_path, wav_url=None, speakers=people, aspect_ratio="auto")
    _, said = run(request, "--json", work=tmp_path / "w")
    told = json.loads(said)
    assert told["speakers_found"] == [
        {"speaker": "speakers.0", "face": [180, 64, 272, 176], "box": [0, 0, 256, 512]},
        {"speaker": "speakers.1", "face": None, "box": [256, 0, 512, 512]},
    ]
    assert told["warnings"] == ["speakers.1: no face was found in its mask"]


def test_the_face_in_a_box_is_found_where_another_one_is_found_first(tmp_path: Path) -> None:
    drawn_pair().save(tmp_path / "two.png")
    voice = str(PROJECT_DIR / "examples" / "voice.wav")
    for box, x0 in ([0, 0, 0.5, 1], 108), ([0.5, 0, 1, 1], 948):
        people = [{"audio_url": voice, "box": box}]
        request = write_request(tmp_path, image_url="two.png", wav_url=None, speakers=people)
        _, said = run(request, "--json", work=tmp_path / "w")
        [found] = json.loads(said)["speakers_found"]
        assert found["face"][0] == pytest.approx(x0, abs=30)


def test_a_mask_that_is_dark_all_over_is_refused_for_one_speaker_as_for_two(tmp_path: Path) -> None:
    Image.new("L", (512, 512)).save(tmp_path / "dark.png")
    voice = str(PROJECT_DIR / "examples" / "voice.wav")
    person = {"audio_url": voice, "mask_url": "dark.png"}
    status, said = run(
        write_request(tmp_path, wav_url=None, speakers=[person]), work=tmp_path / "w"
    )
    assert status == 1
    assert "speakers.0.mask_url: the mask is dark all over" in said


def test_the_command_tells_the_faces_and_warnings_of_a_render(tmp_path: Path) -> None:
    voice = str(PROJECT_DIR / "examples" / "voice.wav")
    request = write_request(tmp_path, wav_url=None, audio_urls=[voice, voice])
    _, said = run(request, "--json", work=tmp_path / "w")
    told = json.loads(said)
    assert [person["face"] for person in told["speakers_found"]] == [[180, 64, 272, 176]]
    assert any("1 face was found for 2 speakers" in warning for warning in told["warnings"])
    _, said = run(request, work=tmp_path / "w")
    assert "note: image_url: 1 face was found for 2 speakers" in said
