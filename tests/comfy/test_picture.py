"""The picture is looked at before it is kept: a black one is made again, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from talkinghead.comfy.record import Record, said_here
from talkinghead.comfy.studio import Studio
from talkinghead.delivery.s3 import S3Store
from talkinghead.delivery.stores import Stores
from talkinghead.models.gpu import Tuning
from talkinghead.net.guard import UrlGuard
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
