"""Strangers' media files: opened so that they lead nowhere else, their faults told as ours."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from talkinghead.errors import MediaInvalid
from talkinghead.media.heartbeat import beat
from talkinghead.media.kinds import not_opened

Wanted = TypeVar("Wanted", AudioStream, VideoStream)

MAX_STREAMS = 16  # a phone's film has up to eight
MAX_PACKETS = 2_000_000  # an hour of Opus in its shortest packets is 1,440,000
CUT_SECONDS = 0.5  # less may be missing of the length that headers tell: they are so exact
MAX_MEGAPIXELS = 16  # of a frame: no more may be set as MAX_VIDEO_MEGAPIXELS

REASONS = {  # where FFmpeg's own words are none to a caller
    errno.ENOMEM: f"it has over {MAX_STREAMS} streams, or asks for far too much memory",
    errno.EINVAL: "it is of none of the known formats",
}


def open_container(
    path: Path | str,
    formats: str,
    codecs: Iterable[str],
    options: Mapping[str, str] = MappingProxyType({}),
) -> InputContainer:
    """Open a file with one of FFmpeg's demuxers in `formats`, and no file or URL besides it.

    `formats` must hold no playlists (hls, concat, dash, ...): those name other files, which FFmpeg
    would read as willingly. While it looks what the streams are, FFmpeg may use the decoders in
    `codecs`; `check_codec` says whether the stream that is wanted is for one of them.

    Raises:
        av.FFmpegError, ValueError: it cannot be opened; see `decoding`.
    """
    guard = {
        "protocol_whitelist": "file,subfile",  # the latter is a part of a file, by our own name
        "format_whitelist": formats,
        "codec_whitelist": ",".join(codecs),
        "max_streams": str(MAX_STREAMS),
    }
    try:
        # Titles in an old encoding are no reason to refuse a file.
        return av.open(str(path), options={**options, **guard}, metadata_errors="replace")
    except (av.InvalidDataError, av.ArgumentError):  # it is another kind of file
        if isinstance(path, str):  # a part of a file, which was opened as a whole
            raise
        raise ValueError(not_opened(path, formats)) from None


def check_codec(
    name: str, what: str, stream: AudioStream | VideoStream, codecs: Iterable[str]
) -> None:
    """Refuse a stream for any but the decoders in `codecs`: the others see too little use.

    `name` is the request's field, `what` the stream holds.

    Raises:
        MediaInvalid: it is not.
    """
    codec = "of an unknown codec" if stream.codec_context is None else stream.codec_context.name
    if codec not in codecs:
        allowed = ", ".join(one for one in codecs if not one.startswith("pcm_"))
        raise MediaInvalid(f"{name}: the {what} is {codec}, allowed: {allowed}")


def all_packets(container: InputContainer) -> Iterator[Packet[Any]]:
    """The packets of all streams; each is a sign that it gets on.

    Raises:
        ValueError: far too many packets.
    """
    # PyAV may stumble at the end of a file in which streams began later than its header.
    with contextlib.suppress(IndexError):
        for number, packet in enumerate(container.demux()):
            beat()
            if number > MAX_PACKETS:
                raise ValueError(f"more than {MAX_PACKETS} packets")
            yield packet


def packets(container: InputContainer, stream: Wanted) -> Iterator[Packet[Wanted]]:
    """Those of `all_packets` that are the stream's."""
    for packet in all_packets(container):
        if is_of(packet, stream):
            yield cast("Packet[Wanted]", packet)


def is_of(packet: Packet[Any], stream: Stream) -> bool:
    """Whether the packet is the stream's, the empty one at its end too, whose own index is 0."""
    return bool(packet.stream.index == stream.index)


@contextlib.contextmanager
def decoding(name: str, what: str) -> Iterator[None]:
    """Within it, faults of the file are raised as MediaInvalid.

    `name` is the request's field, `what` it should hold. FFmpeg's own words are taken over but for
    those that speak of our limits. ValueError is PyAV's for what it does not take, and
    `all_packets`'.
    """
    try:
        yield
    except (av.FFmpegError, ValueError) as error:
        reason = str(error)
        if isinstance(error, av.FFmpegError):
            reason = REASONS.get(error.errno or 0) or error.strerror or reason
        raise MediaInvalid(f"{name}: the {what} cannot be decoded: {reason}") from None
