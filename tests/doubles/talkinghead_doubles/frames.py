"""The picture a double's sampler makes: the reference image, a running bar, mouths that open."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from . import control

BAR_WIDTHS_PER_FRAME = 16
BAR_HEIGHTS_PER_FRAME = 8
MOUTHS_PER_WIDTH = 12
MOUTHS_PER_HEIGHT = 6
LIPS = torch.tensor([0.55, 0.08, 0.10])

Point = tuple[int, int]


@dataclass(frozen=True)
class SampledFrames:
    """Frames described, not yet painted: a long video costs memory only where it is decoded.

    `pictures` is [K, H, W, 3] in 0..1, `shown[t]` says which of them frame t shows, and
    `openings` is [speakers, T]. The first frames repeat `lead`, the motion frames handed in.
    What is `black` is so from its second frame on, as where SageAttention does not suit the card.
    """

    pictures: torch.Tensor
    shown: Sequence[int]
    openings: torch.Tensor
    mouths: tuple[Point, ...]
    seed: int
    lead: torch.Tensor | None = None
    black: bool = False

    def __len__(self) -> int:
        return len(self.shown)

    def to(self, *_: object) -> "SampledFrames":
        """As a tensor moves to a device."""
        return self

    def permute(self, *_: int) -> "SampledFrames":
        """As the light VAE gets its latents."""
        return self

    def __getitem__(self, at: tuple[slice, slice, slice]) -> "Tail":
        """The last latents, as [:, :, -n:] takes them: n of them decode to 4n - 3 frames."""
        return Tail(self, len(self) + 4 * at[2].start + 3)

    def paint(self, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """IMAGE [T, H, W, 3], float32 in 0..1."""
        wanted = range(start, len(self) if stop is None else stop)
        images = torch.empty(len(wanted), *self.pictures.shape[1:])
        for image, t in zip(images, wanted, strict=True):
            self._paint_frame(image, t)
        return images

    def _paint_frame(self, image: torch.Tensor, t: int) -> None:
        if self.lead is not None and t < len(self.lead):
            image.copy_(self.lead[t])
            return
        if self.black and t:
            image.zero_()
            return
        image.copy_(self.pictures[self.shown[t]])
        paint_bar(image, t, self.seed)
        for mouth, opening in zip(self.mouths, self.openings[:, t].tolist(), strict=True):
            paint_mouth(image, mouth, opening)


@dataclass(frozen=True)
class Tail:
    """What is left of frames from the one numbered `first` on."""

    frames: SampledFrames
    first: int

    def to(self, *_: object) -> "Tail":
        """As a tensor moves to a device."""
        return self

    def paint(self) -> torch.Tensor:
        """IMAGE [T, H, W, 3], float32 in 0..1."""
        return self.frames.paint(max(0, self.first))


def paint_bar(image: torch.Tensor, t: int, seed: int) -> None:
    """A bar at the top edge, one bar width further each frame, in a colour of the seed."""
    height, width, _ = image.shape
    bar = max(1, width // BAR_WIDTHS_PER_FRAME)
    left = (t * bar) % (bar * BAR_WIDTHS_PER_FRAME)
    colour = torch.tensor([(seed * factor % 200 + 55) / 255 for factor in (1, 7, 31)])
    image[: max(1, height // BAR_HEIGHTS_PER_FRAME), left : left + bar] = colour


def paint_mouth(image: torch.Tensor, centre: Point, opening: float) -> None:
    """A dark patch round `centre` (x, y), as high as the voice is loud."""
    height, width, _ = image.shape
    half_height = round(min(opening, 1.0) * height / MOUTHS_PER_HEIGHT / 2)
    half_width = width // MOUTHS_PER_WIDTH // 2
    x, y = centre
    top, left = max(0, y - half_height), max(0, x - half_width)
    image[top : y + half_height, left : x + half_width] = LIPS


def mouth_places(
    masks: torch.Tensor | None, speakers: int, width: int, height: int
) -> tuple[Point, ...]:
    """Where each speaker's mouth is: the middle of the mask, or of the lower face without one."""
    if masks is None or speakers == 1:
        return tuple((width // 2, height * 2 // 3) for _ in range(speakers))
    return tuple(_middle(mask, width, height) for mask in masks[:speakers])


def _middle(mask: torch.Tensor, width: int, height: int) -> Point:
    rows, columns = torch.nonzero(mask > 0, as_tuple=True)
    if not len(rows):
        return (width // 2, height // 2)
    mask_height, mask_width = mask.shape
    x = float(columns.float().mean()) * width / mask_width
    y = float(rows.float().mean()) * height / mask_height
    return (round(x), round(y))


def save_pngs(images: torch.Tensor, folder: Path, first_number: int) -> None:
    """Frames as frame_00000.png and on, as WanVideoImageToVideoMultiTalk.output_path has them."""
    for number, image in enumerate(images, start=first_number):
        pixels = (image * 255).to(torch.uint8).numpy()
        path = folder / f"frame_{number:05d}.png"
        control.on_a_full_disk(path, "WanVideoSampler")
        Image.fromarray(pixels).save(path, compress_level=1)
