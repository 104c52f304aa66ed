"""A long render as part of a job: gone on with where another job left it, kept, watched, joined."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from talkinghead.comfy.studio import Studio
from talkinghead.delivery.checkpoint import Checkpoints
from talkinghead.delivery.ledger import Ledger, motion_name, sum_of
from talkinghead.errors import CheckpointRefused, InvalidRequest, JobError
from talkinghead.media.mux import VideoFile, finish_segments, probe_video
from talkinghead.media.quality import Quality
from talkinghead.models.manifest import ModelProfile
from talkinghead.plan.plan import Plan
from talkinghead.plan.request import RenderRequest
from talkinghead.plan.windows import Window, delivered, windows
from talkinghead.render.chain import Chain
from talkinghead.render.fit import changes, computed_with, fit_of, lighter_of, means_of, state_of
from talkinghead.render.job import Job
from talkinghead.render.live_playlist import PLAYLISTS, LivePlaylist
from talkinghead.render.prepare import Tracks
from talkinghead.render.rendering import Made, Task, Unfinished, refuse_too_long
from talkinghead.render.window_log import WindowLog

# Before a job ends for another to continue: a slow window more, and the way out.
SPARE_WINDOWS, SPARE_SECONDS = 1.5, 30.0


class LongRender:
    """A chain of windows, and what is kept of it until the video is delivered.

    All of it runs in the job's thread, but for what the checkpoints' writer does behind it: in its
    order, a window's part of the playlist, its checkpoint, and the playlist that names the part.
    """

    def __init__(self, task: Task, plan: Plan) -> None:
        self._task = task
        self._plan = plan
        self._fit = fit_of(task, plan)
        self._means = means_of(task.studio)
        store, job = task.studio.stores.checkpoints(), task.job
        # Of this job alone, as another may have the same request at the same time; whoever goes on
        # with what it kept goes on with its playlist, too.
        whose = {**self._fit, "request": job.asked.video, "job": job.id}
        self._playlist = f"{PLAYLISTS}/{sum_of(whose)}"
        self._checkpoints = Checkpoints(store, job.key, self._fit, job.asked.video)
        self._is_delivered = False

    def prepare(self) -> None:
        """Nothing yet: what is left to do is known once it was looked for what is kept."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Have what is pending written, or all removed if the video is delivered."""
        self._checkpoints.close(delivered=self._is_delivered)

    def make(self, target: Path) -> Made | Unfinished:
        """Render what is left of the windows, or of them what the job has time for, and join all.

        Raises:
            CheckpointRefused: what another job of this `request_id` left is of another render.
            DeliveryFailed: the store cannot be asked for it.
            and what `Chain.render` raises, with the windows that are kept, if any are.
        """
        task, job = self._task, self._task.job
        log = self._find_windows(target.with_name("windows"))
        with job.at("prepare", "framing the picture, mixing the voices"):
            tracks = task.tracks(log.plan)
        shown = None
        if task.request.playlist:
            sound = tracks.delivered_sound
            shown = LivePlaylist(log, sound, self._checkpoints, self._playlist)
        chain = Chain(
            job,
            tracks,
            log,
            task.studio,
            keep=lambda window: self._keep(window, log, shown, chain.profile),
            stop=self._stops,
            playlist_url=shown.url if shown else None,
        )
        try:
            chain.render()
            if log.is_complete:
                prompt = chain.first_prompt()
                workflow = prompt.workflow if task.request.embed_workflow else None
                video = self._join(log, tracks, target, workflow)
                return Made(log.plan, prompt, video, log.quality.payload(), tracks.speech)
        except JobError as error:
            raise self._with_what_is_kept(error, log) from error
        return self._unfinished(log, shown)

    def delivered(self) -> None:
        """What is kept can go."""
        self._is_delivered = True

    def _find_windows(self, folder: Path) -> WindowLog:
        """Where the render stands: at its beginning, or where an earlier job left it."""
        job, plan = self._task.job, self._plan
        folder.mkdir()
        with job.at("prepare", "looking for what was rendered before"):
            ledger = _find_ledger(self._checkpoints, job)
            found = ledger and self._checkpoints.restore(ledger, folder, job.check)
        if ledger is not None and found is None:
            job.notes.append("what an earlier job left is damaged: rendered from the beginning")
        if found is None:
            if not self._task.request.continue_later:
                refuse_too_long(job, plan, self._task.studio)
            return WindowLog(plan, folder)
        self._playlist = found.state.get("playlist", self._playlist)
        plan = replace(plan, seed=found.seed, **lighter_of(found.state, self._means))
        log = WindowLog(plan, folder, found.windows_done, _quality_of(found.state))
        job.notes.append(f"{log} were rendered by an earlier job")
        if changed := ", ".join(changes(found.state, self._means)):
            job.notes.append(f"from window {log.made + 1} on rendered with {changed}")
        return log

    def _keep(
        self, window: Window, log: WindowLog, shown: LivePlaylist | None, profile: ModelProfile
    ) -> None:
        """Have the window that was just made shown and written into the store, behind our back."""
        if shown:
            shown.add_part(window)
        plan, number = log.plan, window.index + 1
        state = {
            **state_of(self._means | computed_with(profile), plan),
            "playlist": self._playlist,
            "quality": log.quality.state(),
        }
        ledger = Ledger(self._fit, plan.seed, plan.windows, state)
        motion = log.folder / motion_name(number)
        self._checkpoints.save(number, log.segment(number), motion, ledger)
        if shown:
            shown.announce(number)

    def _join(
        self, log: WindowLog, tracks: Tracks, target: Path, workflow: Mapping[str, Any] | None
    ) -> VideoFile:
        """Make the video of the windows and the sound."""
        plan, job = log.plan, self._task.job
        with job.at("collect", "joining the windows", job.check_finishing):
            finish_segments(
                list(log.segments),
                tracks.delivered_sound.result(),
                target,
                starts=[delivered(plan, each).start for each in windows(plan)],
                fps=plan.request.fps,
                workflow=workflow,
                check=job.check_finishing,
            )
            return probe_video(target)

    def _stops(self, window_seconds: float | None) -> bool:
        """Whether this job shall leave the rest to another, if a window takes so long."""
        if not self._task.request.continue_later or window_seconds is None:
            return False
        job = self._task.job
        left = self._task.studio.settings.job_timeout_seconds - job.seconds
        return left < SPARE_WINDOWS * window_seconds + SPARE_SECONDS

    def _unfinished(self, log: WindowLog, shown: LivePlaylist | None) -> Unfinished:
        job = self._task.job
        self._checkpoints.close(delivered=False)  # what is told below is what is stored
        return Unfinished(
            {
                "status": "incomplete",
                "job_id": job.id,
                "request_id": job.key,
                "windows": log.plan.windows,
                "windows_done": self._checkpoints.windows_done,
                "timings": job.timings,
                "warnings": [*log.plan.warnings, *job.notes],
                **({"playlist_url": shown.url} if shown else {}),
            }
        )

    def _with_what_is_kept(self, error: JobError, log: WindowLog) -> JobError:
        """The error, and how to go on from there."""
        self._checkpoints.close(delivered=False)
        done, windows = self._checkpoints.windows_done, log.plan.windows
        if not done:
            return error
        how = f'the same request with request_id "{self._task.job.key}" continues after them'
        return type(error)(
            f"{error}; {done} of {windows} windows are kept: {how}",
            **{**error.details, "windows_done": done, "windows": windows},
        )


