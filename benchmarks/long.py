"""Memory, disk and pace of a long render, window by window: `python -m benchmarks.long`.

The worker is a process of its own: ComfyUI with the doubles of tests/doubles as its child, inputs
over HTTP, checkpoints and delivery on an S3 server, all on this machine. A double takes no time for
a step: what is left is the worker's part, ComfyUI's own, and the encoder's. Only the first window
takes its time, as all do on a GPU: the sound of an hour is encoded beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.overhead import peak_mib, services
from talkinghead.comfy.studio import Studio
from talkinghead.comfy.warm_up import warm_up
from talkinghead.plan.frames import MODEL_FPS, WINDOW_FRAMES
from talkinghead.plan.talk_models import MODELS
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.render.run import run_job
from talkinghead.settings import PROJECT_DIR, Settings

WINDOWS = 1250  # an hour
SIDE = 256  # pixels: the least that a request may ask for
TIMEOUT_SECONDS = "36000"
SHOWN = 1, 10, 50, 100, 250, 500, 1000, 1250
FIRST_STEP_SECONDS = 25  # of the first window: four steps, longer than the sound is encoded
WARM = 10  # the window that the others are judged by: models, buffers and caches are there
GROWTH = 0.05
STAYS = 10  # windows in a row, the least of which is what stays: files on their way are in RAM
PACE_FROM, PACE_TO, PACE_LAST = 10, 60, 50  # windows at the beginning against so many at the end
SMOOTHED = 20  # windows
MIB = 1 << 20


@dataclass(frozen=True)
class Process:
    """What a process has. Bytes in RAM: all, and those that no file backs; CPU time in seconds."""

    all: int
    private: int
    cpu: float
    threads: int
    files: int


@dataclass(frozen=True)
class Sample:
    """After a window: `seconds` that it took, `disk` bytes in the job's and ComfyUI's folders."""

    window: int
    seconds: float
    disk: int
    worker: Process
    comfyui: Process


@dataclass(frozen=True)
class Render:
    """A whole render: `peak_disk` when the video is joined, what the worker said at its end."""

    samples: Sequence[Sample]
    peak_disk: int
    source: int
    said: dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=WINDOWS)
    parser.add_argument("--playlist", action="store_true", help="keep a playlist as well")
    parser.add_argument("--picture", type=Path, default=PROJECT_DIR / "out" / "long.png")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        render = measure(Path(name), chosen.windows, playlist=chosen.playlist)
    chosen.picture.parent.mkdir(parents=True, exist_ok=True)
    samples = json.dumps([asdict(sample) for sample in render.samples])
    chosen.picture.with_suffix(".json").write_text(samples)
    report(render)
    draw(render.samples, chosen.picture)


def seconds_of(windows: int) -> float:
    """The longest sound of so many windows."""
    new = MODELS["infinitetalk"].new_frames()
    return (WINDOW_FRAMES + (windows - 1) * new) / MODEL_FPS


def write_voice(target: Path, seconds: float) -> Path:
    """A WAV of so many seconds: the example voice, again and again."""
    with wave.open(str(PROJECT_DIR / "examples" / "voice.wav")) as voice:
        sample, rate = voice.readframes(voice.getnframes()), voice.getframerate()
        with wave.open(str(target), "wb") as file:
            file.setparams(voice.getparams())
            left = round(seconds * rate) * len(sample) // voice.getnframes()
            while left > 0:
                file.writeframes(sample[:left])
                left -= len(sample)
    return target


def measure(folder: Path, windows: int, *, playlist: bool) -> Render:
    """Let a worker render, and watch it."""
    with services(folder) as (environment, request):
        voice = write_voice(folder / "served" / "voice.wav", seconds_of(windows))
        order = request | {"width": SIDE, "height": SIDE, "long": True, "playlist": playlist}
        temporary, control = folder / "tmp", folder / "control.json"
        temporary.mkdir()
        control.write_text(json.dumps({"step_seconds": FIRST_STEP_SECONDS}))
        environment |= {
            "TMPDIR": str(temporary),
            "DOUBLES_CONTROL": str(control),
            "JOB_TIMEOUT_SECONDS": TIMEOUT_SECONDS,
        }
        worker = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.long", "worker"],
            env=environment,
            cwd=PROJECT_DIR,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        tell(worker, json.dumps(order))
        watched = [temporary, Path(environment["WORK_DIR"])]
        render = watch(worker, watched, voice.stat().st_size, control)
        if worker.wait() or "error" in render.said:
            sys.exit(f"the worker failed: {render.said}")
    return render


def tell(worker: subprocess.Popen[str], line: str) -> None:
    assert worker.stdin is not None
    print(line, file=worker.stdin, flush=True)


def watch(
    worker: subprocess.Popen[str], folders: Sequence[Path], source: int, control: Path
) -> Render:
    """Sample worker, ComfyUI and disk after each window: the worker waits for that."""
    assert worker.stdout is not None
    samples: list[Sample] = []
    said: dict[str, Any] = {}
    peak_disk = 0
    for line in worker.stdout:
        said = json.loads(line)
        disk = sum(map(bytes_in, folders))
        peak_disk = max(peak_disk, disk)
        if "window" in said:
            (comfyui,) = children(worker.pid)
            both = look_at(worker.pid), look_at(comfyui)
            samples.append(Sample(said["window"], said["seconds"], disk, *both))
            control.unlink(missing_ok=True)
            tell(worker, "go on")
    return Render(samples, peak_disk, source, said)


def bytes_in(folder: Path) -> int:
    """Of all files below a folder; links are nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(f"{parent}/{name}").st_size
            except FileNotFoundError:
                continue
    return total


