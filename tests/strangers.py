"""Files as phones, browsers and tools make them, damaged ones too, and what must come of each."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import av
import numpy as np
import pillow_heif
from PIL import Image

from tests import hostile as h
from tests import profiles

LEFT, RIGHT = (200, 30, 40), (40, 60, 180)
GREY_LEFT, GREY_RIGHT = (82,) * 3, (68,) * 3  # of the same, by their brightness
SIZE = (160, 120)
TAKEN = "allowed: JPEG, PNG, WebP, AVIF, HEIC, GIF, BMP, TIFF"


class Shown(NamedTuple):
    """A picture that is taken: its colours at the left and at the right, within `near` levels.

    Each of `notes` is in one of the picture's own, in their order.
    """

    size: tuple[int, int] = SIZE
    left: tuple[int, ...] = LEFT
    right: tuple[int, ...] = RIGHT
    near: int = 3
    notes: tuple[str, ...] = ()


Maker = Callable[[], bytes]


def av1() -> bytes:
    """A video of 64x64. Its encoder gives root's processes a real-time priority, also later."""
    try:
        return h.video("matroska", codec="libsvtav1", size=(64, 64))
    finally:
        if hasattr(os, "sched_setscheduler"):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def drawing(
    mode: str = "RGB", left: tuple[int, ...] = LEFT, right: tuple[int, ...] = RIGHT
) -> Image.Image:
    """Two colours; of a mode other than RGB, the same converted."""
    image = Image.new("RGB", SIZE, left)
    image.paste(right, (SIZE[0] // 2, 0, *SIZE))
    return image.convert(mode)


def drawn(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    """The drawing as a file."""
    return h.saved(drawing(mode), kind, **options)


def in_p3(kind: str, **options: Any) -> bytes:
    """The drawing's colours in Display P3, with its profile."""
    image = drawing("RGB", profiles.in_display_p3(LEFT), profiles.in_display_p3(RIGHT))
    return h.saved(image, kind, icc_profile=profiles.display_p3(), **options)


def turned(kind: str, **options: Any) -> bytes:
    """The drawing as a phone held upright saves it, to be turned by a quarter: red comes on top."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return h.saved(drawing(), kind, exif=exif.tobytes(), **options)


def translucent(kind: str, **options: Any) -> bytes:
    """The drawing with its right half invisible."""
    image = drawing("RGBA")
    image.paste((0, 0, 0, 0), (SIZE[0] // 2, 0, *SIZE))
    return h.saved(image, kind, **options)


def two_frames(kind: str) -> bytes:
    """An animation, or a burst, that begins with the drawing."""
    other = Image.new("RGB", SIZE, "green")
    return h.saved(drawing(), kind, save_all=True, append_images=[other])


def deep_heic() -> bytes:
    """A HEIC of ten bits."""
    pixels = (np.asarray(drawing()).astype(np.uint16) * 257).tobytes()
    file = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", SIZE, pixels).save(file, chroma=444)
    return file.getvalue()


def coded(kind: str, primaries: int, transfer: int) -> bytes:
    """The drawing with codes for its colours (nclx), which are not converted to them."""
    if kind == "HEIF":
        codes = {"color_primaries": primaries, "transfer_characteristics": transfer}
        return h.saved(
            drawing(), kind, quality=90, matrix_coefficients=6, full_range_flag=1, **codes
        )
    new = struct.pack(">8sHH", b"colrnclx", primaries, transfer)
    return drawn(kind, quality=90).replace(b"colrnclx\0\1\0\x0d", new)


def interlaced() -> bytes:
    """A PNG in seven passes: of one row, which is all that its passes have."""
    rows = b""
    pixels = np.asarray(drawing())
    for x, y, dx, dy in [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4),
                         (1, 0, 2, 2), (0, 1, 1, 2)]:  # fmt: skip
        rows += b"".join(b"\0" + row.tobytes() for row in pixels[y::dy, x::dx])
    head = struct.pack(">IIBBBBB", *SIZE, 8, 2, 0, 0, 1)
    body = h.chunk(b"IHDR", head) + h.chunk(b"IDAT", zlib.compress(rows)) + h.chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def busy(kind: str, **options: Any) -> bytes:
    """The drawing with fine noise on it, so that its rows take about as many bytes each."""
    noise = np.random.default_rng(0).integers(-9, 10, (480, 640, 3))
    pixels = np.asarray(drawing().resize((640, 480))) + noise
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return h.saved(image, kind, **options)


def cut(content: bytes, share: float) -> bytes:
    """The file without the last of it."""
    return content[: round(len(content) * (1 - share))]


def with_chunk(kind: bytes, data: bytes) -> bytes:
    """The drawing as a PNG with one more chunk."""
    png = drawn("PNG")
    return png[:33] + h.chunk(kind, data) + png[33:]


def spoilt(kind: bytes, png: bytes) -> bytes:
    """The PNG with another checksum in the chunk of this kind."""
    place = png.index(kind)
    end = place + 4 + int.from_bytes(png[place - 4 : place], "big")
    return png[:end] + bytes(4) + png[end + 4 :]


LAB_RED, LAB_BLUE = (48, 68, 48), (30, 20, -50)


def printed() -> bytes:
    """A CMYK JPEG whose profile tells what its inks look like: magenta on yellow, and on cyan."""
    labs = {(0, 0, 0, 0): (100, 0, 0), (0, 1, 1, 0): LAB_RED, (1, 1, 0, 0): LAB_BLUE}
    corners = [labs.get(each, (0, 0, 0)) for each in np.ndindex(2, 2, 2, 2)]
    image = Image.new("CMYK", SIZE, (0, 255, 255, 0))
    image.paste((255, 255, 0, 0), (SIZE[0] // 2, 0, *SIZE))
    return h.saved(image, "JPEG", quality=100, icc_profile=profiles.inks(corners))


def unindexed() -> bytes:
    """An MP4 whose recorder was killed: pixels without the index that comes at the end."""
    content = h.video("mp4")
    return content[: content.index(b"moov") - 4]


def refused(came: str) -> str:
    return f"media_invalid: image_url: the file is not a picture but {came}, {TAKEN}"


CUT_JPEG, CUT_PNG = busy("JPEG", quality=90), busy("PNG")
PROGRESSIVE = busy("JPEG", quality=90, progressive=True)
LARGE, LARGE_SIZE = Shown(size=(640, 480), near=12), (640, 480)
BAD_PROFILE = "image_url: the picture's colour profile is damaged, and is not used"

PICTURES: dict[str, tuple[Maker, Shown | str]] = {
    "a JPEG": (partial(drawn, "JPEG"), Shown()),
    "a progressive JPEG": (partial(drawn, "JPEG", progressive=True), Shown()),
    "a grey JPEG": (partial(drawn, "JPEG", "L"), Shown(left=GREY_LEFT, right=GREY_RIGHT)),
    "a CMYK JPEG": (partial(drawn, "JPEG", "CMYK", quality=95), Shown()),
    "a phone's JPEG of two pictures": (partial(two_frames, "MPO"), Shown()),
    "a turned JPEG": (partial(turned, "JPEG"), Shown(size=(120, 160), right=LEFT)),
    "a PNG": (partial(drawn, "PNG"), Shown()),
    "a PNG with a palette": (partial(drawn, "PNG", "P"), Shown(near=26)),
    "a translucent PNG": (partial(translucent, "PNG"), Shown(right=(255, 255, 255))),
    "an interlaced PNG": (interlaced, Shown()),
    "a PNG of 16 bits": (h.rgb16, Shown((32, 32), (255, 0, 0), (255, 0, 0))),
    "a WebP": (partial(drawn, "WEBP"), Shown(near=6)),
    "a lossless WebP": (partial(drawn, "WEBP", lossless=True), Shown()),
    "a translucent WebP": (
        partial(translucent, "WEBP", lossless=True),
        Shown(right=(255, 255, 255)),
    ),
    "a turned WebP": (partial(turned, "WEBP"), Shown(size=(120, 160), right=LEFT, near=6)),
    "a GIF": (partial(drawn, "GIF"), Shown()),
    "a BMP": (partial(drawn, "BMP"), Shown()),
    "a TIFF": (partial(drawn, "TIFF", compression="tiff_lzw"), Shown()),
    "an AVIF": (partial(drawn, "AVIF", quality=90), Shown()),
    "a translucent AVIF": (partial(translucent, "AVIF", quality=90), Shown(right=(255,) * 3)),
    "an animated AVIF": (partial(two_frames, "AVIF"), Shown(near=6)),
    "a turned AVIF": (
        partial(turned, "AVIF", quality=90),
        Shown(size=(120, 160), right=LEFT),
    ),
    "a HEIC": (partial(drawn, "HEIF", quality=90), Shown()),
    "a HEIC in tiles, as phones make it": (
        partial(drawn, "HEIF", quality=90, tile_size=64),
        Shown(),
    ),
    "a grey HEIC": (
        partial(drawn, "HEIF", "L", quality=90),
        Shown(left=GREY_LEFT, right=GREY_RIGHT),
    ),
    "a translucent HEIC": (partial(translucent, "HEIF", quality=90), Shown(right=(255,) * 3)),
    "a turned HEIC": (
        partial(turned, "HEIF", quality=90),
        Shown(size=(120, 160), right=LEFT),
    ),
    "a HEIC of ten bits": (deep_heic, Shown()),
    "a HEIC of a burst": (partial(two_frames, "HEIF"), Shown(near=6)),
    "Display P3 in a JPEG": (partial(in_p3, "JPEG", quality=100, subsampling=0), Shown(near=2)),
    "Display P3 in a PNG": (partial(in_p3, "PNG"), Shown(near=2)),
    "Display P3 in a WebP": (partial(in_p3, "WEBP", lossless=True), Shown(near=2)),
    "Display P3 in a TIFF": (partial(in_p3, "TIFF"), Shown(near=2)),
    "Display P3 in a HEIC": (partial(in_p3, "HEIF", quality=100, chroma=444), Shown(near=2)),
    "Display P3 in an AVIF": (
        partial(in_p3, "AVIF", quality=100, subsampling="4:4:4"),
        Shown(near=2),
    ),
    **{
        f"a {kind} in {told} without a profile": (
            partial(coded, kind, *codes),
            Shown(
                notes=(f"image_url: the picture's colours are {told}, and are used as they are",)
            ),
        )
        for kind in ("HEIF", "AVIF")
        for told, codes in {
            "Display P3": (12, 13),
            "BT.2020 with PQ": (9, 16),
            "BT.2020 with HLG": (9, 18),
        }.items()
    },
    "a profile for grey": (
        lambda: h.saved(Image.new("L", SIZE, 128), "PNG", icc_profile=profiles.linear_grey()),
        Shown(left=(188,) * 3, right=(188,) * 3, near=2),
    ),
    "a profile for inks": (
        printed,
        Shown(left=profiles.lab_as_rgb(LAB_RED), right=profiles.lab_as_rgb(LAB_BLUE), near=4),
    ),
    "a damaged profile": (
        partial(drawn, "JPEG", icc_profile=b"broken" * 99),
        Shown(notes=(BAD_PROFILE,)),
    ),
    "a profile for other pixels": (
        lambda: drawn("PNG", icc_profile=profiles.linear_grey()),
        Shown(notes=("image_url: the picture's colour profile is for other pixels",)),
    ),
    "a profile of 1.5 MB": (
        lambda: with_chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(1_500_000))),
        Shown(notes=("image_url: the colour profile in the picture is too long",)),
    ),
    "a workflow of 1.8 MB": (
        lambda: with_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b'{"a":1}' * 260_000)),
        Shown(notes=("image_url: a text in the picture is too long",)),
    ),
    "a workflow of 1.8 MB in an international text": (
        lambda: with_chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(b'{"a":1}' * 260_000)),
        Shown(notes=("image_url: a text in the picture is too long",)),
    ),
    "a JPEG without its last two bytes": (
        lambda: CUT_JPEG[:-2],
        LARGE._replace(notes=("image_url: the picture is cut off",)),
    ),
    "a JPEG less a twentieth": (
        lambda: cut(CUT_JPEG, 0.05),
        LARGE._replace(notes=("cut off", "4 % of the picture's rows are missing")),
    ),
    "a JPEG less a third": (
        lambda: cut(CUT_JPEG, 1 / 3),
        "media_invalid: image_url: the picture cannot be decoded: it is cut off, 34 % of its rows",
    ),
    "a progressive JPEG without its last two bytes": (
        lambda: PROGRESSIVE[:-2],
        LARGE._replace(notes=("image_url: the picture is cut off",)),
    ),
    "a progressive JPEG less a tenth": (
        lambda: cut(PROGRESSIVE, 0.1),
        LARGE._replace(notes=("image_url: the picture is cut off",)),
    ),
    "a progressive JPEG less half, of which all but the finest detail came before": (
        lambda: cut(PROGRESSIVE, 0.5),
        LARGE._replace(notes=("image_url: the picture is cut off",)),
    ),
    "a progressive JPEG less three quarters": (
        lambda: cut(PROGRESSIVE, 0.75),
        "media_invalid: image_url: the picture cannot be decoded: it is cut off, 100 % of its rows",
    ),
    "a PNG less a twentieth": (
        lambda: cut(CUT_PNG, 0.05),
        LARGE._replace(notes=("cut off", "% of the picture's rows are missing")),
    ),
    "a PNG less half": (
        lambda: cut(CUT_PNG, 0.5),
        "media_invalid: image_url: the picture cannot be decoded: it is cut off, 5",
    ),
    "a PNG without its end": (
        lambda: drawn("PNG")[:-12],
        Shown(notes=("image_url: the picture is cut off",)),
    ),
    **{
        f"a wrong checksum of {kind.decode()}": (
            partial(spoilt, kind, with_chunk(b"tEXt", b"Title\0me")),
            Shown(notes=("image_url: a checksum in the picture is wrong",)),
        )
        for kind in (b"IHDR", b"IDAT", b"tEXt")
    },
    "nothing": (lambda: b"", refused("empty")),
    "a web page": (lambda: h.HTML, refused("a web page")),
    "an SVG": (lambda: h.SVG, refused("an SVG drawing")),
    "a PDF": (lambda: drawn("PDF"), refused("a PDF")),
    "PostScript": (lambda: h.EPS, refused("a PostScript file")),
    "JSON": (
        lambda: b'{"error": {"code": 404, "message": "no such file"}}',
        refused('JSON: {"error": {"code": 404, "message": "no such file"}}'),
    ),
    "a bucket's answer": (
        lambda: b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
        refused("XML: AccessDenied"),
    ),
    "a text with a secret": (
        lambda: b"see https://bucket.s3.amazonaws.com/me.jpg?X-Amz-Signature=SECRET",
        refused("text: see https://bucket.s3.amazonaws.com/me.jpg?..."),
    ),
    "an MP4": (h.video, refused("an MP4")),
    "an MP4 without its index": (unindexed, refused("an MP4 without its index")),
    "a WebM": (
        lambda: h.video("webm", codec="libvpx-vp9"),
        refused("a Matroska or WebM file"),
    ),
    "a WAV": (h.sound, refused("a WAV sound")),
    "an MP3": (lambda: h.sound("mp3", codec="libmp3lame"), refused("an MP3 sound")),
    "an icon": (lambda: drawn("ICO"), refused("an icon")),
    "a JPEG 2000": (lambda: drawn("JPEG2000"), refused("a JPEG 2000 picture")),
    "a ZIP": (lambda: b"PK\3\4" + bytes(99), refused("a ZIP file")),
    "a picture gone through gzip": (lambda: zlib.compress(b"x", wbits=31), refused("a gzip file")),
    "noise": (
        lambda: b"\x07" + h.noise(),
        f"media_invalid: image_url: the file is not a picture, {TAKEN}",
    ),
    "a PNG without pixels": (
        lambda: drawn("PNG")[:30],
        "media_invalid: image_url: the picture cannot be decoded: cannot load this image",
    ),
}


class Moving(NamedTuple):
    """A video that is taken: its size upright, its frames, its seconds, and its brightness."""

    size: tuple[int, int] = (64, 48)
    frames: int = 10
    seconds: float = 0.4
    grey: int = 128


def animation(kind: str) -> bytes:
    """Four frames of 100 ms, 200 ms, no delay, 300 ms."""
    images = [Image.new("L", (64, 48), 118 + 10 * number).convert("RGB") for number in range(4)]
    delays = [100, 200, 0, 300]
    return h.saved(
        images[0], kind, save_all=True, append_images=images[1:], duration=delays, lossless=True
    )


def turned_phone() -> bytes:
    """A stream whose picture becomes upright in the middle, as a phone's browser records it."""
    return h.video("mpegts", frames=10) + h.video("mpegts", frames=10, size=(48, 64))


def textured(kind: str, codec: str, frames: int = 60) -> bytes:
    """A texture that moves to the left: of frames that are missing or smeared, the next one is."""
    size, file = (320, 240), io.BytesIO()
    tiles = np.random.default_rng(0).integers(0, 255, (size[1] // 8, 160, 3)).astype(np.uint8)
    wall = tiles.repeat(8, 0).repeat(8, 1)
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            shown = np.ascontiguousarray(wall[:, 3 * number : 3 * number + size[0]])
            frame = av.VideoFrame.from_ndarray(shown, "rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def with_spoilt_packets(content: bytes, share: float) -> bytes:
    """The file with wrong bytes in so many of its packets, but for the first."""
    rng, spoilt = random.Random(0), bytearray(content)
    with av.open(io.BytesIO(content), "r") as container:
        places = [(packet.pos, packet.size) for packet in container.demux() if packet.size]
    for place, size in places[1:]:
        assert place is not None
        for _ in range(max(1, size // 50) if rng.random() < share else 0):
            spoilt[place + rng.randrange(min(8, size - 1), size)] = rng.randrange(256)
    return bytes(spoilt)


def joined_matroska(codec: str) -> bytes:
    """Two in one file, as `cat` makes it."""
    return 2 * h.video("matroska", codec=codec)


def no_video(came: str) -> str:
    return f"media_invalid: video_url: the video cannot be decoded: it is {came}"


VIDEOS: dict[str, tuple[Maker, Moving | str]] = {
    "an MP4": (h.video, Moving()),
    "a MOV": (partial(h.video, "mov"), Moving()),
    "HEVC": (partial(h.video, codec="libx265"), Moving()),
    "HEVC of ten bits": (partial(h.video, codec="libx265", pix_fmt="yuv420p10le"), Moving()),
    "ProRes": (partial(h.video, "mov", codec="prores_ks", pix_fmt="yuv422p10le"), Moving()),
    "ProRes with transparency": (
        partial(h.video, "mov", codec="prores_ks", pix_fmt="yuva444p10le"),
        Moving(),
    ),
    "a WebM of VP8": (partial(h.video, "webm", codec="libvpx"), Moving()),
    "a WebM of VP9": (partial(h.video, "webm", codec="libvpx-vp9"), Moving()),
    "AV1": (av1, Moving(size=(64, 64))),
    "an AVI": (partial(h.video, "avi", codec="mpeg4"), Moving()),
    "a WMV": (partial(h.video, "asf", codec="wmv2"), Moving()),
    "an FLV": (partial(h.video, "flv"), Moving()),
    "an MPEG": (partial(h.video, "mpeg", codec="mpeg2video"), Moving()),
    "a TS": (partial(h.video, "mpegts"), Moving()),
    "two TS joined": (lambda: 2 * h.video("mpegts"), Moving(frames=20, seconds=0.8)),
    **{
        f"two Matroska of {codec} joined": (
            partial(joined_matroska, codec),
            Moving(frames=20, seconds=0.8),
        )
        for codec in ("libx264", "libvpx-vp9")
    },
    "a turned MP4": (h.turned_video, Moving(size=(32, 64))),
    "a phone turned while recording": (turned_phone, Moving(frames=20, seconds=0.8)),
    "slow motion": (
        partial(h.video, step=Fraction(1, 240), frames=48),
        Moving(frames=48, seconds=0.2),
    ),
    "a GIF": (partial(animation, "GIF"), Moving(frames=4, seconds=0.7)),
    "an animated WebP": (partial(animation, "WEBP"), Moving(frames=4, seconds=0.7)),
    "a fragmented MP4": (
        partial(h.video, options={"movflags": "frag_keyframe+empty_moov"}),
        Moving(),
    ),
    "nothing": (lambda: b"", no_video("empty, allowed: MP4, MOV, M4A, MKV, WebM, AVI, MPEG-TS, ")),
    "a web page": (lambda: h.HTML, no_video("a web page, allowed: MP4, MOV")),
    "JSON": (lambda: b'{"error": 404}', no_video('JSON: {"error": 404}, allowed: MP4')),
    "a playlist": (lambda: b"#EXTM3U\na.ts\n", no_video("a playlist, allowed: MP4")),
    "a picture": (partial(drawn, "PNG"), no_video("a PNG picture, allowed: MP4")),
    "a WebP picture": (partial(drawn, "WEBP"), no_video("a WebP without animation, a picture")),
    "an MP4 without its index": (unindexed, no_video("an MP4 without its index, allowed: MP4")),
    "a WAV": (h.sound, no_video("a WAV sound, allowed: MP4")),
}
