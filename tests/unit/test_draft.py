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
from PIL import Image, ImageChops

sys.path.insert(0, str(Path(__file__).parents[2] / "custom_nodes"))

from talkinghead_draft.animate import Speaker, blink_track, preview_frames
from talkinghead_draft.draft import picture_draft, video_draft
from talkinghead_draft.face import Face, Picture, Point, find_face
from talkinghead_draft.follow import FIND_EVERY_FRAMES, followed
from talkinghead_draft.mp4 import write_mp4
from talkinghead_draft.regions import speaker_regions
from talkinghead_draft.video import held, read_frames
from talkinghead_draft.voice import Motion, Samples, at_rest, mixed, mouth_motion

from talkinghead.media.faces import find_faces
from talkinghead.media.masks import speaker_masks
from talkinghead.media.picture import Picture as SourcePicture
from talkinghead.media.sound import Sound
from talkinghead.plan.plan import make_plan
from talkinghead.plan.request import parse_request
from tests.conftest import drawn_pair

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
    return np.stack(list(alone(portrait, face, example_motion(voice), seed=7)))


def alone(portrait: Picture, face: Face | None, motion: Motion, seed: int = 0) -> Iterator[Picture]:
    """The frames of a picture with one speaker."""
    (region,) = speaker_regions(None, 1, *portrait.shape[:2])
    return preview_frames(portrait, [Speaker(motion, region, face)], FPS, seed)


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
    first = next(alone(portrait, face, at_rest(1), seed=3))
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
        return list(alone(portrait, face, at_rest(12), seed))[-1]

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
    frame = next(alone(grey, found(grey), Motion(np.ones(1), np.zeros(1))))
    assert np.ptp(frame.astype(int), axis=2).max() <= 2
    assert not np.array_equal(frame, grey)


def test_a_picture_without_a_face_still_moves_with_the_voice(voice: Samples) -> None:
    y, x = np.mgrid[0:240, 0:320]
    hills = np.stack((x % 256, y, (x + y) % 256), axis=-1).astype(np.uint8)
    assert find_face(hills) is None
    motion = example_motion(voice)
    frames = list(alone(hills, None, motion, seed=1))
    assert len(frames) == len(motion.openness)
    assert not np.array_equal(frames[10], hills)


@pytest.mark.parametrize("shape", [(2, 2, 3), (64, 64, 3), (64, 2000, 3)])
def test_blank_and_tiny_pictures_make_frames(shape: tuple[int, int, int]) -> None:
    blank = np.full(shape, 128, np.uint8)
    frames = alone(blank, find_face(blank), Motion(np.ones(3), np.ones(3)))
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
    [
        *((8000, 1, 8000), (44100, 2, 44100), (18900, 1, 48000), (192000, 2, 48000)),
        *((48000, channels, 48000) for channels in range(3, 9)),
    ],
)
def test_the_sound_keeps_its_channels_and_any_rate_that_aac_takes(
    tmp_path: Path, rate: int, channels: int, written_rate: int
) -> None:
    path = tmp_path / "draft.mp4"
    sound = np.repeat(tone(440, 1.0, rate), channels, axis=0)
    write_mp4(path, noise_frames(25), FPS, sound, rate)
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        packed = av.AudioResampler("flt")  # PyAV crashes at eight planes
        blocks = [block for frame in container.decode(stream) for block in packed.resample(frame)]
        assert (stream.codec_context.name, stream.rate) == ("aac", written_rate)
        assert stream.channels == channels
    samples = np.concatenate([block.to_ndarray()[0, ::channels] for block in blocks])
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


PAIR_HEIGHT, PAIR_WIDTH = 480, 854
HALF = PAIR_WIDTH // 2
LEFT_MOUTH = (slice(138, 172), slice(205, 242))  # rows and columns of the pair
RIGHT_MOUTH = (slice(180, 224), slice(627, 675))


@pytest.fixture(scope="module")
def pair(portrait: Picture) -> Picture:
    """The portrait twice in one picture: on the right larger and mirrored."""
    larger = cv2.resize(portrait[:, ::-1], None, fx=1.3, fy=1.3, interpolation=cv2.INTER_CUBIC)
    halves = (portrait[:PAIR_HEIGHT, :HALF], larger[:PAIR_HEIGHT, 150 : 150 + HALF])
    return np.asarray(np.hstack(halves), np.uint8)


