"""Dubbing leaves the rest alone: outside of the speakers' regions the source's own pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from talkinghead.comfy.studio import Studio
from talkinghead.errors import UnsupportedCombination
from talkinghead.media.camera import camera_moves_at
from talkinghead.media.faces import Face
from talkinghead.media.masks import Box, Framing
from talkinghead.media.mux import encode_sound, finish_video, probe_video, yuv_frame
from talkinghead.media.outside import Outside, put_back
from talkinghead.media.regions import save_inside
from talkinghead.media.sandbox import Sandbox
from talkinghead.media.sound import Sound
from talkinghead.media.source_video import BT709, SourceVideo, probe_source
from talkinghead.plan.people import bodies_of
from talkinghead.plan.plan import LOSSLESS_CRF, Plan, make_plan
from talkinghead.plan.request import RenderRequest, parse_request
from talkinghead.render.prepare import decide, prepare
from talkinghead.render.sources import fetch, open_files
from talkinghead.settings import Settings
from tests.conftest import write_pan, write_tone

Pixels = npt.NDArray[np.uint8]
WIDTH, HEIGHT = 192, 160
FRAMING = Framing(WIDTH, HEIGHT, WIDTH, HEIGHT)
BOX = (60, 0, 200, 240)  # of a speaker
REGION = (0.25, 0.25, 0.75, 1.0)
RADIUS = 7  # of the feather: 160 / 24
MADE = (40, 160, 90)


def backdrop(size: tuple[int, int] = (WIDTH, HEIGHT)) -> Pixels:
    """Soft spots, the same each time."""
    random = np.random.default_rng(3)
    small = Image.fromarray(random.integers(40, 215, (12, 16, 3), np.uint8))
    return np.asarray(small.resize(size, Image.Resampling.BICUBIC))


def write(path: Path, pictures: list[Pixels], fps: int = 25, crf: str = "0") -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": crf})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        for picture in pictures:
            container.mux(stream.encode(yuv_frame(Image.fromarray(picture))))
        container.mux(stream.encode(None))
    return path


def read(path: Path) -> list[Pixels]:
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in frames]


def bar(index: int) -> Pixels:
    """The backdrop with a bar in its upper margin that tells the frame's number."""
    picture = backdrop().copy()
    picture[:16, : 4 * (index + 1)] = 250
    picture[:16, 4 * (index + 1) :] = 5
    return picture


def told(picture: Pixels) -> int:
    return round(float((picture[4:12, :, 1] > 128).sum() / 8 / 4)) - 1


@pytest.fixture
def outside(tmp_path: Path) -> Callable[..., Outside]:
    def make(source: Path, fps: float = 25, **changed: Any) -> Outside:
        inside = tmp_path / "inside.png"
        framing = changed.get("framing", FRAMING)
        save_inside([("speakers.0", REGION)], framing, inside, max_megapixels=1)
        box = changed.get("box", (0, 0, framing.render_width, framing.render_height))
        return Outside("video_url", source, inside, framing, box, 25, fps)

    return make


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """What a model made of it: another picture all over."""
    plain = np.full((HEIGHT, WIDTH, 3), MADE, np.uint8)
    return write(tmp_path / "rendered.mp4", [plain] * 30)


def test_outside_of_the_feather_it_is_the_source_and_inside_the_models(
    tmp_path: Path, rendered: Path, outside: Callable[..., Outside], sandbox: Sandbox
) -> None:
    source = write(tmp_path / "source.mp4", [backdrop()] * 30)
    target = tmp_path / "whole.mp4"
    sandbox.call("video_url", put_back, outside(source), rendered, target, shown=range(30))
    pictures = read(target)
    assert len(pictures) == 30
    x0, y0, x1 = WIDTH // 4, HEIGHT // 4, WIDTH * 3 // 4
    within, beyond = np.zeros((2, HEIGHT, WIDTH), bool)
    within[y0 + 8 :, x0 + 8 : x1 - 8] = True
    beyond[:] = True
    beyond[y0 - RADIUS - 1 :, x0 - RADIUS - 1 : x1 + RADIUS + 1] = False
    for picture, original in list(zip(pictures, read(source), strict=True))[::9]:
        off = np.abs(picture.astype(int) - original)
        assert off[beyond].mean() < 3
        assert np.abs(picture[within].astype(int) - MADE).mean() < 3


