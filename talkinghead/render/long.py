"""A long render as part of a job: gone on with where another job left it, kept, watched, joined."""

from __future__ import annotations

import contextvars
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import av

from talkinghead import logs
from talkinghead.comfy.studio import Studio
from talkinghead.delivery.checkpoint import Checkpoints
from talkinghead.delivery.ledger import Ledger, motion_name, segment_name
from talkinghead.errors import DeadlineExceeded, InvalidRequest, JobError
from talkinghead.media.mux import VideoFile, finish_segments, probe_video
from talkinghead.plan.estimate import can_end_within, too_long_text
from talkinghead.plan.plan import Plan
from talkinghead.plan.request import RenderRequest
from talkinghead.plan.windows import Window, delivered, windows
from talkinghead.render import playlist
from talkinghead.render.bundle import pins
from talkinghead.render.chain import Chain, Done
from talkinghead.render.job import Job
from talkinghead.render.playlist import Part
from talkinghead.render.prepare import Sources, Tracks
from talkinghead.settings import PROJECT_DIR
from talkinghead.workflow.template import fingerprint

log = logging.getLogger("talkinghead")

WATCH = "watch"  # the folder of the playlist, beside the video
PLAYLIST_NAME = "playlist.m3u8"
PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
# Before a job ends for another to continue: a slow window more, and the way out.
SPARE_WINDOWS, SPARE_SECONDS = 1.5, 30.0
RESUMED = ("blocks_to_swap", "tiled_vae")  # what running out of memory changes on the way


