"""The lab for a bare GPU machine, as far as it can be told without one: archive, order, files."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest
import yaml

from benchmarks.gpu_lab.pack import NEEDED, OURS_ANYHOW, UNUSED, lab_manifest, wheels_for
from benchmarks.gpu_lab.program import BUDGET_SECONDS, ITEMS, schedule, told
from talkinghead.models.manifest import Manifest
from talkinghead.settings import PROJECT_DIR

LOCK = (PROJECT_DIR / "requirements" / "worker.lock").read_text("utf-8")
MANIFEST = yaml.safe_load((PROJECT_DIR / "model_manifest.yaml").read_text("utf-8"))


def test_what_does_not_fit_into_the_time_is_left_out_and_the_first_fits() -> None:
    planned = [*schedule()]
    taken = [each for each in planned if each.fits]
    assert len(taken) >= 5 and taken[0].item == ITEMS[0]
    assert max(each.ends for each in taken) <= BUDGET_SECONDS == 480
    assert "left out: it would end at" in told()


def test_what_is_there_is_not_carried_but_what_must_be_of_our_version() -> None:
    have = ["numpy==2.5.2", "Scipy", "transformers==5.17.0", "opencv_python_headless"]
    wheels = [*wheels_for("3.12", have, LOCK)]
    names = {each.partition("==")[0] for each in wheels}
    assert not {"numpy", "scipy", "opencv-python-headless", "torch", "triton"} & names
    assert {*OURS_ANYHOW, "av", "pillow", "sageattention"} <= names
    assert len(wheels) == len(NEEDED.split()) - 3 + 1


def test_the_labs_manifest_has_files_that_are_made_there_and_holds_none_against_a_sum() -> None:
    manifest = Manifest.model_validate(lab_manifest(MANIFEST))
    assert all(file.repo is None and file.sha256 is None for file in manifest.files.values())
    assert {each.profile for each in ITEMS} <= manifest.profiles.keys()
    assert manifest.profile("fp8").check_picture == "off"


@pytest.mark.parametrize(
    ("path", "unused"),
    [
        ("models", True),
        ("comfy/ldm/models", False),
        ("multitalk/__pycache__", True),
        ("assets/workflow.png", True),
        ("nodes.py", False),
    ],
)
def test_of_comfyui_and_the_packs_the_code_goes_along(path: str, unused: bool) -> None:
    assert bool(UNUSED.fullmatch(path)) is unused


def test_files_of_random_weights_are_as_long_as_they_say(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from benchmarks.gpu_lab import weights  # noqa: PLC0415 - torch is there with ComfyUI alone

    files = weights.writers(weights.TINY)
    fp8 = tmp_path / "fp8.safetensors"
    files["Wan2_1-I2V-14B-480p_fp8_e4m3fn_scaled_KJ.safetensors"](fp8, "cpu")
    content = fp8.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    assert max(each["data_offsets"][1] for each in header.values()) == len(content) - 8 - size
    assert header["blocks.0.ffn.0.weight"]["dtype"] == "F8_E4M3"
    assert header["blocks.0.ffn.0.scale_weight"]["dtype"] == "F32"
    assert header["head.head.weight"]["dtype"] == "F16"
    gguf = tmp_path / "q8.gguf"
    files["Wan2_1-InfiniteTalk_Single_Q8.gguf"](gguf, "cpu")
    assert gguf.read_bytes()[:4] == b"GGUF" and gguf.stat().st_size % weights.ALIGNMENT == 0


def test_the_full_models_have_the_sizes_of_the_real_ones() -> None:
    pytest.importorskip("torch")
    from benchmarks.gpu_lab import weights  # noqa: PLC0415

    def billions(model: str, widths: object) -> float:
        specs = weights.layout(model, **widths)  # type: ignore[arg-type]
        return sum(each.count for each in specs.values()) / 1e9

    full = weights.FULL
    assert 16.0 < billions("base_model", full.base) < 16.6  # 16.4, with the image's attention
    assert 2.3 < billions("talk_model", full.talk) < 2.6
    lora = sum(each.count for each in weights.lora_layout(full.lora).values()) / 1e9
    assert 2 * lora == pytest.approx(0.738, rel=0.05)  # bytes of the file that the manifest names
    vae = sum(each.count for each in weights.layout("vae", **full.vae).values())
    assert 2 * vae == pytest.approx(253_815_318, rel=0.02)
    assert re.search("ViT-H", str(weights.clip_vision.__doc__))
