"""One bench: which configurations there are for a host, and each of them measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from talkinghead.bench.configurations import (
    PLAIN,
    TOGETHER,
    Configuration,
    configurations,
    plain_settings,
    together,
    why_not,
)
from talkinghead.bench.measure import Bench, Row
from talkinghead.bench.report import Report
from talkinghead.bench.standard import Standard, write_files
from talkinghead.comfy.pins import pins
from talkinghead.errors import SettingsExcluded
from talkinghead.models.choice import Value, machine_of
from talkinghead.models.gpu import Host, choose, read_host, tuning_for
from talkinghead.models.manifest import Manifest, load_manifest
from talkinghead.models.store import ModelStore
from talkinghead.render.progress import Progress
from talkinghead.settings import Settings


class CannotBench(Exception):
    """Nothing can be measured here; the message says why, and what to do."""


@dataclass(frozen=True)
class Told:
    """Who is told: which configuration begins, of how many; its row; how far it is."""

    begin: Callable[[str, int, int], None] = lambda name, number, total: None
    row: Callable[[Row], None] = lambda row: None
    step: Callable[[Progress], None] = lambda progress: None


class Run:
    """The bench of this host, whose rows are in the report's file as soon as they are known.

    Raises:
        CannotBench: there is a GPU, and nobody who tells of it.
        OtherBench: the file holds something else.
        ModelsMissing: MODEL_PROFILE names no profile.
        OSError: a file cannot be written.
    """

    def __init__(self, settings: Settings, standard: Standard, path: Path, told: Told) -> None:
        path = path.absolute()
        # With `auto` the host is asked whether SageAttention runs, whatever is set by hand.
        settings = settings.model_copy(update={"attention": "auto"})
        self._host, self._manifest = read_host(settings), load_manifest()
        if self._host.gpu is None and not settings.on_cpu:
            raise CannotBench("nvidia-smi does not answer: check the driver of the host")
        tuning = choose(
            self._host, self._manifest, profile=settings.model_profile, attention="sdpa"
        )
        self._plain = plain_settings(tuning)
        machine = machine_of(settings, self._host, pins(settings, {}))
        self.report = Report.open(path, machine, tuning.profile, standard)
        files = write_files(standard, path.parent)
        self._bench = Bench(settings, self._plain, standard, files, path.parent, told.step)
        self._settings = settings
        self._told = told

    def measure(self) -> Report:
        """Measure what an earlier call has left, and then what was quicker, all at once.

        Without a plain one that can be measured nothing else is: there is nothing to compare with.
        """
        others = dict(_other_profiles(self.report.profile, self._host, self._manifest))
        wanted = [*configurations(self._plain, others)]
        self.report.rows = [row for row in self.report.rows if self._holds(row, wanted)]
        for number, each in enumerate(wanted):
            self._measure(each, number, len(wanted))
            if self.report.plain is None:
                return self.report
        by_name = {each.name: each for each in wanted}
        quicker = [by_name[row.name] for row in self.report.quicker if row.name in by_name]
        if (all_at_once := together(quicker)) is not None:
            self._measure(all_at_once, len(wanted), len(wanted) + 1)
        return self.report

    def _measure(self, each: Configuration, number: int, total: int) -> None:
        self._told.begin(each.name, number, total)
        row = self.report.row(each.name)
        if row is None or not self._holds(row, [each]):  # what was quicker then, was something else
            reason = self._missing(each) or self._refused(each)
            reason = reason or why_not(each, self._plain, self._host, self._manifest)
            row = self._left_out(each, reason) if reason else self._bench.measure(each)
            self.report.add(row)
            self._told.row(row)

    def _holds(self, row: Row, known: Sequence[Configuration]) -> bool:
        """Whether an earlier call's row is still of one of these, and plain's can be looked at."""
        if row.name == TOGETHER and len(known) > 1:
            return True  # which settings are in it, is known last
        if row.name == PLAIN and not self._bench.video(PLAIN).exists():
            return False
        return any(
            (row.name, row.settings, row.fields)
            == (each.name, {**self._plain, **each.settings}, each.fields)
            for each in known
        )

    def _missing(self, each: Configuration) -> str | None:
        """Which files of another profile are not on this host; their sums are not taken."""
        if "model_profile" not in each.settings:
            return None  # what the host's own lacks, its first render tells
        profile = self._manifest.profile(str(each.settings["model_profile"]))
        files, store = self._manifest.files_of(profile), ModelStore(self._settings)
        missing = [name for name, file in files.items() if not any(store.candidates(name, file))]
        return f"not here: {', '.join(missing)}" if missing else None

    def _refused(self, each: Configuration) -> str | None:
        """Why settings of it do not go together."""
        update = {**self._plain, **each.settings}
        try:
            tuning_for(self._settings.model_copy(update=update), self._manifest, self._host)
        except SettingsExcluded as error:
            return str(error)
        return None

    def _left_out(self, each: Configuration, reason: str) -> Row:
        settings = {**self._plain, **each.settings}
        return Row(each.name, settings, each.fields, each.can_be_chosen, "left out", note=reason)


def _other_profiles(
    own: str, host: Host, manifest: Manifest
) -> Iterator[tuple[str, Mapping[str, Value]]]:
    """The other profiles of the same kind, for cards or tiny, that the host has room for."""
    is_tiny, vram = manifest.profile(own).needs is None, host.gpu.vram_gib if host.gpu else 0.0
    for name, profile in manifest.profiles.items():
        needs = profile.needs
        fits = needs is None or (needs.gpu <= vram and needs.host <= host.ram_gib)
        if name != own and (needs is None) == is_tiny and fits:
            yield name, plain_settings(choose(host, manifest, profile=name, attention="sdpa"))
