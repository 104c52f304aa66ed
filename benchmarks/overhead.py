"""What the worker adds to ComfyUI's own execution, and its memory: `python -m benchmarks.overhead`.

Each worker is a process of its own, as handler.py starts it: ComfyUI with the doubles of
tests/doubles as its child, inputs over HTTP, delivery to an S3 server, all on this machine.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
import wave
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from comfy_client import Event, Graph, Outcome
from talkinghead import worker as _worker  # noqa: F401 - what one has loaded at its first job
from talkinghead.comfy.folders import Folders
from talkinghead.comfy.own_client import OwnClient
from talkinghead.comfy.studio import Studio, Turn
from talkinghead.comfy.warm_up import warm_up
from talkinghead.render.job import Job
from talkinghead.render.run import run_job
from talkinghead.settings import PROJECT_DIR, Settings

EXAMPLES = PROJECT_DIR / "examples"
VOICE_SECONDS, FPS = 3, 25
NOISE_BYTES_PER_PIXEL = 2.4  # of H.264 without loss, 4:2:0
COLD_WORKERS, WARM_JOBS = 5, 30
SIZES_MB = (5, 200)
PICTURE_SIZE = (480, 854)
# "submit" and "hear" are what the stage "render" takes before and after ComfyUI's execution. "trim"
# is no stage of a job: ComfyUI is brought to rest and keeps the models, folders are deleted.
STAGES = "fetch", "prepare", "start", "patch", "submit", "hear", "collect", "trim", "deliver"

Row = dict[str, float]  # stage -> seconds; "total": all that the worker adds


def main() -> None:
    with tempfile.TemporaryDirectory() as name, services(Path(name)) as (environment, request):
        cold = [work(environment, request, jobs=1)[0] for _ in range(COLD_WORKERS)]
        warm = work(environment, request, jobs=1 + WARM_JOBS)[1:]
        peaks = [memory(environment, request, size, Path(name)) for size in SIZES_MB]
    report(cold, warm)
    for peak in peaks:
        print(
            f"{peak['video_mb']:.1f} MB delivered: peak {peak['peak_mib']:.0f} MiB, "
            f"{peak['ready_mib']:.0f} MiB before the job"
        )


@contextlib.contextmanager
def services(folder: Path) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """The environment of a worker, and a request for a clip of VOICE_SECONDS."""
    from tests.conftest import FileServer  # noqa: PLC0415 - pytest is no part of a worker
    from tests.store import S3Server  # noqa: PLC0415

    served, bucket = folder / "served", folder / "bucket"
    served.mkdir()
    bucket.mkdir()
    shutil.copy(EXAMPLES / "portrait.jpg", served)
    cut_voice(EXAMPLES / "voice.wav", served / "voice.wav")
    files, store = FileServer(served), S3Server(bucket)
    width, height = PICTURE_SIZE
    request = {
        "image_url": files.url("portrait.jpg"),
        "wav_url": files.url("voice.wav"),
        "prompt": "A person talking naturally",
        "width": width,
        "height": height,
    }
    worker = {
        "COMFYUI_CPU": "1",
        "EXTRA_NODE_DIRS": str(PROJECT_DIR / "tests" / "doubles"),
        "OMP_NUM_THREADS": "1",  # PyTorch's spinning threads starve a busy machine
        "WORK_DIR": str(folder / "work"),
        "ALLOW_PRIVATE_URLS": "true",
    }
    with store.running():
        # The first file in a bucket waits for the server to make a volume.
        store.client().put_object(Bucket=store.environment["S3_BUCKET"], Key="first", Body=b"1")
        yield os.environ | store.environment | worker, request
    files.close()


def cut_voice(source: Path, target: Path) -> None:
    """The first VOICE_SECONDS of a WAV."""
    with wave.open(str(source)) as voice, wave.open(str(target), "wb") as cut:
        cut.setparams(voice.getparams())
        cut.writeframes(voice.readframes(VOICE_SECONDS * voice.getframerate()))


def work(
    environment: dict[str, str], request: dict[str, Any], *, jobs: int, video: Path | None = None
) -> list[Row]:
    """What a fresh worker says of each of its jobs; `video` is what ComfyUI shall have made."""
    order = json.dumps({"request": request, "jobs": jobs, "video": video and str(video)})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.overhead", "worker"],
        input=order,
        env=environment,
        cwd=PROJECT_DIR,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def memory(environment: dict[str, str], request: dict[str, Any], size_mb: int, folder: Path) -> Row:
    """A worker's peak for a delivered video of `size_mb`."""
    video = folder / f"{size_mb}.mp4"
    write_noise(video, size_mb)
    return work(environment, request, jobs=1, video=video)[0]