def test_there_is_no_seam(tmp_path: Path, rendered: Path, outside: Callable[..., Outside]) -> None:
    source = write(tmp_path / "source.mp4", [np.full((HEIGHT, WIDTH, 3), 200, np.uint8)] * 3)
    put_back(outside(source), rendered, tmp_path / "whole.mp4", shown=range(3))
    row = read(tmp_path / "whole.mp4")[1][HEIGHT // 2, :, 0].astype(int)
    assert np.abs(np.diff(row)).max() < 160 / RADIUS * 2.5, "it goes over in steps"


@pytest.mark.parametrize("fps", [25, 30, 12.5, 23.976, 29.97, 60])
def test_each_frame_has_around_it_what_the_source_shows_at_its_time(
    tmp_path: Path, rendered: Path, outside: Callable[..., Outside], fps: float
) -> None:
    source = write(tmp_path / "source.mp4", [bar(index) for index in range(30)])
    count = round(30 * fps / 25)
    put_back(outside(source, fps), rendered, tmp_path / "whole.mp4", shown=range(count))
    numbers = [told(picture) for picture in read(tmp_path / "whole.mp4")]
    assert numbers == [min(29, int((index + 0.5) * 25 / fps)) for index in range(count)]
    sound = encode_sound(write_tone(tmp_path / "a.wav", seconds=1.2), tmp_path / "a.m4a")
    finish_video(tmp_path / "whole.mp4", sound, tmp_path / "end.mp4", fps=fps, frames=count)
    with av.open(str(tmp_path / "whole.mp4")) as one, av.open(str(tmp_path / "end.mp4")) as other:
        before, after = ([bytes(p) for p in each.demux(video=0)] for each in (one, other))
    assert before == after, "it is not encoded a second time"
    assert probe_video(tmp_path / "end.mp4").frames == count


def test_a_window_of_a_chain_has_its_own_stretch_and_a_short_source_is_repeated(
    tmp_path: Path, rendered: Path, outside: Callable[..., Outside]
) -> None:
    source = write(tmp_path / "source.mp4", [bar(index) for index in range(40)])
    target = tmp_path / "2.mp4"
    put_back(outside(source), rendered, target, shown=range(20, 50), first=20)
    assert [told(picture) for picture in read(target)] == [*range(20, 40), *range(10)]


def test_what_is_delivered_is_the_middle_of_what_was_rendered(
    tmp_path: Path, outside: Callable[..., Outside]
) -> None:
    framing = Framing(WIDTH, HEIGHT, 192, 160)
    cut = np.full((150, 180, 3), MADE, np.uint8)
    rendered = write(tmp_path / "rendered.mp4", [cut] * 3)
    source = write(tmp_path / "source.mp4", [backdrop()] * 3)
    view = outside(source, framing=framing, box=(6, 5, 186, 155))
    put_back(view, rendered, tmp_path / "whole.mp4", shown=range(3))
    grey, original = (read(path)[0].mean(2) for path in (tmp_path / "whole.mp4", source))
    assert np.abs(grey - original[5:155, 6:186])[:20].mean() < 3


# ---- The camera


def moving(tmp_path: Path, at: Callable[[int], Pixels], frames: int = 100) -> tuple[Path, Any]:
    path = write(tmp_path / "video.mp4", [at(index) for index in range(frames)], crf="20")
    return path, probe_source("video_url", path, max_megapixels=1)


def moves_at(path: Path, video: SourceVideo, *people: tuple[float, ...]) -> float | None:
    boxes: Any = list(people)
    return camera_moves_at("video_url", path, video, seconds=9, span=2.88, people=boxes)


def test_a_pan_is_seen(tmp_path: Path, portrait: Path, sandbox: Sandbox) -> None:
    path = write_pan(tmp_path / "pan.mp4", portrait, seconds=4)
    video = probe_source("video_url", path, max_megapixels=1)
    field, options = "video_url", {"seconds": 9.0, "span": 2.88}
    moved = sandbox.call(field, camera_moves_at, field, path, video, people=[], **options)
    assert moved is not None
    assert moved < 3


def test_a_slow_zoom_and_a_cut_are_seen(tmp_path: Path) -> None:
    large = Image.fromarray(backdrop((2 * WIDTH, 2 * HEIGHT)))

    def zoomed(index: int) -> Pixels:
        edge = index * 0.3
        box = (edge, edge, 2 * WIDTH - edge, 2 * HEIGHT - edge)
        return np.asarray(large.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box=box))

    assert moves_at(*moving(tmp_path, zoomed)) is not None
    other = np.flip(backdrop(), (0, 1))
    assert moves_at(*moving(tmp_path, lambda n: other if n > 50 else backdrop())) is not None


