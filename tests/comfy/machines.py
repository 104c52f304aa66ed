"""Workers that are lost: RunPod's, each on a machine of its own, with one render between them."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from talkinghead.plan.windows import seed_of
from talkinghead.settings import PROJECT_DIR
from tests.contract.conftest import environment_of
from tests.contract.test_sigterm import RunPod, comfyuis
from tests.store import BUCKET, S3Server
from tests.timing import LAST_RESORT_SECONDS

APART = 3  # windows between two blows: those of one are whole, and stored, before the next
UNFIT_NOTE = "Worker is unhealthy"
Loss = Literal["worker", "both", "sigterm"]


class Machine:
    """One worker with one job; when the machine is lost, so are its processes and folders."""

    def __init__(self, folder: Path, job: Mapping[str, Any]) -> None:
        (folder / "tmp").mkdir(parents=True)
        self._folder = folder
        self._runpod = RunPod(dict(job))
        self._log = folder.with_suffix(".log")
        own = environment_of(folder) | {"TMPDIR": str(folder / "tmp")}
        with self._log.open("wb") as log:
            self.worker = subprocess.Popen(
                [sys.executable, "handler.py"],
                cwd=PROJECT_DIR,
                env=os.environ | own | self._runpod.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def result(self) -> dict[str, Any] | None:
        """What RunPod got as the job's result."""
        posted = (each for each in self._runpod.posted if each.get("status") != "IN_PROGRESS")
        return next(posted, None)

    def log(self) -> str:
        """What the worker said."""
        return self._log.read_text(errors="replace")

    def kill_comfyui(self) -> None:
        """End ComfyUI and its children at once; the worker, if it lives, has to notice."""
        for number in comfyuis(self._folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)

    def terminate(self) -> None:
        """End the worker as RunPod does."""
        self.worker.terminate()
        assert self.worker.wait(LAST_RESORT_SECONDS) == 0, self.log()
        assert self.result is None, self.result

    def lose(self) -> None:
        """All processes end at once, and the disk is gone."""
        self.kill_comfyui()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.worker.pid, signal.SIGKILL)
        self.worker.wait()
        self.kill_comfyui()  # of a worker that started another meanwhile
        self._runpod.close()
        shutil.rmtree(self._folder, ignore_errors=True)


@dataclass(frozen=True)
class Blow:
    """What happens at one moment of the render.

    `loses` a machine, or its ComfyUI alone, or nothing; `away_seconds` S3 is away, from before that
    on; `again`: the machine that follows is lost while it starts.
    """

    loses: Loss | Literal["comfyui", "nothing"]
    away_seconds: float = 0.0
    again: bool = False


@dataclass(frozen=True)
class Death:
    """When `begun` windows had been begun, a render was lost.

    It may have cost so many of them: those that were not stored, however slow the machine is.
    """

    begun: int
    may_cost: int


