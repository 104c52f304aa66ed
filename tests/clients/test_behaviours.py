"""What a client promises, held against a stand-in of RunPod's API: the same of every client."""

from __future__ import annotations

import base64
import json
import re
import time
from typing import Any

import pytest

from talkinghead.client.webhook import webhook_signature
from tests.clients.drivers import Driver, Outcome
from tests.clients.runpod import (
    BEHIND_GATEWAY,
    HALF,
    IN_QUEUE,
    KEY,
    LOST,
    LOST_BEHIND_GATEWAY,
    NO_ID,
    PAGE,
    RUNNING,
    SHA256,
    VIDEO,
    Fault,
    RunPod,
    completed,
    failed,
)
from tests.store import free_port

REQUEST = {"image_url": "https://example.com/me.jpg", "wav_url": "https://example.com/a.wav"}


def render(client: Driver, api: RunPod, **arguments: Any) -> Outcome:
    given = {"url": api.url, "key": KEY, "request": REQUEST, **arguments}
    return client.call("render", **given)


def save(client: Driver, api: RunPod) -> Outcome:
    return client.call("save", url=api.url, key=KEY, request=REQUEST)


def sent(api: RunPod) -> dict[str, Any]:
    """The input of the only job that was started."""
    (body,) = api.bodies
    fields: dict[str, Any] = body["input"]
    return fields


# The way of a job.


def test_a_render_gives_the_result(client: Driver, api: RunPod) -> None:
    found = render(client, api).value
    assert (found["job_id"], found["status"]) == ("job-1", "completed")
    assert found["video_url"].startswith("data:video/mp4;base64,")
    assert found["warnings"] == []


def test_every_state_is_told_with_its_progress(client: Driver, api: RunPod) -> None:
    states = render(client, api).states
    assert [(state["status"], state["percent"]) for state in states] == [
        ("IN_QUEUE", None),
        ("IN_PROGRESS", 40.0),
        ("COMPLETED", None),
    ]


def test_the_cost_is_told_where_it_is_known(client: Driver, api: RunPod) -> None:
    assert render(client, api).value["cost"] is None
    api.script = [completed(cost=0.0123)]
    assert render(client, api).value["cost"] == 0.0123


def test_a_request_gets_an_id_to_go_on_with(client: Driver, api: RunPod) -> None:
    found = render(client, api).value
    assert len(found["request_id"]) == 32
    assert sent(api) == {**REQUEST, "request_id": found["request_id"]}


def test_a_request_keeps_the_id_that_it_has(client: Driver, api: RunPod) -> None:
    found = render(client, api, request={**REQUEST, "request_id": "order-17"}).value
    assert found["request_id"] == sent(api)["request_id"] == "order-17"


def test_a_workflow_job_gets_no_id(client: Driver, api: RunPod) -> None:
    render(client, api, request={"workflow": {"1": {}}})
    assert sent(api) == {"workflow": {"1": {}}}


def test_policy_and_webhook_stand_beside_the_request(client: Driver, api: RunPod) -> None:
    render(client, api, policy={"executionTimeout": 900_000})
    hook = "https://example.com/hook"
    client.call("submit", url=api.url, key=KEY, request=REQUEST, webhook=hook)
    assert api.bodies[0]["policy"] == {"executionTimeout": 900_000}
    assert api.bodies[1]["webhook"] == hook


def test_a_job_can_be_sent_and_left(client: Driver, api: RunPod) -> None:
    found = client.call("submit", url=api.url, key=KEY, request=REQUEST).value
    assert found["id"] == "job-1"
    assert api.asked == ["POST run"]


def test_a_job_of_somebody_else_can_be_followed(client: Driver, api: RunPod) -> None:
    job = api.job(RUNNING, completed())
    found = client.call("wait", url=api.url, key=KEY, job=job)
    assert found.value["job_id"] == job
    assert [state["status"] for state in found.states] == ["IN_PROGRESS", "COMPLETED"]
    assert not api.bodies


def test_a_state_can_be_asked_for(client: Driver, api: RunPod) -> None:
    found = client.call("state", url=api.url, key=KEY, job=api.job(RUNNING)).value
    assert found == {"id": "job-1", "status": "IN_PROGRESS", "percent": 40.0}


