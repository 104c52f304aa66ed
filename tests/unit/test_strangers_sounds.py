"""Each file that a stranger gives is heard as `tests/sounds.py` says, decoded as a job's are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest

from talkinghead.errors import MediaInvalid
from talkinghead.media.mux import encode_sound
from talkinghead.media.sandbox import DECODERS, Sandboxes
from talkinghead.media.sound import (
    SPEECH_RATE_HZ,
    Voice,
    loudest,
    probe_sound,
    save_mix,
    save_speech,
)
from tests.sounds import STRANGERS, TABLE, TONE_SECONDS

WITHIN_SECONDS = 0.02
HEARD = 0.02  # an eighth of the tone


@dataclass(frozen=True)
class Heard:
    """What a job makes of a file. `spans` are when the speech is not silent, in seconds."""

    seconds: float
    channels: int
    notes: tuple[str, ...]
    rms: float
    spans: tuple[tuple[float, float], ...]
    delivered_seconds: float


def hear(path: Path) -> Heard:
    """Do with the file what a job does."""
    sound = probe_sound("wav_url", path, max_seconds=600)
    voice, speech, mix = Voice("wav_url", path, sound), path.with_name("s"), path.with_name("m")
    seconds = sound.duration
    samples = round(seconds * SPEECH_RATE_HZ)
    save_speech(voice, speech, seconds=seconds, padded_samples=samples)
    save_mix([voice], mix, seconds=seconds)
    with av.open(str(encode_sound(mix, path.with_name("m.m4a")))) as container:
        delivered = (container.duration or 0) / av.time_base
    return Heard(
        seconds=seconds,
        channels=sound.channels,
        notes=sound.notes,
        rms=loudest(speech),
        spans=tuple(spans_of(speech)),
        delivered_seconds=delivered,
    )


def spans_of(speech: Path) -> Iterator[tuple[float, float]]:
    """When it is not silent for a tenth of a second and longer."""
    samples = np.frombuffer(speech.read_bytes()[44:], "<i2") / 32768
    loud = np.flatnonzero(np.abs(samples) > HEARD) / SPEECH_RATE_HZ
    if len(loud):
        breaks = np.flatnonzero(np.diff(loud) > 0.1)
        starts = loud[[0, *(breaks + 1)]]
        ends = loud[[*breaks, -1]]
        yield from zip(map(float, starts), map(float, ends), strict=True)


@pytest.fixture(scope="module")
def own_sandboxes() -> Iterator[Sandboxes]:
    with Sandboxes((*DECODERS, __name__)) as sandboxes:
        yield sandboxes


@pytest.mark.parametrize("name", STRANGERS)
def test_a_strangers_sound_is_heard(own_sandboxes: Sandboxes, tmp_path: Path, name: str) -> None:
    stranger = STRANGERS[name]
    path = tmp_path / "file"
    path.write_bytes(stranger.make())
    with own_sandboxes.open() as sandbox:
        if stranger.refused:
            with pytest.raises(MediaInvalid, match=f"^wav_url: .*{stranger.refused}"):
                sandbox.call("wav_url", hear, path)
            return
        heard = sandbox.call("wav_url", hear, path)
    assert heard.channels == stranger.channels
    assert heard.seconds == pytest.approx(stranger.seconds, abs=WITHIN_SECONDS)
    assert heard.delivered_seconds == pytest.approx(heard.seconds, abs=WITHIN_SECONDS)
    assert len(heard.notes) == len(stranger.notes), heard.notes
    for note, pattern in zip(heard.notes, stranger.notes, strict=True):
        assert re.fullmatch(f"wav_url: {pattern}", note)
    assert heard.rms == pytest.approx(stranger.rms, rel=0.12)
    if stranger.spans:
        assert np.allclose(heard.spans, stranger.spans, atol=0.04)


def test_the_table_has_sixty_files_of_all_kinds() -> None:
    assert len(TABLE) == 60
    assert {stranger.channels for stranger in TABLE.values()} == set(range(1, 9))
    assert min(stranger.seconds for stranger in TABLE.values()) >= TONE_SECONDS
    assert len(STRANGERS) >= 120
