"""The picture is looked at before it is kept: a black one is made again, or refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from comfy_client import OutputFile
from talkinghead.comfy.own_client import OwnClient
from talkinghead.comfy.record import Record, said_here
from talkinghead.comfy.studio import Studio
from talkinghead.delivery.s3 import S3Store
from talkinghead.delivery.stores import Stores
from talkinghead.media import watching
from talkinghead.models.gpu import Tuning
from talkinghead.net.guard import UrlGuard
from talkinghead.render import lips
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.render.run import run_job
from talkinghead.settings import Settings
from tests.comfy.test_process_faults import Control

EVERY_ATTENTION = ["sageattn", "sdpa"]


@pytest.fixture
def on_sage(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> Studio:
    """The worker, on a card on which SageAttention runs."""
    tuned = Tuning("of the doubles", "sageattn", 0, True).apply(studio.profile)
    monkeypatch.setattr(studio, "profile", tuned)
    return studio


def run(studio: Studio, fields: dict[str, Any]) -> dict[str, Any]:
    return run_job(Job("picture", fields), studio)


def attention(result: dict[str, Any]) -> str:
    assert result["status"] == "completed", result
    used: str = result["generation_params"]["attention"]
    return used


def brightnesses(video: Path) -> Iterator[float]:
    with av.open(str(video)) as file:
        for frame in file.decode(video=0):
            yield float(frame.to_ndarray(format="gray").mean())


def test_a_render_that_sageattention_makes_black_is_made_again_with_sdpa_and_so_is_the_next(
    on_sage: Studio,
    short_job: dict[str, Any],
    control: Control,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(on_sage, "record", record := Record())
    record.keep_in(tmp_path)
    control(black_with=["sageattn"])
    result = run(on_sage, short_job)
    assert attention(result) == "sdpa"
    assert result["warnings"] == [
        "window 1 is black from its frame 2 on; before, the picture is right: rendered again "
        "with sdpa"
    ]
    assert result["quality"]["black_frames"] == 0
    assert result["quality"]["first_frame_likeness"] > 0.9

    again = run(on_sage, short_job)
    assert attention(again) == "sdpa"
    told = "an earlier render here did not come out right: made with sdpa"
    assert again["warnings"] == [told]
    (said,) = said_here(tmp_path)  # for the doctor
    assert said.sentences == ["renders came out black, flat or as noise, but with sdpa"]


@pytest.mark.usefixtures("on_sage")
def test_no_black_window_of_a_long_render_is_kept_or_shown(
    on_s3: Studio,
    long_job: dict[str, Any],
    control: Control,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    control(black_with=["sageattn"])
    fields = long_job | {"playlist": True, "request_id": "black"}
    shown: dict[str, bytes] = {}
    put = S3Store.put

    def noted(
        store: S3Store, job: str, name: str, content: Path | bytes, *rest: Any, **more: Any
    ) -> None:
        shown[name] = content.read_bytes() if isinstance(content, Path) else content
        put(store, job, name, content, *rest, **more)

    monkeypatch.setattr(S3Store, "put", noted)
    result = run_job(Job("black", fields), on_s3)
    assert attention(result) == "sdpa"
    assert "window 1 is black" in result["warnings"][0]
    assert result["quality"]["windows"] == 3 and result["quality"]["black_frames"] == 0
    begin = next(content for key, content in shown.items() if key.endswith("init.mp4"))
    kept = [content for key, content in shown.items() if "/segment_" in key]
    parts = [begin + content for key, content in shown.items() if key.endswith(".m4s")]
    assert kept and parts
    for content in (*kept, *parts):
        (video := tmp_path / "video.mp4").write_bytes(content)
        assert min(brightnesses(video)) > 50


def test_a_vae_that_overflows_is_run_in_fp32(
    on_sage: Studio, long_job: dict[str, Any], control: Control
) -> None:
    control(black_with=["bf16"])
    result = run(on_sage, long_job)
    assert attention(result) == "sdpa"
    assert result["warnings"][-1].endswith("rendered again with sdpa and the VAE in fp32")
    assert on_sage.cures == ["sdpa", "the VAE in fp32"]


@pytest.mark.parametrize("long", [False, True])
def test_a_picture_that_stays_black_fails_its_job_and_not_the_next(
    on_sage: Studio,
    long_job: dict[str, Any],
    control: Control,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    long: bool,
) -> None:
    volume = Settings(volume_dir=tmp_path)
    monkeypatch.setattr(on_sage, "stores", Stores(volume, guard=UrlGuard(blocked=())))
    fields = long_job | {"long": long, "delivery": "inline"}
    control(black_with=EVERY_ATTENTION)
    result = run(on_sage, fields)
    assert (result["error_code"], result["retryable"]) == ("render_defective", False)
    details = result["details"]
    assert details["seen"].startswith("window 1 is black from its frame 2 on")
    ways = ["with sageattn", "with sdpa", "with sdpa and the VAE in fp32"]
    assert details["tried"] == ways
    assert all(way in result["error"] for way in ways)
    with Image.open(details["contact_sheet"]) as sheet:
        assert sheet.format == "PNG"
        pixels = np.asarray(sheet.convert("L"))
    assert pixels.max() > 50  # the first frame can be seen
    assert [*tmp_path.rglob("*.mp4")] == []

    control()
    assert attention(run(on_sage, fields)) == "sageattn"
    assert [*tmp_path.rglob("*.png")] == [], "the sheet of what failed is not left beside it"


def test_who_renders_darkness_on_purpose_gets_it(
    on_sage: Studio, short_job: dict[str, Any], control: Control
) -> None:
    control(black_with=EVERY_ATTENTION)
    warned = run(on_sage, short_job | {"check_picture": "warn"})
    assert attention(warned) == "sageattn"
    assert "window 1 is black" in warned["warnings"][0]
    assert warned["quality"]["black_frames"] == 19
    unseen = run(on_sage, short_job | {"check_picture": "off"})
    assert (attention(unseen), unseen["warnings"], unseen["quality"]) == ("sageattn", [], {})


def test_a_black_render_is_not_begun_again_when_there_is_no_time(
    on_sage: Studio, short_job: dict[str, Any], control: Control
) -> None:
    def late(progress: Progress) -> None:
        if progress.stage == "collect":
            job.started -= job.timeout_seconds / 2

    control(black_with=["sageattn"])
    job = Job("late", short_job, report=late)
    result = run_job(job, on_sage)
    assert result["error_code"] == "render_defective"
    assert "no time to render it again" in result["error"]


def test_a_black_window_is_not_begun_again_when_there_is_no_time(
    on_sage: Studio, long_job: dict[str, Any], control: Control
) -> None:
    late = threading.Event()

    def at_first_step(progress: Progress) -> None:
        if progress.step and not late.is_set():
            late.set()
            job.started -= job.timeout_seconds / 2

    control(black_with=["sageattn"])
    job = Job("late", long_job, report=at_first_step)
    result = run_job(job, on_sage)
    assert result["error_code"] == "render_defective"
    assert "so it came out with sageattn; there is no time to render it again" in result["error"]


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("what", ["glance", "judge"])
def test_a_fault_of_the_workers_own_eyes_costs_no_video(
    studio: Studio,
    long_job: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    *,
    long: bool,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(watching, what, fail)
    result = run(studio, long_job | {"long": long})
    assert result["status"] == "completed", result
    assert [each for each in result["warnings"] if "could not be looked at" in each]
    assert (result["quality"], result["video_info"]["frames"]) == ({}, 175)


def test_a_fault_of_what_compares_lips_and_sound_costs_no_video(
    studio: Studio, short_job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(lips, "_figures", fail)
    result = run(studio, short_job)
    assert result["status"] == "completed", result
    assert result["quality"]["lip_sync"] is None


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("check", ["fail", "off"])
@pytest.mark.parametrize(
    "damage",
    [lambda content: content[: len(content) // 2], lambda content: zeroed(content, 0.05, 0.95)],
    ids=["cut off", "damaged"],
)
def test_what_cannot_be_decoded_is_told_though_nobody_looks_at_it(
    studio: Studio,
    long_job: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[bytes], bytes],
    check: str,
    *,
    long: bool,
) -> None:
    download = OwnClient.download

    def damaged(client: OwnClient, file: OutputFile, target: Path, **options: Any) -> None:
        download(client, file, target, **options)
        if target.suffix == ".mp4":
            target.write_bytes(damage(target.read_bytes()))

    monkeypatch.setattr(OwnClient, "download", damaged)
    result = run(studio, long_job | {"long": long, "check_picture": check})
    assert result["error_code"] == "render_failed", result
    assert "what was rendered cannot be" in result["error"]


def zeroed(content: bytes, begin: float, end: float) -> bytes:
    """The video, and of its frames' bytes zeros from one share of them to the other."""
    first = content.index(b"mdat") + 4
    after = content.find(b"moov", first) - 4
    last = len(content) if after < 0 else after
    start, stop = (first + round(share * (last - first)) for share in (begin, end))
    return content[:start] + bytes(stop - start) + content[stop:]
