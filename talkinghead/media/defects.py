"""What is wrong with a video's picture, told from what `looking` measured. Pure.

A video is judged window by window, as it is rendered, and beside what it is made from: so a dark,
flat or still scene is no fault. Where the numbers come from: docs/quality.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from talkinghead.media.looking import Figures, Seen, Track

Defect = Literal["black", "flat", "noise"]
Kind = (
    Defect
    | Literal["black frames", "flat frames", "noisy frames", "frozen", "another picture", "jump"]
)
Flags: TypeAlias = npt.NDArray[np.bool_]  # [frames]

DEFECTIVE_SHARE = 0.5  # of a window's frames
BLACK_LEVEL = 6.0  # mean and contrast of black are below; a scene at 5 % of its light has 3 and 3
DARK_MEAN, DARK_STD = 16.0, 12.0  # a source below both may be shown black
# Of the source's contrast, and levels: fog and dimmed scenes have less than the first alone.
FLAT_SHARE, FLAT_STD = 0.25, 3.0
LEAST_STD = 4.0  # of a source whose contrast means something
UNKNOWN_STD = 6.0  # taken for the contrast of a source that is not known
FADE_SHARE = 0.25  # of the source's brightness: black beside brighter frames is no fade
UNLIKE = 0.35  # a source that is moved by 40 pixels has 0.49; mirrored 0.17, noise 0.0
NOISY_ROUGH, NOISY_FINE = 1.6, 3.0  # times the source's; noise has 4 and 8 times as much
UNLIKE_LEVELS, LIKE_LEVELS = 4.0, 8.0  # and so much more, fine, if it is unlike the source, or like
NOISY_CHANGE, NOISY_ROUGHNESS = 0.6, 0.6  # noise by itself changes so much, and is so rough
LEAST_ROUGHNESS = 0.45  # of noise at all: photographs have 0.1 to 0.35, noise 0.7 and more
ODD_FRAMES = 3  # that are noise or of one colour: fewer in a window are not told
STILL = 0.02  # levels, of the cell that moves most; a face at 3 % of its motion has 0.09
STILL_SHARE = 0.95  # of a stretch: a keyframe in it may differ
FROZEN_SECONDS = 1.2  # of half of a window; a codec takes the rest to come to rest
VOICED_SHARE = 0.3  # of a stretch: who is silent may be still
JUMP = 3.0  # levels; good videos step by 0.6 at most, and by 0.3 at seams
TIMES_OWN, TIMES_NEAR = 6.0, 3.0  # the steps of the whole window, and those close by: light changes
LEAST_OWN = 0.35  # levels, of a video's own steps
STAYS = 0.6  # of a jump: a flash is none
NEAR_FRAMES, LEAST_FRAMES = 6, 3


@dataclass(frozen=True)
class Finding:
    """Something wrong with a window; a defect is a reason not to take it."""

    kind: Kind
    text: str
    is_defect: bool = False


@dataclass(frozen=True)
class Sight:
    """One window as it was judged; windows are counted from 1.

    `brightness` and `contrast` are medians, less those of the source if it is known; `jump` is the
    step in brightness at its first frame, or in the first window after that, if it can be told.
    `ends` are the brightnesses of its last frames, and that of its source.
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

    @property
    def defect(self) -> Finding | None:
        """Why it is not to be taken."""
        return next((each for each in self.findings if each.is_defect), None)