class Ordeal:
    """A render of many windows, its machines, and what befalls them.

    Args:
        job: as RunPod gives it to each of the machines, with a seed.
        windows_per_second: no machine makes more of them.
        seeds_log: what the doubles write: the seed of each window that is begun.
    """

    def __init__(
        self,
        job: Mapping[str, Any],
        windows: int,
        windows_per_second: float,
        *,
        folder: Path,
        seeds_log: Path,
        s3: S3Server,
        dice: random.Random,
    ) -> None:
        self.deaths: list[Death] = []
        self.machines = 0
        self._job = job
        self._folder = folder
        self._s3 = s3
        self._dice = dice
        self._windows = windows
        self._pace = windows_per_second
        self._seeds_log = seeds_log
        self._window_of = {seed_of(job["input"]["seed"], each): each for each in range(windows)}
        self._s3_returns: threading.Thread | None = None
        self._machine = self._new_machine()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._machine.lose()
        self._wait_for_s3()

    def begun(self) -> list[int]:
        """The windows that were begun, from 0, in order; again where they were begun again."""
        lines = self._seeds_log.read_text().splitlines() if self._seeds_log.exists() else []
        return [self._window_of[int(line)] for line in lines]

    def stored(self) -> int:
        """How many windows the ledger in the bucket has."""
        client, furthest = self._s3.client(), 0
        for key in self._s3.keys(f"{self._job['id']}/"):
            if "/ledger" in key:
                ledger = json.loads(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
                furthest = max(furthest, int(ledger["marks"][-1]["window"]))
        return furthest

    def suffer(self, fate: Sequence[Blow]) -> None:
        """Have all this happen, each at a random moment; returns when the last is over."""
        for number in range(len(fate)):
            self._suffer(fate[number], fate[number:])

    def result(self) -> dict[str, Any]:
        """The job's result, when it is there."""
        self._until(lambda: self._machine.result is not None, ended=True)
        assert self._machine.result is not None
        return dict(self._machine.result.get("output", self._machine.result))

    def _suffer(self, blow: Blow, to_come: Sequence[Blow]) -> None:
        newest = max(self.begun(), default=-1)
        # Nothing can happen to a render that is over, and it goes on while S3 is away.
        kept = APART + math.ceil(sum(each.away_seconds for each in to_come) * self._pace)
        left = self._windows - 1 - newest - kept
        gap = self._dice.randint(APART, max(APART, left // len(to_come)))
        self._until(lambda: newest + gap in self.begun())
        moment, stored = self._dice.uniform(0, 1.5), None
        if blow.away_seconds:
            stored = self.stored()
            self._send_s3_away(blow.away_seconds)
            moment = self._dice.uniform(0.2, 0.9) * blow.away_seconds
        time.sleep(moment)
        print(f"window {max(self.begun()) + 1}: {blow}, after {moment:.2f} s", flush=True)
        self._strike(blow, stored)
        self._wait_for_s3()
        if blow.loses == "nothing":
            self._until(lambda: self.stored() >= max(self.begun()) - 1)

    def _strike(self, blow: Blow, stored: int | None) -> None:
        """Strike. `stored` windows were there when S3 went away; else it tells what is there."""
        if blow.loses == "nothing":
            return
        if blow.loses == "comfyui":
            self._machine.kill_comfyui()
            self.deaths.append(Death(len(self.begun()), 1))
            return
        self._lose(blow.loses)
        begun = len(self.begun())
        lost = max(self.begun()) + 1 - (self.stored() if stored is None else stored)
        # After SIGTERM, what was ready is stored: the window in flight is lost.
        cost = 1 if blow.loses == "sigterm" and stored is None else lost
        self.deaths.append(Death(begun, cost))
        self._machine = self._new_machine()
        if blow.again:
            time.sleep(self._dice.uniform(0, 4))  # its ComfyUI takes longer to start
            self._lose("both")
            self.deaths.append(Death(begun, 0))
            self._machine = self._new_machine()

    def _lose(self, loss: Loss) -> None:
        if loss == "sigterm":
            self._machine.terminate()
        elif loss == "worker":
            self._machine.worker.kill()
            time.sleep(self._dice.uniform(0, 3))  # its ComfyUI works on, for nobody
        self._machine.lose()

    def _new_machine(self) -> Machine:
        self.machines += 1
        return Machine(self._folder / f"machine-{self.machines}", self._job)

    def _send_s3_away(self, seconds: float) -> None:
        self._s3.go()
        self._s3_returns = threading.Timer(seconds, self._s3.come)
        self._s3_returns.start()

    def _wait_for_s3(self) -> None:
        if self._s3_returns is not None:
            self._s3_returns.join()

    def _until(self, happened: Callable[[], bool], *, ended: bool = False) -> None:
        """Wait, and replace a worker that finds itself unfit, as RunPod does."""
        while not happened():
            machine = self._machine
            assert ended or machine.result is None, machine.result
            if machine.worker.poll() is not None:
                assert UNFIT_NOTE in machine.log(), machine.log()[-4000:]
                machine.lose()
                self._machine = self._new_machine()
            time.sleep(0.02)
