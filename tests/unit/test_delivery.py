"""Where videos go, on a real S3 server, a real HTTP server and real folders."""

from __future__ import annotations

import base64
import contextlib
import io
import math
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from talkinghead.delivery.asked import Asked, asked_by
from talkinghead.delivery.inline import InlinePlace, check_room
from talkinghead.delivery.place import FinishedVideo, Item, Place
from talkinghead.delivery.retry import POLL_SECONDS, Patience
from talkinghead.delivery.s3 import BucketPlace, S3Store
from talkinghead.delivery.stores import Stores
from talkinghead.delivery.volume import VolumePlace, VolumeStore
from talkinghead.errors import (
    Cancelled,
    DeadlineExceeded,
    DeliveryFailed,
    InvalidRequest,
    JobError,
    ResultTooLarge,
    UrlBlocked,
)
from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.net.guard import UrlGuard
from talkinghead.plan.plan import Plan, make_plan
from talkinghead.plan.request import parse_request
from talkinghead.settings import PROJECT_DIR, Settings
from tests.store import BUCKET, SECRET, S3Server, Wire
from tests.timing import LAST_RESORT_SECONDS, wait_until

MB = 1_000_000
ASKED = asked_by({"image_url": "https://x/i.jpg"})
RESULT = {"status": "completed", "video_info": {"frames": 3}, "generation_params": {"seed": 7}}
ANYWHERE = UrlGuard(blocked=())


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "talkinghead.mp4"
    path.write_bytes(bytes(range(256)) * 4000)
    return path


def finished(video: Path, job: str = "job", **fields: Any) -> FinishedVideo:
    return FinishedVideo(job, fields.pop("asked", ASKED), video, RESULT, **fields)


def chosen(stores: Stores, **fields: Any) -> Place:
    request = {"image_url": "https://x/i.jpg", "wav_url": "https://x/a.wav"} | fields
    return stores.choose(parse_request(request))


def deliver(
    video: FinishedVideo, *, seconds: float = LAST_RESORT_SECONDS, **fields: Any
) -> dict[str, Any]:
    """As the worker would, with the settings of the environment."""
    stores = Stores(Settings(), guard=ANYWHERE)
    return stores.deliver(video, chosen(stores, **fields), Patience(seconds))


def got(url: str) -> requests.Response:
    return requests.get(url, timeout=LAST_RESORT_SECONDS)


@contextlib.contextmanager
def in_background(work: Callable[[], Any]) -> Iterator[Future[Any]]:
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(work)


