from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, ImageSequence

from talkinghead.errors import MediaInvalid, UnsupportedCombination
from talkinghead.media.masks import Box, Framing, Masks, Region, save_masks, speaker_masks
from talkinghead.media.picture import MAX_MASKS, count_masks

SQUARE = Framing(400, 400, 400, 400)
NEAREST = Image.Resampling.NEAREST
sources = st.integers(20, 500)
renders = st.integers(8, 24).map(lambda tokens: 16 * tokens)
framings = st.builds(
    Framing, sources, sources, renders, renders, st.tuples(st.floats(0, 1), st.floats(0, 1))
)


@st.composite
def framed_boxes(draw: st.DrawFn) -> tuple[Framing, list[Box]]:
    """A framing, and one to four boxes of whole source pixels, some of them partly outside."""
    framing = draw(framings)
    box = st.tuples(
        st.integers(-20, framing.source_width - 2),
        st.integers(-20, framing.source_height - 2),
        st.integers(2, 520),
        st.integers(2, 520),
    ).map(lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3])))
    return framing, draw(st.lists(box, min_size=1, max_size=4))


def masks_or_none(framing: Framing, regions: Sequence[Region]) -> Masks | None:
    try:
        return speaker_masks(framing, regions)
    except MediaInvalid:
        return None


def source_coordinates(framing: Framing) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """For each rendered pixel the column and the row of the source picture that it shows."""
    rows, columns = np.mgrid[: framing.source_height, : framing.source_width].astype(np.int32)
    shown = [np.asarray(framing.apply(Image.fromarray(i), NEAREST)) for i in (columns, rows)]
    return shown[0], shown[1]


def compared(framing: Framing) -> npt.NDArray[np.bool_]:
    """The rendered pixels of which the source pixel is certain: whose middle is not on an edge.

    Without the corner that may be kept for the background.
    """
    x0, y0, x1, y1 = framing.crop_box
    x = x0 + (np.arange(framing.render_width) + 0.5) * (x1 - x0) / framing.render_width
    y = y0 + (np.arange(framing.render_height) + 0.5) * (y1 - y0) / framing.render_height
    x_certain, y_certain = (np.abs(centre - np.rint(centre)) > 1e-6 for centre in (x, y))
    certain = y_certain[:, None] & x_certain
    certain[:16, :16] = False
    return certain


def read_by_pillow(path: Path) -> Masks:
    """The red channel of the batch that LoadImage of ComfyUI up to 0.19 makes, with its faults."""
    red, bands = [], set()
    with Image.open(path) as image:
        for frame in ImageSequence.Iterator(image):
            upright = ImageOps.exif_transpose(frame)
            bands.add(upright.getbands())
            red.append(np.array(upright.convert("RGB"))[..., 0])
    assert len(bands) == 1, "it fails where some frames have transparency and others do not"
    return np.stack(red)


def read_by_pyav(path: Path) -> Masks:
    """The same of ComfyUI from 0.20, where 1 is white to it."""
    red = []
    with av.open(path) as container:
        for frame in container.decode(video=0):
            # Of other formats it makes floats, of which white is less than 1.
            assert frame.format.name == "rgb24"
            red.append(frame.to_ndarray(format="rgb24")[..., 0])
    return np.stack(red)


READERS = pytest.mark.parametrize("read", [read_by_pillow, read_by_pyav])


@given(framings)
def test_the_crop_has_the_rendered_shape_and_lies_in_the_picture(framing: Framing) -> None:
    x0, y0, x1, y1 = framing.crop_box
    assert 0 <= x0 < x1 <= framing.source_width
    assert 0 <= y0 < y1 <= framing.source_height
    rendered_aspect = framing.render_width / framing.render_height
    assert (x1 - x0) / (y1 - y0) == pytest.approx(rendered_aspect)
    assert (x0, x1) == (0, framing.source_width) or (y0, y1) == (0, framing.source_height)


def test_the_crop_keeps_the_middle_or_the_top() -> None:
    assert Framing(100, 300, 200, 200).crop_box == (0, 100, 100, 200)
    assert Framing(100, 300, 200, 200, (0.5, 0.0)).crop_box == (0, 0, 100, 100)
    assert Framing(300, 100, 200, 200, (0.5, 0.0)).crop_box == (100, 0, 200, 100)


def test_a_picture_is_shown_in_the_rendered_size_at_any_size_of_its_own() -> None:
    framing = Framing(80, 40, 32, 32)
    halves = Image.new("RGB", (160, 80), "red")
    halves.paste("blue", (80, 0, 160, 80))
    shown = framing.apply(halves)
    assert (shown.size, shown.getpixel((2, 16)), shown.getpixel((29, 16))) == (
        (32, 32),
        (255, 0, 0),
        (0, 0, 255),
    )


