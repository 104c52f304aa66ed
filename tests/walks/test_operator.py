"""An operator's night: sixty files, five bad, on two ComfyUIs, then as a batch of RunPod's."""

from __future__ import annotations

import base64
import io
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page

from talkinghead.comfy.server import ComfyServer
from talkinghead.replay.page import poster_path, write_page
from talkinghead.replay.report import lines_of
from talkinghead.settings import Settings
from tests.comfy.doubles_server import COMFYUI_PYTHON
from tests.runpod_batches import Answer, Batches
from tests.timing import LAST_RESORT_SECONDS
from tests.walks.conftest import Type

FILES, BAD, SAME = 60, 5, 2
KJ = "https://github.com/kijai/ComfyUI-KJNodes"
OPENED_WITHIN_MS = 2000  # with 200 results: that is the promise


def colour_graph(colour: int) -> dict[str, Any]:
    size = {"width": 32, "height": 32, "batch_size": 1}
    return {
        "1": {"class_type": "EmptyImage", "inputs": {**size, "color": colour}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "p"}},
    }


def write_night(folder: Path) -> None:
    """The files as people leave them: good, the same twice, and bad in five ways."""
    folder.mkdir()
    for number in range(FILES - BAD):
        colour = number - SAME if number >= FILES - BAD - SAME else number
        (folder / f"{number:02}.json").write_text(json.dumps(colour_graph(colour * 1000)))
    foreign = {"1": {"class_type": "ImageResizeKJv2", "inputs": {}}}
    unlinked = colour_graph(1)
    unlinked["2"]["inputs"]["images"] = ["9", 0]
    for name, content in {
        "bad_foreign": json.dumps(foreign),
        "bad_half": '{"1": ',
        "bad_list": "[1, 2]",
        "bad_typo": '{"image_ulr": "https://a/b.png", "wav_url": "https://a/b.wav"}',
        "bad_unlinked": json.dumps(unlinked),
    }.items():
        (folder / f"{name}.json").write_text(content)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Two ComfyUIs."""
    root = tmp_path_factory.mktemp("servers")
    both = [
        ComfyServer(
            Settings().comfyui_dir.absolute(),
            root / name,
            python=COMFYUI_PYTHON,
            cpu=True,
            start_seconds=LAST_RESORT_SECONDS,
        )
        for name in ("one", "two")
    ]
    for server in both:
        server.start()
    try:
        for server in both:
            server.ensure_ready()
        yield [server.url for server in both]
    finally:
        for server in both:
            server.stop()


def rendered(content: Any) -> Answer:  # noqa: ANN401 - JSON
    """What a worker would make of a job."""
    graph = content.get("workflow", {})
    if graph.get("2", {}).get("inputs", {}).get("images") != ["1", 0]:
        return {"error": "the workflow does not fit this ComfyUI: a link leads to nothing"}
    colour = graph["1"]["inputs"]["color"]
    held = io.BytesIO()
    Image.new("RGB", (32, 32), f"#{colour:06x}").save(held, "PNG")
    uri = f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"
    return {"output": {"outputs": [{"node": "SaveImage", "filename": "p.png", "data": uri}]}}


def counted(out: Path) -> Counter[str]:
    return Counter(line["status"] for line in lines_of(out / "replay.jsonl"))


def test_a_night_of_sixty_files_ends_with_all_that_could_be_done_and_says_what_could_not(
    typed: Type, tmp_path: Path, servers: list[str], page: Page
) -> None:
    write_night(tmp_path / "flows")
    on = [word for url in servers for word in ("--server", url)]
    code, said = typed("replay", "flows", *on, "--out", "results", "--price-per-hour", 1)
    good = FILES - BAD - SAME
    assert code == 1, said
    assert counted(tmp_path / "results") == {"done": good, "failed": BAD, "duplicate": SAME}
    assert f"{good} done, {BAD} failed, in " in said and ", for about " in said
    assert f"needs node packs that are not there: {KJ} (ImageResizeKJv2)" in said
    assert "talkinghead replay flows --server" in said, "the next command to type"
    used = {line.get("server") for line in lines_of(tmp_path / "results" / "replay.jsonl")}
    assert {*servers} <= used, "both servers worked"

    code, said = typed("replay", "flows", *on, "--out", "results")
    assert code == 1 and f"{good} runs done before" in said
    assert counted(tmp_path / "results")["done"] == good, "what is done stays done"

    page.goto((tmp_path / "results" / "index.html").as_uri())
    assert page.locator("article").count() == FILES
    page.get_by_role("button", name=f"{BAD} failed").click()
    names = page.locator("article .name").all_inner_texts()
    assert len(names) == BAD and all(name.startswith("bad_") for name in names)
    assert KJ in page.locator("main").inner_text()
    page.get_by_role("button", name=f"{SAME} duplicate").click()
    assert "the same as" in (page.locator("article").first.text_content() or "")


def test_the_same_night_as_a_batch_of_runpods(typed: Type, tmp_path: Path, page: Page) -> None:
    write_night(tmp_path / "flows")
    api = Batches(rendered, per_look=60)
    try:
        words = ("replay", "flows", "--endpoint-url", api.url, "--batch", "--out", "results")
        code, said = typed(*words)
    finally:
        api.close()
    good = FILES - BAD - SAME
    assert code == 1, said
    assert counted(tmp_path / "results") == {"done": good, "failed": BAD, "duplicate": SAME}
    assert "a link leads to nothing" in said
    page.goto((tmp_path / "results" / "index.html").as_uri())
    page.get_by_role("button", name=f"{good} done").click()
    first = page.locator("article img").first
    natural = "element => element.complete && element.naturalWidth"
    assert first.evaluate(natural) == 32, "the pictures are seen"


def test_a_page_of_two_hundred_results_is_open_at_once(tmp_path: Path, page: Page) -> None:
    noise = Image.frombytes("RGB", (180, 320), os.urandom(180 * 320 * 3))
    lines = []
    for number in range(200):
        sha256 = f"{number:064d}"[::-1]
        poster = poster_path(tmp_path, sha256)
        poster.parent.mkdir(exist_ok=True)
        noise.save(poster, quality=40)
        video = {"path": f"{number}.mp4", "sha256": sha256, "bytes": 1, "look": {"warnings": []}}
        about = {"key": str(number), "status": "done", "name": str(number), "kind": "request"}
        more = {"row": number % 5 + 1, "seed": number, "seconds": 30.0, "error": None}
        lines.append({**about, **more, "file": f"{number // 5}.json", "files": [video]})
    report = tmp_path / "replay.jsonl"
    report.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    write_page(report, tmp_path / "index.html")
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto((tmp_path / "index.html").as_uri())
    assert page.locator("article").count() == 200
    loaded = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert 0 < loaded < OPENED_WITHIN_MS
    page.get_by_role("button", name="5 beside").first.click()
    assert page.locator("article").count() == 5
    play = page.get_by_role("button", name="play all")
    play.click()
    assert play.get_attribute("aria-pressed") == "true"
    assert wrong == []
