"""The draft node's speed and memory: `python benchmarks/draft.py`."""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "custom_nodes"))

from talkinghead_draft.draft import picture_draft, video_draft
from talkinghead_draft.face import Picture
from talkinghead_draft.mp4 import write_mp4
from talkinghead_draft.video import held, read_frames
from talkinghead_draft.voice import Motion, Samples, mouth_motion

EXAMPLES = Path(__file__).parents[1] / "examples"
FPS = Fraction(25)
SAMPLE_RATE = 22050  # of the example voice
WIDTH, HEIGHT = 854, 480

Draft = Callable[[list[Motion], int], Iterator[Picture]]  # motions, number of frames -> frames


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    portrait, voice = example_portrait(), example_voice()
    half = portrait[:, 150 : 150 + WIDTH // 2]
    pair = np.hstack((half, half[:, ::-1]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "source.mp4"
        write_mp4(path, panned(portrait, 1500), FPS, voice, SAMPLE_RATE)

        def from_picture(motions: list[Motion], num_frames: int) -> Iterator[Picture]:
            picture = portrait if len(motions) == 1 else pair
            return picture_draft(picture, None, motions, FPS, seed=7)

        def from_video(motions: list[Motion], num_frames: int) -> Iterator[Picture]:
            return video_draft(held(read_frames(str(path)), num_frames), None, motions)

        measure("picture", from_picture, voice, 1)
        measure("picture of two speakers", from_picture, voice, 2)
        measure("video", from_video, voice, 1)


def measure(name: str, draft: Draft, voice: Samples, num_speakers: int) -> None:
    """Print the speed over 100 frames, and how memory grows with the length."""
    render(draft, voice, num_speakers, num_frames=10)  # libraries load and make their buffers
    started = time.perf_counter()
    render(draft, voice, num_speakers, num_frames=100)
    seconds = time.perf_counter() - started
    print(f"{name}: {WIDTH}x{HEIGHT}: {100 / seconds:.1f} frames a second, encode included")
    for clip_seconds in (10, 60):
        before = peak_mib()
        render(draft, voice, num_speakers, num_frames=clip_seconds * 25)
        print(f"{name}: {clip_seconds} s: peak memory grew by {peak_mib() - before:.1f} MiB")


def render(draft: Draft, voice: Samples, num_speakers: int, num_frames: int) -> None:
    """One draft to a file that is thrown away; the voice repeats as often as needed."""
    samples = np.resize(voice, (1, int(num_frames * SAMPLE_RATE / FPS)))
    motion = mouth_motion(samples, SAMPLE_RATE, num_frames, FPS)
    with tempfile.TemporaryDirectory() as folder:
        frames = draft([motion] * num_speakers, num_frames)
        write_mp4(Path(folder) / "draft.mp4", frames, FPS, samples, SAMPLE_RATE)


def panned(portrait: Picture, num_frames: int) -> Iterator[Picture]:
    """A camera that wanders over the portrait, once in 8 s."""
    for turn in 2 * np.pi * np.arange(num_frames) / 200:
        shift = np.array(((1, 0, 60 * np.sin(turn)), (0, 1, 15 * np.sin(3 * turn))))
        moved = cv2.warpAffine(portrait, shift, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
        yield np.asarray(moved, np.uint8)


def example_portrait() -> Picture:
    """The example portrait, cut and scaled to WIDTH x HEIGHT."""
    whole = np.asarray(Image.open(EXAMPLES / "portrait.jpg").convert("RGB"))
    rows = round(whole.shape[1] * HEIGHT / WIDTH)
    cut = cv2.resize(whole[:rows], (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cut, np.uint8)


def example_voice() -> Samples:
    """The example voice [1, samples]."""
    pcm = np.frombuffer((EXAMPLES / "voice.wav").read_bytes()[44:], np.int16)
    return (pcm[np.newaxis] / 32768).astype(np.float32)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