@given(framed_boxes())
def test_masks_are_disjoint_and_cover_the_frame(framed: tuple[Framing, list[Box]]) -> None:
    framing, boxes = framed
    masks = masks_or_none(framing, boxes)
    if masks is not None:
        assert masks.shape == (len(boxes) + 1, framing.render_height, framing.render_width)
        assert (masks.sum(0, dtype=int) == 255).all()
        assert set(np.unique(masks)) <= {0, 255}


@given(framed_boxes())
def test_a_mask_shows_the_pixels_of_the_box_that_no_earlier_speaker_has(
    framed: tuple[Framing, list[Box]],
) -> None:
    framing, boxes = framed
    masks = masks_or_none(framing, boxes)
    if masks is None:
        return
    column, row = source_coordinates(framing)
    free = compared(framing)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=False):
        inside = (x0 <= column) & (column < x1) & (y0 <= row) & (row < y1)
        assert (mask[free] == 255 * inside[free]).all()
        free &= ~inside


@given(framed_boxes())
def test_a_mask_image_marks_what_the_same_box_marks(framed: tuple[Framing, list[Box]]) -> None:
    framing, boxes = framed
    images = []
    for box in boxes:
        image = Image.new("L", (framing.source_width, framing.source_height))
        x0, y0, x1, y1 = (round(edge) for edge in box)
        image.paste(255, (x0, y0, x1, y1))
        images.append(image)
    of_boxes, of_images = masks_or_none(framing, boxes), masks_or_none(framing, images)
    if of_boxes is not None and of_images is not None:
        different = (of_boxes != of_images).any(0)
        assert not (different & compared(framing)).any()


@given(framings, st.integers(1, 4))
def test_without_regions_the_speakers_stand_in_strips_from_left_to_right(
    framing: Framing, count: int
) -> None:
    masks = speaker_masks(framing, [None] * count)
    middles = [np.argwhere(mask)[:, 1].mean() for mask in masks[:-1]]
    assert middles == sorted(middles)
    strip = framing.render_width / count
    for index, mask in enumerate(masks[:-1]):
        rows, columns = np.argwhere(mask).T
        assert columns.min() == pytest.approx((index + 0.1) * strip, abs=1)
        assert columns.max() + 1 == pytest.approx((index + 0.9) * strip, abs=1)
        assert rows.min() == pytest.approx(0.1 * framing.render_height, abs=1)
        assert rows.max() + 1 == pytest.approx(0.9 * framing.render_height, abs=1)


def test_a_box_within_0_to_1_is_a_fraction_of_the_source_picture() -> None:
    framing = Framing(1000, 500, 256, 256)
    fractions = speaker_masks(framing, [(0.3, 0.2, 0.5, 0.8)])
    assert np.array_equal(fractions, speaker_masks(framing, [(300, 100, 500, 400)]))


def test_a_mask_of_another_size_is_fitted_to_the_picture() -> None:
    small = Image.new("L", (40, 40))
    small.paste(128, (10, 0, 20, 40))
    assert np.array_equal(
        speaker_masks(SQUARE, [small]), speaker_masks(SQUARE, [(100, 0, 200, 400)])
    )


def test_the_model_always_finds_a_background() -> None:
    masks = speaker_masks(SQUARE, [(0, 0, 0.5, 1), (0.5, 0, 1, 1)])
    assert masks[2][::16, ::16].any()
    assert (masks[2] == 255).sum() == 16 * 16
    assert (masks.sum(0, dtype=int) == 255).all()


def test_regions_for_some_speakers_only_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedCombination, match=r"speakers\.0 and speakers\.2 have neither"):
        speaker_masks(SQUARE, [None, (0, 0, 1, 1), None])
    with pytest.raises(UnsupportedCombination, match=r"speakers\.1 has neither box nor mask_url"):
        speaker_masks(SQUARE, [(0, 0, 1, 1), None])


def test_a_box_outside_of_the_crop_is_refused_with_what_is_shown() -> None:
    shown = r"speakers\.1\.box: lies outside of what is shown, which is x 100 to 300 and y 0 to 200"
    with pytest.raises(MediaInvalid, match=shown):
        speaker_masks(Framing(400, 200, 256, 256), [(150, 0, 200, 200), (0, 0, 90, 200)])


def test_a_box_outside_of_the_picture_is_told_from_one_that_the_crop_leaves_out() -> None:
    outside = r"speakers\.1\.box: lies outside of the picture, which has 1280x720 pixels"
    for box in (2000, 0, 2100, 500), (0, 720, 90, 900):
        with pytest.raises(MediaInvalid, match=outside):
            speaker_masks(Framing(1280, 720, 256, 256), [(600, 0, 700, 700), box])


