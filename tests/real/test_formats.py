"""Every format of weights that the profiles ship, on the real loaders, with tiny twins.

A twin has the same weights as the fp32 file, in the format of the real one: so the frames show
whether it is read rightly. Each profile is run as it ships, but for the files' names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from comfy_client import ExecutionFailed
from talkinghead.comfy.studio import Studio
from talkinghead.media.picture import Picture
from talkinghead.media.sound import probe_sound
from talkinghead.models.gpu import Tuning
from talkinghead.models.manifest import ModelProfile, load_manifest
from talkinghead.models.speedups import NO_SPEEDUPS, Speedups
from talkinghead.plan.plan import Plan, make_plan
from talkinghead.plan.request import parse_request
from talkinghead.plan.windows import window
from talkinghead.settings import StepCache
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.schemas import Schemas
from talkinghead.workflow.slots import Inputs, WindowInputs
from talkinghead.workflow.template import fill_template, fill_window
from tests.conftest import write_tone
from tests.real.test_chain import Files, images_of, turned, upload
from tests.real.test_real_nodes import HEIGHT, SETTINGS, WIDTH, missing, tiny_studio

FRAMES = 13  # 4n+1, and more than the motion frames
TINY = SETTINGS.comfyui_dir / "models" / "diffusion_models"
if not missing and not (TINY / "tiny-wan2.1-i2v-480p-Q4_K_M.gguf").exists():
    missing = ["the twins of scripts/make-tiny-models"]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not there: {', '.join(missing)}")

MANIFEST = load_manifest()
BASE, TALK = "tiny-wan2.1-i2v-480p", "tiny-InfiniteTalk"
TALK_FP8 = f"{TALK}-fp8_e4m3fn_scaled.safetensors"
TWINS = {
    "wan2.1-i2v-14b-480p-Q4_K_M.gguf": f"{BASE}-Q4_K_M.gguf",
    "Wan2_1-I2V-14B-480p_fp8_e4m3fn_scaled_KJ.safetensors": f"{BASE}-fp8_e4m3fn_scaled.safetensors",
    "wan2.1_i2v_480p_scaled_fp8_e4m3_lightx2v_4step_comfyui.safetensors": (
        f"{BASE}-fp8_e4m3fn_scaled.safetensors"
    ),
    "wan2.1_i2v_480p_14B_fp16.safetensors": f"{BASE}-fp16.safetensors",
    "Wan2_1-InfiniteTalk_Single_Q8.gguf": f"{TALK}-Q8_0.gguf",
    "Wan2_1-InfiniteTalk_Multi_Q8.gguf": f"{TALK}-Q8_0.gguf",
    "Wan2_1-InfiniteTalk-Single_fp8_e4m3fn_scaled_KJ.safetensors": TALK_FP8,
    "Wan2_1-InfiniteTalk-Multi_fp8_e4m3fn_scaled_KJ.safetensors": TALK_FP8,
    "Wan2_1-InfiniTetalk-Single_fp16.safetensors": f"{TALK}-fp16.safetensors",
    "Wan2_1-InfiniteTalk-Multi_fp16.safetensors": f"{TALK}-fp16.safetensors",
    "WanVideo_2_1_Multitalk_14B_fp8_e4m3fn.safetensors": "tiny-Multitalk-fp8_e4m3fn.safetensors",
    "lightx2v_I2V_14B_480p_cfg_step_distill_rank64_bf16.safetensors": (
        "tiny-lightx2v-bf16.safetensors"
    ),
    "wan_2.1_vae.safetensors": "tiny-wan-vae-bf16.safetensors",
    "lighttaew2_1.safetensors": "tiny-lighttaew2_1.safetensors",
    "umt5_xxl_fp8_e4m3fn_scaled.safetensors": "tiny-t5-base-fp8_e4m3fn.safetensors",
    "wav2vec2-chinese-base_fp16.safetensors": "tiny-wav2vec2.safetensors",
}
SHIPPED = ("gguf-q4", "fp8", "fp8-distill", "fp16")
# Of no twin: the loader takes it at its 632 million weights alone, and the nodes do without.
CLIP_VISION = {"CLIP vision model": None, "CLIP vision": None}

Frames = npt.NDArray[np.float64]  # [frames, height, width, 3]
Render = Callable[..., Frames]


def with_twins(name: str) -> ModelProfile:
    """A profile as it ships, with tiny files of the same formats."""
    profile = MANIFEST.profile(name)

    def twins(slots: dict[str, Any]) -> dict[str, Any]:
        return {
            title: widgets and {each: TWINS.get(str(v), v) for each, v in widgets.items()}
            for title, widgets in slots.items()
        }

    return profile.model_copy(
        update={
            "slots": twins(profile.slots) | CLIP_VISION,
            "talk_models": {talk: TWINS[file] for talk, file in profile.talk_models.items()},
            "without_speed_lora": twins(profile.without_speed_lora),
            "light_vae": twins({"": profile.light_vae})[""],
            "check_picture": "off",
        }
    )


def plain(*, lora: bool = True) -> ModelProfile:
    """All files in fp32."""
    profile = MANIFEST.profile("tiny")
    without = {} if lora else {"Speed LoRA": None, "Apply LoRA": None}
    return profile.model_copy(update={"slots": profile.slots | without})


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    kept = tmp_path_factory.mktemp("kept")
    with tiny_studio(tmp_path_factory.mktemp("formats"), torch_compile=True, models_dir=kept) as it:
        yield it


@pytest.fixture(scope="module")
def rendered(studio: Studio, portrait: Path, tmp_path_factory: pytest.TempPathFactory) -> Render:
    """Frames of a window with a profile and some speedups; each is made once."""
    folder = tmp_path_factory.mktemp("media")
    voice = write_tone(folder / "voice.wav", seconds=2)
    made: dict[str, Frames] = {}

    def frames(
        profile: ModelProfile,
        speedups: Speedups = NO_SPEEDUPS,
        changes: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
        **fields: Any,
    ) -> Frames:
        tuned = Tuning("", "sdpa", 0, True, speedups=speedups).apply(profile)
        key = f"{tuned.slots}{tuned.optional}{changes}{fields}"
        if key not in made:
            plan = planned(voice, fields)
            with studio.comfy("formats", lambda: None) as turn:
                files = upload(
                    plan, [voice], turned(plan, portrait, folder, 1), folder, turn.client
                )
                graph = graph_of(plan, files, tuned, turn.schemas())
                for entry in graph.values():
                    entry["inputs"].update(changes.get(entry["_meta"]["title"], {}))
                made[key] = images_of(graph, f"f{len(made)}", turn.client, folder) / 255.0
        return made[key]

    return frames


def planned(voice: Path, fields: dict[str, Any]) -> Plan:
    """A window of a few frames: every format computes each alike."""
    asked = {"image_url": "http://x/p", "wav_url": "http://x/v", "seed": 7, "max_frame": FRAMES}
    request = parse_request(asked | fields)
    small = {"width": WIDTH, "height": HEIGHT, "size_is_named": True}
    sound = probe_sound("v", voice, max_seconds=60)
    plan = make_plan(request.model_copy(update=small), [sound], Picture(120, 90))
    return dataclasses.replace(plan, window_frames=FRAMES)


def graph_of(plan: Plan, files: Files, profile: ModelProfile, schemas: Schemas) -> Graph:
    (picture,), speech = files.references, files.speech
    if plan.chained:
        window_files = WindowInputs(picture, picture, speech, None, None, "w/w")
        gui = fill_window(plan, window(plan, 0), window_files, profile, schemas)
    else:
        inputs = Inputs(picture, speech, speech[0], None, "p/p")
        gui = fill_template(plan, inputs, profile, schemas)
    return to_api(gui, schemas)


def alike(one: Frames, other: Frames) -> float:
    """How the frames correlate."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_every_file_of_a_shipped_profile_has_a_twin() -> None:
    shipped = [MANIFEST.profile(name) for name in SHIPPED]
    files = set().union(*(each.all_file_names for each in shipped)) - {"clip_vision_h.safetensors"}
    assert files == TWINS.keys()


