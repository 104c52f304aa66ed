"""The ledger of a render that goes on: what of it is stored, under which names, and how it is told.

Under the job's key lie, in `checkpoint/` and a folder of the render's own there: the segments, the
motion states of the last two windows, and the ledger, written last: what it names is there. The
folder is named by what decides the frames, so that renders that differ in it, under one id,
never meet. Every run of a render gives its files names of its own, the ledger too, so that workers
that do the same at the same time, or one that was taken for lost, overwrite nothing of each other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from talkinghead.errors import CheckpointRefused
from talkinghead.files import hash_of

FOLDER = "checkpoint/"
# The one name that is found by keys which may not list: all runs of a render share it there.
LEDGER = "ledger.json"
# Older versions of the worker wrote no folder for each render: theirs is listed, told and removed.
OLDER_LEDGER = FOLDER + LEDGER
ANY_LEDGER = re.compile(r".*/ledger(_[0-9a-f]{8})?\.json")
# What may be deleted: in a bucket, folders of this name may be somebody else's.
OURS = re.compile(
    FOLDER + r"([0-9a-f]{32}/)?(ledger(_[0-9a-f]{8})?|(segment|motion)_\d{5,}_[0-9a-f]{8})"
    r"\.(json|mp4|latent|part)(\.[0-9a-f]{8}\.part)?"
)
SHOWN = 12  # of a sum's digits, in a message
MARKS = 2  # should the last window's files be damaged, the one before is continued
OTHERS = {
    "picture": "another picture",
    "voices": "other voices",
    "masks": "other masks",
    "plan": "another plan",
    "workflow": "another workflow",
    "packs": "other node packs",
    "models": "other model files",
}


@dataclass(frozen=True)
class Mark:
    """A window after which the render can go on.

    `chain` is the sum of all segments up to it, SHA-256(chain before + SHA-256(segment)), as text
    in hex; `motion` is the SHA-256 of its motion state.
    """

    window: int
    chain: str
    motion: str


@dataclass(frozen=True)
class Run:
    """A worker's turn at the render: its files' names hold the token, from window `first` on."""

    first: int
    token: str


@dataclass(frozen=True)
class Ledger:
    """What a checkpoint is of, and how far it is.

    `fit` is what has to be equal to go on, and `state` how the last window was made, which may
    change on the way. `request_hash` is that of the job that wrote it. Windows are counted from 1.
    """

    fit: Mapping[str, str]
    seed: int
    windows: int
    state: Mapping[str, Any] = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()
    runs: tuple[Run, ...] = ()
    request_hash: str = ""
    version: Literal[2] = 2

    @property
    def windows_done(self) -> int:
        """How many windows there are, from the first on."""
        return self.marks[-1].window if self.marks else 0

    @property
    def progress(self) -> str:
        """How far it is, for people."""
        return f"{self.windows_done} of {self.windows} windows"

    def name(self, token: str | None) -> str:
        """What the store calls it, if it is that of the run with this token; None: of any run."""
        own = LEDGER if token is None else f"ledger_{token}.json"
        return folder_of(self.fit) + own

    def stored(self, name: str, window: int) -> str:
        """What the store calls the segment or motion state of a window."""
        token = next((run.token for run in reversed(self.runs) if run.first <= window), "")
        stem, _, suffix = name.partition(".")
        return f"{folder_of(self.fit)}{stem}_{token}.{suffix}"

    def going_on(self, stored: Ledger | None) -> Ledger:
        """This ledger, as far as the one that is stored."""
        return replace(self, marks=stored.marks, runs=stored.runs) if stored else self

    def with_window(self, window: int, *, segment: str, motion: str, token: str) -> Ledger:
        """The ledger with one window more, of the run with this token.

        `segment` and `motion` are the SHA-256 of its files. Only the last MARKS stay: the ledger
        does not grow with the windows.
        """
        before = self.marks[-1].chain if self.marks else ""
        mark = Mark(window, _chain(before, segment), motion)
        known = any(run.token == token for run in self.runs)
        runs = self.runs if known else (*self.runs, Run(window, token))
        return replace(self, marks=(*self.marks, mark)[-MARKS:], runs=runs)

    def whole_marks(self, segments: Iterable[str | None]) -> Iterator[tuple[Mark, Ledger]]:
        """The marks that these segments bear out, the last first, each with the ledger up to it.

        `segments` are the SHA-256 of what was found, from the first window on, None for what was
        not.
        """
        chains = list(_chained(segments))
        for count in range(len(self.marks), 0, -1):
            mark = self.marks[count - 1]
            if chains[mark.window - 1 : mark.window] == [mark.chain]:
                yield mark, replace(self, marks=self.marks[:count])

    def refusal(self, job: str, fit: Mapping[str, str]) -> CheckpointRefused:
        """Why a render with this `fit` cannot go on from it, in one sentence, and what to do."""
        names = [name for name in {**self.fit, **fit} if self.fit.get(name) != fit.get(name)]
        differs = {name: [self.fit.get(name), fit.get(name)] for name in names}
        other = ", ".join(
            f"{OTHERS.get(name, f'another {name}')} ({name}: {_shown(then)} there, "
            f"{_shown(now)} here)"
            for name, (then, now) in differs.items()
        )
        reason = f"the checkpoint of {job}, {self.progress}, was made with {other}"
        return CheckpointRefused(
            f"{reason}; to finish it, use the same again; {_anew(job)}",
            reason=reason,
            differs=differs,
            windows=self.windows,
            windows_done=self.windows_done,
        )

    def as_json(self) -> bytes:
        """The content of its file."""
        return _LEDGER.dump_json(self)


_LEDGER = TypeAdapter(Ledger)


def parse_ledger(job: str, content: bytes) -> Ledger:
    """The ledger in a file's content.

    Raises:
        CheckpointRefused: it is no ledger that this worker can read.
    """
    try:
        return _LEDGER.validate_json(content)
    except ValidationError:
        raise unreadable(
            job, "cannot be read: it is damaged, or another version of the worker made it"
        ) from None


def unreadable(job: str, why: str) -> CheckpointRefused:
    """The refusal of a checkpoint whose ledger says nothing to this worker."""
    reason = f"the checkpoint of {job} {why}"
    return CheckpointRefused(f"{reason}; {_anew(job)}", reason=reason)


def folder_of(fit: Mapping[str, str]) -> str:
    """The folder of a render's checkpoint, below the job's key."""
    return f"{FOLDER}{sum_of(fit)}/"


def sum_of(fit: Mapping[str, str]) -> str:
    """What tells a render from all others, in 32 digits."""
    return hash_of(fit)[:32]


def _shown(value: str | None) -> str:
    return value[:SHOWN] if value else "none"


def segment_name(window: int) -> str:
    """The file of a window's frames; windows are counted from 1."""
    return f"segment_{window:05}.mp4"


def motion_name(window: int) -> str:
    """The file of a window's motion state."""
    return f"motion_{window:05}.latent"


def _chain(before: str, sha256: str) -> str:
    return hashlib.sha256((before + sha256).encode()).hexdigest()


def _chained(sums: Iterable[str | None]) -> Iterator[str]:
    """The chain up to each window, as far as none is missing."""
    chain = ""
    for sha256 in sums:
        if sha256 is None:
            return
        chain = _chain(chain, sha256)
        yield chain


def _anew(job: str) -> str:
    return (
        "to start anew, give another request_id, or remove it with `talkinghead checkpoints "
        f"remove {job}`"
    )
