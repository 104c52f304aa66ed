"""Where the page has its videos rendered: here, or on an endpoint. Both are called by the client.

What a render will take is always planned here: it needs no ComfyUI and no GPU, and an endpoint
would start a worker for it, which costs.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talkinghead.client import AsyncClient, Result, S3Bucket
from talkinghead.client.wire import endpoint_url
from talkinghead.comfy import warm
from talkinghead.comfy.studio import Studio
from talkinghead.comfy.warm_up import stay_ready
from talkinghead.delivery.file import FilePlace
from talkinghead.delivery.stores import Stores
from talkinghead.local_api.http import Access, ApiServer
from talkinghead.local_api.jobs import JobQueue
from talkinghead.page.asked import Asked
from talkinghead.render.job import Job
from talkinghead.render.run import run_job
from talkinghead.replay.endpoint_api import key_name
from talkinghead.settings import Settings

POLL_SECONDS = 0.3  # of a queue in this process
NO_GPU = "The model needs an NVIDIA GPU, and there is none here: a draft runs on the processor."


@dataclass(frozen=True)
class Place:
    """Who renders, and who plans.

    Attributes:
        endpoint: its id or URL; None is this machine.
        why_no_model: in words, where only drafts can be rendered; else empty.
        has_bucket: whether what is rendered here can be watched meanwhile; of an endpoint it says.
    """

    renders: AsyncClient
    plans: AsyncClient
    endpoint: str | None = None
    why_no_model: str = ""
    has_bucket: bool = True

    async def submit(self, asked: Asked) -> str:
        """Send what was asked for; returns the job's id.

        Raises:
            TalkingheadError, OSError
        """
        if self.endpoint is None:
            return (await self.renders.submit(asked.local_request())).id
        return (await self.renders.submit(*self._there(asked))).id

    async def plan(self, asked: Asked) -> dict[str, Any]:
        """What this machine says that it will take: `estimate`, `speakers_found`, `warnings`.

        Raises:
            TalkingheadError
        """
        result = await self.plans.render({**asked.local_request(), "dry_run": True})
        return dict(result.output)

    async def ask_endpoint(self, asked: Asked) -> dict[str, Any]:
        """What the endpoint itself says of time and price: a job of its own there.

        Raises:
            TalkingheadError, OSError
        """
        request, files = self._there(asked)
        return dict((await self.renders.render({**request, "dry_run": True}, files)).output)

    async def save(self, result: Result, target: Path) -> None:
        """Bring the video to a file.

        Raises:
            TalkingheadError, OSError
        """
        path = result.output.get("path") if self.endpoint is None else None
        if isinstance(path, str):
            shutil.move(path, target)
        else:
            await self.renders.save(result, target)

    def _there(self, asked: Asked) -> tuple[dict[str, Any], dict[str, Path]]:
        files = {name: path for name, path, _ in asked.files()}
        return {**asked.options(), "speakers": asked.places()}, files


@contextlib.contextmanager
def here(settings: Settings, folder: Path) -> Iterator[Place]:
    """This machine, with the ComfyUI of `talkinghead up` if there is one; videos go to `folder`.

    Raises:
        JobError, OSError
    """
    store = FilePlace(folder)
    has_bucket = Stores(settings).has_bucket
    with _Studios(settings, None if has_bucket else store) as studios:

        def render(job: Job) -> dict[str, Any]:
            store.path = folder / f"{job.id}.mp4"
            return run_job(job, studios.now())

        def plan(job: Job) -> dict[str, Any]:
            return run_job(job, studios.studio)

        with _called(render) as renders, _called(plan) as plans:
            why_no_model = NO_GPU if settings.drafts_only else ""
            yield Place(renders, plans, why_no_model=why_no_model, has_bucket=has_bucket)


class _Studios(contextlib.ExitStack):
    """Who renders here: with the ComfyUI of `talkinghead up` for as long as that runs.

    Attributes:
        studio: the one that rendered last.
    """

    def __init__(self, settings: Settings, store: FilePlace | None) -> None:
        super().__init__()
        self._settings, self._store = settings, store
        self._warm: warm.Warm | None = None
        self.studio = self._open()

    def now(self) -> Studio:
        """Who renders the next job: another, if the ComfyUI of the last was ended meanwhile."""
        if self._warm is not None and warm.find(self._settings) != self._warm:
            self.studio = self._open()
        return self.studio

    def _open(self) -> Studio:
        self._warm = None if self._settings.comfyui_url else warm.find(self._settings)
        settings, folders = warm.join(self._settings, self._warm)
        studio = Studio(settings, store=self._store, local_files=True, folders=folders)
        self.enter_context(studio)
        studio.sandboxes.start()
        threading.Thread(target=stay_ready, args=(studio,), daemon=True).start()
        return studio


@contextlib.contextmanager
def there(settings: Settings, endpoint: str) -> Iterator[Place]:
    """An endpoint, by its id, or the URL of a `talkinghead serve`.

    Raises:
        ValueError: it is neither.
    """
    url = endpoint if "://" in endpoint else endpoint_url(endpoint)
    key = os.environ.get(key_name(url), "")
    renders = AsyncClient(url=url, api_key=key, storage=S3Bucket.from_env())
    # Not entered: its ComfyUI never starts.
    studio = Studio(settings, local_files=True)
    with studio.sandboxes, _called(functools.partial(run_job, studio=studio)) as plans:
        studio.sandboxes.start()
        yield Place(renders, plans, endpoint)


def has_key() -> bool:
    """Whether the key of RunPod's endpoints is known here."""
    return bool(os.environ.get("RUNPOD_API_KEY"))


@contextlib.contextmanager
def _called(run: Callable[[Job], dict[str, Any]]) -> Iterator[AsyncClient]:
    """A client of a queue in this process, which nobody else has the token of."""
    token = secrets.token_urlsafe(32)
    queue = JobQueue(run, lambda url, body: None)
    with ApiServer(("127.0.0.1", 0), queue, Access(token)) as server:
        queue.start()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield AsyncClient(url=server.url, api_key=token, poll_seconds=POLL_SECONDS)
        finally:
            server.shutdown()
            queue.close()
