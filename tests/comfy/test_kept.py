"""What a long render has left, and who may go on with it: on a real ComfyUI with the doubles."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from comfy_client import ComfyClient
from talkinghead.comfy.studio import Studio
from talkinghead.delivery.blobs import BlobStore
from talkinghead.delivery.ledger import FOLDER, segment_name
from talkinghead.delivery.restore import checkpoint_files, ledgers_in, read_ledger
from talkinghead.delivery.stores import Stores
from talkinghead.delivery.volume import VolumeStore
from talkinghead.errors import DeadlineExceeded
from talkinghead.files import sha256_of
from talkinghead.models.gpu import Attention, Gpu, Host, Tuning
from talkinghead.models.manifest import load_manifest
from talkinghead.net.guard import UrlGuard
from talkinghead.render import long as long_render
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.render.run import run_job
from talkinghead.render.window_log import WindowLog
from talkinghead.settings import Settings
from tests.conftest import FileServer, write_tone
from tests.store import S3Server
from tests.timing import LAST_RESORT_SECONDS, wait_until

Control = Callable[..., None]


@pytest.fixture
def long_job(files: FileServer, portrait: Path) -> dict[str, Any]:
    """Three windows."""
    (files.folder / "portrait.jpg").write_bytes(portrait.read_bytes())
    write_tone(files.folder / "a.wav", seconds=9.0)
    urls = {"image_url": files.url("portrait.jpg"), "wav_url": files.url("a.wav")}
    return urls | {"width": 256, "height": 256, "long": True, "seed": 7}


@pytest.fixture
def kept_in(studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The studio's network volume."""
    volume = tmp_path / "volume"
    volume.mkdir()
    stores = Stores(Settings(volume_dir=volume), guard=UrlGuard(blocked=()))
    monkeypatch.setattr(studio, "stores", stores)
    return volume


