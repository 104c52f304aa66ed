"""Videos that are broken in ways a person sees at once, and others that only look unusual.

All are made of drafts and of a drawn scene: 225 frames, three windows. `python -m
tests.broken_videos` prints what the worker's eyes make of each.
"""

from __future__ import annotations

import functools
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import av
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from talkinghead.media.looking import frames_of, glance, luma_of
from talkinghead.media.masks import Framing
from talkinghead.media.mux import yuv_frame
from talkinghead.media.quality import Finding, Quality
from talkinghead.media.watching import Watch

sys.path.insert(0, str(Path(__file__).parents[1] / "custom_nodes"))

from talkinghead_draft.draft import picture_draft
from talkinghead_draft.voice import Motion

Rgb: TypeAlias = npt.NDArray[np.uint8]  # [frames, height, width, 3]
Pixels: TypeAlias = npt.NDArray[Any]  # the same, exact, and perhaps beyond white and black
Change: TypeAlias = Callable[[Pixels], Pixels]

PORTRAIT = Path(__file__).parents[1] / "examples" / "portrait.jpg"
FPS, SEAMS = 25, (81, 153)
FRAMES = 225
CRF = {"crf": "19", "preset": "veryfast"}


@dataclass(frozen=True)
class Clip:
    """A picture, and the frames that are made from it."""

    picture: Rgb
    frames: Rgb


def looked_at(clip: Clip) -> tuple[list[Finding], Quality]:
    """What is found in the clip once it is encoded, window by window, and its figures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        encode(clip.frames, path)
        source = glance(luma_of(Image.fromarray(clip.picture[0])))
        shown, found, watch = frames_of(path), list[Finding](), Watch(FPS, Quality())
        starts = [0, *range(SEAMS[0], len(clip.frames), SEAMS[1] - SEAMS[0])]
        for number, start in enumerate(starts, 1):
            stop = starts[number] if number < len(starts) else len(clip.frames)
            for frame in itertools.islice(shown, stop - start):
                watch.see(frame, lambda _: source)
            sight, _ = watch.judged(number, None, is_last=number == len(starts))
            watch.keep(sight)
            found += sight.findings
    return found, watch.quality


def encode(frames: Rgb, path: Path) -> None:
    """Write the frames as ComfyUI does."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options=CRF)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for number, frame in enumerate(frames):
            drawn = yuv_frame(Image.fromarray(frame))
            drawn.pts, drawn.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(drawn))
        container.mux(stream.encode(None))


# ---- Scenes


@functools.cache
def scenes() -> dict[str, Clip]:
    """Drafts of a portrait, of two people and of a cartoon, and a drawn scene without a face."""
    portrait = Image.open(PORTRAIT).convert("RGB")
    alone = framed(portrait, 144, 256)
    half = framed(portrait, 128, 144)
    pair = np.concatenate([half, half[:, ::-1]], axis=1)
    cartoon = framed(
        portrait.filter(ImageFilter.ModeFilter(9)).quantize(12).convert("RGB"), 192, 192
    )
    return {
        "portrait": draft(alone, 1),
        "pair": draft(pair, 2),
        "cartoon": draft(cartoon, 1),
        "drawn": Clip(*drawn()),
    }


def framed(picture: Image.Image, width: int, height: int) -> Rgb:
    return np.asarray(Framing(*picture.size, width, height).apply(picture))


def draft(picture: Rgb, speakers: int) -> Clip:
    """The picture, speaking without a pause."""
    times = np.arange(FRAMES) / FPS
    motions = []
    for speaker in range(speakers):
        openness = 0.5 + 0.5 * np.sin(2 * np.pi * (2.3 + speaker) * times)
        motions.append(Motion(openness, np.zeros(FRAMES)))
    frames = picture_draft(picture, None, motions, Fraction(FPS), seed=7)
    return Clip(picture[None], np.stack(list(frames)))


