"""A long render goes on, on machine after machine, whatever is lost under it.

In CI a short form; `make long-soak` runs SOAK_WINDOWS=200, with ten kills and S3 away for a minute.
"""

from __future__ import annotations

import itertools
import os
import random
import wave
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import numpy.typing as npt
import pytest
import requests

from talkinghead.comfy.studio import Studio
from talkinghead.plan.windows import seed_of
from talkinghead.render.job import Job
from talkinghead.render.run import run_job
from tests.comfy.machines import Blow, Death, Ordeal
from tests.conftest import FileServer
from tests.store import S3Server
from tests.timing import LAST_RESORT_SECONDS

WINDOWS = int(os.environ.get("SOAK_WINDOWS", "12"))
IS_LONG = WINDOWS >= 100
SEED = 7
FPS = 25
WINDOW, MOTION = 81, 9
NEW = WINDOW - MOTION
FRAMES = WINDOW + NEW * (WINDOWS - 2) + 31  # the last window is not full
SOUND_HZ = 44_100
CLICKS_EVERY = 7.3
IN_TIME = 0.02
SIDE = 256
BAR_WIDTH, BAR_HEIGHT, BAR_PLACES = 16, 32, 16  # of the doubles, at this size
STEP_SECONDS, WINDOWS_PER_SECOND = (0.15, 1.0) if IS_LONG else (0.02, 2.0)  # at most


def blows(dice: random.Random) -> list[Blow]:
    """What happens, in any order."""
    if not IS_LONG:
        fate = [Blow(dice.choice(("worker", "both", "sigterm")), away_seconds=3)]
    else:
        fate = [
            *[Blow("worker")] * 2,
            *[Blow("sigterm")] * 2,
            *[Blow("comfyui")] * 2,
            Blow("both"),
            Blow("both", again=True),
            Blow("worker", away_seconds=60),
            Blow("nothing", away_seconds=60),
        ]
    dice.shuffle(fate)
    return fate