def test_a_speaker_hidden_behind_an_earlier_one_is_refused() -> None:
    with pytest.raises(MediaInvalid, match=r"speakers\.1\.box: lies wholly behind"):
        speaker_masks(SQUARE, [(0, 0, 200, 200), (50, 50, 100, 100)])


def test_a_region_smaller_than_a_token_is_refused() -> None:
    with pytest.raises(MediaInvalid, match=r"speakers\.0\.box: too small to be seen, allowed: 16x"):
        speaker_masks(SQUARE, [(1, 1, 9, 9)])


def test_a_dark_mask_is_refused() -> None:
    with pytest.raises(MediaInvalid, match=r"speakers\.0\.mask_url: the mask is dark all over"):
        speaker_masks(SQUARE, [Image.new("L", (400, 400), 127)])


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(MediaInvalid, match=r"speakers\.0\.mask_url: the mask has 400x300 pixels"):
        speaker_masks(SQUARE, [Image.new("L", (400, 300), 255)])


@READERS
@settings(max_examples=40)
@given(framed=framed_boxes())
def test_masks_survive_the_file_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    read: Callable[[Path], Masks],
    framed: tuple[Framing, list[Box]],
) -> None:
    masks = masks_or_none(*framed)
    if masks is None:
        return
    path = tmp_path_factory.mktemp("masks") / "masks.png"
    save_masks(masks, path)
    assert np.array_equal(read(path), masks)
    assert count_masks("masks.png", path, max_megapixels=1) == len(masks)


@READERS
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_file_of_strips_has_a_frame_for_each_speaker_and_the_background(
    tmp_path: Path, count: int, read: Callable[[Path], Masks]
) -> None:
    masks = speaker_masks(Framing(640, 360, 864, 480), [None] * count)
    save_masks(masks, tmp_path / "masks.png")
    assert np.array_equal(read(tmp_path / "masks.png"), masks)


def test_masks_of_which_pillow_would_lose_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the same"):
        save_masks(np.zeros((2, 16, 16), np.uint8), tmp_path / "masks.png")


@pytest.mark.parametrize(
    ("suffix", "mode", "how", "fault"),
    [
        ("gif", "1", {"duration": 100}, None),
        ("gif", "1", {"duration": [100, 0, 0]}, "or some have none"),
        ("gif", "RGB", {"duration": 100}, None),
        ("gif", "1", {}, "have no delay, or some have none, and ComfyUI 0.20 and later lose those"),
        ("gif", "1", {"duration": 0}, "have no delay"),  # Pillow then writes none
        ("webp", "RGB", {"lossless": True}, None),
        ("png", "RGB", {}, None),
        ("png", "L", {}, None),
        ("png", "RGB", {"duration": 60_000}, None),
        ("png", "RGB", {"duration": 65_000}, "a frame stays for longer than 60 s"),
        ("png", "RGB", {"default_image": True}, "its first picture is not of the animation"),
        ("png", "1", {}, "later misread: save it as RGB"),
        ("png", "P", {}, "later misread: save it as RGB"),
        ("tif", "L", {}, "it has 3 pages, and ComfyUI 0.20 and later load one of them"),
    ],
)
def test_a_file_that_not_all_comfyuis_read_alike_is_refused(
    tmp_path: Path, suffix: str, mode: str, how: dict[str, Any], fault: str | None
) -> None:
    masks = speaker_masks(SQUARE, [None, None])
    first, *others = [Image.fromarray(mask).convert(mode) for mask in masks]
    path = tmp_path / f"m.{suffix}"
    first.save(path, save_all=True, append_images=others, **how)
    if fault is None:
        assert count_masks("m", path, max_megapixels=1) == 3
        return
    with pytest.raises(MediaInvalid, match=f"^m: .*{fault}"):
        count_masks("m", path, max_megapixels=1)


def test_the_second_view_of_a_jpeg_is_no_mask(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (64, 64), colour) for colour in ("black", "white")]
    pictures[0].save(tmp_path / "m.jpg", "MPO", save_all=True, append_images=pictures[1:])
    assert count_masks("m", tmp_path / "m.jpg", max_megapixels=1) == 1


@pytest.mark.parametrize("suffix", ["gif", "png", "tif", "jpg", "webp"])
def test_a_still_picture_is_one_mask(tmp_path: Path, suffix: str) -> None:
    Image.new("1", (64, 64)).convert("L").save(tmp_path / f"m.{suffix}")
    assert count_masks("m", tmp_path / f"m.{suffix}", max_megapixels=1) == 1


def test_a_film_is_not_read_to_its_end(tmp_path: Path) -> None:
    frames = [Image.new("L", (64, 64), shade) for shade in range(0, 250, 10)]
    frames[0].save(tmp_path / "m.gif", save_all=True, append_images=frames[1:], duration=40)
    assert count_masks("m", tmp_path / "m.gif", max_megapixels=1) == MAX_MASKS
