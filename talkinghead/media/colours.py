"""A picture's colours as a screen shows them: converted to sRGB by the profile that is embedded."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image, ImageCms

SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # a profile's, and Pillow's mode for it
GREYS = ("1", "L", "LA", "I;16", "I;16B")
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
