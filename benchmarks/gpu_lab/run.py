"""The lab on the machine: models made, our graphs measured, each figure written at once."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.gpu_lab.program import BUDGET_SECONDS, Item, expected_seconds
from benchmarks.gpu_lab.weights import FULL, TINY, writers
from talkinghead.bench.configurations import plain_settings
from talkinghead.bench.measure import Bench, Row
from talkinghead.bench.report import notes, table
from talkinghead.bench.standard import Standard, write_files
from talkinghead.models.gpu import MODEL_BLOCKS, choose, read_host
from talkinghead.models.manifest import Manifest, load_manifest
from talkinghead.plan.frames import WINDOW_FRAMES
from talkinghead.settings import Settings

ROOM_BYTES = 45e9  # for the largest profile
SPARE_SECONDS = 10.0  # for the last tables and logs
FLOOR_LIMIT_SECONDS = 60.0  # the first call of SageAttention compiles its kernels
WAN_TOKENS, TINY_TOKENS = 32_760, 16
TINY_SHARE, TINY_GRID, TINY_STEPS = 10, 16, 2  # of each side, and of what the model can make
TINY_SIDE = 64  # the least that the nodes take
SHARED = ("loras", "vae", "text_encoders", "wav2vec2", "clip_vision")  # by all profiles


@dataclass
class Lab:
    """One run of the lab.

    `lab` is the unpacked archive, `out` gets what is left behind, `tiny` tries it all on a CPU.
    """

    lab: Path
    out: Path
    tiny: bool = False
    budget_seconds: float = BUDGET_SECONDS

    def __post_init__(self) -> None:
        self._begun = time.monotonic()
        self._work = Path(tempfile.mkdtemp(prefix="gpu-lab-", dir=self._roomiest()))
        self._models = self._work / "models"
        self._rows: list[dict[str, Any]] = []
        self._made: list[str] = []
        self._floor: dict[str, Any] = {}
        self.out.mkdir(parents=True, exist_ok=True)

    def run(self, items: Sequence[Item]) -> None:
        """Measure the items that there is time for, in their order."""
        try:
            self._prepare()
            self._floor = floor("cpu" if self.tiny else "cuda", tiny=self.tiny)
            self._write()
            for item in items:
                self._run(item)
                self._write()
        finally:
            shutil.rmtree(self._work, ignore_errors=True)

    def _run(self, item: Item) -> None:
        left = self.budget_seconds - SPARE_SECONDS - self._seconds
        needed = expected_seconds(item, self._made)
        if not self.tiny and needed > left:
            said = f"left out: it takes about {needed:.0f} s, and {left:.0f} s are left"
            self._rows.append({"item": item.name, "note": said})
            return
        begun, profile = self._seconds, item.profile
        written = self._make(profile)
        row = self._measured(item, left)
        seconds = {"models_written": written, "all": self._seconds - begun}
        self._rows.append({"item": item.name, "profile": profile, "seconds": seconds} | asdict(row))

    def _measured(self, item: Item, left: float) -> Row:
        settings = Settings(
            comfyui_dir=self.lab / "ComfyUI",
            comfyui_args=f"--front-end-root {self.lab / 'frontend'}",
            comfyui_cpu=self.tiny,
            models_dir=self._models,
            work_dir=self._work / "comfyui",
            model_profile=item.profile,
            attention="sdpa",  # else the host is asked whether SageAttention is right, for seconds
            job_timeout_seconds=3600 if self.tiny else left,
        )
        host, manifest = read_host(settings), load_manifest()
        tuning = choose(host, manifest, profile=item.profile, attention="sdpa")
        folder = self._work / item.place
        standard = self._standard(item)
        bench = Bench(
            settings,
            plain_settings(tuning),
            standard,
            write_files(standard, folder),
            folder,
            first=item.first,
        )
        row = bench.measure(item.configuration)
        self._keep_log(item, bench.video(item.configuration.name).with_suffix(".log"))
        return row

    def _standard(self, item: Item) -> Standard:
        if not self.tiny:
            return item.standard
        sides = (item.standard.width, item.standard.height)
        grid = (round(side / TINY_SHARE / TINY_GRID) * TINY_GRID for side in sides)
        width, height = (max(TINY_SIDE, side) for side in grid)
        return replace(item.standard, width=width, height=height, steps=TINY_STEPS)

    def _prepare(self) -> None:
        os.environ["VHS_FORCE_FFMPEG_PATH"] = str(self.lab / "ffmpeg")
        os.environ["HF_HUB_OFFLINE"] = "1"

    def _make(self, profile: str) -> float:
        """Write the files of a profile that are not there yet; returns how long that took, s.

        Those of others are deleted where there is no room: all are more than the memory holds.
        """
        begun, manifest = time.monotonic(), load_manifest()
        files = manifest.files_of(manifest.profile(profile))
        known = writers(TINY if self.tiny else FULL)
        self._drop_others(manifest, profile)
        for name, file in files.items():
            path = self._models / file.folder / name
            if name in known and not path.exists():
                known[name](path, "cpu" if self.tiny else "cuda")
        _empty_cache()
        if profile not in self._made:
            self._made.append(profile)
        return time.monotonic() - begun

    def _drop_others(self, manifest: Manifest, profile: str) -> None:
        own = manifest.profile(profile).file_names
        self._models.mkdir(exist_ok=True)
        if profile in self._made or shutil.disk_usage(self._models).free > ROOM_BYTES:
            return
        for path in self._models.glob("*/*"):
            if path.is_file() and path.parent.name not in SHARED and path.name not in own:
                path.unlink()
        self._made = [each for each in self._made if each == profile]

    def _roomiest(self) -> Path:
        """Memory, if it has room for a profile beside what is loaded of it; else the disk."""
        memory = Path("/dev/shm")
        needed = 1e9 if self.tiny else ROOM_BYTES
        roomy = memory.is_dir() and shutil.disk_usage(memory).free > needed
        return memory if roomy else self.out.absolute()

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._begun

    def _keep_log(self, item: Item, log: Path) -> None:
        with (self.out / "comfyui.log").open("a", encoding="utf-8") as file:
            file.write(f"\n======== {item.name}\n")
            if log.exists():
                file.write(log.read_text(errors="replace"))

    def _write(self) -> None:
        found = {
            "is_tiny": self.tiny,
            "seconds": round(self._seconds, 1),
            "floor": self._floor,
            "blocks": MODEL_BLOCKS,
            "window_frames": WINDOW_FRAMES,
            "items": self._rows,
        }
        fresh = self.out / "lab.json.new"
        fresh.write_text(json.dumps(found, indent=1))
        fresh.replace(self.out / "lab.json")
        (self.out / "lab.txt").write_text(text_of(found))


def floor(device: str, *, tiny: bool) -> dict[str, Any]:
    """What `floor.py` measures, in a process of its own; what it says instead, if it fails."""
    tokens, limit = (TINY_TOKENS, None) if tiny else (WAN_TOKENS, FLOOR_LIMIT_SECONDS)
    command = [sys.executable, "-m", "benchmarks.gpu_lab.floor", device, str(tokens)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=True)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.CalledProcessError as error:
        return {"fails": error.stderr[-2000:]}
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return {"fails": str(error)[:2000]}
    return found


def text_of(found: dict[str, Any]) -> str:
    """The figures for people."""
    from rich.console import Console  # noqa: PLC0415

    rows = [_row(each) for each in found["items"] if "state" in each]
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(json.dumps(found["floor"], indent=1))
    console.print(table(rows))
    for note in notes(rows):
        console.print(note)
    for each in found["items"]:
        if "state" not in each:
            console.print(f"{each['item']}: {each['note']}")
    return console.export_text()


def _row(item: dict[str, Any]) -> Row:
    fields = {name: item[name] for name in Row.__dataclass_fields__}
    return Row(**{**fields, "name": item["item"]})


def _empty_cache() -> None:
    """Give the card back what making the weights took: ComfyUI is another process."""
    import torch  # noqa: PLC0415

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
