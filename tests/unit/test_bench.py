"""`talkinghead bench` as far as no ComfyUI is needed; the rest is in tests/comfy and tests/real."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFilter
from typer.testing import CliRunner

from talkinghead.bench import run as bench_run
from talkinghead.bench.configurations import (
    PLAIN,
    TABLE,
    TOGETHER,
    Configuration,
    configurations,
    plain_settings,
    together,
    why_not,
)
from talkinghead.bench.distance import distance
from talkinghead.bench.measure import Bench, Row
from talkinghead.bench.report import Report
from talkinghead.bench.standard import Standard, write_files
from talkinghead.bench.watching import Steps
from talkinghead.cli.app import app
from talkinghead.models import choice as choices
from talkinghead.models.choice import FILE_NAME, TUNABLE, Machine
from talkinghead.models.gpu import Gpu, Host, choose
from talkinghead.models.manifest import load_manifest
from talkinghead.render.progress import Progress
from talkinghead.settings import Settings
from tests.conftest import write_pan

MANIFEST = load_manifest()
CARD = Host(Gpu("NVIDIA L40S", 45, 8.9), math.inf, sage=True)
SECONDS = {PLAIN: 80.0, "sageattn": 60.0, "20 blocks swapped": 85.0, "40 blocks swapped": 79.5}


def plain_of(vram: float) -> dict[str, Any]:
    host = Host(Gpu("card", vram, 8.9), math.inf, sage=True)
    return plain_settings(choose(host, MANIFEST, attention="sdpa"))


def names(vram: float) -> list[str]:
    return [each.name for each in configurations(plain_of(vram), {})]


def row(name: str, seconds: float, **figures: Any) -> Row:
    each = next((each for each in TABLE if each.name == name), Configuration(name))
    measured = Row(name, each.settings, each.fields, each.can_be_chosen, "measured")
    figures = {"ssim": 0.9, "psnr_db": 30.0, "times_published": seconds / 80} | figures
    return replace(measured, window_seconds=seconds, **figures)


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return Report(tmp_path / "bench.json", Machine("", "", "2", {}), "fp8", Standard(480, 832))


def test_what_is_the_plain_configuration_anyway_is_not_measured_twice() -> None:
    assert names(45)[:2] == [PLAIN, "sageattn"]
    assert not {"no block swapped", "weights kept"} & {*names(45)}
    assert "no block swapped" in names(24) and "weights kept" in names(24)


def test_every_setting_that_is_measured_can_be_chosen() -> None:
    chosen = {name for each in TABLE if each.can_be_chosen for name in each.settings}
    assert chosen == set(TUNABLE)
    assert {name for each in TABLE for name in each.settings} <= plain_of(45).keys()


def test_weights_that_the_card_cannot_hold_are_left_out_before_they_are_tried() -> None:
    none_swapped = next(each for each in TABLE if each.name == "no block swapped")
    small = Host(Gpu("card", 16, 8.9), math.inf)
    plain = plain_of(24) | {"model_profile": "fp8"}
    assert why_not(none_swapped, plain, small, MANIFEST) == (
        "its weights take 18 GB of the card's 16"
    )
    assert why_not(none_swapped, plain, CARD, MANIFEST) is None


def test_sageattention_is_left_out_where_it_does_not_run() -> None:
    sage = next(each for each in TABLE if each.name == "sageattn")
    without = replace(CARD, sage=False)
    assert "SageAttention is not" in str(why_not(sage, plain_of(45), without, MANIFEST))


def test_all_that_was_quicker_is_measured_together_and_of_two_values_the_quicker_one() -> None:
    some = [
        Configuration("a", {"attention": "sageattn"}),
        Configuration("b", {"blocks_to_swap": 0}),
        Configuration("c", {"blocks_to_swap": 20}),
    ]
    found = together(some)
    assert found == Configuration(TOGETHER, {"attention": "sageattn", "blocks_to_swap": 0})
    assert together(some[:1]) is None and together(some[1:]) is None


def test_a_broken_picture_is_never_chosen_however_quick(report: Report) -> None:
    report.add(row(PLAIN, 80.0, ssim=None, psnr_db=None))
    report.add(row("sageattn", 40.0, defect="window 1 is black in all its 81 frames"))
    report.add(row("no block swapped", 60.0, ssim=0.3))
    report.add(row("20 blocks swapped", 70.0))
    assert report.best is not None and report.best.name == "20 blocks swapped"


def test_what_is_as_quick_as_plain_or_the_callers_to_decide_is_not_chosen(report: Report) -> None:
    report.add(row(PLAIN, 80.0, ssim=None, psnr_db=None))
    report.add(row("40 blocks swapped", 79.5))
    report.add(row("chain", 10.0))
    report.add(replace(row("profile gguf-q4", 10.0), can_be_chosen=False))
    assert report.best == report.plain


def test_a_report_that_was_broken_off_goes_on_and_another_one_is_left_alone(
    report: Report,
) -> None:
    report.add(row(PLAIN, 80.0))
    report.add(replace(row("sageattn", 1.0), state="left out"))
    same = report.path, report.machine, report.profile, report.standard
    assert [each.name for each in Report.open(*same).rows] == [PLAIN]
    with pytest.raises(Exception, match="holds another bench: a window, 81 frames of 480x832"):
        Report.open(*same[:3], Standard(832, 480))
    report.path.write_text("{}")
    with pytest.raises(Exception, match="holds no bench"):
        Report.open(*same)


def test_a_step_is_timed_within_windows_alone() -> None:
    times = iter([0.0, 10.0, 11.0, 12.0, 50.0, 51.0, 53.0])
    steps = Steps(lambda seen: None, clock=lambda: next(times))
    for window, step in [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (2, 4)]:
        steps.see(Progress("render", "", window=window, step=step))
    assert steps.step_seconds == 1.0  # of 10, 1, 1; 1, 1
    assert Steps(lambda seen: None).step_seconds is None


def test_equal_frames_are_told_from_frames_that_are_near_and_from_others(
    tmp_path: Path, portrait: Path
) -> None:
    one = write_pan(tmp_path / "one.mp4", portrait, seconds=0.3, still=True)
    longer = write_pan(tmp_path / "longer.mp4", portrait, seconds=0.5, still=True)
    with Image.open(portrait) as image:
        for name, blur in (("near", 1), ("far", 8)):
            image.convert("RGB").filter(ImageFilter.GaussianBlur(blur)).save(tmp_path / "p.png")
            write_pan(tmp_path / f"{name}.mp4", tmp_path / "p.png", seconds=0.3, still=True)
    same, near, far = (distance(one, tmp_path / f"{name}.mp4") for name in ("one", "near", "far"))
    assert same is not None and near is not None and far is not None
    assert same.psnr_db is None and same.ssim == pytest.approx(1.0)
    assert near.psnr_db is not None and far.psnr_db is not None
    assert 1.0 > near.ssim > 0.8 > far.ssim and near.psnr_db > 25 > far.psnr_db
    assert distance(one, longer) is None


@pytest.mark.parametrize("speakers", [1, 3])
def test_the_standard_is_a_request_of_whole_windows(tmp_path: Path, speakers: int) -> None:
    standard = Standard(480, 832, windows=2, speakers=speakers)
    files = write_files(standard, tmp_path)
    request = standard.request(files, {"long": True})
    assert (request.width, request.height, request.max_frame) == (480, 832, 153)
    assert len(request.speakers) == speakers and request.long
    with Image.open(tmp_path / "people.png") as people:
        assert people.size == (480, 832)


# ---- The command


@pytest.fixture
def on_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A host with a card, whose renders are made up; which were measured, by their names."""
    measured: list[str] = []

    def measure(bench: Bench, each: Configuration) -> Row:
        measured.append(each.name)
        bench.video(each.name).touch()
        ssim = None if each.name == PLAIN else 0.9
        made = row(each.name, SECONDS.get(each.name, 80.0), ssim=ssim)
        return replace(made, settings={**bench.plain, **each.settings})

    monkeypatch.setattr(Bench, "measure", measure)
    monkeypatch.setattr(bench_run, "read_host", lambda settings: CARD)
    monkeypatch.setattr(choices, "read_driver", lambda: "580.1")
    for name, text in {
        **{"COMFYUI_CPU": "0", "VOLUME_DIR": str(tmp_path)},
        **{"COMFYUI_DIR": str(tmp_path / "comfy"), "MODEL_PROFILE": "fp8"},
    }.items():
        monkeypatch.setenv(name, text)
    monkeypatch.chdir(tmp_path)
    yield measured


