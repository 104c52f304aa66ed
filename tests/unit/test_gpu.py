"""Which models and settings are chosen for a host."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from comfy_client import ComfyClient
from talkinghead.errors import ModelsMissing
from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.memory import GIB
from talkinghead.models import probes
from talkinghead.models.gpu import (
    Gpu,
    Host,
    Tuning,
    active_profile,
    choose,
    parse_gpu,
    read_gpu,
    read_host,
)
from talkinghead.models.manifest import Manifest, load_manifest
from talkinghead.models.probes import probe
from talkinghead.plan.plan import make_plan
from talkinghead.plan.request import parse_request
from talkinghead.settings import PROJECT_DIR, Settings
from tests.timing import LAST_RESORT_SECONDS

MANIFEST = load_manifest()
CARDS_GIB = (16, 24, 32, 48, 80)
ARCHITECTURES = {"Ampere": 8.6, "Ada": 8.9, "Hopper": 9.0, "Blackwell": 12.0}


def host(
    vram: float, capability: float = 8.9, ram: float = math.inf, *, sage: bool = False
) -> Host:
    return Host(Gpu("card", vram, capability), ram, sage)


@pytest.mark.parametrize("capability", ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
@pytest.mark.parametrize(
    ("vram", "expected"),
    [
        (16, Tuning("gguf-q4", "sdpa", 25, True)),
        (24, Tuning("fp8", "sdpa", 10, True)),
        (32, Tuning("fp8", "sdpa", 0, True)),
        (48, Tuning("fp8", "sdpa", 0, False)),
        (80, Tuning("fp16", "sdpa", 0, True)),
    ],
)
def test_each_usual_card_gets_its_row(vram: float, capability: float, expected: Tuning) -> None:
    assert choose(host(vram, capability), MANIFEST) == expected


def profiles_table(manifest: Manifest) -> str:
    """The table of docs/tuning.md: what is chosen for usual cards in a host of memory enough."""
    rows = [
        "| VRAM | GPU | profile | base model | attention | blocks swapped | `force_offload` |",
        "|---|---|---|---|---|---|---|",
    ]
    for vram in CARDS_GIB:
        cells: dict[str, list[str]] = {}
        for architecture, capability in ARCHITECTURES.items():
            gpu = Gpu(architecture, vram, capability)
            cells.setdefault(_cells(gpu, manifest), []).append(architecture)
        rows += [f"| {vram} GB | {', '.join(names)} | {row} |" for row, names in cells.items()]
    return "\n".join(rows) + "\n"


def _cells(gpu: Gpu, manifest: Manifest) -> str:
    tuning = choose(Host(gpu, math.inf), manifest)
    sage = choose(Host(gpu, math.inf, sage=True), manifest).attention
    base = (manifest.profile(tuning.profile).slots["Wan model"] or {})["model"]
    offload = str(tuning.force_offload).lower()
    attention = f"`{sage}` if it runs, else `{tuning.attention}`"
    return f"`{tuning.profile}` | {base} | {attention} | {tuning.blocks_to_swap} | {offload}"


def test_the_table_in_the_docs_is_what_is_chosen() -> None:
    assert profiles_table(MANIFEST) in (PROJECT_DIR / "docs" / "tuning.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("vram", "expected"),
    [
        (11.8, "gguf-q4"),  # RTX 3060
        (14.9, "gguf-q4"),  # T4
        (22.5, "fp8"),  # A10G, with ECC
        (45.0, "fp8"),  # L40S, with ECC
        (79.6, "fp16"),  # H100
        (141.0, "fp16"),
    ],
)
def test_a_card_counts_by_what_it_says_it_has(vram: float, expected: str) -> None:
    assert choose(host(vram), MANIFEST).profile == expected


@pytest.mark.parametrize(
    ("ram", "expected"), [(64, "fp16"), (48, "fp8"), (26, "gguf-q4"), (8, "gguf-q4")]
)
def test_a_host_with_little_memory_gets_smaller_models(ram: float, expected: str) -> None:
    assert choose(host(80, ram=ram), MANIFEST).profile == expected


def test_no_gpu_gets_the_smallest_profile_and_no_tuning() -> None:
    assert choose(Host(None, 64), MANIFEST) == Tuning("gguf-q4", "sdpa", 0, True)


def test_sage_attention_is_taken_where_it_runs() -> None:
    assert choose(host(24, sage=True), MANIFEST).attention == "sageattn"


def test_a_card_without_bf16_decodes_in_fp32() -> None:
    tuning = choose(host(16, capability=7.5), MANIFEST)
    vae = tuning.apply(MANIFEST.profile("gguf-q4")).slots["VAE"]
    assert vae == {"model_name": "wan_2.1_vae.safetensors", "precision": "fp32"}


def test_what_is_set_by_hand_is_taken() -> None:
    tuning = choose(
        host(80, sage=True), MANIFEST, profile="fp8", attention="sdpa", force_offload=True
    )
    assert tuning == Tuning("fp8", "sdpa", 0, True)


def test_a_large_profile_on_a_small_card_swaps_every_block_it_must() -> None:
    assert choose(host(16), MANIFEST, profile="fp16").blocks_to_swap == 40


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({}, 25), ({"use_block_swap": False}, 0), ({"use_block_swap": True, "blocks_to_swap": 7}, 7)],
)
def test_a_request_that_does_not_say_swaps_what_the_gpu_needs(
    fields: dict[str, Any], expected: int
) -> None:
    request = parse_request({"image_url": "http://a/a.png", "wav_url": "http://a/a.wav"} | fields)
    voice, picture = Sound(4.0, 48_000, 2, False), Picture(512, 512)
    assert make_plan(request, [voice], picture, blocks_to_swap=25).blocks_to_swap == expected


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ModelsMissing, match="MODEL_PROFILE is 'fp99'"):
        choose(host(24), MANIFEST, profile="fp99")


def test_the_tuning_reaches_the_nodes_of_the_template() -> None:
    slots = Tuning("fp8", "sageattn", 10, False).apply(MANIFEST.profile("fp8")).slots
    assert slots["Wan model"] == {
        "model": "Wan2_1-I2V-14B-480p_fp8_e4m3fn_scaled_KJ.safetensors",
        "base_precision": "fp16",
        "attention_mode": "sageattn",
    }
    assert slots["Sampler"] == {"force_offload": False}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("NVIDIA GeForce RTX 4090, 24564, 8.9", Gpu("NVIDIA GeForce RTX 4090", 24564 / 1024, 8.9)),
        ("A100, 81920, 8.0\nA100, 81920, 8.0", Gpu("A100", 80, 8.0)),
        ("Old driver, 16384, [N/A]", Gpu("Old driver", 16, None)),
        ("No devices were found", None),
        ("", None),
    ],
)
def test_the_gpu_is_read_from_what_nvidia_smi_prints(said: str, expected: Gpu | None) -> None:
    assert parse_gpu(said) == expected


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of programs, the only one on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    read_gpu.cache_clear()
    yield tmp_path
    read_gpu.cache_clear()


def test_a_host_is_asked_once_and_tuned(tools: Path) -> None:
    probe.cache_clear()
    asked = tools / "asked"
    program(tools / "nvidia-smi", f'echo "NVIDIA GeForce RTX 4090, 24564, 8.9"; echo x >> {asked}')
    python = program(tools / "python", "exit 1")
    settings = Settings(comfyui_cpu=False, comfyui_python=python, model_profile="fp8")
    for _ in range(2):
        profile = active_profile(settings, read_host(settings))
    model = (profile.slots["Wan model"] or {})["model"]
    assert model == "Wan2_1-I2V-14B-480p_fp8_e4m3fn_scaled_KJ.safetensors"
    assert profile.blocks_to_swap == 10
    assert asked.read_text() == "x\nx\n"  # the card; its driver, for what probes found


def test_a_card_without_fp8_is_not_asked_at_every_start_how_it_multiplies_in_it(
    tools: Path,
) -> None:
    probe.cache_clear()
    asked = tools / "asked"
    program(tools / "nvidia-smi", 'echo "NVIDIA A40, 46068, 8.6"')
    python = program(tools / "python", f'echo "$*" >> {asked}; exit 1')
    settings = Settings(
        comfyui_cpu=False,
        comfyui_python=python,
        model_profile="fp8-distill",
        models_dir=tools / "models",
    )
    assert not read_host(settings).fp8
    assert " fp8 " not in asked.read_text() and " attention " in asked.read_text()


def test_a_driver_that_fails_counts_as_no_gpu(tools: Path) -> None:
    program(tools / "nvidia-smi", 'echo "NVIDIA-SMI has failed, because, no driver"; exit 9')
    assert read_gpu() is None


FOUND = '{"is_there": true, "error": 0.01, "times": 1.9, "is_good": true}'


def answer(python: Path, kept: Path, card: str = "card") -> bool | None:
    """Whether the probe of attention takes it, with this as ComfyUI's Python; None: no answer."""
    probe.cache_clear()
    found = probe("attention", str(python), card, kept)
    return found.is_good if found else None


