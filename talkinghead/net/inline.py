"""A file that came inside the request, as a data: URI: from its base64 text to disk."""

from __future__ import annotations

import binascii
import re
from pathlib import Path

from talkinghead.errors import MediaInvalid, MediaTooLarge

CHUNK_CHARACTERS = 1 << 18  # decoded at a time: the text is in memory anyway, the file need not be
PLATFORM_LIMIT = (
    "RunPod takes requests of up to 10 MB by /run and 20 MB by /runsync, a third of it base64: "
    "send a larger file by its URL"
)

URL_SAFE = str.maketrans("-_", "+/")  # the other alphabet of base64
# A comma may stand within quotes.
_HEAD = re.compile(r'data:(?:[^,"]|"[^"]{0,200}"){0,200};base64,', re.IGNORECASE)


def content_at(uri: str) -> int:
    """Where the base64 text of a data: URI begins.

    Raises:
        ValueError: it is not data:…;base64, and a text; the message completes "allowed: ...".
    """
    if re.fullmatch(r"data:\S* \(\d+ bytes\)", uri[:200], re.IGNORECASE):
        raise ValueError("the file itself, which a bundle or report tells by its size alone")
    head = _HEAD.match(uri)
    if head is None or head.end() == len(uri):
        raise ValueError("data:, its type, ;base64, and the file in base64")
    return head.end()


def save_inline(uri: str, target: Path, *, max_bytes: int) -> None:
    """Decode a data: URI, strictly but for line breaks, into the file.

    Raises:
        MediaInvalid: the text is not base64, or it was cut off.
        MediaTooLarge: more than `max_bytes`.
        OSError: the disk is full.
    """
    rest, size = "", 0
    with target.open("wb") as file:
        for begin in range(content_at(uri), len(uri), CHUNK_CHARACTERS):
            text = "".join(uri[begin : begin + CHUNK_CHARACTERS].split())
            text = rest + text.translate(URL_SAFE)
            # The last four wait for what follows: after their padding nothing may.
            end = max(len(text) - len(text) % 4 - 4, 0)
            size += file.write(_decoded(text[:end], is_last=False))
            rest = text[end:]
            if size > max_bytes:
                break
        size += file.write(_decoded(rest, is_last=True)) if size <= max_bytes else 0
    if size > max_bytes:
        large = f"the file is larger than {max_bytes / 1e6:g} MB"
        raise MediaTooLarge(f"{large}; {PLATFORM_LIMIT}")
    if not size:
        raise MediaInvalid("it holds nothing")


def _decoded(text: str, *, is_last: bool) -> bytes:
    try:
        if is_last or "=" not in text:
            return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # its own text speaks of bits
        pass
    padding = " (it is no multiple of four characters: pad it with =)" if len(text) % 4 else ""
    raise MediaInvalid(f"its text is not base64{padding}, or was cut off; {PLATFORM_LIMIT}")