@pytest.fixture
def dice() -> random.Random:
    seed = int(os.environ.get("SOAK_SEED", random.randrange(1_000_000)))
    print(f"SOAK_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def long_job(files: FileServer, portrait: Path) -> dict[str, Any]:
    (files.folder / "portrait.jpg").write_bytes(portrait.read_bytes())
    write_clicks(files.folder / "clicks.wav")
    urls = {"image_url": files.url("portrait.jpg"), "wav_url": files.url("clicks.wav")}
    return urls | {"width": SIDE, "height": SIDE, "long": True, "seed": SEED}


def clicks() -> list[float]:
    """Seconds; the last is just before the end."""
    return [*np.arange(0.5, FRAMES / FPS - 1, CLICKS_EVERY), FRAMES / FPS - 0.06]


def write_clicks(path: Path) -> None:
    """A WAV as long as the frames: a soft voice, and a click of a millisecond now and then."""
    time = np.arange(FRAMES * SOUND_HZ // FPS) / SOUND_HZ
    samples = 0.1 * np.sin(2 * np.pi * 300 * time) * np.sin(2 * np.pi * time) ** 2
    for click in clicks():
        at = round(click * SOUND_HZ)
        samples[at : at + SOUND_HZ // 1000] = 0.9
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SOUND_HZ, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())


@pytest.mark.timeout(14_400 if IS_LONG else 2400)
def test_a_render_whose_machines_are_lost_is_whole_and_in_time(
    *,
    long_job: dict[str, Any],
    on_s3: Studio,
    s3: S3Server,
    control: Callable[..., None],
    dice: random.Random,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeds = tmp_path / "seeds"
    control(step_seconds=STEP_SECONDS, seeds_log=str(seeds))
    job = {"id": "lost", "input": long_job}
    with Ordeal(
        *(job, WINDOWS, WINDOWS_PER_SECOND),
        folder=tmp_path / "machines",
        seeds_log=seeds,
        s3=s3,
        dice=dice,
    ) as ordeal:
        ordeal.suffer(blows(dice))
        video = fetched(ordeal.result(), tmp_path / "lost.mp4")
        tell(ordeal)
        check_no_window_is_lost_but_by_a_death(ordeal.begun(), ordeal.deaths)
    assert s3.keys("lost/") == ["lost/result.json", "lost/talkinghead.mp4"]
    check_each_frame(video)
    check_sound(video)

    control()
    patient = on_s3.settings.model_copy(update={"job_timeout_seconds": 7200})
    monkeypatch.setattr(on_s3, "settings", patient)
    whole = fetched(run_job(Job("whole", long_job), on_s3), tmp_path / "whole.mp4")
    check_equal(video, whole)


def tell(ordeal: Ordeal) -> None:
    begun = ordeal.begun()
    at = sorted({death.begun for death in ordeal.deaths})
    lost = [begun[number - 1] + 1 - begun[number] for number in at]
    print(f"{ordeal.machines} machines, {len(begun)} windows begun for {WINDOWS}; lost: {lost}")


def check_no_window_is_lost_but_by_a_death(begun: list[int], deaths: list[Death]) -> None:
    """Each window follows the one before; after a death, the last one that was stored."""
    may_cost = Counter[int]()
    for death in deaths:
        may_cost[death.begun] += death.may_cost
    assert begun[0] == 0
    for number, (before, after) in enumerate(itertools.pairwise(begun), start=1):
        assert 0 <= before + 1 - after <= may_cost[number], (number, before, after, deaths)
    assert sorted(set(begun)) == list(range(WINDOWS))
    assert max(Counter(begun).values()) <= 2


def fetched(result: dict[str, Any], target: Path) -> Path:
    assert result.get("status") == "completed", result
    with requests.get(result["video_url"], timeout=LAST_RESORT_SECONDS, stream=True) as answer:
        target.write_bytes(answer.content)
    return target


def decoded(video: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(video), "r") as file:
        yield from file.decode(video=0)


def check_each_frame(video: Path) -> None:
    """Each is there, at its time, and by the doubles' bar the one of its window."""
    count = 0
    for number, frame in enumerate(decoded(video)):
        assert frame.time == pytest.approx(number / FPS, abs=1e-6)
        assert (frame.width, frame.height) == (SIDE, SIDE)
        if number:  # the first is the reference itself, without a bar
            assert bar_place(frame, window_of(number)) == place(number)
        count += 1
    assert count == FRAMES


def window_of(frame: int) -> int:
    return 0 if frame < WINDOW else (frame - MOTION) // NEW


def place(frame: int) -> int:
    """Where the sampler that made the frame has drawn its bar."""
    return (frame - window_of(frame) * NEW) % BAR_PLACES


def bar_place(frame: av.VideoFrame, window: int) -> int:
    """Where in the frame the colour of the window's bar is."""
    colour = [seed_of(SEED, window) * factor % 200 + 55 for factor in (1, 7, 31)]
    top = frame.to_ndarray(format="rgb24")[:BAR_HEIGHT]
    places = top.reshape(BAR_HEIGHT, BAR_PLACES, BAR_WIDTH, 3).mean(axis=(0, 2))
    return int(np.abs(places - colour).sum(axis=1).argmin())


def check_sound(video: Path) -> None:
    """As long as the picture; each click is heard when it should be, to the last one."""
    lengths = [stream_seconds(video, kind) for kind in ("video", "audio")]
    assert lengths == pytest.approx([FRAMES / FPS] * 2, abs=IN_TIME)
    apart = np.abs(loud_moments(video)[:, None] - np.array(clicks()))
    assert apart.min(axis=0).max() < IN_TIME, "a click is missing"
    assert apart.min(axis=1).max() < IN_TIME, "a click too many"
    print(f"clicks off by {apart.min(axis=1).max() * 1000:.1f} ms at most", end=", ")
    print(f"the last by {apart[:, -1].min() * 1000:.1f} ms; lengths {lengths} s")


def stream_seconds(video: Path, kind: Literal["video", "audio"]) -> float:
    with av.open(str(video), "r") as file:
        (stream,) = file.streams.get({kind: 0})
        return float((stream.duration or 0) * (stream.time_base or 0))


def loud_moments(video: Path) -> npt.NDArray[np.float64]:
    """When the sound is as loud as a click, seconds."""
    found = []
    with av.open(str(video), "r") as file:
        for frame in file.decode(audio=0):
            assert frame.time is not None
            samples = np.abs(frame.to_ndarray()).max(axis=0)
            found.append(frame.time + np.flatnonzero(samples > 0.4) / frame.sample_rate)
    return np.concatenate(found)


def check_equal(one: Path, other: Path) -> None:
    """The same pictures, frame by frame."""
    for left, right in zip(decoded(one), decoded(other), strict=True):
        assert np.array_equal(left.to_ndarray(), right.to_ndarray()), left.time
