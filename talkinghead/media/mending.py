"""Damaged JPEGs and PNGs: mended so that Pillow opens them, and how much of them is missing.

Pillow could be told to load what is cut off, but for the whole process; here the bytes are mended.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

JPEG_HEAD, PNG_HEAD = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
# A marker that a length follows, or the end; not the stuffing and restarts inside of a scan.
JPEG_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
JPEG_SCAN, JPEG_END = 0xDA, 0xD9
COEFFICIENTS = 64  # of a block of a JPEG
FINEST_BIT = 1  # a scan may leave so many bits of a coefficient to a later one
MAX_TEXT_BYTES = 2**20  # unpacked, of a PNG's text or profile: Pillow's MAX_TEXT_CHUNK
CHUNK, CHECKSUM_BYTES = struct.Struct(">I4s"), 4
MAX_CHUNKS = 100_000  # of a PNG: its pixels come in a few thousand
CUT, CHECKSUM = "the picture is cut off", "a checksum in the picture is wrong"
PACKED = {b"iCCP": "the colour profile", b"zTXt": "a text", b"iTXt": "a text"}
BAND_ROWS = 64
# The values that decoders leave where nothing came: a JPEG's is mid-grey, in CMYK inverted.
JPEG_LEFT_OUT, PNG_LEFT_OUT = (127, 128), (0, 0)


@dataclass(frozen=True)
class Mended:
    """A picture's file as Pillow opens it.

    `faults` say in words what was wrong with it, and `cut` whether pixels may be missing.
    """

    content: bytes
    faults: tuple[str, ...] = ()
    cut: bool = False


def mended(content: bytes) -> Mended:
    """The file, mended if it is a damaged JPEG or PNG."""
    if content.startswith(JPEG_HEAD):
        return _mended_jpeg(content)
    if content.startswith(PNG_HEAD):
        return _mended_png(content)
    return Mended(content)


def load(image: ImageFile, file: Mended) -> float:
    """Load the opened picture's pixels; returns the share of its rows that are missing.

    Raises:
        OSError: it cannot be decoded, though nothing was found wrong with the file.
    """
    if not file.cut:
        image.load()
        return 0.0
    if image.format == "PNG":
        return _load_png(image)
    coarse = _rows_left_coarse(file.content) if image.info.get("progressive") else 0.0
    image.load()
    return max(coarse, _rows_left_out(image, JPEG_LEFT_OUT))


def _load_png(image: ImageFile) -> float:
    try:
        image.load()
    except (OSError, SyntaxError):
        image.tile = []  # loaded as far as it goes
        return _rows_left_out(image, PNG_LEFT_OUT)
    return 0.0


def _rows_left_out(image: Image.Image, left_out: tuple[int, int]) -> float:
    """The share of rows at the picture's end of which nothing was decoded."""
    low, high = left_out
    for bottom in range(image.height, 0, -BAND_ROWS):
        top = max(0, bottom - BAND_ROWS)
        band = np.asarray(image.crop((0, top, image.width, bottom))).reshape(bottom - top, -1)
        seen = np.flatnonzero(((band < low) | (band > high)).any(axis=1))
        if seen.size:
            return 1 - (top + int(seen[-1]) + 1) / image.height
    return 1.0


class Scan(NamedTuple):
    """A scan of a progressive JPEG: which components' coefficients, down to which bit.

    `place` is where its marker begins.
    """

    place: int
    components: bytes
    first: int
    last: int
    bit: int


def count_scans(jpeg: bytes) -> int:
    """How many scans the JPEG file has, at most: all that begin before its end."""
    return sum(marker == JPEG_SCAN for marker, _ in _markers(jpeg))


def _markers(jpeg: bytes) -> Iterator[tuple[int, int]]:
    """The codes of the JPEG's markers and where they begin, up to its end."""
    place = 2
    while match := JPEG_MARKER.search(jpeg, place):
        marker, place = match[0][-1], match.end()
        yield marker, match.start()
        if marker == JPEG_END:
            return
        place += int.from_bytes(jpeg[place : place + 2], "big")


def _mended_jpeg(content: bytes) -> Mended:
    if content.rstrip(b"\0").endswith(b"\xff\xd9") or JPEG_END in dict(_markers(content)):
        return Mended(content)
    return Mended(content + b"\xff\xd9", (CUT,), cut=True)


def _scans(jpeg: bytes) -> Iterator[Scan]:
    for marker, place in _markers(jpeg):
        if marker == JPEG_SCAN:
            count = jpeg[place + 4] if place + 4 < len(jpeg) else 0
            rest = jpeg[place + 5 : place + 8 + 2 * count]
            if len(rest) == 2 * count + 3:
                first, last, bits = rest[-3:]
                yield Scan(place, rest[: 2 * count : 2], first, last, bits & 15)