def write_noise(path: Path, size_mb: int) -> None:
    """An MP4 of about so many MB and VOICE_SECONDS: noise, without loss, as large as it takes."""
    import av  # noqa: PLC0415 - a worker process shall load what handler.py loads, no more
    import numpy as np  # noqa: PLC0415

    frames = VOICE_SECONDS * FPS
    side = round(math.sqrt(size_mb * 1e6 / frames / NOISE_BYTES_PER_PIXEL) / 2) * 2
    random = np.random.default_rng(7)
    with av.open(str(path), "w") as container:
        options = {"crf": "0", "preset": "ultrafast"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
        for _ in range(frames):
            planes = random.integers(0, 256, (side * 3 // 2, side), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode(None))


def report(cold: list[Row], warm: list[Row]) -> None:
    """Print the stages as a table, in ms."""
    print("| ms | warm p50 | warm p95 | first job p50 | first job p95 |\n|---|---|---|---|---|")
    for stage in (*STAGES, "total", "comfyui"):
        columns = [1000 * share(rows, stage, q) for rows in (warm, cold) for q in (50, 95)]
        print(f"| {stage} | " + " | ".join(f"{value:.0f}" for value in columns) + " |")


def share(rows: list[Row], stage: str, percent: int) -> float:
    """The percentile of a stage over the rows, in seconds."""
    values = [row[stage] for row in rows]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


# ---- In the worker's process


class WatchedClient(OwnClient):
    """Notes when ComfyUI executed the first of its prompts, by ComfyUI's own clock."""

    def __init__(self, url: str, folders: Folders, after: Callable[[Outcome], None]) -> None:
        super().__init__(url, folders)
        self.times: dict[str, float] = {}
        self._after = after

    def run(
        self, graph: Graph, *, on_event: Callable[[Event], None] | None = None, **options: Any
    ) -> Outcome:
        def note(event: Event) -> None:
            self._note(event.type, event.data)
            if on_event is not None:
                on_event(event)

        outcome = super().run(graph, on_event=note, **options)
        self.times.setdefault("outcome", time.time())
        self._after(outcome)
        return outcome

    def history(self, prompt_id: str) -> Mapping[str, Any] | None:
        entry = super().history(prompt_id)
        for type_, data in entry["status"]["messages"] if entry else ():
            self._note(type_, data)
        return entry

    def _note(self, type_: str, data: Mapping[str, Any]) -> None:
        if "timestamp" in data:
            self.times.setdefault(type_, data["timestamp"] / 1000)

    @property
    def execution_seconds(self) -> float:
        """From ComfyUI's execution_start to its execution_success."""
        return self.times["execution_success"] - self.times["execution_start"]

    @property
    def hear_seconds(self) -> float:
        """From ComfyUI's execution_success to when the worker has the outcome."""
        return self.times["outcome"] - self.times["execution_success"]


class WatchedStudio(Studio):
    """A studio that hands out watched clients; `video` replaces what ComfyUI rendered."""

    client: WatchedClient
    video: Path | None = None

    @contextlib.contextmanager
    def comfy(self, folder: str, check: Callable[[], None]) -> Iterator[Turn]:
        with super().comfy(folder, check) as turn:
            assert self.server is not None
            folders = self.server.folders
            turn.client = self.client = WatchedClient(turn.client.url, folders, self._replace)
            yield turn

    def _replace(self, outcome: Outcome) -> None:
        assert self.server is not None
        for file in outcome.files if self.video else ():
            assert self.video is not None
            shutil.copyfile(self.video, self.server.folders.output / file.subfolder / file.filename)


def worker() -> None:
    """Take the order from stdin; print what each job took, one JSON object a line."""
    order = json.load(sys.stdin)
    with WatchedStudio(Settings()) as studio:
        studio.video = Path(order["video"]) if order["video"] else None
        warm_up(studio)
        ready_mib = peak_mib()
        for number in range(order["jobs"]):
            row = measure(studio, order["request"] | {"seed": number})
            print(json.dumps(row | {"ready_mib": ready_mib, "peak_mib": peak_mib()}), flush=True)


def measure(studio: WatchedStudio, request: dict[str, Any]) -> Row:
    """One job, stage by stage."""
    start = time.perf_counter()
    result = run_job(Job(id=uuid.uuid4().hex, input=request), studio)
    seconds = time.perf_counter() - start
    if "error" in result:
        sys.exit(f"the job failed: {result}")
    execution, hear = studio.client.execution_seconds, studio.client.hear_seconds
    row: Row = dict(result["timings"])
    row["trim"] = seconds - sum(row.values())
    row |= {"submit": row.pop("render") - execution - hear, "hear": hear}
    size = result["video_info"]["file_size_mb"]
    return row | {"comfyui": execution, "total": seconds - execution, "video_mb": size}


def peak_mib() -> float:
    """The most memory that this process had resident; ru_maxrss would begin at the parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    worker() if sys.argv[1:] == ["worker"] else main()
