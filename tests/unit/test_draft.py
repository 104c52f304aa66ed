from __future__ import annotations

import math
import sys
import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "custom_nodes"))

from talkinghead_draft.animate import blink_track, preview_frames
from talkinghead_draft.face import Face, Picture, Point, find_face
from talkinghead_draft.mp4 import write_mp4
from talkinghead_draft.voice import Motion, Samples, mouth_motion

EXAMPLES = Path(__file__).parents[2] / "examples"
FPS = Fraction(25)
CORNERS_BY_HAND = ((202.0, 140.0), (245.0, 140.0))  # in the 512x512 portrait
EYES_BY_HAND = ((203.0, 101.0), (246.5, 103.0))
PARTING_BY_HAND = (223.0, 149.5)  # the middle of the edge between teeth and lower lip


@pytest.fixture(scope="module")
def portrait() -> Picture:
    return np.asarray(Image.open(EXAMPLES / "portrait.jpg").convert("RGB"))


@pytest.fixture(scope="module")
def face(portrait: Picture) -> Face:
    return found(portrait)


@pytest.fixture(scope="module")
def voice() -> Samples:
    with wave.open(str(EXAMPLES / "voice.wav")) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return (pcm[np.newaxis] / 32768).astype(np.float32)


@pytest.fixture(scope="module")
def spoken(portrait: Picture, face: Face, voice: Samples) -> npt.NDArray[np.uint8]:
    """The whole example, as frames [frames, 512, 512, 3]."""
    return np.stack(list(preview_frames(portrait, face, example_motion(voice), FPS, seed=7)))


def found(picture: Picture) -> Face:
    face = find_face(picture)
    assert face
    return face


def example_motion(voice: Samples) -> Motion:
    return mouth_motion(voice, 22050, math.ceil(voice.shape[1] / 22050 * 25), FPS)


def loudness_db(voice: Samples, num_frames: int) -> npt.NDArray[np.float64]:
    """Plain RMS level of each frame's own 40 ms, not below -45 dB."""
    padded = np.pad(voice[0], (0, num_frames * 882))[: num_frames * 882].reshape(num_frames, 882)
    power = (padded.astype(np.float64) ** 2).mean(axis=1)
    return np.asarray(np.maximum(10 * np.log10(power + 1e-9), -45))


