"""What the model hears with `voice_filter`: the speech of a voice, and silence for all else."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from talkinghead.media.sandbox import Sandbox
from talkinghead.media.sound import SPEECH_RATE_HZ, Voice, probe_sound, save_speech
from talkinghead.media.voice_filter import keep_speech

Samples = npt.NDArray[np.float64]

BEFORE_SECONDS, AFTER_SECONDS = 3.0, 3.0  # of what is no speech, about the example's voice
# When the example's voice speaks: it begins at once, and pauses between its sentences.
SPOKEN = ((0.05, 2.0), (2.95, 5.5))
QUIET, LOUD = 0.003, 0.05


def written(path: Path, samples: Samples) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SPEECH_RATE_HZ, 0, "NONE", ""))
        file.writeframes(np.rint(samples * 32767).clip(-32768, 32767).astype("<i2").tobytes())
    return path


def read(path: Path) -> Samples:
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768


def at_rms(samples: Samples, rms: float) -> Samples:
    return samples * (rms / float(np.sqrt(np.mean(samples**2))))


def music(seconds: float) -> Samples:
    """Chords of a plucked instrument, two a second, and a drum."""
    random = np.random.default_rng(4)
    beat, note = SPEECH_RATE_HZ // 2, np.arange(SPEECH_RATE_HZ) / SPEECH_RATE_HZ
    out = np.zeros(round(seconds * SPEECH_RATE_HZ) + len(note))
    for start in range(0, len(out) - len(note), beat):
        root = 110 * 2 ** (random.integers(0, 12) / 12)
        for interval in (1, 1.26, 1.5, 2):
            for partial in range(1, 6):
                tone = np.sin(2 * np.pi * root * interval * partial * note) / partial**1.3
                out[start : start + len(note)] += tone * np.exp(-2.5 * note)
        out[start : start + len(note)] += random.standard_normal(len(note)) * np.exp(-40 * note)
    return out[: round(seconds * SPEECH_RATE_HZ)]


def singing(seconds: float) -> Samples:
    """Long vowels with vibrato, on the notes of a tune."""
    time = np.arange(round(seconds * SPEECH_RATE_HZ)) / SPEECH_RATE_HZ
    tune = np.array([220, 247, 262, 294, 330, 294, 262, 247])
    pitch = tune[(time / 0.6).astype(int) % 8] * (1 + 0.02 * np.sin(2 * np.pi * 5.5 * time))
    phase, out = 2 * np.pi * np.cumsum(pitch) / SPEECH_RATE_HZ, np.zeros(len(time))
    for partial in range(1, 25):
        for formant, width, weight in ((700, 90, 1.0), (1220, 110, 0.6), (2600, 160, 0.3)):
            near = 1 + ((pitch * partial - formant) / width) ** 2
            out += weight / near * np.sin(partial * phase)
    return at_rms(out, 0.1)


@pytest.fixture
def spoken(tmp_path: Path, voice: Path) -> Samples:
    """The example's voice, as the model would hear it."""
    sound, path = probe_sound("wav_url", voice, max_seconds=60), tmp_path / "voice.wav"
    samples = round(sound.duration * SPEECH_RATE_HZ)
    heard = Voice("wav_url", voice, sound)
    save_speech(heard, path, seconds=sound.duration, padded_samples=samples)
    return read(path)


def among(sound: Samples, voice: Samples) -> Samples:
    """The voice in the middle of the sound."""
    out, start = sound.copy(), round(BEFORE_SECONDS * SPEECH_RATE_HZ)
    out[start : start + len(voice)] += voice
    return out


def about(voice: Samples) -> float:
    return BEFORE_SECONDS + len(voice) / SPEECH_RATE_HZ + AFTER_SECONDS


def part(samples: Samples, first: float, end: float) -> Samples:
    return samples[round(first * SPEECH_RATE_HZ) : round(end * SPEECH_RATE_HZ)]


@pytest.mark.parametrize("music_db", [-20, -10, 0])
def test_speech_over_music_is_heard_and_the_music_alone_is_not(
    sandbox: Sandbox, tmp_path: Path, spoken: Samples, music_db: float
) -> None:
    rms = np.sqrt(np.mean(spoken**2)) * 10 ** (music_db / 20)
    given = among(at_rms(music(about(spoken)), float(rms)), spoken)
    track = written(tmp_path / "track.wav", given)
    before = read(track)
    seconds = sandbox.call("wav_url", keep_speech, track)
    after = read(track)
    assert len(after) == len(before), "the track keeps its length, and so the video"
    for first, end in SPOKEN:
        span = BEFORE_SECONDS + first, BEFORE_SECONDS + end
        assert np.array_equal(part(after, *span), part(before, *span))
    assert not part(after, 0, BEFORE_SECONDS - 0.5).any()
    assert not part(after, about(spoken) - AFTER_SECONDS + 0.5, about(spoken)).any()
    assert seconds == pytest.approx(5.3, abs=0.6)


def test_speech_keeps_150_ms_of_what_is_about_it(
    sandbox: Sandbox, tmp_path: Path, spoken: Samples
) -> None:
    noise = np.random.default_rng(0).standard_normal(round(about(spoken) * SPEECH_RATE_HZ)) * QUIET
    track = written(tmp_path / "track.wav", among(noise, spoken))
    sandbox.call("wav_url", keep_speech, track)
    heard = np.flatnonzero(read(track)) / SPEECH_RATE_HZ
    loud = np.flatnonzero(np.abs(among(0 * noise, spoken)) > LOUD) / SPEECH_RATE_HZ
    assert 0.05 < loud[0] - heard[0] < 0.35
    assert 0.05 < heard[-1] - loud[-1] < 0.35


def test_the_noise_of_a_room_after_the_last_word_is_silence_to_the_model(
    sandbox: Sandbox, tmp_path: Path, spoken: Samples
) -> None:
    noise = np.random.default_rng(0).standard_normal(3 * SPEECH_RATE_HZ) * QUIET
    track = written(tmp_path / "track.wav", np.concatenate([spoken, noise]))
    sandbox.call("wav_url", keep_speech, track)
    after = read(track)
    assert len(after) == len(spoken) + len(noise)
    assert not after[len(spoken) + SPEECH_RATE_HZ // 2 :].any()


@pytest.mark.parametrize("sound", [np.zeros(5 * SPEECH_RATE_HZ), np.zeros(7)])
def test_silence_stays_silence(sandbox: Sandbox, tmp_path: Path, sound: Samples) -> None:
    track = written(tmp_path / "track.wav", sound)
    assert sandbox.call("wav_url", keep_speech, track) == 0
    assert np.array_equal(read(track), sound)


def test_singing_is_no_speech(sandbox: Sandbox, tmp_path: Path) -> None:
    track = written(tmp_path / "track.wav", singing(5.0))
    assert sandbox.call("wav_url", keep_speech, track) == 0
    assert not read(track).any()


def test_speech_from_the_first_sample_to_the_last_stays_as_it_is(
    sandbox: Sandbox, tmp_path: Path, spoken: Samples
) -> None:
    sentence = part(spoken, 0.1, 1.9)
    track = written(tmp_path / "track.wav", sentence)
    before = read(track)
    assert sandbox.call("wav_url", keep_speech, track) == pytest.approx(1.8, abs=0.001)
    assert np.array_equal(read(track), before)
