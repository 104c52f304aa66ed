"""Each file ends in a clear error or in the right picture or sound, in little time and memory.

A little time is less than 10 s. They are counted in the processor's time, and by what an honest
picture takes on the same machine: how fast and how busy it is does not matter.
"""

from __future__ import annotations

import functools
import re
import struct
import tempfile
import time
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
from PIL import Image

from talkinghead.errors import JobError
from talkinghead.media.confinement import MEMORY_BYTES
from talkinghead.media.masks import Framing, speaker_masks
from talkinghead.media.picture import open_mask, probe_picture, save_picture
from talkinghead.media.sandbox import DECODERS, Sandboxes
from talkinghead.media.sound import Voice, probe_sound, save_mix, save_speech
from talkinghead.media.source_video import probe_source, save_frames
from talkinghead.settings import Settings
from tests import hostile as h
from tests.sounds import at_other_times, plain

MEGABYTES = 300
# An index that claims as many frames as the sandbox's memory holds, or more, is read until then.
INDEXES, INDEX_MEGABYTES = ("50 million samples", "80 million in a fragment"), MEMORY_BYTES / 2**20
HONEST_PICTURES = 35  # a core of today shows so many in 10 s
SANDBOXES = Sandboxes((*DECODERS, __name__))  # of which every file gets its own
LIMITS = Settings()


class Result(NamedTuple):
    words: str
    cpu_seconds: float
    megabytes: float


def show_picture(path: Path) -> str:
    limit = LIMITS.max_image_megapixels
    size = probe_picture("image_url", path, max_megapixels=limit)
    framing = Framing(size.width, size.height, size.width, size.height)
    if size.width > 640:
        framing = Framing(size.width, size.height, 640, 480)
    target = path.with_suffix(".out.png")
    save_picture("image_url", path, target, framing, max_megapixels=limit)
    with Image.open(target) as image:
        corners = [(2, 2), (image.width - 3, 2), (2, image.height - 3)]
        colours = [colour(image.getpixel(corner)) for corner in corners]
    return f"{size.width}x{size.height} {' '.join(colours)}"


def colour(pixel: object) -> str:
    assert isinstance(pixel, tuple)
    near = tuple(round(value / 51) * 51 for value in pixel)
    names = {(255, 0, 0): "red", (0, 0, 255): "blue", (255,) * 3: "white", (0,) * 3: "black"}
    return names.get(near, str(near))


def show_mask(path: Path) -> str:
    mask = open_mask("mask_url", path, max_megapixels=LIMITS.max_image_megapixels)
    masks = speaker_masks(Framing(640, 480, 64, 48), [mask])
    return f"{mask.width}x{mask.height} {(masks[0] > 0).mean():.2f}"


def show_sound(path: Path) -> str:
    sound = probe_sound("audio_url", path, max_seconds=3600)
    voice, seconds = Voice("audio_url", path, sound), min(sound.duration, 2.0)
    save_mix([voice], path.with_suffix(".mix"), seconds=seconds)
    save_speech(voice, path.with_suffix(".speech"), seconds=seconds, padded_samples=32_000)
    quiet = " silent" if sound.silent else ""
    return f"{sound.duration:.2f} s {sound.rate} Hz {sound.channels}{quiet}"


def show_video(path: Path) -> str:
    video = probe_source("video_url", path, max_megapixels=LIMITS.max_video_megapixels)
    framing, target = Framing(video.width, video.height, 64, 48), path.with_suffix(".out.mp4")
    times = [index / 25 for index in range(30)]
    save_frames("video_url", path, target, times=times, framing=framing, fps=25, loop=True)
    with av.open(str(target)) as container:
        greys = [round(frame.to_ndarray()[:48].mean()) for frame in container.decode(video=0)]
    size = f"{video.width}x{video.height} {video.frames} frames {video.duration:.2f} s"
    return f"{size}: {len(greys)} saved, grey {np.median(greys):.0f}"


FIELDS = {
    "picture": "image_url",
    "mask": "mask_url",
    "sound": "audio_url",
    "video": "video_url",
}
SHOW = {"picture": show_picture, "mask": show_mask, "sound": show_sound, "video": show_video}


