"""What a sandbox costs a job, against decoding in the worker: `python -m benchmarks.sandbox`.

Of the processor's time, which other work on the machine changes little, and by the clock.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial

from talkinghead.media.picture import probe_picture
from talkinghead.media.sandbox import Sandboxes
from talkinghead.media.sound import probe_sound
from talkinghead.settings import PROJECT_DIR

RUNS = 100
PORTRAIT = PROJECT_DIR / "examples" / "portrait.jpg"
VOICE = PROJECT_DIR / "examples" / "voice.wav"


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    here()  # libraries load and make their buffers
    started = cpu_ms()
    with Sandboxes() as sandboxes:
        first = measure(partial(apart, sandboxes))
    started = cpu_ms() - started
    print(f"the first answer of a worker, the server's start included: {first:.0f} ms")
    before = cpu_ms()
    with Sandboxes() as sandboxes:
        apart(sandboxes)
        runs = [measure(partial(apart, sandboxes)) for _ in range(RUNS)]
    of_apart = (cpu_ms() - before - started) / RUNS
    before = cpu_ms()
    of_here = statistics.median(measure(here) for _ in range(RUNS))
    cpu = (cpu_ms() - before) / RUNS
    print(f"a voice and a picture, ms of CPU: {cpu:.1f} in the worker, {of_apart:.1f} in a sandbox")
    print(f"more: {of_apart - cpu:.1f} ms of CPU, {of_apart / cpu:.2f} of the time;", end=" ")
    print(f"by the clock {of_here:.1f} and {statistics.median(runs):.1f} ms (median)")


def here() -> None:
    """As the worker did it itself."""
    probe_sound("", VOICE, max_seconds=60)
    probe_picture("", PORTRAIT, max_megapixels=50)


def apart(sandboxes: Sandboxes) -> None:
    """As a job does it."""
    with sandboxes.open() as sandbox:
        sandbox.call("", probe_sound, "", VOICE, max_seconds=60)
        sandbox.call("", probe_picture, "", PORTRAIT, max_megapixels=50)


def measure(act: Callable[[], None]) -> float:
    """How long it takes, ms."""
    start = time.perf_counter()
    act()
    return (time.perf_counter() - start) * 1000


def cpu_ms() -> float:
    """Of this process, and of all below it that have ended."""
    return 1000 * sum(os.times()[:4])


if __name__ == "__main__":
    main()
