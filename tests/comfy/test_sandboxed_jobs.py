"""A file that its decoder does not survive fails its job, with its field; the next one succeeds."""

from __future__ import annotations

import ctypes
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from talkinghead.comfy.studio import Studio
from talkinghead.media import sound
from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.render import sources
from talkinghead.render.job import Job
from talkinghead.render.run import run_job
from tests.comfy.test_stages import End, ask, ends, still_works
from tests.timing import LAST_RESORT_SECONDS, wait_until

MARK = "decoding"  # a file beside the one that is decoded: its decoder's process id


def crash(name: str, source: Path, *, max_megapixels: float) -> Picture:
    ctypes.string_at(0)
    return Picture(1, 1)


def take_memory(name: str, source: Path, *, max_megapixels: float) -> Picture:
    taken = []
    while True:
        taken.append(b"x" * 2**26)


def hang(name: str, source: Path, *, max_megapixels: float) -> Picture:
    time.sleep(LAST_RESORT_SECONDS)
    return Picture(1, 1)


def hang_in_sound(name: str, source: Path, *, max_seconds: float) -> Sound:
    new = source.with_name("new")
    new.write_text(str(os.getpid()))
    new.replace(source.with_name(MARK))
    time.sleep(LAST_RESORT_SECONDS)
    return Sound(1.0, 16_000, 1, False)


@pytest.mark.parametrize("decoder", [crash, take_memory, hang])
def test_a_picture_whose_decoder_fails_fails_its_own_job_alone(
    studio: Studio,
    short_job: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    decoder: Callable[..., Picture],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sources, "probe_picture", decoder)
        result = run_job(Job("hostile", short_job), studio)
    assert (result["error_code"], result["stage"]) == ("media_invalid", "prepare")
    assert result["error"].startswith("image_url: ")
    assert still_works(studio, short_job)


def decoding() -> list[Path]:
    """The marks of decoders at work."""
    return list(Path(tempfile.gettempdir()).glob(f"talkinghead-*/{MARK}"))


@pytest.fixture
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no other run of these tests has decoders at work."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.usefixtures("own_temporary_folder")
def test_a_voice_whose_decoder_is_killed_fails_its_own_job_alone(
    studio: Studio, short_job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill() -> None:
        wait_until(decoding, "the voice is decoded")
        os.kill(int(decoding()[0].read_text()), signal.SIGSEGV)

    with monkeypatch.context() as patch:
        patch.setattr(sound, "probe_sound", hang_in_sound)
        threading.Thread(target=kill, daemon=True).start()
        result = run_job(Job("hostile", short_job), studio)
    assert result["error_code"] == "media_invalid"
    assert result["error"] == "wav_url: the file makes its decoder crash (SIGSEGV)"
    assert still_works(studio, short_job)


@ends
@pytest.mark.usefixtures("own_temporary_folder")
def test_a_job_ends_while_a_decoder_does_not_answer(
    studio: Studio, short_job: dict[str, Any], monkeypatch: pytest.MonkeyPatch, end: End
) -> None:
    job, decoders = Job("ends", short_job), []

    def end_it() -> None:
        wait_until(decoding, "the voice is decoded")
        decoders.append(decoding()[0].read_text())
        ask(job, end)

    with monkeypatch.context() as patch:
        patch.setattr(sound, "probe_sound", hang_in_sound)
        threading.Thread(target=end_it, daemon=True).start()
        result = run_job(job, studio)
    assert (result["error_code"], result["stage"]) == (end, "prepare")
    assert not Path("/proc", *decoders).exists()
    assert still_works(studio, short_job)
