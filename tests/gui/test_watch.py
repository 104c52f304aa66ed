"""A long render on a real ComfyUI, watched in a browser from a real bucket while it goes on."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page

from talkinghead.comfy.studio import Studio
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.render.run import run_job
from talkinghead.settings import PROJECT_DIR, Settings
from tests.conftest import FileServer, write_tone
from tests.gui.test_playlist import WATCH, Handler, page, wait_until
from tests.store import S3Server
from tests.timing import LAST_RESORT_SECONDS

__all__ = ["page"]  # a fixture

SECONDS = 15.0  # 375 frames: six windows


@pytest.fixture
def studio(tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """A worker with a bucket, whose sampler takes its time."""
    control = tmp_path / "control.json"
    control.write_text(json.dumps({"step_seconds": 0.6}))
    for name, value in {**s3.environment, "DOUBLES_CONTROL": str(control)}.items():
        monkeypatch.setenv(name, value)
    settings = Settings(
        work_dir=tmp_path / "work",
        comfyui_cpu=True,
        extra_node_dirs=str(PROJECT_DIR / "tests" / "doubles"),
        allow_private_urls=True,
    )
    with Studio(settings) as studio:
        yield studio


@pytest.fixture
def watch() -> Iterator[str]:
    """The URL of the page that plays playlists."""
    handler = functools.partial(Handler, directory=str(WATCH.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{WATCH.name}"
        server.shutdown()


def test_a_render_plays_from_its_second_window_on_while_the_others_are_made(
    page: Page, studio: Studio, watch: str, files: FileServer, portrait: Path
) -> None:
    (files.folder / "p.jpg").write_bytes(portrait.read_bytes())
    write_tone(files.folder / "a.wav", seconds=SECONDS, rate=44_100, channels=2)
    job: dict[str, Any] = {"image_url": files.url("p.jpg"), "wav_url": files.url("a.wav")}
    job |= {"width": 256, "height": 256, "playlist": True}
    begun, watched, url = threading.Event(), threading.Event(), ""

    def report(progress: Progress) -> None:
        nonlocal url
        if progress.playlist_url and (progress.window or 0) > 2:
            url = progress.playlist_url
            begun.set()
            watched.wait(LAST_RESORT_SECONDS)  # the others are made after that

    with ThreadPoolExecutor(1) as aside, contextlib.ExitStack() as last:
        last.callback(watched.set)
        rendering = aside.submit(run_job, Job("watched", job, report=report), studio)
        assert begun.wait(LAST_RESORT_SECONDS)
        page.goto(f"{watch}?playlist={quote(url, safe='')}")
        wait_until(page, "video.currentTime > 4")  # in the second window
        assert not rendering.done()
        watched.set()
        result = rendering.result()
    assert result["status"] == "completed"
    wait_until(page, f"video.ended && video.currentTime > {SECONDS - 0.1}")
    seen = page.evaluate("seen")
    assert seen["errors"] == []
    assert {tuple(opened[:2]) for opened in seen["opened"]} == {(256, 256)}
    assert {int(time) for time in seen["times"]} >= set(range(int(SECONDS)))
