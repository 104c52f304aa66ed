"""Media files as an attacker, or a broken program, would send them: small, and made on the spot."""

from __future__ import annotations

import io
import lzma
import math
import struct
import wave
import zlib
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import av
import numpy as np
from PIL import Image

Maker = Callable[[], bytes]
RED, BLUE = (255, 0, 0), (0, 0, 255)


# Pictures


def two_colours(width: int = 64, height: int = 48, mode: str = "RGB") -> Image.Image:
    """Red at the left, blue at the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image.convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(two_colours(), "PNG", exif=exif)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG of zeros with these chunks before its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    rows = zeros(height * (1 + width * depth * {0: 1, 2: 3}[colour] // 8))
    data = chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data


def zeros(count: int) -> bytes:
    """So many zeros, deflated; at most 64 MB of them."""
    return zlib.compress(bytes(min(count, 64_000_000)), 1)


def rgb16() -> bytes:
    """A red PNG of 16 bits a channel."""
    row = b"\0" + struct.pack(">3H", 65535, 0, 0) * 32
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(row * 32)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + data


def claiming_jpeg(width: int, height: int) -> bytes:
    """A small JPEG whose header tells another size."""
    jpeg = bytearray(saved(two_colours(), "JPEG"))
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(jpeg)


def many_scans(count: int) -> bytes:
    """A progressive JPEG that refines its pixels again and again."""
    jpeg = saved(Image.new("RGB", (2000, 1500), RED), "JPEG", progressive=True)
    return jpeg[:-2] + jpeg[jpeg.rindex(b"\xff\xda") : -2] * count + jpeg[-2:]


def rgb_cmyk(invert: bool) -> bytes:
    """A CMYK JPEG as Pillow writes it, with Adobe's marker; or with that marker spoilt."""
    jpeg = saved(Image.new("CMYK", (64, 48), (0, 255, 255, 0)), "JPEG", quality=95)
    return jpeg.replace(b"Adobe", b"Nobel") if invert else jpeg


def bmp_runs(side: int) -> bytes:
    """A run-length coded BMP in which each run is one pixel long."""
    body = (b"\1\5" * side + b"\0\0") * side + b"\0\1"
    head = struct.pack("<2sIHHI", b"BM", 1078 + len(body), 0, 0, 1078)
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(body), 0, 0, 256, 0)
    return head + info + bytes(1024) + body


def tiff(side: int, compression: int, data: bytes, tile: int | None = None) -> bytes:
    """A grey TIFF of one strip; or of tiles, all of the same data."""
    count = math.ceil(side / tile) ** 2 if tile else 1
    offsets, sizes = 8 + len(data), 8 + len(data) + 4 * count
    place, size = (offsets, sizes) if tile else (8, len(data))
    first, second = (324, 325) if tile else (273, 279)
    layout = [(322, tile), (323, tile)] if tile else [(278, side)]
    entries = [(256, side), (257, side), (258, 8), (259, compression), (262, 1), (277, 1), *layout]
    fields = [(tag, 1, value or 0) for tag, value in entries]
    fields += [(first, count, place), (second, count, size)]
    directory = b"".join(struct.pack("<HHII", tag, 4, *rest) for tag, *rest in sorted(fields))
    tables = struct.pack("<I", 8) * count + struct.pack("<I", len(data)) * count
    start = struct.pack("<2sHI", b"II", 42, 8 + len(data) + len(tables))
    return start + data + tables + struct.pack("<H", len(fields)) + directory + bytes(4)


def looping_tiff() -> bytes:
    """Its first directory says that it is followed by itself."""
    file = bytearray(tiff(32, 1, b"\x80" * 1024))
    file[-4:] = file[4:8]
    return bytes(file)


def many_frames(kind: str, count: int) -> bytes:
    """An animation that begins red and goes on blue."""
    frames = [Image.new("RGB", (32, 32), (0, 0, 250 - i % 9)) for i in range(count)]
    return saved(two_colours(32, 32), kind, save_all=True, append_images=frames)


def long_gif(count: int) -> bytes:
    """A GIF that repeats its last frame so often."""
    gif = many_frames("GIF", 2)
    frame = gif[gif.rindex(b"!\xf9\x04") : -1]
    return gif[:-1] + frame * count + b";"


