"""What a worker renders with: settings, one ComfyUI, a fetcher, a store, a set of models."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from comfy_client import ComfyClient, ComfyError, TimedOut
from talkinghead.comfy.server import ComfyServer
from talkinghead.delivery.place import Place
from talkinghead.delivery.stores import Stores
from talkinghead.errors import ComfyUIUnavailable
from talkinghead.models.gpu import active_profile, read_host
from talkinghead.models.store import found_models
from talkinghead.net.fetch import Fetcher
from talkinghead.net.guard import PUBLIC_ONLY, UrlGuard
from talkinghead.plan.estimate import Estimate, estimate
from talkinghead.plan.pace import Pace
from talkinghead.plan.plan import Plan
from talkinghead.settings import Settings
from talkinghead.workflow.convert import Graph, Schemas

log = logging.getLogger("talkinghead")

LOCK_POLL_SECONDS = 0.2
IDLE_SECONDS = 15.0  # an interrupt acts between blocks of the model: seconds, on a slow card


class Studio:
    """One ComfyUI and what goes with it; one job at a time has it.

    ComfyUI is a child process of ours, or with COMFYUI_URL a server that somebody else runs, whose
    folders we do not see: there, a job's files stay behind. `server` may have been started before.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        store: Place | None = None,
        local_files: bool = False,
        server: ComfyServer | None = None,
    ) -> None:
        self.settings = settings
        guard = UrlGuard(blocked=()) if settings.allow_private_urls else PUBLIC_ONLY
        self.fetcher = Fetcher(
            seconds=settings.download_seconds, guard=guard, local_files=local_files
        )
        self.stores = Stores(settings, only=store, guard=guard)
        self.profile = active_profile(settings)
        self.host = read_host(settings)
        self.pace = Pace()
        self.models = {} if settings.comfyui_url else found_models(settings, self.profile)
        self.idle_seconds = IDLE_SECONDS
        self._server = server
        if server is None and not settings.comfyui_url:
            self._server = ComfyServer.from_settings(settings)
        if self._server is not None:
            self._server.use_models(self.models)
        self._lock = threading.Lock()
        self._to_trim: tuple[ComfyClient, str, Graph] | None = None
        self._schemas: Schemas | None = None

    @property
    def text_encoder(self) -> Path | None:
        """The profile's text encoder, if it lies on this host."""
        name = (self.profile.slots.get("Text encoder") or {}).get("clip_name")
        return self.models.get(f"text_encoders/{name}")

    @property
    def output_dir(self) -> Path | None:
        """Where our ComfyUI writes; None of one whose folders we do not see."""
        return self._server.output_dir if self._server else None

    def __enter__(self) -> Self:
        """Start ComfyUI, without waiting for it."""
        if self._server is not None and not self._server.is_running():
            self._server.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End our ComfyUI."""
        if self._server is not None:
            self._server.stop()

    @contextlib.contextmanager
    def comfy(self, folder: str, check: Callable[[], None]) -> Iterator[ComfyClient]:
        """ComfyUI, ready, for one job alone; what the job left in `folder` is deleted after.

        After a success that is done in the background: the result does not wait, the next job does.

        Args:
            folder: the job's subfolder of ComfyUI's input and output.
            check: called while waiting; what it raises ends the wait.

        Raises:
            ComfyUIUnavailable: ComfyUI does not start.
        """
        while not self._lock.acquire(timeout=LOCK_POLL_SECONDS):
            check()
        after = contextlib.ExitStack()
        after.callback(self._lock.release)
        if self._server is not None:
            after.callback(self._server.recycle)
            after.callback(self._server.clear, folder)
        self._to_trim = None
        after.callback(self._trim)
        try:
            yield self._ready(check)
        except BaseException:
            after.close()
            raise
        log_context = contextvars.copy_context()
        threading.Thread(target=log_context.run, args=(after.close,), daemon=True).start()

    def trim_after(self, client: ComfyClient, prompt_id: str, loaders: Graph) -> None:
        """Leave ComfyUI as the next job wants it: idle, without history or frames, with models.

        It is done when the job lets go of ComfyUI, for its last prompt. A ComfyUI that does not
        come to rest is ended; the next job starts another. One that is slow to run the loaders is
        not: the job may have ended before they were loaded.
        """
        self._to_trim = client, prompt_id, loaders

    def _trim(self) -> None:
        if self._to_trim is None or (self._server is not None and not self._server.is_running()):
            return
        client, prompt_id, loaders = self._to_trim
        try:
            client.wait_idle(prompt_id, deadline_seconds=self.idle_seconds)
            client.forget(prompt_id)
            if loaders:
                with contextlib.suppress(TimedOut):
                    kept = client.run(loaders, deadline_seconds=self.idle_seconds)
                    client.forget(kept.prompt_id)
        except ComfyError as error:
            log.warning("ComfyUI does not come to rest, and is ended: %s", error)
            self.close()

    def between_prompts(self, client: ComfyClient, prompt_id: str, folder: str) -> None:
        """Leave nothing of one prompt, and its folder, for the next of the same job."""
        with contextlib.suppress(ComfyError):
            client.forget(prompt_id)
        if self._server is not None:
            self._server.clear(folder)

    def is_bloated(self) -> bool:
        """Whether our ComfyUI holds more memory than it may: it is ended when the job lets go."""
        return self._server is not None and self._server.is_bloated()

    def free_memory(self) -> None:
        """Have ComfyUI drop everything, models included, before it runs the next prompt."""
        with contextlib.suppress(ComfyError):
            self._new_client().free_memory()

    def machine(self) -> dict[str, Any]:
        """ComfyUI's account of itself and its GPUs; empty if it does not answer."""
        with contextlib.suppress(ComfyError):
            return dict(self._new_client().system_stats())
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
        if self._server is not None:
            self._server.check()

    def schemas(self, client: ComfyClient, *, fresh: bool = False) -> Schemas:
        """The server's node schemas, read once per server; `fresh` sees files added since."""
        if self._schemas is None or fresh:
            self._schemas = client.object_info()
        return self._schemas

    def revive(self) -> None:
        """Start a ComfyUI that died between two jobs, so that the next need not wait for it."""
        if self._server is None or not self._lock.acquire(blocking=False):
            return
        try:
            if self._server.has_died():
                log.warning("ComfyUI died between two jobs, and is started again")
                self._start_again(self._server)
        finally:
            self._lock.release()

    def _start_again(self, server: ComfyServer) -> None:
        server.stop()
        server.start()
        self._schemas = None

    def _ready(self, check: Callable[[], None]) -> ComfyClient:
        if self._server is None:
            return self._new_client()
        if not self._server.is_running():
            self._start_again(self._server)
        try:
            self._server.wait_ready(check)
        except ComfyUIUnavailable:
            self._server.stop()  # one that lives, but does not answer, would fail all jobs to come
            raise
        return self._new_client()

    def _new_client(self) -> ComfyClient:
        return ComfyClient(self._server.url if self._server else str(self.settings.comfyui_url))
