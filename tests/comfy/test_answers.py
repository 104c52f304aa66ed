"""What a worker says is what docs/*.schema.json say that it says: no field less, and none more."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from talkinghead.comfy.studio import Studio
from talkinghead.plan.schema import with_each_object
from talkinghead.render.job import Job
from talkinghead.render.progress import Progress
from talkinghead.render.run import run_job
from talkinghead.settings import PROJECT_DIR


def strict(name: str) -> dict[str, Any]:
    """A schema of docs/ that takes no field that it does not know."""

    def closed(found: dict[str, Any]) -> dict[str, Any]:
        if "properties" in found and isinstance(found.get("type"), str):
            found["additionalProperties"] = False
        return found

    content = json.loads((PROJECT_DIR / "docs" / f"{name}.schema.json").read_text("utf-8"))
    return dict(with_each_object(content, closed))


def run(fields: dict[str, Any], studio: Studio) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    told: list[dict[str, Any]] = []

    def report(progress: Progress) -> None:
        told.append(progress.payload())

    return run_job(Job("job-1", fields, report=report), studio), told


@pytest.mark.parametrize(
    "more", [{}, {"draft": True}, {"dry_run": True, "price_per_hour": 1.0}, {"long": True}]
)
def test_results_and_progress_follow_their_schemas(
    studio: Studio, short_job: dict[str, Any], more: dict[str, Any]
) -> None:
    result, told = run({**short_job, "price_per_hour": 2.0, **more}, studio)
    assert "error" not in result, result
    jsonschema.validate(result, strict("result"))
    assert result["cost"] > 0
    for each in told:
        jsonschema.validate(each, strict("progress"))
    if "dry_run" in more:
        jsonschema.validate(result["estimate"], strict("estimate"))
        assert set(result["estimate"]) == set(strict("estimate")["properties"])


def test_failures_follow_their_schema(studio: Studio, short_job: dict[str, Any]) -> None:
    wrong = {**short_job, "resolution": "4k", "steps": "4", "drfat": True}
    lost = {**short_job, "image_url": "http://127.0.0.1:9/nothing", "wav_url": "data:,", "fps": 25}
    for fields in (wrong, {**lost, "wav_url": short_job["wav_url"]}):
        result, _ = run(fields, studio)
        jsonschema.validate(result, strict("failure"))
        assert result["error_code"] in ("invalid_request", "download_failed")
