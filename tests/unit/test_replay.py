"""What `talkinghead replay` plans, shares out and reports; tests/comfy runs it on ComfyUI."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from rich.console import Console
from typer.testing import CliRunner

from talkinghead.cli.app import app
from talkinghead.delivery.asked import asked_by
from talkinghead.delivery.file import FilePlace
from talkinghead.delivery.place import FinishedVideo
from talkinghead.delivery.retry import Patience
from talkinghead.media.sandbox import Sandboxes
from talkinghead.replay.changes import change_graph, change_request, read_rows
from talkinghead.replay.display import Display
from talkinghead.replay.look import OutputLook
from talkinghead.replay.outputs import OutputFolder
from talkinghead.replay.places import Away, Failed, Refused, RunResult, Seen, Stopped
from talkinghead.replay.report import Report
from talkinghead.replay.runs import Run, Seed, Wanted, plan_runs, with_own_names
from talkinghead.replay.sources import BadInput, Source, read_source, read_sources
from talkinghead.replay.work import Work
from talkinghead.settings import PROJECT_DIR
from talkinghead.workflow.schemas import load_schemas
from talkinghead.workflow.template import load_template
from tests.timing import LAST_RESORT_SECONDS, wait_until

TEMPLATE = PROJECT_DIR / "workflows" / "infinitetalk_i2v.json"
SCHEMAS = load_schemas()


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def dry_run(*arguments: str | Path) -> tuple[int, str]:
    words = ["replay", *map(str, arguments), "--dry-run"]
    result = CliRunner().invoke(app, words, env={"RUNPOD_API_KEY": None})
    return result.exit_code, result.output


def graph(text: str = "a prompt", seed: int = 1) -> dict[str, Any]:
    return {
        "1": {
            "class_type": "WanVideoSampler",
            "inputs": {"seed": seed, "steps": 4, "model": ["9", 0]},
            "_meta": {"title": "Sampler"},
        },
        "2": {
            "class_type": "CLIPTextEncode",
            "inputs": {"text": text, "clip": ["9", 0]},
            "_meta": {"title": "Prompt"},
        },
    }


def planned(
    *sources: Source, rows: list[dict[str, Any]] | None = None, seed: Seed = "keep", name: str = "x"
) -> list[Run]:
    wanted = Wanted({}, rows or [], seed, name)
    plan = plan_runs(sources, wanted, SCHEMAS, remote=False)
    assert plan.problems == []
    return plan.runs


def source(content: dict[str, Any], path: str = "file.json") -> Source:
    return Source(Path(path), "workflow", content)


# ---- Files and their changes


def test_folders_and_patterns_name_their_files_once(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", "notes.txt"):
        (tmp_path / name).write_text("{}")
    names = [tmp_path, tmp_path / "*.json", tmp_path / "a.json", tmp_path / "c*.json"]
    found, (problem,) = read_sources([str(name) for name in names])
    assert [each.path.name for each in found] == ["a.json", "b.json"]
    assert problem.path.name == "c*.json" and "there is no such file" in problem.why


@pytest.mark.parametrize("content", ["{", "[1]", "3"])
def test_what_is_no_json_object_is_told_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    _, (problem,) = read_sources([str(path)])
    assert problem.path == path and "\n" not in problem.why


def test_a_bundle_is_its_request_with_the_seed_that_was_drawn(tmp_path: Path) -> None:
    bundle = {
        "format": 1,
        "request": {"prompt": "hello"},
        "result": {"generation_params": {"seed": 12}},
        "graph": {},
    }
    read = read_source(write(tmp_path / "bundle.json", bundle))
    assert (read.kind, read.content) == ("request", {"prompt": "hello", "seed": 12})


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"way": "chain", "windows": 3}, "made in 3 windows, and this is the first"),
        ({"way": "prompt", "windows": 3}, ""),
        ({}, ""),  # a draft, and what older workers wrote
    ],
)
def test_opening_a_bundle_tells_when_its_workflow_made_a_part_of_the_video(
    tmp_path: Path, params: dict[str, Any], said: str
) -> None:
    workflow = load_template("infinitetalk_window")
    bundle = {"workflow": workflow, "result": {"job_id": "j", "generation_params": params}}
    path = write(tmp_path / "bundle.json", bundle)
    words = ["open", str(path), "--out", str(tmp_path / "gui.json")]
    ended = CliRunner().invoke(app, words, env={"COMFYUI_URL": ""})
    assert ended.exit_code == 0
    assert json.loads((tmp_path / "gui.json").read_text()) == workflow
    assert ("note:" in ended.output) is bool(said)
    assert said in " ".join(ended.output.split())


def test_a_value_is_json_unless_the_input_is_a_text() -> None:
    changes = {"Sampler.steps": "6", "Prompt.text": "12", "Sampler.scheduler": "dpm++"}
    changed = change_graph(graph(), changes, SCHEMAS)
    assert changed["1"]["inputs"]["steps"] == 6
    assert changed["2"]["inputs"]["text"] == "12"
    assert changed["1"]["inputs"]["scheduler"] == "dpm++"
    assert change_request({"prompt": "a"}, {"prompt": "3", "steps": "3", "draft": "true"}) == {
        **{"prompt": "3", "steps": 3, "draft": True}
    }


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("Sampla.steps", "no node has the title 'Sampla'; the nearest is 'Sampler'"),
        ("Sampler.step", "node 'Sampler' has no input 'step'; the nearest is 'steps'"),
        ("Sampler.model", "input 'model' of node 'Sampler' is fed by a link: it takes no value"),
        ("steps", "'steps' names no input: in a workflow it is title.input"),
    ],
)
def test_a_change_that_does_not_fit_says_what_is_near(name: str, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        change_graph(graph(), {name: "1"}, SCHEMAS)
    assert str(caught.value) == problem


def test_nodes_of_one_title_are_named_by_id() -> None:
    twice = graph()
    twice["2"]["_meta"]["title"] = "Sampler"
    with pytest.raises(BadInput, match="nodes 1, 2 all have the title 'Sampler'"):
        change_graph(twice, {"Sampler.steps": "1"}, SCHEMAS)
    assert change_graph(twice, {"1.steps": "8"}, SCHEMAS)["1"]["inputs"]["steps"] == 8


def test_rows_come_from_csv_and_from_jsonl(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text('Sampler.steps,Prompt.text\n4,"a, b"\n,c\n', encoding="utf-8-sig")
    assert read_rows(table) == [
        {"Sampler.steps": "4", "Prompt.text": "a, b"},
        {"Prompt.text": "c"},
    ]
    lines = tmp_path / "rows.jsonl"
    lines.write_text('{"steps": 4}\n\n{"steps": 6}\n')
    assert read_rows(lines) == [{"steps": 4}, {"steps": 6}]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_what_chats_and_office_programs_put_between_lines_stays_in_its_cell(
    tmp_path: Path, mark: str, quote: str
) -> None:
    cell = f"hello{mark}world"
    table = tmp_path / "rows.csv"
    table.write_text(f"prompt,seed\n{quote}{cell}{quote},1\nplain,2\n", encoding="utf-8")
    assert read_rows(table) == [{"prompt": cell, "seed": "1"}, {"prompt": "plain", "seed": "2"}]
    lines = tmp_path / "rows.jsonl"
    row = {"prompt": f"hello{mark if mark >= ' ' else ' '}world"}
    lines.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_rows(lines) == [row]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_may_end_as_any_system_ends_them_and_quoted_cells_may_hold_lines(
    tmp_path: Path, end: str
) -> None:
    table = tmp_path / "rows.csv"
    table.write_bytes(f'prompt,seed{end}"a ""q"", b\r\nnext",1{end}'.encode())
    assert read_rows(table) == [{"prompt": 'a "q", b\r\nnext', "seed": "1"}]
    lines = tmp_path / "rows.jsonl"
    lines.write_bytes(b'{"seed": 1}\r\n{"seed": 2}\r\n')
    assert read_rows(lines) == [{"seed": 1}, {"seed": 2}]


def test_a_cell_may_be_a_whole_book(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text(f"prompt\n{'a' * 200_000}\n")
    assert len(read_rows(table)[0]["prompt"]) == 200_000


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("rows.csv", 'a,b\n"one,1\ntwo,2\n', "line 2: the row that begins here .* not closed"),
        ("rows.csv", 'a,b\n"one"x,1\n', "line 2: "),
        ("rows.csv", "a,b,a\n1,2,3\n", "has more than one column 'a'"),
        ("rows.csv", "a;b\n1;2\n", "divided by semicolons, and not by commas"),
        ("rows.csv", "a\tb\n1\t2\n", "divided by tabs, and not by commas"),
        ("rows.csv", "a\n" + "a" * 10_000_001, "line 2: .*field larger than field limit"),
        ("rows.csv", "", "has no rows"),
        ("rows.jsonl", '{"a": 1, "a": 2}\n', "line 1: no JSON: has 'a' more than once"),
        ("rows.jsonl", '{"a": NaN}\n', "line 1: no JSON: NaN is none of its numbers"),
        ("rows.jsonl", "[" * 100_000, "line 1: no JSON"),
        ("rows.csv", "a,b\n1,2,3\n", "line 2: has more cells than columns"),
        ("rows.csv", "a,b\n", "has no rows"),
        ("rows.jsonl", '{"a": 1}\n[1]\n', "line 2: must be an object"),
        ("rows.jsonl", '{"a": 1\n', "line 1: no JSON"),
    ],
)
def test_bad_rows_are_told_by_line(tmp_path: Path, name: str, text: str, problem: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=problem):
        read_rows(tmp_path / name)


# ---- Runs


def test_what_does_the_same_is_one_run_whatever_its_name() -> None:
    other = graph()
    other["1"]["_meta"]["title"] = "Another title"
    runs = planned(source(graph()), source(other, "b.json"), source(graph("c"), "c.json"))
    assert [run.path.name for run in runs] == ["file.json", "c.json"]


def test_a_run_is_another_when_a_local_file_has_changed(tmp_path: Path) -> None:
    loader = {"1": {"class_type": "LoadImage", "inputs": {"image": "face.png"}}}
    path = str(tmp_path / "flow.json")
    (tmp_path / "face.png").write_bytes(b"one")
    (before,) = planned(source(loader, path))
    (tmp_path / "face.png").write_bytes(b"two")
    (after,) = planned(source(loader, path))
    assert before.files == {"face.png": tmp_path / "face.png"}
    assert before.key != after.key


def test_no_file_outside_of_the_workflows_folder_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "flows"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(b"")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    names = ("../secret.png", str(tmp_path / "secret.png"), "link.png")
    loaders = {n: {"class_type": "LoadImage", "inputs": {"image": n}} for n in names}
    (run,) = planned(source(loaders, str(folder / "flow.json")))
    assert run.files == {}


def test_random_seeds_differ_by_row_and_content_and_are_drawn_the_same_again() -> None:
    rows: list[dict[str, Any]] = [{}, {}]
    flows = (source(graph()), source(graph("other"), "b.json"))
    seeds = [run.seed for run in planned(*flows, rows=rows, seed="random")]
    assert len(set(seeds)) == 4
    assert seeds == [run.seed for run in planned(*flows, rows=rows, seed="random")]
    assert [run.seed for run in planned(*flows, seed=7)] == [7, 7]
    assert [run.seed for run in planned(source(graph(seed=5)))] == [5]


def test_the_gui_file_that_is_embedded_has_the_changes() -> None:
    gui = json.loads(TEMPLATE.read_text(encoding="utf-8"))
    (run,) = planned(source(gui), rows=[{"Sampler.steps": "9"}], seed=77)
    assert run.gui is not None
    sampler = next(node for node in run.gui["nodes"] if node.get("title") == "Sampler")
    assert {9, 77} <= {value for value in sampler["widgets_values"] if isinstance(value, int)}


def test_names_that_clash_get_their_keys() -> None:
    runs = planned(source(graph()), source(graph("b"), "b.json"), name="same")
    assert [run.name for run in with_own_names(runs, {})] == [f"same-{run.key[:8]}" for run in runs]
    assert with_own_names(runs[:1], {"same": runs[0].key})[0].name == "same"
    assert with_own_names(runs[:1], {"same": "another"})[0].name == f"same-{runs[0].key[:8]}"


def test_the_name_pattern_is_filled_and_stays_a_file_name() -> None:
    (run,) = planned(source(graph()), rows=[{}], seed=3, name="../{stem}-{seed}-{row}")
    assert run.name == "_file-3-1"


# ---- The command without servers


def test_a_dry_run_tells_the_plan_and_runs_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = tmp_path / "rows.csv"
    rows.write_text("Sampler.shift\n4.5\n6.5\n")
    words = ("--rows", rows, "--seed=5", "--out", out, "--name={stem}-{row}")
    code, said = dry_run(TEMPLATE, *words)
    assert code == 0, said
    assert f"infinitetalk_i2v-2: {TEMPLATE}, row 2, seed 5, Sampler.shift=6.5: to do" in said
    assert "2 runs to do on own ComfyUI, 1 at a time, 0 with errors" in said
    assert not out.exists()


def test_a_dry_run_ends_with_1_for_what_lint_finds() -> None:
    code, said = dry_run(TEMPLATE, "--set=Sampler.steps=many")
    assert code == 1
    assert "input steps: takes INT, got 'many'" in said
    assert "1 with errors" in said


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["absent.json"], "absent.json: there is no such file"),
        ([str(TEMPLATE), "--set=Sampler.steps"], "--set Sampler.steps: title.input=value"),
        ([str(TEMPLATE), "--set=Sampla.steps=4"], "the nearest is 'Sampler'"),
        ([str(TEMPLATE), "--seed=-1"], "--seed -1: a number from 0 to"),
        ([str(TEMPLATE), "--name={stm}"], "--name {stm}: known are {stem}, {seed}, {row}, {key}"),
        ([str(TEMPLATE), "--endpoint=abc"], "--endpoint needs the environment variable"),
    ],
)
def test_bad_input_is_told_before_anything_runs(words: list[str], problem: str) -> None:
    code, said = dry_run(*words)
    assert code == 1
    assert problem in said


def test_a_requests_mistakes_are_told_with_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "request.json", {"image_url": "me.jpg", "wav_url": "me.wav"})
    code, said = dry_run(path, "--set=steps=0")
    assert code == 1
    assert "request.json: steps" in said


def test_one_mistake_in_many_files_is_one_line(tmp_path: Path) -> None:
    for name in ("a.json", "b.json", "c.json"):
        write(tmp_path / name, graph(name))
    code, said = dry_run(tmp_path, "--set=Sampla.steps=4")
    assert code == 1
    assert f"{tmp_path / 'a.json'} and 2 more: no node has the title 'Sampla'" in said


def test_servers_that_do_not_answer_at_all_end_it_with_1(tmp_path: Path) -> None:
    words = [str(TEMPLATE), "--server=http://127.0.0.1:9", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, ["replay", *words])
    assert result.exit_code == 1
    assert "no server answers: ComfyUI at http://127.0.0.1:9 does not answer" in result.output


def test_two_replays_do_not_work_into_one_folder(tmp_path: Path) -> None:
    words = ["replay", str(TEMPLATE), "--server=http://127.0.0.1:9", "--out", str(tmp_path)]
    with FileLock(tmp_path / ".replay.lock"):
        result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "another replay is at work there" in result.output


def test_a_folder_that_takes_no_files_is_told_as_that() -> None:
    words = ["replay", str(TEMPLATE), "--server=http://127.0.0.1:9", "--out", "/proc"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "--out /proc: No such file or directory" in result.output


@pytest.mark.parametrize("command", [["run", "me.json"], ["open", "me.json"]])
@pytest.mark.parametrize("out", ["me.json", "folder/../me.json", "link.json", "hard.json"])
def test_nothing_is_written_over_the_file_that_it_is_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    workflow = load_template("infinitetalk_window")
    bundle = {"workflow": workflow, "result": {"job_id": "j", "generation_params": {}}}
    request = {"image_url": "me.jpg", "wav_url": "me.wav", "draft": True}
    content = write(Path("me.json"), bundle if command[0] == "open" else request).read_bytes()
    Path("link.json").symlink_to("me.json")
    Path("hard.json").hardlink_to("me.json")
    ended = CliRunner().invoke(app, [*command, "--out", out], env={"COMFYUI_URL": ""})
    assert ended.exit_code != 0
    assert "would overwrite me.json" in " ".join(ended.output.split())
    assert Path("me.json").read_bytes() == content


@pytest.mark.parametrize("out", ["folder.mp4", "me.wav/me.mp4"])
def test_run_refuses_before_it_renders_where_no_file_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.mp4").mkdir()
    Path("me.wav").write_bytes(b"")
    write(Path("me.json"), {"video_url": "v.mp4", "wav_url": "me.wav"})
    ended = CliRunner().invoke(app, ["run", "me.json", "--out", out])
    assert ended.exit_code == 1
    assert "is a folder" in ended.output or "cannot be written: " in ended.output


def test_run_refuses_to_write_over_a_picture_that_it_is_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("me.mp4", "me.wav", "other.bundle.json"):
        Path(name).write_bytes(b"")
    write(Path("me.json"), {"video_url": "me.mp4", "wav_url": "me.wav"})
    write(Path("other.bundle.json"), {"video_url": "me.mp4", "wav_url": "me.wav"})
    for request, out in (("me.json", "me.mp4"), ("other.bundle.json", "other.mp4")):
        ended = CliRunner().invoke(app, ["run", request, "--out", out])
        assert ended.exit_code == 1
        assert "would overwrite" in ended.output


def test_the_bundle_of_a_video_leaves_the_request_of_its_name_alone(tmp_path: Path) -> None:
    (tmp_path / "me.json").write_text("a request")
    (tmp_path / "made.mp4").write_bytes(b"a video")
    place = FilePlace(tmp_path / "me.mp4")
    made = FinishedVideo("j", asked_by({}), tmp_path / "made.mp4", {}, {"seed": 7})
    place.deliver(made, Patience(LAST_RESORT_SECONDS))
    assert (tmp_path / "me.json").read_text() == "a request"
    assert json.loads((tmp_path / "me.bundle.json").read_text()) == {"seed": 7}


# ---- The report


def test_a_torn_last_line_is_survived_and_its_run_done_again(tmp_path: Path) -> None:
    path = tmp_path / "replay.jsonl"
    report = Report(path)
    (tmp_path / "a.png").touch()
    report.add({"key": "a", "status": "done", "name": "a", "files": [{"path": "a.png"}]})
    report.add({"key": "b", "status": "failed", "name": "b", "files": []})
    with path.open("ab") as file:
        file.write(b'{"key": "c", "status": "do')
    assert Report(path).done() == {"a"}
    Report(path).add({"key": "d", "status": "done", "name": "d", "files": []})
    assert Report(path).done() == {"a", "d"}


@pytest.mark.parametrize(
    "line",
    [
        b'{"key": "k", "status": "done", "files": null}',
        b'{"key": "k", "status": "done", "files": ["a"]}',
        b'{"key": "k", "status": "done", "files": [{"path": 1}]}',
        b'{"key": ["k"], "status": "done", "files": []}',
        b'{"key": "k"}',
        b"[1]",
        b"null",
        b"\0\0\0",
        b"\xff\xfe",
        b"[" * 100_000,
        "\u2028".encode(),
    ],
)
def test_whatever_stands_in_the_report_the_rest_of_it_counts(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "replay.jsonl"
    Report(path).add({"key": "a", "status": "done", "name": "a", "files": []})
    with path.open("ab") as file:
        file.write(line + b"\n")
    report = Report(path)
    assert (report.done(), report.names()) == ({"a"}, {"a": "a"})
    report.add({"key": "b", "status": "done", "name": "b", "files": []})
    assert Report(path).done() == {"a", "b"}


def test_a_report_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "replay.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"key": "k", "status": "done", "files": []}\r\n')
    assert Report(path).done() == {"k"}


def test_a_run_of_a_file_whose_name_is_no_utf_8_is_reported(tmp_path: Path) -> None:
    report = Report(tmp_path / "replay.jsonl")
    report.add({"key": "k", "status": "done", "name": "n", "files": [], "file": "a\udcff.json"})
    assert json.loads(report.path.read_text())["file"] == "a\udcff.json"
    assert Report(report.path).done() == {"k"}


def test_a_run_whose_file_was_deleted_is_not_done(tmp_path: Path) -> None:
    report = Report(tmp_path / "replay.jsonl")
    report.add({"key": "a", "status": "done", "name": "a", "files": [{"path": "gone.png"}]})
    assert report.done() == set()


# ---- Sharing the work


class FakePlace:
    """A place whose runs do as they are told, and that may be away, for a while or for good."""

    def __init__(self, name: str, act: Callable[[Run], None] = lambda run: None) -> None:
        self.name, self.width, self.away = name, 1, False
        self.comes_back = math.inf  # after so many looks for it in vain
        self.ran: list[str] = []
        self._act = act

    def connect(self) -> None:
        self.away = self.away and self.comes_back > 0
        if self.away:
            self.comes_back -= 1
            raise Away(f"{self.name} does not answer")

    def run(self, run: Run, folder: Path, seen: Seen, stop: threading.Event) -> RunResult:
        self.ran.append(run.name)
        self._act(run)
        seen(1.0, "made")
        (folder / "made.txt").write_text(run.name)
        return RunResult()


def work(
    tmp_path: Path,
    *places: FakePlace,
    count: int = 3,
    runs: list[Run] | None = None,
    retries: int = 0,
    wait_seconds: float = LAST_RESORT_SECONDS,
    stop: threading.Event | None = None,
) -> dict[str, dict[str, Any]]:
    """Do so many runs; the report's lines by name."""
    flows = [source(graph(str(number)), f"{number}.json") for number in range(count)]
    report = Report(tmp_path / "replay.jsonl")
    stop = stop or threading.Event()
    with Sandboxes() as sandboxes, Display(Console(stderr=True), count) as display:
        Work(
            runs or planned(*flows, name="{stem}"),
            places,
            outputs=OutputFolder(tmp_path, report, OutputLook(sandboxes, stop)),
            report=report,
            watcher=display,
            in_flight=len(places),
            retries=retries,
            wait_seconds=wait_seconds,
            stop=stop,
        ).do()
    lines = [json.loads(line) for line in report.path.read_text().splitlines()]
    assert len({line["name"] for line in lines}) == len(lines), "no run ends twice"
    return {line["name"]: line for line in lines}


