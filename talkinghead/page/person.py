"""One person at the page: what was put together, what it will take, and the video that is made.

It outlives its tabs: whoever loads the page again finds it by the browser's cookie.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections import Counter
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from talkinghead.client import TalkingheadError
from talkinghead.errors import JobError
from talkinghead.media.preview import Preview, picture_preview, video_preview
from talkinghead.media.sandbox import Sandbox, Sandboxes
from talkinghead.page.asked import DRAFT, MODEL, Asked, Box, Source, Voice, source_field
from talkinghead.page.making import Making
from talkinghead.page.place import Place
from talkinghead.page.words import Fault, fault_of
from talkinghead.settings import Settings

PREVIEW_SIDE = 960  # pixels
QUIET_SECONDS = 0.6  # after a change, before it is planned


class Person:
    """What one browser has; `changes` counts by topic, so that each tab sees what is new.

    Args:
        place: who renders.
        folder: for its files alone.
    """

    def __init__(
        self, place: Place, folder: Path, sandboxes: Sandboxes, settings: Settings
    ) -> None:
        self.place, self.folder = place, folder
        self._sandboxes, self._settings = sandboxes, settings
        self.asked = Asked(DRAFT if place.why_no_model else MODEL)
        self.changes: Counter[str] = Counter()
        self.planned: Mapping[str, Any] | None = None
        self.there: Mapping[str, Any] | None = None  # what the endpoint says of time and price
        self.fault = Fault()
        self.source_fault = ""
        self.is_planning = self.is_asking = False
        self.made: Making | None = None
        self._planning: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        folder.mkdir()

    def new_file(self, name: str) -> Path:
        """Where a file of this name goes: under another, which nobody can guess."""
        ending = re.sub(r"[^.a-z0-9]", "", Path(name).suffix.lower())[:10]
        return self.folder / f"{uuid.uuid4().hex}{ending}"

    # ---- What is put together

    async def take_source(self, path: Path, name: str) -> None:
        """Show this picture or video, if it is one."""
        field_name, shown = source_field(path), path.with_suffix(".preview.jpg")
        try:
            with self._sandboxes.open() as sandbox:
                limits = self._settings
                preview = await asyncio.to_thread(
                    preview_of, sandbox, limits, field_name, path, shown
                )
        except JobError as error:
            self.source_fault = fault_of(error).at("source") or str(error)
            self._tell("source")
            return
        self.asked.source = Source(path, name, field_name, shown, preview)
        self.planned, self.source_fault = None, ""
        self._tell("source")
        self.drop_boxes()

    def add_voice(self, path: Path, name: str) -> None:
        """One more voice, after the others."""
        self.asked.voices.append(Voice(path, name))
        self.drop_boxes()

    def remove_voice(self, voice: Voice) -> None:
        """One voice less."""
        self.asked.voices.remove(voice)
        self.drop_boxes()

    def set_box(self, voice: Voice, box: Box) -> None:
        """Say where who speaks this voice is; the others stay where they were found."""
        self.give_boxes()
        voice.box = box

    def give_boxes(self) -> None:
        """Each voice a box, to be changed."""
        self.asked.give_boxes((self.planned or {}).get("speakers_found") or [])
        self._tell("voices", "plan")
        self.touch()

    def drop_boxes(self) -> None:
        """Have who is where found again."""
        self.asked.drop_boxes()
        self._tell("voices")
        self.touch()

    # ---- What it will take

    def touch(self) -> None:
        """Something has changed: plan it, once it stays as it is for a moment."""
        if self._planning is not None:
            self._planning.cancel()
        self.there = None
        self._planning = self._begin(self._plan())

    async def _plan(self) -> None:
        await asyncio.sleep(QUIET_SECONDS)
        if self.asked.missing:
            self.planned, self.fault = None, Fault()
            self._tell("plan")
            return
        self.is_planning = True
        self._tell("plan")
        try:
            self.planned, self.fault = await self.place.plan(self.asked), Fault()
        except TalkingheadError as error:
            self.planned, self.fault = None, fault_of(error)
        finally:
            self.is_planning = False
            self._tell("plan")

    async def ask_endpoint(self) -> None:
        """Have the endpoint itself say what it will take."""
        self.is_asking = True
        self._tell("plan")
        try:
            self.there = await self.place.ask_endpoint(self.asked)
        except (TalkingheadError, OSError) as error:
            self.fault = fault_of(error)
        finally:
            self.is_asking = False
            self._tell("plan")

    # ---- The video

    @property
    def is_making(self) -> bool:
        """Whether a video is under way."""
        return self.made is not None and not self.made.is_over

    def start(self) -> None:
        """Have the video rendered, unless one is under way."""
        if self.is_making or self.asked.missing:
            return
        self.made = Making(self.place, self.asked, lambda: self._tell("making"))
        self._tell("making")
        self._begin(self.made.follow(self.new_file("video.mp4")))

    async def cancel(self) -> None:
        """Have the render end."""
        if self.made is not None:
            await self.made.cancel()

    # ---- Tasks and topics

    async def close(self) -> None:
        """The page ends: a render that nobody would see is cancelled."""
        if self.made is not None:
            await self.made.cancel()
        for task in self._tasks:
            task.cancel()

    def _begin(self, what: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _tell(self, *topics: str) -> None:
        self.changes.update(topics)


def preview_of(
    sandbox: Sandbox, limits: Settings, field_name: str, path: Path, shown: Path
) -> Preview:
    """What is shown of a picture or video, in the file `shown`.

    Raises:
        JobError: it is none.
    """
    is_video = field_name == "video_url"
    make = video_preview if is_video else picture_preview
    most = limits.max_video_megapixels if is_video else limits.max_image_megapixels
    return sandbox.call(
        field_name, make, field_name, path, shown, side=PREVIEW_SIDE, max_megapixels=most
    )
