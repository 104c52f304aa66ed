"""What a sound file's own headers say of its length, and of where in it another file begins."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from av.audio.stream import AudioStream
from av.container import InputContainer

from talkinghead.errors import MediaInvalid
from talkinghead.media.heartbeat import beat

MAX_PARTS = 1000  # of a WAV that was joined: each takes a millisecond to open
MAX_CHUNKS = 10_000
# Of these FFmpeg takes a track's length from a header or the last page. Of others it would guess.
TELLING_FORMATS = ("w64", "aiff", "au", "caf", "flac", "mov", "ogg")
TELLING_AS_A_WHOLE = ("matroska", "asf")
UNKNOWN_BYTES = 0x7FFFF000  # and more: what writes a WAV to a pipe does not know its size
TAG = re.compile(rb"[ -~]{4}")  # of a WAV's chunk
CHUNK_HEAD_BYTES, WAV_HEAD_BYTES = 8, 44
OGG_HEAD_BYTES, OGG_PAGE_BYTES = 27, 65_307  # at most
MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
XING_BYTES = 4096  # of an MP3's beginning: its first frame has at most 1,441, and junk before it


def wav_parts(name: str, source: Path) -> list[Path | str]:
    """FFmpeg's names of the WAV files that were joined to make this one; else the file itself.

    `name` is the request's field.

    Raises:
        MediaInvalid: they are far too many.
    """
    starts = [at for tag, at, _ in _chunks(source) if tag == b"RIFF"]
    if len(starts) > MAX_PARTS:
        raise MediaInvalid(f"{name}: {len(starts)} WAV files in one, allowed: {MAX_PARTS}")
    if len(starts) < 2:
        return [source]
    ends = [*starts[1:], source.stat().st_size]
    return [
        f"subfile,,start,{start},end,{end},,:{source.absolute()}"
        for start, end in zip(starts, ends, strict=True)
    ]


def told_seconds(
    container: InputContainer, stream: AudioStream, source: Path, *, is_last: bool = True
) -> float | None:
    """How long the track is by the file's headers; None if they do not tell.

    `is_last`: the container is no part of the file, or the last of `wav_parts`.
    """
    kind = container.format.name.split(",")[0]
    if kind == "mp3":
        return _xing_seconds(source, stream.sample_rate)
    if kind in ("wav", *TELLING_FORMATS) and stream.duration and stream.time_base:
        told = float(stream.duration * stream.time_base)
        if kind != "wav" or not stream.bit_rate:
            return told
        missing = _cut_bytes(source) if is_last else 0  # FFmpeg itself goes by what is there
        return min(told, container.size * 8 / stream.bit_rate) + missing * 8 / stream.bit_rate
    if kind in TELLING_AS_A_WHOLE and container.duration and not container.streams.video:
        return container.duration / 1e6 - max(0, container.start_time or 0) / 1e6
    return None


def bytes_after_wav(source: Path) -> int:
    """How much follows a WAV's chunks that is none of them; 0 if the file is another."""
    size = source.stat().st_size
    return size - next((at for tag, at, _ in _chunks(source) if not TAG.fullmatch(tag)), size)


def is_ogg(source: Path) -> bool:
    """Whether the file begins as an Ogg does."""
    with source.open("rb") as file:
        return file.read(4) == b"OggS"


def is_torn_ogg(source: Path) -> bool:
    """Whether the file is Ogg, and its last page is not whole."""
    if not is_ogg(source):
        return False
    size = source.stat().st_size
    with source.open("rb") as file:
        file.seek(max(0, size - OGG_PAGE_BYTES))
        end = file.read()
    at = end.rfind(b"OggS")
    head = end[at : at + OGG_HEAD_BYTES]
    if at < 0 or len(head) < OGG_HEAD_BYTES:
        return True
    segments = end[at + OGG_HEAD_BYTES :][: head[-1]]
    return len(segments) < head[-1] or at + OGG_HEAD_BYTES + head[-1] + sum(segments) > len(end)


def has_lost_ogg_pages(source: Path) -> bool:
    """Whether pages of an Ogg file are missing or damaged: FFmpeg leaves those out silently."""
    numbers: dict[bytes, int] = {}  # the one that follows in each stream
    with source.open("rb") as file:
        while head := file.read(OGG_HEAD_BYTES):
            beat()
            sizes = file.read(head[-1])
            if head[:4] != b"OggS" or len(sizes) < head[-1]:
                return True
            number, told = struct.unpack("<I", head[18:22])[0], struct.unpack("<I", head[22:26])[0]
            page = head[:22] + bytes(4) + head[26:] + sizes + file.read(sum(sizes))
            if _ogg_checksum(page) != told or number != numbers.get(head[14:18], number):
                return True
            numbers[head[14:18]] = number + 1
    return False


def _ogg_checksum(page: bytes) -> int:
    """zlib's, of the bits the other way round and from zero on."""
    mirrored = zlib.crc32(page.translate(MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def _cut_bytes(source: Path) -> int:
    """How much of a WAV's samples is missing at its end."""
    size = source.stat().st_size
    sounds = [(at, told) for tag, at, told in _chunks(source) if tag == b"data"]
    at, told = sounds[-1] if sounds else (0, 0)
    return max(0, at + CHUNK_HEAD_BYTES + told - size) if told < UNKNOWN_BYTES else 0


def _chunks(source: Path) -> Iterator[tuple[bytes, int, int]]:
    """The tag, the place and the size of each chunk of a WAV, and of WAVs that follow it.

    RIFF, whose chunks are the others, comes before them, as a chunk of four bytes.
    """
    size = source.stat().st_size
    with source.open("rb") as file:
        at = 0
        for _ in range(MAX_CHUNKS):
            file.seek(at)
            head = file.read(12)
            is_wav = head[:4] == b"RIFF" and head[8:] == b"WAVE"
            if len(head) < CHUNK_HEAD_BYTES or (is_wav and size - at < WAV_HEAD_BYTES):
                return
            if at == 0 and not is_wav:
                return
            told = 4 if is_wav else struct.unpack("<I", head[4:8])[0]
            if is_wav or head[:4] != b"RIFF":
                yield head[:4], at, told
            if head[:4] == b"data" and not told:
                return  # from a pipe: it is all the rest
            at += CHUNK_HEAD_BYTES + told + told % 2


def _xing_seconds(source: Path, rate: int) -> float | None:
    """An MP3's length by the number of frames in its first one."""
    with source.open("rb") as file:
        head = file.read(10)
        file.seek(10 + _synchsafe(head[6:]) if head[:3] == b"ID3" else 0)
        beginning = file.read(XING_BYTES)
    for mark in (b"Xing", b"Info"):
        at = beginning.find(mark)
        if at >= 0 and len(beginning) >= at + 12:
            flags, frames = struct.unpack(">II", beginning[at + 4 : at + 12])
            return frames * (1152 if rate >= 32_000 else 576) / rate if flags & 1 else None
    return None


def _synchsafe(digits: bytes) -> int:
    """A number of four digits of seven bits, as ID3 tags tell their size."""
    return sum((digit & 127) << shift for digit, shift in zip(digits, (21, 14, 7, 0), strict=False))