def test_what_a_dead_place_had_is_done_by_another(tmp_path: Path) -> None:
    def die(run: Run) -> None:
        dead.away = True
        raise Away("killed")

    dead = FakePlace("dead", die)
    slow = FakePlace("slow", lambda run: wait_until(lambda: dead.ran, "the other's run"))
    found = work(tmp_path, dead, slow)
    assert len(dead.ran) == 1
    assert {line["server"] for line in found.values()} == {"slow"}
    assert {line["status"] for line in found.values()} == {"done"}
    made = [(line["name"], line["files"][0]) for line in found.values()]
    for name, file in made:
        assert file["path"] == f"{name}.txt"
        assert file["sha256"] == hashlib.sha256(name.encode()).hexdigest()


def test_a_place_that_comes_back_does_what_it_had(tmp_path: Path) -> None:
    def die_once(run: Run) -> None:
        if len(place.ran) == 2:
            place.away, place.comes_back = True, 2
            raise Away("killed")

    place = FakePlace("one", die_once)
    found = work(tmp_path, place)
    assert {line["status"] for line in found.values()} == {"done"}
    assert (found["1"]["tries"], place.ran) == (2, ["0", "1", "1", "2"])


def test_runs_fail_when_no_place_has_answered_for_so_long(tmp_path: Path) -> None:
    place = FakePlace("gone")
    place.away = True
    found = work(tmp_path, place, wait_seconds=0.5)
    error = "no server answered for 0.5 s: gone: gone does not answer"
    assert [line["error"] for line in found.values()] == [error] * 3