class Clock:
    """The time of deliveries, which passes only where they pause."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("talkinghead.delivery.retry.time", clock)
    return clock


# Inline


def test_without_storage_the_result_carries_the_video(video: Path) -> None:
    place = deliver(finished(video))
    head, _, content = place["video"].partition(",")
    assert head == "data:video/mp4;base64"
    assert base64.b64decode(content) == video.read_bytes()


def test_a_result_that_the_platform_would_drop_is_refused_with_its_size(video: Path) -> None:
    with pytest.raises(ResultTooLarge, match=r"a result of 1\.4 MB, allowed: 1 MB; configure S3"):
        InlinePlace(1).deliver(finished(video), Patience(1))


def test_a_bundle_in_the_result_counts_as_part_of_its_size(video: Path) -> None:
    bundle = {"graph": "x" * 500_000}
    with pytest.raises(ResultTooLarge, match=r"a result of 1\.9 MB"):
        InlinePlace(1.5).deliver(finished(video, bundle=bundle), Patience(1))
    assert InlinePlace(2).deliver(finished(video, bundle=bundle), Patience(1))["bundle"] == bundle


def plan_of(seconds: float, **fields: Any) -> Plan:
    request = {"image_url": "https://x/i.jpg", "wav_url": "https://x/a.wav"} | fields
    voice = Sound(seconds, 16_000, 1, silent=False)
    return make_plan(parse_request(request), [voice], Picture(512, 512))


def test_what_surely_does_not_fit_is_refused_before_it_is_rendered() -> None:
    plan = plan_of(395.0, resolution="720p")
    with pytest.raises(ResultTooLarge, match=r"9875 frames of 720x1280 .* MB or more, allowed: 9"):
        check_room(plan, InlinePlace(9.5))


@pytest.mark.parametrize("draft", [False, True])
def test_what_may_fit_is_rendered(draft: bool) -> None:
    check_room(plan_of(120.0, draft=draft), InlinePlace(9.5))


def test_a_bucket_takes_a_video_of_any_length(on_s3: pytest.MonkeyPatch) -> None:
    check_room(plan_of(395.0, resolution="720p"), chosen(Stores(Settings())))


# A bucket


def test_with_storage_the_result_has_a_url_that_anybody_can_open_for_a_while(
    on_s3: pytest.MonkeyPatch, video: Path
) -> None:
    on_s3.setenv("S3_PREFIX", "/renders/")
    place = deliver(finished(video, "job-1"))
    assert place["video_url"] == place["output_video_url"]
    assert f"/{BUCKET}/renders/job-1/talkinghead.mp4?" in place["video_url"]
    answer = got(place["video_url"])
    assert answer.content == video.read_bytes()
    assert answer.headers["Content-Type"] == "video/mp4"
    assert SECRET not in place["video_url"]


def test_of_a_public_bucket_the_result_has_the_public_url(
    on_s3: pytest.MonkeyPatch, video: Path
) -> None:
    on_s3.setenv("S3_PUBLIC_URL", "https://cdn.example.com/")
    on_s3.setenv("S3_PREFIX", "a b")
    place = deliver(finished(video, "job-p"))
    assert place["video_url"] == "https://cdn.example.com/a%20b/job-p/talkinghead.mp4"


def test_the_same_job_twice_leaves_one_video(
    on_s3: pytest.MonkeyPatch, s3: S3Server, video: Path
) -> None:
    for _ in range(2):
        deliver(finished(video, "job-twice"))
    assert s3.keys("job-twice/") == ["job-twice/result.json", "job-twice/talkinghead.mp4"]


def find(job: str, asked: Asked = ASKED, **fields: Any) -> dict[str, Any] | None:
    stores = Stores(Settings())
    return stores.find(chosen(stores, **fields), job, asked, Patience(LAST_RESORT_SECONDS))


def test_a_job_that_was_delivered_is_found_with_its_whole_result(
    on_s3: pytest.MonkeyPatch, video: Path
) -> None:
    deliver(finished(video, "job-found", bundle={"seed": 7}))
    found = find("job-found")
    assert found is not None
    assert found.items() >= RESULT.items()
    assert got(found["video_url"]).content == video.read_bytes()
    assert got(found["bundle_url"]).json() == {"seed": 7}


def test_another_request_under_the_same_id_is_not_found(
    on_s3: pytest.MonkeyPatch, video: Path
) -> None:
    deliver(finished(video, "job-other"))
    assert find("job-other", asked_by({"image_url": "https://x/other.jpg"})) is None


def test_a_result_whose_video_is_gone_is_not_found(
    on_s3: pytest.MonkeyPatch, s3: S3Server, video: Path
) -> None:
    deliver(finished(video, "job-gone"))
    s3.client().delete_object(Bucket=BUCKET, Key="job-gone/talkinghead.mp4")
    assert find("job-gone") is None


def test_wrong_keys_are_told_before_anything_is_rendered_without_the_secret(
    on_s3: pytest.MonkeyPatch,
) -> None:
    on_s3.setenv("S3_KEY", "nobody")
    with pytest.raises(DeliveryFailed, match=f"the bucket {BUCKET} did not take") as caught:
        find("job")
    assert SECRET not in str(caught.value)


def test_a_bucket_that_is_not_there_is_told_before_anything_is_rendered(
    on_s3: pytest.MonkeyPatch,
) -> None:
    on_s3.setenv("S3_BUCKET", "nowhere")
    with pytest.raises(DeliveryFailed, match="NoSuchBucket"):
        find("job")


def test_a_store_that_is_away_does_not_stop_the_render(on_s3: pytest.MonkeyPatch) -> None:
    on_s3.setenv("S3_ENDPOINT", "http://127.0.0.1:9")
    assert find("job") is None


def test_a_store_that_refuses_is_delivery_failed_at_once_without_the_secret(
    on_s3: pytest.MonkeyPatch, video: Path, clock: Clock
) -> None:
    on_s3.setenv("S3_SECRET", "wrong-canary")
    with pytest.raises(DeliveryFailed, match=f"^the bucket {BUCKET} did not take the") as caught:
        deliver(finished(video))
    assert clock.now == 0, "it was not tried again"
    assert "canary" not in str(caught.value)


def test_a_store_that_stays_away_is_given_up_in_time(
    on_s3: pytest.MonkeyPatch, video: Path, clock: Clock
) -> None:
    on_s3.setenv("S3_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DeliveryFailed, match=r"not taken within 3 s; .*Could not connect"):
        deliver(finished(video), seconds=3)
    assert 3 < clock.now <= 3 + POLL_SECONDS


def bucket_store() -> S3Store:
    bucket = Settings().bucket
    assert bucket is not None
    return S3Store(bucket, Settings())


def large(tmp_path: Path, megabytes: int) -> Path:
    """A file without two equal parts."""
    path = tmp_path / "large.mp4"
    path.write_bytes(os.urandom(MB) * megabytes)
    return path


def test_a_store_that_dies_in_the_upload_and_comes_back_has_one_whole_video_and_no_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s3").mkdir()
    server = S3Server(tmp_path / "s3")
    path = large(tmp_path, 40)
    with server.running(), Wire(server.port, limit=15 * MB) as wire:
        for name, value in (server.environment | {"S3_ENDPOINT": wire.url}).items():
            monkeypatch.setenv(name, value)
        with in_background(lambda: deliver(finished(path, "job-k"))) as delivered:
            wait_until(lambda: wire.passed >= 15 * MB, "the upload's middle")
            server.go()
            wire.limit = math.inf
            wait_until(lambda: wire.refused, "an attempt while the store is dead")
            server.come()
            url = delivered.result()["video_url"]
        assert wire.passed > len(path.read_bytes()) + 5 * MB, "it was sent more than once"
        assert server.keys("job-k/") == ["job-k/result.json", "job-k/talkinghead.mp4"]
        assert server.unfinished("job-k/") == []
        assert got(url).content == path.read_bytes()


def test_a_slow_store_gets_the_video_whole(
    on_s3: pytest.MonkeyPatch, s3: S3Server, tmp_path: Path
) -> None:
    path = large(tmp_path, 10)
    with Wire(s3.port, bytes_per_second=5 * MB) as wire:
        on_s3.setenv("S3_ENDPOINT", wire.url)
        url = deliver(finished(path, "job-slow"))["video_url"]
        assert got(url).content == path.read_bytes()
    assert s3.unfinished("job-slow/") == []


@pytest.mark.parametrize("more", [LAST_RESORT_SECONDS, 0.0], ids=["in time", "too late"])
def test_a_job_whose_time_ends_while_its_video_is_uploaded_is_delivered_late(
    on_s3: pytest.MonkeyPatch, s3: S3Server, tmp_path: Path, more: float
) -> None:
    on_s3.setattr("talkinghead.delivery.stores.KEEP_SECONDS", more)
    path = large(tmp_path, 10)
    with Wire(s3.port, bytes_per_second=5 * MB) as wire:
        on_s3.setenv("S3_ENDPOINT", wire.url)

        def check() -> None:
            if wire.passed >= 2 * MB:
                raise DeadlineExceeded("the job took longer than JOB_TIMEOUT_SECONDS")

        stores = Stores(Settings())
        late = contextlib.nullcontext() if more else pytest.raises(DeadlineExceeded)
        with late:
            patience = Patience(LAST_RESORT_SECONDS, check)
            where = stores.deliver(finished(path, "job-late"), chosen(stores), patience)
            assert got(where["video_url"]).content == path.read_bytes()


def test_a_cancelled_upload_ends_at_once_and_leaves_no_parts(
    on_s3: pytest.MonkeyPatch, s3: S3Server, tmp_path: Path
) -> None:
    cancelled = threading.Event()

    def check() -> None:
        if cancelled.is_set():
            raise Cancelled("the job was cancelled")

    with Wire(s3.port, limit=2 * MB) as wire:
        on_s3.setenv("S3_ENDPOINT", wire.url)
        stores = Stores(Settings())
        video = finished(large(tmp_path, 60), "job-c")
        patience = Patience(LAST_RESORT_SECONDS, check)
        work = lambda: stores.deliver(video, chosen(stores), patience)  # noqa: E731
        with in_background(work) as delivered:
            wait_until(lambda: wire.passed >= 2 * MB, "the upload's middle")
            cancelled.set()
            with pytest.raises(Cancelled):
                delivered.result()
        wire.limit = math.inf  # until now the store had no more than the first bytes
        wait_until(lambda: s3.unfinished("job-c/") == [], "the end of all parts")
        assert s3.keys("job-c/") == ["job-c/result.json"]


def test_a_cancelled_job_waits_for_no_answer_of_a_store_that_gives_none(
    on_s3: pytest.MonkeyPatch, s3: S3Server
) -> None:
    def check() -> None:
        raise Cancelled("the job was cancelled")

    with Wire(s3.port, limit=0) as wire:  # the request never gets there
        on_s3.setenv("S3_ENDPOINT", wire.url)
        with pytest.raises(Cancelled):
            bucket_store().get("job", "result.json", io.BytesIO(), check)


def test_a_job_that_is_cancelled_after_a_failed_try_leaves_no_parts_either(
    on_s3: pytest.MonkeyPatch, s3: S3Server, tmp_path: Path
) -> None:
    """That try could not delete them: the store was away. The next job may be a day off."""

    class CancelledInThePause(Patience):
        def sleep(self, seconds: float) -> None:
            wire.away = False
            raise Cancelled("the job was cancelled")

    with Wire(s3.port, limit=10 * MB) as wire:
        on_s3.setenv("S3_ENDPOINT", wire.url)
        place = BucketPlace(bucket_store())
        items = [Item(large(tmp_path, 40), "video/mp4")]
        patience = CancelledInThePause(LAST_RESORT_SECONDS)
        with in_background(lambda: place.put("job-w", items, patience)) as put:
            wait_until(lambda: wire.passed >= 10 * MB, "the upload's middle")
            wire.away, wire.limit = True, math.inf
            with pytest.raises(Cancelled):
                put.result()
        wait_until(lambda: s3.unfinished("job-w/") == [], "the end of all parts")


def test_parts_that_could_not_be_deleted_are_deleted_with_the_next_job(
    on_s3: pytest.MonkeyPatch, s3: S3Server, video: Path, tmp_path: Path
) -> None:
    over = threading.Event()

    def check() -> None:
        if over.is_set():
            raise DeliveryFailed("the time is over")

    with Wire(s3.port, limit=10 * MB) as wire:
        on_s3.setenv("S3_ENDPOINT", wire.url)
        store = BucketPlace(bucket_store())
        left, patience = finished(large(tmp_path, 40), "job-left"), Patience(math.inf, check)
        with in_background(lambda: store.deliver(left, patience)) as delivered:
            wait_until(lambda: wire.passed >= 10 * MB, "the upload's middle")
            wire.away, wire.limit = True, math.inf
            over.set()
            with pytest.raises(DeliveryFailed, match=r"^the time is over"):
                delivered.result()
        assert s3.unfinished("job-left/")
        wire.away = False
        store.deliver(finished(video, "job-next"), Patience(LAST_RESORT_SECONDS))
        wait_until(lambda: s3.unfinished("job-left/") == [], "the end of all parts")


def test_memory_does_not_grow_with_the_video(on_s3: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "talkinghead.mp4"
    with path.open("wb") as file:
        file.truncate(1000 * MB)
    small = tmp_path / "small.mp4"
    small.write_bytes(bytes(20 * MB))
    script = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        from tests.unit.test_delivery import deliver, finished
        for number, path in enumerate(sys.argv[1:]):
            deliver(finished(Path(path), f"job-memory-{number}"))
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000)
    """)
    command = [sys.executable, "-c", script, str(small), str(path)]
    done = subprocess.run(
        command,
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        timeout=LAST_RESORT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    assert after - before < 40, f"{after - before} MB more for 1000 MB than for 20"


# A presigned URL


def presigned(s3: S3Server, key: str, *, at: str | None = None, **parameters: Any) -> str:
    return s3.client(at).generate_presigned_url(
        "put_object", Params={"Bucket": BUCKET, "Key": key, **parameters}, ExpiresIn=3600
    )


@pytest.mark.parametrize("signed", [{}, {"ContentType": "video/mp4"}])
def test_a_presigned_url_gets_the_video_and_nobody_sees_its_signature(
    s3: S3Server, video: Path, signed: dict[str, str]
) -> None:
    url = presigned(s3, "theirs/video.mp4", **signed)
    place = deliver(finished(video, bundle={"seed": 7}), upload_url=url)
    stored = s3.client().get_object(Bucket=BUCKET, Key="theirs/video.mp4")
    assert stored["Body"].read() == video.read_bytes()
    assert stored["ContentType"] == "video/mp4"
    assert place == {"uploaded_to": url.split("?")[0] + "?...", "bundle": {"seed": 7}}


def test_a_url_that_is_no_longer_valid_is_told_without_its_signature(
    s3: S3Server, video: Path
) -> None:
    url = presigned(s3, "theirs/late.mp4").replace("X-Amz-Signature=", "X-Amz-Signature=0")
    with pytest.raises(DeliveryFailed, match=r"upload_url: .* gave HTTP 403: it must be") as caught:
        deliver(finished(video), upload_url=url)
    assert "Signature" not in str(caught.value)


def test_an_upload_to_a_url_is_tried_again(s3: S3Server, video: Path) -> None:
    with Wire(s3.port) as wire:
        wire.away = True
        url = presigned(s3, "theirs/again.mp4", at=wire.url)
        with in_background(lambda: deliver(finished(video), upload_url=url)) as delivered:
            wait_until(lambda: wire.refused, "an attempt while nobody is there")
            wire.away = False
            delivered.result()
    stored = s3.client().get_object(Bucket=BUCKET, Key="theirs/again.mp4")
    assert stored["Body"].read() == video.read_bytes()


def test_a_url_that_nobody_answers_at_is_given_up_in_time(video: Path, clock: Clock) -> None:
    url = "http://127.0.0.1:9/v.mp4?X-Amz-Signature=canary"
    with pytest.raises(DeliveryFailed, match=r"within 1 s; upload_url: .* no answer") as caught:
        deliver(finished(video), upload_url=url, seconds=1)
    assert 1 < clock.now <= 1 + POLL_SECONDS
    assert "canary" not in str(caught.value)


def test_a_cancelled_upload_to_a_url_ends_at_once(s3: S3Server, tmp_path: Path) -> None:
    with Wire(s3.port, limit=MB) as wire:
        url = presigned(s3, "theirs/stopped.mp4", at=wire.url)

        def check() -> None:
            if wire.passed >= MB:
                raise Cancelled("the job was cancelled")

        stores = Stores(Settings(), guard=ANYWHERE)
        store, patience = chosen(stores, upload_url=url), Patience(LAST_RESORT_SECONDS, check)
        with pytest.raises(Cancelled):
            stores.deliver(finished(large(tmp_path, 40)), store, patience)
        assert wire.passed < 2 * MB, "the wire held the rest back"
    assert s3.keys("theirs/stopped.mp4") == []


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "localhost"])
def test_an_internal_address_gets_no_video_and_is_told_before_anything_is_rendered(
    host: str,
) -> None:
    with pytest.raises(UrlBlocked, match=r"upload_url: .* public internet"):
        find("job", upload_url=f"http://{host}/v.mp4?X-Amz-Signature=canary")


