"""What `talkinghead replay` plans, shares out and reports; tests/comfy runs it on ComfyUI."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from rich.console import Console
from typer.testing import CliRunner

from talkinghead.cli.app import app
from talkinghead.replay.changes import change_graph, change_request, read_rows
from talkinghead.replay.display import Display
from talkinghead.replay.endpoint import EndpointPlace
from talkinghead.replay.places import Away, Failed, Refused, RunResult, Seen, Stopped
from talkinghead.replay.report import Report
from talkinghead.replay.runs import Run, Seed, Wanted, plan_runs, with_own_names
from talkinghead.replay.sources import BadInput, Source, find_files, read_source
from talkinghead.replay.work import Work
from talkinghead.settings import PROJECT_DIR
from talkinghead.workflow.template import load_schemas, load_template

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
    runs, problems = plan_runs(sources, wanted, SCHEMAS, remote=False)
    assert problems == []
    return runs


def source(content: dict[str, Any], path: str = "file.json") -> Source:
    return Source(Path(path), "workflow", content)


# ---- Files and their changes


def test_folders_and_patterns_name_their_files_once(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", "notes.txt"):
        (tmp_path / name).touch()
    found = find_files([str(tmp_path), str(tmp_path / "*.json"), str(tmp_path / "a.json")])
    assert [path.name for path in found] == ["a.json", "b.json"]
    with pytest.raises(BadInput, match=r"c\*\.json: there is no such file"):
        find_files([str(tmp_path / "c*.json")])


@pytest.mark.parametrize("content", ["{", "[1]", "3"])
def test_what_is_no_json_object_is_told_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(BadInput, match=r"^.*bad\.json: ") as caught:
        read_source(path)
    assert "\n" not in str(caught.value)


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


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
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


def test_an_endpoint_is_sent_no_local_files(tmp_path: Path) -> None:
    request = write(tmp_path / "request.json", {"image_url": "me.jpg", "wav_url": "http://x/a.wav"})
    (tmp_path / "me.png").touch()
    flow = {"1": {"class_type": "LoadImage", "inputs": {"image": "me.png"}}}
    path = write(tmp_path / "flow.json", flow)
    code, said = dry_run(request, path, "--endpoint-url=http://127.0.0.1:9")
    assert code == 1
    assert "request.json: names local files, and an endpoint takes URLs: image_url" in said
    assert "flow.json: names local files, and an endpoint takes URLs: me.png" in said


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


def test_a_run_whose_file_was_deleted_is_not_done(tmp_path: Path) -> None:
    report = Report(tmp_path / "replay.jsonl")
    report.add({"key": "a", "status": "done", "name": "a", "files": [{"path": "gone.png"}]})
    assert report.done() == set()


# ---- Sharing the work


class FakePlace:
    """A place whose runs do as they are told, and that may be away."""

    def __init__(self, name: str, act: Callable[[Run], None] = lambda run: None) -> None:
        self.name, self.width, self.away = name, 1, False
        self.ran: list[str] = []
        self._act = act

    def connect(self) -> None:
        if self.away:
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
    retries: int = 0,
    wait_seconds: float = 60,
    stop: threading.Event | None = None,
) -> dict[str, dict[str, Any]]:
    """Do so many runs; the report's lines by name."""
    flows = [source(graph(str(number)), f"{number}.json") for number in range(count)]
    report = Report(tmp_path / "replay.jsonl")
    with Display(Console(stderr=True), count) as display:
        Work(
            planned(*flows, name="{stem}"),
            places,
            out=tmp_path,
            report=report,
            watcher=display,
            in_flight=len(places),
            retries=retries,
            wait_seconds=wait_seconds,
            stop=stop or threading.Event(),
        ).do()
    lines = [json.loads(line) for line in report.path.read_text().splitlines()]
    assert len({line["name"] for line in lines}) == len(lines), "no run ends twice"
    return {line["name"]: line for line in lines}


def test_what_a_dead_place_had_is_done_by_another(tmp_path: Path) -> None:
    def die(run: Run) -> None:
        dead.away = True
        raise Away("killed")

    dead = FakePlace("dead", die)
    slow = FakePlace("slow", lambda run: time.sleep(0.1))
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
            place.away = True
            threading.Timer(0.6, come_back).start()
            raise Away("killed")

    def come_back() -> None:
        place.away = False

    place = FakePlace("one", die_once)
    found = work(tmp_path, place)
    assert {line["status"] for line in found.values()} == {"done"}
    assert (found["1"]["tries"], place.ran) == (2, ["0", "1", "1", "2"])


def test_runs_fail_when_no_place_has_answered_for_so_long(tmp_path: Path) -> None:
    place = FakePlace("gone")
    place.away = True
    start = time.monotonic()
    found = work(tmp_path, place, wait_seconds=0.5)
    assert time.monotonic() - start < 5
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


def test_no_secret_of_a_url_is_reported(tmp_path: Path) -> None:
    def fail(run: Run) -> None:
        raise Failed("http://x/a?signature=secret gave nothing", again=False)

    work(tmp_path, FakePlace("one", fail), count=1)
    assert "secret" not in (tmp_path / "replay.jsonl").read_text()


# ---- RunPod's API