def check_kept(request: RenderRequest, studio: Studio) -> None:
    """Raises:
    InvalidRequest: the worker has no place for what the request wants kept.
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
        Checkpoints(studio.stores.checkpoints(), job.key).close(delivered=True)


class LongRender:
    """A chain of windows, and what is kept of it. Its files lie in `folder`, which is new."""

    def __init__(self, job: Job, request: RenderRequest, folder: Path, studio: Studio) -> None:
        self._job = job
        self._request = request
        self._folder = folder
        self._studio = studio
        self._checkpoints = Checkpoints(studio.stores.checkpoints(), job.key)
        self.is_delivered = False
        self._behind = ThreadPoolExecutor(1, thread_name_prefix="long")
        self._urls: dict[str, str] = {}
        self._playlist = request.playlist
        folder.mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Have what is pending written, or all removed if the video is delivered."""
        self._behind.shutdown()
        self._checkpoints.close(delivered=self.is_delivered)

    def open(self, plan: Plan, sources: Sources) -> Done:
        """Where the render stands: at its beginning, or where an earlier job left it.

        Raises:
            CheckpointRefused: what an earlier job left is of another render.
            DeadlineExceeded: the rest of it surely takes longer than the job may.
            DeliveryFailed: the store cannot be asked.
        """
        job = self._job
        self._ledger = Ledger(fit(plan, self._request, sources, self._studio), 0, plan.windows)
        with job.at("prepare", "looking for what was rendered before"):
            found = self._checkpoints.open(self._ledger.fit, job.check)
            if found is not None:
                state = {name: found.state[name] for name in RESUMED}
                plan = replace(plan, seed=found.seed, **state)
                found = self._checkpoints.restore(found, self._folder, job.check)
        if found is None:
            if not self._request.continue_later:
                refuse_too_long(job, plan, self._studio)
            return Done(plan)
        done = found.windows_done
        job.notes.append(f"{done} of {plan.windows} windows were rendered by an earlier job")
        return Done(plan, done, self._folder / motion_name(done))

    def make(self, done: Done, tracks: Tracks) -> Chain:
        """Render what is left, or of it what the job has time for.

        Raises:
            what `Chain.render` raises; with the windows that are kept, if any are.
        """
        self._sound = tracks.delivered_sound
        chain = Chain(
            *(self._job, tracks, self._folder, self._studio),
            done=done,
            keep=self._keep,
            stop=self._stops,
        )
        chain.progress.playlist_url = self._url(PLAYLIST_NAME) if self._playlist else None
        try:
            chain.render()
        except JobError as error:
            raise self._with_what_is_kept(error, chain.done) from error
        return chain

    def join(self, chain: Chain, target: Path) -> VideoFile:
        """Make the video of the windows and the sound."""
        plan = chain.done.plan
        with self._job.at("collect", "joining the windows"):
            finish_segments(
                *(chain.segments, self._sound.result(), target),
                starts=[delivered(plan, each).start for each in windows(plan)],
                fps=plan.request.fps,
                workflow=chain.first_prompt().workflow if plan.request.embed_workflow else None,
                check=self._job.check,
            )
            return probe_video(target)

    def paused(self, chain: Chain) -> dict[str, Any]:
        """The result of a job that leaves the rest to another."""
        plan, url = chain.done.plan, chain.progress.playlist_url
        return {
            "status": "incomplete",
            "job_id": self._job.id,
            "request_id": self._job.key,
            "windows": plan.windows,
            "windows_done": chain.done.windows,
            "timings": self._job.timings,
            "warnings": [*plan.warnings, *self._job.notes],
            **({"playlist_url": url} if url else {}),
        }

    def _keep(self, window: Window, done: Done) -> None:
        """Have the window written into the store, and what there is be shown, behind our back."""
        run = contextvars.copy_context().run
        self._behind.submit(run, self._write, window, done).add_done_callback(_tell_fault)

    def _write(self, window: Window, done: Done) -> None:
        number = window.index + 1
        segment = self._folder / segment_name(number)
        self._show(partial(self._put_part, window, segment, done.plan))
        state = {name: getattr(done.plan, name) for name in RESUMED}
        ledger = replace(self._ledger, seed=done.plan.seed, state=state)
        assert done.motion is not None
        self._checkpoints.save(number, segment, done.motion, ledger)
        self._show(partial(self._put_playlist, number, done.plan))

    def _show(self, show: Callable[[], None]) -> None:
        """Do it if there is a playlist; a fault ends that, and not the render."""
        if not self._playlist:
            return
        try:
            show()
        except (av.FFmpegError, OSError) as error:
            self._playlist = False
            logs.tell("the playlist ends", level=logging.WARNING, sentence=str(error))

    def _put_part(self, window: Window, segment: Path, plan: Plan) -> None:
        sound, fps = self._sound.result(), plan.request.fps
        if window.index == 0:
            init = self._folder / "init.mp4"
            playlist.write_init(segment, sound, init, fps=fps)
            self._checkpoints.put(f"{WATCH}/{init.name}", init, "video/mp4")
        part = self._folder / part_name(window)
        first = delivered(plan, window).start
        playlist.write_part(segment, sound, part, first_frame=first, fps=fps)
        self._checkpoints.put(f"{WATCH}/{part.name}", part, "video/mp4")

    def _put_playlist(self, done: int, plan: Plan) -> None:
        parts = [
            Part(part_name(each), len(delivered(plan, each)) / plan.request.fps)
            for each in windows(plan)
        ]
        text = playlist.playlist_text(parts[:done], self._url, ended=done == len(parts))
        self._checkpoints.put(f"{WATCH}/{PLAYLIST_NAME}", text, PLAYLIST_TYPE)

    def _url(self, name: str) -> str:
        """Of a file of the playlist. Signing takes time, and the playlist names them all again."""
        if name not in self._urls:
            self._urls[name] = self._checkpoints.url(f"{WATCH}/{name}") or name
        return self._urls[name]

    def _stops(self, window_seconds: float | None) -> bool:
        """Whether this job shall leave the rest to another."""
        if not self._request.continue_later or window_seconds is None:
            return False
        left = self._studio.settings.job_timeout_seconds - self._job.seconds
        return left < SPARE_WINDOWS * window_seconds + SPARE_SECONDS

    def _with_what_is_kept(self, error: JobError, done: Done) -> JobError:
        """The error, and how to go on from there."""
        if not done.windows or self._studio.stores.checkpoints() is None:
            return error
        kept = f"{done.windows} of {done.plan.windows} windows are kept"
        how = f'the same request with request_id "{self._job.key}" continues after them'
        details = {**error.details, "windows_done": done.windows, "windows": done.plan.windows}
        return type(error)(f"{error}; {kept}: {how}", **details)


def _tell_fault(written: Future[None]) -> None:
    if error := written.exception():
        log.error("a window was not kept", exc_info=error)


def refuse_too_long(job: Job, plan: Plan, studio: Studio) -> None:
    """Raises:
    DeadlineExceeded: the render surely takes longer than the job has left.
    """
    found = studio.estimate(plan)
    if not can_end_within(found, studio.settings.job_timeout_seconds - job.seconds):
        raise DeadlineExceeded(too_long_text(found))


def part_name(window: Window) -> str:
    """The file of a window in the playlist."""
    return f"part_{window.index + 1:05d}.m4s"


def fit(plan: Plan, request: RenderRequest, sources: Sources, studio: Studio) -> dict[str, str]:
    """What has to be equal for one job to go on with the windows of another."""
    own = sorted((PROJECT_DIR / "custom_nodes" / "talkinghead_windows").glob("*.py"))
    comfyui, *packs = pins().items()
    slots = studio.profile.slots_for(plan.talk_model)
    return {
        "picture": _sum([sources.picture]),
        "voices": _sum(path for path in sources.voices if path),
        "masks": _sum(path for path in sources.masks if path),
        "plan": _short(repr(plan.content())),
        "workflow": fingerprint(plan.template),
        "comfyui": " ".join(comfyui),
        "packs": _short(repr(packs) + _sum(own)),
        "models": _short(json.dumps(slots, sort_keys=True, default=dict)),
    }


def _sum(paths: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:12]


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