def webp_of(width: int, height: int) -> bytes:
    """A lossless WebP whose header tells another size."""
    file = bytearray(saved(two_colours(), "WEBP", lossless=True))
    place = file.index(b"VP8L") + 9
    bits = struct.unpack_from("<I", file, place)[0] >> 28 << 28
    struct.pack_into("<I", file, place, bits | (height - 1) << 14 | width - 1)
    return bytes(file)


def ispe_of(kind: str, width: int, height: int) -> bytes:
    """A HEIC or AVIF whose index tells another size."""
    return patched(saved(two_colours(), kind), b"ispe", 8, struct.pack(">II", width, height))


def gif_of(width: int, height: int) -> bytes:
    """A GIF whose screen and frame are so large, with data for few of the pixels."""
    file = bytearray(saved(two_colours(), "GIF"))
    struct.pack_into("<HH", file, 6, width, height)
    struct.pack_into("<HH", file, file.index(b",\0\0\0\0") + 5, width, height)
    return bytes(file)


def transparent_palette() -> bytes:
    image = two_colours(mode="P")
    return saved(image, "PNG", transparency=image.getpixel((0, 0)))


SVG = b"""<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><text>&x;</text></svg>"""
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n(/etc/passwd) (r) file\n%%EOF\n"
HTML = b"<!doctype html><html><title>404 Not Found</title><body>No such file.</body></html>"


# Sound and video


