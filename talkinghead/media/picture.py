"""Pictures: probe, frame, open as a mask, count the frames of a masks file."""

from __future__ import annotations

import contextlib
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from talkinghead.errors import MediaInvalid, MediaTooLarge
from talkinghead.media.masks import Framing, check_shape

PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
PIXEL_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I;16", "I;16B")
COMPRESSIONS = {  # not Pillow's slow run lengths, nor libtiff's rarer decoders
    "BMP": (0, 3),  # BI_RGB, BI_BITFIELDS
    "TIFF": ("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "jpeg"),
}
MAX_SCANS = 100  # of a progressive JPEG: each costs time for all of its pixels; 10 are usual
REDUCING_GAP = 2  # what Lanczos gets to do after a quick reduction
BAND_PIXELS = 2**20
MASK_SIDE = 2048  # more than is rendered
MAX_MASKS = 8  # a file with more frames is no masks file, and is not read on
MAX_DELAY_MS = 60_000  # of a frame; PyAV finds no rate where one stays for hours
QUARTER_TURNS = (5, 6, 7, 8)  # EXIF's orientations that swap width and height
# A marker that a length follows, or the end; not the stuffing and restarts inside of a scan.
JPEG_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
JPEG_SCAN, JPEG_END = 0xDA, 0xD9
# What Pillow's decoders raise for a damaged file.
PICTURE_FAULTS = (
    *(OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error),
    *(LookupError, TypeError, ArithmeticError, MemoryError),
)

Image.preinit()  # loads Pillow's decoders now, not in the first job


@dataclass(frozen=True)
class Picture:
    """A picture's size in pixels, upright."""

    width: int
    height: int


def probe_picture(name: str, source: Path, *, max_megapixels: float) -> Picture:
    """The picture's upright size, by its header. `name` is the request's field.

    Raises:
        MediaInvalid: not a picture, or of a format that is not taken.
        MediaTooLarge: more pixels than allowed.
    """
    with _picture(name, source, max_megapixels) as image:
        turned = image.getexif().get(ExifTags.Base.Orientation) in QUARTER_TURNS
        if turned and image.format != "TIFF":  # whose size Pillow gives upright
            return Picture(image.height, image.width)
        return Picture(image.width, image.height)


def save_picture(
    name: str, source: Path, target: Path, framing: Framing, *, max_megapixels: float
) -> None:
    """Save the picture upright and framed, RGB without metadata.

    The format is that of the target's name: a lossless one. Transparency is laid on white, as
    browsers show it; of an animation the first frame is taken. It takes up to about 6 bytes of
    memory for each pixel allowed.

    Raises:
        MediaInvalid: not a picture, of a format that is not taken, or truncated.
        MediaTooLarge: more pixels than allowed.
    """
    with _picture(name, source, max_megapixels) as image:
        x0, _, x1, _ = framing.crop_box
        framed = framing.apply(_upright(image, (x1 - x0) / framing.render_width))
    framed.save(target)


def open_mask(name: str, source: Path, *, max_megapixels: float) -> Image.Image:
    """The picture behind a mask_url, upright, as brightness; a huge one is reduced.

    Raises:
        MediaInvalid: not a picture, of a format that is not taken, or truncated.
        MediaTooLarge: more pixels than allowed.
    """
    with _picture(name, source, max_megapixels) as image:
        return _upright(image, REDUCING_GAP * min(image.size) / MASK_SIDE).convert("L")


def count_masks(name: str, source: Path, *, max_megapixels: float) -> int:
    """How many masks ComfyUI's LoadImage makes of the picture's frames, up to MAX_MASKS.

    It reads through Pillow up to 0.19 and mostly through PyAV from 0.20: what the two read
    differently is refused.

    Raises:
        MediaInvalid: not a picture, or one whose frames ComfyUI 0.20 loses or misreads.
        MediaTooLarge: more pixels than allowed.
    """
    with _picture(name, source, max_megapixels) as image:
        delays = list(_delays(image))
        kind, mode, alone = image.format, image.mode, image.info.get("default_image")
    if len(delays) == 1 or kind == "MPO":  # a JPEG with a second view of the same
        return 1
    if kind == "GIF" and None in delays:
        raise MediaInvalid(
            f"{name}: its frames have no delay, or some have none, and ComfyUI 0.20 and later lose "
            "those: save it with a delay"
        )
    if alone:
        raise MediaInvalid(
            f"{name}: its first picture is not of the animation, and ComfyUI 0.20 and later leave "
            "it out: save it as the first frame"
        )
    if max(delay or 0 for delay in delays) > MAX_DELAY_MS:
        raise MediaInvalid(
            f"{name}: a frame stays for longer than {MAX_DELAY_MS / 1000:g} s, which ComfyUI 0.20 "
            "and later cannot load: save it with a shorter delay"
        )
    if kind == "TIFF":
        raise MediaInvalid(
            f"{name}: it has {len(delays)} pages, and ComfyUI 0.20 and later load one of them: "
            "save it as a GIF with a delay"
        )
    if kind == "PNG" and mode in ("1", "P"):
        raise MediaInvalid(
            f"{name}: its frames have a palette or one bit for a pixel, which ComfyUI 0.20 and "
            "later misread: save it as RGB"
        )
    return len(delays)


def _delays(image: Image.Image) -> Iterator[float | None]:
    """The milliseconds that each frame stays; None where a GIF's frame says nothing of it."""
    for index in range(MAX_MASKS):
        try:
            image.seek(index)
        except EOFError:
            return
        yield image.info.get("duration")


@contextlib.contextmanager
def _picture(name: str, source: Path, max_megapixels: float) -> Iterator[Image.Image]:
    """The picture, opened and within all limits; what is raised within is told as MediaInvalid.

    Pillow reads no more than the header until `load`: the limits come before the pixels.
    """
    try:
        with Image.open(source, formats=PICTURE_FORMATS) as image:
            _check_size(name, image, max_megapixels)
            _check_kind(name, image, source)
            yield image
    except Image.DecompressionBombError:
        allowed = f"{max_megapixels:g} megapixels"
        raise MediaTooLarge(f"{name}: the picture is far too large, allowed: {allowed}") from None
    except UnidentifiedImageError:
        kinds = ", ".join(PICTURE_FORMATS[:3])
        raise MediaInvalid(f"{name}: the file is not a picture, allowed: {kinds}") from None
    except PICTURE_FAULTS as error:
        raise MediaInvalid(f"{name}: the picture cannot be decoded: {error}") from None


def _check_size(name: str, image: Image.Image, max_megapixels: float) -> None:
    size = f"{image.width}x{image.height}"
    cost, kind = _decoding_cost(image)
    if image.width * image.height * cost > max_megapixels * 1e6:
        limit = f"{max_megapixels / cost:g} megapixels{kind}"
        raise MediaTooLarge(f"{name}: the picture has {size} pixels, allowed: {limit}")
    check_shape(name, "picture", image.width, image.height)


def _decoding_cost(image: Image.Image) -> tuple[int, str]:
    """The memory for a pixel at its worst, in multiples of four bytes, and why more than one."""
    if image.format == "WEBP":
        return 4, " of WebP"
    if image.format == "TIFF":
        return 3, " of TIFF"
    if image.info.get("progressive"):
        return 3 if image.mode == "CMYK" else 2, " of progressive JPEG"
    if image.has_transparency_data or image.mode not in ("1", "L", "P", "RGB"):
        return 2, f" of {image.mode}"
    return 1, ""


def _check_kind(name: str, image: Image.Image, source: Path) -> None:
    kind, compression = image.format or "", image.info.get("compression")
    if kind in COMPRESSIONS and compression not in COMPRESSIONS[kind]:
        allowed = ", ".join(map(str, COMPRESSIONS[kind]))
        raise MediaInvalid(f"{name}: {kind} of compression {compression}, allowed: {allowed}")
    if image.mode not in PIXEL_MODES:
        allowed = "RGB, grey or CMYK of 8 bits, or grey of 16"
        raise MediaInvalid(f"{name}: the picture's pixels are {image.mode}, allowed: {allowed}")
    if image.info.get("progressive") and (scans := _scans(source.read_bytes())) > MAX_SCANS:
        raise MediaInvalid(f"{name}: a JPEG of {scans} scans, allowed: {MAX_SCANS}")


def _scans(jpeg: bytes) -> int:
    """How many scans the JPEG file has, at most: all that begin before its end."""
    scans, place = 0, 2
    while match := JPEG_MARKER.search(jpeg, place):
        marker, place = match[0][-1], match.end()
        if marker == JPEG_END:
            break
        scans += marker == JPEG_SCAN
        place += int.from_bytes(jpeg[place : place + 2], "big")
    return scans


def _upright(image: Image.Image, scale: float) -> Image.Image:
    """The picture as RGB, upright. It may be reduced where `scale` source pixels become one."""
    width, factor = image.width, max(1, int(scale / REDUCING_GAP))
    image.draft(None, (image.width // factor, image.height // factor))  # a JPEG is decoded smaller
    factor //= round(width / image.width)
    image.load()  # turns a TIFF upright
    reduced = _reduced(image, factor)
    reduced.getexif()[ExifTags.Base.Orientation] = image.getexif().get(ExifTags.Base.Orientation, 1)
    ImageOps.exif_transpose(reduced, in_place=True)
    return reduced


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    """On white and so much smaller, in bands: a copy of all of it might not fit into memory."""
    if factor == 1 and image.mode == "RGB" and not image.has_transparency_data:
        return image
    reduced = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    rows = max(1, BAND_PIXELS // (image.width * factor)) * factor
    for top in range(0, image.height, rows):
        band = _on_white(image.crop((0, top, image.width, min(top + rows, image.height))))
        reduced.paste(band.reduce(factor), (0, top // factor))
    return reduced


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 256).convert("L")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")
