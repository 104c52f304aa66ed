"""A creator at the page: from the first key to the file, with a real ComfyUI, and an endpoint."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import pytest
from playwright.sync_api import Locator, Page, Request

from talkinghead.settings import PROJECT_DIR
from tests.clients.runpod import (
    IN_QUEUE,
    KEY,
    PROGRESS,
    RUNNING,
    SHA256,
    VIDEO,
    RunPod,
    completed,
    failed,
)
from tests.conftest import drawn_pair, write_tone
from tests.gui.test_playlist import PLAYS_HLS, Render
from tests.timing import LAST_RESORT_SECONDS, wait_until

LONG_MS = 1000 * LAST_RESORT_SECONDS
FRAMES = 15
MOST_TABS = 60  # from one control of the page to any other
FOCUSED = "document.activeElement.getAttribute('aria-label') || document.activeElement.innerText"
HAS_SIDEWAYS = "document.documentElement.scrollWidth > window.innerWidth"


@contextmanager
def page_at(
    folder: Path, *words: str, ends_by: signal.Signals = signal.SIGINT, **environment: str
) -> Iterator[str]:
    """The URL of a `talkinghead page`, which ends by Ctrl-C, or by another signal."""
    folder.mkdir()
    own = {"WORK_DIR": str(folder / "work"), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "talkinghead", "page", "--port", "0", *words],
        cwd=folder,
        env=os.environ | own | {"PYTHONPATH": str(PROJECT_DIR), "COLUMNS": "200"} | environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = process.stderr.readline()
    assert "The page is at http://127.0.0.1:" in said, said + process.stderr.read()
    yield said.split()[4].rstrip(".")
    process.send_signal(ends_by)
    _, rest = process.communicate(timeout=LAST_RESORT_SECONDS)
    status = 130 if ends_by is signal.SIGINT else 143
    assert process.returncode == status and "Traceback" not in rest, rest
    assert not list(folder.glob("talkinghead-page-*")), "people's files go with the page"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page on this machine, with a ComfyUI of its own."""
    folder = tmp_path_factory.mktemp("page") / "here"
    with page_at(folder, COMFYUI_CPU="true") as url:
        yield url


