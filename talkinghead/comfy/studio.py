"""What a worker renders with: settings, one ComfyUI, a fetcher, a store, a set of models."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from comfy_client import HTTP_SECONDS, ComfyClient, ComfyError, ExecutionFailed, TimedOut
from talkinghead.comfy.failures import kind_of
from talkinghead.comfy.folders import Folders
from talkinghead.comfy.health import Health, prove
from talkinghead.comfy.own_client import OwnClient
from talkinghead.comfy.pins import pins
from talkinghead.comfy.process import ComfyProcess, death_of
from talkinghead.comfy.record import Record
from talkinghead.comfy.revival import Pauses, revive
from talkinghead.comfy.server import ComfyServer
from talkinghead.delivery.place import Place
from talkinghead.delivery.stores import Stores
from talkinghead.errors import ComfyUIUnavailable, GpuFailed, JobError
from talkinghead.media.sandbox import Sandboxes
from talkinghead.models.choice import Found, find_choice
from talkinghead.models.exclusions import COMPILE
from talkinghead.models.fetch import found_models
from talkinghead.models.gpu import active_profile, read_host
from talkinghead.models.manifest import ModelProfile
from talkinghead.net.fetch import Fetcher
from talkinghead.net.guard import PUBLIC_ONLY, UrlGuard
from talkinghead.plan.estimate import Estimate, estimate
from talkinghead.plan.pace import Benched, Pace
from talkinghead.plan.plan import Plan
from talkinghead.settings import Settings
from talkinghead.workflow.graph import NOTHING, Graph, beside, includes
from talkinghead.workflow.schemas import Schemas

log = logging.getLogger("talkinghead")

LOCK_POLL_SECONDS = 0.2
# After a job: an interrupt acts between blocks of the model, seconds on a slow card; and a host may
# be busy for a minute, in which the models would be lost.
IDLE_SECONDS = 75.0


class Studio:
    """One ComfyUI and what goes with it; one job at a time has it, by a `Turn`.

    ComfyUI is a child process of ours, or with COMFYUI_URL a server that somebody else runs, whose
    folders we do not see: there, a job's files stay behind. `server` may have been started before.
    It takes what a bench found best for hosts like this one, unless it is the bench that asks.
    `folders` are those of a server at COMFYUI_URL that is this person's own, on this machine.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        store: Place | None = None,
        local_files: bool = False,
        server: ComfyServer | None = None,
        folders: Folders | None = None,
        is_bench: bool = False,
    ) -> None:
        self._folders = folders
        self.host = read_host(settings)
        self.found = Found(settings)
        if not is_bench:
            self.found = find_choice(settings, self.host, pins(settings, {}))
        self.settings = settings = self.found.settings
        guard = UrlGuard(blocked=()) if settings.allow_private_urls else PUBLIC_ONLY
        self.fetcher = Fetcher(
            seconds=settings.download_seconds,
            guard=guard,
            local_files=local_files,
            uploads=settings.uploads_dir,
        )
        self.stores = Stores(settings, only=store, guard=guard)
        self.profile = active_profile(settings, self.host)
        self.sandboxes = Sandboxes()
        self.pace = Pace(_benched(self.found))
        self.record = Record()
        self.health = Health(self.record)
        # What memory suffices for, and for how many renders it has, by kind of render and windows.
        self.lighter_ways: dict[tuple[str, int], tuple[str, int]] = {}
        self.cures: list[str] = []  # without which pictures came out black, flat or as noise
        self.models = {} if settings.comfyui_url else found_models(settings, self.profile)
        self.idle_seconds = IDLE_SECONDS
        self.is_warm = False  # whether it has rendered
        self.server = server
        if server is None and not settings.comfyui_url:
            self.server = ComfyServer.from_settings(settings)
        if self.server is not None:
            self.server.use_models(self.models)
        self._lock = threading.Lock()  # of the turn at ComfyUI
        self._pauses = Pauses()  # between the starts of a ComfyUI that does not stay alive
        self._is_open = False
        self._schemas: tuple[ComfyProcess | None, Schemas] | None = None
        self._kept: tuple[ComfyProcess, Graph] | None = None

    @property
    def text_encoder(self) -> Path | None:
        """The profile's text encoder, if it lies on this host."""
        name = (self.profile.slots.get("Text encoder") or {}).get("clip_name")
        return self.models.get(f"text_encoders/{name}")

    @property
    def output_dir(self) -> Path | None:
        """Where our ComfyUI writes; None of one whose folders we do not see."""
        folders = self.server.folders if self.server else self._folders
        return folders.output if folders else None

    def clear(self, folder: str) -> None:
        """Delete what a job left in its folder, where we see it."""
        if self.server is not None:
            self.server.folders.clear(folder)
        elif self._folders is not None:
            self._folders.clear_job(folder)

    def __enter__(self) -> Self:
        """Start ComfyUI, without waiting for it."""
        self._is_open = True
        if self.server is not None and not self.server.is_running():
            self.server.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
        self.sandboxes.close()

    def close(self, *, for_good: bool = False) -> None:
        """End our ComfyUI. Only the next job starts another, and `for_good` not even that."""
        self._is_open = False
        if self.server is not None:
            self.server.stop(for_good=for_good)
        elif self._folders is not None and self._lock.acquire(timeout=self.idle_seconds):
            self._lock.release()  # the last job's files are deleted in the background

    @contextlib.contextmanager
    def comfy(self, folder: str, check: Callable[[], None]) -> Iterator[Turn]:
        """ComfyUI, ready, for one job alone; what the job left in `folder` is deleted after.

        After a success that is done in the background: the result does not wait, the next job does.
        After a failure that is not the job's fault the next one gets another process.

        Args:
            folder: the job's subfolder of ComfyUI's input and output.
            check: called while waiting; what it raises ends the wait.

        Raises:
            ComfyUIUnavailable: ComfyUI does not start, or does not compute.
            ComfyUIDied, ComfyUIKilled: it died, where the job only saw that it does not answer.
        """
        while not self._lock.acquire(timeout=LOCK_POLL_SECONDS):
            check()
        # From here on the turn has the lock, and its end releases it: after a failure in this
        # thread, after a success in the one below, which a lock without an owner allows.
        turn = Turn(self, folder, release=self._lock.release)
        try:
            self._ensure_ready(check)
            if self.server is None and self.health.is_doubtful:  # ours was replaced
                prove(turn.client, check, self.settings.job_timeout_seconds)
            yield turn
        except BaseException as error:
            death = self._death_behind(error)
            turn.end(replace=self.health.is_sick(death or error))
            if death is not None:
                raise death from error
            raise
        log_context = contextvars.copy_context()
        threading.Thread(target=log_context.run, args=(turn.end,), daemon=True).start()

    def profile_for(self, plan: Plan) -> ModelProfile:
        """The profile to render with; not compiled for the worker's first, if that is no chain."""
        compiled = plan.chained or self.is_warm
        return self.profile if compiled else self.profile.without(COMPILE)

    def is_bloated(self) -> bool:
        """Whether our ComfyUI holds more memory than it may: it is ended when the job lets go."""
        return self.server is not None and self.server.is_bloated()

    def free_memory(self) -> None:
        """Have ComfyUI drop everything, models included, before it runs the next prompt."""
        self.keeps({})
        with contextlib.suppress(ComfyError):
            self.new_client().free_memory()

    def machine(self) -> dict[str, Any]:
        """ComfyUI's account of itself and its GPUs; empty if it does not answer."""
        with contextlib.suppress(ComfyError):
            return dict(self.new_client().system_stats())
        return {}

    def estimate(self, plan: Plan, price_per_hour: float | None = None) -> Estimate:
        """What the plan will take here, in a job of its own."""
        return estimate(
            plan,
            gpu_name=self.host.gpu.name if self.host.gpu else None,
            ram_gib=self.host.ram_gib,
            pace=self.pace,
            price_per_hour=price_per_hour,
            timeout_seconds=self.settings.job_timeout_seconds,
        )

    def check_alive(self) -> None:
        """Raise ComfyUIUnavailable if our ComfyUI has died."""
        if self.server is not None:
            self.server.check()

    def schemas(self, client: ComfyClient, *, fresh: bool = False) -> Schemas:
        """The node schemas, read once from each process; `fresh` sees files added since."""
        process = self.server.process if self.server else None
        if self._schemas is None or self._schemas[0] is not process or fresh:
            self._schemas = process, client.object_info()
        return self._schemas[1]

    def keeps(self, loaders: Graph) -> None:
        """Say whose models our ComfyUI holds, now that these loaders were run last."""
        process = self.server.process if self.server else None
        self._kept = (process, loaders) if process and loaders else None

    def kept(self) -> Graph:
        """The loaders whose models our ComfyUI holds; empty if it holds none.

        Of a server that others use too, nobody knows: loaders that it does not hold would be run.
        """
        process, loaders = self._kept or (None, {})
        return loaders if self.server and self.server.process is process else {}

    def revive(self) -> None:
        """Start a ComfyUI that ended between two jobs, so that the next need not wait for it.

        A server at COMFYUI_URL that has not answered yet is asked once more what it has.
        """
        self.meet_server()
        if self.server is None or not self._is_open or not self._lock.acquire(blocking=False):
            return  # who has the turn sees to it
        try:
            revive(self.server, self._pauses)
        finally:
            self._lock.release()

    def meet_server(self) -> None:
        """Choose the models by what the server at COMFYUI_URL has, if it has not answered yet."""
        if not self.host.is_known:
            self.host = read_host(self.settings)
            self.profile = active_profile(self.settings, self.host)

    def new_client(self) -> ComfyClient:
        """A client of the ComfyUI, which need not be ready.

        Ours may be silent for longer than a render may stall: `check_alive` knows whether it lives,
        and one that has died answers no request at all.
        """
        if self.server is None:
            return ComfyClient(str(self.settings.comfyui_url))
        stall = self.settings.stall_seconds
        http = max(HTTP_SECONDS, stall)  # a render is in what is uploaded and downloaded, too
        server = self.server
        return OwnClient(
            server.url, server.folders, http_seconds=http, unreachable_seconds=2 * stall
        )

    def _ensure_ready(self, check: Callable[[], None]) -> None:
        self._is_open = True
        if self.server is None:
            return
        try:
            self.server.ensure_ready(check)
        except ComfyUIUnavailable:
            self.server.stop()  # one that lives, but does not answer, would fail all jobs to come
            raise

    def _death_behind(self, error: BaseException) -> JobError | None:
        """The death of our ComfyUI, if it is what this error comes from."""
        silent = isinstance(error, (ComfyUIUnavailable, ComfyError))
        server = self.server
        return death_of(server.process, server.folders.log) if server and silent else None


