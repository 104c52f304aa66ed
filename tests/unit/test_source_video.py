from __future__ import annotations

import itertools
import os
import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.video.reformatter import ColorRange, Colorspace
from hypothesis import given, settings
from hypothesis import strategies as st

from talkinghead.errors import MediaInvalid, MediaTooLarge
from talkinghead.media.masks import Framing
from talkinghead.media.source_video import SourceVideo, probe_source, save_frames

WIDTH, HEIGHT = 96, 64
SAME = Framing(WIDTH, HEIGHT, WIDTH, HEIGHT)
TICKS = 90_000
BASE, STEP = 15, 14  # a frame's number in three digits, each the brightness of a third of it
Grey = npt.NDArray[np.uint8]


def numbered(index: int) -> Grey:
    digits = [index // BASE**2, index // BASE % BASE, index % BASE]
    row = np.repeat([20 + STEP * digit for digit in digits], WIDTH // 3)
    return np.tile(row, (HEIGHT, 1)).astype(np.uint8)


def number(grey: Grey) -> int:
    digits = np.rint((grey[HEIGHT // 2, WIDTH // 6 :: WIDTH // 3].astype(float) - 20) / STEP)
    return int(np.dot(digits, [BASE**2, BASE, 1]))


def write_video(
    path: Path,
    pictures: Sequence[Grey],
    *,
    ticks: Sequence[int] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    title: str = "",
) -> Path:
    """The pictures at 25 a second, or at the given ticks of 1/90000 s."""
    with av.open(str(path), "w", options=dict(container_options or {})) as container:
        container.metadata["title"] = title
        lossless = {"crf": "0"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=25, options={**lossless, **(options or {})})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = pictures[0].shape
        stream.pix_fmt = pix_fmt
        if ticks is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS)
        for index, picture in enumerate(pictures):
            chroma = np.full((picture.shape[0] // 2, picture.shape[1]), 128, np.uint8)
            planes = np.concatenate([picture, chroma])
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p").reformat(format=pix_fmt)
            frame.pts = index if ticks is None else ticks[index]
            frame.time_base = Fraction(1, 25 if ticks is None else TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_numbered(path: Path, frames: int, **options: object) -> Path:
    return write_video(path, [numbered(i) for i in range(frames)], **options)  # type: ignore[arg-type]


def greys(path: Path) -> Iterator[Grey]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray()[: frame.height].astype(np.uint8)


def saved(
    source: Path, times: Sequence[float], *, loop: bool = False, framing: Framing = SAME
) -> list[int]:
    """The numbers of the frames that were saved."""
    target = source.parent / "saved.mp4"
    save_frames("v", source, target, times=times, framing=framing, fps=25, loop=loop)
    return [number(grey) for grey in greys(target)]


def at_25_fps(frames: int) -> list[float]:
    return [index / 25 for index in range(frames)]


def test_a_video_is_what_its_packets_say(tmp_path: Path) -> None:
    source = write_numbered(tmp_path / "v.mp4", 40)
    assert probe_source("video_url", source, max_megapixels=1) == SourceVideo(
        WIDTH, HEIGHT, 1.6, 40, 25
    )


def test_a_header_that_lies_about_the_length_is_not_believed(tmp_path: Path) -> None:
    source = write_numbered(tmp_path / "v.mkv", 40)
    content = bytearray(source.read_bytes())
    place = content.index(b"\x44\x89\x88") + 3  # the element Duration, a double in milliseconds
    content[place : place + 8] = struct.pack(">d", 9e6)
    source.write_bytes(content)
    with av.open(str(source)) as container:
        assert (container.duration or 0) / av.time_base == 9000
    assert probe_source("v", source, max_megapixels=1).duration == 1.6


@pytest.mark.parametrize("content", [b"", b"not a video" * 99, b"#EXTM3U\n/etc/passwd\n"])
def test_what_is_not_a_video_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v.mp4").write_bytes(content)
    with pytest.raises(MediaInvalid, match="video_url: the video cannot be decoded: "):
        probe_source("video_url", tmp_path / "v.mp4", max_megapixels=1)


def test_a_playlist_that_names_other_files_is_not_followed(tmp_path: Path) -> None:
    write_numbered(tmp_path / "v.ts", 5)
    (tmp_path / "v.mp4").write_text(f"ffconcat version 1.0\nfile {tmp_path}/v.ts\n")
    with pytest.raises(MediaInvalid, match="video_url: the video cannot be decoded: "):
        probe_source("video_url", tmp_path / "v.mp4", max_megapixels=1)


def test_a_file_of_sound_alone_is_refused(tmp_path: Path, voice: Path) -> None:
    with av.open(str(tmp_path / "v.mp4"), "w") as container, av.open(str(voice)) as sound:
        stream = container.add_stream("aac", rate=48_000)
        for frame in sound.decode(audio=0):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(MediaInvalid, match="video_url: the file has no video stream"):
        probe_source("video_url", tmp_path / "v.mp4", max_megapixels=1)


def test_a_video_cut_off_before_its_first_frame_is_refused(tmp_path: Path) -> None:
    source = write_numbered(tmp_path / "v.mp4", 25, container_options={"movflags": "+faststart"})
    content = source.read_bytes()
    source.write_bytes(content[: content.index(b"mdat") + 30])
    with pytest.raises(MediaInvalid, match="video_url: no frame of the video can be decoded"):
        probe_source("video_url", source, max_megapixels=1)


def test_of_a_video_cut_off_later_the_last_whole_frame_is_held(tmp_path: Path) -> None:
    source = write_numbered(tmp_path / "v.mkv", 50, codec="ffv1")
    content = source.read_bytes()
    source.write_bytes(content[: len(content) // 2])
    frames = probe_source("v", source, max_megapixels=1).frames
    assert 15 < frames < 35
    shown = saved(source, at_25_fps(50))
    assert shown[: frames - 1] == list(range(frames - 1))
    assert len(set(shown[frames:])) == 1


def test_a_title_in_an_old_encoding_does_no_harm(tmp_path: Path) -> None:
    source = write_numbered(tmp_path / "v.avi", 9, codec="mpeg4", title="Uber uns")
    content = source.read_bytes()
    assert b"Uber uns" in content
    source.write_bytes(content.replace(b"Uber uns", b"\xdcber uns"))
    assert probe_source("v", source, max_megapixels=1).frames == 9


def test_a_video_of_too_many_pixels_is_refused(tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.mp4", [np.full((400, 800), 99, np.uint8)])
    with pytest.raises(MediaTooLarge, match=r"v: the video has 800x400 pixels, allowed: 0\.3 mega"):
        probe_source("v", source, max_megapixels=0.3)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("v.mp4", "libx264", "yuv420p"),
        ("v.mp4", "libx264", "yuv420p10le"),
        ("v.mp4", "libx264", "yuvj420p"),
        ("v.mov", "libx264", "yuv444p"),
        ("v.mp4", "libx265", "yuv420p10le"),
        ("v.mov", "prores_ks", "yuv422p10le"),
        ("v.mkv", "ffv1", "yuv420p10le"),
        ("v.mkv", "ffv1", "gray16le"),
        ("v.webm", "libvpx-vp9", "yuv420p"),
        ("v.avi", "mjpeg", "yuvj420p"),
        ("v.avi", "mpeg4", "yuv420p"),
        ("v.ts", "libx264", "yuv420p"),
        ("v.mpg", "mpeg2video", "yuv420p"),
        ("v.flv", "libx264", "yuv420p"),
    ],
)
def test_every_kind_of_file_gives_its_frames_in_their_order(
    tmp_path: Path, name: str, codec: str, pix_fmt: str
) -> None:
    source = write_numbered(tmp_path / name, 60, codec=codec, pix_fmt=pix_fmt)
    probed = probe_source("v", source, max_megapixels=1)
    assert (probed.width, probed.height, probed.frames) == (WIDTH, HEIGHT, 60)
    assert probed.duration == pytest.approx(2.4, abs=0.01)
    assert probed.fps == pytest.approx(25, rel=0.01)
    assert saved(source, at_25_fps(60)) == list(range(60))
    assert saved(source, at_25_fps(150), loop=True)[110:130] == [*range(50, 60), *range(10)]


def test_past_the_end_the_last_frame_is_held_or_the_video_repeated(tmp_path: Path) -> None:
    source = write_numbered(tmp_path / "v.mp4", 10)
    assert saved(source, at_25_fps(24)) == [*range(10), *[9] * 14]
    assert saved(source, at_25_fps(24), loop=True) == [*range(10), *range(10), *range(4)]


def test_a_video_of_one_frame_is_held_or_repeated(tmp_path: Path) -> None:
    source = write_numbered(tmp_path / "v.mp4", 1)
    assert saved(source, at_25_fps(9)) == [0] * 9
    assert saved(source, at_25_fps(9), loop=True) == [0] * 9


@settings(max_examples=30)
@given(
    gaps=st.lists(st.integers(200, 60_000), min_size=1, max_size=25),
    times=st.lists(st.floats(0, 12), min_size=1, max_size=20).map(sorted),
    loop=st.booleans(),
)
def test_of_an_irregular_video_each_frame_is_the_one_that_shows_at_its_time(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[int], times: list[float], loop: bool
) -> None:
    starts = [0, *itertools.accumulate(gaps)]
    path = tmp_path_factory.mktemp("vfr") / "v.mp4"
    source = write_numbered(path, len(starts), ticks=starts, options={"g": "4"})
    duration = probe_source("v", source, max_megapixels=1).duration
    assert duration > starts[-1] / TICKS
    positions = [(time + 0.001) % duration if loop else time + 0.001 for time in times]
    expected = [bisect_right(starts, position * TICKS) - 1 for position in positions]
    assert saved(source, times, loop=loop) == expected


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("v.mp4", "libx264", {"g": "30"}),
        ("v.mp4", "libx264", {"g": "30", "x264-params": "open-gop=1:bframes=3"}),
        ("v.mp4", "libx264", {"x264-params": "intra-refresh=1:keyint=30"}),
        ("v.mkv", "libx264", {"g": "30", "x264-params": "open-gop=1:bframes=3"}),
        ("v.mp4", "libx265", {"x265-params": "open-gop=1:keyint=30:log-level=none"}),
        ("v.ts", "libx264", {"g": "30"}),
        ("v.avi", "mpeg4", {"g": "30", "bf": "2", "qmin": "1", "qmax": "2"}),
        ("v.mkv", "ffv1", {}),
        ("v.mpg", "mpeg2video", {"g": "12", "bf": "2", "qmin": "1", "qmax": "2"}),
        ("v.flv", "libx264", {"g": "30"}),
        ("v.webm", "libvpx-vp9", {"g": "30"}),
    ],
)
def test_frames_far_apart_are_those_of_a_dense_decode(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    source = write_numbered(tmp_path / name, 300, codec=codec, options=options)
    dense = saved(source, at_25_fps(300))
    assert dense == list(range(300))
    sparse = [index * 2.88 for index in range(12)]
    assert saved(source, sparse, loop=True) == [round(time * 25) % 300 for time in sparse]
    assert saved(source, sparse) == [min(299, round(time * 25)) for time in sparse]


@pytest.mark.parametrize("matrix", [m for m in itertools.product((-1, 0, 1), repeat=4)
                                    if abs(m[0] * m[3] - m[1] * m[2]) == 1 and m[0] * m[1] == 0
                                    and m[2] * m[3] == 0])  # fmt: skip
def test_a_turned_or_mirrored_video_is_shown_upright(
    tmp_path: Path, matrix: tuple[int, int, int, int]
) -> None:
    a, b, c, d = matrix
    corners = {(-1, -1): 40, (1, -1): 90, (-1, 1): 140, (1, 1): 190}
    picture = np.block([[np.full((32, 48), corners[x, y]) for x in (-1, 1)] for y in (-1, 1)])
    source = write_video(tmp_path / "v.mp4", [picture.astype(np.uint8)] * 3)
    turn(source, matrix)
    probed = probe_source("v", source, max_megapixels=1)
    assert (probed.width, probed.height) == ((64, 96) if b else (96, 64))
    target, framing = tmp_path / "t.mp4", Framing(probed.width, probed.height, 64, 64)
    save_frames("v", source, target, times=[0], framing=framing, fps=25, loop=False)
    grey = next(greys(target))
    for (x, y), level in corners.items():
        to_x, to_y = a * x + c * y, b * x + d * y
        assert grey[32 + 16 * to_y, 32 + 16 * to_x] == pytest.approx(level, abs=3)


def turn(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Put the display matrix a b c d into the file's track header."""
    a, b, c, d = (0x10000 * value for value in matrix)
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def test_the_size_is_that_of_square_pixels(tmp_path: Path) -> None:
    source = write_numbered(tmp_path / "v.mp4", 3, options={"x264-params": "sar=4/3"})
    probed = probe_source("v", source, max_megapixels=1)
    assert (probed.width, probed.height) == (128, 64)
    framing = Framing(128, 64, WIDTH, HEIGHT)
    assert framing.crop_box == (16, 0, 112, 64)
    target = tmp_path / "t.mp4"
    save_frames("v", source, target, times=[0], framing=framing, fps=25, loop=False)
    assert next(greys(target)).shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize(("crop", "first_row"), [("center", 32), ("top", 0)])
def test_the_saved_picture_is_what_the_framing_shows(
    tmp_path: Path, crop: str, first_row: int
) -> None:
    rows = np.arange(40, 200, dtype=np.uint8)[:, None]
    source = write_video(tmp_path / "v.mp4", [np.tile(rows, (1, 96))])
    framing = Framing(96, 160, 96, 96, crop)  # type: ignore[arg-type]
    save_frames("v", source, tmp_path / "t.mp4", times=[0], framing=framing, fps=25, loop=False)
    grey = next(greys(tmp_path / "t.mp4")).astype(int)
    assert grey.shape == (96, 96)
    assert np.abs(grey[:, 48] - (40 + first_row + np.arange(96))).max() <= 2


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (Fraction(30000, 1001), Fraction(30000, 1001)),
        (24, Fraction(24)),
        (29.97, Fraction(2997, 100)),
    ],
)
def test_the_file_has_one_frame_per_time_at_the_rate_asked(
    tmp_path: Path, fps: Fraction | float, rate: Fraction
) -> None:
    source = write_numbered(tmp_path / "v.mp4", 10)
    target = tmp_path / "t.mp4"
    times = iter([0.0, 0.0, 0.3, 0.3, 9.0])
    save_frames("v", source, target, times=times, framing=SAME, fps=fps, loop=False)
    with av.open(str(target)) as container:
        video = container.streams.video[0]
        assert (video.average_rate, video.frames) == (rate, 5)
    assert [number(grey) for grey in greys(target)] == [0, 0, 7, 7, 9]


def write_colour(path: Path, tag: int, space: Colorspace, height: int = 64) -> Path:
    """A video of one colour, converted by the space and tagged with the code."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, height, "yuv420p"
        stream.codec_context.colorspace = tag
        pixels = np.full((height, 64, 3), (200, 60, 30), np.uint8)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
            format="yuv420p",
            src_color_range=ColorRange.JPEG,
            dst_colorspace=space,
            dst_color_range=ColorRange.MPEG,
        )
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("tag", "space", "height"),
    [
        (1, Colorspace.ITU709, 64),
        (6, Colorspace.ITU601, 64),
        (9, Colorspace.BT2020, 64),
        (2, Colorspace.ITU601, 64),
        (2, Colorspace.ITU709, 720),
    ],
)
def test_colours_are_kept_whatever_the_source_was_coded_in(
    tmp_path: Path, tag: int, space: Colorspace, height: int
) -> None:
    source = write_colour(tmp_path / "v.mp4", tag, space, height)
    framing, target = Framing(64, height, 64, 64), tmp_path / "t.mp4"
    save_frames("v", source, target, times=[0], framing=framing, fps=25, loop=False)
    with av.open(str(target)) as container:
        frame = next(container.decode(video=0))
        tags = frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range
        assert tags == (1, 1, 1, 1)
        assert frame.to_ndarray(format="rgb24")[32, 32] == pytest.approx([200, 60, 30], abs=4)


def test_white_paper_of_an_hdr_video_is_white(tmp_path: Path) -> None:
    source = tmp_path / "v.mp4"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx265", rate=25, options={"x265-params": "log-level=none"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace = 18, 9, 9
        frame = av.VideoFrame(64, 64, "yuv420p10le")
        for plane, level in zip(frame.planes, (721, 512, 512), strict=True):
            plane.update(np.full(plane.buffer_size // 2, level, np.uint16).tobytes())
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    target = tmp_path / "t.mp4"
    save_frames("v", source, target, times=[0], framing=Framing(64, 64, 64, 64), fps=25, loop=False)
    assert next(greys(target))[32, 32] > 228, "BT.2408: 75 % of HLG; untouched it would be 177"


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    picture = np.full((360, 640), 99, np.uint8)
    source = write_video(tmp_path / "v.mp4", [picture] * 900, options={"preset": "ultrafast"})
    resident: list[int] = []

    def times() -> Iterator[float]:
        for index in range(900):
            if index % 100 == 0:
                resident.append(resident_bytes())
            yield index / 25

    framing, target = Framing(640, 360, WIDTH, HEIGHT), tmp_path / "t.mp4"
    save_frames("v", source, target, times=times(), framing=framing, fps=25, loop=False)
    assert max(resident[1:]) - resident[1] < 15e6, "900 frames are 620 MB as RGB"


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
