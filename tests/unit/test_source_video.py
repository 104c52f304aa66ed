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
from PIL import Image

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


def test_a_file_whose_first_stream_is_its_sound_keeps_its_last_frames(tmp_path: Path) -> None:
    """As many editors write it; a decoder gives its last frames at the end alone."""
    picture, both = write_numbered(tmp_path / "v.mp4", 40), tmp_path / "both.mp4"
    with av.open(str(picture)) as source, av.open(str(both), "w") as target:
        sound = target.add_stream("aac", rate=16_000)
        assert isinstance(sound, av.AudioStream)
        copied = target.add_stream_from_template(source.streams.video[0])
        silence = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        for plane in silence.planes:
            plane.update(bytes(plane.buffer_size))
        silence.sample_rate = 16_000
        target.mux([*sound.encode(silence), *sound.encode(None)])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
    assert saved(both, at_25_fps(40)) == [*range(40)]


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


def test_a_video_cut_off_says_how_much_of_it_is_there(tmp_path: Path) -> None:
    source = write_numbered(tmp_path / "v.mp4", 100, container_options={"movflags": "+faststart"})
    content = source.read_bytes()
    assert probe_source("video_url", source, max_megapixels=1).notes == ()
    source.write_bytes(content[: (len(content) + content.index(b"mdat")) // 2])
    seen = probe_source("video_url", source, max_megapixels=1)
    told = f"{seen.duration:.1f} s of the 4.0 s that it tells of are there"
    assert seen.notes == (f"video_url: the file is not whole: {told}",)


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


@pytest.mark.parametrize(("down", "first_row"), [(0.5, 32), (0.0, 0)], ids=["center", "top"])
def test_the_saved_picture_is_what_the_framing_shows(
    tmp_path: Path, down: float, first_row: int
) -> None:
    rows = np.arange(40, 200, dtype=np.uint8)[:, None]
    source = write_video(tmp_path / "v.mp4", [np.tile(rows, (1, 96))])
    framing = Framing(96, 160, 96, 96, (0.5, down))
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


def joined(target: Path, *parts: Path) -> Path:
    """Files one after another, as `cat` joins them."""
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    return target


def later(ts: Path, seconds: float) -> Path:
    """The same stream with a clock that is ahead by so much."""
    target = ts.with_name(f"later_{ts.name}")
    options = {"output_ts_offset": str(seconds)}
    with av.open(str(ts)) as source, av.open(str(target), "w", options=options) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    return target


@pytest.mark.parametrize(("name", "ahead"), [("v.ts", 0), ("v.ts", 3600), ("v.mpg", 0)])
def test_joined_parts_keep_their_length_whatever_their_clocks_say(
    tmp_path: Path, name: str, ahead: float
) -> None:
    codec = "libx264" if name == "v.ts" else "mpeg2video"
    options = {} if name == "v.ts" else {"qmin": "1", "qmax": "2"}
    pictures = [numbered(index) for index in range(75)]
    first = write_video(tmp_path / name, pictures[:25], codec=codec, options=options)
    second = write_video(tmp_path / f"2{name}", pictures[25:], codec=codec, options=options)
    second = later(second, ahead) if ahead else second
    source = joined(tmp_path / f"joined_{name}", first, second)
    probed = probe_source("v", source, max_megapixels=1)
    assert probed.frames == 75
    assert probed.duration == pytest.approx(3.0, abs=0.001)
    assert saved(source, at_25_fps(75)) == list(range(75))
    sparse = [index * 1.32 for index in range(6)]
    assert saved(source, sparse, loop=True) == [round(time * 25) % 75 for time in sparse]


def halves(width: int, height: int) -> Grey:
    """Dark at the left, bright at the right."""
    picture = np.full((height, width), 60, np.uint8)
    picture[:, width // 2 :] = 200
    return picture


def shown_last(source: Path, framing: Framing) -> Grey:
    """The picture at the source's end."""
    target = source.with_name("shown.mp4")
    save_frames("v", source, target, times=[99], framing=framing, fps=25, loop=False)
    return next(greys(target)).astype(np.uint8)


def test_a_phone_turned_while_recording_is_not_stretched(tmp_path: Path) -> None:
    wide = write_video(tmp_path / "wide.ts", [halves(96, 64)] * 10)
    tall = write_video(tmp_path / "tall.ts", [halves(64, 96)] * 10)
    source = joined(tmp_path / "v.ts", wide, tall)
    probed = probe_source("v", source, max_megapixels=1)
    assert (probed.width, probed.height, probed.frames) == (96, 64, 20)
    grey = shown_last(source, SAME)
    middle = grey[32].astype(int)
    assert middle[20] < 30 > middle[75], "as players show it: black at both sides"
    assert middle[35] == pytest.approx(60, abs=3)
    assert middle[60] == pytest.approx(200, abs=3)
    assert 40 < (middle > 40).sum() < 46, "64 by 96 in 64 rows"


def test_a_display_matrix_that_changes_in_the_file_turns_what_follows(tmp_path: Path) -> None:
    lying = write_video(tmp_path / "lying.ts", [halves(96, 96)] * 10)
    source = joined(tmp_path / "v.ts", lying, with_orientation(lying, 90))
    assert probe_source("v", source, max_megapixels=1).frames == 20
    square = Framing(96, 96, 96, 96)
    save_frames("v", source, tmp_path / "t.mp4", times=[0], framing=square, fps=25, loop=False)
    assert next(greys(tmp_path / "t.mp4"))[48, 20] == pytest.approx(60, abs=3)
    turned = shown_last(source, square)
    assert sorted((int(turned[20, 48]), int(turned[76, 48]))) == pytest.approx([60, 200], abs=3)


def with_orientation(source: Path, degrees: int) -> Path:
    """The stream with a message to players in it: turn the picture."""
    target = source.with_name(f"turned_{source.name}")
    with av.open(str(source)) as container, av.open(str(target), "w") as output:
        stream = container.streams.video[0]
        message = f"h264_metadata=display_orientation=insert:rotate={degrees}"
        inserting = av.BitStreamFilterContext(message, stream)
        copy = output.add_stream_from_template(stream)
        for packet in container.demux(stream):
            for each in inserting.filter(packet if packet.dts is not None else None):
                each.stream = copy
                output.mux(each)
    return target


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_each_picture_of_an_animation_stays_as_long_as_it_says(tmp_path: Path, kind: str) -> None:
    delays = [100, 200, 40, 40, 0, 500]
    levels = [(numbered(index) - 16.0) * 255 / 219 for index in range(len(delays))]
    pictures = [Image.fromarray(np.rint(level).astype(np.uint8)).convert("RGB") for level in levels]
    options = {"lossless": True} if kind == "WEBP" else {}
    source = tmp_path / f"v.{kind.lower()}"
    pictures[0].save(
        source, kind, save_all=True, append_images=pictures[1:], duration=delays, loop=0, **options
    )
    as_shown = [delay or 100 for delay in delays]  # by browsers
    probed = probe_source("v", source, max_megapixels=1)
    assert (probed.width, probed.height, probed.frames) == (WIDTH, HEIGHT, 6)
    assert probed.duration == pytest.approx(sum(as_shown) / 1000)
    expected = [index for index, delay in enumerate(as_shown) for _ in range(delay // 20)]
    times = [index / 50 for index in range(len(expected))]
    assert saved(source, times) == expected
    assert saved(source, [*times, *[time + probed.duration for time in times]], loop=True) == [
        *expected,
        *expected,
    ]


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_what_is_transparent_in_an_animation_is_white(tmp_path: Path, kind: str) -> None:
    clear = Image.new("RGBA", (96, 64), (60, 60, 60, 255))
    clear.paste((0, 0, 0, 0), (40, 20, 60, 40))  # a hole
    other = clear.copy()
    other.paste((90, 90, 90, 255), (0, 0, 20, 64))
    source = tmp_path / "v"
    clear.save(source, kind, save_all=True, append_images=[other], duration=100, disposal=2)
    grey = shown_last(source, SAME)
    assert grey[30, 50] > 230
    assert grey[32, 10] == pytest.approx(16 + 90 * 219 / 255, abs=4)


def test_a_webp_that_is_a_picture_is_no_video(tmp_path: Path) -> None:
    Image.new("RGB", (96, 64)).save(tmp_path / "v.webp")
    with pytest.raises(MediaInvalid, match="v: the video cannot be decoded: it is a WebP without"):
        probe_source("v", tmp_path / "v.webp", max_megapixels=1)


def write_hdr(path: Path, transfer: int, size: tuple[int, int]) -> Path:
    """As a phone with HDR records: ten bits in BT.2020, dark at the left, skin at the right."""
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "x265-params": "log-level=none"}
        stream = container.add_stream("libx265", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace = transfer, 9, 9
        for index in range(3):
            frame = av.VideoFrame(*size, "yuv420p10le")
            for plane, dark, skin in zip(
                frame.planes, (300, 520, 505), (500, 470, 580), strict=True
            ):
                levels = np.full((plane.height, plane.line_size // 2), dark, np.uint16)
                levels[:, plane.width // 2 :] = skin
                plane.update(levels.tobytes())
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("transfer", [16, 18], ids=["PQ", "HLG"])
def test_4k_hdr_is_tone_mapped_as_1080p_is(tmp_path: Path, transfer: int) -> None:
    found: list[npt.NDArray[np.int16]] = []
    for size in ((2160, 3840), (1080, 1920)):
        source = write_hdr(tmp_path / f"{size[0]}.mov", transfer, size)
        probed = probe_source("v", source, max_megapixels=9)
        assert (probed.width, probed.height, probed.frames) == (*size, 3)
        target, framing = tmp_path / "t.mp4", Framing(*size, 480, 832)
        save_frames("v", source, target, times=[0, 0.05], framing=framing, fps=25, loop=False)
        with av.open(str(target)) as container:
            picture = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(np.int16)
        found.append(picture[400, [100, 380]])
    assert np.abs(found[0] - found[1]).max() <= 2
    dark, skin = found[0]
    assert skin[0] > skin[1] > skin[2] > dark.mean(), "red before green before blue"