def test_somebody_who_moves_flicker_and_noise_are_no_moving_camera(tmp_path: Path) -> None:
    random = np.random.default_rng(5)

    def lively(index: int) -> Pixels:
        picture = backdrop().astype(int) + index % 7 + random.normal(0, 4, (HEIGHT, WIDTH, 1))
        left = 60 + round(10 * np.sin(index / 5))
        picture[40:, left : left + 70] = np.flip(backdrop(), 0)[40:, 60:130]
        return picture.clip(0, 255).astype(np.uint8)

    assert moves_at(*moving(tmp_path, lively)) is None


def test_who_speaks_does_not_count(tmp_path: Path) -> None:
    def close(index: int) -> Pixels:
        picture = backdrop().copy()
        picture[20:, 30:170] = np.roll(backdrop()[::-1], index, 1)[20:, 30:170]
        return picture

    video = moving(tmp_path, close)
    assert moves_at(*video, (25, 15, 175, HEIGHT)) is None


@pytest.mark.parametrize("begins", [8, 30, 55])
def test_a_picture_that_cuts_away_for_half_a_second_is_seen(tmp_path: Path, begins: int) -> None:
    other = np.flip(backdrop(), (0, 1))
    away = range(begins, begins + 13)
    video = moving(tmp_path, lambda index: other if index in away else backdrop())
    seen = moves_at(*video)
    assert seen is not None
    assert begins / 25 <= seen < (begins + 13) / 25


def test_many_who_walk_by_each_at_a_pace_of_their_own_are_no_moving_camera(tmp_path: Path) -> None:
    def crowded(index: int) -> Pixels:
        picture = backdrop().copy()
        for who in range(20):
            left = (who * 37 + (1 + who % 4) * (-1) ** who * index) % (WIDTH - 30)
            picture[7 * who : 7 * who + 20, left : left + 14] = 12 * who
        return picture

    assert moves_at(*moving(tmp_path, crowded), (130, 60, WIDTH, HEIGHT)) is None


# ---- A job, up to where ComfyUI begins


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    """One whose ComfyUI never starts."""
    (tmp_path / "work").mkdir()
    studio = Studio(Settings(work_dir=tmp_path / "work"), local_files=True)
    with studio.sandboxes:
        yield studio


def job(
    folder: Path, video: Path, *, box: Sequence[int] | None = BOX, **fields: Any
) -> RenderRequest:
    voice = write_tone(folder / "voice.wav", seconds=4)
    person = {"audio_url": voice.as_uri(), "box": box and list(box)}
    asked = {"video_url": video.as_uri(), "speakers": [person], "width": 384, "height": 288}
    return parse_request(asked | {"keep_outside": True} | fields, local_files=True)


@pytest.mark.parametrize("box", [BOX, None], ids=["a box", "a face"])
def test_the_camera_is_looked_at_before_anything_is_rendered(
    tmp_path: Path, portrait: Path, studio: Studio, box: Sequence[int] | None
) -> None:
    request = job(tmp_path, write_pan(tmp_path / "pan.mp4", portrait, seconds=4), box=box)
    sources = fetch(request, tmp_path, studio, lambda: None)
    with studio.sandboxes.open() as sandbox:
        opened = open_files(request, sources, studio.settings, sandbox)
        with pytest.raises(UnsupportedCombination, match="camera of video_url moves"):
            decide(request, sources, opened, folder=tmp_path, studio=studio, sandbox=sandbox)


@pytest.mark.parametrize("draft", [False, True])
def test_who_walks_away_is_seen_before_anything_is_rendered(
    tmp_path: Path, portrait: Path, studio: Studio, draft: bool
) -> None:
    head = Image.open(portrait).convert("RGB").resize((200, 200))

    def walking(index: int) -> Pixels:
        picture = Image.fromarray(backdrop((640, 240)))
        picture.paste(head, (4 * index, 30))
        return np.asarray(picture)

    path = write(tmp_path / "walk.mp4", [walking(index) for index in range(105)], crf="20")
    shown: Any = {"box": None, "width": None, "height": None, "aspect_ratio": "auto"}
    request = job(tmp_path, path, video_method="denoise", draft=draft, **shown)
    sources = fetch(request, tmp_path, studio, lambda: None)
    with studio.sandboxes.open() as sandbox:
        opened = open_files(request, sources, studio.settings, sandbox)
        options: Any = {"folder": tmp_path, "studio": studio, "sandbox": sandbox}
        if draft:
            plan = decide(request, sources, opened, **options)
            assert any("without draft" in each for each in plan.warnings)
        else:
            with pytest.raises(UnsupportedCombination, match="outside of its region"):
                decide(request, sources, opened, **options)


