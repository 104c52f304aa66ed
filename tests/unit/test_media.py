from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from talkinghead.errors import MediaInvalid, MediaTooLarge, RenderFailed
from talkinghead.media import mux, picture
from talkinghead.media.masks import Framing
from talkinghead.media.sound import Voice, probe_sound, save_mix

Samples = npt.NDArray[np.float64]


def decoded(path: Path) -> Samples:
    """[channels, samples] of the file's sound."""
    with av.open(str(path)) as container:
        layout = container.streams.audio[0].layout.name
        resampler = av.AudioResampler("fltp", layout)
        blocks = [b for f in container.decode(audio=0) for b in resampler.resample(f)]
    return np.concatenate([block.to_ndarray() for block in blocks], axis=1).astype(np.float64)


def write_video(path: Path, frames: int, fps: int = 25, size: tuple[int, int] = (64, 48)) -> Path:
    """A lossless video whose brightness is the number of the frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index in range(frames):
            pixels = np.full((size[1] * 3 // 2, size[0]), 128, np.uint8)
            pixels[: size[1]] = 20 + index
            frame = av.VideoFrame.from_ndarray(pixels, format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def heard(path: Path) -> Voice:
    return Voice("v", path, probe_sound("v", path, max_seconds=60))


def finish(rendered: Path, sound: Path, target: Path, *, fps: float = 25, frames: int = 25) -> None:
    """`rendered` with the WAV's sound."""
    encoded = target.with_suffix(".m4a")
    mux.encode_sound(sound, encoded)
    mux.finish_video(rendered, encoded, target, fps=fps, frames=frames)


def shown(path: Path) -> list[int]:
    """The number that `write_video` gave each frame."""
    with av.open(str(path)) as container:
        return [round(f.to_ndarray()[0, 0]) - 20 for f in container.decode(video=0)]


def save(source: Path, target: Path, cut: tuple[float, float] = (0.5, 0.5)) -> Image.Image:
    """The picture as it is saved, in its own size."""
    size = picture.probe_picture("image_url", source, max_megapixels=3)
    framing = Framing(size.width, size.height, size.width, size.height, cut)
    picture.save_picture("image_url", source, target, framing, max_megapixels=3)
    return Image.open(target)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_is_saved_upright_as_rgb(tmp_path: Path, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    picture = Image.new("RGB", (40, 20), "red")
    picture.paste("blue", (0, 0, 10, 20))  # the left, which is up when it is turned
    picture.save(tmp_path / "turned", kind, exif=exif)
    image = save(tmp_path / "turned", tmp_path / "out.png")
    assert (image.mode, image.size, len(image.getexif())) == ("RGB", (20, 40), 0)
    red, _, blue = np.asarray(image)[2, 10]
    assert red < 90
    assert blue > 200


def test_a_picture_is_framed_at_the_centre_or_at_the_top(tmp_path: Path) -> None:
    image = Image.new("RGB", (64, 96), "blue")
    image.paste("red", (0, 0, 64, 32))
    image.save(tmp_path / "in.png")
    rows = {}
    for crop, down in (("center", 0.5), ("top", 0.0)):
        framing = Framing(64, 96, 64, 32, (0.5, down))
        picture.save_picture(
            "image_url", tmp_path / "in.png", tmp_path / "o.png", framing, max_megapixels=3
        )
        rows[crop] = Image.open(tmp_path / "o.png").getpixel((32, 16))
    assert rows == {"center": (0, 0, 255), "top": (255, 0, 0)}


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "I;16", "LA", "RGBA", "1"])
def test_every_kind_of_pixels_becomes_rgb(tmp_path: Path, mode: str) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    Image.new(mode, (16, 16)).save(tmp_path / "in", kind)
    assert save(tmp_path / "in", tmp_path / "out.png").mode == "RGB"


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (16, 16), (255, 0, 0, 0)).save(tmp_path / "in.png")
    assert save(tmp_path / "in.png", tmp_path / "out.png").getpixel((1, 1)) == (255, 255, 255)


def test_a_text_file_named_jpg_is_not_a_picture(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_text("hello")
    with pytest.raises(MediaInvalid, match="the file is not a picture but text: hello, allowed"):
        picture.probe_picture("image_url", tmp_path / "photo.jpg", max_megapixels=1)


def test_a_truncated_picture_is_refused(tmp_path: Path, portrait: Path) -> None:
    (tmp_path / "half.jpg").write_bytes(portrait.read_bytes()[:9000])
    with pytest.raises(MediaInvalid, match="cannot be decoded"):
        save(tmp_path / "half.jpg", tmp_path / "out.png")


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (2000, 2000)).save(tmp_path / "big.png")
    with pytest.raises(MediaTooLarge, match="2000x2000 pixels, allowed: 3 megapixels"):
        picture.probe_picture("image_url", tmp_path / "big.png", max_megapixels=3)


def test_a_mask_is_read_as_brightness(tmp_path: Path) -> None:
    Image.new("RGBA", (16, 16), (255, 255, 255, 255)).save(tmp_path / "mask.png")
    mask = picture.open_mask("speakers.0.mask_url", tmp_path / "mask.png", max_megapixels=1)
    assert (mask.mode, mask.getpixel((0, 0))) == ("L", 255)


