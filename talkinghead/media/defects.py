"""What is wrong with a video's picture, told from what `looking` measured. Pure.

A video is judged window by window, as it is rendered, and beside what it is made from: so a dark,
flat or still scene is no fault. Where the numbers come from: docs/quality.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from talkinghead.media.looking import Figures, Seen, Track
from talkinghead.media.quality import Defect, End, Finding, Quality, Sight

Flags: TypeAlias = npt.NDArray[np.bool_]  # [frames]

DEFECTIVE_SHARE = 0.5  # of a window's frames
BLACK_LEVEL = 6.0  # mean and contrast of black are below; a scene at 5 % of its light has 3 and 3
DARK_MEAN, DARK_STD = 16.0, 12.0  # a source below both may be shown black
LEFT_STD, LEFT_LIKE = 2.0, 0.5  # contrast and likeness of a black frame that shows its source still
# Of the source's contrast, and levels: fog and dimmed scenes have less than the first alone.
FLAT_SHARE, FLAT_STD = 0.25, 3.0
LEAST_STD = 4.0  # of a source whose contrast means something
UNKNOWN_STD = 6.0  # taken for the contrast of a source that is not known
# A picture with half of its contrast three frames before is fading: one that fails is whole, or it
# is gone.
FADING_SHARE, FADING_FRAMES = 0.5, 3
FLASH_SECONDS = 0.5  # lights go on and off: for less, nothing to be seen is no failure of a window
END_SECONDS = 1.0  # of a video: the lights may go out
UNLIKE, ALIKE = 0.35, 0.7  # a source that is moved by 40 pixels has 0.49; mirrored 0.17, noise 0.0
# Noise is rough, or grainy, as few pictures are, and more so than its source; and nothing of a
# frame is in the next, wherever it moved to.
NOISY, NOISY_TIMES, LEAST_GRAIN, UNSTEADY = 0.5, 1.6, 0.2, 0.06
LATENT_FRAMES = 4  # for so many, noise that comes out of latents stays
ODD_FRAMES = 6  # that are noise or of one colour: fewer in a window are not told
STILL = 0.02  # levels, of the cell that moves most; a face at 3 % of its motion has 0.09
STILL_SHARE = 0.95  # of a stretch: a keyframe in it may differ
FROZEN_SECONDS = 1.2  # of half of a window; a codec takes the rest to come to rest
VOICED_SHARE = 0.3  # of a stretch: who is silent may be still
JUMP = 3.0  # levels; good videos step by 0.6 at most, and by 0.3 at seams
TIMES_OWN, TIMES_NEAR = 6.0, 3.0  # the steps of the whole window, and those close by: light changes
LEAST_OWN = 0.35  # levels, of a video's own steps
STAYS = 0.6  # of a jump: a flash is none
NEAR_FRAMES, LEAST_FRAMES = 6, 3


def judge(
    seen: Seen,
    window: int,
    before: Quality,
    *,
    fps: float,
    voiced: Flags | None = None,
    is_last: bool = False,
) -> Sight:
    """Judge a window's frames, of which there are some; what is known `before` is of those before.

    Args:
        window: its number, from 1.
        voiced: [frames], whether somebody speaks; None: it is not known.
        is_last: whether the video ends with it.
    """
    source_mean, source_std = _source(seen)
    flags = _nothing(seen)
    spans = [*_spans(seen, flags, before, fps, is_last=is_last)]
    defect = _defect(_failed(seen, flags, spans, fps), window)
    gone = _marked(len(seen), [span for span in spans if not span.fades])
    frozen = _frozen(seen, fps, voiced, but=_any(flags))
    jump = _jump(seen.frames.mean, source_mean, window, before)
    likeness = _first_likeness(seen, flags) if window == 1 else None
    sight = Sight(
        window=window,
        findings=(),
        black_frames=int((flags["black"] & gone).sum()),
        frozen_seconds=float(frozen.sum() / fps),
        likeness=likeness,
        brightness=float(np.median(seen.frames.mean - source_mean)),
        contrast=float(np.median(seen.frames.std - source_std)),
        jump=jump.step if jump else None,
        ends=(tuple(seen.frames.mean[-NEAR_FRAMES:].tolist()), float(source_mean[-1])),
        end=_end(seen, spans),
    )
    if defect:
        return replace(sight, findings=(defect,))
    odd = {"flat": int((flags["flat"] & gone).sum()), "noise": int(flags["noise"].sum())}
    is_abrupt = jump is not None and jump.is_abrupt
    lesser = (
        *_other_picture(seen, flags, sight, before),
        *_lesser(sight, odd, is_abrupt=is_abrupt, speaks=voiced is not None),
        *_faded(spans, len(seen), window),
    )
    return replace(sight, findings=lesser)


def _source(seen: Seen) -> tuple[Track, Track]:
    """Brightness and contrast of what each frame is made from; of an unknown source, none."""
    if seen.source is None:
        return np.zeros(len(seen)), np.zeros(len(seen))
    return seen.source.mean, seen.source.std


def _end(seen: Seen, spans: Sequence[_Span]) -> End:
    last = spans[-1] if spans else None
    return End(
        contrasts=tuple(seen.frames.std[-FADING_FRAMES:].tolist()),
        likeness=None if seen.likeness is None else float(seen.likeness[-1]),
        empty=last.length if last and last.stop == len(seen) and not last.fades else 0,
    )


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
    """What is rough or grainy, has nothing of the frame before it, and nothing of its source."""
    frames, source, like = seen.frames, seen.source, seen.likeness
    rough = (frames.rough > NOISY) & (frames.std > LEAST_STD)
    noise = (rough | ((frames.grain > NOISY) & (frames.fine > LEAST_STD))) & _unsteady(frames)
    if source is None or like is None:
        return noise
    return noise & (like < UNLIKE) & ~_unsteady(source)  # which is cut there


def _rougher(seen: Seen) -> Flags:
    """Than a source that is known. Leaves in a storm cannot be told from noise if it has them."""
    frames, source = seen.frames, seen.source
    if source is None:
        return np.ones(len(seen), np.bool_)
    grainy = frames.grain > np.maximum(NOISY_TIMES * source.grain, LEAST_GRAIN)
    return np.asarray(grainy | (frames.rough > NOISY_TIMES * source.rough))


def _unsteady(frames: Figures) -> Flags:
    """Where a frame nearby has nothing of the one before it."""
    known = np.nan_to_num(frames.steady, nan=1.0)
    nearby = [
        known[max(0, n - LATENT_FRAMES + 1) : n + LATENT_FRAMES + 1] for n in range(len(known))
    ]
    return np.array([part.min() < UNSTEADY for part in nearby])


def _any(flags: Mapping[Defect, Flags]) -> Flags:
    return np.asarray(np.logical_or.reduce([*flags.values()]))


@dataclass(frozen=True)
class _Span:
    """Frames one after another, of a window, that are black or flat.

    `length` counts those of the windows before, too. `fades`: the picture fades to them, or the
    video begins with a fade. `is_end`: the lights go out at its end.
    """

    start: int
    stop: int
    length: int
    fades: bool
    is_end: bool


def _spans(
    seen: Seen, flags: Mapping[Defect, Flags], before: Quality, fps: float, *, is_last: bool
) -> Iterator[_Span]:
    empty, std = flags["black"] | flags["flat"], seen.frames.std
    lead = before.end.contrasts
    contrast = np.array([*lead, *std])
    whole = np.full(len(std), contrast.max()) if seen.source is None else seen.source.std
    edges = np.flatnonzero(np.diff(empty, prepend=False, append=False))
    for start, stop in edges.reshape(-1, 2).tolist():
        goes_on = before.end.empty if start == 0 else 0
        place = start + len(lead) - FADING_FRAMES
        if start + len(lead) == 0:  # the video begins so
            place = stop - 1 + FADING_FRAMES
        fades = (
            not goes_on
            and place < len(contrast)
            and (float(contrast[max(place, 0)]) < FADING_SHARE * float(whole[start]))
        )
        length = stop - start + goes_on
        # A window that fails does so from its beginning, or from near the video's.
        shown = goes_on or start >= (1 if before.windows else END_SECONDS * fps)
        is_end = is_last and stop == len(empty) and length <= END_SECONDS * fps
        yield _Span(start, stop, length, fades, bool(is_end and shown))


def _marked(count: int, spans: Sequence[_Span]) -> Flags:
    marked = np.zeros(count, np.bool_)
    for span in spans:
        marked[span.start : span.stop] = True
    return marked


def _failed(
    seen: Seen, flags: Mapping[Defect, Flags], spans: Sequence[_Span], fps: float
) -> dict[Defect, Flags]:
    """The flags without those that a film may have: fades, flashes, and something in the dark."""
    least, count = FLASH_SECONDS * fps, len(seen)
    long = [each for each in spans if each.length >= least or each.stop == count]
    gone = _marked(count, [span for span in long if not (span.fades or span.is_end)])
    black = flags["black"] & gone
    if seen.likeness is not None:
        black &= (seen.frames.std < LEFT_STD) | (seen.likeness < LEFT_LIKE)
    return {"black": black, "flat": flags["flat"] & gone, "noise": flags["noise"] & _rougher(seen)}


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


def _lesser(
    sight: Sight, odd: Mapping[str, int], *, is_abrupt: bool, speaks: bool
) -> Iterator[Finding]:
    """What a person would see, in a window that shows something."""
    where = f"in window {sight.window}"
    if black := sight.black_frames:
        count = "1 frame" if black == 1 else f"{black} frames"
        yield Finding("black frames", f"{count} {where} {'is' if black == 1 else 'are'} black")
    if odd["flat"] >= ODD_FRAMES:
        yield Finding("flat frames", f"{odd['flat']} frames {where} are of one colour")
    if odd["noise"] >= ODD_FRAMES:
        yield Finding("noisy frames", f"{odd['noise']} frames {where} are noise")
    if sight.frozen_seconds:
        though = ", though somebody speaks" if speaks else ""
        still = f"nothing moves for {sight.frozen_seconds:.1f} s {where}{though}"
        yield Finding("frozen", still)
    if is_abrupt:
        place = "after the first frame" if sight.window == 1 else f"where {where[3:]} begins"
        yield Finding("jump", f"the brightness jumps by {sight.jump:+.1f} of 255 {place}")


def _faded(spans: Sequence[_Span], frames: int, window: int) -> Iterator[Finding]:
    """A picture that fades out and is gone, though it may be meant."""
    for span in spans:
        if span.fades and span.stop == frames and span.length >= ODD_FRAMES:
            count = span.stop - span.start
            gone = f"the last {count} frames of window {window} show nothing"
            yield Finding("black frames", f"the picture has faded out: {gone}")


def _other_picture(
    seen: Seen, flags: Mapping[Defect, Flags], sight: Sight, before: Quality
) -> Iterator[Finding]:
    """The source is not what the video begins with, or from one frame to the next it is gone."""
    first, like = sight.likeness, seen.likeness
    if first is not None and first < UNLIKE:
        unlike = f"the first frame shows another picture than the source (likeness {first:.2f})"
        yield Finding("another picture", unlike)
        return
    if like is None or seen.source is None:
        return
    earlier = np.append(np.nan if before.end.likeness is None else before.end.likeness, like[:-1])
    gone = (earlier > ALIKE) & (like < UNLIKE) & ~_any(flags)
    # Foliage is another picture as soon as it moves, and a plain one is like nothing.
    gone &= (seen.source.rough < NOISY) & (seen.source.std > LEAST_STD)
    for place in np.flatnonzero(gone):
        near = float(np.median(like[place : place + NEAR_FRAMES]))
        if near < UNLIKE and len(like) - place >= NEAR_FRAMES:
            yield Finding(
                "another picture",
                f"from frame {place + 1} of window {sight.window} on, the picture is another than "
                f"the source (likeness {near:.2f})",
            )
            return


def _frozen(seen: Seen, fps: float, voiced: Flags | None, *, but: Flags) -> Flags:
    """Frames in stretches in which nothing moves, while somebody speaks, and the source does.

    `but` are frames that show nothing, which is told already.
    """
    speaks = np.ones(len(seen), np.bool_) if voiced is None else voiced
    still = (seen.frames.moved < STILL) & ~but
    if seen.source is not None:
        still &= ~(seen.source.moved < STILL)
    length, found = round(FROZEN_SECONDS * fps), np.zeros(len(still), np.bool_)
    for start in range(len(still) - length + 1):
        stretch = slice(start, start + length)
        if still[stretch].mean() >= STILL_SHARE and speaks[stretch].mean() >= VOICED_SHARE:
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
