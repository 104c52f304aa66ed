"""What it costs to look at a video: `python -m benchmarks.look`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from talkinghead.media.looking import frames_of, glance, luma_of
from talkinghead.media.masks import Framing
from talkinghead.media.quality import Quality
from talkinghead.media.watching import Watch

sys.path.insert(0, str(Path(__file__).parents[1] / "custom_nodes"))

from talkinghead_draft.draft import picture_draft
from talkinghead_draft.face import Picture
from talkinghead_draft.mp4 import write_mp4
from talkinghead_draft.voice import Motion

EXAMPLE = Path(__file__).parents[1] / "examples" / "portrait.jpg"
FPS, FRAMES, REPEATS = Fraction(25), 225, 3
WINDOWS = (81, 72, 72)
SIZES = ((480, 854), (854, 480), (720, 1280))


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    for width, height in SIZES:
        for name, deviation in (("a draft", 0.0), ("with grain", 12.0)):
            decoding, all_of_it = measure(width, height, deviation)
            print(f"{width}x{height}, {name}: {all_of_it:.0f} ms a second, {decoding:.0f} decoding")


def measure(width: int, height: int, deviation: float) -> tuple[float, float]:
    """Milliseconds of the processor for a second of video: to decode it, and to look at it."""
    portrait = Image.open(EXAMPLE).convert("RGB")
    picture = Framing(*portrait.size, width, height).apply(portrait)
    openness = 0.5 + 0.5 * np.sin(np.arange(FRAMES) / 2)
    motion = Motion(openness, np.zeros(FRAMES))
    frames = picture_draft(np.asarray(picture), None, [motion], FPS, seed=7)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        write_mp4(path, grainy(frames, deviation), FPS, np.zeros((1, 9 * 22050), np.float32), 22050)
        return spent(lambda: decode(path)), spent(lambda: look(path, picture))


def grainy(frames: Iterator[Picture], deviation: float) -> Iterator[Picture]:
    random = np.random.default_rng(1)
    for frame in frames:
        grains = random.standard_normal((*frame.shape[:2], 1), np.float32)
        yield np.clip(frame + np.float32(deviation) * grains, 0, 255).astype(np.uint8)


def spent(work: Callable[[], None]) -> float:
    """The least of some runs, in milliseconds of the processor for a second of video."""
    seconds = []
    for _ in range(REPEATS):
        begun = time.process_time()
        work()
        seconds.append(time.process_time() - begun)
    return min(seconds) * 1000 / float(FRAMES / FPS)


def decode(path: Path) -> None:
    for _ in frames_of(path):
        """A frame."""


def look(path: Path, picture: Image.Image) -> None:
    source, shown, watch = glance(luma_of(picture)), frames_of(path), Watch(float(FPS), Quality())
    for number, frames in enumerate(WINDOWS, 1):
        for _ in range(frames):
            watch.see(next(shown), lambda _: source)
        watch.keep(watch.judged(number, None, is_last=number == len(WINDOWS))[0])


if __name__ == "__main__":
    main()
