"""VideoHelperSuite's loaders and list nodes: images, videos and sound from files."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import folder_paths
import numpy as np
import torch
from av.video.stream import VideoStream
from comfy.utils import common_upscale
from numpy.typing import NDArray
from PIL import Image, ImageOps

from .schemas import Behaviour, Outputs
from .speech import Audio

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
VIDEO_SUFFIXES = (".webm", ".mp4", ".mkv", ".gif", ".mov")
# Sizes are rounded to this many pixels; "None" leaves them alone.
ALIGNMENT = {"None": 1, "AnimateDiff": 8, "Wan": 8, "LTXV": 32}
DEFAULT_ALIGNMENT = 16
FRAME_GRID = {"Mochi": 6, "LTXV": 8, "Hunyuan": 4, "Cosmos": 8, "Wan": 4}


@dataclass
class LazyAudio(Mapping[str, object]):
    """AUDIO decoded when somebody reads it, as the real video loader does."""

    path: Path
    start: float
    duration: float
    decoded: dict[str, object] = field(default_factory=dict)

    def __getitem__(self, key: str) -> object:
        return self._audio()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._audio())

    def __len__(self) -> int:
        return len(self._audio())

    def _audio(self) -> dict[str, object]:
        if not self.decoded:
            self.decoded.update(decode_audio(self.path, self.start, self.duration))
        return self.decoded


@dataclass(frozen=True)
class Selection:
    """Which frames of a video are loaded."""

    force_rate: float
    skip_first_frames: int
    select_every_nth: int
    frame_load_cap: int

    def pick(self, stream: VideoStream, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        rate = Fraction(str(self.force_rate)) or source_rate(stream)
        at_rate = resampled(frames, source_rate(stream) / rate)
        for number, frame in enumerate(at_rate):
            order, remainder = divmod(number - self.skip_first_frames, self.select_every_nth)
            if order < 0 or remainder:
                continue
            if self.frame_load_cap and order >= self.frame_load_cap:
                return
            yield frame


def resampled(frames: Iterator[av.VideoFrame], step: Fraction) -> Iterator[av.VideoFrame]:
    """Frame k of the new rate is the first source frame at or after k * step."""
    wanted = 0
    for number, frame in enumerate(frames):
        while math.ceil(wanted * step) <= number:
            yield frame
            wanted += 1


def load_video(
    *,
    video: str,
    force_rate: float,
    custom_width: int,
    custom_height: int,
    frame_load_cap: int,
    skip_first_frames: int,
    select_every_nth: int,
    format: str = "AnimateDiff",
    **_: object,
) -> Outputs:
    path = Path(unquoted(video))
    selection = Selection(force_rate, skip_first_frames, select_every_nth, frame_load_cap)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        source = (stream.width, stream.height)
        fps, count = float(source_rate(stream)), stream.frames
        size = target_size(source, (custom_width, custom_height), alignment(format))
        picked = selection.pick(stream, container.decode(stream))
        images = stacked([scaled(frame.to_ndarray(format="rgb24"), size) for frame in picked])
    if format in FRAME_GRID:
        images = images[: (len(images) - 1) // FRAME_GRID[format] * FRAME_GRID[format] + 1]
    frame_seconds = 1 / (force_rate or fps)
    audio = LazyAudio(
        path, skip_first_frames * frame_seconds, frame_load_cap * frame_seconds * select_every_nth
    )
    loaded_fps = (force_rate or fps) / select_every_nth
    info = video_facts("source", fps, count, source)
    info.update(video_facts("loaded", loaded_fps, len(images), size))
    return (images, len(images), audio, info)


def load_input_video(video: str, **inputs: object) -> Outputs:
    path: str = folder_paths.get_annotated_filepath(video)
    return load_video(video=path, **inputs)  # type: ignore[arg-type]  # checked by ComfyUI


def video_facts(kind: str, fps: float, count: int, size: tuple[int, int]) -> dict[str, object]:
    return {
        f"{kind}_fps": fps,
        f"{kind}_frame_count": count,
        f"{kind}_duration": count / fps,
        f"{kind}_width": size[0],
        f"{kind}_height": size[1],
    }


def show_video_info(video_info: dict[str, object]) -> Outputs:
    facts = ("fps", "frame_count", "duration", "width", "height")
    return tuple(video_info[f"{kind}_{fact}"] for kind in ("source", "loaded") for fact in facts)


def source_rate(stream: VideoStream) -> Fraction:
    return stream.average_rate or Fraction(25)


def alignment(format_name: str) -> int:
    return ALIGNMENT.get(format_name, DEFAULT_ALIGNMENT)


def target_size(source: tuple[int, int], custom: tuple[int, int], align: int) -> tuple[int, int]:
    """The custom size, a side of 0 following the aspect, both rounded to `align`."""
    width, height = custom
    if not width and not height:
        width, height = source
    scale_x, scale_y = width / source[0], height / source[1]
    sides = (source[0] * (scale_x or scale_y), source[1] * (scale_y or scale_x))
    return (int(sides[0] / align + 0.5) * align, int(sides[1] / align + 0.5) * align)


def scaled(pixels: NDArray[np.generic], size: tuple[int, int]) -> torch.Tensor:
    """HWC in 0..1 at `size`, cropped about the centre to its aspect."""
    image = torch.from_numpy(pixels.astype(np.float32) / 255)
    if (image.shape[1], image.shape[0]) == size:
        return image
    resized: torch.Tensor = common_upscale(image.movedim(-1, 0)[None], *size, "lanczos", "center")
    return resized[0].movedim(0, -1)


def stacked(images: list[torch.Tensor]) -> torch.Tensor:
    if not images:
        raise RuntimeError("No frames generated")
    return torch.stack(images)


def load_images(
    directory: str,
    image_load_cap: int = 0,
    skip_first_images: int = 0,
    select_every_nth: int = 1,
    **_: object,
) -> Outputs:
    paths = images_in(directory)[skip_first_images::select_every_nth]
    paths = paths[:image_load_cap] if image_load_cap else paths
    if not paths:
        raise FileNotFoundError(f"No files in directory '{directory}'.")
    pictures = [ImageOps.exif_transpose(Image.open(path)) for path in paths]
    size = Counter(picture.size for picture in pictures).most_common(1)[0][0]
    has_alpha = any("A" in picture.getbands() for picture in pictures)
    mode = "RGBA" if has_alpha else "RGB"
    images = torch.stack([scaled(np.array(p.convert(mode)), size) for p in pictures])
    masks = 1 - images[..., 3] if has_alpha else torch.zeros(len(images), 64, 64)
    return (images[..., :3], masks, len(images))


def images_in(directory: str) -> list[Path]:
    files = Path(unquoted(directory)).iterdir()
    return sorted(file for file in files if file.suffix.lower() in IMAGE_SUFFIXES)


def select_images(
    image: torch.Tensor, indexes: str, err_if_missing: bool, err_if_empty: bool
) -> Outputs:
    wanted = [i for part in indexes.split(",") if part for i in _indexes(part, len(image))]
    found = [i for i in wanted if -len(image) <= i < len(image)]
    if err_if_missing and len(found) < len(wanted):
        raise IndexError(f"{indexes} names images that are not there")
    if err_if_empty and not found:
        raise ValueError(f"{indexes} selects nothing")
    return (image[found],)


def _indexes(part: str, count: int) -> list[int]:
    if ":" not in part:
        return [int(part)]
    bounds = [int(bound) if bound.strip() else None for bound in part.split(":")]
    return list(range(*slice(*bounds).indices(count)))


def split_images(images: torch.Tensor, split_index: int) -> Outputs:
    first, second = images[:split_index], images[split_index:]
    return (first, len(first), second, len(second))


def load_audio(audio_file: str, seek_seconds: float = 0, duration: float = 0) -> Outputs:
    audio = decode_audio(Path(unquoted(audio_file)), seek_seconds, duration)
    return (audio, audio["waveform"].shape[-1] / audio["sample_rate"])


def decode_audio(path: Path, start: float, duration: float) -> Audio:
    """AUDIO from `start`, all of it for a duration of 0; ValueError for a file without sound."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            raise ValueError(f"VHS failed to extract audio from {path}")
        stream = container.streams.audio[0]
        rate = stream.codec_context.sample_rate
        resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=rate)
        decoded = [f for frame in container.decode(stream) for f in resampler.resample(frame)]
        pcm = np.concatenate([frame.to_ndarray() for frame in decoded], axis=1)
    first = round(start * rate)
    last = first + round(duration * rate) if duration else None
    return Audio(waveform=torch.from_numpy(pcm[:, first:last].copy())[None], sample_rate=rate)


