"""Whether a Matroska or WebM file is in order: FFmpeg goes on after damage, and says nothing."""

from __future__ import annotations

from pathlib import Path

from talkinghead.media.heartbeat import beat

HEAD = b"\x1aE\xdf\xa3"
# The elements of a file's first three levels, by their ids: those that hold others of these, and
# the rest.
SEGMENT, CLUSTER = 0x18538067, 0x1F43B675
OTHERS = (
    *(0x1A45DFA3, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770),
    *(0x1254C367, 0xE7, 0xA3, 0xA0, 0xA7, 0xAB, 0x5854, 0xAF, 0xEC, 0xBF),
)
LONGEST_HEAD = 12  # four bytes of id, eight of size
MAX_ELEMENTS = 3_000_000


def has_damaged_clusters(source: Path) -> bool:
    """Whether something in the file, if it is one of these, leads to no element that is known."""
    size, place = source.stat().st_size, 0
    with source.open("rb") as file:
        if file.read(len(HEAD)) != HEAD:
            return False
        for _ in range(MAX_ELEMENTS):
            beat()
            file.seek(place)
            head = file.read(LONGEST_HEAD)
            if place + LONGEST_HEAD > size:  # the end, or too little to tell
                return False
            name, name_bytes = _number(head, keep_mark=True)
            length, length_bytes = _number(head[name_bytes:], keep_mark=False)
            if name not in (SEGMENT, CLUSTER, *OTHERS):
                return True
            place += name_bytes + length_bytes
            if name in OTHERS:
                place += length
    return False


def _number(data: bytes, *, keep_mark: bool) -> tuple[int, int]:
    """A number whose first bit that is set tells how many bytes it has, and these."""
    count = 9 - data[0].bit_length()
    number = int.from_bytes(data[:count], "big")
    return (number if keep_mark else number & ~(1 << 7 * count)), count
