"""What a deployer may switch on: where it goes, and that no pair reaches nodes which refuse it."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as rules
from hypothesis import strategies as st
from pydantic import ValidationError

from talkinghead.comfy.server import ComfyServer
from talkinghead.comfy.studio import Studio
from talkinghead.errors import RenderDefective, SettingsExcluded, UnsupportedCombination
from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.models.exclusions import LEFT_OUT, REFUSED
from talkinghead.models.gpu import Gpu, Host, choose, tuning_for
from talkinghead.models.manifest import ModelProfile, load_manifest
from talkinghead.plan.plan import Plan, make_plan
from talkinghead.plan.request import parse_request
from talkinghead.plan.windows import window
from talkinghead.render.job import Job
from talkinghead.render.remedies import Remedies
from talkinghead.settings import OTHER_ATTENTION, PROJECT_DIR, Settings, wrong_settings
from talkinghead.workflow import template
from talkinghead.workflow.check import check
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.lint import traps
from talkinghead.workflow.schemas import load_schemas
from talkinghead.workflow.slots import Inputs, WindowInputs
from tests.timing import wait_until

SCHEMAS, MANIFEST = load_schemas(), load_manifest()
ADA = Host(Gpu("card", 24, 8.9), 64, sage=True, has_sage=True, fp8=True)
ASKED = {"image_url": "http://x/i.png", "wav_url": "http://x/a.wav", "seed": 7}


def profile_of(host: Host = ADA, **settings: Any) -> ModelProfile:
    tuning = tuning_for(Settings(**settings), MANIFEST, host)
    return tuning.apply(MANIFEST.profile(tuning.profile))


def planned(**fields: Any) -> Plan:
    return make_plan(parse_request(ASKED | fields), [Sound(9.0, 16_000, 1, False)], Picture(64, 64))


def graph_of(plan: Plan, profile: ModelProfile) -> Graph:
    if plan.chained:
        files = WindowInputs("j/p", "j/r", ("j/s",), None, None, "j/v")
        gui = template.fill_window(plan, window(plan, 0), files, profile, SCHEMAS)
    else:
        inputs = Inputs("j/p", ("j/s",), "j/m", None, "j/v")
        gui = template.fill_template(plan, inputs, profile, SCHEMAS)
    return to_api(gui, SCHEMAS)


def inputs_of(graph: Graph, title: str) -> dict[str, Any] | None:
    found = [each["inputs"] for each in graph.values() if each["_meta"]["title"] == title]
    return found[0] if found else None


def has(graph: Graph, title: str) -> bool:
    return inputs_of(graph, title) is not None


# ---- Where each goes


def test_a_worker_whose_settings_say_nothing_renders_as_before() -> None:
    profile = profile_of()
    assert profile.optional == {} and "quantization" not in (profile.slots["Wan model"] or {})


@pytest.mark.parametrize("value", OTHER_ATTENTION)
def test_an_attention_that_the_loader_lists_and_the_worker_refuses_is_told_with_the_reason(
    value: str,
) -> None:
    listed = SCHEMAS["WanVideoModelLoader"]["input"]["optional"]["attention_mode"][0]
    assert value in listed
    with pytest.raises(ValidationError) as error:
        Settings(attention=value)
    assert wrong_settings(error.value) == f"ATTENTION: {value} {OTHER_ATTENTION[value]}"


def test_every_attention_of_the_pinned_loader_is_taken_or_refused_with_a_reason() -> None:
    listed = SCHEMAS["WanVideoModelLoader"]["input"]["optional"]["attention_mode"][0]
    taken = {"sdpa", "sageattn", "sageattn_compiled"}
    assert set(listed) == taken | OTHER_ATTENTION.keys()


@pytest.mark.parametrize(
    ("name", "value"),
    [("step_cache", "teacup"), ("base_precision", "fp4"), ("torch_compile", "perhaps")],
)
def test_an_unknown_value_is_one_line_that_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(ValidationError) as error:
        Settings.model_validate({name: value})
    assert re.fullmatch(rf"{name.upper()}: Input should be .+", wrong_settings(error.value))


def test_the_distilled_profile_has_no_lora_and_fp8_arithmetic() -> None:
    graph = graph_of(planned(), profile_of(model_profile="fp8-distill"))
    model = inputs_of(graph, "Wan model")
    assert model is not None
    assert "lightx2v_4step" in model["model"]
    assert model["quantization"] == "fp8_e4m3fn_scaled_fast"
    assert not has(graph, "Speed LoRA") and not has(graph, "Apply LoRA")
    assert inputs_of(graph, "Sampler")["steps"] == 4  # type: ignore[index]


def test_the_distilled_profile_takes_the_plain_base_without_the_speed_lora() -> None:
    plan = planned(use_speed_lora=False)
    model = inputs_of(graph_of(plan, profile_of(model_profile="fp8-distill")), "Wan model")
    assert model is not None
    assert model["model"] == "Wan2_1-I2V-14B-480p_fp8_e4m3fn_scaled_KJ.safetensors"
    assert model["quantization"] == "fp8_e4m3fn_scaled_fast"
    assert plan.sampling.steps == 30


def test_both_bases_of_the_distilled_profile_are_files_of_it() -> None:
    names = MANIFEST.profile("fp8-distill").file_names
    assert sum("I2V-14B" in name or "i2v_480p" in name for name in names) == 2
    assert not any("lora" in name.lower() or "rank64" in name for name in names)


@pytest.mark.parametrize(
    ("fp8", "expected"), [(True, "fp8_e4m3fn_scaled_fast"), (False, "disabled")]
)
def test_fp8_arithmetic_is_that_of_the_probe(fp8: bool, expected: str) -> None:
    profile = profile_of(dataclasses.replace(ADA, fp8=fp8), model_profile="fp8-distill")
    assert (profile.slots["Wan model"] or {})["quantization"] == expected


def test_auto_never_takes_a_profile_that_is_only_taken_by_name() -> None:
    for vram in range(8, 200, 4):
        assert choose(Host(Gpu("card", vram, 9.0), 500), MANIFEST).profile != "fp8-distill"


def test_a_light_vae_is_a_file_only_of_a_worker_that_is_to_decode_with_it() -> None:
    assert "lighttaew2_1.safetensors" not in profile_of().file_names
    assert "lighttaew2_1.safetensors" in profile_of(light_vae=True).file_names


def test_a_chain_has_the_light_vae_beside_the_full_one() -> None:
    graph = graph_of(planned(long=True), profile_of(light_vae=True))
    frames = inputs_of(graph, "Frames")
    assert frames is not None
    assert graph[frames["light_vae"][0]]["class_type"] == "WanVideoTinyVAELoader"
    assert graph[frames["vae"][0]]["class_type"] == "WanVideoVAELoader"


def test_an_old_server_without_the_input_is_told_so() -> None:
    old: Any = copy.deepcopy(dict(SCHEMAS))
    del old["TalkingHeadDecodeWindow"]["input"]["optional"]
    plan, files = planned(long=True), WindowInputs("j/p", "j/r", ("j/s",), None, None, "j/v")
    with pytest.raises(Exception, match="this ComfyUI's class has no input 'light_vae'"):
        template.fill_window(plan, window(plan, 0), files, profile_of(light_vae=True), old)


@pytest.mark.parametrize(
    ("is_warm", "long", "expected"),
    [(False, False, False), (True, False, True), (False, True, True)],
)
def test_a_chain_is_compiled_and_one_prompt_only_on_a_worker_that_has_rendered(
    is_warm: bool, long: bool, expected: bool, tmp_path: Path
) -> None:
    studio = Studio(Settings(torch_compile=True, comfyui_url="http://127.0.0.1:9"))
    studio.is_warm = is_warm
    plan = planned(long=long)
    assert has(graph_of(plan, studio.profile_for(plan)), "Compile") is expected


def environment_of_a_comfyui(folder: Path, models: Path) -> dict[str, str]:
    """What the worker's door starts: before anybody has read what a bench found best."""
    said, python = folder / "said", folder / "python"
    (folder / "main.py").touch()
    python.write_text(f"#!/bin/sh\nenv > {said}.part; mv {said}.part {said}; exec sleep 60\n")
    python.chmod(0o755)
    settings = Settings(
        comfyui_dir=folder,
        comfyui_python=python,
        comfyui_cpu=True,
        models_dir=models,
        work_dir=folder / "work",
    )
    server = ComfyServer.from_settings(settings)
    server.start()
    wait_until(said.exists, "the environment of a ComfyUI")
    server.stop()
    return dict(line.split("=", 1) for line in said.read_text().splitlines() if "=" in line)