def test_upload_url_and_delivery_exclude_each_other() -> None:
    with pytest.raises(InvalidRequest, match="upload_url and delivery exclude each other"):
        chosen(Stores(Settings()), upload_url="https://x/v.mp4", delivery="inline")


# A volume


def test_a_volume_gets_the_video_and_its_documents(volume: Path, video: Path) -> None:
    place = deliver(finished(video, "job-v", bundle={"seed": 7}), delivery="volume")
    folder = volume / "talkinghead" / "job-v"
    assert place == {
        "video_path": str(folder / "talkinghead.mp4"),
        "bundle_path": str(folder / "talkinghead.json"),
    }
    assert (folder / "talkinghead.mp4").read_bytes() == video.read_bytes()
    names = {path.name for path in folder.iterdir()}
    assert names == {"talkinghead.mp4", "talkinghead.json", "result.json"}
    found = find("job-v", delivery="volume")
    assert found == RESULT | place


def test_what_a_worker_does_not_have_cannot_be_asked_for() -> None:
    with pytest.raises(InvalidRequest, match=r'delivery is "volume", .* allowed: "inline"'):
        chosen(Stores(Settings()), delivery="volume")


def test_a_video_that_cannot_be_delivered_is_kept_on_the_volume_and_the_error_says_where(
    on_s3: pytest.MonkeyPatch, volume: Path, video: Path
) -> None:
    on_s3.setenv("S3_ENDPOINT", "http://127.0.0.1:9")
    kept = volume / "talkinghead" / "job-kept" / "talkinghead.mp4"
    with pytest.raises(DeliveryFailed, match=f"the video is kept at {kept}") as caught:
        deliver(finished(video, "job-kept"), seconds=1)
    assert kept.read_bytes() == video.read_bytes()
    assert caught.value.details["video_path"] == str(kept)


