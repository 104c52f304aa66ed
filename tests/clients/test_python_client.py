"""What is Python's alone: its errors, its bucket, its two forms. The walk installs it alone."""

from __future__ import annotations

import ast
import asyncio
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from talkinghead import client
from talkinghead.client import (
    CODES,
    AnswerLost,
    AsyncClient,
    Client,
    EndpointUnavailable,
    JobLeft,
    JobState,
    Result,
    ResultDamaged,
    RunpodVolume,
    S3Bucket,
    Unauthorized,
    errors,
)
from talkinghead.client.wire import Answer, Unheard, Wire
from talkinghead.errors import JobError
from talkinghead.net.urls import name_on_volume
from talkinghead.settings import Settings
from tests.clients.runpod import KEY, LOST, RUNNING, RunPod
from tests.store import BUCKET, S3Server
from tests.timing import LAST_RESORT_SECONDS

SOURCES = sorted(Path(client.__file__).parent.glob("*.py"))


def test_it_is_written_for_python_3_10_and_needs_nothing_beyond_it() -> None:
    for path in SOURCES:
        tree = ast.parse(path.read_text("utf-8"), feature_version=(3, 10))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert all(each.name.split(".")[0] in STANDARD for each in node.names), path
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert str(node.module).split(".")[0] in STANDARD, path


STANDARD = sys.stdlib_module_names


def test_every_code_of_the_worker_has_a_class_of_the_same_name() -> None:
    worker = {error.code: error.__name__ for error in JobError.__subclasses__()}
    assert {code: kind.__name__ for code, kind in CODES.items()} == worker
    assert [name for name in client.__all__ if not hasattr(client, name)] == []
    ours = {each.__name__ for each in vars(errors).values() if isinstance(each, type)}
    assert ours - {"Any", "Mapping"} <= set(client.__all__), "every error can be caught by its name"


def test_a_bucket_of_ones_own_takes_files_and_the_worker_gets_them(s3: S3Server) -> None:
    environment = s3.environment
    bucket = S3Bucket(
        BUCKET,
        environment["S3_KEY"],
        environment["S3_SECRET"],
        region=environment["S3_REGION"],
        endpoint=environment["S3_ENDPOINT"],
    )
    where = bucket.presign("me & you.MP4", "video/mp4", 3)
    put = requests.put(
        where.put_url, data=b"abc", headers=where.headers, timeout=LAST_RESORT_SECONDS
    )
    assert put.ok, put.text
    got = requests.get(where.get_url, timeout=LAST_RESORT_SECONDS)
    assert (got.content, got.headers["Content-Type"]) == (b"abc", "video/mp4")
    assert environment["S3_SECRET"] not in repr(bucket)


