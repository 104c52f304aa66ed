"""The draft node's speed and memory: `python benchmarks/draft.py`."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "custom_nodes"))

from talkinghead_draft.animate import preview_frames
from talkinghead_draft.face import Picture, find_face
from talkinghead_draft.mp4 import write_mp4
from talkinghead_draft.voice import Samples, mouth_motion

EXAMPLES = Path(__file__).parents[1] / "examples"
FPS = Fraction(25)
SAMPLE_RATE = 22050  # of the example voice
WIDTH, HEIGHT = 854, 480


def main() -> None:
    portrait, voice = example_portrait(), example_voice()
    render(portrait, voice, num_frames=10)  # libraries load and their buffers are made
    started = time.perf_counter()
    render(portrait, voice, num_frames=100)
    seconds = time.perf_counter() - started
    print(f"{WIDTH}x{HEIGHT}: {100 / seconds:.1f} frames a second, encode included")
    for clip_seconds in (10, 60):
        before = peak_mib()
        render(portrait, voice, num_frames=clip_seconds * 25)
        print(f"{clip_seconds} s: peak memory grew by {peak_mib() - before:.1f} MiB")


def render(portrait: Picture, voice: Samples, num_frames: int) -> None:
    """One draft to a file that is thrown away; the voice repeats as often as needed."""
    samples = np.resize(voice, (1, int(num_frames * SAMPLE_RATE / FPS)))
    motion = mouth_motion(samples, SAMPLE_RATE, num_frames, FPS)
    frames = preview_frames(portrait, find_face(portrait), motion, FPS, seed=7)
    with tempfile.TemporaryDirectory() as folder:
        write_mp4(Path(folder) / "draft.mp4", frames, FPS, samples, SAMPLE_RATE)


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
