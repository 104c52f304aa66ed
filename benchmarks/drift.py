"""How colours, seams and loudness drift from window to window: `python -m benchmarks.drift`.

Without files it renders two chains of windows itself, without and with `color_match`: with the
doubles, or with --tiny on the real node packs with random weights, which COMFYUI_DIR and
COMFYUI_PYTHON name.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from benchmarks.long import seconds_of, write_voice
from talkinghead.comfy.studio import Studio
from talkinghead.delivery.file import FilePlace
from talkinghead.plan.frames import MODEL_FPS, WINDOW_FRAMES
from talkinghead.plan.request import parse_request
from talkinghead.plan.talk_models import MODELS
from talkinghead.render.job import Job
from talkinghead.render.run import render
from talkinghead.settings import PROJECT_DIR, Settings

PORTRAIT = PROJECT_DIR / "examples" / "portrait.jpg"
NEW_FRAMES = MODELS["infinitetalk"].new_frames()
DOUBLES_SIZE, TINY_SIZE = 256, 64  # pixels; the VAE takes no less than 64
SHOWN_EVERY = 10  # windows
ENDS = 10  # so many windows at the end against as many at the beginning
TIMEOUT_SECONDS = 4 * 3600.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Picture:
    """Of each window: `mean` and `contrast` [windows, RGB], levels of 0 to 255.

    `seam` [windows - 1] is how far the first frame of a window is from the last one before it, mean
    over the pixels; `steps` [windows] the same from frame to frame inside of it, the median.
    """

    mean: Floats
    contrast: Floats
    seam: Floats
    steps: Floats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", nargs="*", type=Path, help="measure these files instead")
    parser.add_argument("--sound", type=Path, help="the sound that they were made from")
    parser.add_argument("--reference", type=Path, default=PORTRAIT, help="and the picture")
    parser.add_argument("--tiny", action="store_true", help="real nodes with random weights")
    parser.add_argument("--windows", type=int, default=60)
    parser.add_argument("--keep", type=Path, help="where the rendered files shall stay")
    chosen = parser.parse_args()
    for video in chosen.video:
        report(video, chosen.sound, chosen.reference)
    if chosen.video:
        return
    with tempfile.TemporaryDirectory() as name:
        folder = chosen.keep or Path(name)
        voice = write_voice(folder / "voice.wav", seconds_of(chosen.windows))
        for match in (False, True):
            video = folder / f"{'with' if match else 'without'}_color_match.mp4"
            make(video, voice, tiny=chosen.tiny, color_match=match)
            report(video, voice, PORTRAIT)


def make(video: Path, voice: Path, *, tiny: bool, color_match: bool) -> None:
    """Render the example portrait with the voice, window by window."""
    chosen = {"extra_node_dirs": str(PROJECT_DIR / "tests" / "doubles")}
    settings = Settings(
        comfyui_cpu=True,
        work_dir=video.parent / "work",
        job_timeout_seconds=TIMEOUT_SECONDS,
        **({"model_profile": "tiny"} if tiny else chosen),  # type: ignore[arg-type]
    )
    fields = {
        "image_url": PORTRAIT.as_uri(),
        "wav_url": voice.as_uri(),
        "seed": 7,
        "steps": 2,
        "scheduler": "euler",
        "long": True,
        "color_match": color_match,
    }
    side = TINY_SIZE if tiny else DOUBLES_SIZE
    asked = parse_request(fields, local_files=True)
    request = asked.model_copy(update={"width": side, "height": side})
    with Studio(settings, store=FilePlace(video), local_files=True) as studio:
        render(Job(video.stem, fields), request, studio)


def report(video: Path, sound: Path | None, reference: Path) -> None:
    """Print what was measured of a file."""
    seen = look_at(video)
    wanted_mean, wanted_contrast = reference_of(reference, video)
    last = len(seen.mean)
    louder = loudness(video, last) - loudness(sound, last) if sound else np.zeros(last)
    print(f"\n{video.name}: {last} windows")
    print(
        "| window | mean R G B | contrast R G B | seam / step | sound, dB |\n|---|---|---|---|---|"
    )
    print(f"| the picture | {row(wanted_mean)} | {row(wanted_contrast)} | | |")
    for window in sorted({1, 2, last, *range(SHOWN_EVERY, last, SHOWN_EVERY)}):
        at = window - 1
        seam = f"{seen.seam[at - 1]:.2f} / {seen.steps[at]:.2f}" if at else ""
        print(
            f"| {window} | {row(seen.mean[at])} | {row(seen.contrast[at])} | {seam} "
            f"| {louder[at]:+.2f} |"
        )
    for name, values, wanted in (
        ("mean", seen.mean, wanted_mean),
        ("contrast", seen.contrast, wanted_contrast),
    ):
        apart = np.abs(values - values[0]).max(0)
        off = np.abs(values - wanted).max(0)
        print(
            f"{name}: the last {ENDS} windows less the first {ENDS}: {moved(values)}; trend from "
            f"window {ENDS + 1} to the last: {trend(values[ENDS:])}; spread {row(values.std(0))}; "
            f"most against window 1: {row(apart)}, against the picture: {row(off)}"
        )
    print(
        f"seams: median {np.median(seen.seam):.2f}, most {seen.seam.max():.2f}; from frame to "
        f"frame inside: median {np.median(seen.steps):.2f}, most {seen.steps.max():.2f}"
    )
    if sound:
        print(f"sound: {moved(louder[:, None])} dB; at most {abs(louder).max():.2f} dB off")


def row(values: Floats) -> str:
    return " ".join(f"{value:.2f}" for value in values)


def moved(values: Floats) -> str:
    """The ends' difference, and two standard errors of it: what lies within may be chance."""
    first, last = values[:ENDS], values[-ENDS:]
    error = 2 * np.sqrt((first.var(0, ddof=1) + last.var(0, ddof=1)) / ENDS)
    return with_error(last.mean(0) - first.mean(0), error)


