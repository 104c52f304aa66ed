"""A creator without a GPU: the first commands, a warm ComfyUI, two drafts and a page of them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Page

from tests.timing import LAST_RESORT_SECONDS
from tests.walks.conftest import Type, started

SMALL = ("--width", 256, "--height", 256, "--max-audio-duration", 1.2)


@pytest.mark.skipif(any(Path("/dev").glob("nvidia[0-9]*")), reason="there is a GPU")
def test_a_creator_gets_from_a_picture_and_a_voice_to_a_page_of_drafts(
    typed: Type, tmp_path: Path, portrait: Path, voice: Path, page: Page
) -> None:
    (tmp_path / "me.jpg").write_bytes(portrait.read_bytes())
    (tmp_path / "hello.wav").write_bytes(voice.read_bytes())

    code, said = typed("run", "me.jpg")
    assert code == 1 and "give a voice, too: talkinghead run picture.jpg voice.mp3" in said
    code, said = typed("run", "me.jpg", "hello.wav")
    assert code == 1 and "no NVIDIA GPU is here" in said and "--draft" in said

    kept = started(tmp_path, "up")
    assert kept.stdout is not None
    line = next(line for line in kept.stdout if "`talkinghead run` uses it" in line)
    url = line.split()[3].rstrip(",")
    try:
        code, said = typed("run", "me.jpg", "hello.wav", "--draft", "--report", "--seed", 5, *SMALL)
        assert code == 0, said
        assert f"with the ComfyUI that runs at {url}" in said and "ComfyUI to start" not in said
        assert (tmp_path / "out" / "me.mp4").is_file()

        (tmp_path / "bye.wav").write_bytes(voice.read_bytes())
        boxes = ("--box", "0,0,0.5,1", "--box", "0.5,0,1,1")
        words = ("run", "me.jpg", "hello.wav", "bye.wav", *boxes, "--draft", "--report", *SMALL)
        code, said = typed(*words)
        assert code == 0, said
        assert "The video is in out/me-2.mp4" in said, "the first draft is not written over"
        code, said = typed("run", "me.jpg", "hello.wav", "--draft", "--out", "out/me.mp4")
        assert code == 1 and "is there already: --overwrite" in said

        wanted = {"image_url": "me.jpg", "wav_url": "hello.wav", "draft": True}
        (tmp_path / "me.json").write_text(json.dumps(wanted | {"width": 256, "height": 256}))
        code, said = typed("replay", "me.json", "--out", "night")
        assert code == 0 and f"with the ComfyUI that runs at {url}" in said, said
        left = list((tmp_path / ".work").glob("*/*put/*local-*"))
        assert left == [], "nothing of a job is left in a ComfyUI that stays"
    finally:
        kept.send_signal(signal.SIGINT)
        said, _ = kept.communicate(timeout=LAST_RESORT_SECONDS)
    assert kept.returncode == 0 and "Traceback" not in said
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=LAST_RESORT_SECONDS)

    page.goto((tmp_path / "out" / "report.html").as_uri())
    cards = page.locator("article")
    assert [card.locator(".name").inner_text() for card in cards.all()] == ["me", "me-2"]
    assert "seed\u00a05" in cards.nth(0).inner_text()
    still = cards.nth(0).locator("img").get_attribute("src")
    assert still is not None and still.startswith("data:image/jpeg")
    cards.nth(1).locator("button.seen").click()
    playing = "document.querySelector('dialog[open] video').readyState > 1"
    page.wait_for_function(playing, timeout=1000 * LAST_RESORT_SECONDS)