def children(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for path in found for child in path.read_text().split()]


def look_at(process: int) -> Process:
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    sizes = {name: int(number) for name, number in re.findall(r"^(\w+):\s+(\d+)", status, re.M)}
    files = len(list(Path(f"/proc/{process}/fd").iterdir()))
    private = sizes["RssAnon"] + sizes["RssShmem"]
    times = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    cpu = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
    return Process(1024 * sizes["VmRSS"], 1024 * private, cpu, sizes["Threads"], files)


def report(render: Render) -> None:
    """Print the table and what came out."""
    samples = render.samples
    print(
        "| window | worker: private, all (MiB) | ComfyUI: private, all (MiB) | disk (MB) "
        "| s a window: clock, CPU | threads, files of the worker; of ComfyUI |\n"
        "|---|---|---|---|---|---|"
    )
    for sample in samples:
        if sample.window in SHOWN or sample is samples[-1]:
            print(row(sample, samples))
    for name in ("worker", "comfyui"):
        for kind in ("private", "all"):
            print(growth(name, kind, [getattr(getattr(each, name), kind) for each in samples]))
    early, late = samples[PACE_FROM - 1 : PACE_TO], samples[-PACE_LAST - 1 :]
    for name, per_window in (("seconds", pace), ("CPU seconds", cpu_pace)):
        first, last = per_window(early), per_window(late)
        print(
            f"{name} a window, from {PACE_FROM} to {PACE_TO}: {first:.3f}, of the last "
            f"{PACE_LAST}: {last:.3f}, {last / first:.2f} times as much"
        )
    said = render.said
    print(
        f"disk at most {render.peak_disk / 1e6:.0f} MB, {render.source / 1e6:.0f} MB of it the "
        f"sound as it came; the estimate, without that: {1000 * said['disk_gb']:.0f} MB"
    )
    print(f"the worker's peak, joining included: {said['peak_mib']:.0f} MiB (all)")
    print(f"{said['video_info']}, stages: {said['timings']}")


def row(sample: Sample, samples: Sequence[Sample]) -> str:
    """A line of the table; the seconds are those of the last ten windows."""
    mib = [
        f"{each.private / MIB:.1f}, {each.all / MIB:.1f}"
        for each in (sample.worker, sample.comfyui)
    ]
    recent = samples[max(0, sample.window - 11) : sample.window]
    seconds = f"{pace(recent):.3f}, {cpu_pace(recent):.3f}"
    counts = [f"{each.threads}, {each.files}" for each in (sample.worker, sample.comfyui)]
    return (
        f"| {sample.window} | {' | '.join(mib)} | {sample.disk / 1e6:.0f} | {seconds} "
        f"| {'; '.join(counts)} |"
    )