def drawn() -> tuple[Rgb, Rgb]:
    """A ball in front of a wall, breathing."""
    y, x = np.mgrid[:192, :144].astype(np.float64)
    wall = 90 + 0.5 * y + 30 * (((x // 12) + (y // 12)) % 2)
    frames = []
    for number in range(FRAMES):
        radius = 40 + 4 * np.sin(number / 7) * (number > 0)
        ball = np.clip(radius - np.hypot(x - 72, y - 100), 0, 1)
        grey = wall * (1 - ball) + (200 - 0.6 * y) * ball
        frames.append(np.stack([grey, grey * 0.9, grey * 0.7], axis=-1))
    video = as_bytes(np.stack(frames))
    return video[:1], video


def as_bytes(pixels: Pixels) -> Rgb:
    """One frame after another: copies of the whole would cost more than all the rest."""
    frames = np.empty(pixels.shape, np.uint8)
    for frame, exact in zip(frames, pixels, strict=True):
        frame[:] = np.clip(np.rint(exact), 0, 255)
    return frames


# ---- What is wrong


def noise(shape: Sequence[int], *, cell: int = 1, every: int = 1) -> Rgb:
    """Grey noise: in cells of so many pixels, another one each so many frames."""
    frames, height, width, _ = shape
    random = np.random.default_rng(3)
    small = random.integers(0, 256, (-(-frames // every), -(-height // cell), -(-width // cell)))
    large = small.astype(np.uint8).repeat(every, 0).repeat(cell, 1).repeat(cell, 2)
    return np.stack([large[:frames, :height, :width]] * 3, axis=-1)


def put(what: Callable[[Pixels], Pixels | int], start: int, stop: int = FRAMES) -> Change:
    """The frames from `start` to `stop` replaced."""

    def change(frames: Pixels) -> Pixels:
        changed = frames.copy()
        changed[start:stop] = what(frames[start:stop])
        return changed

    return change


def add(levels: float, *starts: int) -> Change:
    """So many levels brighter from each start on."""

    def change(frames: Pixels) -> Pixels:
        times = np.arange(len(frames))
        steps = sum((times >= start) * levels for start in starts)
        return frames + np.float32(steps).reshape(-1, 1, 1, 1)

    return change


def frozen(start: int, stop: int = FRAMES) -> Change:
    return put(lambda frames: frames[:1].repeat(len(frames), 0), start, stop)


def fading_to_noise(frames: Pixels) -> Pixels:
    share = np.float32(np.clip((np.arange(len(frames)) - 40) / 100, 0, 1)).reshape(-1, 1, 1, 1)
    return frames * (1 - share) + noise(frames.shape) * share


def grainy(deviation: float) -> Change:
    def change(frames: Pixels) -> Pixels:
        random = np.random.default_rng(5)
        grains = random.standard_normal((*frames.shape[:3], 1), np.float32)
        return np.asarray(frames + np.float32(deviation) * grains)

    return change


def mirrored(frames: Pixels) -> Pixels:
    return frames[:, :, ::-1]


def black(frames: Pixels) -> int:
    return 0


def pixels(frames: Pixels) -> Rgb:
    return noise(frames.shape)


def latents(frames: Pixels) -> Rgb:
    return noise(frames.shape, cell=8, every=4)


def still_noise(frames: Pixels) -> Rgb:
    return noise(frames.shape, every=FRAMES)


def inverted(frames: Pixels) -> Pixels:
    return np.asarray(255 - frames)


def gradient(frames: Pixels) -> Pixels:
    width = frames.shape[2]
    return np.broadcast_to(np.linspace(0, 255, width)[None, None, :, None], frames.shape)


def shuffled(frames: Pixels) -> Pixels:
    """In blocks of 16 pixels."""
    count, height, width, _ = frames.shape
    blocks = frames.reshape(count, height // 16, 16, width // 16, 16, 3).swapaxes(2, 3)
    mixed = blocks.reshape(count, -1, 16, 16, 3)
    mixed = mixed[:, np.random.default_rng(6).permutation(mixed.shape[1])]
    return mixed.reshape(blocks.shape).swapaxes(2, 3).reshape(frames.shape)


# Name -> what is done to the frames, the kind and the window that have to be told.
BROKEN: dict[str, tuple[Change, str, int]] = {
    "black from the first frame on": (put(black, 0), "black", 1),
    "only the first frame is right": (put(black, 1), "black", 1),
    "black from the second window on": (put(black, 81), "black", 2),
    "the second window alone is black": (put(black, 81, 153), "black", 2),
    "the last window is black": (put(black, 153), "black", 3),
    "half of a window is black": (put(black, 117, 153), "black", 2),
    "nearly black": (put(lambda frames: frames // 64, 1), "black", 1),
    "one black frame": (put(black, 100, 101), "black frames", 2),
    "black frames now and then": (put(black, 90, 94), "black frames", 2),
    "grey": (put(lambda frames: 128, 0), "flat", 1),
    "white from the second frame on": (put(lambda frames: 255, 1), "flat", 1),
    "the second window is of one colour": (put(lambda frames: 60, 81, 153), "flat", 2),
    "pixel noise": (put(pixels, 0), "noise", 1),
    "pixel noise from the second frame on": (put(pixels, 1), "noise", 1),
    "latent noise": (put(latents, 0), "noise", 1),
    "latent noise from the second window on": (put(latents, 81), "noise", 2),
    "fading to noise": (fading_to_noise, "noisy frames", 2),
    "a few frames of noise": (put(pixels, 90, 100), "noisy frames", 2),
    "frozen": (frozen(0), "frozen", 1),
    "half of a window is frozen": (frozen(81, 122), "frozen", 2),
    "another picture than the source": (mirrored, "another picture", 1),
    "inverted from the second frame on": (put(inverted, 1), "another picture", 1),
    "a gradient from the second frame on": (put(gradient, 1), "another picture", 1),
    "its blocks are shuffled from the second window on": (put(shuffled, 81), "another picture", 2),
    "noise that stands still": (put(still_noise, 81), "another picture", 2),
    "the brightness jumps by 5 after the first frame": (add(5, 1), "jump", 1),
    "the brightness jumps by 5 at each seam": (add(5, *SEAMS), "jump", 2),
    "the brightness falls by 12 at a seam": (add(-12, SEAMS[1]), "jump", 3),
}


# ---- What is not


def as_it_is(frames: Pixels) -> Pixels:
    return frames


def light(share: float) -> Change:
    return lambda frames: frames * np.float32(share)


def motion(share: float) -> Change:
    return lambda frames: frames[:1] + np.float32(share) * (frames - frames[:1])


def whitened(frames: Pixels) -> Pixels:
    return frames * 0.5 + 127


def with_light(levels: Callable[[Pixels], Pixels]) -> Change:
    """The light changes with the time, in seconds."""
    return lambda frames: (
        frames * np.float32(levels(np.arange(len(frames)) / FPS)).reshape(-1, 1, 1, 1)
    )


def zooming(frames: Pixels) -> Rgb:
    """Into the middle, by a quarter in all."""
    frames = as_bytes(frames)
    height, width = frames.shape[1:3]
    shown = []
    for number, frame in enumerate(frames):
        x, y = (round(size * 0.1 * number / len(frames)) for size in (width, height))
        part = Image.fromarray(frame).resize((width, height), box=(x, y, width - x, height - y))
        shown.append(np.asarray(part))
    return np.stack(shown)


def panning(frames: Pixels) -> Pixels:
    """To the right, by a sixth of the width."""
    shifts = np.linspace(0, frames.shape[2] / 6, len(frames)).astype(int)
    return np.stack(
        [np.roll(frame, -shift, axis=1) for frame, shift in zip(frames, shifts, strict=True)]
    )


def letterboxed(frames: Pixels) -> Pixels:
    changed, bar = frames.copy(), frames.shape[1] // 6
    changed[:, :bar] = changed[:, -bar:] = 0
    return changed


def coloured(frames: Pixels) -> Pixels:
    return frames + np.array([6, -6, 6], np.float32)


# Name -> what is done to the frames, and whether the source is so, too.
HARMLESS: dict[str, tuple[Change, bool]] = {
    "as it is": (as_it_is, True),
    "a dark scene": (light(0.12), True),
    "a scene that is nearly black": (light(0.05), True),
    "a calm face": (motion(0.2), True),
    "a face that is nearly still": (motion(0.08), True),
    "fog": (whitened, True),
    "the camera zooms": (zooming, False),
    "the camera pans": (panning, False),
    "a candle flickers": (
        with_light(lambda t: 1 + 0.04 * np.sin(4 * np.pi * t) * np.sin(1.7 * t)),
        False,
    ),
    "it grows dark outside": (with_light(lambda t: 1 - 0.3 * t / t[-1]), False),
    "a lamp is switched on": (with_light(lambda t: 1 + 0.15 * (t > 1.6)), False),
    "grain": (grainy(12), True),
    "other colours": (coloured, False),
    "fading in": (with_light(lambda t: np.clip(t, 0, 1)), False),
    "letterboxed": (letterboxed, True),
}


def broken(name: str, scene: str = "portrait") -> Clip:
    clip = scenes()[scene]
    return Clip(clip.picture, as_bytes(BROKEN[name][0](clip.frames.astype(np.float32))))


def harmless(name: str, scene: str) -> Clip:
    clip, (change, of_source) = scenes()[scene], HARMLESS[name]
    frames = as_bytes(change(clip.frames.astype(np.float32)))
    return Clip(frames[:1] if of_source else clip.picture, frames)


def _all() -> Iterator[tuple[str, Clip]]:
    for scene in scenes():
        for name in HARMLESS:
            yield f"{scene}: {name}", harmless(name, scene)
    for name in BROKEN:
        yield name, broken(name)


if __name__ == "__main__":
    for told, clip in _all():
        found, quality = looked_at(clip)
        figures = quality.payload()
        figures.pop("worst_window")
        print(f"{told}\n    {[str(each.kind) for each in found]}\n    {figures}")
