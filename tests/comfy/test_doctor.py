"""The doctor, and linked models, on a real ComfyUI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from comfy_client import ComfyClient
from talkinghead.comfy.server import ComfyServer
from talkinghead.comfy.studio import Studio
from talkinghead.comfy.warm_up import warm_up
from talkinghead.doctor import ensure_fit, examine
from talkinghead.render.job import Job
from talkinghead.render.run import run_job
from talkinghead.settings import Settings
from tests.comfy.doubles_server import COMFYUI_PYTHON
from tests.timing import LAST_RESORT_SECONDS


def test_a_worker_with_nodes_and_models_is_fit(client: ComfyClient, settings: Settings) -> None:
    here = {"comfyui_url": client.url, "model_profile": "fp8"}
    studio = Studio(settings.model_copy(update=here))
    ensure_fit(studio)
    found = {each.name: each.state for each in examine(studio)}
    assert found["workflow infinitetalk_i2v"] == found["workflow infinitetalk_v2v"] == "ok"
    assert found["ComfyUI"] == found["workflow draft_i2v"] == found["cache"] == "ok"


def test_our_comfyui_runs_with_what_it_knows_for_its_memory(
    client: ComfyClient, settings: Settings
) -> None:
    argv = client.system_stats()["system"]["argv"]
    source = (settings.comfyui_dir / "comfy" / "cli_args.py").read_text()
    assert "--cache-classic" in argv
    assert ("--disable-dynamic-vram" in argv) == ("--disable-dynamic-vram" in source)


def test_a_model_that_comfyui_does_not_list_is_named(
    client: ComfyClient, settings: Settings
) -> None:
    here = {"comfyui_url": client.url, "model_profile": "tiny"}
    found = {each.name: each for each in examine(Studio(settings.model_copy(update=here)))}
    workflow = found["workflow infinitetalk_i2v"]
    assert workflow.state == "failed"
    assert "is 'tiny-wan2.1-i2v-480p.safetensors', allowed: " in workflow.message


def test_a_worker_without_its_models_takes_drafts_and_says_what_is_missing(
    settings: Settings, short_job: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Else its jobs, drafts too, would wait in RunPod's queue for a day."""
    with Studio(settings.model_copy(update={"model_profile": "tiny"})) as studio:
        warm_up(studio)
        ensure_fit(studio)
        failed = run_job(Job("render", short_job), studio)
        draft = run_job(Job("draft", {**short_job, "draft": True}), studio)
    assert "set FETCH_MODELS=true, or run `talkinghead models fetch`" in caplog.text
    assert "This worker takes drafts, and answers models_missing" in caplog.text
    assert failed["error_code"] == "models_missing", failed
    assert "tiny-wan2.1-i2v-480p.safetensors" in failed["error"]
    assert "error" not in draft


def test_comfyui_lists_linked_models_before_its_own(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "blob"
    file.write_bytes(b"not read")
    server = ComfyServer(
        settings.comfyui_dir.absolute(),
        tmp_path / "work",
        python=COMFYUI_PYTHON,
        cpu=True,
        start_seconds=LAST_RESORT_SECONDS,
    )
    server.start()
    server.use_models({"vae/linked.safetensors": file, "wav2vec2/linked.safetensors": file})
    try:
        server.ensure_ready()
        client = ComfyClient(server.url)
        names = client.object_info()["VAELoader"]["input"]["required"]["vae_name"][0]
        folders = (server.folders.work_dir / "extra_model_paths.yaml").read_text()
    finally:
        server.stop()
    assert "linked.safetensors" in names
    assert "wav2vec2: wav2vec2" in folders
    assert file.read_bytes() == b"not read"
