"""How far a long render is: the one account of it, for the result, the progress and the errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from talkinghead.delivery.ledger import motion_name, segment_name
from talkinghead.media.quality import Quality
from talkinghead.plan.plan import Plan
from talkinghead.plan.windows import Window, window


class WindowLog:
    """The windows of a render that are made, from its first on; their files lie in `folder`.

    Attributes:
        plan: what the next window is made by. A lighter one takes its place when the GPU's memory
            does not suffice: the same windows, by other means.
        made: how many windows are made. Only the thread of the job adds one.
        quality: the figures of their picture.
    """

    def __init__(
        self, plan: Plan, folder: Path, made: int = 0, quality: Quality | None = None
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.made = made
        self.quality = quality or Quality()

    @property
    def is_complete(self) -> bool:
        """Whether every window is made."""
        return self.made == self.plan.windows

    @property
    def next(self) -> Window:
        """The window to make now."""
        return window(self.plan, self.made)

    @property
    def motion(self) -> Path | None:
        """What the last window left for the next; None before the first."""
        return self.folder / motion_name(self.made) if self.made else None

    @property
    def segments(self) -> Iterator[Path]:
        """The files of the windows that are made."""
        return (self.segment(number) for number in range(1, self.made + 1))

    def segment(self, number: int) -> Path:
        """The file of a window's frames; windows are counted from 1."""
        return self.folder / segment_name(number)

    def add(self) -> None:
        """The next window is made: its segment and its motion state are in the folder."""
        self.made += 1

    def __str__(self) -> str:
        return f"{self.made} of {self.plan.windows} windows"
