"""Good videos whose picture looks like noise, or goes black: foliage, water, crowds, lights.

Each is 100 frames, two windows, of 192x336. `python -m tests.textures` prints what the worker's
eyes make of each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from tests.broken_videos import PORTRAIT, Clip, Rgb, as_bytes, framed, looked_at

Grey: TypeAlias = npt.NDArray[np.float32]  # [height, width], levels
Field: TypeAlias = npt.NDArray[Any]

WIDTH, HEIGHT, FRAMES = 192, 336, 100
MARGIN = 64
Y, X = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)


def random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def tinted(frames: Iterator[Field], tint: tuple[float, float, float] = (1, 1, 1)) -> Rgb:
    """Grey frames in a colour."""
    shades = np.array(tint, np.float32)
    return np.stack([as_bytes((frame[..., None] * shades)[None])[0] for frame in frames])


def clip_of(frames: Rgb, picture: Rgb | None = None) -> Clip:
    """The frames, made from a picture, or from the first of them."""
    return Clip(frames[:1] if picture is None else picture[None], frames)


@functools.cache
def portrait() -> Rgb:
    return framed(Image.open(PORTRAIT).convert("RGB"), WIDTH, HEIGHT)


# ---- Textures, larger than the frame


def ground(seed: int, sharpness: float, side: int = 0) -> Grey:
    """Gravel: grains of about so many pixels, in another shade each."""
    shape = (HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN + side)
    grains = cv2.GaussianBlur(random(seed).standard_normal(shape), (0, 0), sharpness)
    return np.asarray(110 + 45 * grains / grains.std(), np.float32)


def leaves(seed: int, size: float, count: int) -> Grey:
    """Leaves over one another, in light and in shadow."""
    picked, canvas = random(seed), np.full((HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN), 30, np.uint8)
    for _ in range(count):
        at = (int(picked.integers(canvas.shape[1])), int(picked.integers(canvas.shape[0])))
        axes = (max(1, int(size * picked.uniform(0.6, 1.4))), max(1, int(size * 0.4)))
        shade = int(np.clip(picked.normal(105, 45), 10, 250))
        cv2.ellipse(canvas, at, axes, float(picked.uniform(0, 180)), 0, 360, shade, -1)
    return canvas.astype(np.float32)


def moved(texture: Grey, dx: Field | float, dy: Field | float) -> Grey:
    """The part of the texture that is in the frame, if it moves so many pixels."""
    x, y = (np.asarray(each, np.float32) for each in (X + MARGIN + dx, Y + MARGIN + dy))
    shown = cv2.remap(texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(shown, np.float32)


def in_the_wind(texture: Grey, reach: float, fps: float = 25) -> Iterator[Grey]:
    """Waves of wind go through it, and smaller ones within them."""
    for number in range(FRAMES):
        t = number / fps
        big = np.sin(X / 40 + Y / 90 - 3.2 * t) + 0.6 * np.sin(Y / 25 + 5.1 * t)
        small = np.sin(X / 7 + 9 * t) * np.cos(Y / 9 - 11 * t)
        yield moved(texture, reach * (big + 0.5 * small), 0.5 * reach * (big - small))


# ---- What fills the picture


def foliage() -> Clip:
    return clip_of(tinted(in_the_wind(leaves(1, 9, 9000), 6), (0.7, 1, 0.5)))


def fine_foliage() -> Clip:
    return clip_of(tinted(in_the_wind(leaves(2, 4, 40000), 4), (0.7, 1, 0.5)))


def foliage_in_a_storm() -> Clip:
    return clip_of(tinted(in_the_wind(leaves(3, 6, 20000), 16, fps=12), (0.7, 1, 0.5)))


def grass() -> Clip:
    texture = cv2.GaussianBlur(ground(4, 0.8), (1, 0), sigmaX=0.1, sigmaY=4)
    texture = 110 + 45 * (texture - texture.mean()) / texture.std()
    return clip_of(tinted(in_the_wind(texture, 5), (0.6, 1, 0.4)))


def gravel_from_a_car() -> Clip:
    texture = ground(5, 1.0)
    return clip_of(tinted(moved(texture, 0, -9.0 * n) for n in range(FRAMES)))


def gravel_from_a_fast_car() -> Clip:
    texture = ground(6, 0.7)
    return clip_of(tinted(moved(texture, 23.3 * n, -3.0 * n) for n in range(FRAMES)))


def a_shaking_camera() -> Clip:
    texture, shakes = leaves(7, 5, 30000), random(7).normal(0, 9, (FRAMES, 2))
    return clip_of(tinted(moved(texture, dx, dy) for dx, dy in shakes))


def level_blinds() -> Clip:
    def frames() -> Iterator[Field]:
        for n in range(FRAMES):
            yield 120 + 100 * np.sin(2 * np.pi * (Y + 0.15 * n) / 5) + 0 * X

    return clip_of(tinted(frames()))


def upright_blinds() -> Clip:
    def frames() -> Iterator[Field]:
        for n in range(FRAMES):
            yield 120 + 100 * np.sign(np.sin(2 * np.pi * (X + 1.3 * n + 0.05 * Y) / 4))

    return clip_of(tinted(frames()))


def a_check_shirt() -> Clip:
    def frames() -> Iterator[Field]:
        for n in range(FRAMES):
            x, y = X + 3 * np.sin(n / 5), Y + 2 * np.cos(n / 7)
            yield 120 + 50 * np.sign(np.sin(x * 1.3)) + 50 * np.sign(np.sin(y * 1.3))

    return clip_of(tinted(frames(), (1, 0.6, 0.6)))


def waves(seed: int, shortest: float, longest: float, speed: float) -> Iterator[Field]:
    """Water: waves of many lengths, each as fast as its length makes it."""
    picked = random(seed)
    lengths = np.exp(picked.uniform(np.log(shortest), np.log(longest), 40))
    angles, phases = picked.uniform(0, 2 * np.pi, (2, 40))
    for n in range(FRAMES):
        height = np.zeros_like(X)
        for length, angle, phase in zip(lengths, angles, phases, strict=True):
            k = 2 * np.pi / length
            along = X * np.cos(angle) + Y * np.sin(angle)
            height += np.sin(k * along + phase + speed * np.sqrt(k) * n)
        yield height / 4.5


def water() -> Clip:
    return clip_of(tinted((110 + 50 * each for each in waves(8, 6, 60, 0.35)), (0.6, 0.8, 1)))


def glittering_water() -> Clip:
    frames = (60 + 190 * (each > 1.1) for each in waves(9, 5, 16, 0.8))
    return clip_of(tinted(frames, (0.9, 0.95, 1)))


def a_waterfall() -> Clip:
    texture = cv2.GaussianBlur(ground(10, 0.7), (1, 0), sigmaX=0.1, sigmaY=3)
    texture = 150 + 50 * (texture - texture.mean()) / texture.std()
    return clip_of(tinted(moved(texture, 2 * np.sin(Y / 9 + n), -17.0 * n) for n in range(FRAMES)))


def dots(
    count: int, size: int, speed: tuple[float, float], jitter: float, seed: int
) -> Iterator[Grey]:
    """Many small things, each going its way."""
    picked = random(seed)
    at = picked.uniform(0, 1, (count, 2)) * (WIDTH, HEIGHT)
    shades, phases = picked.uniform(60, 255, count), picked.uniform(0, 2 * np.pi, (count, 2))
    rates = picked.uniform(0.2, 0.5, (count, 2))
    for n in range(FRAMES):
        frame = np.full((HEIGHT, WIDTH), 40, np.uint8)
        places = at + np.array(speed) * n + jitter * np.sin(rates * n + phases)
        for (x, y), shade in zip(places % (WIDTH, HEIGHT), shades, strict=True):
            cv2.circle(frame, (int(x), int(y)), size, int(shade), -1)
        yield frame.astype(np.float32)


def a_crowd() -> Clip:
    return clip_of(tinted(dots(1500, 5, (0, 0), 5, 11), (1, 0.85, 0.75)))


def a_crowd_that_jumps() -> Clip:
    return clip_of(tinted(dots(3000, 3, (0, 0), 14, 12), (1, 0.85, 0.75)))


def confetti() -> Clip:
    return clip_of(tinted(dots(4000, 2, (1, 7), 6, 13)))


def snow() -> Clip:
    flakes = dots(1200, 1, (2, 9), 4, 14)
    scene = portrait().astype(np.float32)
    return clip_of(
        np.stack([as_bytes((scene + 0.8 * (each[..., None] - 40))[None])[0] for each in flakes])
    )


def rain() -> Clip:
    scene, picked, frames = portrait().astype(np.float32), random(15), []
    for _ in range(FRAMES):
        drops = (picked.random((HEIGHT, WIDTH)) > 0.99).astype(np.float32)
        streaks = cv2.blur(drops, (1, 15)) * 900
        frames.append(as_bytes((scene * 0.6 + streaks[..., None])[None])[0])
    return clip_of(np.stack(frames))


def fire() -> Clip:
    coarse, fine = ground(16, 7), ground(17, 2)

    def frames() -> Iterator[Field]:
        for n in range(FRAMES):
            flames = moved(coarse, 5 * np.sin(Y / 20 + n / 4), 7.0 * n) + moved(fine, 0, 11.0 * n)
            yield np.clip((flames - 150) * 2 * Y / HEIGHT + 40, 0, 255)

    return clip_of(tinted(frames(), (1, 0.6, 0.2)))


def stars_that_fly_by() -> Clip:
    picked = random(18)
    at, depth = picked.uniform(-1, 1, (2500, 2)), picked.uniform(0.1, 1, 2500)

    def frames() -> Iterator[Field]:
        for n in range(FRAMES):
            frame, near = np.zeros((HEIGHT, WIDTH), np.uint8), (depth - 0.01 * n) % 1 + 0.05
            places = at / near[:, None] * 60 + (WIDTH / 2, HEIGHT / 2)
            for (x, y), far in zip(places, near, strict=True):
                if 0 <= x < WIDTH and 0 <= y < HEIGHT:
                    cv2.circle(frame, (int(x), int(y)), 1, int(255 * (1.05 - far)), -1)
            yield frame.astype(np.float32)

    return clip_of(tinted(frames()))


def a_page_that_scrolls() -> Clip:
    page, picked = Image.new("L", (WIDTH + 2 * MARGIN, HEIGHT + 2 * MARGIN), 245), random(19)
    pen = ImageDraw.Draw(page)
    for line in range(0, page.height, 11):
        letters = picked.integers(97, 123, 70).astype(np.uint8).tobytes().decode()
        pen.text((2, line), letters, fill=20)
    texture = np.asarray(page, np.float32)
    return clip_of(tinted(moved(texture, 0, 2.0 * n) for n in range(FRAMES)))


def sequins() -> Clip:
    """Each of them glitters as it turns."""
    picked = random(20)
    cells = (HEIGHT // 4, WIDTH // 4)
    phases, rates = picked.uniform(0, 2 * np.pi, cells), picked.uniform(0.3, 1.5, cells)

    def frames() -> Iterator[Field]:
        for n in range(FRAMES):
            yield (60 + 190 * np.clip(np.sin(phases + rates * n), 0, 1)).repeat(4, 0).repeat(4, 1)

    return clip_of(tinted(frames(), (1, 0.85, 0.5)))


def a_screen_without_a_station() -> Clip:
    def frames() -> Iterator[Field]:
        for n in range(FRAMES):
            yield random(100 + n).integers(0, 256, (HEIGHT, WIDTH)).astype(np.float32)

    return clip_of(tinted(frames()))


# ---- What becomes something else


def turned(fro: Rgb, to: Rgb, begin: int, frames: int) -> Rgb:
    """A camera that turns from one to the other, both [frames or 1, height, width, 3]."""
    shown = []
    for n in range(FRAMES):
        share = float(np.clip((n - begin) / frames, 0, 1))
        cut = round((3 * share**2 - 2 * share**3) * WIDTH)
        both = np.concatenate([fro[n % len(fro)], to[n % len(to)]], axis=1)
        shown.append(both[:, cut : cut + WIDTH])
    return np.stack(shown)


def from_a_portrait_to(what: Callable[[], Clip], begin: int = 20, frames: int = 15) -> Clip:
    return clip_of(turned(portrait()[None], what().frames, begin, frames), portrait())


def soft() -> Rgb:
    return np.asarray(Image.fromarray(portrait()).filter(ImageFilter.GaussianBlur(6)))


def line_art(boiling: int) -> Iterator[Rgb]:
    """The portrait as a drawing, drawn anew each so many frames."""
    grey = cv2.cvtColor(portrait(), cv2.COLOR_RGB2GRAY)
    for n in range(FRAMES):
        picked = random(21 + n // boiling)
        wobble = cv2.GaussianBlur(
            picked.standard_normal((2, HEIGHT, WIDTH)).astype(np.float32)[0], (0, 0), 6
        )
        x, y = X + 40 * wobble, Y - 40 * wobble
        drawn = cv2.remap(grey, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
        edges = cv2.Canny(drawn, 40, 90)
        yield np.stack([255 - edges] * 3, axis=-1)


def becomes_line_art() -> Clip:
    shown, photo = [], portrait().astype(np.float32)
    for n, drawn in enumerate(line_art(3)):
        share = np.float32(np.clip((n - 15) / 20, 0, 1))
        shown.append(as_bytes((photo * (1 - share) + drawn * share)[None])[0])
    return clip_of(np.stack(shown), portrait())


def is_line_art_at_once() -> Clip:
    shown = np.stack([*line_art(2)])
    shown[0] = portrait()
    return clip_of(shown, portrait())


def becomes_a_halftone() -> Clip:
    grey = cv2.cvtColor(portrait(), cv2.COLOR_RGB2GRAY).astype(np.float32)
    shown = []
    for n in range(FRAMES):
        screen = 127 + 120 * np.sin(2.1 * (X + 0.3 * n)) * np.sin(2.1 * Y)
        dots = np.stack([255.0 * (grey > screen)] * 3, axis=-1)
        share = np.float32(np.clip((n - 10) / 20, 0, 1))
        shown.append(as_bytes((portrait() * (1 - share) + dots * share)[None])[0])
    return clip_of(np.stack(shown), portrait())


def becomes_a_mosaic() -> Clip:
    small = Image.fromarray(portrait()).resize((WIDTH // 12, HEIGHT // 12))
    mosaic = np.asarray(small.resize((WIDTH, HEIGHT), Image.Resampling.NEAREST))
    shown = [portrait() if n < 20 else np.roll(mosaic, n // 4 * 12, axis=1) for n in range(FRAMES)]
    return clip_of(np.stack(shown), portrait())


def soft_then_sharp() -> Clip:
    shown = [np.roll(soft() if n < 5 else portrait(), n // 5, axis=1) for n in range(FRAMES)]
    return clip_of(np.stack(shown), soft())


def film_grain_is_added() -> Clip:
    frames = []
    for n in range(FRAMES):
        grains = random(n).standard_normal((HEIGHT, WIDTH, 1)).astype(np.float32)
        frames.append(as_bytes((soft() + 28 * grains * (n > 0))[None])[0])
    return clip_of(np.stack(frames), soft())


def lit(levels: Callable[[Field], Field]) -> Clip:
    """The portrait in this light, of the seconds."""
    t = np.arange(FRAMES) / 25
    shares = np.asarray(levels(t), np.float32)
    frames = np.stack(
        [
            as_bytes((np.roll(portrait(), n // 9, 1) * share)[None])[0]
            for n, share in enumerate(shares)
        ]
    )
    return clip_of(frames, portrait())


END = FRAMES / 25

KINDS: dict[str, Callable[[], Clip]] = {
    "foliage": foliage,
    "fine foliage": fine_foliage,
    "foliage in a storm": foliage_in_a_storm,
    "grass": grass,
    "gravel from a car": gravel_from_a_car,
    "gravel from a fast car": gravel_from_a_fast_car,
    "a shaking camera": a_shaking_camera,
    "level blinds": level_blinds,
    "upright blinds": upright_blinds,
    "a check shirt": a_check_shirt,
    "water": water,
    "glittering water": glittering_water,
    "a waterfall": a_waterfall,
    "a crowd": a_crowd,
    "a crowd that jumps": a_crowd_that_jumps,
    "confetti": confetti,
    "snow": snow,
    "rain": rain,
    "fire": fire,
    "stars that fly by": stars_that_fly_by,
    "a page that scrolls": a_page_that_scrolls,
    "sequins": sequins,
    "a screen without a station": a_screen_without_a_station,
    "from a portrait to foliage": lambda: from_a_portrait_to(fine_foliage),
    "from a portrait to a crowd": lambda: from_a_portrait_to(a_crowd_that_jumps),
    "from a portrait to water": lambda: from_a_portrait_to(glittering_water),
    "from a portrait to gravel": lambda: from_a_portrait_to(gravel_from_a_car),
    "from a portrait to confetti": lambda: from_a_portrait_to(confetti, frames=4),
    "from a portrait to sequins": lambda: from_a_portrait_to(sequins),
    "a photo becomes line art": becomes_line_art,
    "line art from the second frame on": is_line_art_at_once,
    "a photo becomes a halftone": becomes_a_halftone,
    "a photo becomes a mosaic": becomes_a_mosaic,
    "soft, then sharp": soft_then_sharp,
    "film grain is added": film_grain_is_added,
    "it fades to black at the end": lambda: lit(lambda t: np.clip((END - 0.4 - t) / 0.8, 0, 1)),
    "it fades to black for two seconds": lambda: lit(lambda t: np.clip((END - 2 - t) / 1, 0, 1)),
    "the lights go out at the end": lambda: lit(lambda t: t < END - 0.8),
    "a strobe": lambda: lit(lambda t: (t * 25).astype(int) % 6 < 2),
    "a dark room, its lamp off": lambda: lit(lambda t: np.where(t < 2, 1, 0.04)),
    "it fades to white at the end": lambda: lit(lambda t: 1 + 40 * np.clip(t - END + 1, 0, 1)),
}

# Of which a caller is warned: nobody could say whether they are meant.
TOLD = (
    *("from a portrait to confetti", "a photo becomes a mosaic"),
    *("line art from the second frame on", "it fades to black at the end"),
    *("it fades to black for two seconds", "the lights go out at the end", "a strobe"),
    *("a dark room, its lamp off", "a screen without a station"),
)


if __name__ == "__main__":
    for name, make in KINDS.items():
        found, quality = looked_at(make())
        print(f"{name}\n    {[each.text for each in found]}\n    {quality.end}")
