"""Whole jobs and where their videos go: a real ComfyUI, a real S3 server."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import requests

from talkinghead.comfy.studio import Studio
from talkinghead.delivery.stores import Stores
from talkinghead.redact import redact_url
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.render.run import run_job
from talkinghead.settings import Settings
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.schemas import load_schemas
from tests.canary import CANARY, FORMS
from tests.conftest import EXAMPLES
from tests.store import BUCKET, S3Server
from tests.timing import LAST_RESORT_SECONDS


def run(studio: Studio, job_id: str, fields: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """The job's result and the stages it went through."""
    stages: set[str] = set()

    def report(progress: Progress) -> None:
        stages.add(progress.stage)

    return run_job(Job(id=job_id, input=fields, report=report), studio), stages


def test_a_retried_job_answers_at_once_with_the_video_of_the_first_try(
    on_s3: Studio, s3: S3Server, short_job: dict[str, Any]
) -> None:
    first, _ = run(on_s3, "retried", short_job)
    again, stages = run(on_s3, "retried", short_job)
    assert stages == set(), "nothing was fetched, rendered or delivered"
    for key in ("status", "job_id", "video_info", "generation_params", "warnings", "draft"):
        assert again[key] == first[key]
    video = requests.get(again["video_url"], timeout=LAST_RESORT_SECONDS).content
    assert hashlib.sha256(video).hexdigest() == first["video_info"]["sha256"]
    assert s3.keys("retried/") == ["retried/result.json", "retried/talkinghead.mp4"]


def test_another_request_under_the_same_id_is_rendered(
    on_s3: Studio, s3: S3Server, short_job: dict[str, Any]
) -> None:
    run(on_s3, "same-id", short_job | {"draft": True})
    other, stages = run(on_s3, "same-id", short_job | {"draft": True, "max_frame": 12})
    assert "render" in stages
    assert other["video_info"]["frames"] == 12
    assert s3.keys("same-id/") == ["same-id/result.json", "same-id/talkinghead.mp4"]


def test_the_bundle_tells_what_ran_and_holds_no_secret(
    on_s3: Studio, short_job: dict[str, Any], portrait: Path
) -> None:
    fields = short_job | {"bundle": True}
    result, _ = run(on_s3, "bundled", fields)
    text = requests.get(result["bundle_url"], timeout=LAST_RESORT_SECONDS).text
    bundle = json.loads(text)
    assert CANARY not in text and "X-Amz-" not in text
    urls = {name: redact_url(fields[name]) for name in ("image_url", "wav_url")}
    assert bundle["request"] == fields | urls
    assert bundle["request"]["image_url"].endswith("?...")
    portrait_hash = hashlib.sha256(portrait.read_bytes()).hexdigest()
    assert bundle["inputs"]["image_url"]["sha256"] == portrait_hash
    video = requests.get(result["video_url"], timeout=LAST_RESORT_SECONDS).content
    assert bundle["result"]["video_info"]["sha256"] == hashlib.sha256(video).hexdigest()
    assert bundle["result"]["generation_params"] == result["generation_params"]
    assert bundle["plan"]["seed"] == result["generation_params"]["seed"]
    source = (on_s3.settings.comfyui_dir / "comfyui_version.py").read_text()
    assert f'"{bundle["machine"]["system"]["comfyui_version"]}"' in source
    assert bundle["machine"]["devices"][0]["type"] == "cpu"
    assert to_api(bundle["workflow"], load_schemas()).keys() == bundle["graph"].keys()


