"""What was measured, in a JSON file that is written after each configuration, and as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from pydantic import TypeAdapter, ValidationError
from rich.markup import escape
from rich.table import Table

from talkinghead.bench.configurations import PLAIN
from talkinghead.bench.measure import Row
from talkinghead.bench.standard import Standard
from talkinghead.files import read_json
from talkinghead.models.choice import Machine

# Clocks and other load change a render by so much: what is not quicker by more is as quick.
LEAST_GAIN = 0.02
# Of pictures that are the same but for rounding. Not calibrated: no card was there to do it on.
LEAST_SSIM = 0.7
BAR_WIDTH = 8  # all of it goes into the 80 columns of a terminal


class OtherBench(Exception):
    """The file holds another measurement, or none; the message says what."""


@dataclass(frozen=True)
class _Content:
    machine: Machine
    profile: str
    standard: Standard
    rows: tuple[Row, ...] = ()


CONTENT = TypeAdapter(_Content)


@dataclass
class Report:
    """The rows of one bench of one machine, in the order in which they came."""

    path: Path
    machine: Machine
    profile: str
    standard: Standard
    rows: list[Row] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path, machine: Machine, profile: str, standard: Standard) -> Self:
        """A new one, or what an earlier call has left of the same.

        Raises:
            OtherBench: the file is there, and is no part of this bench.
            OSError: it cannot be read.
        """
        report = cls(path, machine, profile, standard)
        if not path.exists():
            return report
        try:
            found = CONTENT.validate_python(read_json(path))
        except ValidationError as error:
            raise OtherBench(f"{path} holds no bench: {error.errors()[0]['msg']}") from None
        except ValueError as error:
            raise OtherBench(f"{path} holds no bench: {error}") from None
        theirs = found.machine, found.profile, found.standard
        if theirs != (machine, profile, standard):
            other = f"{found.standard}, profile {found.profile}, on {found.machine}"
            raise OtherBench(f"{path} holds another bench: {other}; `--json` names another file")
        # What failed may go well now: models are there that were missing, or room on the disk.
        report.rows = [each for each in found.rows if each.state == "measured"]
        return report

    def add(self, row: Row) -> None:
        """Take a row, in place of one of its name, and write the file."""
        self.rows = [each for each in self.rows if each.name != row.name] + [row]
        content = _Content(self.machine, self.profile, self.standard, tuple(self.rows))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_name(f"{self.path.name}.new")
        fresh.write_text(json.dumps(asdict(content), indent=1), encoding="utf-8")
        fresh.replace(self.path)

    def row(self, name: str) -> Row | None:
        """That of a configuration, if it was measured, failed or was left out."""
        return next((each for each in self.rows if each.name == name), None)

    @property
    def plain(self) -> Row | None:
        """What the others are compared with; None until it is measured."""
        row = self.row(PLAIN)
        return row if row is not None and row.state == "measured" else None

    @property
    def quicker(self) -> list[Row]:
        """What a worker may take and is quicker than the plain one, the quickest first."""
        plain = self.plain
        if plain is None:
            return []
        limit = (1 - LEAST_GAIN) * _seconds(plain)
        fit = [each for each in self.rows if each.can_be_chosen and is_sound(each, plain)]
        return sorted((each for each in fit if _seconds(each) < limit), key=_seconds)

    @property
    def best(self) -> Row | None:
        """What a worker on this machine should take; None of a bench whose plain one failed."""
        return next(iter(self.quicker), self.plain)


def is_sound(row: Row, plain: Row) -> bool:
    """Whether it was measured, and its picture is that of the plain one but for rounding."""
    if row.state != "measured" or (row.defect and not plain.defect):
        return False
    return row.ssim is not None and row.ssim >= LEAST_SSIM


def _seconds(row: Row) -> float:
    assert row.window_seconds is not None, "it was measured"
    return row.window_seconds


def table(rows: Sequence[Row]) -> Table:
    """For people: what each configuration takes, and how far it is from the plain one's picture.

    Seconds are of a step, a window, a second of video, and of loading; memory is in GiB.
    """
    drawn = Table(box=None, pad_edge=False, collapse_padding=True)
    drawn.add_column("configuration", no_wrap=True)
    for column in ("step s", "window s", "video s", "", "load s", "VRAM", "RAM", "PSNR", "SSIM"):
        drawn.add_column(column, justify="right" if column else "left", no_wrap=True)
    slowest = max((_seconds(each) for each in rows if each.state == "measured"), default=0.0)
    for row in rows:
        drawn.add_row(*_cells(row, slowest))
    return drawn


def _cells(row: Row, slowest: float) -> list[str]:
    if row.state != "measured":
        return [f"[dim]{escape(row.name)}: {row.state}[/]"]
    bar = "█" * max(1, round(BAR_WIDTH * _seconds(row) / slowest)) if slowest else ""
    times = (row.step_seconds, row.window_seconds, row.video_second_seconds)
    is_equal = row.ssim is not None and row.psnr_db is None
    return [
        escape(row.name),
        *(_text(each, 2) for each in times),
        bar,
        _text(row.load_seconds, 1),
        _text(row.vram_gib, 1),
        _text(row.ram_gib, 1),
        "equal" if is_equal else _text(row.psnr_db, 1),
        _text(row.ssim, 3),
    ]


def notes(rows: Sequence[Row]) -> list[str]:
    """Why rows have no figures, and what is wrong with pictures."""
    said = [f"{each.name}: {each.note}" for each in rows if each.note]
    return said + [f"{each.name}: {each.defect}" for each in rows if each.defect]


def _text(figure: float | None, digits: int) -> str:
    return "" if figure is None else f"{figure:.{digits}f}"
