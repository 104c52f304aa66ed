"""Colour profiles (ICC), as small as they can be, and the colours that they mean."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# From linear RGB to XYZ for the white of D50, as a profile has it.
SRGB = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])
DISPLAY_P3 = np.array(
    [[0.5151, 0.2919, 0.1572], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.784]]
)
D50 = (0.9642, 1.0, 0.8249)
CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # sRGB's and Display P3's


def linear(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Values of 0 to 255 on sRGB's curve as light of 0 to 1."""
    v = np.asarray(values, float) / 255
    light: npt.NDArray[np.float64] = np.where(
        v <= CURVE[4], v / 12.92, ((v + 0.055) / 1.055) ** 2.4
    )
    return light


def curved(light: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Light of 0 to 1 as values of 0 to 255 on sRGB's curve."""
    v = np.clip(np.asarray(light, float), 0, 1)
    values: npt.NDArray[np.float64] = np.where(
        v <= 0.0031308, v * 12.92, 1.055 * v ** (1 / 2.4) - 0.055
    )
    return 255 * values


def in_display_p3(rgb: Sequence[int]) -> tuple[int, ...]:
    """What sRGB's colour is in Display P3."""
    light = np.linalg.inv(DISPLAY_P3) @ SRGB @ linear(rgb)
    return tuple(round(each) for each in curved(light).tolist())


def lab_as_rgb(lab: Sequence[float]) -> tuple[int, ...]:
    """A colour of CIE Lab for D50 in sRGB."""
    y = (lab[0] + 16) / 116
    cubes = np.array([y + lab[1] / 500, y, y - lab[2] / 200])
    xyz = np.where(cubes > 6 / 29, cubes**3, (cubes - 4 / 29) * 3 * (6 / 29) ** 2) * D50
    return tuple(round(each) for each in curved(np.linalg.inv(SRGB) @ xyz).tolist())


def display_p3() -> bytes:
    """The profile of phones and of Apple's screens."""
    curve = b"para" + struct.pack(">IHH", 0, 3, 0) + _fixed(*CURVE)
    columns = zip((b"rXYZ", b"gXYZ", b"bXYZ"), DISPLAY_P3.T.tolist(), strict=True)
    tags = {name: b"XYZ " + bytes(4) + _fixed(*column) for name, column in columns}
    return _profile(b"RGB ", b"mntr", {**tags, b"rTRC": curve, b"gTRC": curve, b"bTRC": curve})


def linear_grey() -> bytes:
    """A profile for grey in which the values are the light."""
    return _profile(b"GRAY", b"mntr", {b"kTRC": b"curv" + struct.pack(">II", 0, 0)})


def inks(corners: Sequence[Sequence[float]]) -> bytes:
    """A CMYK profile: the Lab colours of the 16 ways to print or not, black's changing first."""
    straight = bytes(range(256))
    grid = b"".join(
        bytes((round(lab[0] * 2.55), round(lab[1] + 128), round(lab[2] + 128))) for lab in corners
    )
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    return _profile(b"CMYK", b"prtr", {b"A2B0": table + 4 * straight + grid + 3 * straight})


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *[round(value * 65536) for value in values])


def _profile(space: bytes, device: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"for a test\0"
    tags = {
        b"desc": b"desc" + struct.pack(">II", 0, len(text)) + text + bytes(78),
        b"cprt": b"text" + bytes(4) + text,
        b"wtpt": b"XYZ " + bytes(4) + _fixed(*D50),
        **tags,
    }
    place, table, data = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        content = tag + bytes(-len(tag) % 4)
        table += struct.pack(">4sII", name, place + len(data), len(content))
        data += content
    pcs = b"Lab " if device == b"prtr" else b"XYZ "
    head = struct.pack(">I4sI4s4s4s", place + len(data), b"", 0x02400000, device, space, pcs)
    head += bytes(12) + b"acsp" + bytes(28) + _fixed(*D50) + bytes(48)
    return head + table + data
