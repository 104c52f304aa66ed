"""One configuration measured: rendered twice by the code that a job uses, and looked at."""

from __future__ import annotations

import contextlib
import datetime
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from talkinghead.bench.configurations import PLAIN, Configuration
from talkinghead.bench.distance import distance
from talkinghead.bench.standard import MODE, PICTURE, Standard
from talkinghead.bench.watching import Peaks, Steps
from talkinghead.comfy.studio import Studio
from talkinghead.delivery.file import FilePlace
from talkinghead.errors import JobError
from talkinghead.media.inspection import look_at
from talkinghead.models.choice import Value
from talkinghead.plan.frames import MODEL_FPS, WINDOW_FRAMES
from talkinghead.plan.pace import window_seconds
from talkinghead.plan.talk_models import MODELS
from talkinghead.render.dry_run import plan_of
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.render.run import render
from talkinghead.settings import Settings

WINDOW_SECONDS = WINDOW_FRAMES / MODEL_FPS, MODELS[MODE].new_frames() / MODEL_FPS
FIRST_STEPS = 2  # of the first render, which loads the models and compiles kernels


@dataclass(frozen=True)
class Row:
    """What was found of a configuration. Times are in seconds, memory in GiB.

    `window_seconds` are of the whole render, encoders and VAE included, models loaded; of a video
    second, too. `load_seconds` is what the first render took longer. `defect` is why a worker would
    not deliver the picture. `psnr_db` and `ssim` are against the plain configuration's: None of
    equal frames, or of none to compare with. `note` is why there are no figures, or not all.
    """

    name: str
    settings: Mapping[str, Value]
    fields: Mapping[str, Value]
    can_be_chosen: bool
    state: Literal["measured", "failed", "left out"]
    note: str | None = None
    measured_at: str | None = None
    step_seconds: float | None = None
    window_seconds: float | None = None
    video_second_seconds: float | None = None
    times_published: float | None = None
    load_seconds: float | None = None
    vram_gib: float | None = None
    torch_gib: float | None = None
    ram_gib: float | None = None
    psnr_db: float | None = None
    ssim: float | None = None
    defect: str | None = None


@dataclass(frozen=True)
class Rendered:
    """One render of the standard: its seconds, those of a step, the steps of a window, the rest.

    `window_seconds` are those of a window after the first, as a worker measures them; None of one.
    """

    seconds: float
    step_seconds: float | None
    steps: int
    rest_seconds: float
    window_seconds: float | None = None


@dataclass(frozen=True)
class Bench:
    """What is the same for all configurations.

    `plain` are the plain one's settings, `files` the fields that name picture and voices, `folder`
    gets a video of each configuration, and its ComfyUI's log. `report` is told how far each render
    is. Without a `first` render, windows are timed as a worker does that has several, and a single
    one by its steps and what comes after them.
    """

    settings: Settings
    plain: Mapping[str, Value]
    standard: Standard
    files: Mapping[str, Any]
    folder: Path
    report: Callable[[Progress], None] = lambda progress: None
    first: bool = True

    def video(self, name: str) -> Path:
        """Where the video of a configuration goes; its log is beside it, as NAME.log."""
        return self.folder / f"{name.replace(' ', '-')}.mp4"

    def measure(self, configuration: Configuration) -> Row:
        """The configuration's row; of one that fails, why. Its ComfyUI is its own."""
        name = configuration.name
        settings = {**self.plain, **configuration.settings}
        row = Row(name, settings, configuration.fields, configuration.can_be_chosen, "failed")
        ours = self.settings.model_copy(update=settings)
        place = FilePlace(self.video(name))
        place.path.unlink(missing_ok=True)
        try:
            with (
                Studio(ours, store=place, local_files=True, is_bench=True) as studio,
                self._logged(studio, name),
            ):
                plan = plan_of(self.standard.request(self.files, configuration.fields), studio)
                with Peaks(studio) as peaks:
                    quick = {**configuration.fields, "steps": FIRST_STEPS}
                    first = self._render(studio, quick) if self.first else None
                    made = self._render(studio, configuration.fields)
                if self.standard.windows > 1 and (seen := studio.pace.measured(plan)):
                    made = replace(made, window_seconds=seen.window_seconds)
            row = _with_memory(_with_times(row, self.standard, first, made), peaks)
            assert row.window_seconds is not None, "it was measured"
            times = row.window_seconds / window_seconds(plan)
            return self._with_picture(replace(row, times_published=times))
        except JobError as error:
            if tail := error.details.get("log_tail"):  # the log itself went with a dead ComfyUI
                self.video(name).with_suffix(".log").write_text(str(tail), encoding="utf-8")
            return replace(row, note=f"{error.code}: {str(error).splitlines()[0]}")

    @contextlib.contextmanager
    def _logged(self, studio: Studio, name: str) -> Iterator[None]:
        """Keep ComfyUI's log, which goes with its folders."""
        try:
            yield
        finally:
            if studio.server is not None and studio.server.folders.log.exists():
                shutil.copyfile(studio.server.folders.log, self.video(name).with_suffix(".log"))

    def _render(self, studio: Studio, fields: Mapping[str, Value]) -> Rendered:
        steps = Steps(self.report)
        job = Job("bench", dict(self.files), report=steps.see)
        job.timeout_seconds = studio.settings.job_timeout_seconds
        result = render(job, self.standard.request(self.files, fields), studio)
        count = result["generation_params"]["steps"]
        return Rendered(job.timings["render"], steps.step_seconds, count, steps.rest_seconds)

    def _with_picture(self, row: Row) -> Row:
        """The row with what a worker would say of the picture, and its distance from plain."""
        video = self.video(row.name)
        with TemporaryDirectory(prefix="talkinghead-bench-") as folder:
            seen = look_at(
                video.name,
                video,
                Path(folder),
                window_seconds=WINDOW_SECONDS,
                source=self.folder / PICTURE,
                max_megapixels=self.settings.max_image_megapixels,
            )
        row = replace(row, defect=seen.defect)
        if row.name == PLAIN or not self.video(PLAIN).exists():
            return row
        found = distance(video, self.video(PLAIN))
        if found is None:
            return replace(row, note="its frames cannot be compared: they are of another number")
        return replace(row, psnr_db=found.psnr_db, ssim=found.ssim)


def _with_times(row: Row, standard: Standard, first: Rendered | None, made: Rendered) -> Row:
    """The row, measured: by the last render, and a first one by what it took longer."""
    step, seconds = made.step_seconds or 0.0, made.seconds
    if first is None:
        window = made.window_seconds or made.steps * step + made.rest_seconds
        seconds = standard.windows * window
        load = made.seconds - seconds
    else:
        fewer = standard.windows * (made.steps - first.steps)
        load = first.seconds - (seconds - fewer * step)
    return replace(
        row,
        state="measured",
        measured_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        step_seconds=made.step_seconds,
        window_seconds=seconds / standard.windows,
        video_second_seconds=seconds / standard.seconds,
        load_seconds=max(0.0, load),
    )


def _with_memory(row: Row, peaks: Peaks) -> Row:
    return replace(row, vram_gib=peaks.vram, torch_gib=peaks.torch, ram_gib=peaks.ram)
