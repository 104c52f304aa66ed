"""Sound files as phones, recorders, browsers and scripts give them, and what must be heard."""

from __future__ import annotations

import functools
import io
import math
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition

from tests import hostile as h

Samples = npt.NDArray[np.float32]  # [channels, samples]

LAYOUTS = {
    **{1: "mono", 2: "stereo", 3: "3.0", 4: "4.0"},
    **{5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"},
}
PITCH_HZ = 110.0  # low enough for a channel of low frequencies
AMPLITUDE = 0.2
CLUSTER = b"\x1fC\xb6u"  # of a Matroska
HEAD_BYTES = 16
# Encoder and container of each kind.
KINDS = {
    "wav": ("pcm_s16le", "wav"),
    "flac": ("flac", "flac"),
    "m4a": ("aac", "ipod"),
    "aac": ("aac", "adts"),
    "mp3": ("libmp3lame", "mp3"),
    "mka": ("aac", "matroska"),
    "aiff": ("pcm_s16be", "aiff"),
    "opus": ("libopus", "ogg"),
}


@dataclass(frozen=True)
class Stranger:
    """A file, and what is heard in it: `seconds` of sound on so many `channels`.

    `notes` are patterns of what the caller is told, in order; `refused` is one of the error, if it
    is one. `spans` are when the speech is not silent, `rms` how loud it is in the loudest half
    second.
    """

    make: Callable[[], bytes]
    seconds: float = 2.0
    channels: int = 1
    notes: tuple[str, ...] = ()
    refused: str = ""
    spans: tuple[tuple[float, float], ...] = ()
    rms: float = AMPLITUDE / 2**0.5


def tone(seconds: float, rate: int = 44_100, *, hz: float = PITCH_HZ) -> Samples:
    """A sine, [1, samples]."""
    time = np.arange(round(seconds * rate)) / rate
    return (AMPLITUDE * np.sin(2 * np.pi * hz * time))[None].astype(np.float32)


def voices(channels: int) -> Samples:
    """Channels that have nothing to do with one another."""
    return np.concatenate([tone(2.0, hz=PITCH_HZ * (2 + channel)) for channel in range(channels)])


def encode(
    samples: Samples,
    kind: str = "wav",
    *,
    rate: int = 44_100,
    options: Mapping[str, str] | None = None,
    layout: str | None = None,
) -> bytes:
    """The samples in a file of the kind, which is one of KINDS, or "encoder container"."""
    codec, container_format = KINDS.get(kind) or kind.split()
    layout = layout or LAYOUTS[len(samples)]
    with (
        tempfile.NamedTemporaryFile() as file,  # an index is moved to its front by its name
        av.open(file.name, "w", format=container_format, options=dict(options or {})) as container,
    ):
        stream = container.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, AudioStream)
        packed = np.ascontiguousarray(samples.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        resampler = av.AudioResampler(stream.format.name, layout, rate)
        for block in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
        container.close()
        return Path(file.name).read_bytes()


@functools.cache
def plain(kind: str, seconds: float = 2.0, rate: int = 44_100, channels: int = 1) -> bytes:
    """The same tone on all channels."""
    return encode(np.repeat(tone(seconds, rate), channels, axis=0), kind, rate=rate)


@functools.cache
def bare_mp3(*, xing: bool = True, seconds: float = 2.0) -> bytes:
    """An MP3 without an ID3 tag; without `xing`, it does not tell its length."""
    options = {"id3v2_version": "0", "write_xing": str(int(xing))}
    return encode(tone(seconds), "mp3", options=options)


def packets(content: bytes) -> Iterator[Packet[AudioStream]]:
    """Those of the file's sound; the file is open as long as they are asked for."""
    with av.open(io.BytesIO(content)) as container:
        assert isinstance(container, InputContainer)
        for packet in container.demux(container.streams.audio[0]):
            if packet.dts is not None:
                yield packet


def at_other_times(
    content: bytes, container_format: str, moved: Callable[[float], float | None]
) -> bytes:
    """The file's packets anew, each at what `moved` makes of its seconds; None leaves it out."""
    file = io.BytesIO()
    with (
        av.open(io.BytesIO(content)) as source,
        av.open(file, "w", format=container_format) as target,
    ):
        assert isinstance(source, InputContainer)
        assert isinstance(target, OutputContainer)
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is None or packet.pts is None:
                continue
            base = float(packet.time_base)
            seconds = moved(packet.pts * base)
            if seconds is not None:
                packet.pts = packet.dts = round(seconds / base)
                packet.stream = stream
                target.mux(packet)
    return file.getvalue()


def film(
    tracks: Sequence[Samples],
    container_format: str = "mp4",
    *,
    default: Sequence[int] = (0,),
    begins: float = 0.0,
    seconds: float = 3.0,
) -> bytes:
    """A grey film with audio tracks at 48 kHz, all of which begin so many seconds after it."""
    file = io.BytesIO()
    with av.open(file, "w", format=container_format) as container:
        video = container.add_stream("libx264", rate=25)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        streams = []
        for number, samples in enumerate(tracks):
            stream = container.add_stream("aac", rate=48_000, layout=LAYOUTS[len(samples)])
            assert isinstance(stream, AudioStream)
            stream.disposition = Disposition.default if number in default else Disposition(0)
            streams.append(stream)
        muxed: list[Packet[av.VideoStream] | Packet[AudioStream]] = []
        for index in range(round(seconds * 25)):
            frame = av.VideoFrame.from_ndarray(np.full((72, 64), 128, np.uint8), "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            muxed += video.encode(frame)
        muxed += video.encode(None)
        for samples, stream in zip(tracks, streams, strict=True):
            packed = np.ascontiguousarray(samples.T).reshape(1, -1)
            sound = av.AudioFrame.from_ndarray(packed, "flt", LAYOUTS[len(samples)])
            sound.sample_rate, sound.time_base = 48_000, Fraction(1, 48_000)
            sound.pts = round(begins * 48_000)
            muxed += [*stream.encode(sound), *stream.encode(None)]
        for packet in sorted(muxed, key=lambda one: float((one.dts or 0) * one.time_base)):
            container.mux(packet)
    return file.getvalue()


def damaged(content: bytes, share: float) -> bytes:
    """The file with nonsense in that share of its packets, but for their heads, which are found."""
    starts = [(packet.pos or 0, packet.size) for packet in packets(content)]
    file = bytearray(content)
    for at, size in starts[3::3][: round(share * len(starts))]:
        file[at + HEAD_BYTES : at + size] = b"\xff" * (size - HEAD_BYTES)
    return bytes(file)


def with_bad_page(ogg: bytes, number: int, *, left_out: bool = False) -> bytes:
    """The Ogg file with one bit turned in that of its pages, or without it."""
    pages = ogg.split(b"OggS")[1:]
    page = pages[number]
    pages[number : number + 1] = [] if left_out else [page[:-9] + bytes([page[-9] ^ 1]) + page[-8:]]
    return b"".join(b"OggS" + page for page in pages)


def sparse_webm() -> bytes:
    """A WebM with a cluster a second."""
    options = {"cluster_time_limit": "1000"}
    return encode(tone(20.0, 48_000), "libopus webm", rate=48_000, options=options)


def with_bad_clusters(webm: bytes, number: int) -> bytes:
    """The WebM with nonsense where so many of its clusters begin, from the second on."""
    first, *clusters = webm.split(CLUSTER)
    spoilt = [b"\xff" * (len(CLUSTER) + 200) + each[200:] for each in clusters[1 : 1 + number]]
    whole = [CLUSTER + each for each in clusters]
    return b"".join([first, whole[0], *spoilt, *whole[1 + number :]])


def of_unknown_codec(mp4: bytes, number: int) -> bytes:
    """The MP4 with another codec's tag on that of its audio tracks, from 1 on."""
    parts = mp4.split(b"mp4a")
    parts[number] = parts[number].replace(b"esds", b"free")
    return b"mp4a".join(parts[:number]) + b"apac" + b"mp4a".join(parts[number:])


def sized(content: bytes, size: int) -> bytes:
    """A WAV whose headers tell this size."""
    told = struct.pack("<I", size)
    return h.patched(h.patched(content, b"RIFF", 4, told), b"data", 4, told)


def id3(size: int) -> bytes:
    """A tag with a cover of so many bytes."""
    digits = bytes((size >> shift) & 127 for shift in (21, 14, 7, 0))
    return b"ID3\4\0\0" + digits + bytes(range(1, 251)) * (size // 250) + bytes(size % 250)


def of_itunes(samples: int) -> bytes:
    """An M4A that tells the number of its samples as iTunes does, and not by an edit list."""
    mp4 = encode(tone(samples / 44_100), "m4a", options={"use_editlist": "0"})
    text = f" 00000000 {1024:08X} {-(samples + 1024) % 1024:08X} {samples:016X} 00000000 00000000"
    name = h.box(b"mean", bytes(4) + b"com.apple.iTunes") + h.box(b"name", bytes(4) + b"iTunSMPB")
    tag = h.box(b"----", name + h.box(b"data", struct.pack(">II", 1, 0) + text.encode()))
    kind = h.box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    tags = h.box(b"udta", h.box(b"meta", bytes(4) + kind + h.box(b"ilst", tag)))
    size = struct.unpack_from(">I", mp4, mp4.index(b"moov") - 4)[0]
    return h.patched(mp4, b"moov", -4, struct.pack(">I", size + len(tags))) + tags


def silent(seconds: float = 2.0, rate: int = 48_000) -> Samples:
    """Nothing to be heard, on one channel."""
    return np.zeros((1, round(seconds * rate)), np.float32)


def on_one_channel(channels: int, which: int) -> bytes:
    """A voice on one of the channels, the others silent."""
    samples = np.zeros((channels, 88_200), np.float32)
    samples[which] = tone(2.0)
    return encode(samples)


def against_each_other(share: float) -> bytes:
    """Stereo whose right is so much of the left, the other way round."""
    left = tone(2.0)
    return encode(np.concatenate([left, -share * left]))


def in_halves(*signs: tuple[int, int]) -> bytes:
    """Stereo with a tone of a second, times these for left and right, and then another."""
    halves = [np.concatenate([left * tone(1.0), right * tone(1.0)]) for left, right in signs]
    return encode(np.concatenate(halves, axis=1))


def with_pauses(start: float, end: float, pause: float) -> Callable[[float], float]:
    """What moves packets so that after each second of `start` to `end` there is a pause."""
    return lambda at: at + pause * max(0.0, min(math.floor(at), end) - start)


def wobbling(at: float) -> float:
    """As a telephone notes it, which reads its clock when it gets to it."""
    return at + 0.012 * math.sin(at * 50) + 0.012


def tones(kind: str, rate: int, channels: int) -> Stranger:
    """The tone in a file of the kind, which lasts as long as ffmpeg says."""
    make = functools.partial(plain, kind, TONE_SECONDS, rate, channels)
    return Stranger(make, FFMPEG_SECONDS[kind][rate, channels], channels)


TONE_SECONDS = 1.234
# What `ffmpeg -i FILE -f wav` makes of TONE_SECONDS, measured with ffmpeg 9.0.2: ADTS and Matroska
# say nothing of where in AAC's first and last packet the sound begins and ends.
FFMPEG_SECONDS: Mapping[str, Mapping[tuple[int, int], float]] = {
    "wav": {
        **{(8000, 1): 1.234, (11025, 2): 1.234, (16000, 3): 1.234, (22050, 4): 1.234},
        **{(24000, 6): 1.234, (44100, 7): 1.234, (48000, 8): 1.234},
    },
    "flac": {
        **{(8000, 8): 1.234, (11025, 1): 1.234, (16000, 2): 1.234, (22050, 5): 1.234},
        **{(24000, 4): 1.234, (44100, 6): 1.234, (48000, 2): 1.234},
    },
    "m4a": {
        **{(8000, 1): 1.234, (11025, 2): 1.234, (16000, 8): 1.234, (22050, 6): 1.234},
        **{(24000, 1): 1.234, (44100, 2): 1.234, (48000, 5): 1.234},
    },
    "aac": {
        **{(8000, 2): 1.408, (11025, 1): 1.3932, (16000, 1): 1.344, (22050, 8): 1.3003},
        **{(24000, 3): 1.28, (44100, 2): 1.2771, (48000, 6): 1.2587},
    },
    "mp3": {
        **{(8000, 1): 1.234, (11025, 2): 1.234, (16000, 1): 1.234, (22050, 2): 1.234},
        **{(24000, 1): 1.234, (44100, 2): 1.234, (48000, 2): 1.234},
    },
    "mka": {
        **{(8000, 4): 1.28, (11025, 1): 1.3003, (16000, 2): 1.28, (22050, 1): 1.2539},
        **{(24000, 8): 1.2373, (44100, 6): 1.2539, (48000, 2): 1.2373},
    },
    "aiff": {
        **{(8000, 2): 1.234, (11025, 3): 1.234, (16000, 1): 1.234, (22050, 8): 1.234},
        **{(24000, 2): 1.234, (44100, 5): 1.234, (48000, 6): 1.234},
    },
    "opus": {
        **{(48000, 1): 1.234, (48000, 2): 1.234, (48000, 3): 1.234, (48000, 5): 1.234},
        **{(48000, 6): 1.234, (48000, 7): 1.234, (48000, 8): 1.234, (8000, 1): 1.234},
        **{(12000, 2): 1.234, (16000, 2): 1.234, (24000, 1): 1.234},
    },
}
TABLE = {
    f"{kind} of {rate} Hz and {channels}": tones(kind, rate, channels)
    for kind, files in FFMPEG_SECONDS.items()
    for rate, channels in files
}

NOT_WHOLE = r"the file is not whole: {} s of the {} s of sound that it tells of are there"
DAMAGED = r"0\.\d\d s of the sound \(\d%\) are damaged and left out"
TOO_DAMAGED = r"s of the sound \(\d\d%\) are damaged, allowed: 10%"

JOINED = {
    "three MP3s with tags": Stranger(lambda: plain("mp3") * 3, 6.09),
    "two MP3s without tags": Stranger(lambda: bare_mp3() * 2, 4.08),
    "two MP3s without their lengths": Stranger(lambda: bare_mp3(xing=False) * 2, 4.08),
    "two MP3s with the old tag between": Stranger(
        lambda: plain("mp3") + b"TAG" + bytes(125) + plain("mp3"), 4.05
    ),
    "two MP3s with a cover between": Stranger(
        lambda: plain("mp3") + id3(40_000) + plain("mp3"), 4.05
    ),
    "two ADTS": Stranger(lambda: plain("aac") * 2, 4.09),
    "two MPEG-TS, whose clock restarts": Stranger(lambda: plain("aac mpegts") * 2, 4.09),
    "two FLACs": Stranger(lambda: plain("flac") * 2, 4.0),
    "two Opus": Stranger(lambda: plain("opus", rate=48_000) * 2, 4.0),
    "two WAVs": Stranger(lambda: plain("wav") * 2, 4.0),
    "WAVs of two forms": Stranger(
        lambda: plain("wav") + plain("wav", 1.5, 22_050, 2), 3.5, rms=0.2
    ),
    "two WAVs, the second cut off": Stranger(
        lambda: plain("wav") + h.half(plain("wav")), 3.0, notes=(NOT_WHOLE.format("3.0", "4.0"),)
    ),
    "a WAV and a few bytes of another": Stranger(lambda: plain("wav") + plain("wav")[:13]),
    "a WAV whose header is of its first part": Stranger(
        lambda: plain("wav") + tone(1.0).tobytes(),
        notes=("176400 bytes after the end of its sound are left out",),
    ),
    "a hundred WAVs": Stranger(lambda: plain("wav", 0.05) * 100, 5.0),
}
TAGGED = {
    "an MP3 with an APE tag": Stranger(lambda: plain("mp3") + b"APETAGEX" + bytes(300)),
    "an MP3 with a cover": Stranger(lambda: id3(90_000) + bare_mp3()),
    "zeros after an MP3": Stranger(lambda: plain("mp3") + bytes(5000), 2.01),
    "zeros before an MP3": Stranger(lambda: bytes(3000) + bare_mp3(), 2.04),
    "a FLAC with a tag": Stranger(lambda: plain("flac") + b"TAG" + bytes(125)),
    "a WAV from a pipe": Stranger(lambda: sized(plain("wav"), 2**32 - 1)),
    "a WAV from a pipe of another program": Stranger(lambda: sized(plain("wav"), 0x7FFFF000)),
    "a WAV without its size": Stranger(lambda: sized(plain("wav"), 0)),
}
CUT_OFF = {
    "an MP3 less 10 bytes": Stranger(lambda: plain("mp3")[:-10]),
    "half an MP3": Stranger(
        lambda: h.half(plain("mp3")), 0.99, notes=(NOT_WHOLE.format("1.0", "2.0"),)
    ),
    "half an MP3 that tells no length": Stranger(lambda: h.half(bare_mp3(xing=False)), 1.02),
    "an ADTS less 10 bytes": Stranger(lambda: plain("aac")[:-10], 2.02, notes=(DAMAGED,)),
    "an MPEG-TS less 3 packets": Stranger(
        lambda: plain("aac mpegts")[: -3 * 188], 2.0, notes=(DAMAGED,)
    ),
    "an MPEG-TS from the middle": Stranger(lambda: plain("aac mpegts")[20 * 188 :], 1.86),
    "a FLAC less 10 bytes": Stranger(lambda: plain("flac")[:-10], 1.99, notes=(DAMAGED,)),
    "half a FLAC": Stranger(
        lambda: h.half(plain("flac", 9.0)), 4.08, notes=(DAMAGED, NOT_WHOLE.format("4.2", "9.0"))
    ),
    "half an Opus": Stranger(
        lambda: h.half(plain("opus", rate=48_000)),
        0.99,
        notes=("the file is not whole: it ends in the middle of a page",),
    ),
    "half a WAV": Stranger(
        lambda: h.half(plain("wav")), 1.0, notes=(NOT_WHOLE.format("1.0", "2.0"),)
    ),
    "half an M4A with its index first": Stranger(
        lambda: h.half(encode(tone(2.0), "m4a", options={"movflags": "faststart"})),
        0.93,
        notes=(NOT_WHOLE.format("0.9", "2.0"),),
    ),
    "half a Matroska": Stranger(
        lambda: h.half(plain("mka")), 0.95, notes=(NOT_WHOLE.format("1.0", "2.0"),)
    ),
}
DAMAGES = {
    "an MP3 with nonsense in it": Stranger(
        lambda: h.half(bare_mp3()) + bytes(range(250)) * 8 + bare_mp3(), 3.02, notes=(DAMAGED,)
    ),
    "an ADTS with three": Stranger(lambda: damaged(plain("aac"), 0.03), 1.97, notes=(DAMAGED,)),
    "an M4A with four": Stranger(lambda: damaged(plain("m4a"), 0.05), 2.0, notes=(DAMAGED,)),
    "a Matroska with four": Stranger(lambda: damaged(plain("mka"), 0.05), 2.02, notes=(DAMAGED,)),
    "an ADTS with a fifth": Stranger(lambda: damaged(plain("aac"), 0.2), refused=TOO_DAMAGED),
    "an M4A with a fifth": Stranger(lambda: damaged(plain("m4a"), 0.2), refused=TOO_DAMAGED),
    "an Opus with a page that is damaged": Stranger(
        lambda: with_bad_page(plain("opus", 20.0, 48_000), 3),
        20.0,
        notes=(r"1\.00 s of the sound \(5%\) are damaged and left out",),
    ),
    "an Opus without one of its pages": Stranger(
        lambda: with_bad_page(plain("opus", 20.0, 48_000), 3, left_out=True),
        20.0,
        notes=(r"1\.00 s of the sound \(5%\) are damaged and left out",),
    ),
    "a WebM with one of its clusters": Stranger(
        lambda: with_bad_clusters(sparse_webm(), 1),
        20.0,
        notes=(r"1\.00 s of the sound \(5%\) are damaged and left out",),
    ),
    "a WebM with a fifth of its clusters": Stranger(
        lambda: with_bad_clusters(sparse_webm(), 4), refused=TOO_DAMAGED
    ),
    "an Opus with a third of its pages": Stranger(
        lambda: with_bad_page(plain("opus", 3.0, 48_000), 3), refused=TOO_DAMAGED
    ),
}
CHANNELS = {
    "left against right": Stranger(lambda: against_each_other(1.0), channels=2),
    "left nearly against right": Stranger(lambda: against_each_other(0.9), channels=2),
    "left against half of it": Stranger(lambda: against_each_other(0.5), channels=2),
    "left against right in its second half": Stranger(
        lambda: in_halves((1, 1), (1, -1)), channels=2, spans=((0.0, 2.0),)
    ),
    "a voice on the left, then on the right": Stranger(
        lambda: in_halves((1, 0), (0, 1)),
        channels=2,
        spans=((0.0, 2.0),),
        rms=AMPLITUDE / 2**1.5,
    ),
    "a voice on the left": Stranger(lambda: on_one_channel(2, 0), channels=2),
    "a voice on the right": Stranger(lambda: on_one_channel(2, 1), channels=2),
    "a voice in the centre": Stranger(lambda: on_one_channel(6, 2), channels=6),
    "a voice on the last of eight": Stranger(lambda: on_one_channel(8, 7), channels=8),
    "a voice on one of four microphones": Stranger(
        lambda: encode(np.pad(tone(2.0), ((3, 0), (0, 0))), layout="quad"), channels=4
    ),
    "two voices, one on each": Stranger(lambda: encode(voices(2)), channels=2, rms=0.1),
    "four voices": Stranger(lambda: encode(voices(4)), channels=4),
    "eight voices": Stranger(lambda: encode(voices(8)), channels=8),
    "eight channels in a QuickTime file": Stranger(
        lambda: plain("pcm_s16le mov", channels=8), channels=8
    ),
}
TRACK = "number {} of the file's {} audio tracks is used, {}"
TRACKS = {
    "the second is the default one, as OBS has it": Stranger(
        lambda: film([silent(), tone(2.0, 48_000)], default=[1]),
        notes=(TRACK.format(2, 2, "the default one"),),
    ),
    "the first of two that are heard": Stranger(
        lambda: film([tone(2.0, 48_000), tone(1.0, 48_000)], "matroska", default=[0, 1]),
        notes=(TRACK.format(1, 2, "the first that is heard"),),
    ),
    "both are default, the first is silent": Stranger(
        lambda: film([silent(), tone(2.0, 48_000)], "matroska", default=[0, 1]),
        notes=(TRACK.format(2, 2, "the first that is heard"),),
    ),
    "none is default": Stranger(
        lambda: film([silent(), tone(2.0, 48_000), silent()], "matroska", default=[]),
        notes=(TRACK.format(2, 3, "the first that is heard"),),
    ),
    "the default one is silent": Stranger(
        lambda: film([silent(), tone(2.0, 48_000)], "matroska", default=[0]),
        notes=(TRACK.format(2, 2, "the first that is heard"),),
    ),
    "the second of a codec that nobody knows, as phones have spatial sound": Stranger(
        lambda: of_unknown_codec(film([tone(2.0, 48_000), tone(2.0, 48_000)]), 2)
    ),
    "the first of a codec that nobody knows": Stranger(
        lambda: of_unknown_codec(film([tone(1.0, 48_000), tone(2.0, 48_000)]), 1)
    ),
    "of a codec that nobody knows": Stranger(
        lambda: of_unknown_codec(plain("m4a"), 1), refused="the sound is of an unknown codec"
    ),
    "all are silent": Stranger(
        lambda: film([silent(), silent(1.0)], "matroska", default=[1]),
        1.0,
        notes=(TRACK.format(2, 2, "the default one"),),
        rms=0.0,
    ),
}
TIMES = {
    "an MP4 whose sound begins after its picture": Stranger(
        lambda: film([tone(2.0, 48_000)], begins=0.5), 2.5, spans=((0.5, 2.5),)
    ),
    "a Matroska whose sound begins after its picture": Stranger(
        lambda: film([tone(2.0, 48_000)], "matroska", begins=0.5), 2.5, spans=((0.5, 2.5),)
    ),
    "an MPEG-TS whose sound begins after its picture": Stranger(
        lambda: film([tone(2.0, 48_000)], "mpegts", begins=0.5), 2.5, spans=((0.5, 2.5),)
    ),
    "an FLV whose sound begins after its picture": Stranger(
        lambda: film([tone(2.0, 48_000)], "flv", begins=0.5), 2.5, spans=((0.5, 2.5),)
    ),
    "a sound alone that begins late": Stranger(
        lambda: at_other_times(plain("mka"), "matroska", lambda at: at + 3), 2.02
    ),
    "a WebM of a recorder that paused": Stranger(
        lambda: at_other_times(
            plain("libopus webm", rate=48_000), "webm", with_pauses(0.0, 1.0, 0.8)
        ),
        2.8,
        spans=((0.0, 1.0), (1.8, 2.8)),
    ),
    "an M4A of a recorder that paused": Stranger(
        lambda: at_other_times(plain("m4a"), "mp4", with_pauses(0.0, 1.0, 0.8)),
        2.8,
        spans=((0.0, 1.0), (1.8, 2.8)),
    ),
    "an MPEG-TS of a recorder that paused": Stranger(
        lambda: at_other_times(plain("aac mpegts"), "mpegts", with_pauses(0.0, 1.0, 0.8)),
        2.84,
        spans=((0.02, 1.0), (1.8, 2.84)),
    ),
    "an MPEG-TS with another clock in the middle": Stranger(
        lambda: at_other_times(plain("aac mpegts"), "mpegts", with_pauses(0.0, 1.0, 500.0)), 2.04
    ),
    "an Opus whose silences were not sent": Stranger(
        lambda: at_other_times(
            plain("libopus webm", rate=48_000), "webm", lambda at: None if 0.5 < at < 1.2 else at
        ),
        2.0,
        spans=((0.0, 0.5), (1.2, 2.0)),
    ),
    "an Ogg whose silences were not sent": Stranger(
        lambda: at_other_times(
            plain("opus", 6.0, 48_000), "ogg", lambda at: None if 2.5 < at < 4.5 else at
        ),
        6.0,
    ),
    "a telephone's wobbling clock": Stranger(
        lambda: at_other_times(plain("mka"), "matroska", wobbling), 2.02
    ),
    "a clock that runs a little faster": Stranger(
        lambda: at_other_times(plain("mka", 60.0), "matroska", lambda at: at * 1.0005), 60.02
    ),
    "an M4A of iTunes": Stranger(lambda: of_itunes(88_200), spans=((0.0, 2.0),)),
    "a fragmented M4A": Stranger(
        lambda: encode(tone(2.0), "aac mp4", options={"movflags": "frag_keyframe+empty_moov"}),
        2.04,
    ),
}
STRANGERS = {
    **TABLE,
    **JOINED,
    **TAGGED,
    **CUT_OFF,
    **DAMAGES,
    **CHANNELS,
    **TRACKS,
    **TIMES,
}