def test_what_a_saved_choice_compiles_lies_beside_the_models_for_the_workers_to_come(
    tmp_path: Path,
) -> None:
    said = environment_of_a_comfyui(tmp_path, tmp_path / "models")
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        assert said[name].startswith(f"{tmp_path}/models/.talkinghead/")


def test_beside_models_that_are_read_only_nothing_is_kept_of_what_is_compiled(
    tmp_path: Path,
) -> None:
    said = environment_of_a_comfyui(tmp_path, Path("/proc/models"))
    assert not {"TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"} & said.keys()


@pytest.mark.parametrize(
    ("settings", "slot"),
    [
        ({"model_profile": "fp8-distill"}, {"quantization": "disabled"}),
        ({"base_precision": "fp16_fast"}, {"base_precision": "fp16"}),
        ({"base_precision": "bf16"}, {"base_precision": "bf16"}),
        ({"attention": "sageattn_compiled"}, {"attention_mode": "sdpa"}),
    ],
)
def test_a_black_picture_is_rendered_again_without_what_may_have_made_it_black(
    settings: dict[str, Any], slot: dict[str, str]
) -> None:
    studio = Studio(Settings(comfyui_url="http://127.0.0.1:9", **settings))
    studio.profile = profile_of(**settings)
    remedies = Remedies(Job("black", {}), planned(), studio)
    with contextlib.suppress(RenderDefective):
        while True:
            remedies.try_next(RenderDefective("black"), 0.0)
    model = remedies.profile.slots["Wan model"] or {}
    assert slot.items() <= model.items()


