"""What a long render leaves after each window, on a real S3 server and in real folders."""

from __future__ import annotations

import http.server
import io
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from typer.testing import CliRunner

from talkinghead.cli.app import app
from talkinghead.delivery.blobs import BlobStore, StoredFile, StoreError
from talkinghead.delivery.checkpoint import Checkpoints
from talkinghead.delivery.inline import InlinePlace
from talkinghead.delivery.ledger import (
    OLDER_LEDGER,
    Ledger,
    Mark,
    Run,
    folder_of,
    motion_name,
    segment_name,
)
from talkinghead.delivery.restore import checkpoint_files, ledgers_in, read_ledger
from talkinghead.delivery.stores import Stores
from talkinghead.delivery.volume import VolumeStore
from talkinghead.errors import Cancelled, CheckpointRefused, DeliveryFailed
from talkinghead.files import hash_of
from talkinghead.settings import PROJECT_DIR, Settings
from tests.store import BUCKET, SECRET, S3Server, Wire
from tests.timing import LAST_RESORT_SECONDS, wait_until

FIT = {"request": "a1", "packs": "b2", "models": "c3"}
OTHER_FIT = FIT | {"packs": "e5", "voices": "f6"}
REQUEST = hash_of({"image_url": "https://x/i.jpg"})
BEGUN = Ledger(fit=FIT, seed=7, windows=5, state={"blocks_to_swap": 20})


@pytest.fixture(autouse=True)
def _no_end_to_the_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a store takes until the end of a job it may take slowly."""
    monkeypatch.setattr("talkinghead.delivery.writer.CLOSE_SECONDS", LAST_RESORT_SECONDS)
    monkeypatch.setattr("talkinghead.delivery.restore.READ_SECONDS", LAST_RESORT_SECONDS)


@pytest.fixture(params=["on_s3", "volume"])
def store(request: pytest.FixtureRequest) -> BlobStore:
    """A bucket, and a volume: what holds for one holds for the other."""
    request.getfixturevalue(request.param)
    return store_of()


@pytest.fixture
def job() -> str:
    return f"job-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """The disk of the worker that begins the render."""
    return new_disk(tmp_path, "first")


@pytest.fixture
def empty_disk(tmp_path: Path) -> Path:
    return new_disk(tmp_path, "second")


def new_disk(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    return folder


def store_of() -> BlobStore:
    store = Stores(Settings()).checkpoints()
    assert store is not None
    return store


def go_on() -> None:
    """A job that is not cancelled."""


def save(
    to: Checkpoints,
    folder: Path,
    windows: Iterable[int],
    said: str = "",
    fit: Mapping[str, str] = FIT,
) -> None:
    for window in windows:
        segment, motion = folder / segment_name(window), folder / motion_name(window)
        segment.write_bytes(f"frames of {window}{said}".encode() * 100)
        motion.write_bytes(f"motion of {window}{said}".encode() * 100)
        to.save(window, segment, motion, replace(BEGUN, fit=fit))


def rendered(
    store: BlobStore | None, job: str, folder: Path, windows: Iterable[int], said: str = ""
) -> Checkpoints:
    """A worker's checkpoints after these windows, all written."""
    checkpoints = Checkpoints(store, job, FIT, REQUEST)
    save(checkpoints, folder, windows, said)
    checkpoints.close(delivered=False)
    return checkpoints


def restored(store: BlobStore, job: str, folder: Path) -> Ledger | None:
    """What another worker goes on from."""
    checkpoints = Checkpoints(store, job, FIT, REQUEST)
    ledger = checkpoints.open(go_on)
    assert ledger is not None
    return checkpoints.restore(ledger, folder, go_on)


def done(store: BlobStore, job: str, fit: Mapping[str, str] = FIT) -> int:
    """As many as the run that is furthest."""
    listed = [n for n in ledgers_in(checkpoint_files(store, job)) if n.startswith(folder_of(fit))]
    ledgers = [read_ledger(store, job, name) for name in listed]
    return max((each.windows_done for each in ledgers if each), default=0)


def names(store: BlobStore, job: str) -> list[str]:
    """What the checkpoint holds, without the token of the run and the render's folder."""
    files = checkpoint_files(store, job)
    return sorted(re.sub("_[0-9a-f]{8}|/[0-9a-f]{32}", "", file.name) for file in files)


def stored_as(store: BlobStore, job: str, name: str) -> str:
    stem, suffix = name.split(".")
    found = [
        file.name
        for file in checkpoint_files(store, job)
        if re.fullmatch(f"checkpoint/[0-9a-f]{{32}}/{stem}_.*{suffix}", file.name)
    ]
    assert len(found) == 1
    return found[0]


