"""Models that a render loaded are there for the next one, whatever comes between the two."""

from __future__ import annotations

from typing import Any

import pytest

from talkinghead.comfy.studio import Studio
from talkinghead.comfy.warm_up import warm_up
from talkinghead.render.job import Job
from talkinghead.render.run import run_job
from talkinghead.workflow.graph import Graph

pytestmark = pytest.mark.usefixtures("all_events")


@pytest.fixture
def studio(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> Studio:
    """One that takes workflows; its ComfyUI holds no models."""
    settings = studio.settings.model_copy(update={"allow_workflows": True})
    monkeypatch.setattr(studio, "settings", settings)
    free(studio)
    return studio


def free(studio: Studio) -> None:
    """Have ComfyUI hold no models, as after a render that ran out of memory."""
    with studio.comfy("unused", lambda: None):  # the job before is over, its models kept
        studio.free_memory()


def loads(studio: Studio, fields: dict[str, Any]) -> bool:
    """Whether a job has to load the base model; it completes."""
    seen: list[str] = []
    job = Job("stay", fields, report=lambda progress: seen.append(progress.message))
    result = run_job(job, studio)
    assert result["status"] == "completed", result
    return "Wan model" in seen


def test_a_draft_and_a_workflow_between_two_renders_do_not_unload_the_models(
    studio: Studio, short_job: dict[str, Any], graph: Graph
) -> None:
    assert loads(studio, short_job)
    assert not loads(studio, short_job | {"draft": True})
    assert not loads(studio, {"workflow": graph})
    assert not loads(studio, short_job)


def test_a_draft_before_the_first_render_leaves_what_the_warm_up_loaded(
    studio: Studio, short_job: dict[str, Any]
) -> None:
    warm_up(studio)
    assert not loads(studio, short_job | {"draft": True})
    assert not loads(studio, short_job)


def test_a_draft_loads_no_models_that_are_not_there(
    studio: Studio, short_job: dict[str, Any]
) -> None:
    assert loads(studio, short_job)
    free(studio)
    assert not loads(studio, short_job | {"draft": True})
    assert loads(studio, short_job)


def test_a_workflow_tells_nothing_of_the_models_that_stay_beside_it(
    studio: Studio, short_job: dict[str, Any]
) -> None:
    assert loads(studio, short_job)
    text: Graph = {
        "1": {"class_type": "PrimitiveInt", "inputs": {"value": 42}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }
    result = run_job(Job("text", {"workflow": text}), studio)
    assert [output["text"] for output in result["outputs"]] == ["42"]