def test_the_endpoint_can_be_asked_for_its_health(client: Driver, api: RunPod) -> None:
    found = client.call("health", url=api.url, key=KEY).value
    assert found == {"jobs": {"inQueue": 3}, "workers": {"idle": 1}}


def test_an_estimate_renders_nothing(client: Driver, api: RunPod) -> None:
    api.script = [completed(status="estimated", estimate={"windows": 2, "seconds": 61})]
    found = client.call("estimate", url=api.url, key=KEY, request=REQUEST).value
    assert found == {"windows": 2, "seconds": 61}
    assert sent(api)["dry_run"] is True


def test_an_estimate_that_does_not_come_is_an_error(client: Driver, api: RunPod) -> None:
    error = client.call("estimate", url=api.url, key=KEY, request=REQUEST).error
    assert (error["class"], error["job_id"]) == ("TalkingheadError", "job-1")
    assert "no estimate" in error["message"]


def test_a_render_that_stopped_to_be_continued_is_continued(client: Driver, api: RunPod) -> None:
    part = completed(status="incomplete", windows_done=3, windows=5)
    api.scripts = [[part], [completed()]]
    found = render(client, api).value
    assert (found["job_id"], found["status"]) == ("job-2", "completed")
    assert list(api.started.values()) == [2]  # of the same id


def test_a_render_that_does_not_get_on_is_not_continued_for_ever(
    client: Driver, api: RunPod
) -> None:
    api.script = [completed(status="incomplete", windows_done=3, windows=5)]
    assert render(client, api).value["status"] == "incomplete"
    assert len(api.bodies) == 2


# The end of a job that made nothing.


def test_a_failed_job_is_an_error_of_its_codes_class(client: Driver, api: RunPod) -> None:
    problems = [{"field": "wav_url", "message": "wav_url is missing"}]
    output = {"error_code": "invalid_request", "stage": "understand", "retryable": False}
    api.script = [failed("wav_url is missing", **output, details={"problems": problems})]
    error = render(client, api).error
    assert error["class"] == "InvalidRequest"
    assert error["message"] == "wav_url is missing"
    assert (error["code"], error["stage"], error["retryable"]) == (
        "invalid_request",
        "understand",
        False,
    )
    assert error["details"]["problems"] == problems
    assert error["job_id"] == "job-1"
    assert len(error["request_id"]) == 32


def test_a_code_of_a_newer_worker_is_a_failed_job(client: Driver, api: RunPod) -> None:
    api.script = [failed("no", error_code="of_tomorrow", retryable=True)]
    error = render(client, api).error
    assert (error["class"], error["code"], error["retryable"]) == (
        "JobFailed",
        "of_tomorrow",
        True,
    )


def test_a_worker_that_died_may_do_better_next_time(client: Driver, api: RunPod) -> None:
    api.script = [failed("job timed out after 1 retries")]
    error = render(client, api).error
    assert (error["class"], error["code"], error["retryable"]) == ("JobFailed", None, True)


def test_a_completed_job_with_an_error_is_a_failed_one(client: Driver, api: RunPod) -> None:
    api.script = [completed(error="no room", error_code="disk_full")]
    error = render(client, api).error
    assert (error["class"], error["message"]) == ("DiskFull", "no room")


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ({"status": "CANCELLED"}, "JobCancelled"),
        ({"status": "TIMED_OUT", "error": "executionTimeout exceeded"}, "JobTimedOut"),
    ],
)
def test_a_job_that_was_ended_says_by_whom(
    client: Driver, api: RunPod, state: dict[str, Any], kind: str
) -> None:
    api.script = [RUNNING, state]
    assert render(client, api).error["class"] == kind


def test_a_failure_that_may_pass_is_followed_by_another_job_if_asked(
    client: Driver, api: RunPod
) -> None:
    gone = failed("gone", error_code="comfyui_unavailable", retryable=True)
    api.scripts = [[gone], [gone]]
    assert render(client, api, retries=2).value["job_id"] == "job-3"
    assert list(api.started.values()) == [3]  # of one id: each goes on with what the last one left


def test_a_failure_that_comes_again_is_not_followed_by_another_job(
    client: Driver, api: RunPod
) -> None:
    api.script = [failed("no", error_code="media_invalid", retryable=False)]
    assert render(client, api, retries=2).error["class"] == "MediaInvalid"
    assert len(api.bodies) == 1


# Ending a job.