def test_a_probe_that_finds_nothing_is_no_answer_and_is_asked_again(
    tools: Path, tmp_path: Path
) -> None:
    python, kept = tools / "python", tmp_path / "kept"
    assert answer(python, kept) is None
    program(python, "echo 'no kernel image'; exit 1")
    assert answer(python, kept) is None
    program(python, f"echo '{FOUND}'")
    assert answer(python, kept) is True


def test_what_a_probe_found_is_kept_for_all_hosts_with_the_same_card_driver_and_packages(
    tools: Path, tmp_path: Path
) -> None:
    asked, kept = tmp_path / "asked", tmp_path / "kept"
    versions = tools / "versions"
    versions.write_text("2.11")

    def count() -> int:
        return len(asked.read_text().splitlines())

    python = program(
        tools / "python",
        f'case "$1" in -I) read v < {versions}; echo "$v";; '
        f"*) echo x >> {asked}; echo '{FOUND}';; esac",
    )
    driver = program(tools / "nvidia-smi", "echo 570.1")
    for _ in range(2):
        assert answer(python, kept) is True
    assert count() == 1
    assert answer(python, kept, card="another card") is True
    program(driver, "echo 580.2")
    assert answer(python, kept) is True
    versions.write_text("2.12")
    assert answer(python, kept) is True
    assert count() == 4
    for number, damaged in enumerate(["cut sho", "[1]", FOUND.replace("1.9", "null")], 5):
        for each in kept.iterdir():
            each.write_text(damaged)
        assert answer(python, kept) is True
        assert count() == number