def test_a_kept_video_is_delivered_when_the_job_comes_again_and_then_not_kept_any_more(
    on_s3: pytest.MonkeyPatch, s3: S3Server, volume: Path, video: Path
) -> None:
    with on_s3.context() as away:
        away.setenv("S3_ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(DeliveryFailed):
            deliver(finished(video, "job-back", bundle={"seed": 7}), seconds=1)
    found = find("job-back")
    assert found is not None and found.items() >= RESULT.items()
    assert got(found["video_url"]).content == video.read_bytes()
    assert got(found["bundle_url"]).json() == {"seed": 7}
    assert list((volume / "talkinghead").iterdir()) == []


def test_a_video_that_is_too_large_for_the_result_is_kept_on_the_volume(
    monkeypatch: pytest.MonkeyPatch, volume: Path, video: Path
) -> None:
    monkeypatch.setenv("MAX_INLINE_MB", "1")
    with pytest.raises(ResultTooLarge, match="the video is kept at"):
        deliver(finished(video, "job-big"))
    assert (volume / "talkinghead" / "job-big" / "talkinghead.mp4").exists()


def test_a_volume_that_cannot_be_written_to_is_told_too(
    on_s3: pytest.MonkeyPatch, volume: Path, video: Path, clock: Clock
) -> None:
    (volume / "talkinghead").write_text("a file where the folder should be")
    on_s3.setenv("S3_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DeliveryFailed, match=r"Could not connect.*; the volume did not take the"):
        deliver(finished(video), seconds=1)


def test_a_cancelled_job_is_not_kept(volume: Path, video: Path) -> None:
    def check() -> None:
        raise Cancelled("the job was cancelled")

    stores = Stores(Settings())
    with pytest.raises(JobError) as caught:
        stores.deliver(finished(video), chosen(stores, delivery="volume"), Patience(9, check))
    assert isinstance(caught.value, Cancelled)
    assert not list(volume.rglob("*.mp4")) and not list(volume.rglob("*.part"))


# Two workers and one volume


def test_workers_that_look_at_one_volume_at_once_do_not_find_it_unwritable(tmp_path: Path) -> None:
    """Each deletes the folder that it has emptied, into which another is about to write."""
    stores = [VolumeStore(tmp_path / "talkinghead") for _ in range(4)]

    def look(store: VolumeStore) -> None:
        for _ in range(300):
            store.check()

    with ThreadPoolExecutor(len(stores)) as pool:
        list(pool.map(look, stores))


def test_a_worker_that_is_killed_while_it_writes_spoils_nothing_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, others = VolumeStore(tmp_path), VolumeStore(tmp_path)
    fsync = os.fsync

    def meanwhile(descriptor: int) -> None:
        """As this file is whole, and not yet in its place, another worker begins the same."""
        fsync(descriptor)
        monkeypatch.setattr(os, "fsync", killed)
        with contextlib.suppress(KeyboardInterrupt):
            others.put("job", "checkpoint/ledger.json", b"", "application/json")
        monkeypatch.setattr(os, "fsync", fsync)

    def killed(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", meanwhile)
    store.put("job", "checkpoint/ledger.json", b"ours", "application/json")
    assert store.path("job", "checkpoint/ledger.json").read_bytes() == b"ours"


def test_what_a_killed_worker_was_writing_goes_with_the_next_write(tmp_path: Path) -> None:
    store = VolumeStore(tmp_path)
    store.put("job", "talkinghead.mp4", b"first", "video/mp4")
    left, young = (
        store.path("job", f"talkinghead.mp4.{token}.part") for token in ("0a" * 4, "0b" * 4)
    )
    for path in (left, young):
        path.write_bytes(b"half")
    os.utime(left, (0, 0))
    store.put("job", "talkinghead.mp4", b"second", "video/mp4")
    assert not left.exists()
    assert young.exists(), "somebody may be writing it"


def test_an_output_that_is_called_part_stays_on_the_volume(tmp_path: Path) -> None:
    """So may a node call what it makes; our own unfinished copies have a token in their names."""
    made = tmp_path / "made"
    made.mkdir()
    for name in ("talk.part", "talk", "talk.first.part"):
        (made / name).write_bytes(name.encode())
    place = VolumePlace(VolumeStore(tmp_path / "volume"))
    items = [Item(path, "application/octet-stream") for path in sorted(made.iterdir())]
    there = [Path(each["path"]) for each in place.put("job", items, Patience(9))]
    for path in there:
        os.utime(path, (0, 0))
    place.put("job", items[:1], Patience(9))  # the job comes again, much later
    assert [path.read_bytes().decode() for path in there] == [
        "talk",
        "talk.first.part",
        "talk.part",
    ]