# ---- What excludes what


@pytest.mark.parametrize(
    ("settings", "host", "expected"),
    [
        ({"fp8_matmul": True}, ADA, "a profile with a speed LoRA"),
        ({"fp8_matmul": True, "model_profile": "gguf-q4"}, ADA, "a GGUF base model"),
        ({"fp8_matmul": True, "model_profile": "fp16"}, ADA, "is not scaled fp8"),
        (
            {"fp8_matmul": True, "model_profile": "fp8-distill"},
            Host(Gpu("card", 24, 8.6), 64),
            "a GPU before Ada",
        ),
        ({"torch_compile": True}, Host(Gpu("card", 24, 8.6), 64), "fp8 weights on a GPU"),
        ({"attention": "sageattn"}, Host(Gpu("card", 24, 8.9), 64, has_sage=False), "SageAtt"),
        ({"attention": "sageattn_compiled"}, Host(None, 64, has_sage=False), "SageAttention"),
    ],
)
def test_a_deployer_of_an_excluded_pair_gets_one_line_at_the_start(
    settings: dict[str, Any], host: Host, expected: str
) -> None:
    with pytest.raises(SettingsExcluded, match=expected) as error:
        profile_of(host, **settings)
    (name,) = (each for each in settings if each != "model_profile")
    assert str(error.value).startswith(name.upper()) and "\n" not in str(error.value)


def test_compiling_goes_with_other_weights_on_old_cards() -> None:
    host = Host(Gpu("card", 24, 8.6), 64)
    for name in ("gguf-q4", "fp16"):
        assert profile_of(host, torch_compile=True, model_profile=name).optional


THIRTY = {"use_speed_lora": False, "long": True}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (THIRTY, True),
        (THIRTY | {"steps": 10}, True),
        (THIRTY | {"steps": 9}, False),
        ({"long": True}, False),
        (THIRTY | {"long": False}, False),
        (THIRTY | {"cfg_scale": 1}, True),
        (THIRTY | {"cfg_scale": 1, "audio_cfg_scale": 2}, False),
    ],
)
@pytest.mark.parametrize("cache", ["teacache", "magcache", "easycache"])
def test_a_cache_of_steps_is_in_long_renders_of_many_steps(
    fields: dict[str, Any], expected: bool, cache: str
) -> None:
    graph = graph_of(planned(**fields), profile_of(step_cache=cache))
    assert has(graph, {"t": "TeaCache", "m": "MagCache", "e": "EasyCache"}[cache[0]]) is expected
    assert ("cache_args" in (inputs_of(graph, "Sampler") or {})) is expected


def test_the_table_in_the_docs_is_that_of_the_code() -> None:
    page = PROJECT_DIR / "docs" / "tuning.md"
    shown = runpy.run_path(str(PROJECT_DIR / "scripts" / "write-docs"))["pages"]()[page]
    assert shown == page.read_text("utf-8"), "run scripts/write-docs"
    assert all(each.why in shown for each in (*REFUSED, *LEFT_OUT))


# What the pinned nodes refuse, or compute wrongly, as their code has it: written here once more.


