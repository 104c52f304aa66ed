"""What a worker renders with: settings, one ComfyUI, a fetcher, a store, a set of models."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from comfy_client import ComfyClient, ComfyError, TimedOut
from talkinghead.comfy_server import ComfyServer
from talkinghead.convert import Graph, Schemas
from talkinghead.delivery import Store, open_store
from talkinghead.errors import ComfyUIUnavailable
from talkinghead.fetch import Fetcher
from talkinghead.models import load_manifest
from talkinghead.settings import Settings

log = logging.getLogger("talkinghead")

LOCK_POLL_SECONDS = 0.2
IDLE_SECONDS = 15.0  # an interrupt acts between blocks of the model: seconds, on a slow card


class Studio:
    """One ComfyUI and what goes with it; one job at a time has it.

    ComfyUI is a child process of ours, or with COMFYUI_URL a server that somebody else runs, whose
    folders we do not see: there, a job's files stay behind.
    """

    def __init__(
        self, settings: Settings, *, store: Store | None = None, local_files: bool = False
    ) -> None:
        self.settings = settings
        self.fetcher = Fetcher(seconds=settings.download_seconds, local_files=local_files)
        self.store = store or open_store(settings)
        self.profile = load_manifest().profile(settings.model_profile)
        self.idle_seconds = IDLE_SECONDS
        self._server = None if settings.comfyui_url else ComfyServer.from_settings(settings)
        self._lock = threading.Lock()
        self._schemas: Schemas | None = None

    @property
    def text_encoder(self) -> Path | None:
        """The profile's text encoder, if it lies in our own ComfyUI's folder."""
        if self.settings.comfyui_url:
            return None
        name = (self.profile.slots.get("Text encoder") or {}).get("clip_name")
        path = self.settings.comfyui_dir / "models" / "text_encoders" / str(name)
        return path if path.is_file() else None

    def __enter__(self) -> Self:
        """Start ComfyUI, without waiting for it."""
        if self._server is not None:
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

        Args:
            folder: the job's subfolder of ComfyUI's input and output.
            check: called while waiting; what it raises ends the wait.

        Raises:
            ComfyUIUnavailable: ComfyUI does not start.
        """
        while not self._lock.acquire(timeout=LOCK_POLL_SECONDS):
            check()
        try:
            yield self._ready(check)
        finally:
            if self._server is not None:
                self._server.clear(folder)
            self._lock.release()

    def trim(self, client: ComfyClient, prompt_id: str, loaders: Graph) -> None:
        """Leave ComfyUI as the next job wants it: idle, without history or frames, with models.

        A ComfyUI that does not come to rest is ended; the next job starts another. One that is
        slow to run the loaders is not: the job may have ended before they were loaded.
        """
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

    def free_memory(self) -> None:
        """Have ComfyUI drop everything, models included, before it runs the next prompt."""
        url = self.settings.comfyui_url or (self._server and self._server.url)
        with contextlib.suppress(ComfyError):
            ComfyClient(str(url)).free_memory()

    def check_alive(self) -> None:
        """Raise ComfyUIUnavailable if our ComfyUI has died."""
        if self._server is not None:
            self._server.check()

    def schemas(self, client: ComfyClient, *, fresh: bool = False) -> Schemas:
        """The server's node schemas, read once per server; `fresh` sees files added since."""
        if self._schemas is None or fresh:
            self._schemas = client.object_info()
        return self._schemas

    def _ready(self, check: Callable[[], None]) -> ComfyClient:
        if self._server is None:
            return ComfyClient(str(self.settings.comfyui_url))
        if not self._server.is_running():
            self._server.stop()
            self._server.start()
            self._schemas = None
        try:
            self._server.wait_ready(check)
        except ComfyUIUnavailable:
            self._server.stop()  # one that lives, but does not answer, would fail all jobs to come
            raise
        return ComfyClient(self._server.url)