def test_a_run_that_its_servers_die_of_does_not_go_on_for_ever(tmp_path: Path) -> None:
    def die(run: Run) -> None:
        if run.name == "1":
            raise Away("the process ended")

    found = work(tmp_path, FakePlace("one", die))
    assert [found[name]["status"] for name in "012"] == ["done", "failed", "done"]
    assert "died, or went away, 3 times: the process ended" in found["1"]["error"]


def test_what_one_place_refuses_another_does_and_what_all_refuse_fails(tmp_path: Path) -> None:
    def refuse(*names: str) -> Callable[[Run], None]:
        def act(run: Run) -> None:
            if run.name in names:
                raise Refused(f"no model for {run.name}")

        return act

    found = work(tmp_path, FakePlace("one", refuse("0", "1")), FakePlace("two", refuse("0")))
    assert (found["0"]["status"], found["0"]["error"]) == ("failed", "no model for 0")
    assert (found["1"]["status"], found["1"]["server"]) == ("done", "two")


def test_a_failure_is_tried_again_as_often_as_asked_if_it_may_pass(tmp_path: Path) -> None:
    def fail(run: Run) -> None:
        if run.name == "0" and place.ran.count("0") < 3:
            raise Failed("out of luck", again=True)
        if run.name == "1":
            raise Failed("bad request", again=False)

    place = FakePlace("one", fail)
    found = work(tmp_path, place, retries=2)
    assert (found["0"]["status"], found["0"]["tries"]) == ("done", 3)
    assert (found["1"]["status"], found["1"]["tries"]) == ("failed", 1)


