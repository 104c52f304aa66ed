"""No sound is lost where it begins, where it ends, and where one window follows another."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import av
import numpy as np
import pytest

from talkinghead.media.mux import encode_sound, finish_segments, finish_video
from talkinghead.media.sandbox import DECODERS, Sandboxes
from talkinghead.media.sound import SPEECH_RATE_HZ, Voice, probe_sound, save_mix, save_speech
from talkinghead.plan.frames import frames_of
from tests.sounds import FFMPEG_SECONDS, TABLE, Samples, encode
from tests.unit.test_media import write_video
from tests.unit.test_playlist import rendered

SECONDS, CLICK_SECONDS, CLICK_HZ = 1.234, 0.02, 1000.0
SURVIVES = 0.8  # of the click's loudness: the least was 0.88, of MP3 at 8 kHz
AAC_PRIMING = 1024  # samples that come before the sound; ADTS cannot tell that they do
SEAM_RATE_HZ, SEAM_TONE_HZ = 48_000, 220.0
FILES = [(kind, *form) for kind, forms in FFMPEG_SECONDS.items() for form in forms]


def clicks(rate: int, channels: int) -> Samples:
    """Silence, but for its first and its last 20 ms."""
    samples = np.zeros((channels, round(SECONDS * rate)), np.float32)
    time = np.arange(round(CLICK_SECONDS * rate)) / rate
    samples[:, : len(time)] = samples[:, -len(time) :] = 0.5 * np.sin(2 * np.pi * CLICK_HZ * time)
    return samples


def first_channel(path: Path) -> tuple[Samples, int]:
    """Its samples as a player has them, which skips what comes before the sound; and the rate."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler("flt", stream.layout.name, stream.rate)
        frames = [*container.decode(stream), None]
        blocks = [block.to_ndarray() for frame in frames for block in resampler.resample(frame)]
        joined = np.concatenate([block.reshape(-1, stream.channels)[:, 0] for block in blocks])
        return joined, stream.rate


def loudness_of_clicks(path: Path, delay: float) -> tuple[float, float]:
    """How loud the first and the last 20 ms of the sound are, if it begins so many seconds late."""
    samples, rate = first_channel(path)
    starts = delay, delay + SECONDS - CLICK_SECONDS
    ends = [samples[round(at * rate) :][: round(CLICK_SECONDS * rate)] for at in starts]
    return float(np.sqrt(np.mean(ends[0] ** 2))), float(np.sqrt(np.mean(ends[1] ** 2)))


def deliver(path: Path, delay: float) -> tuple[float, float, float, float]:
    """How loud the clicks of a file are in the track that the model hears, and as delivered."""
    sound, folder = probe_sound("wav_url", path, max_seconds=60), path.parent
    voice, seconds = Voice("wav_url", path, sound), sound.duration
    samples = round(seconds * SPEECH_RATE_HZ) + SPEECH_RATE_HZ // 50  # as a plan has: some over
    save_speech(voice, folder / "speech.wav", seconds=seconds, padded_samples=samples)
    save_mix([voice], folder / "mix.wav", seconds=seconds)
    encoded = encode_sound(folder / "mix.wav", folder / "mix.m4a")
    frames = frames_of(seconds, 25)
    picture = write_video(folder / "picture.mp4", frames)
    finish_video(picture, encoded, folder / "video.mp4", fps=25, frames=frames)
    heard = loudness_of_clicks(folder / "speech.wav", delay)
    return *heard, *loudness_of_clicks(folder / "video.mp4", delay)


@pytest.fixture(scope="module")
def own_sandboxes() -> Iterator[Sandboxes]:
    with Sandboxes((*DECODERS, __name__)) as sandboxes:
        yield sandboxes


@pytest.mark.parametrize(("kind", "rate", "channels"), FILES)
def test_a_click_at_either_end_of_a_voice_is_heard_by_the_model_and_delivered(
    own_sandboxes: Sandboxes, tmp_path: Path, kind: str, rate: int, channels: int
) -> None:
    path = tmp_path / "voice"
    path.write_bytes(encode(clicks(rate, channels), kind, rate=rate))
    delay = AAC_PRIMING / rate if kind == "aac" else 0.0
    with own_sandboxes.open() as sandbox:
        loudness = sandbox.call("wav_url", deliver, path, delay)
    click = 0.5 / 2**0.5
    assert min(loudness) > SURVIVES * click, [round(each / click, 2) for each in loudness]


def test_these_are_the_sixty_files_of_the_table() -> None:
    assert len(FILES) == len(TABLE) == 60


def tone(path: Path, seconds: float) -> Path:
    time = np.arange(round(seconds * SEAM_RATE_HZ)) / SEAM_RATE_HZ
    samples = (0.3 * np.sin(2 * np.pi * SEAM_TONE_HZ * time)).astype(np.float32)[None]
    path.write_bytes(encode(samples, rate=SEAM_RATE_HZ))
    return path


@pytest.mark.parametrize("shown", ["delivered", "watched"])
def test_the_sound_does_not_jump_where_a_window_follows_another(tmp_path: Path, shown: str) -> None:
    """Of a tone: a step, a gap or a sample twice would show as its second difference."""
    windows = (81, 72, 72, 72, 30)
    render = rendered(tmp_path, frames=windows)
    tone(tmp_path / "tone.wav", sum(windows) / 25)
    encode_sound(tmp_path / "tone.wav", render.sound)
    if shown == "watched":
        video = render.joined()
    else:
        video = tmp_path / "video.mp4"
        starts = [0, *accumulate(windows[:-1])]
        segments = [render.segment(window) for window in range(len(windows))]
        finish_segments(segments, render.sound, video, starts=starts, fps=25)
    samples, rate = first_channel(video)
    curve = np.abs(np.diff(samples, 2))
    usual = 0.3 * (2 * np.pi * SEAM_TONE_HZ / rate) ** 2
    for seam in range(72, sum(windows), 72):
        for frame in (seam, seam + 9):  # the first window has 9 frames more than its 72
            near = curve[round((frame / 25 - 0.05) * rate) : round((frame / 25 + 0.05) * rate)]
            assert near.max() < 3 * usual
            assert near.max() > usual / 2, "the tone is there"
