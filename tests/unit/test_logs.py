"""The worker's log: one line an event, with the job's id, without secrets."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from talkinghead import logs
from talkinghead.comfy.studio import Studio
from talkinghead.net.fetch import Fetcher
from talkinghead.plan.request import parse_request
from talkinghead.render.job import Job
from talkinghead.render.run import run_job
from talkinghead.settings import LogFormat, Settings

log = logging.getLogger("talkinghead")


@pytest.fixture
def started() -> Callable[[LogFormat], io.StringIO]:
    """Starts the log into a text."""

    def start(log_format: LogFormat) -> io.StringIO:
        stream = io.StringIO()
        logs.start_logging(log_format, stream=stream)
        return stream

    return start


Start = Callable[[LogFormat], io.StringIO]


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_a_plain_line_has_time_level_job_event_and_facts(started: Start) -> None:
    stream = started("plain")
    with logs.about("7f3a"):
        logs.tell("stage ended", name="render", seconds=38.7)
    (line,) = lines(stream)
    time, _, rest = line.partition(" ")
    assert len(time) == len("2026-01-31T12:00:00Z")
    assert rest == "INFO job=7f3a stage ended: name=render seconds=38.7"


def test_a_json_line_holds_the_same(started: Start) -> None:
    stream = started("json")
    with logs.about("7f3a"):
        logs.tell("stage ended", name="render", seconds=38.7)
    (line,) = map(json.loads, lines(stream))
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "INFO",
        "job_id": "7f3a",
        "event": "stage ended",
        "name": "render",
        "seconds": 38.7,
    }


@pytest.mark.parametrize("log_format", ["plain", "json"])
def test_whatever_is_in_it_an_event_is_one_line(started: Start, log_format: LogFormat) -> None:
    stream = started(log_format)
    with logs.about('x\nINFO job=other "faked"'):
        logs.tell("two\nlines", sentence="three\r\nmore = lines", draft=True)
        log.warning("a message\nof %s", "two lines")
    assert len(lines(stream)) == 2


def test_a_traceback_is_a_field_in_json_and_lines_of_its_own_in_plain(started: Start) -> None:
    for log_format in ("json", "plain"):
        stream = started(log_format)
        try:
            raise ValueError("https://key:canary@host/file?X-Amz-Signature=canary went wrong")
        except ValueError:
            log.exception("internal error at stage %s", "patch")
        text = stream.getvalue()
        assert "ValueError" in text and "internal error at stage patch" in text
        assert "host/file" in text and "canary" not in text
        assert (len(lines(stream)) == 1) == (log_format == "json")


def test_outside_of_a_job_there_is_no_job_id(started: Start) -> None:
    stream = started("json")
    with logs.about("one"):
        pass
    logs.tell("started")
    assert "job_id" not in json.loads(stream.getvalue())


def test_jobs_in_threads_keep_their_own_ids(started: Start) -> None:
    stream = started("json")

    def work(name: str) -> None:
        with logs.about(name):
            for _ in range(20):
                logs.tell("step", of=name)

    async def both() -> None:
        await asyncio.gather(*(asyncio.to_thread(work, name) for name in "ab"))

    asyncio.run(both())
    told = [json.loads(line) for line in lines(stream)]
    assert len(told) == 40
    assert all(each["job_id"] == each["of"] for each in told)


def test_only_our_own_logger_is_touched(started: Start) -> None:
    before = list(logging.getLogger().handlers), logging.getLogger().level
    stream = started("plain")
    logging.getLogger("urllib3").info("not ours")
    assert (list(logging.getLogger().handlers), logging.getLogger().level) == before
    assert stream.getvalue() == ""


def test_starting_twice_writes_each_line_once(started: Start) -> None:
    started("plain")
    stream = started("plain")
    logs.tell("once")
    assert len(lines(stream)) == 1


def test_a_job_that_starts_tells_what_it_is_and_nothing_the_caller_wrote(started: Start) -> None:
    stream = started("json")
    logs.job_started(
        parse_request(
            {
                "image_url": "https://host/canary.png?sig=canary",
                "audio_urls": ["https://host/canary.wav"] * 2,
                "prompt": "canary",
                "negative_prompt": "canary",
                "draft": True,
                "width": 512,
                "height": 256,
            }
        )
    )
    told = json.loads(stream.getvalue())
    assert {name: told[name] for name in ("dialect", "size", "draft", "speakers")} == {
        "dialect": "B",
        "size": "512x256",
        "draft": True,
        "speakers": 2,
    }
    assert "canary" not in stream.getvalue()


RESULT: dict[str, Any] = {
    "video_url": "https://host/canary.mp4?X-Amz-Signature=canary",
    "video_info": {"width": 480, "height": 854, "frames": 143, "file_size_mb": 1.2},
    "generation_params": {"positive_prompt": "canary"},
    "warnings": ["one", "two"],
}


def test_a_result_is_told_by_its_size_and_the_number_of_its_warnings(started: Start) -> None:
    stream = started("json")
    logs.job_ended(RESULT, 41.27)
    told = json.loads(stream.getvalue())
    assert (told["event"], told["seconds"], told["warnings"]) == ("job completed", 41.3, 2)
    assert (told["size"], told["frames"], told["file_size_mb"]) == ("480x854", 143, 1.2)
    assert "canary" not in stream.getvalue()


def test_a_failure_is_told_by_code_stage_and_the_first_line_of_its_sentence(
    started: Start,
) -> None:
    stream = started("json")
    sentence = "ComfyUI ended; the end of its log:\ncanary"
    failure = {"error": sentence, "error_code": "comfyui_unavailable", "stage": "render"}
    logs.job_ended(failure, 3.0)
    told = json.loads(stream.getvalue())
    assert (told["level"], told["code"], told["stage"]) == (
        "WARNING",
        "comfyui_unavailable",
        "render",
    )
    assert told["sentence"] == "ComfyUI ended; the end of its log:"


def test_a_job_that_fails_writes_its_id_and_no_url_query_or_prompt(started: Start) -> None:
    stream = started("plain")
    studio = Studio(Settings(comfyui_url="http://127.0.0.1:9"))
    studio.fetcher = Fetcher(seconds=1)
    fields = {
        "image_url": "http://key:canary@127.0.0.1:9/i.png?sig=canary",
        "wav_url": "http://127.0.0.1:9/a.wav?sig=canary",
        "prompt": "canary",
    }
    assert run_job(Job("job-1", fields), studio)["error_code"] in ("download_failed", "url_blocked")
    first, *_, last = lines(stream)
    assert "job=job-1 job started: dialect=A" in first
    assert "job=job-1 job failed: code=" in last and "stage=fetch" in last
    assert "canary" not in stream.getvalue()


def test_a_request_that_is_refused_is_logged_without_its_values(started: Start) -> None:
    stream = started("plain")
    studio = Studio(Settings(comfyui_url="http://127.0.0.1:9"))
    run_job(Job("job-2", {"prompt": ["canary"], "promt": "canary"}), studio)
    (line,) = lines(stream)
    assert "job=job-2 job failed: code=invalid_request stage=understand" in line
    assert "canary" not in line
