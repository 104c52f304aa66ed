"""What a result says of lips and sound, of drafts that a real ComfyUI made."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from talkinghead.comfy.studio import Studio
from talkinghead.errors import MediaInvalid
from talkinghead.media import lip_sync
from talkinghead.media.sandbox import Sandbox
from talkinghead.media.sound import SPEECH_RATE_HZ, Voice, probe_sound, save_speech
from tests.comfy.test_jobs import request, run, served, video_bytes
from tests.conftest import FileServer
from tests.unit.test_lip_sync import encoded

__all__ = ["served"]  # a fixture

SIZE = {"width": 320, "height": 320}


def draft(studio: Studio, served: FileServer, **fields: Any) -> dict[str, Any]:
    result = run(studio, request(served, draft=True, **SIZE) | fields)
    assert result["status"] == "completed", result
    return result


def test_the_lips_of_a_draft_go_with_its_sound(studio: Studio, served: FileServer) -> None:
    result = draft(studio, served)
    sync = result["quality"]["lip_sync"]
    assert abs(sync["lag_frames"]) <= 1
    assert sync["strength"] > 0.7
    assert sync["windows"] == 2
    assert not any("mouth" in warning for warning in result["warnings"])


def test_a_draft_that_is_shifted_has_that_lag(
    studio: Studio, served: FileServer, voice: Path, tmp_path: Path
) -> None:
    with av.open(io.BytesIO(video_bytes(draft(studio, served))), "r") as file:
        shown = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        frames = [frame.astype(np.uint8) for frame in shown]
    sound, track = probe_sound("wav_url", voice, max_seconds=60), tmp_path / "speech.wav"
    heard, samples = Voice("wav_url", voice, sound), round(sound.duration * SPEECH_RATE_HZ)
    save_speech(heard, track, seconds=sound.duration, padded_samples=samples)
    for late in (-6, -3, 2, 4):
        video = encoded(tmp_path / "video.mp4", frames, late=late)
        (mouth,) = lip_sync.watch_mouths("video", video, [track], faces=[None])
        assert mouth.sync and abs(mouth.sync.lag_frames - late) <= 1


def test_each_of_two_speakers_is_told_of(
    studio: Studio, served: FileServer, portrait: Path, voice: Path
) -> None:
    face = Image.open(portrait).convert("RGB").resize((320, 320))
    both = Image.new("RGB", (640, 320))
    both.paste(face, (0, 0))
    both.paste(face.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (320, 0))
    both.save(served.folder / "both.png")
    with wave.open(str(voice)) as file:
        form, samples = file.getparams(), np.frombuffer(file.readframes(file.getnframes()), "<i2")
    with wave.open(str(served.folder / "other.wav"), "wb") as file:
        file.setparams(form)
        file.writeframes(samples[::-1].tobytes())
    speakers = [{"audio_url": served.url(name)} for name in ("voice.wav", "other.wav")]
    fields = {
        "wav_url": None,
        "speakers": [*speakers],
        "image_url": served.url("both.png"),
        "width": 640,
        "height": 320,
    }
    sync = draft(studio, served, **fields)["quality"]["lip_sync"]
    assert [each["speaker"] for each in sync["speakers"]] == ["speakers.0", "speakers.1"]
    for each in (sync, *sync["speakers"]):
        assert abs(each["lag_frames"]) <= 1
        assert each["strength"] > 0.6


def test_a_voice_too_short_to_tell_is_not_told_of(studio: Studio, served: FileServer) -> None:
    result = draft(studio, served, max_audio_duration=2)
    assert result["quality"]["lip_sync"] is None


def test_a_late_mouth_is_warned_of_and_delivered(
    studio: Studio, served: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*arguments: object, **options: object) -> tuple[lip_sync.Mouth, ...]:
        return (lip_sync.Mouth((), (), (), lip_sync.LipSync(3, 0.6, 2)),)

    monkeypatch.setattr(Sandbox, "call", _instead(late))
    result = draft(studio, served)
    assert "wav_url: the mouth moves 3 frames (120 ms) after the sound" in result["warnings"]
    assert result["quality"]["lip_sync"] == {"lag_frames": 3, "strength": 0.6, "windows": 2}


def test_what_cannot_be_compared_is_delivered(
    studio: Studio, served: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise MediaInvalid("decoding it comes to no end")

    monkeypatch.setattr(Sandbox, "call", _instead(fail))
    assert draft(studio, served)["quality"]["lip_sync"] is None


def _instead(other: Any) -> Any:  # noqa: ANN401 - a method of any kind
    """Sandbox.call, which calls the other in place of what watches mouths."""
    call = Sandbox.call

    def called(self: Sandbox, field: str, function: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        if function is lip_sync.watch_mouths:
            return other(*args, **options)
        return call(self, field, function, *args, **options)

    return called


def test_a_picture_that_nobody_looks_at_has_no_figures(studio: Studio, served: FileServer) -> None:
    assert draft(studio, served, check_picture="off", max_frame=20)["quality"] == {}