def memory(line: str) -> float:
    """A line of the kernel's about this process, in MB."""
    found = re.search(rf"{line}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def handle(kind: str, path: Path) -> Result:
    """Do with the file what a job does; tells what came of it, and what it took."""
    before, start = memory("VmRSS"), time.process_time()
    try:
        words = SHOW[kind](path)
    except JobError as error:
        words = f"{error.code}: {error}"
    return Result(words, time.process_time() - start, memory("VmHWM") - before)


def outcome(kind: str, path: Path) -> Result:
    with SANDBOXES.open() as sandbox:
        return sandbox.call(FIELDS[kind], handle, kind, path)


@functools.cache
def allowed_seconds() -> float:
    """Of the processor's time here, by what the largest picture that is taken needs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "honest.png"
        path.write_bytes(h.png(7000, 7000))
        return HONEST_PICTURES * outcome("picture", path).cpu_seconds


def check(
    kind: str, path: Path, content: bytes, expected: str, megabytes: float = MEGABYTES
) -> None:
    path.write_bytes(content)
    result = outcome(kind, path)
    assert result.words.startswith(expected)
    assert result.cpu_seconds < allowed_seconds()
    assert result.megabytes < megabytes


PCM = b"\0\x40" * 16_000
PICTURES: dict[str, tuple[h.Maker, str]] = {
    "no pixels in 50000x50000": (
        lambda: h.png(50_000, 50_000, depth=1),
        "media_too_large: image_url: the picture is far too large, allowed: 50 megapixels",
    ),
    "30 KB of PNG for 49 megapixels": (lambda: h.png(7000, 7000), "7000x7000 black black black"),
    "a PNG text of 60 MB": (
        lambda: h.png(32, 32, h.chunk(b"zTXt", b"a\0\0" + h.zeros(60_000_000))),
        "32x32 black black black",
    ),
    "an international PNG text of 60 MB": (
        lambda: h.png(32, 32, h.chunk(b"iTXt", b"a\0\1\0\0\0" + h.zeros(60_000_000))),
        "32x32 black black black",
    ),
    "90 PNG texts": (
        lambda: h.png(32, 32, *[h.chunk(b"zTXt", b"a\0\0" + h.zeros(1_000_000))] * 90),
        "media_invalid: image_url: the picture cannot be decoded: Too much memory used in",
    ),
    "a colour profile of 60 MB": (
        lambda: h.png(32, 32, h.chunk(b"iCCP", b"a\0\0" + h.zeros(60_000_000))),
        "32x32 black black black",
    ),
    "a broken colour profile": (
        lambda: h.saved(h.two_colours(), "PNG", icc_profile=b"broken" * 99),
        "64x48 red blue red",
    ),
    "a JPEG that claims 65500x65500": (
        lambda: h.claiming_jpeg(65_500, 65_500),
        "media_too_large: image_url: the picture is far too large, allowed: 50 megapixels",
    ),
    "a JPEG that claims 6000x6000": (
        lambda: h.claiming_jpeg(6000, 6000),
        "6000x6000 (153, 153, 153) (153, 153, 153) (153, 153, 153)",
    ),
    "20000 scans": (
        lambda: h.many_scans(20_000),
        "media_invalid: image_url: a JPEG of 20010 scans, allowed: 100",
    ),
    "90 scans": (lambda: h.many_scans(80), "2000x1500 red red red"),
    "runs of one pixel": (
        lambda: h.bmp_runs(4000),
        "media_invalid: image_url: BMP of compression 1, allowed: 0, 3",
    ),
    "TIFF tiles of 8 MB": (
        lambda: h.tiff(3200, 1, b"\x55" * 8_000_000, tile=16),
        "3200x3200 (102, 102, 102) (102, 102, 102) (102, 102, 102)",
    ),
    "a TIFF strip that is too short": (
        lambda: h.tiff(3000, 1, b"\x55" * 99),
        "media_invalid: image_url: the picture cannot be decoded: image file is truncated",
    ),
    "a TIFF packed with LZMA": (
        lambda: h.tiff(32, 34_925, h.xz()),
        "media_invalid: image_url: TIFF of compression lzma, allowed: raw, packbits, tiff_",
    ),
    "a TIFF that goes round": (
        h.looping_tiff,
        "32x32 (153, 153, 153) (153, 153, 153) (153, 153, 153)",
    ),
    "a TIFF of 400 pages": (lambda: h.many_frames("TIFF", 400), "32x32 red blue red"),
    "a GIF of 100000 frames": (lambda: h.long_gif(100_000), "32x32 red blue red"),
    "an animated WebP": (lambda: h.many_frames("WEBP", 50), "32x32 red blue red"),
    "an animated PNG": (lambda: h.many_frames("PNG", 50), "32x32 red blue red"),
    "a WebP that claims 16383x16383": (
        lambda: h.webp_of(16_383, 16_383),
        "media_too_large: image_url: the picture is far too large, allowed: 50 megapixels",
    ),
    "a WebP that claims 3500x3500": (
        lambda: h.webp_of(3500, 3500),
        "media_invalid: image_url: the picture cannot be decoded: failed to read next frame",
    ),
    "an AVIF that claims 16000x16000": (
        lambda: h.ispe_of("AVIF", 16_000, 16_000),
        "media_too_large: image_url: the picture is far too large, allowed: 50 megapixels",
    ),
    "an AVIF that claims 4000x4000": (
        lambda: h.ispe_of("AVIF", 4000, 4000),
        "4000x4000 red blue red",
    ),
    "a HEIC that claims 16000x16000": (
        lambda: h.ispe_of("HEIF", 16_000, 16_000),
        "media_invalid: image_url: the picture cannot be decoded: Invalid input: Invalid image",
    ),
    "a HEIC that claims 4900x4900": (
        lambda: h.ispe_of("HEIF", 4900, 4900),
        "media_invalid: image_url: the picture cannot be decoded: Invalid input: Invalid image",
    ),
    "30 KB of HEIC for 24 megapixels": (
        lambda: h.saved(Image.new("RGB", (4900, 4900), h.RED), "HEIF"),
        "4900x4900 red red red",
    ),
    "AVIF of 16 megapixels": (
        lambda: h.saved(
            Image.new("RGBA", (4000, 4000), h.RED), "AVIF", speed=10, subsampling="4:4:4"
        ),
        "4000x4000 red red red",
    ),
    "half a HEIC": (
        lambda: h.half(h.picture_noise("HEIF")),
        "media_invalid: image_url: the picture cannot be decoded: Invalid input: Unexpected end",
    ),
    "half an AVIF": (
        lambda: h.half(h.picture_noise("AVIF")),
        "media_invalid: image_url: the picture cannot be decoded: it is an AVIF picture that is",
    ),
    "a GIF that claims 65535x65535": (
        lambda: h.gif_of(65_535, 65_535),
        "media_too_large: image_url: the picture is far too large, allowed: 50 megapixels",
    ),
    "a GIF that claims 7000x7000": (
        lambda: h.gif_of(7000, 7000),
        "media_invalid: image_url: the picture cannot be decoded: image file is truncated",
    ),
    "one pixel": (
        lambda: h.saved(h.two_colours(1, 1), "PNG"),
        "media_invalid: image_url: the picture has 1x1 pixels, allowed: 16x16 or more",
    ),
    "a line": (
        lambda: h.saved(h.two_colours(1, 60_000), "PNG"),
        "media_invalid: image_url: the picture has 1x60000 pixels, allowed: 16x16 or more",
    ),
    "a strip": (
        lambda: h.saved(h.two_colours(6000, 60), "PNG"),
        "media_invalid: image_url: the picture has 6000x60 pixels, allowed: sides up to 6:1",
    ),
    "Lab colours": (
        lambda: h.saved(Image.new("LAB", (64, 48)), "TIFF"),
        "media_invalid: image_url: the picture's pixels are LAB, allowed: RGB, grey or CMY",
    ),
    "floating point": (
        lambda: h.saved(Image.new("F", (64, 48), 0.5), "TIFF"),
        "media_invalid: image_url: the picture's pixels are F, allowed: RGB, grey or CMYK",
    ),
    "32 bit integers": (
        lambda: h.saved(Image.new("I", (64, 48), 9), "TIFF"),
        "media_invalid: image_url: the picture's pixels are I, allowed: RGB, grey or CMYK",
    ),
    "16 bit grey": (
        lambda: h.saved(Image.new("I;16", (64, 48), 65_535), "PNG"),
        "64x48 white white white",
    ),
    "16 bit RGB": (h.rgb16, "32x32 red red red"),
    "one bit": (lambda: h.saved(Image.new("1", (64, 48), 1), "PNG"), "64x48 white white white"),
    "CMYK of Adobe": (lambda: h.rgb_cmyk(invert=False), "64x48 red red red"),
    "CMYK of another": (lambda: h.rgb_cmyk(invert=True), "64x48 red red red"),
    "transparent": (
        lambda: h.saved(Image.new("RGBA", (64, 48), (255, 0, 0, 0)), "PNG"),
        "64x48 white white white",
    ),
    "a transparent colour of a palette": (h.transparent_palette, "64x48 white blue white"),
    "orientation 1": (partial(h.oriented, 1), "64x48 red blue red"),
    "orientation 2": (partial(h.oriented, 2), "64x48 blue red blue"),
    "orientation 3": (partial(h.oriented, 3), "64x48 blue red blue"),
    "orientation 4": (partial(h.oriented, 4), "64x48 red blue red"),
    "orientation 5": (partial(h.oriented, 5), "48x64 red red blue"),
    "orientation 6": (partial(h.oriented, 6), "48x64 red red blue"),
    "orientation 7": (partial(h.oriented, 7), "48x64 blue blue red"),
    "orientation 8": (partial(h.oriented, 8), "48x64 blue blue red"),
    "orientation 9": (partial(h.oriented, 9), "64x48 red blue red"),
    "SVG with an entity": (
        lambda: h.SVG,
        "media_invalid: image_url: the file is not a picture but an SVG drawing, allowed: JPEG",
    ),
    "EPS": (
        lambda: h.EPS,
        "media_invalid: image_url: the file is not a picture but a PostScript file, allowed: JPEG",
    ),
    "PDF": (
        lambda: h.saved(h.two_colours(), "PDF"),
        "media_invalid: image_url: the file is not a picture but a PDF, allowed: JPEG",
    ),
    "ICNS": (
        lambda: h.saved(h.two_colours(64, 64), "ICNS"),
        "media_invalid: image_url: the file is not a picture but an icon, allowed: JPEG",
    ),
    "an icon": (
        lambda: h.saved(h.two_colours(), "ICO"),
        "media_invalid: image_url: the file is not a picture but an icon, allowed: JPEG",
    ),
    "a video": (
        h.video,
        "media_invalid: image_url: the file is not a picture but an MP4, allowed: JPEG",
    ),
    "an error page": (
        lambda: h.HTML,
        "media_invalid: image_url: the file is not a picture but a web page, allowed: JPEG",
    ),
    "noise": (
        h.noise,
        "media_invalid: image_url: the file is not a picture, allowed: JPEG",
    ),
    "nothing": (
        lambda: b"",
        "media_invalid: image_url: the file is not a picture but empty, allowed: JPEG",
    ),
    "half a JPEG": (
        lambda: h.half(h.picture_noise("JPEG")),
        "media_invalid: image_url: the picture cannot be decoded: it is cut off, 32 % of",
    ),
    "half a PNG": (
        lambda: h.half(h.picture_noise("PNG")),
        "media_invalid: image_url: the picture cannot be decoded: it is cut off, 5",
    ),
    "half a WEBP": (
        lambda: h.half(h.picture_noise("WEBP")),
        "media_invalid: image_url: the picture cannot be decoded: could not create decoder object",
    ),
    "half a GIF": (
        lambda: h.half(h.picture_noise("GIF")),
        "media_invalid: image_url: the picture cannot be decoded: image file is truncated",
    ),
    "half a TIFF": (
        lambda: h.half(h.picture_noise("TIFF")),
        "media_invalid: image_url: the picture cannot be decoded: image file is truncated",
    ),
    "half a BMP": (
        lambda: h.half(h.picture_noise("BMP")),
        "media_invalid: image_url: the picture cannot be decoded: image file is truncated",
    ),
}
MASKS: dict[str, tuple[h.Maker, str]] = {
    "of another size": (lambda: h.saved(Image.new("L", (320, 240), 255), "PNG"), "320x240 0.92"),
    "of another shape": (
        lambda: h.saved(Image.new("L", (64, 64), 255), "PNG"),
        "media_invalid: speakers.0.mask_url: the mask has 64x64 pixels, allowed: the shape",
    ),
    "all black": (
        lambda: h.saved(Image.new("L", (64, 48), 0), "PNG"),
        "media_invalid: speakers.0.mask_url: the mask is dark all over, allowed: white on",
    ),
    "all white": (lambda: h.saved(Image.new("L", (640, 480), 255), "PNG"), "640x480 0.92"),
    "tiny": (
        lambda: h.saved(Image.new("L", (4, 3), 255), "PNG"),
        "media_invalid: mask_url: the picture has 4x3 pixels, allowed: 16x16 or more",
    ),
    "transparent": (
        lambda: h.saved(Image.new("RGBA", (64, 48), (0, 0, 0, 0)), "PNG"),
        "64x48 0.92",
    ),
    "animated": (
        lambda: h.saved(
            Image.new("L", (64, 48), 255),
            "GIF",
            save_all=True,
            append_images=[Image.new("L", (64, 48), 0)],
        ),
        "64x48 0.92",
    ),
    "16 bit": (lambda: h.saved(Image.new("I;16", (64, 48), 65_535), "PNG"), "64x48 0.92"),
    "CMYK": (lambda: h.saved(Image.new("CMYK", (64, 48), (0, 0, 0, 0)), "JPEG"), "64x48 0.92"),
    "48 megapixels": (lambda: h.saved(Image.new("L", (8000, 6000), 255), "PNG"), "4000x3000 0.92"),
}
SOUNDS: dict[str, tuple[h.Maker, str]] = {
    "a header of 4 GB": (lambda: h.claiming_wav(2**32 - 1), "1.00 s 16000 Hz 1"),
    "a header of 10 hours": (lambda: h.claiming_wav(36_000 * 32_000), "1.00 s 16000 Hz 1"),
    "data beyond the header": (lambda: h.claiming_wav(16_000), "0.50 s 16000 Hz 1"),
    "no samples": (lambda: h.wav(b""), "media_invalid: audio_url: the file holds no sound"),
    "one sample": (lambda: h.wav(b"\0\x40"), "0.00 s 16000 Hz 1"),
    "768 kHz": (lambda: h.wav(PCM * 24, rate=768_000), "0.50 s 768000 Hz 1"),
    "4 GHz": (
        lambda: h.wav(PCM, rate=4_000_000_000 // 2),
        "media_invalid: audio_url: 2000000000 samples a second, allowed: 1000 to 768000",
    ),
    "64 channels": (
        lambda: h.wav(PCM, channels=64),
        "media_invalid: audio_url: 64 audio channels, allowed: 1 to 8",
    ),
    "a FLAC of 4 hours by its header": (
        lambda: h.patched(h.sound("flac", codec="flac"), b"fLaC", 22, b"\xff" * 4),
        "1.00 s 16000 Hz 1",
    ),
    "an MP3 of 2 billion frames": (
        lambda: h.patched(
            h.sound("mp3", codec="libmp3lame", seconds=3), b"Info", 8, b"\x7f\xff\xff\xff"
        ),
        "3.03 s 16000 Hz 1",
    ),
    "ambisonic": (
        lambda: h.sound("matroska", codec="pcm_s16le", layout="ambisonic 2"),
        "media_invalid: audio_url: 9 audio channels, allowed: 1 to 8",
    ),
    "a pause of a billion seconds": (
        lambda: at_other_times(plain("mka"), "matroska", lambda at: at + 1e9 * (at > 1)),
        "2.02 s 44100 Hz 1",
    ),
    "pauses of 50 minutes, one after another": (
        lambda: at_other_times(plain("mka"), "matroska", lambda at: at + 3000 * int(at * 9)),
        "3602.",
    ),
    "3000 WAVs in one": (
        lambda: h.wav(PCM[:2]) * 3000,
        "media_invalid: audio_url: 3000 WAV files in one, allowed: 1000",
    ),
    "900 WAVs in one": (lambda: h.wav(PCM[:3200]) * 900, "90.00 s 16000 Hz 1"),
    "a rare codec": (
        lambda: h.sound(codec="adpcm_yamaha"),
        "media_invalid: audio_url: the sound is adpcm_yamaha",
    ),
    "20 streams": (
        lambda: h.video("matroska", streams=20),
        "media_invalid: audio_url: the file has no audio stream",
    ),
    "a video without sound": (h.video, "media_invalid: audio_url: the file has no audio stream"),
    "a picture": (
        lambda: h.saved(h.two_colours(), "PNG"),
        "media_invalid: audio_url: the sound cannot be decoded: it is a PNG picture, allowed: WAV,",
    ),
    "noise": (h.noise, "media_invalid: audio_url: the sound cannot be decoded"),
    "half a wav": (
        lambda: h.half(h.sound("wav", codec="pcm_s16le", seconds=4)),
        "2.00 s 16000 Hz 1",
    ),
    "half a mp3": (
        lambda: h.half(h.sound("mp3", codec="libmp3lame", seconds=4)),
        "1.95 s 16000 Hz 1",
    ),
    "half a flac": (
        lambda: h.half(h.sound("flac", codec="flac", seconds=4)),
        "1.37 s 16000 Hz 1",
    ),
    "half a ogg": (lambda: h.half(h.sound("ogg", codec="libopus", seconds=4)), "1.99 s 48000 Hz 1"),
    "half a ipod": (
        lambda: h.half(h.sound("ipod", codec="aac", seconds=4)),
        "media_invalid: audio_url: the sound cannot be decoded",
    ),
    "half a matroska": (
        lambda: h.half(h.sound("matroska", codec="libopus", seconds=4)),
        "2.05 s 48000 Hz 1",
    ),
}
VIDEOS: dict[str, tuple[h.Maker, str]] = {
    "2 billion samples": (
        lambda: h.many_samples(2**31 - 1),
        "media_invalid: video_url: no frame of the video can be decoded",
    ),
    "50 million samples": (
        lambda: h.many_samples(50_000_000),
        "media_invalid: video_url: no frame of the video can be decoded",
    ),
    "80 million in a fragment": (
        lambda: h.many_in_a_fragment(80_000_000),
        "media_invalid: video_url: the video cannot be decoded: it has over 16 streams, or",
    ),
    "2 million in a fragment": (
        lambda: h.many_in_a_fragment(1_900_000),
        "media_invalid: video_url: no frame of the video can be decoded",
    ),
    "a frame of 2 billion ticks": (
        lambda: h.with_box(h.video(), b"stts", struct.pack(">4I", 0, 1, 2**31 - 1, 512)),
        "64x48 10 frames 0.40 s: 30 saved, grey 128",
    ),
    "edits of nonsense": (
        h.nonsense_edits,
        "media_invalid: video_url: no frame of the video can be decoded",
    ),
    "a reference to another file": (
        h.reference_movie,
        "64x48 10 frames 0.40 s: 30 saved, grey 128",
    ),
    "a million frames a second": (
        lambda: h.video("mov", step=Fraction(1, 1_000_000)),
        "media_invalid: video_url: 1000000 frames a second, allowed: 1000",
    ),
    "one frame": (lambda: h.video(frames=1), "64x48 1 frames 0.04 s: 30 saved, grey 128"),
    "no frame": (
        lambda: h.half(h.video("mpegts", frames=1))[:564],
        "media_invalid: video_url: no frame of the video can be decoded",
    ),
    "times before zero": (
        lambda: h.video("matroska", start=-50),
        "64x48 10 frames 0.40 s: 30 saved, grey 128",
    ),
    "turned": (h.turned_video, "32x64 10 frames 0.40 s: 30 saved, grey 128"),
    "growing": (h.growing_video, "64x48 20 frames 0.80 s: 30 saved, grey 128"),
    "11 megapixels": (
        lambda: h.video(frames=1, size=(4096, 2304)),
        "media_too_large: video_url: the video has 4096x2304 pixels, allowed: 9 megapixels",
    ),
    "frames that claim 16000x16000": (
        lambda: h.claiming_mjpeg(16_000, 16_000),
        "media_invalid: video_url: no frame of the video can be decoded",
    ),
    "two pixels": (
        lambda: h.video(size=(2, 2)),
        "media_invalid: video_url: the video has 2x2 pixels, allowed: 16x16 or more",
    ),
    "a strip": (
        lambda: h.video(size=(1024, 16)),
        "media_invalid: video_url: the video has 1024x16 pixels, allowed: sides up to 6:1",
    ),
    "40 streams": (
        lambda: h.video("matroska", streams=40, codec="mjpeg", pix_fmt="yuvj420p"),
        "64x48 2 frames 0.32 s: 30 saved, grey 128",
    ),
    "a rare codec": (
        lambda: h.video("avi", codec="flashsv", pix_fmt="bgr24"),
        "media_invalid: video_url: the video is flashsv",
    ),
    "a cover": (
        h.cover_alone,
        "media_invalid: video_url: the video cannot be decoded: it is an MP3 sound, allowed: MP4",
    ),
    "sound alone": (
        lambda: h.sound("ipod", codec="aac"),
        "media_invalid: video_url: the file has no video stream that can be decoded",
    ),
    "a GIF that claims 65535x65535": (
        lambda: h.gif_of(65_535, 65_535),
        "media_invalid: video_url: the video cannot be decoded: it is of none of the known formats",
    ),
    "a GIF of 100000 frames": (
        lambda: h.long_gif(100_000),
        "32x32 100003 frames 10000.30 s: 30 saved, grey 31",
    ),
    "an animated WebP of 3000 frames": (
        lambda: h.many_frames("WEBP", 3000),
        "32x32 668 frames 66.80 s: 30 saved, grey 32",
    ),
    "an animated WebP that claims 16000x16000": (
        lambda: h.patched(h.many_frames("WEBP", 5), b"VP8X", 12, b"\x7f\x3e\0\x7f\x3e\0"),
        "media_too_large: video_url: the video has 16000x16000 pixels, allowed: 9 megapixels",
    ),
    "an animated WebP that claims 2900x2900": (
        lambda: h.patched(h.many_frames("WEBP", 5), b"VP8X", 12, b"\x53\x0b\0\x53\x0b\0"),
        "2900x2900 2 frames 0.20 s: 30 saved, grey 16",
    ),
    "half an animated WebP": (
        lambda: h.half(h.many_frames("WEBP", 50)),
        "media_invalid: video_url: the video cannot be decoded: it is an animated WebP that is dam",
    ),
    "noise": (h.noise, "media_invalid: video_url: the video cannot be decoded"),
    "half a mp4": (
        lambda: h.half(h.video("mp4", codec="libx264", frames=60)),
        "media_invalid: video_url: the video cannot be decoded",
    ),
    "half a matroska": (
        lambda: h.half(h.video("matroska", codec="mpeg4", frames=60)),
        "64x48 20 frames 0.80 s: 30 saved, grey 128",
    ),
    "half a webm": (
        lambda: h.half(h.video("webm", codec="libvpx-vp9", frames=60)),
        "64x48 20 frames 0.80 s: 30 saved, grey 128",
    ),
    "half a mpegts": (
        lambda: h.half(h.video("mpegts", codec="mpeg2video", frames=60)),
        "64x48 29 frames 1.16 s: 30 saved, grey 128",
    ),
}

NO_MEDIA = {**h.PLAYLISTS, "noise": h.noise(), "an error page": h.HTML, "nothing": b""}


@pytest.mark.parametrize("name", PICTURES)
def test_a_hostile_picture_is_refused_or_shown(tmp_path: Path, name: str) -> None:
    make, expected = PICTURES[name]
    check("picture", tmp_path / "file", make(), expected)


@pytest.mark.parametrize("name", MASKS)
def test_a_hostile_mask_is_refused_or_used(tmp_path: Path, name: str) -> None:
    make, expected = MASKS[name]
    check("mask", tmp_path / "file", make(), expected)


@pytest.mark.parametrize("name", SOUNDS)
def test_a_hostile_sound_is_refused_or_heard(tmp_path: Path, name: str) -> None:
    make, expected = SOUNDS[name]
    check("sound", tmp_path / "file", make(), expected)


@pytest.mark.parametrize("name", VIDEOS)
def test_a_hostile_video_is_refused_or_shown(tmp_path: Path, name: str) -> None:
    make, expected = VIDEOS[name]
    allowed = INDEX_MEGABYTES if name in INDEXES else MEGABYTES
    check("video", tmp_path / "file", make(), expected, allowed)


@pytest.mark.parametrize("name", NO_MEDIA)
@pytest.mark.parametrize("kind", ["sound", "video"])
def test_what_is_no_media_file_leads_nowhere(tmp_path: Path, kind: str, name: str) -> None:
    field = {"sound": "audio_url", "video": "video_url"}[kind]
    check(kind, tmp_path / "v.mp4", NO_MEDIA[name], f"media_invalid: {field}: the {kind} cannot be")
