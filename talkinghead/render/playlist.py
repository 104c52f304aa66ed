"""What is watched while a long render goes on: an HLS playlist of fragmented MP4.

Each finished window becomes one part, whose times are those in the whole video: the parts play on
without a discontinuity, and each can be made alone, on any machine.

No time in a part is below zero, and two things would be. The picture is decoded in another order
than it is shown, REORDERED_FRAMES ahead; and AAC begins with the encoder's priming, samples from
before the sound's start that nobody shall hear. So in the parts every frame is shown so much later,
and every sample is later by the priming; the init segment's edit lists, which hold for all parts,
take both back.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import av
from av.container import InputContainer
from av.packet import Packet

from talkinghead.media.rates import exact

INIT_NAME = "init.mp4"
# No EXT-X-MEDIA-SEQUENCE: it is 0 without it, and with it Chromium's own player takes two windows
# for a broadcast that it has missed, and fails.
HEADER = (
    *("#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-PLAYLIST-TYPE:EVENT", "#EXT-X-INDEPENDENT-SEGMENTS"),
    "#EXT-X-START:TIME-OFFSET=0",  # players would else begin near the end of what there is
)
# How far x264 decodes ahead of what is shown, whatever its settings: a B-frame may lean on another,
# and that one on none.
REORDERED_FRAMES = 2
# One fragment in a file, since none is cut before the end. In the init segment the moov waits for
# the first packets, whose times the edit lists are made of.
INIT_OPTIONS = {
    "movflags": "frag_custom+default_base_moof+delay_moov",
    "use_editlist": "1",
    "write_btrt": "0",  # the bit rates would be those of one window
}
# A part keeps its packets' times, where FFmpeg would let it begin at 0.
PART_OPTIONS = {
    "movflags": "frag_custom+default_base_moof+empty_moov+frag_discont+skip_trailer",
    "use_editlist": "0",
    "avoid_negative_ts": "disabled",
}

Packets: TypeAlias = "list[Packet[Any]]"


@dataclass(frozen=True)
class Part:
    """A window in the playlist: its file's name, and how long its picture is."""

    name: str
    seconds: float


def playlist_text(parts: Sequence[Part], uri: Callable[[str], str], *, ended: bool) -> str:
    """The playlist of these parts, one or more; `uri` says where the file of a name is.

    The target duration must never change: the first part has to be the longest.
    """
    longest = math.ceil(max(part.seconds for part in parts))
    lines = [*HEADER, f"#EXT-X-TARGETDURATION:{longest}", f'#EXT-X-MAP:URI="{uri(INIT_NAME)}"']
    for part in parts:
        lines += [f"#EXTINF:{part.seconds:.6f},", uri(part.name)]
    if ended:
        lines.append("#EXT-X-ENDLIST")
    return "\n".join(lines) + "\n"


def write_init(segment: Path, sound: Path, target: Path, *, fps: float) -> None:
    """Write what comes before the parts: which tracks there are, and where they begin.

    `segment` is any window's MP4: the same comes of each. `sound` is the AAC of the whole video.
    """
    with av.open(str(segment)) as picture, av.open(str(sound)) as voice:
        first = next(_frames(picture, 0, exact(fps)))
        first.pts, first.dts = 0, -REORDERED_FRAMES
        content = _muxed(picture, [first], voice, [next(voice.demux(audio=0))], INIT_OPTIONS)
    target.write_bytes(content[: _fragment(content)])


def write_part(segment: Path, sound: Path, target: Path, *, first_frame: int, fps: float) -> None:
    """Write a window's part: its picture, copied, and the packets of sound that begin in it.

    `segment` is the window's MP4, whose first frame is number `first_frame` of the whole video;
    `sound` is the AAC of the whole video.
    """
    options = PART_OPTIONS | {"fragment_index": str(first_frame + 1)}  # it grows with the parts
    with av.open(str(segment)) as picture, av.open(str(sound)) as voice:
        frames = list(_frames(picture, first_frame, exact(fps)))
        start, end = first_frame / exact(fps), (first_frame + len(frames)) / exact(fps)
        content = _muxed(picture, frames, voice, _heard(voice, start, end), options)
    target.write_bytes(content[_fragment(content) :])


def _frames(picture: InputContainer, first: int, rate: Fraction) -> Iterator[Packet[Any]]:
    """The segment's packets, decoded one a frame from `first` on, and shown so much later."""
    for index, packet in enumerate(picture.demux(video=0)):
        if packet.pts is not None:
            shown = round(packet.pts * (packet.time_base or 0) * rate)
            packet.pts, packet.dts = first + shown + REORDERED_FRAMES, first + index
            packet.time_base, packet.duration = 1 / rate, 1
            yield packet


def _heard(voice: InputContainer, start: Fraction, end: Fraction) -> Packets:
    """The packets that begin from `start` to `end`, in seconds, timed from the priming on.

    The priming, whose time is below zero, is in the first window.
    """
    stream = voice.streams.audio[0]
    first = next(voice.demux(stream)).pts or 0
    rate = 1 / Fraction(stream.time_base or 1)
    begin = math.ceil(start * rate) if start else first
    voice.seek(begin, stream=stream)
    packets = []
    for packet in voice.demux(stream):
        if packet.pts is None or packet.pts >= end * rate:
            break
        if packet.pts >= begin:
            packet.pts = packet.dts = packet.pts - first
            packets.append(packet)
    return packets


def _muxed(
    picture: InputContainer,
    frames: Packets,
    voice: InputContainer,
    heard: Packets,
    options: dict[str, str],
) -> bytes:
    """A whole file of the packets: ftyp, moov, moof, mdat, of which the callers take their half.

    `heard` may be empty: of a short window, in which no packet of sound begins.
    """
    content = io.BytesIO()
    with av.open(content, "w", format="mp4", options=options) as output:
        video = output.add_stream_from_template(picture.streams.video[0])
        audio = output.add_stream_from_template(voice.streams.audio[0])
        video.time_base = frames[0].time_base  # the scale of the track, the same in all parts
        for stream, packets in ((video, frames), (audio, heard)):
            stream.metadata.clear()
            for packet in packets:
                packet.stream = stream
                output.mux(packet)
    return content.getvalue()


def _fragment(content: bytes) -> int:
    """Where the moof begins: after two boxes, each of which begins with its size."""
    ftyp = int.from_bytes(content[:4], "big")
    return ftyp + int.from_bytes(content[ftyp : ftyp + 4], "big")