@pytest.mark.parametrize("long", [False, True])
def test_a_job_makes_ready_what_puts_its_source_back(
    tmp_path: Path, portrait: Path, studio: Studio, long: bool
) -> None:
    still = write_pan(tmp_path / "still.mp4", portrait, seconds=4, still=True)
    request = job(tmp_path, still, long=long, fps=30)
    sources = fetch(request, tmp_path, studio, lambda: None)
    with studio.sandboxes.open() as sandbox, ThreadPoolExecutor() as pool:
        opened = open_files(request, sources, studio.settings, sandbox)
        plan = decide(request, sources, opened, folder=tmp_path, studio=studio, sandbox=sandbox)
        assert plan.chained is long
        tracks = prepare(
            request,
            plan,
            sources,
            opened.voices,
            folder=tmp_path,
            studio=studio,
            pool=pool,
            sandbox=sandbox,
        )
    assert tracks.put_back is not None
    made = write(tmp_path / "rendered.mp4", [np.full((288, 384, 3), MADE, np.uint8)] * 100)
    tracks.put_back(made, tmp_path / "whole.mp4", range(120), 0, lambda: None)
    pictures, source = read(tmp_path / "whole.mp4"), Image.fromarray(read(still)[0])
    original = np.asarray(plan.framing.apply(source), int)
    assert len(pictures) == 120
    assert np.abs(pictures[60].astype(int) - original)[:, 258:].mean() < 3
    assert np.abs(pictures[60][:, 90:222].astype(int) - MADE).mean() < 3


# ---- The request

VIDEO = {"video_url": "http://x/v.mp4", "wav_url": "http://x/a.wav", "keep_outside": True}


def planned(
    moves: float | None = None,
    faces: Sequence[Face] | None = None,
    later: Sequence[tuple[float, tuple[Box, ...]]] = (),
    **fields: Any,
) -> Plan:
    seen: Any = {"camera_moves_at": moves, "faces_later": tuple(later)}
    video = SourceVideo(640, 480, 9.0, 225, 25.0, **seen)
    voices = [Sound(4.0, 16_000, 1, False)]
    return make_plan(parse_request(VIDEO | fields), voices, video, faces=faces)


def test_with_keyframes_a_camera_that_moves_is_refused_with_the_way_out() -> None:
    with pytest.raises(UnsupportedCombination, match=r"camera of video_url moves.*seen at 2\.9 s"):
        planned(2.88)
    assert planned(None).keeps_outside
    assert planned(2.88, video_method="denoise").keeps_outside
    assert not planned(2.88, draft=True).keeps_outside, "a draft moves mouths alone"


def test_a_draft_tells_that_its_render_would_be_refused_and_why() -> None:
    told = [each for each in planned(2.88, draft=True).warnings if "without draft" in each]
    assert len(told) == 1
    assert "camera of video_url moves" in told[0]
    assert "seen at 2.9 s" in told[0]
    for fine in planned(draft=True), planned(2.88, draft=True, video_method="denoise"):
        assert not any("without draft" in each for each in fine.warnings)


SHAPE: Any = {"aspect_ratio": "auto"}
FACE: Box = (60, 100, 120, 180)
FAR: Box = (500, 100, 560, 180)


@pytest.mark.parametrize("method", ["keyframes", "denoise"])
def test_a_speaker_who_leaves_the_region_that_is_rendered_is_refused(method: str) -> None:
    fields: Any = {"faces": [Face(FACE, 0.9)], "video_method": method, **SHAPE}
    later = [(1.0, (FACE,)), (2.0, (FAR,)), (3.0, (FAR,))]
    with pytest.raises(UnsupportedCombination, match=r"face of wav_url.*its region at 2\.0 s.*box"):
        planned(later=later, **fields)
    draft = planned(later=later, draft=True, **fields)
    assert sum("without draft" in each for each in draft.warnings) == 1
    assert planned(later=[(1.0, ()), (2.0, (FACE,))], **fields).keeps_outside, "turned away"
    wide = [{"audio_url": "http://x/a.wav", "box": [0, 0, 1, 1]}]
    assert planned(later=later, **fields | {"wav_url": None, "speakers": wide}).keeps_outside