def test_a_folder_that_cannot_be_written_costs_a_probe_and_no_worker(
    tools: Path, tmp_path: Path
) -> None:
    (tmp_path / "kept").write_text("a file")
    assert answer(program(tools / "python", f"echo '{FOUND}'"), tmp_path / "kept") is True


RIGHT = "torch.nn.functional.scaled_dot_product_attention(q, k, v)"
ATTENTIONS = {
    "right and quicker": (
        f"key = q.data_ptr(), q.dtype; known[key] = known[key] if key in known else {RIGHT}; "
        "return known[key]",
        True,
    ),
    "right, and slower": (f"time.sleep(0.2); return {RIGHT}", False),
    "a little wrong": (f"return {RIGHT} * 1.1", False),
    "black": (f"return {RIGHT} * float('nan')", False),
    "for another card": ("raise RuntimeError('no kernel image is available')", False),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_sage_attention_is_taken_only_where_it_computes_rightly_and_quicker(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, expected = ATTENTIONS[name]
    code = f"import time, torch\nknown = {{}}\ndef sageattn(q, k, v):\n    {body}\n"
    (tmp_path / "sageattention.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    probe.cache_clear()
    monkeypatch.setattr(probes, "CALL_SECONDS", LAST_RESORT_SECONDS)
    found = probe("attention", sys.executable, "CPU", tmp_path / "kept", device="cpu", sizes=(512,))
    if name == "for another card":
        assert found is None
    else:
        assert found is not None and found.is_good is expected


def test_without_sage_attention_the_probe_says_so(tmp_path: Path) -> None:
    probe.cache_clear()
    found = probe("attention", sys.executable, "CPU", tmp_path, device="cpu", sizes=(512,))
    assert str(found) == "not there"


FP8_PRODUCTS = {
    "right and quicker": ("known[key] = known[key] if key in known else right(a, b)", True),
    "right, and slower": ("time.sleep(0.5); known[key] = right(a, b)", False),
    "with a scale left out": ("known[key] = a.to(d) @ b.to(d)", False),
}


@pytest.mark.parametrize("name", FP8_PRODUCTS)
def test_fp8_arithmetic_is_taken_only_where_it_computes_rightly_and_quicker(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, expected = FP8_PRODUCTS[name]
    code = f"""
import time, torch
known = {{}}
def product(a, b, out_dtype, scale_a, scale_b):
    d, key = torch.float32, (b.data_ptr(), out_dtype)
    right = lambda a, b: ((a.to(d) @ b.to(d)) * scale_b).to(out_dtype)
    {body}
    return known[key].to(out_dtype)
torch._scaled_mm = product
"""
    (tmp_path / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    probe.cache_clear()
    monkeypatch.setattr(probes, "CALL_SECONDS", LAST_RESORT_SECONDS)
    found = probe(
        "fp8", sys.executable, "CPU", tmp_path / "kept", device="cpu", sizes=(64, 128, 256)
    )
    assert found is not None and found.is_good is expected


def test_a_server_that_does_not_answer_counts_as_no_gpu() -> None:
    assert read_host(Settings(comfyui_url="http://127.0.0.1:9")).gpu is None


@pytest.mark.parametrize(
    ("url", "expected"), [("http://127.0.0.1:8188", 2), ("http://gpu.lan:8188", 1024)]
)
def test_a_server_beside_us_has_no_more_memory_than_our_container(
    url: str, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats = {"system": {"ram_total": 1024 * GIB}, "devices": []}
    monkeypatch.setattr(ComfyClient, "system_stats", lambda client: stats)
    monkeypatch.setattr("talkinghead.models.gpu.ram_gib", lambda: 2.0)
    assert read_host(Settings(comfyui_url=url)).ram_gib == expected
