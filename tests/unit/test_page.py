"""The page of results: what it holds, and how it looks in a browser is tests/walks."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

from talkinghead.replay.page import PageWriter, latest, poster_path, write_page
from talkinghead.replay.report import Report
from tests.timing import wait_until


def line(key: str, status: str = "done", **more: Any) -> dict[str, Any]:
    about = {"key": key, "status": status, "name": key, "file": f"{key}.json", "row": None}
    return {**about, "kind": "request", "seconds": 1.0, "files": [], "error": None, **more}


def entries_of(page: Path) -> list[dict[str, Any]]:
    held = re.search(r'id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert held is not None
    return list(json.loads(held[1])["entries"])


def written(folder: Path, *lines: dict[str, Any]) -> list[dict[str, Any]]:
    report = Report(folder / "replay.jsonl")
    for each in lines:
        report.add(each)
    write_page(report.path, folder / "index.html")
    return entries_of(folder / "index.html")


def test_of_a_run_that_was_done_again_the_last_is_shown() -> None:
    lines = [line("a", "failed"), line("b"), line("a", "done")]
    assert [(each["key"], each["status"]) for each in latest(lines)] == [
        ("b", "done"),
        ("a", "done"),
    ]


def test_a_file_that_could_not_be_run_and_then_was_is_no_failure_any_more() -> None:
    bad = line("x", "failed", kind=None, file="a.json", error="not readable")
    assert [each["status"] for each in latest([bad, line("y", file="a.json")])] == ["done"]
    assert [each["error"] for each in latest([line("y", file="b.json"), bad])] == [
        None,
        "not readable",
    ]


def test_the_page_holds_a_still_of_each_video_and_what_was_seen_of_it(tmp_path: Path) -> None:
    poster = poster_path(tmp_path, "ab" * 32)
    poster.parent.mkdir()
    poster.write_bytes(b"jpeg")
    look = {"quality": {"windows": 2}, "defect": None, "warnings": ["dark"]}
    video = {"path": "a.mp4", "sha256": "ab" * 32, "bytes": 1, "look": look}
    bundle = {"path": "a.bundle.json", "sha256": "0", "bytes": 1}
    (entry,) = written(tmp_path, line("a", files=[bundle, video], warnings=["cut"], seed=7))
    assert entry["poster"] == f"data:image/jpeg;base64,{base64.b64encode(b'jpeg').decode()}"
    assert entry["video"] == "a.mp4" and entry["files"] == ["a.mp4", "a.bundle.json"]
    assert entry["warnings"] == ["cut", "dark"] and entry["quality"] == {"windows": 2}
    assert entry["seed"] == 7


def test_what_stands_in_a_prompt_cannot_leave_the_data(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><!--"
    (entry,) = written(tmp_path, line("a", "failed", error=evil, set={"prompt": evil}))
    assert entry["error"] == evil
    assert evil not in (tmp_path / "index.html").read_text("utf-8")


def test_a_source_elsewhere_is_linked_from_where_the_page_lies(tmp_path: Path) -> None:
    (entry,) = written(tmp_path, line("a", file=str(tmp_path.parent / "my flows" / "a.json")))
    assert entry["source"] == "../my%20flows/a.json"


def test_the_page_is_written_while_runs_go_on(tmp_path: Path) -> None:
    report = Report(tmp_path / "replay.jsonl")
    page = tmp_path / "index.html"
    with PageWriter(report.path, 3) as pages:
        report.add(line("a"))
        pages.ended()
        wait_until(page.exists, "the page")
    assert "2 to come" in page.read_text("utf-8")
    assert [path.name for path in tmp_path.glob(".index*")] == []


def test_a_file_that_does_the_same_as_another_has_its_own_name(tmp_path: Path) -> None:
    same = line("a", "duplicate", kind=None, file="jobs/again.json", same_as="a")
    done, left = written(tmp_path, line("a"), same)
    assert (done["name"], left["name"], left["same_as"]) == ("a", "again", "a")