def test_a_bystander_who_walks_on_is_not_taken_for_the_speaker() -> None:
    faces = [Face(FACE, 0.9), Face((300, 100, 340, 150), 0.9)]
    later = [(1.0, ((340.0, 100.0, 380.0, 150.0),)), (2.0, (FACE, (400.0, 100.0, 440.0, 150.0)))]
    assert planned(faces=faces, later=later, **SHAPE).keeps_outside


def test_who_walks_out_of_the_frame_is_told_with_the_second_and_the_way_out() -> None:
    fields: Any = {"keep_outside": False, "faces": [Face(FACE, 0.9)], "later": [(2.0, (FAR,))]}
    told = [each for each in planned(**fields).warnings if "no longer" in each]
    assert len(told) == 1
    assert "face of wav_url" in told[0]
    assert 'in the frame at 2.0 s: aspect_ratio "auto"' in told[0]
    assert not any("no longer" in each for each in planned(**fields, **SHAPE).warnings)


def test_a_speaker_whose_face_is_not_there_for_half_of_the_video_is_told() -> None:
    """Whether nobody is there, or somebody whose face is much larger: after a cut, say."""
    other: Box = (200, 100, 380, 340)
    fields: Any = {"keep_outside": False, "faces": [Face(FACE, 0.9)], **SHAPE}

    def told(*seen: tuple[Box, ...]) -> list[str]:
        plan = planned(later=[(1.0 + number, boxes) for number, boxes in enumerate(seen)], **fields)
        return [each for each in plan.warnings if "is not found" in each]

    assert not told((FACE,), (), (FACE,), (FACE,)), "turned away"
    (nobody,) = told((FACE,), (), (FACE,), ())
    assert nobody.startswith("the face of wav_url is not found at 2.0, 4.0 s:")
    (another,) = told((FACE,), (FACE,), (other,), (other,))
    assert another.startswith("the face of wav_url is not found at 3.0, 4.0 s:")


def test_of_two_speakers_one_who_leaves_the_part_that_is_theirs_is_told() -> None:
    speakers = [{"audio_url": "http://x/a.wav"}, {"audio_url": "http://x/b.wav"}]
    request = parse_request({"video_url": "http://x/v.mp4", "speakers": speakers} | SHAPE)
    one, other, gone = (40.0, 50.0, 80.0, 100.0), (480.0, 50.0, 520.0, 100.0), 250.0
    later = ((2.0, (one, (gone, 50.0, gone + 40, 100.0))),)
    video = SourceVideo(640, 480, 9.0, 225, 25.0, faces_later=later)
    voices = [Sound(4.0, 16_000, 1, False)] * 2
    plan = make_plan(request, voices, video, faces=[Face(one, 0.9), Face(other, 0.9)])
    assert [each for each in plan.warnings if "no longer in its region at 2.0 s" in each]


def test_a_picture_has_no_pixels_to_keep() -> None:
    with pytest.raises(UnsupportedCombination, match="there is no video_url"):
        planned(video_url=None, image_url="http://x/i.png")


def test_it_is_encoded_lossily_once_and_is_another_render() -> None:
    assert planned().crf == LOSSLESS_CRF
    assert planned().content() != planned(keep_outside=False).content()


def test_the_box_of_the_only_speaker_has_an_effect_then() -> None:
    person = {"audio_url": "http://x/a.wav", "box": [0, 0, 9, 9]}
    warnings = planned(None, wav_url=None, speakers=[person]).warnings
    assert not any("with one person" in each for each in warnings)


def test_faces_that_were_found_are_kept_around_and_nobody_asks_for_boxes() -> None:
    asked = "nobody knows where the speakers are"
    assert any(asked in each for each in planned().warnings)
    face = (200, 100, 300, 220)
    made = planned(faces=[Face(face, 0.9)])
    assert made.regions[0] is not None
    assert not any(asked in each for each in made.warnings)


def test_who_was_found_may_move_before_a_camera_that_stands_still() -> None:
    request, size, face = parse_request(VIDEO), (640, 480), Face((200, 100, 300, 220), 0.9)
    assert bodies_of(request, [], size) == ()
    assert bodies_of(request, [face], size) == ((100, 40, 400, 480),)
    speaker = {"audio_url": "http://x/a.wav", "box": [0, 0, 0.5, 1]}
    request = parse_request(VIDEO | {"wav_url": None, "speakers": [speaker]})
    assert bodies_of(request, [face], size) == ((0, 0, 320, 480),)