@pytest.mark.parametrize(
    ("rate", "delivered"), [(44_100, 44_100), (37_800, 44_100), (192_000, 96_000)]
)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_the_delivered_sound_keeps_rate_and_channels_where_aac_has_them(
    tone: Callable[..., Path], tmp_path: Path, rate: int, delivered: int, channels: int
) -> None:
    source = tone(seconds=2, rate=rate, channels=channels)
    save_mix([heard(source)], tmp_path / "s.wav", seconds=2)
    finish(write_video(tmp_path / "r.mp4", 50), tmp_path / "s.wav", tmp_path / "o.mp4")
    video = mux.probe_video(tmp_path / "o.mp4")
    assert (video.audio_rate, video.audio_channels) == (delivered, channels)
    assert video.duration == pytest.approx(2, abs=1e-3)


def test_the_delivered_sound_is_the_original_and_left_stays_left(
    tone: Callable[..., Path], tmp_path: Path
) -> None:
    source = tone(seconds=3, rate=48_000, channels=2)
    save_mix([heard(source)], tmp_path / "s.wav", seconds=3)
    finish(write_video(tmp_path / "r.mp4", 75), tmp_path / "s.wav", tmp_path / "o.mp4")
    before, after = decoded(source), decoded(tmp_path / "o.mp4")[:, : 3 * 48_000]
    for channel in (0, 1):
        assert np.corrcoef(before[channel], after[channel])[0, 1] > 0.99
    assert abs(np.corrcoef(before[0], after[1])[0, 1]) < 0.1


def test_the_picture_is_copied_not_encoded_again(tone: Callable[..., Path], tmp_path: Path) -> None:
    rendered = write_video(tmp_path / "r.mp4", 25)
    finish(rendered, tone(seconds=1), tmp_path / "o.mp4")
    assert shown(tmp_path / "o.mp4") == list(range(25))
    with av.open(str(rendered)) as one, av.open(str(tmp_path / "o.mp4")) as other:
        packets = [[bytes(p) for p in c.demux(video=0) if p.size] for c in (one, other)]
    assert packets[0] == packets[1]


@pytest.mark.parametrize("fps", [10, 24, 29.97, 30, 60])
def test_at_another_rate_each_frame_is_the_one_of_its_time(
    tone: Callable[..., Path], tmp_path: Path, fps: float
) -> None:
    frames = math.ceil(2 * fps)
    rendered = write_video(tmp_path / "r.mp4", 50)
    finish(rendered, tone(seconds=2), tmp_path / "o.mp4", fps=fps, frames=frames)
    video = mux.probe_video(tmp_path / "o.mp4")
    assert (video.frames, round(video.fps, 2)) == (frames, fps)
    rate = Fraction(fps).limit_denominator(1001)
    expected = [min(49, math.floor((i + Fraction(1, 2)) / rate * 25)) for i in range(frames)]
    assert shown(tmp_path / "o.mp4") == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("fps", [10, 25, 29.97, 60])
def test_pictures_are_encoded_as_they_come_each_at_its_time(
    tone: Callable[..., Path], tmp_path: Path, fps: float
) -> None:
    drawn: list[int] = []
    ahead: list[int] = []

    def draw() -> Iterator[Image.Image]:
        for index in range(250):
            drawn.append(index)
            yield Image.new("RGB", (64, 48), (20 + index % 200,) * 3)

    sound = mux.encode_sound(tone(seconds=10), tmp_path / "s.m4a")
    mux.finish_pictures(
        draw(),
        sound,
        tmp_path / "o.mp4",
        rendered_fps=25,
        fps=fps,
        frames=math.ceil(10 * fps),
        check=lambda: ahead.append(len(drawn)),
    )
    video = mux.probe_video(tmp_path / "o.mp4")
    assert (video.frames, round(video.fps, 2)) == (math.ceil(10 * fps), fps)
    assert video.duration == pytest.approx(10, abs=0.11)
    step = 25 / Fraction(fps).limit_denominator(1001)
    expected = [min(249, math.floor((i + Fraction(1, 2)) * step)) for i in range(video.frames)]
    with av.open(str(tmp_path / "o.mp4")) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert [f.mean() - 20 for f in frames] == pytest.approx([i % 200 for i in expected], abs=1.5)
    assert np.ptp(np.array(frames), axis=-1).max() <= 4, "grey stays grey"
    assert ahead[0] < 250, "the first packet is written before the last picture is drawn"


def test_a_render_without_pictures_has_failed(tone: Callable[..., Path], tmp_path: Path) -> None:
    sound = mux.encode_sound(tone(seconds=1), tmp_path / "s.m4a")
    with pytest.raises(RenderFailed, match="the render has no pictures"):
        mux.finish_pictures([], sound, tmp_path / "o.mp4", rendered_fps=25, fps=25, frames=25)


def test_nothing_of_the_rendered_files_metadata_is_delivered(
    tone: Callable[..., Path], tmp_path: Path
) -> None:
    rendered = write_video(tmp_path / "plain.mp4", 25)
    with (
        av.open(str(rendered)) as source,
        av.open(str(tmp_path / "r.mp4"), "w", options={"movflags": "use_metadata_tags"}) as tagged,
    ):
        tagged.metadata["prompt"] = "a secret wish"
        stream = tagged.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                tagged.mux(packet)
    finish(tmp_path / "r.mp4", tone(seconds=1), tmp_path / "o.mp4")
    content = (tmp_path / "o.mp4").read_bytes()
    assert b"secret" in (tmp_path / "r.mp4").read_bytes()
    assert b"secret" not in content
    assert content.index(b"moov") < content.index(b"mdat"), "browsers start it while it loads"