def test_a_job_can_be_cancelled(client: Driver, api: RunPod) -> None:
    found = client.call("cancel", url=api.url, key=KEY, job=api.job(RUNNING)).value
    assert found["status"] == "CANCELLED"


def test_to_cancel_what_is_not_there_is_no_error(client: Driver, api: RunPod) -> None:
    found = client.call("cancel", url=api.url, key=KEY, job="nobody")
    assert (found.value, found.error) == (None, {})


def test_a_cancellation_whose_answer_is_lost_is_sent_again(client: Driver, api: RunPod) -> None:
    api.faults["cancel"] = [LOST, 500]
    job = api.job(RUNNING)
    found = client.call("cancel", url=api.url, key=KEY, job=job).value
    assert found["status"] == "CANCELLED"
    assert api.asked == ["POST cancel"] * 3


def test_who_gives_up_waiting_ends_the_job(client: Driver, api: RunPod) -> None:
    error = render(client, api, give_up="IN_PROGRESS").error
    assert error["class"] == "GaveUp"
    assert api.cancelled == ["job-1"]


def test_who_gives_up_and_is_not_heard_is_told_of_the_job(client: Driver, api: RunPod) -> None:
    api.faults["cancel"] = [500] * 9
    error = render(client, api, give_up="IN_PROGRESS").error
    assert error["class"] == "GaveUp"
    assert (error["cause"], error["left"]) == ("JobLeft", "job-1")


def test_an_error_of_the_callers_own_starts_no_second_job(client: Driver, api: RunPod) -> None:
    error = render(client, api, give_up="IN_PROGRESS", own_error="mine", retries=2).error
    assert (error["class"], error["message"]) == ("JobFailed", "mine")
    assert len(api.bodies) == 1
    assert api.cancelled == ["job-1"]


def test_who_gives_up_following_somebody_elses_job_leaves_it(client: Driver, api: RunPod) -> None:
    job = api.job(RUNNING)
    client.call("wait", url=api.url, key=KEY, job=job, give_up="IN_PROGRESS")
    assert api.cancelled == []


# A job that is sent: once.


def test_an_endpoint_that_is_too_busy_is_asked_again(client: Driver, api: RunPod) -> None:
    api.faults["run"] = [429, 429]
    assert render(client, api).value["job_id"] == "job-1"
    assert len(api.bodies) == 1


@pytest.mark.parametrize("fault", [LOST, BEHIND_GATEWAY, LOST_BEHIND_GATEWAY, HALF, PAGE, NO_ID])
def test_a_job_whose_answer_is_lost_is_not_sent_again(
    client: Driver, api: RunPod, fault: Fault
) -> None:
    api.faults["run"] = [fault]
    error = render(client, api, request={**REQUEST, "request_id": "order-17"}).error
    assert error["class"] == "AnswerLost"
    assert "may have been started" in error["message"]
    assert error["request_id"] == "order-17"
    assert api.started == {"order-17": 1}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(301, "BadRequest"), (400, "BadRequest"), (404, "BadRequest"), (401, "Unauthorized")],
)
def test_a_refusal_is_told_at_once(client: Driver, api: RunPod, status: int, kind: str) -> None:
    api.faults["run"] = [status]
    error = render(client, api).error
    assert error["class"] == kind
    assert f"HTTP {status}: refused: {status}" in error["message"]
    assert api.asked == ["POST run"]


def test_a_wrong_key_is_told_at_once(client: Driver, api: RunPod) -> None:
    assert render(client, api, key="another").error["class"] == "Unauthorized"


@pytest.mark.parametrize("key", ["sec\nret", "secr\N{BULLET}t"])
def test_a_key_that_cannot_be_sent_is_not_shown(client: Driver, api: RunPod, key: str) -> None:
    with pytest.raises(ValueError, match="a character that no key has") as caught:
        error = render(client, api, key=key).error
        raise ValueError(error["message"])
    assert "sec" not in str(caught.value)
    assert api.asked == []


def test_a_key_out_of_a_file_may_end_its_line(client: Driver, api: RunPod) -> None:
    assert render(client, api, key=f"{KEY}\n").value["job_id"] == "job-1"


def test_where_nobody_is_nothing_was_sent(client: Driver, api: RunPod) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    error = render(client, api, url=url, patience_seconds=0).error
    assert error["class"] == "EndpointUnavailable"
    assert "took no job" in error["message"]


