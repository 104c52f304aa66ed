"""What phones, browsers and tools make is taken, and of the rest the error says what came."""

from __future__ import annotations

import contextlib
import random
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from talkinghead.errors import JobError, MediaInvalid
from talkinghead.media.masks import Framing
from talkinghead.media.picture import Picture, probe_picture, save_for_nodes, save_picture
from talkinghead.media.sandbox import Sandbox
from talkinghead.media.source_video import probe_source, save_frames
from tests import strangers


def taken(sandbox: Sandbox, path: Path) -> tuple[Picture, Image.Image]:
    """What the picture is, and how it is saved: decoded as a job's is."""
    field, shown, limit = "image_url", path.with_suffix(".bmp"), 50
    picture = sandbox.call(field, probe_picture, field, path, max_megapixels=limit)
    framing = Framing(picture.width, picture.height, picture.width, picture.height)
    sandbox.call(field, save_picture, field, path, shown, framing, max_megapixels=limit)
    with Image.open(shown) as image:
        return picture, image.convert("RGB")


def colour(image: Image.Image, place: float) -> list[float]:
    """The mean around a point so far to the right, a quarter from the top."""
    x, y = round(image.width * place), image.height // 4
    mean: list[float] = np.asarray(image)[y - 4 : y + 5, x - 4 : x + 5].mean((0, 1)).tolist()
    return mean


@pytest.mark.parametrize("name", strangers.PICTURES)
def test_a_stranger_s_picture_is_shown_or_the_error_says_what_came(
    sandbox: Sandbox, tmp_path: Path, name: str
) -> None:
    make, expected = strangers.PICTURES[name]
    path = tmp_path / "photo.jpg"
    path.write_bytes(make())
    if isinstance(expected, str):
        with pytest.raises(JobError) as error:
            taken(sandbox, path)
        assert f"{error.value.code}: {error.value}".startswith(expected)
        return
    picture, image = taken(sandbox, path)
    assert (picture.width, picture.height) == expected.size == image.size
    assert colour(image, 0.25) == pytest.approx(expected.left, abs=expected.near)
    assert colour(image, 0.75) == pytest.approx(expected.right, abs=expected.near)
    assert len(picture.notes) == len(expected.notes)
    assert all(part in note for part, note in zip(expected.notes, picture.notes, strict=True))


@pytest.mark.parametrize("share", [0.02, 0.5])
@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "HEIF", "AVIF", "WEBP"])
def test_a_picture_that_is_cut_off_is_refused_before_it_is_rendered(
    tmp_path: Path, kind: str, share: float
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(strangers.cut(strangers.busy(kind), share))
    with pytest.raises(MediaInvalid, match=r"^image_url: the picture cannot be decoded: "):
        probe_picture("image_url", path, max_megapixels=50)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "HEIF", "AVIF", "WEBP"])
def test_of_a_damaged_picture_a_dry_run_says_what_a_render_does(tmp_path: Path, kind: str) -> None:
    path, whole = tmp_path / "photo.jpg", strangers.busy(kind)
    framing, rng = Framing(640, 480, 640, 480), random.Random(0)
    for _ in range(20):
        content = bytearray(whole)
        for _ in range(rng.choice([1, 50])):
            content[rng.randrange(len(whole) // 10, len(whole) - 20)] = rng.randrange(256)
        path.write_bytes(content)
        told = []
        for look in (
            probe_picture,
            partial(save_picture, framing=framing, target=path.with_name("a.bmp")),
        ):
            try:
                look("image_url", path, max_megapixels=50)
                told.append("")
            except MediaInvalid as error:
                told.append(str(error))
        assert told[0] == told[1]


@pytest.mark.parametrize("name", strangers.VIDEOS)
def test_a_stranger_s_video_is_played_or_the_error_says_what_came(
    sandbox: Sandbox, tmp_path: Path, name: str
) -> None:
    field = "video_url"
    make, expected = strangers.VIDEOS[name]
    path = tmp_path / "video.mp4"
    path.write_bytes(make())
    if isinstance(expected, str):
        with pytest.raises(JobError) as error:
            sandbox.call(field, probe_source, field, path, max_megapixels=9)
        assert f"{error.value.code}: {error.value}".startswith(expected)
        return
    video = sandbox.call(field, probe_source, field, path, max_megapixels=9)
    assert ((video.width, video.height), video.frames) == (expected.size, expected.frames)
    assert video.duration == pytest.approx(expected.seconds, abs=0.003)
    target, framing = tmp_path / "out.mp4", Framing(*expected.size, 64, 48)
    times = [index / 50 for index in range(30)]
    sandbox.call(
        field, save_frames, field, path, target, times=times, framing=framing, fps=50, loop=True
    )
    with av.open(str(target)) as container:
        middles = [frame.to_ndarray()[20:28, 28:36].mean() for frame in container.decode(video=0)]
    assert len(middles) == 30
    assert np.median(middles) == pytest.approx(expected.grey, abs=8)


@pytest.mark.parametrize(
    ("kind", "codec"),
    [("mp4", "libx264"), ("mp4", "libx265"), ("webm", "libvpx-vp9"), ("avi", "mpeg4")],
)
def test_of_a_video_whose_frames_are_damaged_a_warning_tells(
    tmp_path: Path, kind: str, codec: str
) -> None:
    whole, path = strangers.textured(kind, codec), tmp_path / "video.mp4"
    for share, told in [(0.0, False), (0.95, True)]:
        path.write_bytes(strangers.with_spoilt_packets(whole, share))
        notes = probe_source("video_url", path, max_megapixels=9).notes
        assert ["% are damaged" in note for note in notes] == [True] * told


def test_a_damaged_ts_is_played_or_refused(tmp_path: Path) -> None:
    path, whole = tmp_path / "video.ts", strangers.textured("mpegts", "libx264", frames=30)
    for seed in range(25):
        rng, content = random.Random(seed), bytearray(whole)
        for _ in range(len(whole) // rng.choice([50, 200, 1000])):
            content[rng.randrange(len(whole))] = rng.randrange(256)
        path.write_bytes(content)
        with contextlib.suppress(JobError):
            probe_source("video_url", path, max_megapixels=9)


@pytest.mark.parametrize(
    "name", ["a turned HEIC", "a translucent HEIC", "a turned AVIF", "Display P3 in a HEIC"]
)
def test_a_picture_that_nodes_cannot_open_becomes_one_that_they_can(
    tmp_path: Path, name: str
) -> None:
    make, expected = strangers.PICTURES[name]
    assert isinstance(expected, strangers.Shown)
    path = tmp_path / "photo.heic"
    path.write_bytes(make())
    save_for_nodes("files.photo.heic", path, max_megapixels=50)
    with Image.open(path, formats=["PNG"]) as image:
        assert image.size == expected.size
        assert colour(image.convert("RGB"), 0.25) == pytest.approx(expected.left, abs=3)
        assert ("A" in image.getbands()) == ("translucent" in name)


def test_a_picture_that_nodes_open_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(strangers.CUT_JPEG)
    save_for_nodes("files.photo.jpg", path, max_megapixels=50)
    assert path.read_bytes() == strangers.CUT_JPEG
