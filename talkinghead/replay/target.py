"""Where a batch goes: to servers, to an endpoint, or to a ComfyUI of our own."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from talkinghead.replay.comfy_place import ComfyPlace
from talkinghead.replay.places import Away, Failed, Place
from talkinghead.replay.sources import BadInput
from talkinghead.settings import Settings
from talkinghead.workflow.schemas import Schemas

if TYPE_CHECKING:
    from talkinghead.replay.endpoint_batch import EndpointBatch

ENDPOINT_JOBS = 4  # in flight, if --jobs does not say


@dataclass(frozen=True)
class Target:
    """Where runs go: to these servers, to this endpoint, or if there are none to our ComfyUI.

    `jobs` is how many may be in flight at most, if the caller says so. Jobs of `low_priority` start
    no worker of an endpoint; `as_batch` they are one of its batches.
    """

    servers: tuple[str, ...]
    endpoint: str | None
    jobs: int | None = None
    low_priority: bool = False
    as_batch: bool = False

    def __str__(self) -> str:
        return ", ".join(self.servers) or self.endpoint or "own ComfyUI"

    @property
    def in_flight(self) -> int:
        """How many runs are done at a time: of an endpoint as many as it takes, else one each."""
        if self.endpoint is not None:
            return self.jobs or ENDPOINT_JOBS
        width = max(len(self.servers), 1)
        return min(width, self.jobs or width)

    def open(
        self,
        stack: contextlib.ExitStack,
        settings: Settings,
        stop: threading.Event,
        *,
        lost_seconds: float,
    ) -> Sequence[Place]:
        """The places, closed with `stack`; none is connected yet.

        Args:
            stop: once it is set, connecting and running end soon, by `Stopped`.
            lost_seconds: how long an endpoint may not say how a job is.
        """
        if self.endpoint is not None:
            return [self._endpoint_place(self.endpoint, settings, lost_seconds)]
        given = [settings.model_copy(update={"comfyui_url": url}) for url in self.servers]
        places = [stack.enter_context(ComfyPlace(each, stop)) for each in given or [settings]]
        _tell_apart(places)
        return places

    def batch(
        self, settings: Settings, stop: threading.Event, *, lost_seconds: float
    ) -> EndpointBatch:
        """The endpoint's batches."""
        from talkinghead.replay.endpoint_api import EndpointApi  # noqa: PLC0415 - a slow import
        from talkinghead.replay.endpoint_batch import EndpointBatch  # noqa: PLC0415
        from talkinghead.replay.sending import Sender  # noqa: PLC0415

        return EndpointBatch(
            EndpointApi(str(self.endpoint)),
            job_of=Sender(settings).job,
            lost_seconds=lost_seconds,
            download_seconds=settings.download_seconds,
            stop=stop,
        )

    def _endpoint_place(self, url: str, settings: Settings, lost_seconds: float) -> Place:
        from talkinghead.replay.endpoint import EndpointPlace  # noqa: PLC0415 - a slow import
        from talkinghead.replay.endpoint_api import EndpointApi  # noqa: PLC0415 - a slow import
        from talkinghead.replay.sending import Sender  # noqa: PLC0415 - a slow import

        return EndpointPlace(
            EndpointApi(url),
            width=self.in_flight,
            job_of=Sender(settings).job,
            low_priority=self.low_priority,
            job_seconds=settings.job_timeout_seconds,
            lost_seconds=lost_seconds,
            download_seconds=settings.download_seconds,
        )


def _tell_apart(places: Sequence[Place]) -> None:
    """A place is known by its name. Where URLs differ in what they hide, the next gets a number."""
    seen: Counter[str] = Counter()
    for place in places:
        seen[place.name] += 1
        if seen[place.name] > 1:
            place.name = f"{place.name} ({seen[place.name]})"


def schemas_of(places: Sequence[Place]) -> Schemas | None:
    """The node schemas of all servers that answer, the first server's first; None: no servers.

    Raises:
        BadInput: there are servers, and none answers.
    """
    comfys = [place for place in places if isinstance(place, ComfyPlace)]
    if not comfys:
        return None
    schemas: Schemas = {}
    faults = []
    for place in reversed(comfys):
        try:
            place.connect()
            schemas = {**schemas, **place.schemas}
        except (Away, Failed) as error:
            faults.append(str(error))
    if len(faults) == len(comfys):
        raise BadInput(f"no server answers: {'; '.join(faults)}")
    return schemas
