"""What callers of one endpoint can do to each other: each sentence of docs/security.md, a test."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from talkinghead.comfy.studio import Studio
from talkinghead.delivery.stores import Stores
from talkinghead.net.guard import UrlGuard
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.render.run import run_job
from talkinghead.settings import Settings
from tests.conftest import FileServer, write_tone
from tests.store import BUCKET, S3Server
from tests.timing import LAST_RESORT_SECONDS


@pytest.fixture
def theirs(short_job: dict[str, Any]) -> dict[str, Any]:
    """The first caller's request."""
    return short_job | {"draft": True, "request_id": "episode-12", "bundle": True}


@pytest.fixture
def ours(theirs: dict[str, Any]) -> dict[str, Any]:
    """Another caller's, who took the same id."""
    return theirs | {"max_frame": 12}


@pytest.fixture
def long_job(files: FileServer, short_job: dict[str, Any]) -> dict[str, Any]:
    """Two windows."""
    write_tone(files.folder / "long.wav", seconds=5.0)
    fields = short_job | {"wav_url": files.url("long.wav"), "long": True, "request_id": "long-12"}
    del fields["max_frame"]
    return fields


def seen(url: str) -> bytes:
    return requests.get(url, timeout=LAST_RESORT_SECONDS).content


def test_another_request_under_the_same_id_changes_nothing_that_the_firsts_urls_show(
    on_s3: Studio, theirs: dict[str, Any], ours: dict[str, Any]
) -> None:
    first = run_job(Job("first", theirs), on_s3)
    shown = {name: seen(first[name]) for name in ("video_url", "bundle_url")}
    second = run_job(Job("second", ours), on_s3)
    assert (second["status"], second["video_info"]["frames"]) == ("completed", 12)
    assert {name: seen(first[name]) for name in shown} == shown
    video = shown["video_url"]
    assert hashlib.sha256(video).hexdigest() == first["video_info"]["sha256"]


def test_a_volume_keeps_the_videos_of_both(
    studio: Studio,
    theirs: dict[str, Any],
    ours: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stores = Stores(Settings(volume_dir=tmp_path), guard=UrlGuard(blocked=()))
    monkeypatch.setattr(studio, "stores", stores)
    results = [
        run_job(Job("job", fields | {"delivery": "volume"}), studio) for fields in (theirs, ours)
    ]
    for result in results:
        video = Path(result["video_path"]).read_bytes()
        assert hashlib.sha256(video).hexdigest() == result["video_info"]["sha256"]
    assert len({result["video_path"] for result in results}) == 2


def test_only_who_sends_the_whole_request_again_is_answered_with_its_video(
    on_s3: Studio, theirs: dict[str, Any], ours: dict[str, Any]
) -> None:
    first = run_job(Job("first", theirs), on_s3)
    stages: list[str] = []

    def report(progress: Progress) -> None:
        stages.append(progress.stage)

    assert run_job(Job("other", ours, report=report), on_s3)["video_info"] != first["video_info"]
    assert "render" in stages
    stages.clear()
    again = run_job(Job("again", theirs, report=report), on_s3)
    assert again["video_info"] == first["video_info"] and stages == []


def test_who_knows_the_urls_but_has_no_signature_that_opens_them_gets_no_video(
    on_s3: Studio, s3: S3Server, theirs: dict[str, Any], portrait: Path
) -> None:
    s3.client().upload_file(str(portrait), BUCKET, "theirs/face.jpg")
    target = {"Bucket": BUCKET, "Key": "theirs/face.jpg"}
    url = s3.client().generate_presigned_url("get_object", target, ExpiresIn=3600)
    assert run_job(Job("first", theirs | {"image_url": url}), on_s3)["status"] == "completed"
    guessed = url.replace("X-Amz-Signature=", "X-Amz-Signature=0")
    other = run_job(Job("second", theirs | {"image_url": guessed}), on_s3)
    assert other["error_code"] == "download_failed"
    assert "video_url" not in other


def test_urls_that_differ_in_more_than_a_signature_are_another_request(
    on_s3: Studio, theirs: dict[str, Any]
) -> None:
    one, other = (theirs | {"image_url": f"{theirs['image_url']}&id={n}"} for n in (1, 2))
    first = run_job(Job("first", one), on_s3)
    second = run_job(Job("second", other), on_s3)
    paths = {each["video_url"].partition("?")[0] for each in (first, second)}
    assert len(paths) == 2


def test_an_id_that_is_another_jobs_opens_nothing_of_that_job(
    on_s3: Studio, s3: S3Server, theirs: dict[str, Any], ours: dict[str, Any]
) -> None:
    unnamed = {name: value for name, value in theirs.items() if name != "request_id"}
    first = run_job(Job("a-job-of-theirs", unnamed), on_s3)
    run_job(Job("second", ours | {"request_id": "a-job-of-theirs"}), on_s3)
    assert hashlib.sha256(seen(first["video_url"])).hexdigest() == first["video_info"]["sha256"]
    assert "a-job-of-theirs/talkinghead.mp4" in s3.keys("a-job-of-theirs/")


def test_a_kept_render_is_no_other_requests_to_continue_and_stays_for_its_own(
    on_s3: Studio, long_job: dict[str, Any], control: Callable[..., None]
) -> None:
    control(WanVideoSampler={"action": "raise", "after": 1})
    run_job(Job("first", long_job), on_s3)
    control()
    other = run_job(Job("second", long_job | {"prompt": "another"}), on_s3)
    assert other["error_code"] == "checkpoint_refused"
    assert {*other["details"]["differs"]} == {"plan"}, "sums, and nothing of what they are of"
    result = run_job(Job("third", long_job), on_s3)
    assert "1 of 2 windows were rendered by an earlier job" in result["warnings"]


def test_each_requests_playlist_is_its_own(on_s3: Studio, long_job: dict[str, Any]) -> None:
    urls: list[str] = []

    def report(progress: Progress) -> None:
        if progress.playlist_url:
            urls.append(progress.playlist_url)

    job = long_job | {"playlist": True}
    assert run_job(Job("first", job, report=report), on_s3)["status"] == "completed"
    first, shown = urls[-1], seen(urls[-1])
    for more in ({"prompt": "another"}, {"bundle": True}):
        other = run_job(Job("second", job | more, report=report), on_s3)
        assert other["status"] == "completed"
        assert urls[-1].partition("?")[0] != first.partition("?")[0]
        assert seen(first) == shown
