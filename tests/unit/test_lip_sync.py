"""The lag of a mouth behind its voice, found in drafts, whose mouths are moved by known voices."""

from __future__ import annotations

import sys
import wave
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "custom_nodes"))

from talkinghead_draft.draft import picture_draft
from talkinghead_draft.voice import at_rest, mouth_motion

from talkinghead.media.lip_sync import LipSync, Mouth, watch_mouths
from talkinghead.media.sound import SPEECH_RATE_HZ, Voice, probe_sound, save_speech

Frames = Sequence[npt.NDArray[np.uint8]]
Samples = npt.NDArray[np.float32]

SIDE = 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lips")


@pytest.fixture(scope="module")
def face() -> npt.NDArray[np.uint8]:
    path = Path(__file__).parents[2] / "examples" / "portrait.jpg"
    return np.asarray(Image.open(path).convert("RGB").resize((SIDE, SIDE)))


@pytest.fixture(scope="module")
def speech(folder: Path) -> Path:
    """The example's voice, as the model hears it."""
    path = Path(__file__).parents[2] / "examples" / "voice.wav"
    sound, track = probe_sound("wav_url", path, max_seconds=60), folder / "speech.wav"
    samples = round(sound.duration * SPEECH_RATE_HZ)
    voice = Voice("wav_url", path, sound)
    save_speech(voice, track, seconds=sound.duration, padded_samples=samples)
    return track


@pytest.fixture(scope="module")
def other_speech(folder: Path, speech: Path) -> Path:
    """Another voice: the same one backwards."""
    return written(folder / "other.wav", samples_of(speech)[::-1])


@pytest.fixture(scope="module")
def draft(face: npt.NDArray[np.uint8], speech: Path) -> Frames:
    return drafted(face, speech)


def samples_of(track: Path) -> Samples:
    with wave.open(str(track)) as file:
        data = file.readframes(file.getnframes())
    return (np.frombuffer(data, "<i2") / 32768).astype(np.float32)


def written(path: Path, samples: Samples) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SPEECH_RATE_HZ, 0, "NONE", ""))
        file.writeframes(np.rint(samples * 32767).astype("<i2").tobytes())
    return path


def drafted(face: npt.NDArray[np.uint8], track: Path, fps: int = 25) -> Frames:
    samples = samples_of(track)
    count = int(len(samples) / SPEECH_RATE_HZ * fps)
    motion = mouth_motion(samples[None], SPEECH_RATE_HZ, count, Fraction(fps))
    return list(picture_draft(face, None, [motion], Fraction(fps), 7))


def encoded(path: Path, frames: Frames, *, fps: int = 25, late: int = 0) -> Path:
    """A video whose picture comes so many frames later than it was made for."""
    numbers = [min(max(number - late, 0), len(frames) - 1) for number in range(len(frames))]
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "19"})
        stream.height, stream.width, _ = frames[0].shape
        stream.pix_fmt = "yuv420p"
        for number in numbers:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frames[number], "rgb24")))
        container.mux(stream.encode(None))
    return path


def watched(video: Path, track: Path) -> Mouth:
    (mouth,) = watch_mouths("video", video, [track], faces=[None])
    return mouth


def found(video: Path, track: Path) -> LipSync:
    sync = watched(video, track).sync
    assert sync
    return sync


@pytest.mark.parametrize("late", [-5, -2, -1, 0, 1, 2, 5])
def test_a_draft_that_is_shifted_has_that_lag(
    draft: Frames, speech: Path, tmp_path: Path, late: int
) -> None:
    sync = found(encoded(tmp_path / "video.mp4", draft, late=late), speech)
    assert abs(sync.lag_frames - late) <= 1
    assert sync.strength > 0.7


@pytest.mark.parametrize("fps", [12, 24, 30, 50])
def test_the_lag_is_counted_in_frames_of_the_video(
    face: npt.NDArray[np.uint8], speech: Path, tmp_path: Path, fps: int
) -> None:
    frames = drafted(face, speech, fps)
    for late in (0, 3):
        video = encoded(tmp_path / f"{late}.mp4", frames, fps=fps, late=late)
        assert abs(found(video, speech).lag_frames - late) <= 1


def test_against_another_voice_nothing_is_told(
    draft: Frames, other_speech: Path, tmp_path: Path
) -> None:
    assert watched(encoded(tmp_path / "video.mp4", draft), other_speech).sync is None


def test_each_of_two_speakers_is_held_against_their_own_voice(
    face: npt.NDArray[np.uint8], speech: Path, other_speech: Path, tmp_path: Path
) -> None:
    left = drafted(face, speech)
    right = drafted(np.ascontiguousarray(face[:, ::-1]), other_speech)
    shifted = [right[max(0, number - 3)] for number in range(len(right))]
    both = [np.concatenate(pair, axis=1) for pair in zip(left, shifted, strict=True)]
    video, tracks = encoded(tmp_path / "video.mp4", both), [speech, other_speech]
    places = [(0.0, 0.0, 0.5, 0.5), (0.5, 0.0, 1.0, 0.5)]
    known = watch_mouths("video", video, tracks, faces=places)
    guessed = watch_mouths("video", video, tracks, faces=[None, None])
    for one, other in (known, guessed):
        assert one.sync and abs(one.sync.lag_frames) <= 1
        assert other.sync and abs(other.sync.lag_frames - 3) <= 1
    crossed = watch_mouths("video", video, tracks[::-1], faces=places)
    assert [mouth.sync for mouth in crossed] == [None, None]


def test_who_only_listens_is_not_told_of(draft: Frames, speech: Path, tmp_path: Path) -> None:
    silence = written(tmp_path / "silence.wav", 0 * samples_of(speech))
    assert watched(encoded(tmp_path / "video.mp4", draft), silence).sync is None


@pytest.mark.parametrize(
    "what", ["a few frames", "short", "still", "at rest", "without a face", "cut"]
)
def test_what_means_nothing_is_not_told(
    draft: Frames, face: npt.NDArray[np.uint8], speech: Path, tmp_path: Path, what: str
) -> None:
    frames = {
        "a few frames": draft[:8],
        "short": draft[:75],
        "still": [draft[0]] * len(draft),
        "at rest": list(picture_draft(face, None, [at_rest(len(draft))], Fraction(25), 7)),
        "without a face": [np.roll(frame[::-1], 90, axis=0) for frame in draft],
        "cut": [frame[: SIDE * 5 // 16] for frame in draft],
    }[what]
    assert watched(encoded(tmp_path / "video.mp4", frames), speech).sync is None


def test_of_a_long_video_a_minute_is_looked_at_in_all_of_its_parts(
    draft: Frames, speech: Path, tmp_path: Path
) -> None:
    times = 18
    samples = samples_of(speech)[: len(draft) * SPEECH_RATE_HZ // 25]
    track = written(tmp_path / "long.wav", np.tile(samples, times))
    frames = [frame[:, :] for _ in range(times) for frame in draft]
    starts = [0, *range(81, len(frames), 72)]
    video = encoded(tmp_path / "video.mp4", frames, late=2)
    (mouth,) = watch_mouths("video", video, [track], faces=[None], starts=starts)
    assert len(mouth.frames) == 60 * 25
    assert (mouth.frames[0], mouth.frames[-1]) == (0, len(frames) - 1)
    assert mouth.sync and abs(mouth.sync.lag_frames - 2) <= 1
    assert 20 < mouth.sync.windows < len(starts)