def test_files_in_the_request_make_the_video_and_are_nowhere_else_nor_are_a_prompts_secrets(
    on_s3: Studio,
    s3: S3Server,
    short_job: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    portrait, voice = EXAMPLES / "portrait.jpg", EXAMPLES / "voice.wav"

    def inline(path: Path) -> str:
        return base64.b64encode(path.read_bytes() + CANARY.encode() * 9).decode()

    fields = {name: each for name, each in short_job.items() if not name.endswith("_url")} | {
        "image_base64": inline(portrait),
        "wav_url": f"data:audio/wav;base64,{inline(voice)}",
        "prompt": f"as on https://me:{CANARY}@h.example/'a'?tok={CANARY} and //h/<b>?{CANARY}",
        "negative_prompt": f"data:image/png;base64,{inline(portrait)[-400:]}",
        "bundle": True,
        "embed_workflow": True,
        "draft": True,
    }
    with caplog.at_level("DEBUG", logger="talkinghead"):
        result, _ = run(on_s3, "inline", fields)
    assert result["status"] == "completed", result
    told = {"bundle": requests.get(result["bundle_url"], timeout=LAST_RESORT_SECONDS).content}
    told["result"] = json.dumps(result).encode()
    told["log"] = caplog.text.encode()
    told |= {
        key: s3.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()
        for key in s3.keys("inline/")
    }
    for name, content in told.items():
        assert not [form for form in FORMS if form in content], name
    asked = json.loads(told["bundle"])["request"]
    size = portrait.stat().st_size + 9 * len(CANARY)
    assert asked["image_base64"] == f"base64 ({size} bytes)"
    assert asked["wav_url"].startswith("data:audio/wav (")
    assert asked["prompt"] == "as on https://h.example/'a'?... and //h/<b>?..."
    assert result["generation_params"]["positive_prompt"] == asked["prompt"]
    assert [each[:20] for each in result["warnings"][:2]] == [
        "prompt: a URL in it ",
        "negative_prompt: a U",
    ]


def test_a_presigned_url_gets_the_video_and_its_signature_is_nowhere(
    on_s3: Studio,
    s3: S3Server,
    short_job: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    target = {"Bucket": BUCKET, "Key": "theirs/job.mp4", "ContentType": "video/mp4"}
    url = s3.client().generate_presigned_url("put_object", Params=target, ExpiresIn=3600)
    fields = short_job | {"draft": True, "upload_url": url, "bundle": True}
    with caplog.at_level("DEBUG", logger="talkinghead"):
        result, _ = run(on_s3, "uploaded", fields)
    assert result["uploaded_to"] == f"{s3.endpoint}/{BUCKET}/theirs/job.mp4?..."
    stored = s3.client().get_object(Bucket=BUCKET, Key="theirs/job.mp4")["Body"].read()
    assert hashlib.sha256(stored).hexdigest() == result["video_info"]["sha256"]
    assert "X-Amz-" not in json.dumps(result) + caplog.text
    assert s3.keys("uploaded/") == []


def test_what_cannot_fit_into_the_result_is_refused_before_comfyui_is_asked(
    studio: Studio, short_job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studio, "stores", Stores(Settings(max_inline_mb=0.001)))
    result, stages = run(studio, "too-large", short_job)
    assert (result["error_code"], result["stage"]) == ("result_too_large", "prepare")
    assert "configure S3 storage, give upload_url" in result["error"]
    assert "start" not in stages


def test_a_video_that_no_store_takes_is_kept_and_delivered_without_rendering_it_again(
    studio: Studio,
    s3: S3Server,
    short_job: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "volume").mkdir()
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VOLUME_DIR", str(tmp_path / "volume"))
    away = Stores(Settings(s3_endpoint="http://127.0.0.1:9"))
    hasty = studio.settings.model_copy(update={"delivery_seconds": 1.0})
    monkeypatch.setattr(studio, "settings", hasty)
    monkeypatch.setattr(studio, "stores", away)
    failed, _ = run(studio, "kept", short_job | {"draft": True})
    assert (failed["error_code"], failed["stage"]) == ("delivery_failed", "deliver")
    assert Path(failed["details"]["video_path"]).is_file()
    monkeypatch.setattr(studio, "stores", Stores(Settings()))
    again, stages = run(studio, "kept", short_job | {"draft": True})
    assert "render" not in stages
    video = requests.get(again["video_url"], timeout=LAST_RESORT_SECONDS).content
    assert hashlib.sha256(video).hexdigest() == again["video_info"]["sha256"]
    assert not Path(failed["details"]["video_path"]).exists()