def growth(name: str, kind: str, values: Sequence[int]) -> str:
    """The verdict on a process's memory from window WARM on, against that of it."""
    later = values[WARM - 1 :]
    stays = [min(later[at : at + STAYS]) for at in range(max(1, len(later) - STAYS + 1))]
    changes = [change(stays), change(later)]
    holds = max(abs(each / stays[0] - 1) for each in stays) <= GROWTH
    return (
        f"{name}, {kind}: what stays {changes[0]}, samples {changes[1]}: "
        f"{GROWTH:.0%} {'holds' if holds else 'DOES NOT HOLD'}"
    )


def change(values: Sequence[int]) -> str:
    """Least, most and last against the first."""
    least, most, last = (each / values[0] - 1 for each in (min(values), max(values), values[-1]))
    return f"{least:+.1%} to {most:+.1%}, {last:+.1%} at the end"


def pace(samples: Sequence[Sample]) -> float:
    """Seconds a window after the first of these: the median."""
    return statistics.median(sample.seconds for sample in samples[1:] or samples)


def cpu_pace(samples: Sequence[Sample]) -> float:
    """CPU seconds of both a window after the first of these: the mean. Other load counts less."""
    first, last = (sample.worker.cpu + sample.comfyui.cpu for sample in (samples[0], samples[-1]))
    return (last - first) / max(1, len(samples) - 1)


def draw(samples: Sequence[Sample], target: Path) -> None:
    """Three plots above one another."""
    from matplotlib import pyplot  # noqa: PLC0415 - the worker's process shall not load it

    samples = samples[1:]  # without the first, which takes its time
    windows = [sample.window for sample in samples]
    figure, (memory, disk, seconds) = pyplot.subplots(
        3, sharex=True, figsize=(8, 7.5), layout="constrained"
    )
    for name, label in (("comfyui", "ComfyUI"), ("worker", "worker")):
        of = [getattr(sample, name) for sample in samples]
        (line,) = memory.plot(windows, [each.private / MIB for each in of], label=label)
        all_ = [each.all / MIB for each in of]
        memory.plot(windows, all_, color=line.get_color(), alpha=0.4, label=f"{label}, files too")
    memory.set(ylabel="memory, MiB", ylim=(0, None), title=f"{windows[-1]} windows")
    memory.legend(ncols=2, loc="center right", bbox_to_anchor=(1, 0.38))
    disk.plot(windows, [sample.disk / 1e6 for sample in samples], color="tab:green")
    disk.set(ylabel="disk, MB", ylim=(0, None))
    seconds.plot(windows, [sample.seconds for sample in samples], ".", ms=2, label="clock")
    means = [cpu_pace(samples[at - SMOOTHED : at + 1]) for at in range(SMOOTHED, len(samples))]
    seconds.plot(windows[SMOOTHED:], means, label=f"CPU, mean of {SMOOTHED}")
    seconds.set(ylabel="seconds a window", ylim=(0, None), xlabel="window")
    seconds.legend()
    for each in (memory, disk, seconds):
        each.grid(alpha=0.3)
    figure.savefig(target, dpi=90)


# ---- In the worker's process


def worker() -> None:
    """Take the request from stdin, render it; print a line for each window, and one at the end."""
    request = json.loads(sys.stdin.readline())
    with Studio(Settings()) as studio:
        warm_up(studio)
        asked = {**request, "dry_run": True}
        estimated = run_job(Job(id="estimate", input=asked), studio)["estimate"]
        tell = Teller()
        result = run_job(Job(id="long", input=request, report=tell.see), studio)
        most = peak_mib()
    names = "error", "status", "timings", "video_info"
    said = {name: result[name] for name in names if name in result}
    print(json.dumps(said | {"disk_gb": estimated["disk_gb"], "peak_mib": most}), flush=True)


class Teller:
    """Prints each window as it is done, and waits for a line; prints the stages after them."""

    def __init__(self) -> None:
        self._window = 0
        self._since = time.monotonic()

    def see(self, progress: Progress) -> None:
        if progress.stage != "render":
            print(json.dumps({"stage": progress.stage}), flush=True)
            self._since = time.monotonic()
        elif progress.step is None and (progress.window or 0) > self._window:
            self._window, now = progress.window or 0, time.monotonic()
            line = {"window": self._window, "seconds": now - self._since}
            print(json.dumps(line), flush=True)
            sys.stdin.readline()
            self._since = time.monotonic()


if __name__ == "__main__":
    worker() if sys.argv[1:] == ["worker"] else main()