def _rows_left_coarse(jpeg: bytes) -> float:
    """The share of rows that a progressive JPEG's last scan did not reach; 0 if none will miss it.

    A scan holds some detail of the whole picture. What its last one brought shows where the picture
    differs from the same without that scan.
    """
    scans = list(_scans(jpeg))
    if _covers(scans[:-1], FINEST_BIT):
        return 0.0
    if not _covers(scans, 0):
        return 1.0
    before = jpeg[: scans[-1].place] + b"\xff\xd9"
    changed = _row_sums(jpeg) != _row_sums(before)
    return 1 - (int(np.flatnonzero(changed).max(initial=-1)) + 1) / len(changed)


def _covers(scans: list[Scan], bit: int) -> bool:
    """Whether the scans bring all coefficients of all components they name, down to the bit."""
    components = {each for scan in scans for each in scan.components}
    missing = {(each, number) for each in components for number in range(COEFFICIENTS)}
    for scan in scans:
        if scan.bit <= bit:
            numbers = range(scan.first, scan.last + 1)
            missing -= {(each, number) for each in scan.components for number in numbers}
    return bool(components) and not missing


def _row_sums(jpeg: bytes) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """One number for each row of the picture, so that rows can be compared."""
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
        image.load()
        weights = np.arange(1, 1 + image.width * len(image.getbands()), dtype=np.int64)
        bands = [
            np.asarray(image.crop((0, top, image.width, min(top + BAND_ROWS, image.height))))
            for top in range(0, image.height, BAND_ROWS)
        ]
        return np.concatenate([band.reshape(len(band), -1) @ weights for band in bands])


class Chunk(NamedTuple):
    """A chunk of a PNG; what is cut off is shorter than it should be."""

    kind: bytes
    data: memoryview
    checksum: bytes

    @property
    def right_checksum(self) -> bytes:
        """What the checksum of these data is."""
        return zlib.crc32(self.data, zlib.crc32(self.kind)).to_bytes(4, "big")


def _chunks(content: bytes) -> Iterator[Chunk]:
    """The PNG's chunks up to its end.

    Raises:
        ValueError: far too many.
    """
    view, place = memoryview(content), len(PNG_HEAD)
    for _ in range(MAX_CHUNKS):
        if place + CHUNK.size > len(view):
            return
        size, kind = CHUNK.unpack_from(view, place)
        start, end = place + CHUNK.size, place + CHUNK.size + size
        place = end + CHECKSUM_BYTES
        yield Chunk(kind, view[start:end], bytes(view[end:place]))
        if kind == b"IEND":
            return
    raise ValueError(f"more than {MAX_CHUNKS} chunks")


def _mended_png(content: bytes) -> Mended:
    """The PNG with right checksums and no text that is too long, ended if it is cut off."""
    faults = dict.fromkeys(_png_faults(content))
    if not faults:
        return Mended(content)
    pieces = [PNG_HEAD]
    for chunk in _chunks(content):
        if chunk.kind != b"IEND" and not _is_unfit(chunk):
            head = CHUNK.pack(len(chunk.data), chunk.kind)
            pieces += [head, bytes(chunk.data), chunk.right_checksum]
    pieces += [CHUNK.pack(0, b"IEND"), zlib.crc32(b"IEND").to_bytes(4, "big")]
    return Mended(b"".join(pieces), tuple(faults), CUT in faults or CHECKSUM in faults)


def _png_faults(content: bytes) -> Iterator[str]:
    kind = b""
    for chunk in _chunks(content):
        kind = chunk.kind
        if len(chunk.checksum) == CHECKSUM_BYTES and chunk.checksum != chunk.right_checksum:
            yield CHECKSUM
        if _is_unfit(chunk):
            yield f"{PACKED[kind]} in the picture is too long or damaged, and is not used"
    if kind != b"IEND":
        yield CUT


def _is_unfit(chunk: Chunk) -> bool:
    """Whether it is packed, and more than Pillow takes, or damaged."""
    if chunk.kind not in PACKED:
        return False
    _, _, packed = bytes(chunk.data).partition(b"\0")
    method = packed[:1]
    if chunk.kind == b"iTXt":  # whether it is packed, the method, two names
        if packed[:1] != b"\1":
            return False
        packed = method + packed[2:].split(b"\0", 2)[-1]
    try:
        text = zlib.decompressobj().decompress(packed[1:], MAX_TEXT_BYTES + 1)
    except zlib.error:
        return True
    return len(text) > MAX_TEXT_BYTES
