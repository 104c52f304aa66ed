"""The playlist of a render, watched in a browser while the render goes on."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from talkinghead.media.mux import encode_sound
from talkinghead.render.playlist import Part, playlist_text, write_init, write_part
from tests.conftest import write_pan
from tests.gui.browser import LONG_MS

FPS, WINDOWS = 25, 4  # windows of a second
WATCH = Path(__file__).parents[2] / "examples" / "watch.html"
# Everything that a video on the page does, from its beginning on.
SEEN = """
window.seen = {opened: [], times: [], errors: []}
const on = (name, keep) => document.addEventListener(name, (event) => keep(event.target), true)
on('loadedmetadata', (video) =>
  seen.opened.push([video.videoWidth, video.videoHeight, Math.round(video.duration)]))
on('timeupdate', (video) => seen.times.push(video.currentTime))
on('error', (video) => seen.errors.push(video.error?.message))
"""
PLAYS_HLS = """() => {
  const plays = (type) => document.createElement('video').canPlayType(type)
  return plays('application/vnd.apple.mpegurl') && plays('video/mp4; codecs="avc1.64000d"')
}"""
# As hls.js does it: all parts go into one buffer, with the times that are in them.
APPENDED = """async (names) => {
  const source = new MediaSource(), video = document.createElement('video')
  video.src = URL.createObjectURL(source)
  await new Promise((done) => (source.onsourceopen = done))
  const buffer = source.addSourceBuffer('video/mp4; codecs="avc1.64000d,mp4a.40.2"')
  for (const name of names) {
    buffer.appendBuffer(await (await fetch(name)).arrayBuffer())
    await new Promise((done, fail) => ((buffer.onupdateend = done), (buffer.onerror = fail)))
  }
  source.endOfStream()
  const ranges = [...Array(video.buffered.length).keys()]
  return ranges.map((i) => [video.buffered.start(i), video.buffered.end(i)])
}"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files that change, with the types that HLS has."""

    def do_GET(self) -> None:
        del self.headers["If-Modified-Since"]  # in whole seconds: a window is quicker here
        super().do_GET()

    def guess_type(self, path: object) -> str:
        name = str(path)
        if name.endswith(".m3u8"):
            return "application/vnd.apple.mpegurl"
        return "text/html" if name.endswith(".html") else "video/mp4"

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not part of a test's output."""


class Render:
    """A render of four windows, published one by one in a folder behind HTTP."""

    def __init__(self, folder: Path, segment: Path, sound: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self._segment, self._sound = segment, sound
        self._parts: list[Part] = []
        write_init(segment, sound, folder / "init.mp4", fps=FPS)

    def publish(self) -> None:
        """Publish the next window; the last one ends the playlist."""
        count = len(self._parts)
        part = Part(f"part_{count + 1:05}.m4s", 1.0)
        target, first = self.folder / part.name, count * FPS
        write_part(self._segment, self._sound, target, first_frame=first, fps=FPS)
        self._parts.append(part)
        text = playlist_text(self._parts, str, ended=len(self._parts) == WINDOWS)
        (self.folder / "new").write_text(text)
        (self.folder / "new").replace(self.folder / "playlist.m3u8")


@pytest.fixture
def render(tmp_path: Path, portrait: Path, tone: Callable[..., Path]) -> Iterator[Render]:
    folder = tmp_path / "served"
    folder.mkdir()
    shutil.copy(WATCH, folder)
    segment = write_pan(tmp_path / "segment.mp4", portrait, fps=FPS)
    sound = encode_sound(tone(seconds=WINDOWS, rate=44_100), tmp_path / "sound.m4a")
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Render(folder, segment, sound, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_page() as page:
        if not page.evaluate(PLAYS_HLS):
            pytest.skip("THE PLAYLIST WAS NOT WATCHED: this Chromium plays no HLS of H.264")
        page.add_init_script(SEEN)
        page.set_default_timeout(LONG_MS)
        yield page


def wait_until(page: Page, condition: str) -> None:
    page.wait_for_function(
        f"() => {{ const video = document.querySelector('video'); return {condition} }}",
        timeout=LONG_MS,
    )


def test_a_browser_watches_the_render_while_windows_are_added(page: Page, render: Render) -> None:
    render.publish()
    render.publish()
    page.goto(f"{render.url}/watch.html")
    wait_until(page, "video.currentTime > 0.3")
    render.publish()
    wait_until(page, "video.currentTime > 2.1")
    render.publish()
    wait_until(page, "video.ended && video.currentTime > 3.9")
    seen = page.evaluate("seen")
    assert seen["opened"] == [[320, 240, 2], [320, 240, 3], [320, 240, 4]]
    assert {int(time) for time in seen["times"]} >= set(range(WINDOWS))
    assert seen["errors"] == []


def test_the_parts_are_one_piece_from_the_first_frame_to_the_end(
    page: Page, render: Render
) -> None:
    for _ in range(WINDOWS):
        render.publish()
    page.goto(f"{render.url}/watch.html")
    names = ["init.mp4", *(f"part_{number:05}.m4s" for number in range(1, WINDOWS + 1))]
    assert page.evaluate(APPENDED, names) == [[0, pytest.approx(WINDOWS, abs=0.001)]]
