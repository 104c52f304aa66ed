"""A picture's colours as a screen shows them: converted to sRGB by the profile that is embedded."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

from PIL import Image, ImageCms

SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # a profile's, and Pillow's mode for it
GREYS = ("1", "L", "LA", "I;16", "I;16B")
CODED_KINDS = ("HEIF", "AVIF")
# H.273's codes that are not sRGB's, or nearly, and whose colours are not converted.
CODED_PRIMARIES = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
CODED_TRANSFERS = {16: "PQ", 18: "HLG"}
CODES = re.compile(rb"colrnclx(..)(..)", re.DOTALL)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@dataclass(frozen=True)
class Colours:
    """How a picture becomes sRGB. `fault` is why its profile is not used, or empty."""

    transform: ImageCms.ImageCmsTransform | None = None
    fault: str = ""

    @property
    def late(self) -> bool:
        """Whether RGB is converted last, when the picture is small."""
        return self.transform is not None and self.transform.input_mode == "RGB"

    def rgb(self, image: Image.Image) -> Image.Image:
        """Grey or CMYK as sRGB; RGB without transparency as it is, see `finished`."""
        if self.transform is None or self.late:
            return image.convert("RGB")
        return _applied(self.transform, image)

    def finished(self, image: Image.Image) -> Image.Image:
        """What `rgb` gave, as sRGB."""
        return _applied(self.transform, image) if self.transform and self.late else image


def colours_of(image: Image.Image) -> Colours:
    """How the picture becomes sRGB, by its embedded profile; nothing is decoded."""
    embedded = image.info.get("icc_profile")
    if not embedded:
        return Colours()
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(embedded))
        mode = SPACES.get(profile.profile.xcolor_space.strip(), "")
        if not _fits(mode, image.mode):
            return Colours(
                fault="the picture's colour profile is for other pixels, and is not used"
            )
        if "sRGB" in ImageCms.getProfileDescription(profile):
            return Colours()
        return Colours(_transform(profile, mode))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):
        return Colours(fault="the picture's colour profile is damaged, and is not used")


def unconverted(image: Image.Image, content: bytes) -> str:
    """What is to be told of a HEIC's or AVIF's colours, if codes alone say that they are no sRGB's.

    Those of HDR, and of cameras that embed no profile.
    """
    codes = CODES.search(content) if image.format in CODED_KINDS else None
    if codes is None or image.info.get("icc_profile"):
        return ""
    primaries, transfer = (int.from_bytes(code, "big") for code in codes.groups())
    names = [CODED_PRIMARIES.get(primaries), CODED_TRANSFERS.get(transfer)]
    named = " with ".join(filter(None, names))
    return named and f"the picture's colours are {named}, and are used as they are: too pale"


def _fits(profile: str, image: str) -> bool:
    """Whether a profile for the one mode is for pictures of the other. Grey is RGB as well."""
    if image == "CMYK":
        return profile == "CMYK"
    return profile == "RGB" or (profile == "L" and image in GREYS)


def _transform(profile: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    """To sRGB as browsers have it."""
    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    return ImageCms.ImageCmsTransform(profile, SRGB, mode, "RGB", intent, flags=flags)


def _applied(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    converted = transform.apply(image.convert(transform.input_mode))
    del converted.info["icc_profile"]
    return converted