def test_a_stop_ends_what_runs_and_starts_nothing_more(tmp_path: Path) -> None:
    stop = threading.Event()

    def interrupted(run: Run) -> None:
        stop.set()
        raise Stopped

    found = work(tmp_path, FakePlace("one", interrupted), stop=stop)
    assert [line["status"] for line in found.values()] == ["cancelled"]
    assert list(tmp_path.glob(".part-*")) == []


# ---- Whose files are whose


def making(*names: str) -> FakePlace:
    """A place whose runs make files of these names."""

    class Making(FakePlace):
        def run(self, run: Run, folder: Path, seen: Seen, stop: threading.Event) -> RunResult:
            for name in names:
                (folder / name).write_text(f"made as {name}")
            return RunResult()

    return Making("one")


def test_no_output_replaces_a_file_that_the_report_does_not_know(tmp_path: Path) -> None:
    """Such as the workflow itself, or a picture that it loads, where both are in one folder."""
    (tmp_path / "0.png").write_text("a face")
    (tmp_path / "0.json").write_text("a workflow")
    (tmp_path / "0-2.png").symlink_to("nowhere")
    found = work(tmp_path, making("a.png", "a.json"), count=1)
    assert [file["path"] for file in found["0"]["files"]] == ["0-2.json", "0-3.png"]
    assert (tmp_path / "0.png").read_text() == "a face"
    assert (tmp_path / "0.json").read_text() == "a workflow"
    assert (tmp_path / "0-3.png").read_text() == "made as a.png"


