"""The models that make a picture talk: what is different about each, in one table.

A further one is a row here, and its files in each profile of model_manifest.yaml.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from talkinghead.plan.frames import WINDOW_FRAMES

Long = Literal["chain", "frames"]


@dataclass(frozen=True)
class TalkModel:
    """A talk model, which goes with Wan 2.1 14B.

    Args:
        name: the request's `mode`, and that of the WanVideoImageToVideoMultiTalk node.
        title: as its makers write it.
        motion_frames: of a window's 81 frames, those that repeat the end of the window before.
        files: the names in a profile of the file for one speaker, and of that for several.
        long: what a render that shall not hold all its frames does: a prompt for each window, or
            one prompt that writes its frames to disk.
        from_video: whether it renders from a video too.
        mark: what its files' names hold, and those of no other do; None: all that have no mark.
    """

    name: str
    title: str
    motion_frames: int
    files: tuple[str, str]
    long: Long
    from_video: bool
    mark: str | None

    def file_for(self, speakers: int) -> str:
        """The name in a profile of the file for so many speakers."""
        return self.files[0 if speakers == 1 else 1]

    def new_frames(self, window_frames: int = WINDOW_FRAMES) -> int:
        """Frames of a window that no window before it has."""
        return window_frames - self.motion_frames

    def windows(self, frames: int, window_frames: int = WINDOW_FRAMES) -> int:
        """Windows that the sampler makes for so many frames."""
        return 1 + max(0, math.ceil((frames - window_frames) / self.new_frames(window_frames)))


MODELS: dict[str, TalkModel] = {
    model.name: model
    for model in (
        TalkModel(
            name="infinitetalk",
            title="InfiniteTalk",
            motion_frames=9,
            files=("infinitetalk_single", "infinitetalk_multi"),
            long="chain",
            from_video=True,
            mark="infinite",
        ),
        TalkModel(
            name="multitalk",
            title="MultiTalk",
            motion_frames=25,
            files=("multitalk", "multitalk"),
            long="frames",
            from_video=False,
            mark=None,
        ),
    )
}


def talk_files() -> list[str]:
    """The names that a profile gives files to: each once."""
    return list(dict.fromkeys(name for model in MODELS.values() for name in model.files))


def model_of_file(file: str) -> TalkModel:
    """The model that a talk model's file is of, by its name."""
    name = file.lower()
    marked = [model for model in MODELS.values() if model.mark and model.mark in name]
    return (marked or [model for model in MODELS.values() if not model.mark])[0]