def wait_for_windows(
    store: BlobStore, job: str, windows: int, fit: Mapping[str, str] = FIT
) -> None:
    wait_until(lambda: done(store, job, fit) == windows, f"{windows} windows in the store")


def wait_for_message(caplog: pytest.LogCaptureFixture, message: str) -> None:
    wait_until(lambda: message in caplog.messages, f'"{message}" in the log')


# What another worker goes on from


def test_another_worker_goes_on_after_the_last_whole_window_with_an_empty_disk(
    store: BlobStore, job: str, disk: Path, empty_disk: Path
) -> None:
    rendered(store, job, disk, [1, 2, 3])
    ledger = restored(store, job, empty_disk)
    assert ledger is not None
    assert (ledger.windows_done, ledger.windows) == (3, 5)
    assert (ledger.seed, ledger.state) == (7, {"blocks_to_swap": 20})
    expected = [*map(segment_name, (1, 2, 3)), motion_name(3)]
    assert {path.name for path in empty_disk.iterdir()} == set(expected)
    assert all((disk / name).read_bytes() == (empty_disk / name).read_bytes() for name in expected)


def test_a_render_that_nothing_is_left_of_begins_anew(store: BlobStore, job: str) -> None:
    assert Checkpoints(store, job, FIT, REQUEST).open(go_on) is None


def test_a_render_can_be_continued_again_and_again(
    store: BlobStore, job: str, tmp_path: Path
) -> None:
    for worker in range(4):
        folder = new_disk(tmp_path, f"worker-{worker}")
        checkpoints = Checkpoints(store, job, FIT, REQUEST)
        ledger = checkpoints.open(go_on)
        if ledger is not None:
            assert checkpoints.restore(ledger, folder, go_on) is not None
        save(checkpoints, folder, [worker + 1], f" by {worker}")
        checkpoints.close(delivered=False)
    last = new_disk(tmp_path, "last")
    assert restored(store, job, last)
    parts = [(last / segment_name(window)).read_bytes() for window in (1, 2, 3, 4)]
    assert [part[: len("frames of 1 by 0")] for part in parts] == [
        *(b"frames of 1 by 0", b"frames of 2 by 1", b"frames of 3 by 2", b"frames of 4 by 3")
    ]


def test_the_store_keeps_two_motion_states_and_the_disk_one(
    store: BlobStore, job: str, disk: Path
) -> None:
    rendered(store, job, disk, range(1, 6))
    motions = [name for name in names(store, job) if "motion" in name]
    assert motions == ["checkpoint/motion_00004.latent", "checkpoint/motion_00005.latent"]
    assert [path.name for path in disk.glob("*.latent")] == ["motion_00005.latent"]


def test_the_ledger_does_not_grow_with_the_windows(volume: Path, job: str, disk: Path) -> None:
    rendered(store_of(), job, disk, [1, 2])
    rendered(store_of(), job, disk, range(1, 101))
    assert done(store_of(), job) == 100
    sizes = [path.stat().st_size for path in volume.rglob("ledger_*.json")]
    assert len(sizes) == 2 and max(sizes) - min(sizes) < 10


def test_a_worker_that_was_taken_for_lost_and_goes_on_damages_nothing_of_its_successor(
    store: BlobStore, job: str, disk: Path, empty_disk: Path, tmp_path: Path
) -> None:
    lost = Checkpoints(store, job, FIT, REQUEST)
    save(lost, disk, [1, 2])
    wait_for_windows(store, job, 2)
    successor = Checkpoints(store, job, FIT, REQUEST)
    ledger = successor.open(go_on)
    assert ledger is not None and successor.restore(ledger, empty_disk, go_on)
    save(lost, disk, [3], " by the lost one")
    wait_for_windows(store, job, 3)
    save(successor, empty_disk, [3], " by its successor")
    successor.close(delivered=False)
    save(lost, disk, [4, 5], " by the lost one")
    lost.close(delivered=False)
    third = new_disk(tmp_path, "third")
    assert restored(store, job, third)
    said = {re.sub(rb".* by", b"", path.read_bytes())[:10] for path in third.glob("*_0000[345].*")}
    assert len(said) == 1, "the render is that of one worker"