def test_a_run_that_is_done_again_replaces_what_it_made_before(tmp_path: Path) -> None:
    (tmp_path / "0.txt").write_text("somebody's")
    work(tmp_path, making("a.txt", "a.png"), count=1)
    (tmp_path / "0.png").unlink()
    (tmp_path / "0-2.txt").write_text("made before")
    report = tmp_path / "replay.jsonl"
    # `work` takes two lines of one name for a run that ended twice.
    report.write_text(report.read_text().replace('"name": "0"', '"name": "before"'))
    found = work(tmp_path, making("a.txt", "a.png"), count=1)
    assert [file["path"] for file in found["0"]["files"]] == ["0.png", "0-2.txt"]
    assert (tmp_path / "0-2.txt").read_text() == "made as a.txt"
    assert (tmp_path / "0.txt").read_text() == "somebody's"


def test_outputs_of_two_runs_that_would_have_one_name_are_both_there(
    tmp_path: Path, sandboxes: Sandboxes
) -> None:
    report = Report(tmp_path / "replay.jsonl")
    one, two = planned(source(graph("a"), "a.json"), source(graph("b"), "b.json"))
    for run, name in ((one, "a"), (two, "a-b")):
        made = tmp_path / f"made-{name}"
        made.mkdir()
        for own in ("b.png", "c.png") if name == "a" else ("x.png",):
            (made / own).write_text(name)
        look = OutputLook(sandboxes, threading.Event())
        OutputFolder(tmp_path, report, look).publish(made, run, name)
    found = {path.name: path.read_text() for path in tmp_path.glob("*.png")}
    assert found == {"a-b.png": "a", "a-c.png": "a", "a-b-2.png": "a-b"}