@pytest.fixture
def visit(page: Page) -> Page:
    page.set_default_timeout(LONG_MS)
    page.set_viewport_size({"width": 1280, "height": 900})
    return page


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the control of this name has the focus."""
    seen = []
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        seen.append(str(page.evaluate(FOCUSED)).strip())
        if seen[-1].startswith(name):
            return
    raise AssertionError(f"Tab does not lead to {name}: {seen}")


def choose(page: Page, button: str, file: Path) -> None:
    """Choose a file, by the keys alone."""
    tab_to(page, button)
    with page.expect_file_chooser() as asked:
        page.keyboard.press("Enter")
    asked.value.set_files(file)


def take(page: Page, picture: Path, *voices: Path) -> None:
    """Give the page its files, and wait until it has seen them."""
    zones = page.locator("input[type=file]")
    zones.nth(0).set_input_files(picture)
    page.locator("img").wait_for()
    for number, voice in enumerate(voices, 1):
        zones.nth(1).set_input_files(voice)
        page.get_by_text(f"Voice {number}: {voice.name}").wait_for()
    page.get_by_text("Ready to start.").wait_for()
    assert page.get_by_role("alert").count() == 0


def nameless(page: Page) -> list[str]:
    """What can be reached with Tab, and has no name to be read out, as HTML."""
    session = page.context.new_cdp_session(page)
    found = []
    for node in session.send("Accessibility.getFullAXTree")["nodes"]:
        properties = [each["name"] for each in node.get("properties", [])]
        if "focusable" in properties and not node.get("name", {}).get("value"):
            about = {"backendNodeId": node["backendDOMNodeId"]}
            html = session.send("DOM.getOuterHTML", about)["outerHTML"].partition(">")[0]
            if 'tabindex="-1"' not in html:
                found.append(f"{node['role']['value']}: {html}>")
    return found


def download(page: Page, target: Path) -> Path:
    with page.expect_download() as coming:
        page.get_by_role("link", name="Download").click()
    coming.value.save_as(target)
    return target


def box_of(page: Page, voice: int) -> list[int]:
    numbers = page.get_by_label(f"Voice {voice}, ").all()
    return [int(each.input_value()) for each in numbers]


def wait_for_box(page: Page, voice: int, box: list[int]) -> None:
    """Wait until this box, or nearly, is that of the voice."""
    nearly = pytest.approx(box, abs=4)
    wait_until(lambda: box_of(page, voice) == nearly, f"voice {voice} has the box {box}")


Point = tuple[float, float]  # in shares of a picture's width and height


def drag(page: Page, picture: Locator, start: Point, end: Point) -> None:
    """Draw with the mouse from one point of a picture to another."""
    for act, point in ((page.mouse.down, start), (page.mouse.up, end)):
        x, y = on_page(picture, point)
        page.mouse.move(x, y, steps=4)
        act()


def drag_with_a_finger(page: Page, picture: Locator, start: Point, end: Point) -> None:
    session = page.context.new_cdp_session(page)
    middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    moves = (("touchStart", start), ("touchMove", middle), ("touchMove", end))
    for kind, (x, y) in [(kind, on_page(picture, point)) for kind, point in moves]:
        touch = {"type": kind, "touchPoints": [{"x": x, "y": y}]}
        session.send("Input.dispatchTouchEvent", touch)
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def on_page(picture: Locator, point: Point) -> Point:
    place = picture.bounding_box()
    assert place is not None
    return place["x"] + point[0] * place["width"], place["y"] + point[1] * place["height"]


def test_a_creator_gets_from_the_first_key_to_the_file(
    here: str, visit: Page, tmp_path: Path, portrait: Path, voice: Path
) -> None:
    asked: list[Request] = []
    visit.on("request", lambda each: asked.extend([each]))
    visit.goto(here)
    choose(visit, "Choose a picture or a video", portrait)
    visit.get_by_text("portrait.jpg, 512 x 512 pixels").wait_for()
    choose(visit, "Choose a voice", voice)
    tab_to(visit, "Seconds at most")
    visit.keyboard.type(str(FRAMES / 25))
    visit.get_by_text("0.60 s, 15 frames").wait_for()
    visit.get_by_text("1 face was found.").wait_for()
    model = visit.get_by_role("radio", name="Model")
    assert model.get_attribute("aria-disabled") == "true"
    assert visit.get_by_text("The model needs an NVIDIA GPU").count() > 0
    assert nameless(visit) == []

    tab_to(visit, "Start")
    visit.keyboard.press("Enter")
    visit.get_by_role("button", name="Cancel").wait_for()
    visit.reload()
    visit.get_by_text("Download portrait.mp4").wait_for()
    with av.open(str(download(visit, tmp_path / "got.mp4")), "r") as file:
        assert len(list(file.decode(video=0))) == FRAMES
        assert file.streams.audio[0].duration
    visit.get_by_text("The request, as JSON").click()
    request = json.loads(visit.locator("pre").inner_text())
    assert request["image_url"] == "https://example.com/portrait.jpg"
    assert request["speakers"] == [{"audio_url": "https://example.com/voice.wav"}]
    assert request["draft"] is True and request["seed"] > 0
    assert visit.get_by_text("This is a draft").count() > 0
    assert nameless(visit) == []

    other_tab = visit.context.new_page()
    other_tab.goto(here)
    other_tab.get_by_text("Download portrait.mp4").wait_for()
    file_url = other_tab.get_by_role("link", name="Download").get_attribute("href")
    browser = visit.context.browser
    assert browser is not None
    with browser.new_context() as somebody_else:
        theirs = somebody_else.new_page()
        theirs.goto(here)
        theirs.get_by_text("Nothing is rendered yet.").wait_for(timeout=LONG_MS)
        assert theirs.locator("audio, video, img:visible").count() == 0
        answer = somebody_else.request.get(f"{here}{file_url}")
        assert answer.status == 404
    hosts = {urlsplit(each.url).hostname for each in asked if each.url.startswith("http")}
    assert hosts == {"127.0.0.1"}


def test_two_people_are_found_and_a_box_says_better_where_one_is(
    here: str, visit: Page, tmp_path: Path, tone_pair: list[Path]
) -> None:
    visit.goto(here)
    drawn_pair().save(tmp_path / "pair.png")
    take(visit, tmp_path / "pair.png", *tone_pair)
    drawn = visit.locator("section svg text")
    visit.get_by_text("2 faces were found.").wait_for()
    assert drawn.all_text_contents() == ["voice 1", "voice 2"]

    visit.get_by_role("button", name="Draw a box for voice 2").click()
    visit.locator(".drawing").wait_for()
    drag(visit, visit.locator("section img"), (0.5, 0.1), (0.95, 0.9))
    visit.get_by_label("Voice 2, x of its box").wait_for()
    wait_for_box(visit, 2, [640, 72, 576, 576])
    assert box_of(visit, 1)[2] > 0, "where voice 1 was found is told, too"
    visit.get_by_role("button", name="Draw a box for voice 1").click()
    visit.locator(".drawing").wait_for()
    drag_with_a_finger(visit, visit.locator("section img"), (0.1, 0.1), (0.4, 0.9))
    wait_for_box(visit, 1, [128, 72, 384, 576])
    visit.get_by_label("Voice 1, x of its box").fill("5000")
    visit.get_by_text("The box of voice 1: lies outside of the picture").wait_for()
    visit.get_by_label("Voice 1, x of its box").fill("0")
    visit.get_by_text("Ready to start.").wait_for()
    visit.get_by_role("button", name="Find the faces again").nth(0).click()
    visit.get_by_text("Who speaks it is found by the faces.").nth(1).wait_for()


@pytest.fixture
def tone_pair(tmp_path: Path) -> list[Path]:
    return [write_tone(tmp_path / f"{name}.wav", seconds=0.6) for name in ("one", "two")]


def test_who_uses_the_keys_alone_keeps_the_place_while_the_page_changes(
    here: str, visit: Page, tmp_path: Path, tone_pair: list[Path]
) -> None:
    visit.goto(here)
    drawn_pair().save(tmp_path / "pair.png")
    take(visit, tmp_path / "pair.png", tone_pair[0])
    tab_to(visit, "Choose a voice")
    with visit.expect_file_chooser() as asked:
        visit.keyboard.press("Enter")
    visit.get_by_label("Seconds at most").fill("0.6")
    visit.get_by_text("0.60 s, 15 frames").wait_for()
    assert asked.value.element.evaluate("input => input.isConnected"), "it is still being chosen"
    asked.value.set_files(tone_pair[1])
    visit.get_by_text("Voice 2: two.wav").wait_for()
    tab_to(visit, "Type a box for voice 2")
    visit.keyboard.press("Enter")
    visit.wait_for_function(f"({FOCUSED}).startsWith('Voice 2, x of its box')")
    tab_to(visit, "Remove voice 2")
    visit.keyboard.press("Enter")
    visit.get_by_text("Voice 2: two.wav").wait_for(state="detached")
    assert visit.evaluate(FOCUSED) == "Choose a voice"


def test_a_file_that_does_not_arrive_is_said_and_can_be_chosen_again(
    here: str, visit: Page, portrait: Path
) -> None:
    visit.goto(here)
    visit.route("**/upload/**", lambda call: call.abort())
    zone = visit.locator("input[type=file]").nth(0)
    zone.set_input_files(portrait)
    visit.get_by_role("alert").get_by_text("The file did not arrive").wait_for()
    visit.unroute("**/upload/**")
    zone.set_input_files(portrait)
    visit.get_by_text("portrait.jpg, 512 x 512 pixels").wait_for()


def test_a_bad_file_is_told_where_it_was_given(
    here: str, visit: Page, tmp_path: Path, portrait: Path
) -> None:
    (tmp_path / "bad.jpg").write_text("<html>not found</html>")
    (tmp_path / "bad.wav").write_text("no sound")
    visit.goto(here)
    visit.get_by_role("button", name="Start").click()
    visit.get_by_role("alert").get_by_text("Add a picture or a video, and a voice.").wait_for()
    zones, sections = visit.locator("input[type=file]"), visit.locator("section")
    zones.nth(0).set_input_files(tmp_path / "bad.jpg")
    words = "The picture: the file is not a picture but a web page"
    sections.nth(0).get_by_role("alert").get_by_text(words).wait_for()
    zones.nth(0).set_input_files(portrait)
    zones.nth(1).set_input_files(tmp_path / "bad.wav")
    sections.nth(1).get_by_role("alert").get_by_text("Voice 1: ").wait_for()
    assert sections.nth(0).get_by_role("alert").count() == 0, "it was mended"


def test_a_recorded_voice_is_rendered_until_it_is_cancelled(
    here: str, visit: Page, portrait: Path, tone_pair: list[Path]
) -> None:
    visit.set_viewport_size({"width": 390, "height": 844})
    visit.goto(here)
    take(visit, portrait, tone_pair[0])
    visit.get_by_role("button", name="Record a voice").click()
    visit.get_by_text("Recording: speak, then press Stop.").wait_for()
    visit.wait_for_timeout(1500)  # of recording
    visit.get_by_role("button", name="Stop recording").click()
    visit.get_by_text("Voice 2: recording.webm").wait_for()
    plays = "document.querySelectorAll('audio')[1].readyState > 0"
    visit.wait_for_function(plays, timeout=LONG_MS)
    visit.get_by_text("Ready to start.").wait_for()
    assert not visit.evaluate(HAS_SIDEWAYS)
    visit.get_by_role("button", name="Start").click()
    visit.get_by_role("button", name="Cancel").click()
    visit.get_by_text("Cancelled.").wait_for()
    assert not visit.evaluate(HAS_SIDEWAYS)


def watch(page: Page, render: Render) -> None:
    """See the windows of a render come, in a browser that can."""
    live = page.get_by_label("What is rendered so far")
    live.wait_for()
    if not page.evaluate(PLAYS_HLS):
        page.get_by_text("This browser cannot play it while it is rendered").wait_for()
        return
    for _ in range(2):
        render.publish()
        before = live.evaluate("video => video.currentTime")
        page.wait_for_function(
            "before => document.querySelector('video').currentTime > before + 0.5", arg=before
        )


INFO = {"width": 64, "height": 64, "frames": 5, "duration_seconds": 0.2, "sha256": SHA256}
MADE: dict[str, Any] = {"video_info": INFO, "generation_params": {"seed": 7}, "cost": 0.0123}


def test_an_endpoint_renders_what_the_page_has(
    visit: Page, tmp_path: Path, portrait: Path, tone_pair: list[Path], render: Render
) -> None:
    api = RunPod()
    playlist = f"{render.url}/playlist.m3u8?sig=secret"
    shown = {**PROGRESS, "eta_seconds": 130, "playlist_url": playlist}
    api.script = [IN_QUEUE, {**RUNNING, "output": shown}]
    words = ("--endpoint", api.url)
    with page_at(tmp_path / "there", *words, TALKINGHEAD_TOKEN=KEY, PRICE_PER_HOUR="0.69") as url:
        visit.goto(url)
        take(visit, portrait, tone_pair[0])
        visit.get_by_text("by the card, at 0.69 an hour").wait_for()
        assert not api.bodies, "what it takes is planned without waking a worker"
        visit.get_by_role("button", name="Start").click()
        visit.get_by_text("In the queue, in which 3 jobs wait").wait_for()
        visit.get_by_text("Rendering window 1 of 2").wait_for()
        visit.get_by_text("about 2 min left").wait_for()
        watch(visit, render)
        api.finish("job-1", completed(**MADE, warnings=["image_url: it is small"]))
        assert download(visit, tmp_path / "got.mp4").read_bytes() == VIDEO
        told = visit.locator("section").nth(4).inner_text()
        assert "seed 7" in told and "cost 0.0123" in told and "The picture: it is small" in told
        assert "secret" not in visit.content()
        sent = api.bodies[0]["input"]
        assert sent["image_url"].startswith("data:image/jpeg;base64,")
        assert sent["speakers"][0]["audio_url"].startswith("data:audio/")

        api.script = [failed("prompt: too many words", details={"field": "prompt"})]
        visit.get_by_role("button", name="Start").click()
        visit.get_by_text("It failed.").wait_for()
        assert visit.get_by_role("alert").get_by_text("Prompt: too many words.").count() == 1
    api.close()


def test_a_terminal_that_is_closed_leaves_no_files_of_people(tmp_path: Path) -> None:
    folder = tmp_path / "page"
    with page_at(folder, "--endpoint", "http://127.0.0.1:9", ends_by=signal.SIGHUP):
        assert list(folder.glob("talkinghead-page-*"))


def test_without_its_extra_the_page_says_what_to_install(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['nicegui'] = None\n"
        "from talkinghead.__main__ import main\n"
        "sys.argv = ['talkinghead', 'page']; main()"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=PROJECT_DIR
    )
    assert said.returncode == 2
    assert said.stderr == (
        "talkinghead page needs NiceGUI: `make page`, or pip install --editable '.[page]'\n"
    )