# A job that is followed.


@pytest.mark.parametrize("fault", [LOST, HALF, PAGE, NO_ID, 429, 500, 401, 404])
def test_one_poll_that_says_nothing_is_no_end(client: Driver, api: RunPod, fault: Fault) -> None:
    api.faults["status"] = [None, fault]
    assert render(client, api).value["job_id"] == "job-1"
    assert (len(api.bodies), api.cancelled) == (1, [])


def test_a_result_that_has_expired_is_told(client: Driver, api: RunPod) -> None:
    job = api.job()
    api.expire(job)
    error = client.call("wait", url=api.url, key=KEY, job=job).error
    assert error["class"] == "JobNotFound"
    assert error["job_id"] == job


@pytest.mark.parametrize("job", ["", "a b", "../run", "job-1?x", "jöb", "x" * 300])
@pytest.mark.parametrize("op", ["state", "wait", "cancel"])
def test_what_is_no_jobs_id_is_told_at_once(client: Driver, api: RunPod, op: str, job: str) -> None:
    error = client.call(op, url=api.url, key=KEY, job=job).error
    assert error["class"] == "JobNotFound"
    assert f"{job[:40]!r}"[1:-1] in error["message"]
    assert api.asked == []


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8000", "localhost:8000", "ftp://x", "http://", "http://a b", "http://x:99999",
     "http://x/?key=secret", ""],
)  # fmt: skip
def test_what_is_no_url_is_told_at_once(client: Driver, api: RunPod, url: str) -> None:
    with pytest.raises(ValueError, match="url") as caught:
        error = render(client, api, url=url).error
        raise ValueError(error["message"])
    assert "secret" not in str(caught.value)
    assert url.partition("?")[0] in str(caught.value)


@pytest.mark.parametrize("status", [301, 400, 405, 410])
def test_an_endpoint_that_refuses_every_poll_is_not_asked_for_ever(
    client: Driver, api: RunPod, status: int
) -> None:
    api.faults["status"] = [status] * 99
    error = client.call("wait", url=api.url, key=KEY, job=api.job()).error
    assert (error["class"], error["job_id"]) == ("BadRequest", "job-1")
    assert f"HTTP {status}" in error["message"]
    assert len(api.asked) < 9


def test_a_key_that_is_taken_back_is_told(client: Driver, api: RunPod) -> None:
    api.faults["status"] = [401] * 9
    error = client.call("wait", url=api.url, key=KEY, job=api.job()).error
    assert error["class"] == "Unauthorized"


def test_an_endpoint_that_falls_silent_leaves_the_job_to_be_followed_later(
    client: Driver, api: RunPod
) -> None:
    api.faults["status"] = [500] * 9
    error = render(client, api, patience_seconds=0).error
    assert error["class"] == "EndpointUnavailable"
    assert error["job_id"] == "job-1"
    assert api.cancelled == []
    api.faults["status"] = []
    found = client.call("wait", url=api.url, key=KEY, job=error["job_id"])
    assert found.value["status"] == "completed"


# Local files.


def test_small_files_go_into_the_request(client: Driver, api: RunPod) -> None:
    render(client, api, request={}, files={"image_url": ("me.png", 3), "wav_url": ("a.mp3", 3)})
    fields = sent(api)
    assert fields["image_url"] == "data:image/png;base64,eHh4"
    assert fields["wav_url"] == "data:audio/mpeg;base64,eHh4"


def test_files_go_into_fields_within_fields(client: Driver, api: RunPod) -> None:
    files = {"audio_urls.1": ("b.wav", 1), "speakers.0.audio_url": ("a.wav", 1)}
    render(client, api, request={"audio_urls": ["https://x/a.wav"]}, files=files)
    fields = sent(api)
    assert fields["audio_urls"][0] == "https://x/a.wav"
    assert fields["audio_urls"][1].endswith(";base64,eA==")
    assert fields["speakers"][0]["audio_url"].endswith(";base64,eA==")


def test_files_go_into_a_workflow_job_under_names_with_dots(client: Driver, api: RunPod) -> None:
    files = {"files.me.final.png": ("me.png", 3), "files.voice.wav": ("a.wav", 1)}
    render(client, api, request={"workflow": {"1": {}}, "price_per_hour": 1.5}, files=files)
    fields = sent(api)
    assert fields["files"] == {
        "me.final.png": "data:image/png;base64,eHh4",
        "voice.wav": "data:audio/x-wav;base64,eA==",
    }
    assert "request_id" not in fields