def test_a_bundle_never_has_the_name_of_a_request(tmp_path: Path) -> None:
    names = ["talkinghead.mp4", "talkinghead.bundle.json"]
    found = work(tmp_path, making(*names), count=1)
    assert [each["path"] for each in found["0"]["files"]] == ["0.bundle.json", "0.mp4"]


@pytest.mark.parametrize("seed", [{}, {"seed": 0}, {"seed": -1}, {"seed": None}])
def test_the_seed_that_was_drawn_is_in_the_report_and_in_the_name(
    tmp_path: Path, seed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Drawing(FakePlace):
        def run(self, run: Run, folder: Path, seen: Seen, stop: threading.Event) -> RunResult:
            super().run(run, folder, seen, stop)
            return RunResult(seed=5711561670430523)

    monkeypatch.setattr("talkinghead.replay.runs.parse_request", lambda *_, **__: None)
    request = Source(tmp_path / "me.json", "request", {"prompt": "a"} | seed)
    work(tmp_path, Drawing("one"), runs=planned(request, name="{stem}-{seed}"))
    (line,) = (tmp_path / "replay.jsonl").read_text().splitlines()
    entry = json.loads(line)
    assert (entry["seed"], entry["name"]) == (5711561670430523, "me-5711561670430523")
    assert (tmp_path / "me-5711561670430523.txt").is_file()


def test_a_seed_that_the_file_has_is_in_the_name_before_anything_runs() -> None:
    (run,) = planned(source(graph(seed=7)), name="{stem}-{seed:03}")
    assert run.name == "file-007"


def test_no_secret_of_a_url_is_reported(tmp_path: Path) -> None:
    def fail(run: Run) -> None:
        raise Failed("http://x/a?signature=secret gave nothing", again=False)

    work(tmp_path, FakePlace("one", fail), count=1)
    assert "secret" not in (tmp_path / "replay.jsonl").read_text()