def sound(
    kind: str = "wav",
    *,
    codec: str = "pcm_s16le",
    seconds: float = 1.0,
    rate: int = 16_000,
    layout: str = "mono",
) -> bytes:
    """A tone, encoded."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        samples = 0.3 * np.sin(np.arange(round(seconds * rate)) * 0.1)
        assert isinstance(stream, av.AudioStream)
        channels = stream.layout.nb_channels
        data = np.repeat((samples * 32767).astype(np.int16), channels)[None]
        frame = av.AudioFrame.from_ndarray(data, "s16", layout)
        frame.rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        resampler = av.AudioResampler(stream.format.name, layout, rate, stream.frame_size or None)
        for block in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    return file.getvalue()


def wav(samples: bytes, *, rate: int = 16_000, channels: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((channels, 2, rate, 0, "NONE", ""))
        writer.writeframes(samples)
    return file.getvalue()


def claiming_wav(size: int, data: bytes = b"\0\x40" * 16_000) -> bytes:
    """A WAV whose header tells another size of its data."""
    file = bytearray(wav(data))
    file[4:8] = struct.pack("<I", min(size + 36, 2**32 - 1))
    file[40:44] = struct.pack("<I", size)
    return bytes(file)


def patched(content: bytes, mark: bytes, offset: int, new: bytes) -> bytes:
    """Other bytes, `offset` after the first `mark`."""
    place = content.index(mark) + offset
    return content[:place] + new + content[place + len(new) :]


def video(
    kind: str = "mp4",
    *,
    codec: str = "libx264",
    frames: int = 10,
    size: tuple[int, int] = (64, 48),
    step: Fraction = Fraction(1, 25),
    start: int = 0,
    streams: int = 1,
    options: Mapping[str, str] | None = None,
    pix_fmt: str = "yuv420p",
) -> bytes:
    """Grey frames, `step` seconds apart."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind, options=dict(options or {})) as container:
        for _ in range(streams):
            stream = container.add_stream(codec, rate=1 / step)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
            stream.time_base = stream.codec_context.time_base = step
        for index in range(frames):
            grey = np.full((size[1] * 3 // 2, size[0]), 128, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, "yuv420p").reformat(format=pix_fmt)
            frame.pts, frame.time_base = start + index, step
            for each in container.streams.video:
                container.mux(each.encode(frame))
        for each in container.streams.video:
            container.mux(each.encode(None))
    return file.getvalue()


def box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(data), kind) + data


def with_box(mp4: bytes, kind: bytes, data: bytes) -> bytes:
    """The MP4 with other contents in its first box of this kind, somewhere in the first track."""
    around = {b"elst": [b"edts"], b"dref": [b"mdia", b"minf", b"dinf"]}
    parents = [b"moov", b"trak", *around.get(kind, [b"mdia", b"minf", b"stbl"])]
    place = mp4.index(kind) - 4
    size = int.from_bytes(mp4[place : place + 4], "big")
    new = box(kind, data)
    file = bytearray(mp4[:place] + new + mp4[place + size :])
    for parent in parents:
        at = bytes(file).index(parent) - 4
        grown = int.from_bytes(file[at : at + 4], "big") + len(new) - size
        file[at : at + 4] = struct.pack(">I", grown)
    return bytes(file)


def many_samples(count: int) -> bytes:
    """An MP4 of a thousand bytes whose index claims so many frames of one byte."""
    file = with_box(video(), b"stsz", struct.pack(">3I", 0, 1, count))
    file = with_box(file, b"stts", struct.pack(">4I", 0, 1, count, 512))
    return with_box(file, b"stsc", struct.pack(">5I", 0, 1, 1, count, 1))


def many_in_a_fragment(count: int) -> bytes:
    """A fragment that claims so many frames without a word on any of them."""
    file = video(options={"movflags": "frag_keyframe+empty_moov"})
    place = file.index(b"trun") - 4
    size = int.from_bytes(file[place : place + 4], "big")
    run = box(b"trun", struct.pack(">2I", 0, count))
    return file[:place] + run + box(b"free", bytes(size - len(run) - 8)) + file[place + size :]


def nonsense_edits() -> bytes:
    """An edit list that begins years later and plays backwards."""
    edits = struct.pack(">2I", 0, 3)
    edits += struct.pack(">Iii", 2**31, 2**31 - 1, 0x10000)
    edits += struct.pack(">Iii", 0, -5, -0x10000) + struct.pack(">Iii", 1, 7, 0)
    return with_box(video(), b"elst", edits)


def turned_video() -> bytes:
    """By a quarter, as a phone tells it."""
    matrix = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    return patched(video(size=(64, 32)), b"tkhd", 44, matrix)


def growing_video() -> bytes:
    """A transport stream that goes on in another size."""
    return video("mpegts", size=(64, 48)) + video("mpegts", size=(256, 192), start=10)


def claiming_mjpeg(width: int, height: int) -> bytes:
    """An AVI of small frames that say that they are large; its header does not."""
    file = bytearray(video("avi", codec="mjpeg", pix_fmt="yuvj420p"))
    place = -1
    while (place := file.find(b"\xff\xc0", place + 1)) > 0:
        file[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return bytes(file)


def reference_movie() -> bytes:
    """A QuickTime file whose frames are said to be in another file."""
    name = b"/etc/passwd"
    alias = bytes(150) + struct.pack(">2h", 18, len(name)) + name + b"\0" + struct.pack(">h", -1)
    entry = box(b"alis", bytes(4) + alias)
    return with_box(video("mov"), b"dref", struct.pack(">2I", 0, 1) + entry)


def cover_alone() -> bytes:
    """A sound file with a cover, where a video should be."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=16_000, layout="mono")
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        packet = av.Packet(saved(two_colours(), "PNG"))
        packet.stream, packet.pts, packet.dts = cover, 0, 0
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), "s16p", "mono")
        silence.rate, silence.pts, silence.time_base = 16_000, 0, Fraction(1, 16_000)
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
        container.mux(packet)
    return file.getvalue()


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def noise(size: int = 20_000) -> bytes:
    return np.random.default_rng(1).bytes(size)


PLAYLISTS: Mapping[str, bytes] = {
    "hls": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "dash": b'<?xml version="1.0"?><MPD><Period><BaseURL>file:///etc/</BaseURL></Period></MPD>',
    "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n",
    "cue": b'FILE "/etc/passwd" WAVE\n TRACK 01 AUDIO\n  INDEX 01 00:00:00\n',
    "subtitles": b"[Script Info]\nScriptType: v4.00+\n[Fonts]\nfontname: /etc/passwd\n[Events]\n",
    "real": b"rtsp://127.0.0.1/etc/passwd\n--stop--\n",
    "redirect": b"[Reference]\nRef1=http://127.0.0.1/x?MSWMExt=.asf\n",
    "html": HTML,
    "nothing": b"",
}


def picture_noise(kind: str) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
    return saved(Image.fromarray(pixels), kind)


def xz() -> bytes:
    return lzma.compress(b"\0" * 1024)