@pytest.mark.parametrize("field", ["__proto__.x", "wav_url.x", "speakers.x", "a..b", ""])
def test_a_file_for_a_field_that_cannot_be_is_refused(
    client: Driver, api: RunPod, field: str
) -> None:
    request = {"wav_url": "x", "speakers": [{}]}
    with pytest.raises(ValueError, match="no field of a request"):
        error = render(client, api, request=request, files={field: ("a.wav", 1)}).error
        raise ValueError(error["message"])
    assert api.asked == []


def test_a_file_changes_its_request_and_no_other_object(client: Driver, api: RunPod) -> None:
    for field in ("constructor.prototype.x", "files.__proto__"):
        render(client, api, request={}, files={field: ("a.wav", 1)})
    render(client, api, request={"workflow": {}})
    assert api.bodies[-1]["input"] == {"workflow": {}}
    assert "x" in api.bodies[0]["input"]["constructor"]["prototype"]
    assert "__proto__" in api.bodies[1]["input"]["files"]


def test_a_large_file_without_a_storage_is_refused_before_anything_is_sent(
    client: Driver, api: RunPod
) -> None:
    error = render(client, api, request={}, files={"video_url": ("me.mp4", 7_000_001)}).error
    assert error["class"] == "FileTooLarge"
    assert "me.mp4 has 7.0 MB" in error["message"]
    assert api.asked == []


def presigned(api: RunPod) -> dict[str, str]:
    return {"put": f"{api.files_url}/big?sign=1", "get": "https://bucket.example.com/big?sign=2"}


def test_a_large_file_is_uploaded_and_a_small_one_beside_it_is_not(
    client: Driver, api: RunPod
) -> None:
    files = {"video_url": ("me.mp4", 7_000_001), "wav_url": ("a.mp3", 3)}
    render(client, api, request={}, files=files, presign=presigned(api))
    assert len(api.files["big"]) == 7_000_001
    assert api.types["big"] == "video/mp4"
    fields = sent(api)
    assert fields["video_url"] == "https://bucket.example.com/big?sign=2"
    assert fields["wav_url"].startswith("data:")


def test_an_upload_that_fails_is_tried_again(client: Driver, api: RunPod) -> None:
    api.faults["files"] = [500]
    files = {"video_url": ("me.mp4", 7_000_001)}
    assert not render(client, api, request={}, files=files, presign=presigned(api)).error
    assert len(api.bodies) == 1


def test_an_upload_that_fails_for_good_starts_no_job(client: Driver, api: RunPod) -> None:
    api.faults["files"] = [403] * 9
    files = {"video_url": ("me.mp4", 7_000_001)}
    error = render(client, api, request={}, files=files, presign=presigned(api)).error
    assert error["class"] == "UploadFailed"
    assert "sign=" not in error["message"]
    assert not api.bodies


# The video.


def test_a_video_in_the_result_is_saved(client: Driver, api: RunPod) -> None:
    api.script = [completed(video_info={"sha256": SHA256})]
    assert base64.b64decode(save(client, api).value) == VIDEO


@pytest.mark.parametrize("fault", [None, 500, HALF])
def test_a_video_at_a_url_is_saved_also_at_the_second_try(
    client: Driver, api: RunPod, fault: Fault | None
) -> None:
    api.files["v.mp4"] = VIDEO
    api.faults["files"] = [fault]
    url = f"{api.files_url}/v.mp4"
    api.script = [completed(video=None, video_url=url, video_info={"sha256": SHA256})]
    assert base64.b64decode(save(client, api).value) == VIDEO


def test_a_video_that_is_another_is_refused(client: Driver, api: RunPod) -> None:
    api.script = [completed(video_info={"sha256": "0" * 64})]
    assert save(client, api).error["class"] == "ResultDamaged"


@pytest.mark.parametrize("where", ["video_path", "uploaded_to"])
def test_a_video_that_lies_elsewhere_says_where(client: Driver, api: RunPod, where: str) -> None:
    api.script = [completed(video=None, **{where: "/runpod-volume/talkinghead/v.mp4"})]
    error = save(client, api).error
    assert error["class"] == "ResultElsewhere"
    assert "/runpod-volume/talkinghead/v.mp4" in error["message"]