def test_two_renders_of_one_id_keep_what_is_theirs_also_after_one_is_delivered(
    store: BlobStore, job: str, disk: Path, empty_disk: Path, tmp_path: Path
) -> None:
    ours = Checkpoints(store, job, FIT, REQUEST)
    theirs = Checkpoints(store, job, OTHER_FIT, hash_of("another"))
    assert ours.open(go_on) is theirs.open(go_on) is None
    for window in (1, 2, 3):
        save(ours, disk, [window])
        save(theirs, empty_disk, [window], " of others", OTHER_FIT)
        wait_for_windows(store, job, window)
        wait_for_windows(store, job, window, OTHER_FIT)
    ours.close(delivered=True)
    theirs.close(delivered=False)
    assert done(store, job) == 0
    third = Checkpoints(store, job, OTHER_FIT, hash_of("another"))
    ledger = third.open(go_on)
    assert ledger is not None
    kept = third.restore(ledger, new_disk(tmp_path, "third"), go_on)
    assert kept is not None and kept.windows_done == 3


def test_a_delivery_takes_nothing_of_another_request_that_renders_the_same(
    store: BlobStore, job: str, disk: Path, empty_disk: Path, tmp_path: Path
) -> None:
    ours = Checkpoints(store, job, FIT, REQUEST)
    theirs = Checkpoints(store, job, FIT, hash_of("the same, to be delivered elsewhere"))
    save(ours, disk, [1, 2])
    wait_for_windows(store, job, 2)
    save(theirs, empty_disk, [1, 2, 3], " of others")
    wait_for_windows(store, job, 3)
    ours.close(delivered=True)
    save(theirs, empty_disk, [4], " of others")
    theirs.close(delivered=False)
    third = new_disk(tmp_path, "third")
    kept = restored(store, job, third)
    assert kept is not None and kept.windows_done == theirs.windows_done == 4
    assert all(b" of others" in path.read_bytes() for path in third.glob("segment_*"))
    assert len(checkpoint_files(store, job)) == 7, "ours are gone"


def test_two_runs_of_one_request_at_once_tear_nothing_of_each_other(
    store: BlobStore, job: str, disk: Path, empty_disk: Path, tmp_path: Path
) -> None:
    ours, theirs = (Checkpoints(store, job, FIT, REQUEST) for _ in range(2))
    assert ours.open(go_on) is theirs.open(go_on) is None
    save(ours, disk, [1, 2, 3])
    wait_for_windows(store, job, 3)
    save(theirs, empty_disk, [1], " of theirs")
    wait_until(lambda: len(ledgers_in(checkpoint_files(store, job))) == 2, "both have stored one")
    third = new_disk(tmp_path, "third")
    kept = restored(store, job, third)
    assert kept is not None and kept.windows_done == ours.windows_done == 3, "the furthest"
    ours.close(delivered=True)
    save(theirs, empty_disk, [2], " of theirs")
    theirs.close(delivered=False)
    fourth = new_disk(tmp_path, "fourth")
    kept = restored(store, job, fourth)
    assert kept is not None and kept.windows_done == theirs.windows_done == 2
    assert all(b" of theirs" in path.read_bytes() for path in fourth.iterdir())
    assert len(checkpoint_files(store, job)) == 5, "ours are gone"


def test_what_a_run_that_has_ended_left_goes_with_the_delivery_of_another(
    store: BlobStore, job: str, disk: Path, empty_disk: Path, tmp_path: Path
) -> None:
    lost = rendered(store, job, disk, [1, 2])
    rendered(store, job, empty_disk, [1], " and nobody went on with it")
    last = Checkpoints(store, job, FIT, REQUEST)
    ledger = last.open(go_on)
    third = new_disk(tmp_path, "third")
    assert ledger is not None and last.restore(ledger, third, go_on)
    save(last, third, [3])
    last.close(delivered=True)
    assert checkpoint_files(store, job) == []
    assert lost.windows_done == 2


def test_what_is_damaged_of_one_run_is_gone_on_with_from_another(
    store: BlobStore, job: str, disk: Path, empty_disk: Path, tmp_path: Path
) -> None:
    rendered(store, job, disk, [1, 2, 3])
    store.put(job, stored_as(store, job, segment_name(1)), b"another", "video/mp4")
    rendered(store, job, empty_disk, [1], " of theirs")
    ledger = restored(store, job, new_disk(tmp_path, "third"))
    assert ledger is not None and ledger.windows_done == 1


def test_what_was_continued_under_a_request_id_goes_with_the_delivery(
    store: BlobStore, job: str, disk: Path, empty_disk: Path
) -> None:
    rendered(store, job, disk, [1, 2])
    named = Checkpoints(store, job, FIT, hash_of("the same, with a request_id"))
    ledger = named.open(go_on)
    assert ledger is not None and named.restore(ledger, empty_disk, go_on)
    named.close(delivered=True)
    assert checkpoint_files(store, job) == []