def test_without_a_gpu_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_CPU", "1")
    result = CliRunner().invoke(app, ["bench"])
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "failed: there is no GPU here; `talkinghead bench --tiny` tries the bench alone"
    ]


def test_a_driver_that_does_not_answer_is_told(
    on_a_card: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_run, "read_host", lambda settings: replace(CARD, gpu=None))
    result = CliRunner().invoke(app, ["bench"])
    assert (result.exit_code, on_a_card) == (1, [])
    assert "nvidia-smi does not answer" in result.output


def test_what_was_quickest_is_saved_for_workers(on_a_card: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["bench", "--save"])
    assert result.exit_code == 0, result.output
    assert "quickest: sageattn, 1.33 times as quick as plain" in result.output
    assert f"The choice is in {tmp_path / FILE_NAME}" in result.output
    (saved,) = json.loads((tmp_path / FILE_NAME).read_text())
    assert saved["machine"]["gpu"] == "NVIDIA L40S" and saved["profile"] == "fp8"
    assert saved["settings"] == {
        **{"attention": "sageattn", "force_offload": False, "blocks_to_swap": 0},
        **{"base_precision": "auto", "torch_compile": False},
    }


def test_settings_that_the_nodes_refuse_together_are_left_out_and_said(
    on_a_card: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = replace(CARD, gpu=Gpu("NVIDIA A40", 45, 8.6))
    monkeypatch.setattr(bench_run, "read_host", lambda settings: old)
    result = CliRunner().invoke(app, ["bench"])
    assert "compiled" not in on_a_card and "sageattn" in on_a_card
    assert "e4m3 can generally not be compiled there" in result.output


def test_broken_off_it_keeps_what_is_measured_and_goes_on(
    on_a_card: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measure: Callable[..., Row] = Bench.measure

    def press(bench: Bench, each: Configuration) -> Row:
        if each.name == "20 blocks swapped":
            raise KeyboardInterrupt
        return measure(bench, each)

    with monkeypatch.context() as once:
        once.setattr(Bench, "measure", press)
        result = CliRunner().invoke(app, ["bench"])
    assert result.exit_code == 130 and "the same command goes on from there" in result.output
    kept = json.loads((tmp_path / "out" / "bench" / "bench.json").read_text())
    assert [each["name"] for each in kept["rows"]][:2] == [PLAIN, "sageattn"]
    assert CliRunner().invoke(app, ["bench"]).exit_code == 0
    assert sorted(on_a_card) == sorted(set(on_a_card))
    assert on_a_card.index("20 blocks swapped") == len(kept["rows"])


def test_called_again_it_tries_anew_what_failed_and_what_is_of_another_version(
    on_a_card: list[str], tmp_path: Path
) -> None:
    """A disk that was full, models that were missing; a plain video that somebody deleted."""
    assert CliRunner().invoke(app, ["bench"]).exit_code == 0
    path = tmp_path / "out" / "bench" / "bench.json"
    kept = json.loads(path.read_text())
    by_name = {each["name"]: each for each in kept["rows"]}
    by_name["20 blocks swapped"]["state"] = "failed"
    by_name["sageattn"]["settings"]["attention"] = "sage_of_old"
    by_name["compiled"]["name"] = "a name that is none any more"
    path.write_text(json.dumps(kept))
    (path.parent / "plain.mp4").unlink()
    on_a_card.clear()
    assert CliRunner().invoke(app, ["bench"]).exit_code == 0
    assert {PLAIN, "sageattn", "20 blocks swapped"} <= {*on_a_card} and "chain" not in on_a_card
    names = [each["name"] for each in json.loads(path.read_text())["rows"]]
    assert len(names) == len({*names}) and "a name that is none any more" not in names


def test_a_choice_that_cannot_be_saved_is_told_before_hours_of_measuring_or_after_the_table(
    on_a_card: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VOLUME_DIR", "/proc")  # nobody can write there
    result = CliRunner().invoke(app, ["bench", "--save"])
    assert (result.exit_code, on_a_card) == (1, []) and f"/proc/{FILE_NAME}" in result.output
    monkeypatch.setenv("VOLUME_DIR", str(tmp_path))
    (tmp_path / FILE_NAME).write_text("no list")
    result = CliRunner().invoke(app, ["bench", "--save"])
    assert (result.exit_code, on_a_card) == (1, []) and "failed: " in result.output
    (tmp_path / FILE_NAME).unlink()
    with monkeypatch.context() as full:
        full.setattr(Path, "replace", failing_for(FILE_NAME, Path.replace))
        result = CliRunner().invoke(app, ["bench", "--save"])
    assert result.exit_code == 1
    assert result.output.index("quickest: sageattn") < result.output.index("No space left")
    assert "kept in out/bench/bench.json: the same command goes on" in result.output
    measured = len(on_a_card)
    assert CliRunner().invoke(app, ["bench", "--save"]).exit_code == 0
    assert (tmp_path / FILE_NAME).exists() and len(on_a_card) == measured


def failing_for(name: str, replace: Callable[..., Path]) -> Callable[..., Path]:
    """Of `Path.replace`: it finds the disk full for a file of this name."""

    def failing(self: Path, target: Path) -> Path:
        if target.name == name:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return replace(self, target)

    return failing


def test_sageattention_is_measured_whatever_the_workers_are_set_to(
    on_a_card: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTENTION", "sdpa")
    asked = []

    def read_host(settings: Settings) -> Host:
        asked.append(settings.attention)
        return CARD

    monkeypatch.setattr(bench_run, "read_host", read_host)
    assert CliRunner().invoke(app, ["bench"]).exit_code == 0
    assert asked == ["auto"] and "sageattn" in on_a_card


def test_profiles_whose_files_are_not_here_are_left_out_and_said(on_a_card: list[str]) -> None:
    result = CliRunner().invoke(app, ["bench"])
    assert "profile gguf-q4: not here: wan2.1-i2v-14b-480p-Q4_K_M.gguf" in result.output
    assert not [name for name in on_a_card if name.startswith("profile")]


def test_a_size_that_is_none_is_refused(on_a_card: list[str]) -> None:
    for size in ("480", "481x832", "480x8320"):
        assert "--size" in CliRunner().invoke(app, ["bench", "--size", size]).output
