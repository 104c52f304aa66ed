"""One configuration measured: rendered twice by the code that a job uses, and looked at."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
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
    """One render of the standard: its seconds, those of a step, and the steps of a window."""

    seconds: float
    step_seconds: float | None
    steps: int


@dataclass(frozen=True)
class Bench:
    """What is the same for all configurations.

    `plain` are the plain one's settings, `files` the fields that name picture and voices, `folder`
    gets a video of each configuration. `report` is told how far each render is.
    """

    settings: Settings
    plain: Mapping[str, Value]
    standard: Standard
    files: Mapping[str, Any]
    folder: Path
    report: Callable[[Progress], None] = lambda progress: None

    def video(self, name: str) -> Path:
        """Where the video of a configuration goes."""
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
            with Studio(ours, store=place, local_files=True) as studio, Peaks(studio) as peaks:
                published = self._published_seconds(studio, configuration)
                first = self._render(studio, {**configuration.fields, "steps": FIRST_STEPS})
                made = self._render(studio, configuration.fields)
            row = _with_memory(_with_times(row, self.standard, first, made), peaks)
            times = made.seconds / self.standard.windows / published
            return self._with_picture(replace(row, times_published=times))
        except JobError as error:
            return replace(row, note=f"{error.code}: {str(error).splitlines()[0]}")

    def _published_seconds(self, studio: Studio, configuration: Configuration) -> float:
        """What others' figures say that an RTX 4090 takes for one window."""
        request = self.standard.request(self.files, configuration.fields)
        return window_seconds(plan_of(request, studio))

    def _render(self, studio: Studio, fields: Mapping[str, Value]) -> Rendered:
        steps = Steps(self.report)
        job = Job("bench", dict(self.files), report=steps.see)
        job.timeout_seconds = studio.settings.job_timeout_seconds
        result = render(job, self.standard.request(self.files, fields), studio)
        count = result["generation_params"]["steps"]
        return Rendered(job.timings["render"], steps.step_seconds, count)

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


def _with_times(row: Row, standard: Standard, first: Rendered, made: Rendered) -> Row:
    """The row, measured: by the second render, and the first by what it took longer."""
    fewer = standard.windows * (made.steps - first.steps)
    warm = made.seconds - fewer * (made.step_seconds or 0.0)
    return replace(
        row,
        state="measured",
        measured_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        step_seconds=made.step_seconds,
        window_seconds=made.seconds / standard.windows,
        video_second_seconds=made.seconds / standard.seconds,
        load_seconds=max(0.0, first.seconds - warm),
    )


def _with_memory(row: Row, peaks: Peaks) -> Row:
    return replace(row, vram_gib=peaks.vram, torch_gib=peaks.torch, ram_gib=peaks.ram)
