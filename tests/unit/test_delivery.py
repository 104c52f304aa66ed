from __future__ import annotations

import base64
from pathlib import Path

import pytest
import requests
from pydantic import ValidationError

from talkinghead.delivery import InlineStore, S3Store, open_store
from talkinghead.errors import DeliveryFailed, ResultTooLarge
from talkinghead.settings import Settings
from tests.store import BUCKET, SECRET, S3Server


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "talkinghead.mp4"
    path.write_bytes(bytes(range(256)) * 4000)
    return path


@pytest.fixture
def on_s3(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_without_storage_the_result_carries_the_video(video: Path) -> None:
    place = open_store(Settings()).deliver(video, "job")
    head, _, content = place["video"].partition(",")
    assert head == "data:video/mp4;base64"
    assert base64.b64decode(content) == video.read_bytes()


def test_a_result_that_the_platform_would_drop_is_refused_with_its_size(video: Path) -> None:
    with pytest.raises(ResultTooLarge, match=r"a result of 1\.4 MB, allowed: 1 MB; configure S3"):
        InlineStore(1).deliver(video, "job")


def test_with_storage_the_result_has_a_url_that_anybody_can_open_for_a_while(
    on_s3: pytest.MonkeyPatch, video: Path
) -> None:
    on_s3.setenv("S3_PREFIX", "/renders/")
    place = open_store(Settings()).deliver(video, "job-1")
    assert place["video_url"] == place["output_video_url"]
    assert f"/{BUCKET}/renders/job-1/talkinghead.mp4?" in place["video_url"]
    answer = requests.get(place["video_url"], timeout=10)
    assert answer.content == video.read_bytes()
    assert answer.headers["Content-Type"] == "video/mp4"
    assert SECRET not in place["video_url"]


def test_the_same_job_twice_leaves_one_video(
    on_s3: pytest.MonkeyPatch, s3: S3Server, video: Path
) -> None:
    for _ in range(2):
        open_store(Settings()).deliver(video, "job-twice")
    listed = s3.client().list_objects_v2(Bucket=BUCKET, Prefix="job-twice/")
    assert listed["KeyCount"] == 1


def test_a_store_that_refuses_is_delivery_failed_without_the_secret(
    on_s3: pytest.MonkeyPatch, video: Path
) -> None:
    on_s3.setenv("S3_KEY", "nobody")
    with pytest.raises(
        DeliveryFailed, match=f"the bucket {BUCKET} did not take the video"
    ) as caught:
        S3Store(Settings()).deliver(video, "job")
    assert SECRET not in str(caught.value)


def test_half_a_configuration_is_refused_at_start(on_s3: pytest.MonkeyPatch) -> None:
    on_s3.delenv("S3_SECRET")
    with pytest.raises(ValidationError, match="half configured: S3_SECRET not set"):
        Settings()
