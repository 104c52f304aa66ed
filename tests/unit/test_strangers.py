"""What phones, browsers and tools make is taken, and of the rest the error says what came."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from talkinghead.errors import JobError
from talkinghead.media.masks import Framing
from talkinghead.media.picture import Picture, probe_picture, save_picture
from tests import strangers


def taken(path: Path) -> tuple[Picture, Image.Image]:
    """What the picture is, and how it is saved."""
    picture = probe_picture("image_url", path, max_megapixels=50)
    framing = Framing(picture.width, picture.height, picture.width, picture.height)
    save_picture("image_url", path, path.with_suffix(".bmp"), framing, max_megapixels=50)
    with Image.open(path.with_suffix(".bmp")) as image:
        return picture, image.convert("RGB")


def colour(image: Image.Image, place: float) -> list[float]:
    """The mean around a point so far to the right, a quarter from the top."""
    x, y = round(image.width * place), image.height // 4
    mean: list[float] = np.asarray(image)[y - 4 : y + 5, x - 4 : x + 5].mean((0, 1)).tolist()
    return mean


@pytest.mark.parametrize("name", strangers.PICTURES)
def test_a_stranger_s_picture_is_shown_or_the_error_says_what_came(
    tmp_path: Path, name: str
) -> None:
    make, expected = strangers.PICTURES[name]
    path = tmp_path / "photo.jpg"
    path.write_bytes(make())
    if isinstance(expected, str):
        with pytest.raises(JobError) as error:
            taken(path)
        assert f"{error.value.code}: {error.value}".startswith(expected)
        return
    picture, image = taken(path)
    assert (picture.width, picture.height) == expected.size == image.size
    assert colour(image, 0.25) == pytest.approx(expected.left, abs=expected.near)
    assert colour(image, 0.75) == pytest.approx(expected.right, abs=expected.near)
    assert len(picture.notes) == len(expected.notes)
    assert all(part in note for part, note in zip(expected.notes, picture.notes, strict=True))