@pytest.fixture
def card(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts another card into the worker, with what suits it: card("L40S", "sageattn")."""
    profile = studio.profile

    def put(
        name: str,
        attention: Attention = "sdpa",
        *,
        force_offload: bool = True,
        bf16: bool = True,
        models: str | None = None,
    ) -> None:
        chosen = load_manifest().profile(models) if models else profile
        tuned = Tuning("of the doubles", attention, 0, force_offload, bf16).apply(chosen)
        monkeypatch.setattr(studio, "profile", tuned)
        monkeypatch.setattr(studio, "host", Host(Gpu(name, 48.0, 8.9), 256.0))

    return put


def fail_in_window(done: int, control: Control) -> None:
    """Have the sampler raise after so many windows of the next job are done."""
    control(WanVideoSampler={"action": "raise", "after": done})


def files_in(volume: Path) -> list[str]:
    return sorted(path.name for path in volume.rglob("*") if path.is_file())


def test_a_lost_workers_job_goes_on_on_another_card_and_the_result_says_what_changed(
    long_job: dict[str, Any],
    studio: Studio,
    kept_in: Path,
    card: Callable[..., None],
    control: Control,
) -> None:
    card("RTX 4090", "sdpa", force_offload=True)
    fail_in_window(2, control)
    lost = run_job(Job("retried", long_job), studio)
    assert lost["details"]["windows_done"] == 2
    control()
    card("L40S", "sageattn", force_offload=False, bf16=False)
    result = run_job(Job("retried", long_job), studio)
    assert result.get("status") == "completed", result
    told = " ".join(result["warnings"])
    assert "2 of 3 windows were rendered by an earlier job" in told
    assert "from window 3 on rendered with card L40S instead of RTX 4090" in told
    assert "attention sageattn instead of sdpa" in told
    assert "precision of the VAE fp32 instead of bf16" in told
    assert files_in(kept_in) == []


def test_what_a_card_ran_out_of_memory_of_is_not_another_cards(
    long_job: dict[str, Any],
    studio: Studio,
    kept_in: Path,
    card: Callable[..., None],
    control: Control,
) -> None:
    for name, blocks in (("RTX 4090", 20), ("L40S", 0)):
        job = long_job | {"request_id": f"on-{blocks}"}
        card("RTX 4090")
        fail_in_window(1, control)
        run_job(Job("lost", job | {"use_block_swap": True}), studio)
        control()
        card(name)
        result = run_job(Job("next", job | {"use_block_swap": False}), studio)
        assert result["generation_params"]["blocks_to_swap"] == blocks


def test_a_retry_that_finds_a_render_with_other_models_begins_anew_and_says_so(
    long_job: dict[str, Any],
    studio: Studio,
    kept_in: Path,
    card: Callable[..., None],
    control: Control,
) -> None:
    fail_in_window(1, control)
    run_job(Job("retried", long_job), studio)
    control()
    card("L40S", models="fp8")
    result = run_job(Job("retried", long_job), studio)
    assert result.get("status") == "completed", result
    (warning,) = [each for each in result["warnings"] if "from the beginning" in each]
    assert "1 of 3 windows, was made with other model files" in warning
    assert "talkinghead checkpoints remove" not in warning
    assert files_in(kept_in) == [], "both are of this job, and it is delivered"


def test_a_retry_that_finds_what_it_cannot_read_begins_anew_and_says_so(
    long_job: dict[str, Any], studio: Studio, kept_in: Path, control: Control
) -> None:
    fail_in_window(1, control)
    run_job(Job("retried", long_job), studio)
    (ledger,) = kept_in.rglob("ledger*.json")
    ledger.write_text("{")
    control()
    result = run_job(Job("retried", long_job), studio)
    assert result.get("status") == "completed", result
    (warning,) = [each for each in result["warnings"] if "from the beginning" in each]
    assert "cannot be read" in warning


@pytest.mark.parametrize("place", ["volume", "s3"])
def test_the_same_request_twice_at_once_is_two_renders_and_neither_tears_the_other(
    *,
    long_job: dict[str, Any],
    settings: Settings,
    client: ComfyClient,
    place: str,
    request: pytest.FixtureRequest,
) -> None:
    """Two workers with one store; one is at its first window until the other has delivered."""
    workers = [Studio(settings.model_copy(update={"comfyui_url": client.url})) for _ in range(2)]
    if place == "volume":
        volume = request.getfixturevalue("tmp_path") / "both"
        volume.mkdir()
        stored = Settings(volume_dir=volume)
    else:
        bucket: S3Server = request.getfixturevalue("s3")
        for name, value in bucket.environment.items():
            request.getfixturevalue("monkeypatch").setenv(name, value)
        stored = Settings()
    for worker in workers:
        worker.stores = Stores(stored, guard=UrlGuard(blocked=()))
    store = workers[0].stores.checkpoints()
    assert store is not None
    job = long_job | {"request_id": f"at-once-{place}", "delivery": place}
    del job["seed"]
    begun, delivered = threading.Event(), threading.Event()
    kept = list[tuple[int, bool]]()
    results: dict[str, dict[str, Any]] = {}

    def slow(progress: Progress) -> None:
        if progress.stage == "render":
            begun.wait(LAST_RESORT_SECONDS)
        if progress.message == "window 1 of 3 is done":
            delivered.wait(LAST_RESORT_SECONDS)
            kept.extend(ledgers_of(store, job["request_id"]))

    def quick(progress: Progress) -> None:
        if progress.stage == "render":
            begun.set()
        if progress.message == "window 1 of 3 is done":
            both = lambda: len(ledgers_of(store, job["request_id"])) == 2  # noqa: E731
            wait_until(both, "each has stored its first window")

    def run(name: str, worker: Studio, report: Callable[[Progress], None]) -> None:
        results[name] = run_job(Job(name, job, report=report), worker)

    thread = threading.Thread(target=run, args=("slow", workers[0], slow))
    thread.start()
    run("quick", workers[1], quick)
    delivered.set()
    thread.join()
    assert [each.get("status") for each in results.values()] == ["completed"] * 2, results
    assert kept == [(1, True)], "the slow one's window is there, whole"
    assert store.files(job["request_id"], FOLDER) == []
    told = {each["video_info"]["sha256"] for each in results.values()}
    assert told == {video_of(results["quick"])}, "whose video is there is what both were told"


def video_of(result: dict[str, Any]) -> str:
    """The SHA-256 of the delivered video."""
    if "video_path" in result:
        return sha256_of(Path(result["video_path"]))
    content = requests.get(result["video_url"], timeout=LAST_RESORT_SECONDS).content
    return hashlib.sha256(content).hexdigest()


def ledgers_of(store: BlobStore, job: str) -> list[tuple[int, bool]]:
    """How far each ledger of the job is, and whether all segments that it names are there."""
    files = {each.name for each in checkpoint_files(store, job)}
    found = [read_ledger(store, job, name) for name in ledgers_in(checkpoint_files(store, job))]
    return [
        (
            each.windows_done,
            {each.stored(segment_name(n), n) for n in range(1, each.windows_done + 1)} <= files,
        )
        for each in found
        if each
    ]


def test_the_windows_that_are_told_as_done_are_those_in_the_store(
    long_job: dict[str, Any],
    studio: Studio,
    kept_in: Path,
    control: Control,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The store takes the first window and is then too slow for the end of the job."""
    monkeypatch.setattr("talkinghead.delivery.writer.CLOSE_SECONDS", 0.5)
    monkeypatch.setattr(
        long_render.LongRender, "_stops", lambda self, seconds: seconds is not None and made() >= 2
    )
    job = long_job | {"request_id": "slow", "continue_later": True}
    over, begun = threading.Event(), threading.Event()
    put, add = VolumeStore.put, WindowLog.add
    count = [0]

    def made() -> int:
        return count[0]

    def counted(log: WindowLog) -> None:
        add(log)
        count[0] += 1
        if count[0] == 2:  # the first has to be there before the job ends
            begun.wait(LAST_RESORT_SECONDS)

    def slow(store: VolumeStore, job: str, name: str, *rest: Any, **more: Any) -> None:
        if segment_name(2).removesuffix(".mp4") in name:
            over.wait(LAST_RESORT_SECONDS)
        put(store, job, name, *rest, **more)
        if name.startswith(FOLDER) and "/ledger" in name:
            begun.set()

    monkeypatch.setattr(VolumeStore, "put", slow)
    monkeypatch.setattr(WindowLog, "add", counted)
    try:
        result = run_job(Job("slow", job), studio)
    finally:
        over.set()
    assert result["status"] == "incomplete"
    assert (made(), result["windows_done"]) == (2, 1)


def test_a_job_that_ends_while_its_windows_are_joined_says_that_they_are_kept(
    long_job: dict[str, Any], studio: Studio, kept_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*_: Any, **__: Any) -> None:
        raise DeadlineExceeded("the job took longer than JOB_TIMEOUT_SECONDS")

    with monkeypatch.context() as patch:
        patch.setattr(long_render, "finish_segments", late)
        failed = run_job(Job("late", long_job), studio)
    assert (failed["error_code"], failed["stage"]) == ("deadline_exceeded", "collect")
    assert failed["details"]["windows_done"] == failed["details"]["windows"]
    assert 'request_id "late" continues after them' in failed["error"]
    again = run_job(Job("again", long_job | {"request_id": "late", "delivery": "volume"}), studio)
    assert again["status"] == "completed", again
    assert "render" not in again["timings"]