@pytest.mark.parametrize("mode", ["infinitetalk", "multitalk"])
@pytest.mark.parametrize("name", SHIPPED)
def test_a_profile_reads_its_formats_rightly(name: str, mode: str, rendered: Render) -> None:
    reference = rendered(plain(lora=name != "fp8-distill"), mode=mode)
    assert alike(reference, rendered(with_twins(name), mode=mode)) > 0.98


# What a CPU can run of what a deployer may switch on.
SPEEDUPS = {
    "fp16": Speedups(base_precision="fp16"),
    "fp16_fast": Speedups(base_precision="fp16_fast"),
    "bf16": Speedups(base_precision="bf16"),
    "compiled": Speedups(torch_compile=True),
}


@pytest.mark.parametrize("name", SPEEDUPS)
def test_a_setting_that_only_computes_otherwise_gives_the_same_picture(
    name: str, rendered: Render
) -> None:
    assert alike(rendered(plain()), rendered(plain(), SPEEDUPS[name])) > 0.999


@pytest.mark.parametrize("matmul", [True, False])
def test_the_distilled_profile_multiplies_in_fp8_and_without(
    matmul: bool, rendered: Render
) -> None:
    profile = with_twins("fp8-distill")
    for fields in ({}, {"use_speed_lora": False, "steps": 4, "cfg_scale": 1.0}):
        found = alike(
            rendered(plain(lora=False), **fields),
            rendered(profile, Speedups(fp8_matmul=matmul), **fields),
        )
        assert found > 0.98