# Webhooks.

HOOK = "https://example.com/hook?shop=1"


TOKEN = "token-of-serve"


def signed(client: Driver, reference: str = "order 17/ä", **more: Any) -> str:
    url = client.call("sign", hook=HOOK, reference=reference, secret="secret", **more).value
    assert isinstance(url, str)
    return url


def read(client: Driver, url: str, body: str, **more: Any) -> Outcome:
    return client.call("read", hook=url, body=body, secret="secret", **more)


def test_a_signed_webhook_tells_what_it_is_about(client: Driver) -> None:
    body = json.dumps({"id": "job-1", **completed()})
    found = read(client, signed(client), body).value
    assert found == {"reference": "order 17/ä", "status": "COMPLETED"}


@pytest.mark.parametrize("forgery", ["reference", "expires", "secret", "unsigned", "body"])
def test_a_forged_webhook_is_refused(client: Driver, forgery: str) -> None:
    url, secret, body = signed(client), "secret", json.dumps({"id": "job-1", **IN_QUEUE})
    match forgery:
        case "reference":
            url = url.replace("17", "18")
        case "expires":
            url = re.sub("expires=1", "expires=2", url)
        case "secret":
            secret = "another"
        case "unsigned":
            url = f"{HOOK}&reference=17"
        case "body":
            body = "[]"
    error = client.call("read", hook=url, body=body, secret=secret).error
    assert error["class"] == "WebhookForged"


def test_every_client_signs_alike(client: Driver) -> None:
    assert signed(client, "17", expires=4_000_000_000) == (
        f"{HOOK}&reference=17&expires=4000000000&signature="
        "304fa04bdaf0f3fb31e3e23063c0e0243af5ea54b327c636ee32ad48f12c9889"
    )


def test_a_webhook_of_long_ago_is_refused(client: Driver) -> None:
    error = read(client, signed(client, expires=1_600_000_000), BODY).error
    assert error["class"] == "WebhookForged"
    assert "expired" in error["message"]


def test_a_webhook_that_an_older_client_signed_is_taken(client: Driver) -> None:
    signature = "d6c8defb767c0cb9ad328a8574f1981f4c63b49ab44bffb91986a8976e93ff0f"
    url = f"{HOOK}&reference=17&signature={signature}"
    assert read(client, url, BODY).value == {"reference": "17", "status": "COMPLETED"}
    forged = read(client, f"{url}&expires=4000000000", BODY)
    assert forged.error["class"] == "WebhookForged"


BODY = json.dumps({"id": "job-1", **completed()})


def test_a_body_that_serve_signed_is_taken(client: Driver) -> None:
    header = webhook_signature(BODY.encode(), TOKEN)
    found = read(client, signed(client), BODY, signature=header, token=TOKEN)
    assert found.value == {"reference": "order 17/ä", "status": "COMPLETED"}


@pytest.mark.parametrize("forgery", ["body", "token", "none", "old", "no time", "odd"])
def test_a_body_that_serve_did_not_sign_is_refused(client: Driver, forgery: str) -> None:
    now = time.time()
    header: str | None = webhook_signature(BODY.encode(), TOKEN, now)
    body, token = BODY, TOKEN
    match forgery:
        case "body":
            body = json.dumps({"id": "job-2", **completed()})
        case "token":
            token = "another"
        case "none":
            header = None
        case "old":
            header = webhook_signature(BODY.encode(), TOKEN, now - 3600)
        case "no time":
            header = str(header).partition(",")[2]
        case "odd":
            header = "t=•,v1="
    more = {} if header is None else {"signature": header}
    error = read(client, signed(client), body, token=token, **more).error
    assert error["class"] == "WebhookForged"


def test_an_empty_secret_signs_nothing(client: Driver) -> None:
    with pytest.raises(ValueError, match="the secret is empty"):
        error = client.call("sign", hook=HOOK, reference="order 17", secret="").error
        raise ValueError(error["message"])
    header = f"t={int(time.time())},v1={'0' * 64}"
    with pytest.raises(ValueError, match="the secret is empty"):
        error = read(client, signed(client), BODY, signature=header, token="").error
        raise ValueError(error["message"])