class RunPod:
    """The paths of RunPod's API that a client uses, with states that a test gives."""

    def __init__(self, *states: Mapping[str, Any]) -> None:
        self.states = list(states)
        self.busy = 0  # how often it takes no job
        self.asked: list[str] = []
        self.inputs: list[Any] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.asked.append(f"{self.path} {self.headers['Authorization']}")
                if self.path.endswith("/run") and outer.busy:
                    outer.busy -= 1
                    self.send_error(503)
                    return
                if self.path.endswith("/run"):
                    outer.inputs.append(json.loads(body)["input"])
                self._answer({"id": "job-1", "status": "IN_QUEUE"})

            def do_GET(self) -> None:
                outer.asked.append(self.path)
                state = outer.states.pop(0) if len(outer.states) > 1 else outer.states[0]
                self._answer({"id": "job-1", **state})

            def _answer(self, content: object) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(content).encode())

            def log_message(self, format: str, *args: object) -> None:
                """Requests are not part of a test's output."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v2/abc"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def runpod(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., RunPod]]:
    monkeypatch.setattr("talkinghead.replay.endpoint.POLL_SECONDS", 0.05)
    started: list[RunPod] = []

    def start(*states: Mapping[str, Any]) -> RunPod:
        started.append(RunPod(*states))
        return started[-1]

    yield start
    for each in started:
        each.close()


def on_endpoint(
    api: RunPod, folder: Path, seen: Seen, stop: threading.Event | None = None, seconds: float = 30
) -> RunResult:
    (run,) = planned(source(graph()))
    place = EndpointPlace(
        api.url, "key", width=1, job_seconds=seconds, lost_seconds=1, download_seconds=5
    )
    place.connect()
    return place.run(run, folder, seen, stop or threading.Event())


def test_a_workflow_is_a_job_of_the_endpoint_and_its_outputs_come(
    runpod: Callable[..., RunPod], tmp_path: Path
) -> None:
    content = b"a picture"
    data = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    sha256 = hashlib.sha256(content).hexdigest()
    outputs = [
        {"node": "Save", "kind": "image", "filename": "p.png", "data": data, "sha256": sha256},
        {"node": "Text", "kind": "text", "text": "hello"},
    ]
    api = runpod(
        {"status": "IN_QUEUE"},
        {"status": "IN_QUEUE"},
        {"status": "IN_PROGRESS", "output": {"percent": 40, "message": "Sampler"}},
        {"status": "COMPLETED", "output": {"outputs": outputs}},
    )
    told: list[tuple[float, str]] = []
    on_endpoint(api, tmp_path, lambda fraction, message: told.append((fraction, message)))
    assert api.inputs == [{"workflow": graph()}]
    assert told == [(0.0, "in queue"), (0.4, "Sampler")]
    assert (tmp_path / "1-p.png").read_bytes() == content
    assert (tmp_path / "2.txt").read_text() == "hello"
    assert any("Bearer key" in asked for asked in api.asked)


@pytest.mark.parametrize(
    ("state", "again", "problem"),
    [
        ({"status": "FAILED", "error": "the GPU is gone"}, True, "the GPU is gone"),
        (
            {"status": "FAILED", "error": "no", "output": {"error_code": "invalid_request"}},
            False,
            "no",
        ),
        ({"status": "TIMED_OUT"}, True, "the job is TIMED_OUT"),
        ({"status": "COMPLETED", "output": {}}, False, "the result is not here"),
        (
            {
                "status": "COMPLETED",
                "output": {"status": "incomplete", "windows_done": 3, "windows": 9},
            },
            True,
            "3 of 9 windows are rendered: the next try goes on after them",
        ),
        (
            {"status": "COMPLETED", "output": {"status": "estimated"}},
            False,
            "dry_run is true, and renders nothing",
        ),
        (
            {"status": "COMPLETED", "output": {"video_path": "/runpod-volume/v.mp4"}},
            False,
            "lies on the endpoint's volume: /runpod-volume/v.mp4",
        ),
        (
            {
                "status": "COMPLETED",
                "output": {"video": "data:video/mp4;base64,AA==", "video_info": {"sha256": "0"}},
            },
            True,
            "talkinghead.mp4 came damaged",
        ),
    ],
)
def test_a_job_that_gives_no_result_says_why(
    runpod: Callable[..., RunPod],
    tmp_path: Path,
    state: dict[str, Any],
    again: bool,
    problem: str,
) -> None:
    with pytest.raises(Failed, match=problem) as caught:
        on_endpoint(runpod(state), tmp_path, lambda fraction, message: None)
    assert caught.value.again is again


def test_a_stopped_job_is_cancelled_on_the_endpoint(
    runpod: Callable[..., RunPod], tmp_path: Path
) -> None:
    api = runpod({"status": "IN_PROGRESS"})
    stop = threading.Event()
    with pytest.raises(Stopped):
        on_endpoint(api, tmp_path, lambda fraction, message: stop.set(), stop)
    assert any("/cancel/job-1" in asked for asked in api.asked)


def test_a_busy_endpoint_is_asked_again(runpod: Callable[..., RunPod], tmp_path: Path) -> None:
    text = {"node": "Text", "kind": "text", "text": "hello"}
    api = runpod({"status": "COMPLETED", "output": {"outputs": [text]}})
    api.busy = 2
    on_endpoint(api, tmp_path, lambda fraction, message: None)
    assert len(api.inputs) == 1
    assert (tmp_path / "1.txt").read_text() == "hello"


def test_an_endpoint_that_does_not_answer_is_away(tmp_path: Path) -> None:
    place = EndpointPlace(
        "http://127.0.0.1:9", "key", width=1, job_seconds=1, lost_seconds=1, download_seconds=1
    )
    place._client.rp_session.mount("http://", no_retries())
    with pytest.raises(Away, match="does not answer"):
        place.connect()


def no_retries() -> Any:  # noqa: ANN401 - requests' adapter
    from requests.adapters import HTTPAdapter  # noqa: PLC0415

    return HTTPAdapter(max_retries=0)
