"""The render that is measured in each configuration: always the same windows of the same people."""

from __future__ import annotations

import itertools
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from talkinghead.plan.frames import MODEL_FPS, WINDOW_FRAMES
from talkinghead.plan.request import RenderRequest, parse_request
from talkinghead.plan.talk_models import MODELS
from talkinghead.settings import PROJECT_DIR

EXAMPLES = PROJECT_DIR / "examples"
MODE = "infinitetalk"
PICTURE = "people.png"
SEED = 42
PROMPT = "a person talks to the camera"


@dataclass(frozen=True)
class Standard:
    """Size in pixels, windows, speakers and steps of each; no steps: as many as a request gets."""

    width: int
    height: int
    windows: int = 1
    speakers: int = 1
    steps: int | None = None

    @property
    def frames(self) -> int:
        """So many that the last window is whole."""
        return WINDOW_FRAMES + (self.windows - 1) * MODELS[MODE].new_frames()

    @property
    def seconds(self) -> float:
        """Of video."""
        return self.frames / MODEL_FPS

    def __str__(self) -> str:
        windows = "a window" if self.windows == 1 else f"{self.windows} windows"
        people = "one speaker" if self.speakers == 1 else f"{self.speakers} speakers"
        return f"{windows}, {self.frames} frames of {self.width}x{self.height}, {people}"

    def request(self, files: Mapping[str, Any], fields: Mapping[str, Any]) -> RenderRequest:
        """What a job would ask for, with a configuration's own fields.

        A picture that is defective, or too large for memory, is a result here, and not mended.
        """
        asked = {
            **files,
            **{"prompt": PROMPT, "seed": SEED, "max_frame": self.frames, "mode": MODE},
            **{"check_picture": "warn", "retry_out_of_memory": False},
            **{"long": False, "bundle": False, "embed_workflow": False},
            **({"steps": self.steps} if self.steps else {}),
            **fields,
        }
        # Not as fields: the tiny models are tried at sizes that no caller may ask for.
        size = {"width": self.width, "height": self.height, "size_is_named": True}
        return parse_request(asked, local_files=True).model_copy(update=size)


def write_files(standard: Standard, folder: Path) -> dict[str, Any]:
    """The example portrait for each speaker, side by side, and the example voice, from another word
    on for each: as the fields of a request that name them."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / PICTURE
    _people(standard).save(picture)
    voices = []
    for number in range(standard.speakers):
        path = folder / f"voice_{number + 1}.wav"
        _write_voice(path, standard.seconds, begin=number)
        voices.append(path.as_uri())
    if standard.speakers == 1:
        return {"image_url": picture.as_uri(), "wav_url": voices[0]}
    share = 1 / standard.speakers
    people = [
        {"audio_url": voice, "box": [number * share, 0.0, (number + 1) * share, 1.0]}
        for number, voice in enumerate(voices)
    ]
    return {"image_url": picture.as_uri(), "speakers": people, "audio_mode": "parallel"}


def _people(standard: Standard) -> Image.Image:
    """Of the very size that is rendered: nothing is cut off."""
    whole = Image.new("RGB", (standard.width, standard.height))
    edges = [round(standard.width * n / standard.speakers) for n in range(standard.speakers + 1)]
    with Image.open(EXAMPLES / "portrait.jpg") as portrait:
        for left, right in itertools.pairwise(edges):
            size = right - left, standard.height
            whole.paste(ImageOps.fit(portrait.convert("RGB"), size), (left, 0))
    return whole


def _write_voice(path: Path, seconds: float, *, begin: int) -> None:
    """The example voice again and again, from its second `begin` on, and one second too long."""
    with wave.open(str(EXAMPLES / "voice.wav")) as file:
        params, samples = file.getparams(), file.readframes(file.getnframes())
    each = params.framerate * params.sampwidth * params.nchannels
    needed = round((seconds + 1) * params.framerate) * params.sampwidth * params.nchannels
    turned = samples[begin * each :] + samples[: begin * each]
    with wave.open(str(path), "wb") as file:
        file.setparams(params)
        file.writeframes((turned * (needed // len(turned) + 1))[:needed])
