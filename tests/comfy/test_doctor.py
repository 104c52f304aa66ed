"""The doctor, and linked models, on a real ComfyUI."""

from __future__ import annotations

from pathlib import Path

from comfy_client import ComfyClient
from talkinghead.comfy.server import ComfyServer
from talkinghead.comfy.studio import Studio
from talkinghead.doctor import ensure_fit, examine
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