@pytest.fixture(scope="module")
def other_voice(voice: Samples) -> Samples:
    """A voice that is loud and silent at other times: the example, backwards."""
    return np.ascontiguousarray(voice[:, ::-1])


@pytest.fixture(scope="module")
def talk(pair: Picture, voice: Samples, other_voice: Samples) -> npt.NDArray[np.uint8]:
    """Both at once, as frames [frames, 240, 854, 3] with their heads."""
    motions = [example_motion(voice), example_motion(other_voice)]
    return heads(picture_draft(pair, None, motions, FPS, seed=7))


def heads(frames: Iterator[Picture]) -> npt.NDArray[np.uint8]:
    return np.stack([frame[: PAIR_HEIGHT // 2] for frame in frames])


def half_masks() -> npt.NDArray[np.float32]:
    """Masks [left, right, background] of the pair: each most of its half."""
    masks = np.zeros((3, PAIR_HEIGHT, PAIR_WIDTH), np.float32)
    masks[0, 20:400, 100:HALF] = 1
    masks[1, 20:400, HALF:800] = 1
    masks[2] = 1 - masks[0] - masks[1]
    return masks


def dark_in(frames: npt.NDArray[np.uint8], mouth: tuple[slice, slice]) -> npt.NDArray[np.float64]:
    """How many pixels between a mouth and its chin are as dark as an open mouth."""
    return np.asarray((frames[:, *mouth].max(axis=-1) < 90).sum(axis=(1, 2)), np.float64)


def test_each_mouth_follows_its_own_voice(
    talk: npt.NDArray[np.uint8], voice: Samples, other_voice: Samples
) -> None:
    loud, other_loud = (loudness_db(each, len(talk)) for each in (voice, other_voice))
    left, right = dark_in(talk, LEFT_MOUTH), dark_in(talk, RIGHT_MOUTH)
    assert correlation(left, loud) > 0.6
    assert correlation(right, other_loud) > 0.6
    assert max(correlation(left, other_loud), correlation(right, loud)) < 0.3


def test_the_masks_say_who_is_who(
    pair: Picture, talk: npt.NDArray[np.uint8], voice: Samples, other_voice: Samples
) -> None:
    motions, masks = [example_motion(voice), example_motion(other_voice)], half_masks()
    frames = heads(picture_draft(pair, masks[[1, 0, 2]], motions, FPS, seed=7))
    left, right = dark_in(frames, LEFT_MOUTH), dark_in(frames, RIGHT_MOUTH)
    assert correlation(left, dark_in(talk, LEFT_MOUTH)) < 0.5
    assert correlation(left, loudness_db(other_voice, len(frames))) > 0.6
    assert correlation(right, loudness_db(voice, len(frames))) > 0.6


def test_masks_of_another_size_are_fitted_to_the_picture() -> None:
    small = half_masks()[:, ::2, ::2]
    left, right = speaker_regions(small, 2, PAIR_HEIGHT, PAIR_WIDTH)
    assert left.shape == right.shape == (PAIR_HEIGHT, PAIR_WIDTH)
    assert left[100, 200] and not left[100, 600] and right[100, 600]


def test_fewer_masks_than_speakers_are_refused(pair: Picture) -> None:
    with pytest.raises(ValueError, match="3 speakers need a mask each, and there are 2"):
        picture_draft(pair, half_masks()[:2], [at_rest(1)] * 3, FPS, seed=0)


def test_a_listener_s_mouth_rests_and_the_eyes_blink(pair: Picture, voice: Samples) -> None:
    silence = mouth_motion(np.zeros((1, 22050), np.float32), 22050, 170, FPS)
    talking = mouth_motion(voice, 22050, 170, FPS)
    frames = heads(picture_draft(pair, None, [talking, silence], FPS, seed=7))
    speaks, listens = dark_in(frames, LEFT_MOUTH), dark_in(frames, RIGHT_MOUTH)
    assert listens.max() < 0.2 * speaks.max()
    eye = frames[:, 126:141, 612:629].mean(axis=(1, 2, 3))
    assert eye.max() > eye[0] + 20  # a lid is lighter than an iris


def test_a_speaker_whose_region_has_no_face_moves_it_gently(pair: Picture, voice: Samples) -> None:
    masks = np.zeros((3, PAIR_HEIGHT, PAIR_WIDTH), np.float32)
    masks[0, :, :HALF] = 1
    masks[1, 250:, 500:] = 1  # a sleeve
    motions = [at_rest(30), example_motion(voice)]
    last = list(picture_draft(pair, masks, motions, FPS, seed=1))[-1]
    assert not np.array_equal(last[300:450, 550:800], pair[300:450, 550:800])
    assert np.array_equal(last[:120, 500:], pair[:120, 500:])


def test_a_speaker_with_an_empty_mask_moves_nothing(pair: Picture) -> None:
    masks = np.zeros((3, PAIR_HEIGHT, PAIR_WIDTH), np.float32)
    motions = [Motion(np.ones(9), np.ones(9))] * 2
    for frame in picture_draft(pair, masks, motions, FPS, seed=1):
        assert np.array_equal(frame, pair)


def panned(picture: Picture, num_frames: int) -> Iterator[Picture]:
    """A camera that wanders over a picture and nods faster than faces are looked for."""
    for shift_x, shift_y in pan(num_frames):
        shift = np.array(((1, 0, shift_x), (0, 1, shift_y)))
        size = (picture.shape[1], picture.shape[0])
        moved = cv2.warpAffine(picture, shift, size, borderMode=cv2.BORDER_REFLECT)
        yield np.asarray(moved, np.uint8)


def pan(num_frames: int) -> list[Point]:
    turns = 2 * math.pi * np.arange(num_frames) / 25
    return [(40 * math.sin(0.4 * turn), 10 * math.sin(1.3 * turn)) for turn in turns]


def test_the_mouths_of_a_moving_video_are_followed(pair: Picture) -> None:
    regions = speaker_regions(None, 2, PAIR_HEIGHT, PAIR_WIDTH)
    still = [found(pair[:, :HALF]).mouth.centre, (650.9, 181.4)]
    for (_, faces), (shift_x, shift_y) in zip(
        followed(panned(pair, 40), regions), pan(40), strict=True
    ):
        for face, (x, y) in zip(faces, still, strict=True):
            assert face
            assert far(face.mouth.centre, (x + shift_x, y + shift_y)) < 0.08 * face.size_px


def test_a_video_s_mouths_open_with_the_voice_and_nothing_else_moves(pair: Picture) -> None:
    motions = [at_rest(30), Motion(np.repeat((0.0, 1.0), 15), np.zeros(30))]
    base = list(panned(pair, 30))
    for number, frame in enumerate(video_draft(iter(base), None, motions)):
        assert np.array_equal(frame[:, :HALF], base[number][:, :HALF])
        assert np.array_equal(frame, base[number]) == (number < 15)


def test_a_face_is_not_held_over_a_cut_and_is_found_again_after_it(portrait: Picture) -> None:
    blank = [np.full_like(portrait, 90)] * 20
    scene = [*panned(portrait, 20), *blank, *panned(portrait, 30)]
    regions = speaker_regions(None, 1, *portrait.shape[:2])
    seen = [faces[0] is not None for _, faces in followed(iter(scene), regions)]
    assert all(seen[:20])
    assert not any(seen[21:40])
    assert all(seen[40 + FIND_EVERY_FRAMES :])


def test_a_video_too_long_is_cut_and_one_too_short_is_held(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    write_mp4(
        path, (np.full((64, 64, 3), 20 * n, np.uint8) for n in range(10)), FPS, tone(9, 1), 8000
    )
    for count in (4, 10, 33):
        frames = list(held(read_frames(str(path)), count))
        assert len(frames) == count
        levels = [min(9, number) * 20 for number in range(count)]
        assert [frame.mean() for frame in frames] == pytest.approx(levels, abs=4)


def test_a_video_is_scaled_to_the_asked_size(tmp_path: Path) -> None:
    write_mp4(tmp_path / "video.mp4", noise_frames(1), FPS, tone(440, 1), 22050)
    (frame,) = read_frames(str(tmp_path / "video.mp4"), size=(50, 30))
    assert frame.shape == (30, 50, 3)


def test_a_file_without_a_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="sound only"):
        next(read_frames(str(EXAMPLES / "voice.wav")))
    with pytest.raises(ValueError, match="no frames"):
        next(held(iter(()), 5))


def test_a_long_video_is_never_read_further_ahead_than_to_the_next_search() -> None:
    read = 0

    def counted() -> Iterator[Picture]:
        nonlocal read
        for frame in noise_frames(60):
            read += 1
            yield frame

    drawn = video_draft(counted(), None, [at_rest(60)])
    for number, _ in enumerate(drawn, start=1):
        assert read <= number + FIND_EVERY_FRAMES
    assert number == 60


@pytest.mark.parametrize(("across", "down"), [(-20, 0), (0, 0), (60, 0), (0, 40), (0, -60)])
def test_drawn_people_whom_the_worker_finds_are_found_in_the_draft(across: int, down: int) -> None:
    image = ImageChops.offset(drawn_pair(), across, down)
    faces = find_faces(image, 2)
    request = parse_request(
        {"image_url": "http://x/i", "audio_urls": ["http://x/a", "http://x/b"], "draft": True}
    )
    sounds = [Sound(2.0, 22_050, 1, False)] * 2
    plan = make_plan(request, sounds, SourcePicture(1280, 720), faces=faces)
    shown = np.asarray(plan.framing.apply(image))
    *speakers, background = speaker_masks(plan.framing, plan.regions) > 127
    assert len(faces) == 2
    assert all(find_face(shown, region) for region in speakers)
    assert find_face(shown, background) is None


def test_of_two_people_at_the_sides_each_mouth_follows_its_own_voice(portrait: Picture) -> None:
    image = Image.new("RGB", (1280, 720), "grey")
    person = Image.fromarray(portrait).crop((110, 5, 360, 300)).resize((400, 472))
    for x in (30, 860):
        image.paste(person, (x, 120))
    faces = find_faces(image, 2)
    request = parse_request(
        {"image_url": "http://x/i", "audio_urls": ["http://x/a", "http://x/b"], "draft": True}
    )
    sounds = [Sound(2.0, 22_050, 1, False)] * 2
    plan = make_plan(request, sounds, SourcePicture(1280, 720), faces=faces)
    assert (plan.width, plan.height) == (854, 480)
    masks = speaker_masks(plan.framing, plan.regions)
    shown = np.asarray(plan.framing.apply(image))
    random = np.random.default_rng(5)
    opened = [np.repeat(random.integers(0, 2, 10), 5).astype(np.float64) for _ in range(2)]
    motions = [Motion(openness, np.zeros(50)) for openness in opened]
    frames = np.stack(list(picture_draft(shown, masks / 255, motions, FPS, seed=7)))
    for own in range(2):
        mouth = find_face(shown, masks[own] > 127)
        assert mouth
        (left, top), side = mouth.mouth.centre, mouth.size_px
        part = frames[
            :,
            round(top - 0.15 * side) : round(top + 0.5 * side),
            round(left - 0.35 * side) : round(left + 0.35 * side),
        ]
        dark = (part.max(axis=-1) < 90).sum(axis=(1, 2)).astype(np.float64)
        assert correlation(dark, opened[own]) > 0.8
        assert correlation(dark, opened[1 - own]) < 0.3


def test_the_sound_of_several_voices_is_all_of_them_and_of_one_it_is_as_it_is() -> None:
    stereo = np.ones((2, 100), np.float32) * 0.25
    alone, rate = mixed([(stereo, 8000)])
    assert alone is stereo and rate == 8000
    longer = np.ones((1, 400), np.float32) * 0.25
    together, rate = mixed([(stereo, 8000), (longer, 16000)])
    assert (together.shape, rate) == ((1, 200), 8000)
    assert np.allclose(together[0, :100], 0.5) and np.allclose(together[0, 100:], 0.25)
    loud, _ = mixed([(np.ones((1, 9), np.float32), 8000)] * 3)
    assert float(np.abs(loud).max()) == 1.0