def dark_in_mouth(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """How many pixels between the mouth and the chin are as dark as an open mouth."""
    return np.asarray((frames[:, 138:172, 205:242].max(axis=-1) < 90).sum(axis=(1, 2)), np.float64)


def correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def tone(hertz: float, seconds: float, rate: int = 22050) -> Samples:
    time = np.arange(int(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)[np.newaxis]


def still(num_frames: int) -> Motion:
    return Motion(np.zeros(num_frames), np.zeros(num_frames))


def far(a: Point, b: Point) -> float:
    return math.dist(a, b)


def noise_frames(count: int, height: int = 96, width: int = 128) -> Iterator[Picture]:
    random = np.random.default_rng(1)
    for _ in range(count):
        yield random.integers(0, 255, (height, width, 3)).astype(np.uint8)


def test_the_mouth_of_the_example_is_found_where_a_person_sees_it(face: Face) -> None:
    for corner, by_hand in zip(face.mouth.corners, CORNERS_BY_HAND, strict=True):
        assert far(corner, by_hand) < 0.06 * face.size_px
    x, y = face.mouth.centre
    assert far((x, y + face.mouth.sag_px), PARTING_BY_HAND) < 0.06 * face.size_px
    assert face.mouth.shows_teeth


def test_the_eyes_of_the_example_are_found_where_a_person_sees_them(face: Face) -> None:
    assert far(face.left_eye, EYES_BY_HAND[0]) < 0.06 * face.size_px
    assert far(face.right_eye, EYES_BY_HAND[1]) < 0.06 * face.size_px


@pytest.mark.parametrize("degrees", [-25, -10, 10, 25])
def test_a_tilted_face_has_its_mouth_found(portrait: Picture, degrees: int) -> None:
    turn = cv2.getRotationMatrix2D((223, 130), degrees, 1.0)
    tilted = np.asarray(cv2.warpAffine(portrait, turn, (512, 512), borderMode=1), np.uint8)
    face = found(tilted)
    for corner, by_hand in zip(face.mouth.corners, CORNERS_BY_HAND, strict=True):
        x, y = turn @ np.array([*by_hand, 1.0])
        assert far(corner, (x, y)) < 0.15 * face.size_px


@pytest.mark.parametrize("size", [(480, 854), (400, 704), (1080, 1920), (160, 284)])
def test_the_mouth_is_found_at_other_picture_sizes(
    portrait: Picture, size: tuple[int, int]
) -> None:
    width, height = size
    scale = height / 512
    left = int(223 * scale - width / 2)
    scaled = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    face = found(np.asarray(scaled[:, left : left + width], np.uint8))
    expected = (223.5 * scale - left, 140 * scale)
    assert far(face.mouth.centre, expected) < 0.08 * face.size_px


def test_the_mouth_opens_with_the_loudness_of_the_voice(
    spoken: npt.NDArray[np.uint8], voice: Samples
) -> None:
    loud = loudness_db(voice, len(spoken))
    assert correlation(dark_in_mouth(spoken), loud) > 0.6


def test_the_mouth_rests_in_the_pause_between_sentences(
    spoken: npt.NDArray[np.uint8], voice: Samples
) -> None:
    motion = example_motion(voice)
    quiet = np.flatnonzero(loudness_db(voice, len(spoken)) <= -45)
    pause = [frame for frame in quiet if all(frame - back in quiet for back in range(5))]
    assert len(pause) >= 8
    assert not motion.openness[pause].any()
    assert not motion.width[pause].any()
    dark = dark_in_mouth(spoken)
    assert dark[pause].max() < 0.1 * dark.max()


def test_a_resting_mouth_is_the_portrait_s_own(portrait: Picture, face: Face) -> None:
    first = next(preview_frames(portrait, face, still(1), FPS, seed=3))
    assert np.array_equal(first, portrait)


@pytest.mark.parametrize("level", [0.0, 1e-4])
def test_silence_and_faint_hiss_do_not_open_the_mouth(level: float) -> None:
    hiss = (level * np.random.default_rng(0).standard_normal((1, 22050))).astype(np.float32)
    assert not mouth_motion(hiss, 22050, 25, FPS).openness.any()


def test_a_quiet_recording_opens_the_mouth_as_far_as_a_loud_one(voice: Samples) -> None:
    quiet = example_motion(np.asarray(voice * np.float32(0.02)))
    assert np.abs(quiet.openness - example_motion(voice).openness).max() < 0.05


def test_a_bright_sound_is_wider_and_less_open_than_a_dark_one() -> None:
    sound = np.concatenate((tone(300, 1), tone(2500, 1)), axis=1)
    motion = mouth_motion(sound, 22050, 50, FPS)
    assert motion.width[5:20].mean() < 0 < motion.width[30:45].mean()
    assert motion.openness[30:45].mean() < motion.openness[5:20].mean()


def test_a_voice_shorter_than_the_video_leaves_the_mouth_closed_after_it() -> None:
    motion = mouth_motion(tone(300, 1), 22050, 100, FPS)
    assert motion.openness[20] > 0.5
    assert not motion.openness[35:].any()


def test_the_same_seed_gives_the_same_frames(portrait: Picture, face: Face) -> None:
    def frame(seed: int) -> Picture:
        return list(preview_frames(portrait, face, still(12), FPS, seed))[-1]

    assert np.array_equal(frame(5), frame(5))
    assert not np.array_equal(frame(5), frame(6))


def test_the_eyes_blink_briefly_every_two_to_six_seconds() -> None:
    closed = blink_track(2500, FPS, np.random.default_rng(0)) > 0
    starts = np.flatnonzero(np.diff(closed.astype(int)) == 1) / 25
    assert 2 <= starts[0] <= 6.1
    assert ((np.diff(starts) > 1.9) & (np.diff(starts) < 6.1)).all()
    assert closed.sum() <= 6 * len(starts)


def test_the_background_far_from_the_head_stays_still(
    spoken: npt.NDArray[np.uint8], portrait: Picture
) -> None:
    assert np.array_equal(spoken[60][350:], portrait[350:])
    assert np.array_equal(spoken[60][:, 400:], portrait[:, 400:])


def test_a_grey_portrait_stays_grey(portrait: Picture) -> None:
    grey = np.repeat(portrait.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    frame = next(preview_frames(grey, found(grey), Motion(np.ones(1), np.zeros(1)), FPS, 0))
    assert np.ptp(frame.astype(int), axis=2).max() <= 2
    assert not np.array_equal(frame, grey)


def test_a_picture_without_a_face_still_moves_with_the_voice(voice: Samples) -> None:
    y, x = np.mgrid[0:240, 0:320]
    hills = np.stack((x % 256, y, (x + y) % 256), axis=-1).astype(np.uint8)
    assert find_face(hills) is None
    motion = example_motion(voice)
    frames = list(preview_frames(hills, None, motion, FPS, seed=1))
    assert len(frames) == len(motion.openness)
    assert not np.array_equal(frames[10], hills)


@pytest.mark.parametrize("shape", [(2, 2, 3), (64, 64, 3), (64, 2000, 3)])
def test_blank_and_tiny_pictures_make_frames(shape: tuple[int, int, int]) -> None:
    blank = np.full(shape, 128, np.uint8)
    frames = preview_frames(blank, find_face(blank), Motion(np.ones(3), np.ones(3)), FPS, 0)
    assert all(np.array_equal(frame, blank) for frame in frames)


@pytest.mark.parametrize(
    ("fps", "num_frames"), [(Fraction(25), 37), (Fraction(30000, 1001), 31), (Fraction(1), 2)]
)
def test_the_file_has_exactly_the_asked_frames_at_the_asked_rate(
    tmp_path: Path, fps: Fraction, num_frames: int
) -> None:
    path = tmp_path / "draft.mp4"
    write_mp4(path, noise_frames(num_frames), fps, tone(440, 5), 22050)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == fps
        assert sum(1 for _ in container.decode(video=0)) == num_frames
        assert abs((container.duration or 0) / 1e6 - num_frames / fps) < 0.06


@pytest.mark.parametrize(
    ("rate", "channels", "written_rate"),
    [(8000, 1, 8000), (44100, 2, 44100), (48000, 6, 48000), (18900, 1, 48000), (192000, 2, 48000)],
)
def test_the_sound_keeps_its_channels_and_any_rate_that_aac_takes(
    tmp_path: Path, rate: int, channels: int, written_rate: int
) -> None:
    path = tmp_path / "draft.mp4"
    sound = np.repeat(tone(440, 1.0, rate), channels, axis=0)
    write_mp4(path, noise_frames(25), FPS, sound, rate)
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        heard = [frame.to_ndarray() for frame in container.decode(stream)]
        assert (stream.codec_context.name, stream.rate) == ("aac", written_rate)
        assert stream.channels == channels
    samples = np.concatenate(heard, axis=1)[0]
    assert abs(len(samples) / written_rate - 1) < 0.06
    assert abs(np.abs(np.fft.rfft(samples)).argmax() * written_rate / len(samples) - 440) < 3


def test_colours_are_written_and_tagged_as_bt709(tmp_path: Path) -> None:
    flat = np.full((64, 64, 3), (200, 60, 40), np.uint8)
    write_mp4(tmp_path / "flat.mp4", [flat] * 3, FPS, tone(440, 0.1), 22050)
    with av.open(str(tmp_path / "flat.mp4")) as container:
        context = container.streams.video[0].codec_context
        tags = (context.color_primaries, context.color_trc, context.colorspace)
        assert (*tags, context.color_range) == (1, 1, 1, 1)
        luma, blue, red = (plane.mean() for plane in yuv_planes(next(container.decode(video=0))))
    light = 0.2126 * 200 + 0.7152 * 60 + 0.0722 * 40
    assert luma == pytest.approx(16 + light * 219 / 255, abs=1.5)
    assert blue == pytest.approx(128 + (40 - light) / 1.8556 * 224 / 255, abs=1.5)
    assert red == pytest.approx(128 + (200 - light) / 1.5748 * 224 / 255, abs=1.5)


def yuv_planes(frame: av.VideoFrame) -> Iterator[npt.NDArray[np.uint8]]:
    for plane in frame.planes:
        rows = np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)
        yield rows[:, : plane.width]


@pytest.mark.parametrize(("height", "width"), [(95, 128), (96, 127)])
def test_an_odd_size_is_refused_and_leaves_no_file(tmp_path: Path, height: int, width: int) -> None:
    with pytest.raises(ValueError, match="even width and height"):
        write_mp4(tmp_path / "x.mp4", noise_frames(3, height, width), FPS, tone(440, 1), 22050)
    assert not list(tmp_path.iterdir())


def test_an_interruption_while_frames_are_made_leaves_no_file(tmp_path: Path) -> None:
    def interrupted() -> Iterator[Picture]:
        yield from noise_frames(5)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        write_mp4(tmp_path / "x.mp4", interrupted(), FPS, tone(440, 1), 22050)
    assert not list(tmp_path.iterdir())