@dataclass(frozen=True)
class Quality:
    """The figures of a video's picture over its windows; as `state`, they can be kept.

    `worst` are the black frames, frozen seconds, jump and drift of the worst window. `first` and
    `ends` are for those that follow: brightness and contrast of the first, and the last one's ends.
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
        )


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 2)


def judge(
    seen: Seen, window: int, before: Quality, *, fps: float, voiced: Flags | None = None
) -> Sight:
    """Judge a window's frames, of which there are some; what is known `before` is of those before.

    Args:
        window: its number, from 1.
        voiced: [frames], whether somebody speaks; None: all the time.
    """
    source_mean, source_std = _source(seen)
    flags = _nothing(seen)
    defect = _defect(flags, window)
    black = flags["black"]
    if defect is None:
        black = _abrupt(black, seen.frames.mean, source_mean, before)
    speaks = np.ones(len(seen), np.bool_) if voiced is None else voiced
    frozen = _frozen(seen, fps, speaks, but=_any(flags))
    jump = _jump(seen.frames.mean, source_mean, window, before)
    likeness = _first_likeness(seen, flags) if window == 1 else None
    sight = Sight(
        window=window,
        findings=(),
        black_frames=int(black.sum()),
        frozen_seconds=float(frozen.sum() / fps),
        likeness=likeness,
        brightness=float(np.median(seen.frames.mean - source_mean)),
        contrast=float(np.median(seen.frames.std - source_std)),
        jump=jump.step if jump else None,
        ends=(tuple(seen.frames.mean[-NEAR_FRAMES:].tolist()), float(source_mean[-1])),
    )
    is_abrupt = jump is not None and jump.is_abrupt
    odd = {kind: int(flags[kind].sum()) for kind in ("flat", "noise")}
    lesser = _lesser(sight, odd, is_abrupt=is_abrupt)
    return replace(sight, findings=(defect,) if defect else tuple(lesser))


def _source(seen: Seen) -> tuple[Track, Track]:
    """Brightness and contrast of what each frame is made from; of an unknown source, none."""
    if seen.source is None:
        return np.zeros(len(seen)), np.zeros(len(seen))
    return seen.source.mean, seen.source.std


# ---- Nothing to be seen


def _nothing(seen: Seen) -> dict[Defect, Flags]:
    """Which frames are black, flat or noise; each is one of them at most."""
    black = _black(seen.frames, seen.source)
    flat = _flat(seen.frames, seen.source) & ~black
    noise = _noise(seen) & ~black & ~flat
    return {"black": black, "flat": flat, "noise": noise}


def _black(frames: Figures, source: Figures | None) -> Flags:
    found = (frames.mean < BLACK_LEVEL) & (frames.std < BLACK_LEVEL)
    if source is None:
        return found
    return found & ((source.mean > DARK_MEAN) | (source.std > DARK_STD))


def _flat(frames: Figures, source: Figures | None) -> Flags:
    if source is None:
        return frames.std < FLAT_SHARE * UNKNOWN_STD
    flat = frames.std < np.minimum(FLAT_SHARE * source.std, FLAT_STD)
    return np.asarray(flat & (source.std > LEAST_STD))


def _noise(seen: Seen) -> Flags:
    frames, source, like = seen.frames, seen.source, seen.likeness
    changed = _held_back(frames.changed) > NOISY_CHANGE
    if source is None or like is None:
        return changed & (frames.rough > NOISY_ROUGHNESS)
    changed &= ~(_held_back(source.changed) > NOISY_CHANGE)  # which is cut there
    fine = frames.fine - NOISY_FINE * source.fine
    rough = (frames.rough > NOISY_ROUGH * source.rough) | (fine > UNLIKE_LEVELS)
    rough &= frames.rough > LEAST_ROUGHNESS  # a sharp room behind a soft portrait is none
    unlike = (like < UNLIKE) & (rough | changed)
    over_it = (like >= UNLIKE) & (fine > LIKE_LEVELS)
    return unlike | over_it | (changed & (frames.rough > NOISY_ROUGHNESS))


def _held_back(changed: Track) -> Track:
    """The first number that there is for the frames before it, too."""
    known = np.flatnonzero(~np.isnan(changed))
    return changed if not len(known) else changed[np.maximum(np.arange(len(changed)), known[0])]


def _any(flags: Mapping[Defect, Flags]) -> Flags:
    return np.asarray(np.logical_or.reduce([*flags.values()]))


def _defect(flags: Mapping[Defect, Flags], window: int) -> Finding | None:
    """The window as a whole, if it is one; with what it shows most."""
    nothing = _any(flags)
    if nothing.mean() < DEFECTIVE_SHARE:
        return None
    kind = max(flags, key=lambda name: int(flags[name].sum()))
    first, count = int(np.argmax(nothing)), int(nothing.sum())
    where = f"in {count} of its {len(nothing)} frames"
    if nothing[first:].all() and first:
        where = f"from its frame {first + 1} on; before, the picture is right"
    elif nothing.all():
        where = f"in all its {count} frames"
    name = {"black": "black", "flat": "of one colour", "noise": "noise"}[kind]
    return Finding(kind, f"window {window} is {name} {where}", is_defect=True)


# ---- Lesser faults


@dataclass(frozen=True)
class _Jump:
    step: float
    is_abrupt: bool


def _lesser(sight: Sight, odd: Mapping[str, int], *, is_abrupt: bool) -> Iterator[Finding]:
    """What a person would see, in a window that shows something."""
    where, like = f"in window {sight.window}", sight.likeness
    if sight.black_frames:
        yield Finding("black frames", f"{sight.black_frames} frames {where} are black")
    if odd["flat"] >= ODD_FRAMES:
        yield Finding("flat frames", f"{odd['flat']} frames {where} are of one colour")
    if odd["noise"] >= ODD_FRAMES:
        yield Finding("noisy frames", f"{odd['noise']} frames {where} are noise")
    if sight.frozen_seconds:
        still = f"nothing moves for {sight.frozen_seconds:.1f} s {where}, though somebody speaks"
        yield Finding("frozen", still)
    if like is not None and like < UNLIKE:
        unlike = f"the first frame shows another picture than the source (likeness {like:.2f})"
        yield Finding("another picture", unlike)
    if is_abrupt:
        place = "after the first frame" if sight.window == 1 else f"where {where[3:]} begins"
        yield Finding("jump", f"the brightness jumps by {sight.jump:+.1f} of 255 {place}")


def _abrupt(black: Flags, mean: Track, source_mean: Track, before: Quality) -> Flags:
    """The black frames, without those that a fade comes from or goes to."""
    ends, last = before.ends
    mean, source_mean = np.append(ends[-1:], mean), np.append([last] * bool(ends), source_mean)
    lead = len(mean) - len(black)
    found, bright = black.copy(), mean > np.maximum(FADE_SHARE * source_mean, BLACK_LEVEL)
    edges = np.flatnonzero(np.diff(black, prepend=False, append=False))
    for start, stop in edges.reshape(-1, 2) + lead:
        beside = [*bright[max(0, start - 1) : start], *bright[stop : stop + 1]]
        if not any(beside):
            found[start - lead : stop - lead] = False
    return found


def _frozen(seen: Seen, fps: float, voiced: Flags, *, but: Flags) -> Flags:
    """Frames in stretches in which nothing moves, while somebody speaks, and the source does.

    `but` are frames that show nothing, which is told already.
    """
    still = (seen.frames.moved < STILL) & ~but
    if seen.source is not None:
        still &= ~(seen.source.moved < STILL)
    length, found = round(FROZEN_SECONDS * fps), np.zeros(len(still), np.bool_)
    for start in range(len(still) - length + 1):
        stretch = slice(start, start + length)
        if still[stretch].mean() >= STILL_SHARE and voiced[stretch].mean() >= VOICED_SHARE:
            found[stretch] = True
    return found


def _first_likeness(seen: Seen, flags: Mapping[Defect, Flags]) -> float | None:
    """That of the first frame which shows something: a fade begins with none."""
    shown = np.flatnonzero(~(flags["black"] | flags["flat"]))
    if seen.likeness is None or not len(shown):
        return None
    if seen.source is not None and seen.source.std[shown[0]] < LEAST_STD:
        return None  # of a plain picture it means nothing
    return float(seen.likeness[shown[0]])


def _jump(mean: Track, source_mean: Track, window: int, before: Quality) -> _Jump | None:
    """The step in brightness at the window's beginning; one that its source makes, too, is none."""
    ends, last = before.ends
    earlier, later = (mean[:1], mean[1:]) if window == 1 else (np.array(ends), mean)
    if not len(earlier) or len(later) < LEAST_FRAMES:
        return None
    step = float(later[0] - earlier[-1])
    of_source = 0.0 if window == 1 else float(source_mean[0]) - last
    step = min(step, step - of_source, key=abs)
    near, steps = later[:NEAR_FRAMES], np.diff(mean)
    own = 1.4826 * float(np.median(np.abs(steps - np.median(steps))))
    close = max(
        float(np.median(np.abs(np.diff(each)))) for each in (near, earlier) if len(each) > 1
    )
    least = max(JUMP, TIMES_OWN * max(own, LEAST_OWN), TIMES_NEAR * close)
    stays = float(np.median(near) - np.median(earlier))
    return _Jump(step, abs(step) > least and stays * np.sign(step) > STAYS * abs(step))
