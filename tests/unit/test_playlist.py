from __future__ import annotations

import wave
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from talkinghead.media.mux import encode_sound
from talkinghead.render.playlist import Part, playlist_text, write_init, write_part
from tests.unit.test_media import decoded

WINDOWS = (81, 72, 72, 72, 30)
BRIGHTNESSES = 60  # as many frames in a row can be told apart after x264
NTSC = 30_000 / 1001


@dataclass(frozen=True)
class Render:
    """A render's windows and its sound, on disk; `init` and `parts` are made of them."""

    folder: Path
    frames: Sequence[int]
    fps: float

    @property
    def sound(self) -> Path:
        return self.folder / "sound.m4a"

    @property
    def init(self) -> Path:
        write_init(self.segment(0), self.sound, self.folder / "init.mp4", fps=self.fps)
        return self.folder / "init.mp4"

    def segment(self, window: int) -> Path:
        return self.folder / f"{window}.mp4"

    def first(self, window: int) -> int:
        return sum(self.frames[:window])

    def part(self, window: int) -> Path:
        part, first = self.folder / f"{window}.m4s", self.first(window)
        write_part(self.segment(window), self.sound, part, first_frame=first, fps=self.fps)
        return part

    def joined(self, *windows: int) -> Path:
        """The init segment and these parts, or all, as one file."""
        parts = [self.part(window) for window in windows or range(len(self.frames))]
        whole = self.folder / "joined.mp4"
        whole.write_bytes(b"".join(file.read_bytes() for file in (self.init, *parts)))
        return whole


def write_clicks(path: Path, seconds: float, rate: int, channels: int) -> Path:
    """A quiet tone with a click every half second, louder on each further channel."""
    time = np.arange(round(seconds * rate)) / rate
    samples = 0.1 * np.sin(2 * np.pi * 220 * time)
    samples[:: rate // 2] = 0.9
    stacked = np.stack([samples * (c + 1) / channels for c in range(channels)], 1)
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes((stacked * 32767).astype("<i2").tobytes())
    return path


def write_segment(path: Path, first: int, frames: int, fps: float) -> None:
    """A window whose frames' brightness tells their number in the whole video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(first, first + frames):
            pixels = np.full((72, 64), 128, np.uint8)
            pixels[:48] = 20 + 3 * (index % BRIGHTNESSES)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="yuv420p")))
        container.mux(stream.encode(None))


def rendered(
    folder: Path,
    *,
    frames: Sequence[int] = WINDOWS,
    fps: float = 25,
    rate: int = 16_000,
    channels: int = 1,
) -> Render:
    render = Render(folder, frames, fps)
    clicks = write_clicks(folder / "clicks.wav", sum(frames) / fps, rate, channels)
    encode_sound(clicks, render.sound)
    for window, count in enumerate(frames):
        write_segment(render.segment(window), render.first(window), count, fps)
    return render


def shown(path: Path) -> list[tuple[Fraction, int]]:
    """When each frame is shown, in seconds, and its number as `write_segment` drew it."""
    with av.open(str(path)) as container:
        return [
            ((frame.pts or 0) * Fraction(frame.time_base or 0), number(frame))
            for frame in container.decode(video=0)
        ]


def number(frame: av.VideoFrame) -> int:
    return round((float(frame.to_ndarray()[:48].mean()) - 20) / 3)


def heard(path: Path) -> list[Fraction]:
    """When each packet of sound begins, in seconds."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.pts is not None]
    return [(packet.pts or 0) * Fraction(packet.time_base or 0) for packet in packets]


def expected(frames: range, fps: float) -> list[tuple[Fraction, int]]:
    rate = Fraction(fps).limit_denominator(1001)
    return [(index / rate, index % BRIGHTNESSES) for index in frames]


@pytest.mark.parametrize("fps", [25, 30, NTSC, 12.5])
def test_the_parts_show_every_frame_once_at_its_time(tmp_path: Path, fps: float) -> None:
    render = rendered(tmp_path, fps=fps)
    assert shown(render.joined()) == expected(range(sum(WINDOWS)), fps)


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (48_000, 2), (96_000, 6)])
def test_the_sound_of_the_parts_is_the_whole_sound_sample_for_sample(
    tmp_path: Path, rate: int, channels: int
) -> None:
    render = rendered(tmp_path, rate=rate, channels=channels)
    whole = render.joined()
    assert heard(whole) == heard(render.sound)
    assert np.array_equal(decoded(whole), decoded(render.sound))


def test_after_sixty_parts_lips_and_sound_are_still_together(tmp_path: Path) -> None:
    render = rendered(tmp_path, frames=[81, *[72] * 58, 31], fps=NTSC, rate=44_100)
    whole = render.joined()
    assert shown(whole) == expected(range(81 + 58 * 72 + 31), NTSC)
    assert np.array_equal(decoded(whole), decoded(render.sound))


def test_a_part_that_is_made_alone_has_its_times_in_the_whole_video(tmp_path: Path) -> None:
    render = rendered(tmp_path)
    third = render.joined(2)
    assert shown(third) == expected(range(153, 225), 25)
    assert heard(third) == [time for time in heard(render.sound) if 153 <= 25 * time < 225]


def test_decoding_goes_on_evenly_from_part_to_part_though_frames_are_out_of_order(
    tmp_path: Path,
) -> None:
    render = rendered(tmp_path)
    with av.open(str(render.joined())) as container:
        packets = [packet for packet in container.demux(video=0) if packet.dts is not None]
    assert len({(b.dts or 0) - (a.dts or 0) for a, b in pairwise(packets)}) == 1
    times = [packet.pts or 0 for packet in packets]
    assert times != sorted(times)
    assert all(packets[render.first(window)].is_keyframe for window in range(len(WINDOWS)))


def test_any_window_gives_the_same_init_segment(tmp_path: Path) -> None:
    render = rendered(tmp_path)
    write_init(render.segment(4), render.sound, tmp_path / "late.mp4", fps=25)
    assert (tmp_path / "late.mp4").read_bytes() == render.init.read_bytes()


def test_a_window_in_which_no_packet_of_sound_begins_is_a_part_too(tmp_path: Path) -> None:
    render = rendered(tmp_path, frames=[9, 1, 1, 1, 3], rate=8_000)  # a packet has 3.2 frames
    whole = render.joined()
    assert b"mdat" in render.part(2).read_bytes()
    assert shown(whole) == expected(range(15), 25)
    assert np.array_equal(decoded(whole), decoded(render.sound))


def test_the_playlist_grows_and_ends() -> None:
    parts = [Part("part_00001.m4s", 81 / 25), Part("part_00002.m4s", 72 / 25)]
    begun = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-PLAYLIST-TYPE:EVENT
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-START:TIME-OFFSET=0
#EXT-X-TARGETDURATION:4
#EXT-X-MAP:URI="init.mp4"
#EXTINF:3.240000,
part_00001.m4s
"""
    second = "#EXTINF:2.880000,\npart_00002.m4s\n"
    assert playlist_text(parts[:1], str, ended=False) == begun
    assert playlist_text(parts, str, ended=False) == begun + second
    assert playlist_text(parts, str, ended=True) == begun + second + "#EXT-X-ENDLIST\n"


def test_the_playlist_names_its_files_as_it_is_told() -> None:
    text = playlist_text([Part("a.m4s", 1)], "https://bucket/{}?X-Signature=s".format, ended=True)
    assert '#EXT-X-MAP:URI="https://bucket/init.mp4?X-Signature=s"' in text
    assert "\nhttps://bucket/a.m4s?X-Signature=s\n" in text
