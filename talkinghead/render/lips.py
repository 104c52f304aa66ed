"""What a result says of lips and sound: each mouth that was rendered, held against its voice."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from talkinghead.errors import Cancelled, DeadlineExceeded
from talkinghead.media.lip_sync import LEAST_SECONDS, LipSync, watch_mouths
from talkinghead.media.masks import Box
from talkinghead.plan.plan import Plan
from talkinghead.plan.windows import delivered, windows
from talkinghead.render.rendering import Made, Task

log = logging.getLogger("talkinghead")


def with_lip_sync(task: Task, made: Made, video: Path) -> Made:
    """The same, with `lip_sync` among its figures; a mouth that is late is a note of the job's.

    Nothing of it fails a job. Of a picture that is not looked at, nothing is measured.

    Raises:
        Cancelled, DeadlineExceeded
    """
    if not made.quality:
        return made
    if made.video.duration < LEAST_SECONDS:  # of less nothing is said, so it is not decoded again
        return replace(made, quality={**made.quality, "lip_sync": None})
    try:
        voices = {
            speaker.field: sync
            for speaker, sync in zip(
                task.request.speakers, _watched(task, made, video), strict=True
            )
            if speaker.audio_url
        }
        figures, fps = _figures(voices), made.video.fps
        notes = [
            note for field, sync in voices.items() if sync and (note := sync.warning(field, fps))
        ]
    except (Cancelled, DeadlineExceeded):
        raise
    except Exception:  # a finished video is worth more than what is said of it
        log.warning("lips and sound were not compared", exc_info=True)
        figures, notes = None, []
    task.job.notes += notes
    return replace(made, quality={**made.quality, "lip_sync": figures})


def _watched(task: Task, made: Made, video: Path) -> Sequence[LipSync | None]:
    """What is seen of each speaker's mouth; nothing where it is not known whose is whose."""
    plan, nothing = made.plan, [None] * len(task.request.speakers)
    faces = _faces(plan)
    if len(faces) > 1 and None in faces:
        return nothing
    # The job's own sandbox ends with its time, and this render was paid for.
    with task.studio.sandboxes.open(task.job.check_finishing) as sandbox:
        mouths = sandbox.call(
            "the rendered video",
            watch_mouths,
            "the rendered video",
            video,
            made.speech,
            faces=faces,
            starts=[delivered(plan, window).start for window in windows(plan)],
        )
    return [mouth.sync for mouth in mouths]


def _faces(plan: Plan) -> list[Box | None]:
    """Where the speakers' faces are in the first frame, in shares of its sides; None: not known."""
    known = {person.field: person.face for person in plan.people}
    faces = [known.get(speaker.field) for speaker in plan.request.speakers]
    return [face and _shown(plan, face) for face in faces]


def _shown(plan: Plan, face: Box) -> Box:
    x0, y0, _, _ = plan.framing.crop_box
    reduction = plan.framing.reduction
    left, top, _, _ = plan.delivered_box
    return (
        ((face[0] - x0) / reduction - left) / plan.width,
        ((face[1] - y0) / reduction - top) / plan.height,
        ((face[2] - x0) / reduction - left) / plan.width,
        ((face[3] - y0) / reduction - top) / plan.height,
    )


def _figures(voices: Mapping[str, LipSync | None]) -> dict[str, Any] | None:
    """Those of the voice that is furthest off; of several voices, each one's, too."""
    known = [sync for sync in voices.values() if sync]
    if not known:
        return None
    worst = max(known, key=lambda sync: (abs(sync.lag_frames), -sync.strength))
    if len(voices) == 1:
        return asdict(worst)
    speakers = [
        {"speaker": field, **(asdict(sync) if sync else {})} for field, sync in voices.items()
    ]
    return asdict(worst) | {"speakers": speakers}