def refused_by_the_nodes(graph: Graph, host: Host) -> Iterator[str]:
    model, sampler = inputs_of(graph, "Wan model"), inputs_of(graph, "Sampler")
    assert model is not None and sampler is not None
    base, quantization = model["model"], model["quantization"]
    lora = inputs_of(graph, "Speed LoRA") or {"strength": 0}
    capability = host.gpu.capability if host.gpu else None
    is_old = capability is not None and capability < 8.9
    if base.endswith(".gguf") and quantization != "disabled":
        yield "nodes_model_loading: Quantization should be disabled when loading GGUF models"
    if "scaled" in quantization and "scaled" not in base:
        yield "nodes_model_loading: The model is not a scaled fp8 model"
    if "fast" in quantization and lora["strength"] != 0:
        yield "nodes_sampler: FP8 matmul with unmerged LoRAs is not supported"
    if "fast" in quantization and is_old:
        yield "torch: _scaled_mm needs 8.9"
    if "compile_args" in model and "fp8" in base and is_old:
        yield "triton: no e4m3"
    if "sage" in model["attention_mode"] and host.has_sage is False:
        yield "nodes_model_loading: Can't import SageAttention"
    if "cache_args" in sampler:
        audio_cfg = (inputs_of(graph, "Audio embeds") or {})["audio_cfg_scale"]
        if sampler["steps"] < 10:
            yield "too few steps"
        if sampler["cfg"] == 1 and audio_cfg != 1:
            yield "nodes_sampler: one cache for both passes"
        if not has(graph, "Continue"):
            yield "multitalk_loop: its states are never cleared"
    frames = inputs_of(graph, "Frames") or {}
    if "light_vae" in frames and frames["match_colours"]:
        yield "TalkingHeadDecodeWindow: match_colours"


SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "model_profile": st.sampled_from(["auto", *MANIFEST.profiles]),
        "attention": st.sampled_from(["auto", "sdpa", "sageattn", "sageattn_compiled"]),
        "base_precision": st.sampled_from(["auto", "fp16", "fp16_fast", "bf16", "fp32"]),
        "fp8_matmul": st.sampled_from([None, True, False]),
        "torch_compile": st.booleans(),
        "step_cache": st.sampled_from(["off", "teacache", "magcache", "easycache"]),
        "light_vae": st.booleans(),
    },
)


def is_possible(host: Host) -> bool:
    """Whether probes can have found that: what is not there does not run, nor fp8 before Ada."""
    capability = host.gpu.capability if host.gpu else None
    can_fp8 = host.gpu is not None and (capability is None or capability >= 8.9)
    return (host.has_sage is not False or not host.sage) and (can_fp8 or not host.fp8)


HOSTS = st.builds(
    Host,
    gpu=st.none()
    | st.builds(
        Gpu,
        name=st.just("card"),
        vram_gib=st.sampled_from([12.0, 24.0, 48.0, 80.0]),
        capability=st.sampled_from([None, 7.5, 8.0, 8.6, 8.9, 9.0, 12.0]),
    ),
    ram_gib=st.sampled_from([16.0, 64.0, 256.0]),
    sage=st.booleans(),
    has_sage=st.sampled_from([None, True, False]),
    fp8=st.booleans(),
).filter(is_possible)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "use_speed_lora": st.booleans(),
        "speed_lora_strength": st.sampled_from([0, 0.5, 1]),
        "steps": st.sampled_from([1, 4, 9, 10, 30]),
        "cfg_scale": st.sampled_from([1, 5]),
        "audio_cfg_scale": st.sampled_from([1, 2]),
        "scheduler": st.sampled_from(["unipc", "euler"]),
        "long": st.booleans(),
        "color_match": st.booleans(),
        "mode": st.sampled_from(["infinitetalk", "multitalk"]),
    },
)


@rules(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)
@given(SETTINGS, HOSTS, REQUESTS)
def test_no_setting_and_no_request_reaches_a_pair_that_the_nodes_refuse(
    settings: dict[str, Any], host: Host, fields: dict[str, Any]
) -> None:
    try:
        profile = profile_of(host, **settings)
        plan = planned(**fields)
    except SettingsExcluded as error:
        assert re.match(r"[A-Z0-9_]+=\w+ and .+ exclude each other", str(error))
        return
    except UnsupportedCombination:
        return
    graph = graph_of(plan, profile)
    assert check(graph, SCHEMAS) == []
    assert list(refused_by_the_nodes(graph, host)) == []
    assert traps(graph, SCHEMAS) == []
