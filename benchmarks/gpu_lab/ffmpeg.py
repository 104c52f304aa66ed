#!/usr/bin/env python3
"""What VHS_VideoCombine asks of ffmpeg, done with PyAV: the program itself would be 68 MB to carry.

Two calls: frames from stdin to H.264, and such a file with sound from stdin to AAC. Its other calls
end with an error.
"""

from __future__ import annotations

import fractions
import sys
from collections.abc import Sequence

import av
import numpy as np
from av.video.reformatter import Colorspace

PIXEL_BYTES = {"rgb24": 3, "rgba": 4, "rgb48le": 6}
AAC_SAMPLES = 1024


def after(arguments: Sequence[str], option: str, default: str = "") -> str:
    """What stands behind an option, the first time."""
    found = option in arguments
    return arguments[arguments.index(option) + 1] if found else default


def encode(arguments: Sequence[str]) -> None:
    """Raw frames from stdin, as H.264."""
    width, height = map(int, after(arguments, "-s").split("x"))
    first, *_, target = arguments.index("-pix_fmt") + 1, arguments[-1]
    kind = arguments[first]
    output = [arguments[i + 1] for i, each in enumerate(arguments) if each == "-pix_fmt"][-1]
    with av.open(target, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=fractions.Fraction(after(arguments, "-r")))
        stream.width, stream.height, stream.pix_fmt = width, height, output
        stream.options = {"crf": after(arguments, "-crf", "19")}
        while frame := sys.stdin.buffer.read(width * height * PIXEL_BYTES[kind]):
            pixels = np.frombuffer(frame, np.uint8).reshape(height, -1, PIXEL_BYTES[kind])
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=kind)
            shown = picture.reformat(format=output, dst_colorspace=Colorspace.ITU709)
            file.mux(stream.encode(shown))
        file.mux(stream.encode(None))


def add_sound(arguments: Sequence[str]) -> None:
    """A video as it is, with sound from stdin: as long as the video."""
    rate, channels = int(after(arguments, "-ar")), int(after(arguments, "-ac"))
    samples = np.frombuffer(sys.stdin.buffer.read(), np.float32).reshape(-1, channels)
    with av.open(after(arguments, "-i")) as given, av.open(arguments[-1], "w") as file:
        shown = given.streams.video[0]
        seconds = float((shown.duration or 0) * (shown.time_base or 0))
        picture = file.add_stream_from_template(shown)
        sound = file.add_stream("aac", rate=rate, layout="mono" if channels == 1 else "stereo")
        for packet in given.demux(shown):
            if packet.dts is not None:
                packet.stream = picture
                file.mux(packet)
        for start in range(0, min(len(samples), round(seconds * rate)), AAC_SAMPLES):
            block = np.ascontiguousarray(samples[start : start + AAC_SAMPLES].T)
            frame = av.AudioFrame.from_ndarray(block, "fltp", sound.layout.name)
            frame.sample_rate, frame.pts = rate, start
            frame.time_base = fractions.Fraction(1, rate)
            file.mux(sound.encode(frame))
        file.mux(sound.encode(None))


def main(arguments: Sequence[str]) -> int:
    """The status: 0 if it was one of the two calls."""
    if "rawvideo" in arguments:
        encode(arguments)
    elif "f32le" in arguments and after(arguments, "-i") != "-":
        add_sound(arguments)
    elif "-version" in arguments:
        print("ffmpeg of the lab, libx264")
    else:
        print(f"the lab's ffmpeg cannot: {' '.join(arguments)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
