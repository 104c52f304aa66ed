"""The figures of a video's picture, window by window: what a result has as `quality`. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Defect = Literal["black", "flat", "noise"]
Kind = (
    Defect
    | Literal["black frames", "flat frames", "noisy frames", "frozen", "another picture", "jump"]
)


@dataclass(frozen=True)
class Finding:
    """Something wrong with a window; a defect is a reason not to take it."""

    kind: Kind
    text: str
    is_defect: bool = False


@dataclass(frozen=True)
class End:
    """How a window ends: the contrasts of its last frames, and the likeness of the last one.

    `empty` frames at its end, some of the window before among them, show nothing, and not because
    they were faded out.
    """

    contrasts: tuple[float, ...] = ()
    likeness: float | None = None
    empty: int = 0


@dataclass(frozen=True)
class Sight:
    """One window as it was judged; windows are counted from 1.

    `brightness` and `contrast` are medians, less those of the source if it is known; `jump` is the
    step in brightness at its first frame, or in the first window after that, if it can be told.
    `ends` are the brightnesses of its last frames, and that of its source; `end` is what else those
    that follow are held against.
    """

    window: int
    findings: tuple[Finding, ...]
    black_frames: int
    frozen_seconds: float
    likeness: float | None
    brightness: float
    contrast: float
    jump: float | None
    ends: tuple[tuple[float, ...], float]
    end: End

    @property
    def defect(self) -> Finding | None:
        """Why it is not to be taken."""
        return next((each for each in self.findings if each.is_defect), None)


@dataclass(frozen=True)
class Quality:
    """The figures of a video's picture over its windows; as `state`, they can be kept.

    `worst` are the black frames, frozen seconds, jump and drift of the worst window. `first`,
    `ends` and `end` are for those that follow: brightness and contrast of the first, and the last
    one's ends.
    """

    windows: int = 0
    worst_window: int = 0
    worst: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    black_frames: int = 0
    frozen_seconds: float = 0.0
    first_frame_likeness: float | None = None
    brightness_drift: float = 0.0
    contrast_drift: float = 0.0
    seam_jump: float = 0.0
    first: tuple[float, float] = (0.0, 0.0)
    ends: tuple[tuple[float, ...], float] = ((), 0.0)
    end: End = End()

    def state(self) -> dict[str, Any]:
        """All of it, as JSON can carry it."""
        return asdict(self)

    def payload(self) -> dict[str, Any]:
        """What a caller is told; nothing if it was not looked at."""
        if not self.windows:
            return {}
        black, frozen, jump, drift = self.worst
        return {
            "windows": self.windows,
            "black_frames": self.black_frames,
            "frozen_seconds": round(self.frozen_seconds, 2),
            "first_frame_likeness": _rounded(self.first_frame_likeness),
            "brightness_drift": round(self.brightness_drift, 2),
            "contrast_drift": round(self.contrast_drift, 2),
            "seam_jump": round(self.seam_jump, 2),
            "worst_window": {
                "window": self.worst_window,
                "black_frames": int(black),
                "frozen_seconds": round(frozen, 2),
                "seam_jump": round(jump, 2),
                "brightness_drift": round(drift, 2),
            },
        }

    def with_window(self, sight: Sight) -> Quality:
        """These and those of the next window, which is kept."""
        first = self.first if self.windows else (sight.brightness, sight.contrast)
        brightness, contrast = sight.brightness - first[0], sight.contrast - first[1]
        jump = sight.jump or 0.0
        worst = float(sight.black_frames), sight.frozen_seconds, jump, brightness
        is_worst = not self.windows or [*map(abs, worst)] > [*map(abs, self.worst)]
        return replace(
            self,
            windows=self.windows + 1,
            worst_window=sight.window if is_worst else self.worst_window,
            worst=worst if is_worst else self.worst,
            black_frames=self.black_frames + sight.black_frames,
            frozen_seconds=self.frozen_seconds + sight.frozen_seconds,
            first_frame_likeness=sight.likeness if sight.window == 1 else self.first_frame_likeness,
            brightness_drift=max(self.brightness_drift, brightness, key=abs),
            contrast_drift=max(self.contrast_drift, contrast, key=abs),
            seam_jump=max(self.seam_jump, jump, key=abs),
            first=first,
            ends=sight.ends,
            end=sight.end,
        )


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 2)