def _quality_of(state: Mapping[str, Any]) -> Quality | None:
    """The figures of the windows that an earlier job made; a version without any keeps none."""
    with contextlib.suppress(ValidationError):
        return TypeAdapter(Quality).validate_python(state.get("quality"))
    return None


def _find_ledger(checkpoints: Checkpoints, job: Job) -> Ledger | None:
    """What an earlier job left; of another render, nothing, unless the caller named it.

    A job that RunPod gives out again has to end: nobody could remove what is in its way.
    """
    try:
        return checkpoints.open(job.check)
    except CheckpointRefused as refused:
        if job.request_id is not None:
            raise
        reason = refused.details["reason"]
        job.notes.append(f"rendered from the beginning: {reason}")
        return None


def check_kept(request: RenderRequest, studio: Studio) -> None:
    """Refuse what this worker has no place for, before a file is fetched.

    Raises:
        InvalidRequest: the request wants something kept, or shown.
    """
    if request.draft:
        return
    stores = studio.stores
    if request.continue_later and stores.checkpoints() is None:
        raise _no_place("continue_later", "no bucket and no network volume to keep windows in")
    if request.continue_later and request.request_id is None:
        raise _no_place("continue_later", "no request_id by which the next job would find them")
    if request.playlist and not stores.has_bucket:
        raise _no_place("playlist", "no bucket that a browser could read it from")


def _no_place(field: str, what: str) -> InvalidRequest:
    return InvalidRequest(
        f"{field} is true, but there is {what}; allowed: false",
        problems=[{"field": field, "got": True, "allowed": False}],
    )


def clear_checkpoint(job: Job, result: Mapping[str, Any], studio: Studio) -> None:
    """Remove what a worker left that was lost between delivery and clean-up."""
    if result.get("generation_params", {}).get("way") == "chain":
        store, unknown = studio.stores.checkpoints(), dict[str, str]()
        Checkpoints(store, job.key, unknown, job.asked.video).close(delivered=True)
