"""A finished video looked at and listened to as the worker does, and all of it on one picture."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from av.video.frame import VideoFrame
from PIL import Image

from talkinghead.errors import MediaInvalid
from talkinghead.media import charts
from talkinghead.media.contact_sheet import tile
from talkinghead.media.containers import decoding
from talkinghead.media.lip_sync import Flags, Mouth, voiced, watch_mouths
from talkinghead.media.looking import Glance, glance, likeness, luma_of
from talkinghead.media.masks import Framing
from talkinghead.media.picture import open_small
from talkinghead.media.player import Index, read_index
from talkinghead.media.quality import Finding, Quality
from talkinghead.media.readers import open_reader
from talkinghead.media.sound import SPEECH_RATE_HZ, Voice, probe_sound, save_speech
from talkinghead.media.watching import Watch

CUTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of a source of another shape: which part of it may be shown
MOST_WINDOWS = 23  # of which a frame is shown
POSTER_FRAME, POSTER_SIDE = 12, 320  # half a second in; pixels of the longer side


@dataclass(frozen=True)
class Look:
    """What was seen: the figures as a result has them, and what is wrong, in sentences.

    `defect` is why a worker would not have delivered it.
    """

    quality: dict[str, Any]
    defect: str | None
    warnings: tuple[str, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a person is told of it."""
        told = [f"warning: {each}" for each in self.warnings]
        if self.defect:
            return (f"defective: {self.defect}; a worker would not deliver it", *told)
        return (*(told or ["nothing wrong is seen"]),)


class _Picture:
    """What is seen of the picture, window by window, beside the source if there is one."""

    def __init__(
        self, source: Path | None, max_megapixels: float, voiced: Flags | None, fps: float
    ) -> None:
        self._source, self._max_megapixels, self._voiced = source, max_megapixels, voiced
        self._beside: Glance | None = None
        self._fps, self._watch = fps, Watch(fps, Quality())
        self.findings: list[Finding] = []
        self.tiles: list[tuple[str, Image.Image]] = []
        self.brightness: list[float] = []
        self.poster: Image.Image | None = None

    @property
    def quality(self) -> Quality:
        """The figures of all windows."""
        return self._watch.quality

    def see(self, frames: Iterator[VideoFrame], shown: int, *, is_last: bool) -> None:
        """Look at the frames of the next window; that of the number `shown` is for the sheet."""
        watch, number, start = self._watch, self.quality.windows + 1, len(self.brightness)
        for frame in frames:
            watch.see(frame, partial(self._framed, frame.width, frame.height))
            if number == 1 and watch.count in (1, POSTER_FRAME):
                self.poster = tile(frame, POSTER_SIDE)
            if start + watch.count == shown + 1 and number <= MOST_WINDOWS:
                self.tiles.append((f"window {number}, {shown / self._fps:.1f} s", tile(frame)))
        if not watch.count:  # fewer frames can be decoded than the file tells
            return
        voiced = None if self._voiced is None else self._voiced[start : start + watch.count]
        sight, seen = watch.judged(number, voiced, is_last=is_last)
        watch.keep(sight)
        self.findings += sight.findings
        self.brightness += seen.frames.mean.tolist()

    def _framed(self, width: int, height: int, first: Glance) -> Glance | None:
        if self._source is not None and self._beside is None:
            size = width, height
            framed, self._beside = _framed(self._source, size, first, self._max_megapixels)
            self.tiles.insert(0, ("source", tile(framed)))
        return self._beside


def look_at(
    name: str,
    video: Path,
    folder: Path,
    *,
    window_seconds: tuple[float, float],
    source: Path | None = None,
    sound: Path | None = None,
    sheet: Path | None = None,
    poster: Path | None = None,
    max_megapixels: float,
) -> Look:
    """Measure and judge a video, window by window.

    Args:
        folder: for a file of its own.
        window_seconds: of the first window, and of those that follow.
        source: the picture that it was made from.
        sound: the voice, if it is not the video's own sound.
        sheet: where a PNG goes: frames, brightness, mouth and voice.
        poster: where a JPEG goes: a frame of the beginning.

    Raises:
        MediaInvalid, MediaTooLarge: a file is not what it should be.
    """
    index = read_index(name, video)
    fps = index.frames / index.seconds
    starts = [*_starts(index, fps, *window_seconds)]
    track = _track(name, video, sound, folder / "speech.wav", index.seconds)
    heard = None if track is None else voiced(track, index.frames, fps)
    picture = _Picture(source, max_megapixels, heard, fps)
    with decoding(name, "video"), open_reader(name, video) as reader:
        frames = (timed.frame for timed in reader.frames())
        for start, end in itertools.pairwise([*starts, index.frames]):
            is_last = end == index.frames
            middle = (start + end) // 2
            picture.see(itertools.islice(frames, end - start), middle, is_last=is_last)
    mouths: Sequence[Mouth] = ()
    if track is not None:
        mouths = watch_mouths(name, video, [track], faces=[None], starts=starts)
    sync = next((mouth.sync for mouth in mouths), None)
    if poster is not None and picture.poster is not None:
        picture.poster.save(poster, format="JPEG", quality=75)
    lag = sync and sync.warning("the voice", fps)
    warnings = [each.text for each in picture.findings if not each.is_defect]
    if (decoded := len(picture.brightness)) < index.frames:
        warnings.insert(0, f"only {decoded} of its {index.frames} frames can be decoded")
    look = Look(
        quality=picture.quality.payload() | {"lip_sync": sync and asdict(sync)},
        defect=next((each.text for each in picture.findings if each.is_defect), None),
        warnings=(*warnings, *([lag] if lag else [])),
    )
    if sheet is not None:
        drawn = charts.charts_of(picture.brightness, mouths)
        shown = charts.draw(picture.tiles, drawn, starts, fps=fps, words=look.sentences)
        shown.save(sheet, format="PNG")
    return look


def _starts(index: Index, fps: float, first: float, following: float) -> Iterator[int]:
    """The windows' first frames: each frame shows what is rendered for the middle of its time."""
    yield 0
    for number in itertools.count():
        start = math.ceil((first + number * following) * fps - 0.5)
        if start >= index.frames:
            return
        yield start


def _track(name: str, video: Path, sound: Path | None, target: Path, seconds: float) -> Path | None:
    """The voice as the model would hear it; None if there is none, or nothing is heard of it."""
    heard = None
    if sound is not None:
        voice = probe_sound("sound", sound, max_seconds=seconds)
        heard = Voice("sound", sound, voice)
    else:
        with contextlib.suppress(MediaInvalid):  # a video without sound is one, too
            heard = Voice(name, video, probe_sound(name, video, max_seconds=seconds))
    if heard is None or heard.sound.silent:
        return None
    samples = round(seconds * SPEECH_RATE_HZ)
    save_speech(heard, target, seconds=seconds, padded_samples=samples)
    return target


def _framed(
    source: Path, size: tuple[int, int], first: Glance, max_megapixels: float
) -> tuple[Image.Image, Glance]:
    """The source as the first frame shows it best, of all ways to fill the video's size with it."""
    small = open_small("source", source, 2 * max(size), max_megapixels=max_megapixels)
    wide = small.size[0] * size[1] > size[0] * small.size[1]
    framings = [Framing(*small.size, *size, cut=(cut, 0.5) if wide else (0.5, cut)) for cut in CUTS]
    pictures = [framing.apply(small.image) for framing in framings]
    framed = [(picture, glance(luma_of(picture))) for picture in pictures]
    return max(framed, key=lambda each: likeness(first.small, each[1].small))
