"""Pictures: probe, frame, open as a mask, count the frames of a masks file."""

from __future__ import annotations

import contextlib
import io
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pillow_heif
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from talkinghead.errors import MediaInvalid, MediaTooLarge
from talkinghead.media.colours import Colours, colours_of, unconverted
from talkinghead.media.kinds import not_one_of
from talkinghead.media.masks import REDUCING_GAP, Framing, check_shape
from talkinghead.media.mending import Mended, count_scans, load, mended

PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "BMP", "TIFF", "GIF")
PICTURE_KINDS = "JPEG, PNG, WebP, AVIF, HEIC, GIF, BMP, TIFF"  # in a caller's words
PIXEL_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I;16", "I;16B")
COMPRESSIONS = {  # not Pillow's slow run lengths, nor libtiff's rarer decoders
    "BMP": (0, 3),  # BI_RGB, BI_BITFIELDS
    "TIFF": ("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "jpeg"),
}
# The memory that a pixel takes at its worst, in multiples of four bytes, where that is many.
DECODING_COSTS = {"WEBP": 4, "TIFF": 3, "AVIF": 3, "HEIF": 2}
FOR_NO_NODE = ("HEIF", "AVIF")  # what LoadImage opens in no ComfyUI, or not in each
MAX_MISSING = 0.1  # of the rows of a picture that is cut off
MAX_SCANS = 100  # of a progressive JPEG: each costs time for all of its pixels; 10 are usual
BAND_PIXELS = 2**20
MASK_SIDE = 2048  # more than is rendered
MAX_MASKS = 8  # a file with more frames is no masks file, and is not read on
MAX_DELAY_MS = 60_000  # of a frame; PyAV finds no rate where one stays for hours
QUARTER_TURNS = (5, 6, 7, 8)  # EXIF's orientations that swap width and height
# What Pillow's decoders raise for a damaged file.
PICTURE_FAULTS = (
    *(OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error),
    *(LookupError, TypeError, ArithmeticError, MemoryError, RuntimeError),
)

Image.init()  # loads Pillow's decoders now, not in the first job
# A phone's thumbnails and depths are of no use here. Each thread takes memory.
pillow_heif.register_heif_opener(
    thumbnails=False, depth_images=False, aux_images=False, decode_threads=2
)


@dataclass(frozen=True)
class Picture:
    """A picture's size in pixels, upright. `notes` are what a caller should be told of it."""

    width: int
    height: int
    notes: tuple[str, ...] = ()


def probe_picture(name: str, source: Path, *, max_megapixels: float) -> Picture:
    """The picture's upright size. `name` is the request's field.

    It is decoded once, for few headers tell of damage: a dry run refuses what a render would.

    Raises:
        MediaInvalid: not a picture, of a format that is not taken, or too much of it is missing.
        MediaTooLarge: more pixels than allowed.
    """
    with _picture(name, source, max_megapixels) as (image, file):
        size = image.size  # a TIFF's is upright, and says no more of turning once it is loaded
        if not file.cut:
            image.draft(None, (1, 1))  # a JPEG is decoded smaller: that takes less time
        missing = _load(image, file)
        if image.getexif().get(ExifTags.Base.Orientation) in QUARTER_TURNS:
            size = size[::-1]
        colours = (colours_of(image).fault, unconverted(image, file.content))
        faults = (*file.faults, *filter(None, colours))
    if missing:
        faults = (*faults, f"{math.ceil(100 * missing)} % of the picture's rows are missing")
    return Picture(*size, tuple(f"{name}: {fault}" for fault in faults))


def save_picture(
    name: str, source: Path, target: Path, framing: Framing, *, max_megapixels: float
) -> None:
    """Save the picture upright and framed, RGB without metadata.

    The format is that of the target's name: a lossless one. Transparency is laid on white, as
    browsers show it, and an embedded profile's colours become sRGB; of an animation the first frame
    is taken. It takes up to about 6 bytes of memory for each pixel allowed.

    Raises:
        MediaInvalid: not a picture, of a format that is not taken, or too much of it is missing.
        MediaTooLarge: more pixels than allowed.
    """
    with _picture(name, source, max_megapixels) as (image, file):
        colours = colours_of(image)
        upright = _upright(image, file, colours, framing.reduction)
        framed = colours.finished(framing.apply(upright))
    framed.save(target)


def save_for_nodes(name: str, path: Path, *, max_megapixels: float) -> None:
    """Make the picture one that ComfyUI's nodes open: a HEIC or AVIF becomes a PNG in its place.

    Nodes go by what is in a file: it keeps its name, which a workflow has.

    Raises:
        MediaInvalid, MediaTooLarge: as `save_picture`.
    """
    with _picture(name, path, max_megapixels) as (image, file):
        if image.format not in FOR_NO_NODE:
            return
        missing = _load(image, file)
        assert not missing
        ImageOps.exif_transpose(image, in_place=True)
        colours = colours_of(image)
        alpha = image.getchannel("A") if "A" in image.getbands() else None
        shown = colours.finished(colours.rgb(image))
        if alpha is not None:
            shown.putalpha(alpha)
    shown.save(path, "PNG", compress_level=1)


def open_mask(name: str, source: Path, *, max_megapixels: float) -> Image.Image:
    """The picture behind a mask_url, upright, as brightness; a huge one is reduced.

    Raises:
        MediaInvalid: not a picture, of a format that is not taken, or too much of it is missing.
        MediaTooLarge: more pixels than allowed.
    """
    with _picture(name, source, max_megapixels) as (image, file):
        scale = REDUCING_GAP * min(image.size) / MASK_SIDE
        return _upright(image, file, Colours(), scale).convert("L")


@dataclass(frozen=True)
class SmallPicture:
    """A picture as it is looked at, RGB and upright, and its own size in pixels."""

    image: Image.Image
    size: tuple[int, int]


def open_small(name: str, source: Path, side: int, *, max_megapixels: float) -> SmallPicture:
    """The picture, upright; one with a longer side of more than twice `side` is reduced.

    Raises:
        MediaInvalid, MediaTooLarge: as `save_picture`.
    """
    with _picture(name, source, max_megapixels) as (image, file):
        size = image.size
        upright = _upright(image, file, Colours(), max(size) / side).convert("RGB")
    turned = (size[0] > size[1]) != (upright.width > upright.height)
    return SmallPicture(upright, size[::-1] if turned else size)


def count_masks(name: str, source: Path, *, max_megapixels: float) -> int:
    """How many masks ComfyUI's LoadImage makes of the picture's frames, up to MAX_MASKS.

    It reads through Pillow up to 0.19 and mostly through PyAV from 0.20: what the two read
    differently is refused.

    Raises:
        MediaInvalid: not a picture, or one whose frames ComfyUI 0.20 loses or misreads.
        MediaTooLarge: more pixels than allowed.
    """
    with _picture(name, source, max_megapixels) as (image, _):
        if image.format in FOR_NO_NODE:
            return 1  # what `save_for_nodes` leaves
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
def _picture(name: str, source: Path, max_megapixels: float) -> Iterator[tuple[ImageFile, Mended]]:
    """The picture, opened and within all limits; what is raised within is told as MediaInvalid.

    Pillow reads no more than the header until `load`: the limits come before the pixels.
    """
    try:
        file = mended(source.read_bytes())
        with Image.open(io.BytesIO(file.content), formats=PICTURE_FORMATS) as image:
            _check_size(name, image, max_megapixels)
            _check_kind(name, image, file.content)
            yield image, file
    except Image.DecompressionBombError:
        allowed = f"{max_megapixels:g} megapixels"
        raise MediaTooLarge(f"{name}: the picture is far too large, allowed: {allowed}") from None
    except UnidentifiedImageError:
        raise MediaInvalid(f"{name}: {not_one_of(source, 'picture', PICTURE_KINDS)}") from None
    except PICTURE_FAULTS as error:
        reason = str(error).strip()
        raise MediaInvalid(f"{name}: the picture cannot be decoded: {reason}") from None


def _load(image: ImageFile, file: Mended) -> float:
    """Load the pixels; returns the share of the rows that are missing.

    Raises:
        ValueError: too many are.
    """
    missing = load(image, file)
    if missing > MAX_MISSING:
        allowed = f"{MAX_MISSING:.0%}".replace("%", " %")
        raise ValueError(
            f"it is cut off, {math.ceil(100 * missing)} % of its rows are missing, "
            f"allowed: {allowed}"
        )
    return missing


def _check_size(name: str, image: Image.Image, max_megapixels: float) -> None:
    size = f"{image.width}x{image.height}"
    cost, kind = _decoding_cost(image)
    if image.width * image.height * cost > max_megapixels * 1e6:
        limit = f"{max_megapixels / cost:g} megapixels{kind}"
        raise MediaTooLarge(f"{name}: the picture has {size} pixels, allowed: {limit}")
    check_shape(name, "picture", image.width, image.height)


def _decoding_cost(image: Image.Image) -> tuple[int, str]:
    """The memory for a pixel at its worst, in multiples of four bytes, and why more than one."""
    if cost := DECODING_COSTS.get(image.format or ""):
        return cost, f" of {image.format}"
    if image.info.get("progressive"):
        return 3 if image.mode == "CMYK" else 2, " of progressive JPEG"
    if image.has_transparency_data or image.mode not in ("1", "L", "P", "RGB"):
        return 2, f" of {image.mode}"
    return 1, ""


def _check_kind(name: str, image: Image.Image, content: bytes) -> None:
    kind, compression = image.format or "", image.info.get("compression")
    if kind in COMPRESSIONS and compression not in COMPRESSIONS[kind]:
        allowed = ", ".join(map(str, COMPRESSIONS[kind]))
        raise MediaInvalid(f"{name}: {kind} of compression {compression}, allowed: {allowed}")
    if image.mode not in PIXEL_MODES:
        allowed = "RGB, grey or CMYK of 8 bits, or grey of 16"
        raise MediaInvalid(f"{name}: the picture's pixels are {image.mode}, allowed: {allowed}")
    if image.info.get("progressive") and (scans := count_scans(content)) > MAX_SCANS:
        raise MediaInvalid(f"{name}: a JPEG of {scans} scans, allowed: {MAX_SCANS}")


def _upright(image: ImageFile, file: Mended, colours: Colours, scale: float) -> Image.Image:
    """The picture as RGB, upright. It may be reduced where `scale` source pixels become one."""
    width, factor = image.width, max(1, int(scale / REDUCING_GAP))
    image.draft(None, (image.width // factor, image.height // factor))  # a JPEG is decoded smaller
    factor //= round(width / image.width)
    _load(image, file)  # turns a TIFF upright
    reduced = _reduced(image, colours, factor)
    reduced.getexif()[ExifTags.Base.Orientation] = image.getexif().get(ExifTags.Base.Orientation, 1)
    ImageOps.exif_transpose(reduced, in_place=True)
    return reduced


def _reduced(image: Image.Image, colours: Colours, factor: int) -> Image.Image:
    """On white and so much smaller, in bands: a copy of all of it might not fit into memory."""
    if factor == 1 and image.mode == "RGB" and not image.has_transparency_data:
        return image
    reduced = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    rows = max(1, BAND_PIXELS // (image.width * factor)) * factor
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        band = _on_white(band, colours)
        reduced.paste(band.reduce(factor), (0, top // factor))
    return reduced


def _on_white(image: Image.Image, colours: Colours) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 256).convert("L")
    if not image.has_transparency_data:
        return colours.rgb(image)
    alpha = image.convert("RGBA").getchannel("A")
    white = Image.new("RGB", image.size, "white")
    return Image.composite(colours.rgb(image), white, alpha)