def test_what_the_same_request_left_on_another_card_goes_with_its_delivery(
    store: BlobStore, job: str, disk: Path, empty_disk: Path
) -> None:
    before = Checkpoints(store, job, OTHER_FIT, REQUEST)
    save(before, disk, [1], fit=OTHER_FIT)
    before.close(delivered=False)
    now = Checkpoints(store, job, FIT, REQUEST)
    save(now, empty_disk, [1])
    now.close(delivered=False)
    Checkpoints(store, job, FIT, REQUEST).close(delivered=True)
    assert checkpoint_files(store, job) == []


def test_how_many_windows_are_done_is_how_many_are_stored(
    volume: Path, job: str, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("talkinghead.delivery.writer.CLOSE_SECONDS", 0.1)
    stored = threading.Event()

    class Slow(VolumeStore):
        def put(
            self, job: str, name: str, content: Path | bytes, content_type: str, **more: Any
        ) -> None:
            if segment_name(2)[:-4] in name:
                stored.wait(LAST_RESORT_SECONDS)
            super().put(job, name, content, content_type, **more)

    checkpoints = Checkpoints(Slow(volume), job, FIT, REQUEST)
    save(checkpoints, disk, [1, 2])
    wait_for_windows(Slow(volume), job, 1)
    checkpoints.close(delivered=False)
    assert checkpoints.windows_done == 1
    stored.set()


# When something is damaged


@pytest.mark.parametrize("name", [segment_name(3), motion_name(3)])
@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_if_the_last_window_is_no_longer_whole_the_one_before_is_continued(
    store: BlobStore, job: str, disk: Path, empty_disk: Path, *, name: str, how: str
) -> None:
    rendered(store, job, disk, [1, 2, 3])
    stored = stored_as(store, job, name)
    if how == "damaged":
        store.put(job, stored, b"\0" * (disk / name).stat().st_size, "video/mp4")
    else:
        store.delete(job, [stored])
    ledger = restored(store, job, empty_disk)
    assert ledger is not None and ledger.windows_done == 2
    expected = {segment_name(1), segment_name(2), motion_name(2)}
    assert {path.name for path in empty_disk.iterdir()} == expected


def test_if_an_earlier_segment_is_damaged_the_render_begins_anew_and_the_log_says_so(
    store: BlobStore,
    job: str,
    disk: Path,
    empty_disk: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rendered(store, job, disk, [1, 2, 3, 4])
    store.put(job, stored_as(store, job, segment_name(2)), b"another", "video/mp4")
    assert restored(store, job, empty_disk) is None
    assert list(empty_disk.iterdir()) == []
    assert "checkpoint is damaged, the render starts anew" in caplog.messages


def test_a_worker_killed_between_segment_and_ledger_leaves_a_ledger_that_is_whole(
    on_s3: pytest.MonkeyPatch, job: str, disk: Path, empty_disk: Path
) -> None:
    script = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from talkinghead.delivery import writer
        from talkinghead.delivery.checkpoint import Checkpoints
        from talkinghead.delivery.s3 import S3Store
        from talkinghead.settings import Settings
        from tests.unit.test_checkpoint import FIT, save

        class Dying(S3Store):
            ledgers = 0
            def put(self, job, name, content, content_type):
                self.ledgers += "/ledger" in name
                if self.ledgers == 3:
                    os.kill(os.getpid(), signal.SIGKILL)
                super().put(job, name, content, content_type)

        writer.CLOSE_SECONDS = float(sys.argv[3])
        checkpoints = Checkpoints(Dying(Settings().bucket, Settings()), sys.argv[1], FIT, "")
        save(checkpoints, Path(sys.argv[2]), [1, 2, 3])
        checkpoints.close(delivered=False)
    """)
    command = [sys.executable, "-c", script, job, str(disk), str(LAST_RESORT_SECONDS)]
    ended = subprocess.run(
        command, cwd=PROJECT_DIR, capture_output=True, timeout=LAST_RESORT_SECONDS, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert f"checkpoint/{segment_name(3)}" in names(store_of(), job)
    ledger = restored(store_of(), job, empty_disk)
    assert ledger is not None and ledger.windows_done == 2


# While the render goes on


def test_a_store_that_is_away_for_a_while_costs_the_render_nothing_and_gets_everything(
    on_s3: pytest.MonkeyPatch,
    s3: S3Server,
    job: str,
    disk: Path,
    *,
    empty_disk: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    here = store_of()
    with Wire(s3.port) as wire:
        on_s3.setenv("S3_ENDPOINT", wire.url)
        checkpoints = Checkpoints(store_of(), job, FIT, REQUEST)
        save(checkpoints, disk, [1])
        wait_for_windows(here, job, 1)
        wire.limit = wire.passed  # it hears nothing more: the render is not kept waiting
        save(checkpoints, disk, [2, 3, 4])
        wire.away, wire.limit = True, math.inf
        wait_for_message(caplog, "checkpoint is not saved")
        tried = wire.refused
        wait_until(lambda: wire.refused > tried, "another try")
        assert done(here, job) == 1
        wire.away = False
        wait_for_windows(here, job, 4)
        save(checkpoints, disk, [5])
        checkpoints.close(delivered=False)
    ledger = restored(here, job, empty_disk)
    assert ledger is not None and ledger.windows_done == 5
    said = [message for message in caplog.messages if message.startswith("checkpoint is")]
    assert said == ["checkpoint is not saved", "checkpoint is saved again"]
    assert SECRET not in caplog.text and "?" not in caplog.text


def test_a_volume_that_cannot_be_written_to_gets_everything_when_it_can(
    volume: Path, job: str, disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (volume / "talkinghead").write_text("a file where the folder should be")
    checkpoints = Checkpoints(store_of(), job, FIT, REQUEST)
    save(checkpoints, disk, [1, 2])
    wait_for_message(caplog, "checkpoint is not saved")
    (volume / "talkinghead").unlink()
    wait_for_windows(store_of(), job, 2)
    checkpoints.close(delivered=False)
    assert not list(volume.rglob("*.part"))


def test_a_segment_that_is_gone_from_the_disk_is_told_and_the_job_lives(
    volume: Path, job: str, disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(store_of(), job, FIT, REQUEST)
    checkpoints.save(1, disk / "gone.mp4", disk / "gone.latent", BEGUN)
    wait_for_message(caplog, "checkpoint is not saved")
    assert done(store_of(), job) == 0


def test_a_part_that_cannot_be_made_costs_no_window(
    volume: Path, job: str, disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(store_of(), job, FIT, REQUEST)
    save(checkpoints, disk, [1])
    checkpoints.put("watch/part", lambda: next(iter(())), "video/mp4")
    save(checkpoints, disk, [2])
    wait_for_windows(store_of(), job, 2)
    assert "a window was not kept" in caplog.text
    checkpoints.close(delivered=True)
    assert done(store_of(), job) == 0


def test_a_failed_job_leaves_its_last_windows_behind_though_the_store_was_away(
    on_s3: pytest.MonkeyPatch,
    s3: S3Server,
    job: str,
    disk: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    here = store_of()
    with Wire(s3.port) as wire:
        wire.away = True
        on_s3.setenv("S3_ENDPOINT", wire.url)
        checkpoints = Checkpoints(store_of(), job, FIT, REQUEST)
        save(checkpoints, disk, [1, 2])
        wait_for_message(caplog, "checkpoint is not saved")
        wire.away = False
        checkpoints.close(delivered=False)
    assert done(here, job) == 2


def test_the_end_of_a_job_does_not_wait_long_for_a_store_that_stays_away(
    on_s3: pytest.MonkeyPatch,
    s3: S3Server,
    job: str,
    disk: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    on_s3.setattr("talkinghead.delivery.writer.CLOSE_SECONDS", 1.0)
    ended = "checkpoint ended before all was written"
    with Wire(s3.port, limit=0) as wire:
        on_s3.setenv("S3_ENDPOINT", wire.url)
        checkpoints = Checkpoints(store_of(), job, FIT, REQUEST)
        save(checkpoints, disk, [1, 2])
        checkpoints.close(delivered=False)
        assert ended not in caplog.messages, "the wire still held all back"
        wire.away, wire.limit = True, math.inf
        wait_for_message(caplog, ended)


def test_a_playlist_is_written_after_its_window_and_stays_when_the_checkpoint_goes(
    on_s3: pytest.MonkeyPatch, s3: S3Server, job: str, disk: Path
) -> None:
    part = disk / "part.m4s"
    part.write_bytes(b"part")
    checkpoints = Checkpoints(store_of(), job, FIT, REQUEST)
    save(checkpoints, disk, [1])
    checkpoints.put("playlist/1.m4s", lambda: part, "video/mp4")
    checkpoints.put("playlist/index.m3u8", lambda: b"#EXTM3U", "application/vnd.apple.mpegurl")
    checkpoints.close(delivered=True)
    assert s3.keys(f"{job}/") == [f"{job}/playlist/1.m4s", f"{job}/playlist/index.m3u8"]
    url = checkpoints.url("playlist/index.m3u8")
    assert url is not None
    answer = requests.get(url, timeout=LAST_RESORT_SECONDS)
    assert answer.text == "#EXTM3U"
    assert answer.headers["Content-Type"] == "application/vnd.apple.mpegurl"
    assert answer.headers["Cache-Control"] == "no-cache"
    part_url = checkpoints.url("playlist/1.m4s")
    assert part_url is not None
    assert "Cache-Control" not in requests.get(part_url, timeout=LAST_RESORT_SECONDS).headers


def test_a_volume_has_no_urls(volume: Path, job: str) -> None:
    assert Checkpoints(store_of(), job, FIT, REQUEST).url("playlist/index.m3u8") is None


def test_without_a_store_nothing_is_kept(job: str, disk: Path) -> None:
    checkpoints = rendered(None, job, disk, [1, 2, 3])
    checkpoints.put("playlist/index.m3u8", lambda: b"#EXTM3U", "application/vnd.apple.mpegurl")
    checkpoints.close(delivered=True)
    assert checkpoints.open(go_on) is None
    assert checkpoints.url("playlist/index.m3u8") is None
    assert [path.name for path in disk.glob("*.latent")] == ["motion_00003.latent"]


def test_checkpoints_go_to_the_bucket_else_to_the_volume_else_nowhere(
    s3: S3Server, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Stores(Settings()).checkpoints() is not None
    assert store_of().url("job", "name") is None
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    assert store_of().url("job", "name") is not None
    assert Stores(Settings(), only=InlinePlace(1)).checkpoints() is None


# After the delivery


def fill(store: BlobStore, job: str, windows: int) -> None:
    """A checkpoint of so many windows, each an object."""
    paths = [
        f"{folder_of(FIT)}segment_{window:05}_0123abcd.mp4" for window in range(1, windows + 1)
    ]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda path: store.put(job, path, b"", "video/mp4"), paths))


def test_what_was_delivered_leaves_nothing_and_nothing_else_is_touched(
    store: BlobStore, job: str, disk: Path
) -> None:
    others = ["talkinghead.mp4", "checkpoint/model.safetensors", "checkpoint/segment_1.mp4"]
    for name in others:
        store.put(job, name, b"of others", "video/mp4")
    fill(store, job, 1100)
    checkpoints = Checkpoints(store, job, FIT, REQUEST)
    save(checkpoints, disk, [1, 2])
    wait_for_windows(store, job, 2)
    checkpoints.close(delivered=True)
    assert checkpoint_files(store, job) == []
    left = [*store.files(job, "checkpoint/"), *store.files(job, "")]
    assert set(others) == {file.name for file in left if file.size}


def test_what_was_delivered_is_no_longer_saved(volume: Path, job: str, disk: Path) -> None:
    begun = threading.Event()
    saved: list[str] = []

    class Slow(VolumeStore):
        def put(
            self, job: str, name: str, content: Path | bytes, content_type: str, **more: Any
        ) -> None:
            begun.set()
            wait_until(checkpoints._writer._closing.is_set, "the end of the job")
            saved.append(name)
            super().put(job, name, content, content_type, **more)

    checkpoints = Checkpoints(Slow(volume), job, FIT, REQUEST)
    save(checkpoints, disk, range(1, 51))
    assert begun.wait(LAST_RESORT_SECONDS)
    checkpoints.close(delivered=True)
    assert len(saved) == 3, "the window that was under way, and none after it"
    assert list(volume.iterdir()) == []


def test_a_volume_has_no_empty_folders_left(volume: Path, job: str, disk: Path) -> None:
    checkpoints = Checkpoints(store_of(), job, FIT, REQUEST)
    save(checkpoints, disk, [1, 2])
    wait_for_windows(store_of(), job, 2)
    checkpoints.close(delivered=True)
    assert list((volume / "talkinghead").iterdir()) == []


class Picky(http.server.BaseHTTPRequestHandler):
    """A bucket with segments, which answers `status` to the request to delete many."""

    status = 0
    segments = 1
    at_once: list[int]
    deleted: list[str]

    def do_GET(self) -> None:
        time = "<LastModified>2026-01-01T00:00:00Z</LastModified>"
        keys = (
            f"job/{folder_of(FIT)}segment_{n:05}_0123abcd.mp4" for n in range(1, self.segments + 1)
        )
        listed = (f"<Contents><Key>{key}</Key><Size>1</Size>{time}</Contents>" for key in keys)
        self._answer(200, f"<ListBucketResult>{''.join(listed)}</ListBucketResult>")

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        self.at_once.append(asked.count(b"<Key>"))
        error = "<Error><Code>Refused</Code><Message>no</Message></Error>"
        self._answer(self.status, "<DeleteResult/>" if self.status == 200 else error)

    def do_DELETE(self) -> None:
        self.deleted.append(self.path)
        self._answer(204, "")

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not part of a test's output."""


@pytest.fixture
def picky(on_s3: pytest.MonkeyPatch) -> Iterator[type[Picky]]:
    handler = type("Handler", (Picky,), {"at_once": [], "deleted": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    on_s3.setenv("S3_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield handler
    server.shutdown()
    server.server_close()


def test_no_more_files_are_deleted_at_once_than_s3_takes(picky: type[Picky]) -> None:
    picky.status, picky.segments = 200, 2500
    Checkpoints(store_of(), "job", FIT, REQUEST).close(delivered=True)
    assert (picky.at_once, picky.deleted) == ([1000, 1000, 500], [])


@pytest.mark.parametrize("status", [400, 501])
def test_a_store_that_does_not_delete_many_at_once_is_asked_for_each(
    picky: type[Picky], status: int
) -> None:
    picky.status = status  # MissingContentMD5, NotImplemented
    Checkpoints(store_of(), "job", FIT, REQUEST).close(delivered=True)
    assert picky.deleted == [f"/{BUCKET}/job/{folder_of(FIT)}segment_00001_0123abcd.mp4"]


def test_a_key_that_may_not_delete_is_told_in_the_log_alone(
    picky: type[Picky], caplog: pytest.LogCaptureFixture
) -> None:
    picky.status = 403
    Checkpoints(store_of(), "job", FIT, REQUEST).close(delivered=True)
    assert picky.deleted == []
    assert caplog.messages == ["the checkpoint stays"]


# What does not fit


def test_a_checkpoint_of_another_render_is_refused_and_the_message_says_what_differs(
    store: BlobStore, job: str, disk: Path
) -> None:
    rendered(store, job, disk, [1, 2])
    with pytest.raises(CheckpointRefused) as caught:
        Checkpoints(store, job, OTHER_FIT, REQUEST).open(go_on)
    assert str(caught.value) == (
        f"the checkpoint of {job}, 2 of 5 windows, was made with other node packs (packs: b2 "
        "there, e5 here), other voices (voices: none there, f6 here); to finish it, use the same "
        "again; to start anew, give another request_id, or remove it with `talkinghead "
        f"checkpoints remove {job}`"
    )
    assert caught.value.details == {
        "reason": str(caught.value).partition(";")[0],
        "differs": {"packs": ["b2", "e5"], "voices": [None, "f6"]},
        "windows": 5,
        "windows_done": 2,
    }
    assert not caught.value.retryable
    assert done(store, job) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-20],
        lambda text: "{}",
        lambda text: text.replace('"version":2', '"version":3'),
    ],
    ids=["cut off", "empty", "of another version"],
)
def test_a_ledger_that_cannot_be_read_is_refused_and_not_overwritten(
    store: BlobStore, job: str, disk: Path, change: Callable[[str], str]
) -> None:
    rendered(store, job, disk, [1])
    ledger = io.BytesIO()
    (name,) = ledgers_in(checkpoint_files(store, job))
    assert store.get(job, name, ledger)
    store.put(job, name, change(ledger.getvalue().decode()).encode(), "application/json")
    with pytest.raises(CheckpointRefused, match=rf"checkpoint of {job} cannot be read: it is dam"):
        Checkpoints(store, job, FIT, REQUEST).open(go_on)


def test_what_an_older_version_left_is_said_to_be_that(store: BlobStore, job: str) -> None:
    store.put(job, OLDER_LEDGER, b'{"version": 1}', "application/json")
    with pytest.raises(CheckpointRefused, match="was made by an older version of the worker; to"):
        Checkpoints(store, job, FIT, REQUEST).open(go_on)


def test_keys_that_may_not_list_continue_what_is_theirs_and_know_of_no_others(
    store: BlobStore,
    job: str,
    disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: object) -> list[StoredFile]:
        raise StoreError("AccessDenied")

    monkeypatch.setattr(store, "files", refuse)
    begun = Checkpoints(store, job, FIT, REQUEST)
    assert begun.open(go_on) is None
    save(begun, disk, [1, 2])
    begun.close(delivered=False)
    ledger = Checkpoints(store, job, FIT, REQUEST).open(go_on)
    assert ledger is not None and ledger.windows_done == 2
    assert Checkpoints(store, job, OTHER_FIT, REQUEST).open(go_on) is None
    assert "other checkpoints are not known" in caplog.messages


def test_a_bucket_that_refuses_ends_the_job_before_it_overwrites_what_is_there(
    on_s3: pytest.MonkeyPatch, job: str
) -> None:
    on_s3.setenv("S3_KEY", "nobody")
    with pytest.raises(DeliveryFailed, match=f"{BUCKET} did not give the checkpoint") as caught:
        Checkpoints(store_of(), job, FIT, REQUEST).open(go_on)
    assert SECRET not in str(caught.value)


def test_a_cancelled_job_does_not_wait_for_a_store_that_is_away(
    on_s3: pytest.MonkeyPatch, s3: S3Server, job: str, empty_disk: Path
) -> None:
    with Wire(s3.port) as wire:
        wire.away = True
        on_s3.setenv("S3_ENDPOINT", wire.url)

        def check() -> None:
            if wire.refused:
                raise Cancelled("the job was cancelled")

        checkpoints = Checkpoints(store_of(), job, FIT, REQUEST)
        with pytest.raises(Cancelled):
            checkpoints.open(check)
        with pytest.raises(Cancelled):
            checkpoints.restore(ledger_of_40(), empty_disk, check)


def ledger_of_40() -> Ledger:
    mark, run = Mark(window=40, chain="", motion=""), Run(first=1, token="0123abcd")
    return replace(BEGUN, windows=50, marks=(mark,), runs=(run,))


# The commands


def command(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["checkpoints", *arguments])
    return result.exit_code, result.output


def test_the_list_tells_how_far_how_old_and_how_large(
    store: BlobStore, job: str, disk: Path
) -> None:
    rendered(store, job, disk, [1, 2])
    fill(store, f"{job}-b", 3)
    store.put(f"{job}-c", "talkinghead.mp4", b"delivered", "video/mp4")
    status, output = command("list")
    assert status == 0
    rows = {row.split()[0]: " ".join(row.split()[1:]) for row in output.splitlines()}
    assert re.fullmatch(r"2 of 5 windows 0 min ago \d\.\d kB", rows[job])
    assert rows[f"{job}-b"] == "none whole 0 min ago 0 bytes"
    assert f"{job}-c" not in rows


def test_a_ledger_that_cannot_be_read_is_listed_too(volume: Path, job: str) -> None:
    store_of().put(job, BEGUN.name(None), b"{", "application/json")
    assert f"{job}  unreadable" in command("list")[1]


def test_without_any_the_list_says_so(volume: Path) -> None:
    assert command("list") == (0, "there are none\n")


def test_a_checkpoint_is_removed_by_its_id(store: BlobStore, job: str, disk: Path) -> None:
    rendered(store, job, disk, [1])
    rendered(store, f"{job}-b", disk, [1])
    status, output = command("remove", job, f"{job}-c")
    assert status == 1
    assert re.fullmatch(rf"{job}: \d\.\d kB removed\n{job}-c: has none\n", output)
    assert (names(store, job), done(store, f"{job}-b")) == ([], 1)
    assert command("remove", f"{job}-b")[0] == 0
    assert Checkpoints(store, job, FIT, REQUEST).open(go_on) is None


def test_old_checkpoints_are_removed_at_once_and_young_ones_stay(
    volume: Path, job: str, disk: Path
) -> None:
    store, ten_days_ago = store_of(), time.time() - 10 * 86_400
    for each in (f"{job}-old", f"{job}-young"):
        rendered(store, each, disk, [1, 2])
        store.put(each, "talkinghead.mp4", b"a video", "video/mp4")
    for path in (volume / "talkinghead" / f"{job}-old").rglob("*"):
        os.utime(path, (ten_days_ago, ten_days_ago))
    assert command("remove", "--older-than", "11") == (0, "there are none so old\n")
    status, output = command("remove", "--older-than", "7")
    assert (status, output.count("removed")) == (0, 1)
    assert names(store, f"{job}-old") == [] and done(store, f"{job}-young") == 2
    assert (volume / "talkinghead" / f"{job}-old" / "talkinghead.mp4").exists()


@pytest.mark.parametrize("arguments", [[], ["job", "--older-than", "7"]])
def test_remove_wants_to_know_which(volume: Path, arguments: list[str]) -> None:
    status, output = command("remove", *arguments)
    assert status == 2 and "--older-than DAYS" in output


def test_a_path_is_no_id(volume: Path, tmp_path: Path) -> None:
    segment = tmp_path / "checkpoint" / "segment_00001_0123abcd.mp4"
    segment.parent.mkdir()
    segment.write_bytes(b"of others")
    assert command("remove", "../..")[0] == 1
    assert segment.exists()


def test_without_bucket_and_volume_the_commands_say_so() -> None:
    status, output = command("list")
    assert status == 2 and "neither a bucket nor a volume" in " ".join(output.split())


def test_a_bucket_that_cannot_be_listed_is_told_without_the_secret(
    on_s3: pytest.MonkeyPatch,
) -> None:
    on_s3.setenv("S3_SECRET", "wrong-canary")
    status, output = command("list")
    assert status == 1 and f"failed: the bucket {BUCKET} did not list" in output
    assert "canary" not in output
