"""The playlist that shows a long render while it goes on, in the bucket beside its video."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import av

from talkinghead import logs
from talkinghead.delivery.checkpoint import Checkpoints
from talkinghead.delivery.place import VIDEO_TYPE
from talkinghead.errors import JobError
from talkinghead.plan.windows import Window, delivered, windows
from talkinghead.render import playlist
from talkinghead.render.window_log import WindowLog

PLAYLISTS = "watch"  # the folder of all playlists under a job's key
NAME = "playlist.m3u8"
PLAYLIST_TYPE = "application/vnd.apple.mpegurl"


class LivePlaylist:
    """Has a part made of each window, and the playlist written anew, by the checkpoints' writer.

    It never costs the render anything: a fault in making a part ends the playlist alone.

    Args:
        sound: the delivered sound, which may still be being encoded.
        folder: where it lies below the job's key; jobs that go on with a render have the same.
    """

    def __init__(
        self, log: WindowLog, sound: Future[Path], checkpoints: Checkpoints, folder: str
    ) -> None:
        self._folder = folder
        self._log = log
        self._sound = sound
        self._checkpoints = checkpoints
        self._ended = False  # set and read by the writer's thread alone
        # Signing takes time, and the playlist names all of its parts again and again.
        self._url = functools.cache(self._url_of)

    @property
    def url(self) -> str:
        """Where it can be watched."""
        return self._url(NAME)

    def add_part(self, window: Window) -> None:
        """Have the window's part written, and before the first what tells the players the format.

        To be called before the window is saved, so that what a later job goes on with is shown.
        """
        if window.index == 0:
            self._put(playlist.INIT_NAME, lambda: self._make_init(window), VIDEO_TYPE)
        self._put(part_name(window), lambda: self._make_part(window), VIDEO_TYPE)

    def announce(self, made: int) -> None:
        """Have the playlist name the parts of so many windows: after they are written."""
        self._put(NAME, lambda: self._text(made).encode(), PLAYLIST_TYPE)

    def _put(self, name: str, make: Callable[[], Path | bytes], content_type: str) -> None:
        self._checkpoints.put(f"{self._folder}/{name}", lambda: self._made(make), content_type)

    def _made(self, make: Callable[[], Path | bytes]) -> Path | bytes | None:
        if self._ended:
            return None
        try:
            return make()
        except (av.FFmpegError, OSError, JobError) as error:
            self._ended = True
            logs.tell("the playlist ends", level=logging.WARNING, sentence=str(error))
            return None

    def _make_init(self, window: Window) -> Path:
        target = self._log.folder / playlist.INIT_NAME
        segment, fps = self._log.segment(window.index + 1), self._log.plan.request.fps
        playlist.write_init(segment, self._sound.result(), target, fps=fps)
        return target

    def _make_part(self, window: Window) -> Path:
        plan, target = self._log.plan, self._log.folder / part_name(window)
        playlist.write_part(
            self._log.segment(window.index + 1),
            self._sound.result(),
            target,
            first_frame=delivered(plan, window).start,
            fps=plan.request.fps,
        )
        return target

    def _text(self, made: int) -> str:
        plan = self._log.plan
        parts = [
            playlist.Part(part_name(each), len(delivered(plan, each)) / plan.request.fps)
            for each in windows(plan)
        ]
        return playlist.playlist_text(parts[:made], self._url, ended=made == len(parts))

    def _url_of(self, name: str) -> str:
        return self._checkpoints.url(f"{self._folder}/{name}") or name


def part_name(window: Window) -> str:
    """The file of a window in the playlist."""
    return f"part_{window.index + 1:05d}.m4s"