def test_a_file_on_the_endpoints_volume_is_named_for_its_worker(
    s3: S3Server, api: RunPod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("talkinghead.client.files.INLINE_BYTES", 2)
    environment = s3.environment
    volume = RunpodVolume(
        BUCKET,
        environment["S3_REGION"],
        environment["S3_KEY"],
        environment["S3_SECRET"],
        endpoint=environment["S3_ENDPOINT"],
    )
    (tmp_path / "me.mp4").write_bytes(b"abc")
    caller = Client(url=api.url, api_key=KEY, storage=volume, poll_seconds=0.01)
    caller.render({}, {"video_url": tmp_path / "me.mp4"})
    name = api.bodies[0]["input"]["video_url"].removeprefix("volume:")
    assert name == name_on_volume(f"volume:{name}")
    # Where an S3 API of RunPod's puts it is this path on the volume that workers see.
    key = f"{Settings().uploads_dir.name}/{name}"
    assert s3.client().get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"abc"


def test_to_cancel_the_task_cancels_the_job(api: RunPod) -> None:
    api.script = [RUNNING]

    async def give_up() -> None:
        caller = AsyncClient(url=api.url, api_key=KEY, poll_seconds=0.01)
        task = asyncio.ensure_future(caller.render({"wav_url": "x"}))
        while not api.bodies:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    assert api.cancelled == ["job-1"]


def test_a_task_cancelled_while_nobody_answers_sends_nothing_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries: list[str] = []
    go_on = threading.Event()

    def ask(self: Wire, method: str, path: str, body: object = None) -> Answer:
        tries.append(path)
        go_on.wait(LAST_RESORT_SECONDS)
        raise Unheard("no such host")

    monkeypatch.setattr(Wire, "ask", ask)

    async def give_up() -> None:
        caller = AsyncClient(url="http://nobody.test", poll_seconds=0.01)
        task = asyncio.ensure_future(caller.render({"wav_url": "x"}))
        while not tries:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    assert tries == ["run"]


def test_ctrl_c_cancels_the_job(api: RunPod) -> None:
    def press(state: JobState) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Client(url=api.url, api_key=KEY).render({"wav_url": "x"}, on_progress=press)
    assert api.cancelled == ["job-1"]


@pytest.fixture
def heard() -> Iterator[None]:
    """Ctrl-C as a program from a terminal hears it, however these tests were started."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_ctrl_c() -> None:
    """As a person would: it is this process's main thread that hears it."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@pytest.mark.usefixtures("heard")
def test_ctrl_c_while_a_job_is_sent_ends_the_call_and_tells_the_jobs_id(api: RunPod) -> None:
    api.meanwhile = press_ctrl_c
    with pytest.raises(KeyboardInterrupt) as stopped:
        Client(url=api.url, api_key=KEY).submit({"wav_url": "x"})
    left = stopped.value.__cause__
    assert isinstance(left, JobLeft)
    assert left.job_id == "job-1" and left.request_id in api.started
    assert "job-1" in str(left)


@pytest.mark.usefixtures("heard")
def test_ctrl_c_while_an_answer_gets_lost_is_ctrl_c_all_the_same(api: RunPod) -> None:
    api.meanwhile = press_ctrl_c
    api.faults["run"] = [LOST]
    with pytest.raises(KeyboardInterrupt) as stopped:
        Client(url=api.url, api_key=KEY).submit({"wav_url": "x", "request_id": "order-17"})
    assert isinstance(stopped.value.__cause__, AnswerLost)
    assert stopped.value.__cause__.request_id == "order-17"


def test_a_signal_that_ends_the_program_cancels_the_job_that_is_being_sent(api: RunPod) -> None:
    before = signal.signal(signal.SIGINT, lambda *_: sys.exit(143))
    api.meanwhile = press_ctrl_c
    try:
        with pytest.raises(SystemExit):
            Client(url=api.url, api_key=KEY).render({"wav_url": "x"})
    finally:
        signal.signal(signal.SIGINT, before)
    assert api.cancelled == ["job-1"]


def test_a_task_that_is_cancelled_while_its_job_is_sent_tells_the_jobs_id(api: RunPod) -> None:
    async def give_up() -> BaseException | None:
        sent = asyncio.Event()
        loop = asyncio.get_running_loop()
        heard = threading.Event()

        def meanwhile() -> None:
            loop.call_soon_threadsafe(sent.set)
            heard.wait(LAST_RESORT_SECONDS)

        api.meanwhile = meanwhile
        caller = AsyncClient(url=api.url, api_key=KEY, poll_seconds=0.01)
        task = asyncio.ensure_future(caller.submit({"wav_url": "x"}))
        await sent.wait()
        task.cancel()
        await asyncio.sleep(0)
        heard.set()
        with pytest.raises(asyncio.CancelledError) as stopped:
            await task
        return stopped.value.__cause__

    left = asyncio.run(give_up())
    assert isinstance(left, JobLeft)
    assert left.job_id == "job-1"


@pytest.mark.usefixtures("heard")
def test_ctrl_c_twice_tells_of_the_job_that_may_be_left(
    api: RunPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(self: Wire, method: str, path: str, body: object = None) -> Answer:
        if path.startswith("cancel"):
            raise KeyboardInterrupt
        return asked(self, method, path, body)

    asked = Wire.ask
    monkeypatch.setattr(Wire, "ask", ask)
    api.meanwhile = press_ctrl_c
    with pytest.raises(KeyboardInterrupt) as stopped:
        Client(url=api.url, api_key=KEY).render({"wav_url": "x"})
    assert isinstance(stopped.value.__cause__, JobLeft)


def test_many_renders_wait_at_once(api: RunPod) -> None:
    async def all_of_them() -> int:
        caller = AsyncClient(url=api.url, api_key=KEY, poll_seconds=0.01)
        results = await asyncio.gather(*(caller.render({"wav_url": "x"}) for _ in range(8)))
        return len({result.job_id for result in results})

    assert asyncio.run(all_of_them()) == 8


@pytest.mark.parametrize(
    ("where", "goes"),
    [
        ({"endpoint_id": "abc"}, True),
        ({"url": "https://api.runpod.ai/v2/abc"}, True),
        ({"url": "http://api.runpod.ai/v2/abc"}, False),
        ({"url": "https://api.runpod.ai.evil.test/v2/abc"}, False),
        ({"url": "https://api.runpod.ai@evil.test/v2/abc"}, False),
        ({"url": "http://127.0.0.1:8000"}, False),
    ],
    ids=str,
)
def test_the_variables_key_goes_to_runpod_alone(
    monkeypatch: pytest.MonkeyPatch, where: dict[str, str], goes: bool
) -> None:
    sent: list[str] = []

    def ask(self: Wire, method: str, path: str, body: object = None) -> Answer:
        sent.append(self.api_key)
        return Answer(200)

    monkeypatch.setattr(Wire, "ask", ask)
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    Client(**where).health()  # type: ignore[arg-type]
    assert sent == [KEY if goes else ""]


def test_who_gave_no_key_is_told_that_runpods_was_not_taken(
    api: RunPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    with pytest.raises(Unauthorized, match=r"api_key gives none .*: RUNPOD_API_KEY is for"):
        Client(url=api.url).health()
    assert api.keys == [None]
    assert KEY not in repr(Client(url=api.url, api_key=KEY))


def test_an_endpoint_is_named_once() -> None:
    with pytest.raises(ValueError, match="one of the two"):
        Client()
    with pytest.raises(ValueError, match="one of the two"):
        Client("abc", url="http://127.0.0.1:8000")
    with pytest.raises(ValueError, match=r"'127.0.0.1:8000' is no endpoint's"):
        Client("127.0.0.1:8000")


def test_a_result_can_bring_no_file_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret")
    forged = Result("job-1", None, {"video_url": (tmp_path / "secret").as_uri()})
    caller = Client(url="http://127.0.0.1:1", poll_seconds=0.01)
    with pytest.raises(EndpointUnavailable, match="not at an http"):
        caller.save(forged, tmp_path / "got")
    assert not (tmp_path / "got").exists()


@pytest.mark.parametrize("video", ["data:video/mp4;base64,AAAA", "data:video/mp4;base64,AAA"])
def test_a_damaged_video_does_not_take_the_place_of_a_file(tmp_path: Path, video: str) -> None:
    target = tmp_path / "me.mp4"
    target.write_bytes(b"a good one")
    damaged = Result("job-1", None, {"video": video, "video_info": {"sha256": "0" * 64}})  # type: ignore[typeddict-item]
    with pytest.raises(ResultDamaged):
        Client(url="http://127.0.0.1:1").save(damaged, target)
    assert [path.name for path in tmp_path.iterdir()] == ["me.mp4"]
    assert target.read_bytes() == b"a good one"


@pytest.mark.parametrize("name", ["me.final cut", "me.backup-of-monday", "me.\N{BULLET}"])
def test_a_file_of_any_name_can_go_to_the_volume(name: str) -> None:
    where = RunpodVolume("volume", "EU-RO-1", "key", "secret").presign(name, "video/mp4", 3)
    assert name_on_volume(where.get_url)
    assert where.put_url.isascii() and " " not in where.put_url
