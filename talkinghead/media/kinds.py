"""What a file is, by its first bytes: for the words of an error, never to decide what is safe."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from talkinghead.redact import redact_urls

HEAD_BYTES = 4096
WORDS_CHARACTERS = 60  # of a text that came in a file's place
MAX_BOXES = 64  # at the top of an MP4, which has five or so
TEXT_SHARE = 0.95  # of what may be printed: less is no text

# In order: of two that fit, the first is told.
SIGNATURES = (
    (rb"\xff\xd8\xff", "a JPEG picture"),
    (rb"\x89PNG\r\n", "a PNG picture"),
    (rb"GIF8[79]a", "a GIF"),
    (rb"RIFF....WEBP", "a WebP picture"),
    (rb"RIFF....WAVE|RF64....WAVE|RIFX....WAVE", "a WAV sound"),
    (rb"RIFF....AVI ", "an AVI video"),
    (rb"....ftyp(avif|avis)", "an AVIF picture"),
    (rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", "a HEIC picture"),
    (rb"....ftyp(M4A |M4B )", "an M4A sound"),
    (rb"....ftypqt", "a MOV video"),
    (rb"....(ftyp|moov|mdat|wide|free|skip)", "an MP4"),
    (rb"\x1aE\xdf\xa3", "a Matroska or WebM file"),
    (rb"FLV\x01", "an FLV video"),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a WMA or WMV file"),
    (rb"OggS", "an Ogg file"),
    (rb"fLaC", "a FLAC sound"),
    (rb"ID3|\xff[\xfa\xfb\xf2\xf3]", "an MP3 sound"),
    (rb"\xff[\xf0\xf1\xf8\xf9]", "an AAC sound"),
    (rb"FORM....AIF", "an AIFF sound"),
    (rb"\.snd", "an AU sound"),
    (rb"caff", "a CAF sound"),
    (rb"#!AMR", "an AMR sound"),
    (rb"MThd", "a MIDI file, which holds notes and no sound"),
    (rb"II\*\0.{4}CR|IIU\0|FUJIFILMCCD-RAW", "a camera's raw picture"),
    (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", "a TIFF picture"),
    (rb"BM.{8}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "a BMP picture"),
    (rb"\0\0\0\x0cJXL |\xff\x0a", "a JPEG XL picture"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (rb"\0\0\x01\0[\x01-\x20]\0", "an icon"),
    (rb"icns", "an icon"),
    (rb"8BPS", "a Photoshop file"),
    (rb"%PDF-", "a PDF"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript file"),
    (rb"PK\x03\x04|PK\x05\x06", "a ZIP file"),
    (rb"Rar!\x1a", "a RAR file"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z file"),
    (rb"\x1f\x8b", "a gzip file"),
    (rb"\0\0\x01[\xba\xb3]", "an MPEG video"),
    (rb"G.{187}G", "an MPEG transport stream"),
    (rb"version https://git-lfs", "a pointer of Git LFS, in the file's place"),
)
TEXTS = (
    (r"<!doctype html|<html|<head|<body", "a web page"),
    (r"(<\?xml.*?)?(<!--.*?-->\s*)*(<!doctype svg.*?)?<svg", "an SVG drawing"),
    (r"#EXTM3U", "a playlist"),
    (r"<\?xml.*?<MPD", "a playlist"),
)

# FFmpeg's demuxers, and how people call what they read.
TITLES: Mapping[str, tuple[str, ...]] = {
    **{"wav": ("WAV",), "w64": (), "mp3": ("MP3",), "flac": ("FLAC",), "ogg": ("Ogg",)},
    **{"aac": ("AAC",), "mov": ("MP4", "MOV", "M4A"), "matroska": ("MKV", "WebM"), "avi": ("AVI",)},
    **{"aiff": ("AIFF",), "au": ("AU",), "caf": ("CAF",), "amr": ("AMR",), "mpegts": ("MPEG-TS",)},
    **{"asf": ("WMA", "WMV"), "mpeg": ("MPEG",), "flv": ("FLV",), "gif": ("GIF", "WebP")},
}


def what_came(path: Path) -> str:
    """The file's kind with its article, as "a web page"; of a text the first words.

    Empty if it is of no kind that we know. It is safe to show: URLs in it are redacted.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        return "empty"
    for signature, kind in SIGNATURES:
        if re.match(signature, head, re.DOTALL):
            return _movie(path, kind) if head[4:8] in (b"ftyp", b"mdat", b"wide") else kind
    return _text(head)


def not_one_of(path: Path, wanted: str, allowed: str) -> str:
    """Why the file is not what is wanted, say a picture: what came, and what is taken."""
    kind = what_came(path)
    known = re.fullmatch(rf"an? (.*?)( {wanted})?", kind)
    if known and known[1] in allowed.split(", "):
        return f"the {wanted} cannot be decoded: it is {kind} that is damaged, or of a rare kind"
    came = f" but {kind}" if kind else ""
    return f"the file is not a {wanted}{came}, allowed: {allowed}"


def not_opened(path: Path, formats: str) -> str:
    """Why FFmpeg did not open the file by its demuxers `formats`: what came, and what is taken."""
    allowed = [title for one in formats.split(",") for title in TITLES[one]]
    kind = what_came(path)
    if any(title in kind.split() for title in allowed) and "without" not in kind:
        return f"it is {kind} that is damaged"
    return f"it is {kind or 'of none of the known formats'}, allowed: {', '.join(allowed)}"


def _movie(path: Path, kind: str) -> str:
    return kind if b"moov" in _boxes(path) or "picture" in kind else "an MP4 without its index"


def _boxes(path: Path) -> Iterator[bytes]:
    """The kinds of the boxes at the top of the MP4, as far as they lead on."""
    with path.open("rb") as file:
        for _ in range(MAX_BOXES):
            head = file.read(16)
            size = int.from_bytes(head[:4], "big")
            if size == 1:
                size = int.from_bytes(head[8:16], "big")
            if size < 8:
                return
            yield head[4:8]
            file.seek(size - len(head), 1)


def _text(head: bytes) -> str:
    text = head.decode("utf-8-sig", "replace").strip()
    printable = sum(each.isprintable() or each.isspace() for each in text)
    if "\0" in text or text.count("\ufffd") > 1 or printable < TEXT_SHARE * len(text):
        return ""
    for beginning, kind in TEXTS:
        if re.match(beginning, text, re.IGNORECASE | re.DOTALL):
            return kind
    if text.startswith("<?xml"):
        return f"XML: {_words(re.sub('<[^>]*>', ' ', text))}"
    return f"{'JSON' if text[:1] in ('{', '[') else 'text'}: {_words(text)}"


def _words(text: str) -> str:
    plain = redact_urls(" ".join("".join(c if c.isprintable() else " " for c in text).split()))
    return plain if len(plain) <= WORDS_CHARACTERS else plain[:WORDS_CHARACTERS].rstrip() + "…"