def unquoted(path: str) -> str:
    """A path as pasted from a file manager, without the quotes."""
    return path.strip().strip('"')


def input_videos() -> list[str]:
    files = Path(folder_paths.get_input_directory()).iterdir()
    return sorted(f.name for f in files if f.suffix.lower() in VIDEO_SUFFIXES)


def digest(paths: list[Path]) -> str:
    content = hashlib.sha256()
    for path in paths:
        content.update(path.read_bytes())
    return content.hexdigest()


def file_changed(video: str | None) -> str:
    path = Path(unquoted(video or ""))
    return digest([path]) if path.is_file() else "missing"


def input_file_changed(video: str) -> str:
    return file_changed(folder_paths.get_annotated_filepath(video))


def audio_changed(audio_file: str | None) -> str:
    return file_changed(audio_file)


def directory_changed(directory: str | None, **_: object) -> str:
    is_there = directory is not None and Path(directory).is_dir()
    return digest(images_in(directory)) if directory and is_there else "missing"


# The parameters' names are read by ComfyUI: they say which inputs are checked here.
def check_video(video: str | None) -> bool | str:
    if video is None or Path(unquoted(video)).is_file():
        return True
    return f"Invalid file path: {video}"


def check_input_video(video: str) -> bool | str:
    return folder_paths.exists_annotated_filepath(video) or f"Invalid video file: {video}"


def check_audio(audio_file: str | None) -> bool | str:
    return check_video(audio_file)


def check_directory(directory: str | None) -> bool | str:
    if directory is None:
        return True
    folder = Path(unquoted(directory))
    if not folder.is_dir():
        return f"Directory '{directory}' cannot be found."
    return any(folder.iterdir()) or f"No files in directory '{directory}'."


BEHAVIOURS = {
    "VHS_LoadAudio": Behaviour(load_audio, audio_changed, check_audio),
    "VHS_LoadImagesPath": Behaviour(load_images, directory_changed, check_directory),
    "VHS_LoadVideo": Behaviour(
        load_input_video, input_file_changed, check_input_video, list_files=input_videos
    ),
    "VHS_LoadVideoPath": Behaviour(load_video, file_changed, check_video),
    "VHS_SelectImages": Behaviour(select_images),
    "VHS_SplitImages": Behaviour(split_images),
    "VHS_VideoInfo": Behaviour(show_video_info),
}
