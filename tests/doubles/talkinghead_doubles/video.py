"""VHS_VideoCombine and VHS_PruneOutputs: real files with the real names, counters and history."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias, cast

import folder_paths
import torch
from comfy.utils import ProgressBar
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from . import control
from .mp4 import Encoding, add_sound, as_bytes, write_video
from .schemas import Behaviour, Outputs
from .speech import Audio

Tags: TypeAlias = dict[str, object]


@dataclass(frozen=True)
class Target:
    """Where one run's files go: <folder>/<name>_<counter> and a suffix each."""

    folder: Path
    subfolder: str
    name: str
    counter: int

    def file(self, suffix: str) -> Path:
        return self.folder / f"{self.name}_{self.counter:05}{suffix}"


def combine(
    *,
    images: torch.Tensor,
    frame_rate: float,
    filename_prefix: str,
    format: str,
    save_output: bool = True,
    audio: Audio | None = None,
    prompt: object = None,
    extra_pnginfo: Tags | None = None,
    pix_fmt: str = "yuv420p",
    crf: int = 19,
    save_metadata: bool = True,
    trim_to_audio: bool = False,
    **_: object,
) -> Outputs:
    if len(images) == 0:
        return ((save_output, []),)
    if format != "video/h264-mp4":
        raise RuntimeError(f"VHS_VideoCombine is a test double and cannot write {format}")
    tags = {"prompt": json.dumps(prompt)} if prompt is not None else {}
    tags |= {key: json.dumps(value) for key, value in (extra_pnginfo or {}).items()}
    target = next_target(filename_prefix, save_output)
    encoding = Encoding(Fraction(str(frame_rate)), crf, pix_fmt, tags if save_metadata else {})
    files = [target.file(".png"), target.file(".mp4")]
    if option(extra_pnginfo, "VHS_MetadataImage"):
        save_first_frame(files[0], images[0], tags)
    control.on_a_full_disk(files[1], "VHS_VideoCombine")
    write_video(files[1], counted(images), encoding)
    if audio is not None and has_sound(audio):
        files.append(target.file("-audio.mp4"))
        add_sound(files[1], files[2], audio, encoding.frame_rate, trim_to_audio)
    if not option(extra_pnginfo, "VHS_KeepIntermediate"):
        remove(files[1:-1])
    shown = {**places(target, files, save_output), "format": format, "frame_rate": frame_rate}
    return {"ui": {"gifs": [shown]}, "result": ((save_output, [str(file) for file in files]),)}


def places(target: Target, files: list[Path], save_output: bool) -> dict[str, str]:
    """Where history finds the last of the files; the PNG is named even if it was not written."""
    return {
        "filename": files[-1].name,
        "subfolder": target.subfolder,
        "type": "output" if save_output else "temp",
        "workflow": files[0].name,
        "fullpath": str(files[-1]),
    }


def next_target(filename_prefix: str, save_output: bool) -> Target:
    """The next free counter of the prefix, over files of any kind."""
    root = folder_paths.get_output_directory() if save_output else folder_paths.get_temp_directory()
    folder, name, _, subfolder, _ = folder_paths.get_save_image_path(filename_prefix, root)
    matcher = re.compile(rf"{re.escape(name)}_(\d+)\D*\..+", re.IGNORECASE)
    matches = (matcher.fullmatch(file.name) for file in Path(folder).iterdir())
    taken = [int(match.group(1)) for match in matches if match]
    return Target(Path(folder), subfolder, name, max(taken, default=0) + 1)


def option(extra_pnginfo: Tags | None, name: str) -> bool:
    """A VHS switch in the embedded workflow's `extra`; on unless it says false."""
    workflow = cast(Tags, (extra_pnginfo or {}).get("workflow") or {})
    return cast(Tags, workflow.get("extra") or {}).get(name, True) is not False


def save_first_frame(path: Path, image: torch.Tensor, tags: dict[str, str]) -> None:
    info = PngInfo()
    for key, value in tags.items():
        info.add_text(key, value)
    info.add_text("CreationTime", datetime.now().isoformat(" ")[:19])
    Image.fromarray(as_bytes(image)).save(path, pnginfo=info, compress_level=4)


def counted(images: torch.Tensor) -> Iterator[torch.Tensor]:
    """The images one by one, even-sized, with the node's progress and its faults."""
    progress = ProgressBar(len(images))
    for number, image in enumerate(images):
        control.trip("VHS_VideoCombine", number)
        progress.update(1)
        yield even_sized(image[..., :3])


def even_sized(image: torch.Tensor) -> torch.Tensor:
    height, width, _ = image.shape
    if height % 2 == 0 and width % 2 == 0:
        return image
    # The one odd row or column goes to the far side, as the real padding has it.
    rows = torch.arange(height + height % 2).clamp(max=height - 1)
    columns = torch.arange(width + width % 2).clamp(max=width - 1)
    return image[rows][:, columns]


def has_sound(audio: Audio) -> bool:
    """False for the lazy audio of a video that has none."""
    try:
        return audio["waveform"] is not None
    except (KeyError, ValueError, IndexError):
        return False


def prune(filenames: tuple[bool, list[str]], options: str) -> Outputs:
    files = [Path(file) for file in filenames[1]]
    remove(files[:-1] if options == "Intermediate and Utility" else files[1:-1])
    return ()


def remove(files: list[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


BEHAVIOURS = {
    "VHS_PruneOutputs": Behaviour(prune),
    "VHS_VideoCombine": Behaviour(combine, extra_inputs=True),
}
