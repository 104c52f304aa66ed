"""A prompt a window: on the real node packs each window of a chain hears its own text."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from talkinghead.comfy.studio import Studio
from talkinghead.plan.request import parse_request
from talkinghead.render.job import Job
from talkinghead.render.run import render
from tests.conftest import write_tone
from tests.real.test_real_nodes import HEIGHT, WIDTH, missing, tiny_studio

pytestmark = pytest.mark.skipif(bool(missing), reason=f"not there: {', '.join(missing)}")

SECONDS = 9.0  # 225 frames: windows from 0, 81 and 153 on


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with tiny_studio(tmp_path_factory.mktemp("prompts")) as studio:
        yield studio


def rendered(
    studio: Studio, folder: Path, portrait: Path, prompts: list[dict[str, Any]]
) -> npt.NDArray[np.uint8]:
    """The frames of a chain of three windows."""
    voice = write_tone(folder / "a.wav", seconds=SECONDS)
    urls = {"image_url": portrait.as_uri(), "wav_url": voice.as_uri()}
    fields = urls | {"prompts": prompts, "prompt": "a woman speaks", "seed": 7}
    request = parse_request(fields, local_files=True)
    small = request.model_copy(update={"width": WIDTH, "height": HEIGHT, "size_is_named": True})
    result = render(Job("prompts", fields), small, studio)
    assert result["generation_params"]["way"] == "chain"
    (folder / "out.mp4").write_bytes(base64.b64decode(result["video"].partition(",")[2]))
    with av.open(str(folder / "out.mp4")) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def test_a_window_hears_the_text_that_holds_at_its_beginning(
    studio: Studio, tmp_path: Path, portrait: Path
) -> None:
    later = {"at": 6, "text": "fireworks over the sea at night"}
    one = rendered(studio, tmp_path, portrait, [{"at": 3, "text": "she laughs"}, later])
    other = rendered(studio, tmp_path, portrait, [{"at": 3, "text": "she is angry"}, later])
    assert len(one) == len(other) == SECONDS * 25
    assert np.array_equal(one[:81], other[:81]), "the first text is the same"
    assert not np.array_equal(one[81:153], other[81:153]), "the second is not"
