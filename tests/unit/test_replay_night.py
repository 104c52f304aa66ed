"""A night of files, some of them bad: nothing stops the rest, and the end says what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from talkinghead.cli.app import app
from talkinghead.replay.report import Report, left_out, lines_of, not_run
from talkinghead.replay.runs import Same, Wanted, by_cause, plan_runs
from talkinghead.replay.sources import BadInput, Problem, Source, read_sources
from talkinghead.replay.summary import Tally, failures_by_cause
from talkinghead.workflow.lint import lint_workflow
from talkinghead.workflow.packs import classes_in, lacking, pack_of
from talkinghead.workflow.schemas import load_schemas
from tests.unit.test_replay import graph, source, write

SCHEMAS = load_schemas()
KJ = "https://github.com/kijai/ComfyUI-KJNodes"


def replayed(*words: str | Path) -> tuple[int, str]:
    ended = CliRunner().invoke(app, ["replay", *map(str, words)], env={"COLUMNS": "300"})
    return ended.exit_code, ended.output


# ---- Bad files


def bad_folder(folder: Path) -> Path:
    folder.mkdir()
    write(folder / "good.json", graph())
    (folder / "broken.json").write_text("{")
    write(folder / "notes.json", [1])
    write(folder / "typo.json", {"image_ulr": "a", "wav_url": "b"})
    return folder


def test_what_cannot_be_opened_is_told_as_that_and_not_as_bad_json(tmp_path: Path) -> None:
    (tmp_path / "gone.json").symlink_to("nowhere")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "hollow.json").touch()
    _, problems = read_sources([str(tmp_path)])
    assert [each.why for each in problems] == [
        "cannot be read: Is a directory",
        "cannot be read: No such file or directory",
        "not readable as JSON: it is empty",
    ]


def test_the_mistakes_of_all_files_are_told_in_one_pass_and_the_rest_is_planned(
    tmp_path: Path,
) -> None:
    code, said = replayed(bad_folder(tmp_path / "flows"), tmp_path / "absent.json", "--dry-run")
    assert code == 1
    for name in ("broken", "notes", "typo", "absent"):
        assert f"{name}.json: " in said
    assert "4 runs cannot be done as asked, and the rest goes on" in said
    assert "good.json, seed 1: to do" in said and "1 run to do" in said


def test_strict_runs_nothing_if_a_file_is_bad(tmp_path: Path) -> None:
    code, said = replayed(bad_folder(tmp_path / "flows"), "--dry-run", "--strict")
    assert code == 1
    assert "broken.json" in said and "nothing was run, for what is told above" in said
    assert "to do" not in said


def test_a_bad_file_is_in_the_report_once_however_often_it_is_called(tmp_path: Path) -> None:
    problem = Problem(tmp_path / "broken.json", "not readable as JSON")
    for _ in range(2):
        Report(tmp_path / "replay.jsonl").add_once(not_run(problem))
    (line,) = lines_of(tmp_path / "replay.jsonl")
    assert (line["status"], line["error"]) == ("failed", "not readable as JSON")
    assert Report(tmp_path / "replay.jsonl").done() == set()


def test_a_file_that_does_the_same_as_another_is_named_in_the_report(tmp_path: Path) -> None:
    wanted = Wanted({}, [], "keep", "{stem}")
    plan = plan_runs([source(graph(), f"{n}.json") for n in "abc"], wanted, SCHEMAS, remote=False)
    assert [same.path.name for same in plan.same] == ["b.json", "c.json"]
    kept = Report(tmp_path / "replay.jsonl")
    for same in plan.same:
        kept.add_once(left_out(same, "a"))
    told = [(each["file"], each["same_as"]) for each in lines_of(kept.path)]
    assert told == [("b.json", "a"), ("c.json", "a")]


def test_repeat_makes_runs_that_differ_in_their_seeds_and_are_the_same_again() -> None:
    def seeds(repeats: int) -> list[int | None]:
        wanted = Wanted({}, [], "random", "{stem}", repeats)
        return [
            run.seed for run in plan_runs([source(graph())], wanted, SCHEMAS, remote=False).runs
        ]

    assert len(set(seeds(10))) == 10
    assert seeds(10)[:3] == seeds(3) and seeds(1) == seeds(3)[:1]


def test_repeat_with_one_seed_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", graph())
    code, said = replayed(path, "--repeat=3", "--seed=7", "--dry-run")
    assert code == 1 and "--repeat 3 --seed 7: the same again" in said


# ---- Node packs


def test_a_workflow_whose_nodes_are_not_there_is_told_which_packs_have_them() -> None:
    flow: dict[str, Any] = {
        "1": {"class_type": "ImageResizeKJv2", "inputs": {}},
        "2": {"class_type": "INTConstant", "inputs": {}},
        "3": {"class_type": "MelBandRoFormerSampler", "inputs": {}},
    }
    wanted = Wanted({}, [], "keep", "x")
    (problem,) = plan_runs([source(flow)], wanted, SCHEMAS, remote=False).problems
    assert problem.why == (
        f"needs node packs that are not there: {KJ} (INTConstant, ImageResizeKJv2); "
        "https://github.com/kijai/ComfyUI-MelBandRoFormer (MelBandRoFormerSampler)"
    )
    assert f"has no node class ImageResizeKJv2; it is of the node pack {KJ}" in str(
        lint_workflow(flow, SCHEMAS)[0]
    )


def test_a_gui_file_says_itself_whose_its_nodes_are() -> None:
    node = {"id": 1, "type": "SomethingRare", "properties": {"aux_id": "someone/ComfyUI-Rare"}}
    other = {"id": 2, "type": "AnotherRare", "properties": {"cnr_id": "comfyui-rare"}, "mode": 0}
    muted = {"id": 3, "type": "MutedRare", "properties": {"cnr_id": "x"}, "mode": 2}
    classes = classes_in({"nodes": [node, other, muted], "links": []}, SCHEMAS)
    assert lacking(classes, SCHEMAS) == (
        "needs node packs that are not there: comfyui-rare (AnotherRare); "
        "https://github.com/someone/ComfyUI-Rare (SomethingRare)"
    )


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("Power Lora Loader (rgthree)", "https://github.com/rgthree/rgthree-comfy"),
        ("SimpleMath+", "https://github.com/cubiq/ComfyUI_essentials"),
        ("VHS_SplitImages", "https://github.com/Kosinkadink/ComfyUI-VideoHelperSuite"),
        ("WanVideoSampler", "https://github.com/kijai/ComfyUI-WanVideoWrapper"),
        ("Nobody knows [it]", None),
    ],
)
def test_packs_are_known_by_the_classes_of_public_workflows(name: str, pack: str | None) -> None:
    assert pack_of(name) == pack


def test_a_mistyped_class_of_a_pack_that_is_there_is_told_with_the_nearest() -> None:
    flow = {"1": {"class_type": "WanVideoSamplerr", "inputs": {}}}
    assert "the nearest is WanVideoSampler" in str(lint_workflow(flow, SCHEMAS)[0])


# ---- While it goes on, and at the end


def entry(
    status: str, file: str, error: str | None = None, seconds: float = 30.0
) -> dict[str, Any]:
    return {"status": status, "file": file, "name": file, "error": error, "seconds": seconds}


def test_the_bar_tells_counts_time_left_and_cost() -> None:
    times = iter([0.0, 60.0])
    tally = Tally(5, 48.0, lambda: next(times))
    tally.add(entry("done", "a.json"))
    tally.add({**entry("failed", "b.json", "x"), "paid_seconds": 15.0})
    assert tally.line() == "2 of 5, 1 failed, about 2 min left, 0.60 so far"


def test_the_end_tells_failures_by_cause_the_commonest_first() -> None:
    times = iter([0.0, 120.0, 120.0])
    tally = Tally(6, None, lambda: next(times))
    tally.add(entry("done", "a.json", seconds=20.0))
    for number in range(3):
        error = f"node 5{number}, input model: '{number}.safetensors' is not there"
        tally.add(entry("failed", f"f{number}.json", error))
    tally.add(entry("failed", "z.json", "out of memory"))
    first, commonest, other = tally.lines()
    assert first == "1 done, 4 failed, 1 not begun, in 2 min, 20.0 s each"
    assert tally.lines(2)[0].startswith("1 done, 6 failed, "), "with those that could not be begun"
    assert commonest.startswith("  3 failed: node 50") and "f0.json, f1.json, f2.json" in commonest
    assert "out of memory" in other and "z.json" in other


def test_one_cause_in_many_files_names_some_and_counts_the_rest() -> None:
    (line,) = failures_by_cause([entry("failed", f"{n}.json", "no such") for n in range(30)])
    assert line.startswith("  30 failed: no such") and line.endswith("4.json and 25 more")


def test_unreadable_files_are_one_problem_each(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    sources, problems = read_sources([str(tmp_path)])
    assert sources == [] and len(by_cause(problems)) == 1


def test_a_duplicate_line_is_no_result(tmp_path: Path) -> None:
    kept = Report(tmp_path / "replay.jsonl")
    kept.add_once(left_out(Same(Path("b.json"), None, "k"), "a"))
    assert kept.done() == set() and kept.names() == {"a": "k"}
    assert json.loads(kept.path.read_text())["status"] == "duplicate"


def test_no_bad_input_is_raised_for_a_file(tmp_path: Path) -> None:
    bad = Source(tmp_path / "a.json", "request", {"image_url": "x"})
    plan = plan_runs([bad], Wanted({}, [], "keep", "x"), SCHEMAS, remote=True)
    assert plan.runs == [] and not isinstance(plan.problems[0], BadInput)