def trend(values: Floats) -> str:
    """The change along a straight line through all of them, and two standard errors of it."""
    if len(values) < ENDS:
        return "too few"
    line, covariance = np.polyfit(np.arange(len(values)), values, 1, cov=True)
    return with_error(line[0] * len(values), 2 * np.sqrt(covariance[0, 0]) * len(values))


def with_error(values: Floats, error: Floats) -> str:
    both = zip(values, error, strict=True)
    return " ".join(f"{value:+.2f}±{width:.2f}" for value, width in both)


def look_at(video: Path) -> Picture:
    """Measure the picture, window by window."""
    means, contrasts, seams, steps = [], [], [], []
    before: Floats | None = None
    for frames in windows_in(video):
        means.append(frames.mean((0, 1, 2)))
        contrasts.append(frames.std((0, 1, 2)))
        if before is not None:
            seams.append(np.abs(frames[0] - before).mean())
        steps.append(np.median(np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))))
        before = frames[-1]
    return Picture(np.array(means), np.array(contrasts), np.array(seams), np.array(steps))


def windows_in(video: Path) -> Iterator[Floats]:
    """The new frames of each window, [frames, height, width, RGB]."""
    frames: list[Floats] = []
    window = 0
    with av.open(str(video), "r") as file:
        fps = file.streams.video[0].average_rate or MODEL_FPS
        for number, frame in enumerate(file.decode(video=0)):
            at = window_at((number + 0.5) / float(fps))
            if at != window:
                yield np.stack(frames)
                frames, window = [], int(at)
            frames.append(frame.to_ndarray(format="rgb24").astype(float))
    yield np.stack(frames)


def window_at(seconds: float | Floats) -> npt.NDArray[np.int64]:
    """Which window shows the time, counted from 0."""
    frame = np.floor(np.asarray(seconds) * MODEL_FPS)
    later = (frame - WINDOW_FRAMES) // NEW_FRAMES + 1
    return np.asarray(np.maximum(later, 0), np.int64)


def reference_of(picture: Path, video: Path) -> tuple[Floats, Floats]:
    """Mean and contrast of the picture, cut to the video's size as the worker cuts it."""
    with av.open(str(video), "r") as file, Image.open(picture) as whole:
        stream = file.streams.video[0]
        upright = ImageOps.exif_transpose(whole).convert("RGB")
        pixels = np.asarray(ImageOps.fit(upright, (stream.width, stream.height)), float)
    return pixels.mean((0, 1)), pixels.std((0, 1))


def loudness(path: Path, windows: int) -> Floats:
    """RMS of each window's sound, dB below full scale; one without a sound is at -120."""
    total, count, heard = np.zeros(windows), np.zeros(windows), 0
    with av.open(str(path), "r") as file:
        resampler = av.AudioResampler("fltp", "mono")
        for frame in file.decode(audio=0):
            for block in resampler.resample(frame):
                samples = block.to_ndarray()[0].astype(float)
                times = (heard + np.arange(len(samples)) + 0.5) / block.sample_rate
                at = window_at(times).clip(max=windows - 1)  # AAC ends with a whole packet
                total += np.bincount(at, samples**2, windows)
                count += np.bincount(at, minlength=windows)
                heard += len(samples)
    return np.asarray(10 * np.log10(np.maximum(total / count, 1e-12)))


if __name__ == "__main__":
    main()