# EasyCache begins with the tenth step.
QUALITY = {"long": True, "use_speed_lora": False, "steps": 12, "cfg_scale": 2.0}


@pytest.mark.parametrize("cache", ["teacache", "magcache", "easycache"])
def test_a_cache_of_steps_runs_in_a_chain(cache: StepCache, rendered: Render) -> None:
    found = alike(
        rendered(plain(), **QUALITY), rendered(plain(), Speedups(step_cache=cache), **QUALITY)
    )
    assert found > 0.5


def test_a_light_vae_decodes_every_frame_of_a_window(rendered: Render) -> None:
    frames = rendered(plain(), Speedups(light_vae=True), long=True)
    assert frames.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert alike(frames, rendered(plain(), long=True)) < 0.9  # it is another VAE's picture


# What the table of exclusions says that the nodes refuse, on the nodes.

FAST = {"quantization": "fp8_e4m3fn_scaled_fast"}
REFUSALS: dict[str, tuple[str, dict[str, Any], str]] = {
    "GGUF in fp8": ("gguf-q4", {"Wan model": FAST}, "Quantization should be disabled"),
    "fp16 as scaled fp8": ("fp16", {"Wan model": FAST}, "is not a scaled fp8 model"),
    "fp8 arithmetic with a LoRA": ("fp8", {"Wan model": FAST}, "FP8 matmul with unmerged LoRAs"),
    "an attention that is not installed": (
        "fp8",
        {"Wan model": {"attention_mode": "sageattn"}},
        "Can't import SageAttention",
    ),
    "ComfyUI's attention with a talk model": (
        "fp8",
        {"Wan model": {"attention_mode": "comfy"}},
        "is invalid for input of size",
    ),
    "a light VAE and matched colours": (
        "fp8",
        {"Frames": {"match_colours": True}},
        "match_colours needs the pictures of the VAE",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_the_nodes_refuse_what_the_table_says(name: str, rendered: Render) -> None:
    profile, changes, message = REFUSALS[name]
    light = Speedups(light_vae="Frames" in changes)
    with pytest.raises(ExecutionFailed, match=message):
        rendered(with_twins(profile), light, changes, long=True)