def _benched(found: Found) -> Benched | None:
    choice = found.in_use
    return Benched(choice.times_published, choice.date) if choice else None


class Turn:
    """ComfyUI for one job: from `Studio.comfy`, until its `end` lets the next job in.

    All but `end` is for the thread of the job. `end` is called once, when the job does not use the
    turn any more, by that thread or another; it is what calls `release`, also if it fails.
    """

    def __init__(self, studio: Studio, folder: str, *, release: Callable[[], None]) -> None:
        self.studio = studio
        self.folder = folder
        self.client = studio.new_client()
        self._release = release
        self._last_prompt: tuple[str, Graph] | None = None
        self._beside: Graph = {}

    def schemas(self, *, fresh: bool = False) -> Schemas:
        """The node schemas of this ComfyUI; `fresh` sees files added since they were read."""
        return self.studio.schemas(self.client, fresh=fresh)

    def set_last_prompt(self, prompt_id: str, loaders: Graph) -> None:
        """Say before each prompt which it is, and what `end` runs after it, to keep its models.

        A prompt that loads nothing else leaves the models that are there: `with_models`.
        """
        kept = self.studio.kept()
        self._beside = kept if includes(kept, loaders) and not includes(loaders, kept) else {}
        self._last_prompt = prompt_id, self._beside or loaders or NOTHING

    def with_models(self, graph: Graph) -> Graph:
        """The last prompt's graph as it is to run: ComfyUI drops models that no node of it loads.

        So the loaders of an earlier job go beside the nodes of a draft; their cached outputs cost
        nothing. A prompt with models of its own runs alone: for both there may be no room.
        """
        return beside(graph, self._beside)

    def between_prompts(self, prompt_id: str, folder: str) -> None:
        """Leave nothing of one prompt, and its folder, for the next of the same job."""
        with contextlib.suppress(ComfyError):
            self.client.forget(prompt_id)
        self.studio.clear(folder)

    def end(self, *, replace: bool = False) -> None:
        """Leave ComfyUI as the next job wants it: idle, without history, files or frames.

        Its models stay loaded. One that does not come to rest, or holds too much memory, or that is
        to be replaced, is ended; the next job starts another.
        """
        studio, server = self.studio, self.studio.server
        try:
            if replace and server is not None:
                server.stop()
            else:
                self._trim()
            studio.clear(self.folder)  # only now: before, a node might yet write
            if server is not None:
                server.recycle()
        finally:
            self._release()

    def _trim(self) -> None:
        """Wait until the last prompt is over, and run its loaders: frames go, models stay.

        A ComfyUI that is slow to run the loaders is not ended: the job may have ended before they
        were loaded.
        """
        studio, client = self.studio, self.client
        if self._last_prompt is None or (studio.server and not studio.server.is_running()):
            return
        prompt_id, loaders = self._last_prompt
        try:
            client.wait_idle(prompt_id, deadline_seconds=studio.idle_seconds)
            client.forget(prompt_id)
            studio.keeps({})
            with contextlib.suppress(TimedOut):
                done = client.run(loaders, deadline_seconds=studio.idle_seconds)
                client.forget(done.prompt_id)
                if self.folder not in str(loaders):  # files that are gone load nothing again
                    studio.keeps(loaders)
        except ExecutionFailed as error:  # of a loader: it fails in the job, too, and is told there
            if kind_of(error) is GpuFailed:
                studio.close()
        except ComfyError as error:
            log.warning("ComfyUI does not come to rest, and is ended: %s", error)
            studio.close()
