from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from talkinghead.cli.app import app
from talkinghead.settings import PROJECT_DIR
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.gui_file import Workflow, set_widget
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.lint import lint_workflow, traps
from talkinghead.workflow.schemas import Schemas, load_schemas
from talkinghead.workflow.template import load_template
from tests.conftest import FileServer

TEMPLATES = sorted((PROJECT_DIR / "workflows").glob("*.json"))
Changes = dict[str, dict[str, Any]]  # title -> input -> value

GGUF = "wan2.1-i2v-14b-480p-Q4_K_M.gguf"
SCALED = "Wan2_1-I2V-14B-480p_fp8_e4m3fn_scaled_KJ.safetensors"
FP8 = "Wan2_1-I2V-14B-480P_fp8_e4m3fn.safetensors"
FP16 = "wan2.1_i2v_480p_14B_fp16.safetensors"
TALK_GGUF = "Wan2_1-InfiniteTalk_Single_Q8.gguf"
TALK_SCALED = "Wan2_1-InfiniteTalk-Single_fp8_e4m3fn_scaled_KJ.safetensors"
TALK_FP8 = "InfiniteTalk_Single_fp8_e4m3fn.safetensors"
TALK_FP16 = "InfiniteTalk_Single_fp16.safetensors"


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return load_schemas()


@pytest.fixture
def gui() -> Workflow:
    return load_template("infinitetalk_i2v")


@pytest.fixture
def graph(gui: Workflow, schemas: Schemas) -> Graph:
    return to_api(gui, schemas)


@pytest.fixture
def found(graph: Graph, schemas: Schemas) -> Callable[[Changes], list[str]]:
    """What is found in the graph of a picture and one voice after these changes."""

    def find(changes: Changes) -> list[str]:
        change(graph, changes)
        return [str(finding) for finding in lint_workflow(graph, schemas)]

    return find


def key_of(graph: Graph, title: str) -> str:
    (key,) = (key for key, entry in graph.items() if entry["_meta"]["title"] == title)
    return key


def change(graph: Graph, changes: Changes) -> None:
    for title, values in changes.items():
        inputs = graph[key_of(graph, title)]["inputs"]
        for name, value in values.items():
            inputs[name] = value
            if value is None:
                del inputs[name]


def add(graph: Graph, key: str, class_type: str, **inputs: Any) -> list[Any]:
    """A node whose title is its class; returns a link to its first output."""
    title = {"title": class_type}
    graph[key] = {"class_type": class_type, "inputs": inputs, "_meta": title}
    return [key, 0]


def link_to(graph: Graph, title: str) -> list[Any]:
    return [key_of(graph, title), 0]


def give_voices(graph: Graph, count: int) -> None:
    voice = link_to(graph, "Speaker 1 audio")
    change(graph, {"Audio embeds": {f"audio_{n}": voice for n in range(2, count + 1)}})
    change(graph, {"Talk model": {"model": "Wan2_1-InfiniteTalk_Multi_Q8.gguf"}})


def load_video(graph: Graph, **options: Any) -> list[Any]:
    usual = {
        "video": "clip.mp4",
        "force_rate": 25,
        "custom_width": 480,
        "custom_height": 864,
        "frame_load_cap": 0,
        "skip_first_frames": 0,
        "select_every_nth": 1,
        "format": "AnimateDiff",
    }
    return add(graph, "80", "VHS_LoadVideoPath", **(usual | options))


def denoise_video(graph: Graph, **options: Any) -> None:
    """Make the graph one of a video that is encoded and denoised from step 2 of 4 on."""
    tiles = {"tile_x": 272, "tile_y": 272, "tile_stride_x": 160, "tile_stride_y": 128}
    samples = add(
        graph,
        "81",
        "WanVideoEncode",
        vae=link_to(graph, "VAE"),
        image=load_video(graph, **options),
        enable_vae_tiling=False,
        **tiles,
    )
    sampling = {"steps": 4, "start_step": 2, "add_noise_to_samples": True}
    change(graph, {"Sampler": {"samples": samples, "scheduler": "dpm++_sde", **sampling}})


def use_keyframes(graph: Graph, **options: Any) -> None:
    """Make the graph one in which each window begins with a frame of a video."""
    frames = load_video(graph, **({"select_every_nth": 72} | options))
    change(graph, {"Talking image": {"start_image": frames}})


@pytest.fixture
def window(schemas: Schemas) -> Graph:
    """The first window of a chain, as it lies."""
    return to_api(load_template("infinitetalk_window"), schemas)


def continue_window(graph: Graph) -> None:
    """Make the graph that of the second window."""
    change(graph, {"Continue": {"motion": add(graph, "36", "LoadLatent", latent="motion.latent")}})
    change(graph, {"New frames": {"split_index": 9}, "Cut to length": {"split_index": 72}})
    change(graph, {"Window audio": {"start": 72}})


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_the_templates_are_clean(path: Path, schemas: Schemas) -> None:
    gui = json.loads(path.read_text(encoding="utf-8"))
    assert lint_workflow(gui, schemas) == []
    assert lint_workflow(to_api(gui, schemas), schemas) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"Wan model": {"quantization": "fp8_e4m3fn"}},
         "error: Wan model (WanVideoModelLoader, node 13), input quantization: is fp8_e4m3fn, "
         "which fails with a GGUF"),
        ({"Speed LoRA": {"merge_loras": True}}, "error: Speed LoRA * fails with WanVideoSetLoRAs"),
        ({"Speed LoRA": {"merge_loras": None}}, "error: Speed LoRA * fails with WanVideoSetLoRAs"),
        ({"Wan model": {"rms_norm_function": "pytorch"}}, "warning: * not known to work with a GG"),
        ({"Talk model": {"model": TALK_SCALED}}, "error: Talk model * is scaled fp8 by its name"),
        ({"Sound and length": {"fps": 30}}, "error: Sound and length * is 30, and Audio embeds"),
        ({key: {"fps": 30} for key in ("Audio embeds", "Sound and length")}
         | {"Video": {"frame_rate": 30}},
         "warning: Audio embeds * is 30, and the model was trained at 25"),
        ({"Video": {"frame_rate": 30}}, "error: Video * is 30, and Audio embeds * has 25: lips"),
        ({"Video": {"save_metadata": True}}, "warning: Video * puts prompt and file names"),
        ({"Video": {"save_output": False}}, "warning: Video * writes to the temp folder"),
        ({"Video": {"format": "video/webm", "crf": 20}}, "warning: Video * webm is no MP4"),
        ({"Video": {"filename_prefix": "../video"}}, "error: Video * '../video' may leave"),
        ({"Sampler": {"steps": 6}}, "error: Sampler * is 6, and flowmatch_distill fails"),
        ({"Sampler": {"scheduler": "multitalk"}}, "warning: Sampler * multitalk is for other mod"),
        ({"Sampler": {"start_step": 4}}, "error: Sampler * is 4 of 4 steps: nothing is left"),
        ({"Sampler": {"start_step": 2, "end_step": 2}}, "error: Sampler * not after start_step 2"),
        ({"Sampler": {"start_step": 2, "denoise_strength": 0.5}},
         "error: Sampler * is 0.5 beside start_step 2, which fails"),
        ({"Sampler": {"batched_cfg": True}}, "error: Sampler * batched_cfg: fails"),
        ({"Sampler": {"multitalk_embeds": None}}, "error: Sampler * link audio embeds"),
        ({"Sampler": {"text_embeds": None}}, "error: Sampler * leaves the audio out as well"),
        ({"Wan model": {"multitalk_model": None}}, "warning: Wan model * link a talk model"),
        ({"Wan model": {"attention_mode": "comfy"}}, "error: Wan model * fails with a talk model"),
        ({"Talking image": {"mode": "multitalk", "motion_frame": 25}},
         'warning: Talking image * mode: is "multitalk", and * is an infinitetalk model'),
        ({"Talking image": {"motion_frame": 25}}, "warning: * is 25; infinitetalk was made for 9"),
        ({"Talking image": {"mode": "auto", "motion_frame": 25}}, "warning: * was made for 9"),
        ({"Talking image": {"height": 856}}, "error: * is 856, and * multiple of 16, such as 864"),
        ({"Portrait": {"image": "../portrait.png"}}, "warning: Portrait * input image: is a URL"),
        ({"Speaker 1 audio": {"audio": "/srv/voice.wav"}}, "warning: Speaker 1 * or one with .."),
        ({"Speaker 1 audio": {"audio": "C:\\voice.wav"}}, "warning: Speaker 1 * or one with .."),
        ({"Sampler": {"seed": 2**53}}, "error: Sampler * seed: is 9007199254740992, which the GUI"),
        ({"Prompt": {"text": "see http://a.b/c"}}, "warning: Prompt * the GUI cuts a line at //"),
        ({"Prompt": {"text": "a {red|blue} hat"}}, "warning: Prompt * picks from {a|b}"),
        ({"Sampler": {"stepps": 4}}, "warning: * not an input of WanVideoSampler, and left out"),
        ({"Sampler": {"cfg": 31.0}}, "error: Sampler * cfg: is 31.0, allowed: 0.0 to 30.0"),
    ],
)  # fmt: skip
def test_one_change_is_one_finding(
    changes: Changes, expected: str, found: Callable[[Changes], list[str]]
) -> None:
    # Where a link is taken out, what it came from may lead nowhere.
    (rest,) = (each for each in found(changes) if "leads to no output" not in each)
    for part in expected.split(" * "):
        assert part.strip() in rest
        rest = rest.partition(part.strip())[2]


@pytest.mark.parametrize(
    ("title", "name", "value", "seen"),
    [
        ("Talking image", "width", 830, "832"),
        ("Talking image", "frame_window_size", 80, "81"),
        ("Sampler", "cfg", 1.2345, "1.23"),
        ("Video", "frame_rate", 29.97, "30"),
        ("Audio embeds", "audio_scale", 1.015, "1.01"),
        ("Speed LoRA", "strength", 0.123456, "0.1235"),
    ],
)
def test_numbers_that_the_gui_was_seen_to_round_are_named(
    title: str, name: str, value: float, seen: str, found: Callable[[Changes], list[str]]
) -> None:
    rounded = [each for each in found({title: {name: value}}) if "the GUI rounds to" in each]
    assert [f"rounds to {seen} " in each for each in rounded] == [True]


def test_what_a_link_feeds_is_left_alone(graph: Graph, schemas: Schemas) -> None:
    steps = add(graph, "90", "PrimitiveInt", value=6)
    change(graph, {"Sampler": {"steps": steps, "start_step": steps}})
    assert traps(graph, schemas) == []


def test_traps_do_without_schemas_and_with_inputs_missing(graph: Graph) -> None:
    for entry in graph.values():
        links = {name: v for name, v in entry["inputs"].items() if isinstance(v, list)}
        entry["inputs"] = links
    assert traps(graph) == []


# ---- Model files


@pytest.mark.parametrize(
    ("base", "talk", "legal"),
    [
        (GGUF, TALK_GGUF, True), (GGUF, TALK_FP8, True), (GGUF, TALK_FP16, True),
        (GGUF, TALK_SCALED, False),
        (SCALED, TALK_SCALED, True), (SCALED, TALK_FP8, True), (SCALED, TALK_FP16, True),
        (SCALED, TALK_GGUF, False),
        (FP8, TALK_FP8, True), (FP8, TALK_FP16, True), (FP8, TALK_SCALED, False),
        (FP8, TALK_GGUF, False),
        (FP16, TALK_FP8, True), (FP16, TALK_FP16, True), (FP16, TALK_SCALED, False),
        (FP16, TALK_GGUF, False),
    ],
)  # fmt: skip
def test_pairs_of_base_and_talk_model(base: str, talk: str, legal: bool, graph: Graph) -> None:
    change(graph, {"Wan model": {"model": base}, "Talk model": {"model": talk}})
    messages = [f"{each.node} {each.message}" for each in traps(graph)]
    assert (messages == []) is legal
    assert all(f"Talk model (MultiTalkModelLoader, node 10) {talk}" in m for m in messages)


@pytest.mark.parametrize("quantization", ["disabled", "fp8_e4m3fn"])
def test_a_lora_on_the_loader_lets_unscaled_fp8_carry_a_scaled_talk_model(
    quantization: str, graph: Graph
) -> None:
    lora = link_to(graph, "Speed LoRA")
    base = FP8 if quantization == "disabled" else FP16
    change(graph, {"Wan model": {"model": base, "quantization": quantization, "lora": lora}})
    change(graph, {"Talk model": {"model": TALK_SCALED}})
    assert traps(graph) == []


def test_a_lora_on_the_loader_does_not_help_fp16(graph: Graph) -> None:
    change(graph, {"Wan model": {"model": FP16, "lora": link_to(graph, "Speed LoRA")}})
    change(graph, {"Talk model": {"model": TALK_SCALED}})
    assert ["its scales would be left out" in each.message for each in traps(graph)] == [True]


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (GGUF, "error: fails with a GGUF base model"),
        (FP8, "warning: the sum would be rounded to fp8"),
        (SCALED, None),
        (FP16, None),
    ],
)
def test_merging_on_the_loader(base: str, expected: str | None, graph: Graph) -> None:
    change(graph, {"Wan model": {"model": base, "lora": link_to(graph, "Speed LoRA")}})
    change(graph, {"Apply LoRA": {"lora": None}, "Speed LoRA": {"merge_loras": True}})
    change(graph, {"Talk model": {"model": TALK_FP16}})
    found = [f"{each.severity}: {each.message}" for each in traps(graph)]
    assert [expected is not None and expected in each for each in found] == [True] * bool(expected)


def test_a_lora_of_strength_0_may_say_what_it_wants(graph: Graph) -> None:
    change(graph, {"Speed LoRA": {"merge_loras": True, "strength": 0}})
    assert traps(graph) == []


def test_the_merge_of_an_earlier_lora_in_the_chain_is_found(graph: Graph) -> None:
    earlier = add(graph, "90", "WanVideoLoraSelect", lora="x", strength=1.0, merge_loras=True)
    change(graph, {"Speed LoRA": {"prev_lora": earlier}})
    (finding,) = traps(graph)
    assert finding.node == "WanVideoLoraSelect (WanVideoLoraSelect, node 90)"


@pytest.mark.parametrize(
    ("base", "quantization", "expected"),
    [
        (FP8, "fp8_e4m3fn_scaled", f"{FP8} is not scaled fp8 by its name"),
        (FP16, "fp8_e5m2_scaled", f"{FP16} is not scaled fp8 by its name"),
        (SCALED, "fp8_e4m3fn_scaled", None),
        (SCALED, "fp8_e4m3fn", None),
        (FP8, "fp8_e4m3fn_fast", "the _fast ones fail with a LoRA that is not merged"),
    ],
)
def test_quantization(base: str, quantization: str, expected: str | None, graph: Graph) -> None:
    change(graph, {"Wan model": {"model": base, "quantization": quantization}})
    change(graph, {"Talk model": {"model": TALK_FP16}})
    messages = [each.message for each in traps(graph)]
    assert [expected is not None and expected in each for each in messages] == (
        [True] * bool(expected)
    )


def test_fast_quantization_goes_with_a_merged_lora(graph: Graph) -> None:
    lora = {"lora": link_to(graph, "Speed LoRA")}
    change(graph, {"Apply LoRA": {"lora": None}, "Speed LoRA": {"merge_loras": True}})
    change(graph, {"Wan model": {"model": FP16, "quantization": "fp8_e4m3fn_fast", **lora}})
    change(graph, {"Talk model": {"model": TALK_FP16}})
    assert [each.severity for each in traps(graph)] == ["warning"]


def test_a_gguf_takes_no_vram_management(graph: Graph) -> None:
    managed = add(graph, "90", "WanVideoVRAMManagement", offload_percent=1.0)
    change(graph, {"Wan model": {"vram_management_args": managed}})
    assert ["swap blocks instead" in each.message for each in traps(graph)] == [True]


# ---- Speakers


@pytest.mark.parametrize("voices", [2, 3, 4])
def test_two_or_more_voices_need_masks(voices: int, graph: Graph, schemas: Schemas) -> None:
    give_voices(graph, voices)
    (finding,) = traps(graph, schemas)
    assert finding.severity == "error"
    assert finding.input == "ref_target_masks"
    assert f"fails on {voices} voices without masks" in finding.message


def test_a_gap_between_voices_is_named(graph: Graph) -> None:
    give_voices(graph, 3)
    mask = add(graph, "90", "SolidMask", value=1.0, width=64, height=64)
    change(graph, {"Audio embeds": {"audio_2": None, "ref_target_masks": mask}})
    (finding,) = traps(graph)
    assert (finding.input, finding.severity) == ("audio_2", "error")
    assert "is empty while audio_3 is linked" in finding.message


def test_turns_are_better_made_by_padding(graph: Graph) -> None:
    give_voices(graph, 2)
    mask = add(graph, "90", "SolidMask", value=1.0, width=64, height=64)
    change(graph, {"Audio embeds": {"multi_audio_type": "add", "ref_target_masks": mask}})
    (finding,) = traps(graph)
    assert (finding.input, finding.severity) == ("multi_audio_type", "warning")


def test_a_talk_model_for_one_voice_is_not_for_two(graph: Graph) -> None:
    give_voices(graph, 2)
    mask = add(graph, "90", "SolidMask", value=1.0, width=64, height=64)
    change(graph, {"Audio embeds": {"ref_target_masks": mask}, "Talk model": {"model": TALK_GGUF}})
    (finding,) = traps(graph)
    assert (finding.input, finding.severity) == ("model", "warning")
    assert f"{TALK_GGUF} is made for one voice" in finding.message


def test_masks_are_no_jpegs(graph: Graph) -> None:
    give_voices(graph, 2)
    mask = add(graph, "90", "LoadImageMask", image="masks.JPG", channel="red")
    change(graph, {"Audio embeds": {"ref_target_masks": mask}})
    assert [each.message.split(" is")[0] for each in traps(graph)] == ["masks.JPG"]


def test_masks_of_several_voices_are_no_pages(graph: Graph) -> None:
    give_voices(graph, 2)
    mask = add(graph, "90", "LoadImageMask", image="masks.TIF", channel="red")
    change(graph, {"Audio embeds": {"ref_target_masks": mask}})
    (finding,) = traps(graph)
    assert (finding.severity, finding.input) == ("warning", "image")
    assert "ComfyUI 0.20 and later load only its first page" in finding.message


# ---- One window of a chain


def test_a_window_that_continues_another_is_clean(window: Graph, schemas: Schemas) -> None:
    continue_window(window)
    assert lint_workflow(window, schemas) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"Window audio": {"frames": 77}}, "frames: is 77, and Talking image * makes 81"),
        ({"Talking image": {"num_frames": 77}}, "frames: is 81, and Talking image * makes 77"),
        ({"Window audio": {"frames": 80}, "Talking image": {"num_frames": 80}},
         "num_frames: is 80: set it to a multiple of 4 plus 1"),
        ({"Frames": {"motion_frames": 10}}, "motion_frames: is 10: set it to a multiple of 4 plus"),
        ({"Frames": {"motion_frames": 81}}, "motion_frames: is 81 of a window of 81"),
        ({"Resize reference": {"height": 480}},
         "Resize reference * height: is 480, and Talking image * has 864"),
        ({"Talking image": {"width": 488}, "Resize reference": {"width": 488}},
         "Talking image * width: is 488, and the video would come out smaller"),
        ({"New frames": {"split_index": 9}}, "split_index: is 9, and without motion"),
        ({"Window audio": {"start": 144}, "Audio embeds": {"num_frames": 125}},
         "start: is 144, and Audio embeds * ends at frame 125"),
        ({"Talk model": {"model": "WanVideo_2_1_Multitalk_14B_fp16.safetensors"}},
         "Talk model * is no InfiniteTalk model by its name"),
        ({"Sampler": {"multitalk_embeds": None}}, "goes wrong with TalkingHeadContinueWindow"),
        ({"Sampler": {"multitalk_embeds": ["45", 0]}}, "comes past TalkingHeadWindowAudio"),
        ({"Audio embeds": {"audio_2": ["40", 0]}}, "the sampler fails on 2 voices without masks"),
        ({"Video": {"frame_rate": 30}}, "Video * is 30, and Audio embeds * has 25"),
    ],
)  # fmt: skip
def test_what_a_window_would_get_wrong(changes: Changes, expected: str, window: Graph) -> None:
    change(window, changes)
    says = [str(finding) for finding in traps(window)]
    parts = expected.split(" * ")
    assert any(all(part in each for part in parts) for each in says), says


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"New frames": {"split_index": 0}},
         "is 0, and the first 9 frames are those of the window before: set it to 9"),
        ({"Frames": {"motion_frames": 25}}, "is 9, and the first 25 frames are those of"),
        ({"Window audio": {"start": 0}}, "is 0 while motion is linked"),
    ],
)  # fmt: skip
def test_what_a_window_that_continues_another_would_get_wrong(
    changes: Changes, expected: str, window: Graph
) -> None:
    continue_window(window)
    change(window, changes)
    (finding,) = traps(window)
    assert finding.severity == "error"
    assert expected in finding.message


def test_what_is_linked_into_a_window_is_left_alone(window: Graph) -> None:
    continue_window(window)
    number = add(window, "90", "PrimitiveInt", value=0)
    change(window, {"Window audio": {"start": number, "frames": number}})
    change(window, {"New frames": {"split_index": number}, "Frames": {"motion_frames": number}})
    change(window, {"Talking image": {"num_frames": number, "width": number}})
    assert traps(window) == []


# ---- Windows and sampler


@pytest.mark.parametrize(
    ("window", "motion", "expected"),
    [
        (80, 9, ["warning frame_window_size"]),
        (81, 10, ["warning motion_frame", "error motion_frame"]),
        (9, 9, ["error motion_frame"]),
        (21, 5, ["warning motion_frame"]),
    ],
)
def test_windows(window: int, motion: int, expected: list[str], graph: Graph) -> None:
    image = {"frame_window_size": window, "motion_frame": motion}
    change(graph, {"Talking image": image})
    assert [f"{each.severity} {each.input}" for each in traps(graph)] == expected


@pytest.mark.parametrize(
    ("scheduler", "steps", "expected"),
    [
        ("flowmatch_distill", 4, []),
        ("dpm++_sde/beta", 6, []),
        ("multitalk", 6, ["warning scheduler", "error steps"]),
        ("rcm", 6, ["warning scheduler", "error steps"]),
        ("rcm", 4, ["warning scheduler"]),
        ("flowmatch_causvid", 10, ["warning scheduler", "error steps"]),
        ("flowmatch_causvid", 9, ["warning scheduler"]),
    ],
)
def test_schedulers(scheduler: str, steps: int, expected: list[str], graph: Graph) -> None:
    change(graph, {"Sampler": {"scheduler": scheduler, "steps": steps}})
    assert [f"{each.severity} {each.input}" for each in traps(graph)] == expected


def test_flowmatch_distill_takes_no_sigmas(graph: Graph) -> None:
    change(graph, {"Sampler": {"sigmas": ["90", 0], "start_step": 4}})
    assert [each.input for each in traps(graph)] == ["sigmas"]


# ---- Video to video


def test_a_video_to_denoise_is_clean(graph: Graph, schemas: Schemas) -> None:
    denoise_video(graph)
    assert lint_workflow(graph, schemas) == []


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ({"start_step": 0}, ["start_step: is 0, which begins at noise"]),
        ({"add_noise_to_samples": False}, ["add_noise_to_samples: is false, and the video has no"]),
        ({"add_noise_to_samples": None}, ["add_noise_to_samples: is false, and the video has no"]),
        ({"start_step": 0, "denoise_strength": 0.5}, []),
        ({"start_step": 0, "denoise_strength": 0.8}, ["denoise_strength: is 0.8, which comes to"]),
        ({"scheduler": "multitalk"}, ["is for other models", "multitalk begins at noise"]),
    ],
)
def test_a_video_to_denoise_has_to_be_used(
    sampling: dict[str, Any], expected: list[str], graph: Graph, schemas: Schemas
) -> None:
    denoise_video(graph)
    change(graph, {"Sampler": sampling})
    found = [f"{each.input}: {each.message}" for each in traps(graph, schemas)]
    assert len(found) == len(expected)
    assert all(part in each for part, each in zip(expected, found, strict=True))


def test_latents_of_an_earlier_sampler_need_no_noise(graph: Graph) -> None:
    first = copy.deepcopy(graph[key_of(graph, "Sampler")])
    graph["90"] = first | {"_meta": {"title": "First sampler"}}
    change(graph, {"First sampler": {"end_step": 2}})
    change(graph, {"Sampler": {"samples": ["90", 0], "start_step": 2}})
    assert traps(graph) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"frame_load_cap": 1}, "error frame_load_cap"),
        ({"select_every_nth": 72}, "error select_every_nth"),
        ({"force_rate": 30}, "error force_rate"),
        ({"force_rate": 0}, "warning force_rate"),
        ({"video": "https://example.com/a.mp4"}, "warning video"),
        ({"format": "None"}, "error custom_width, error custom_height"),
        ({"format": "None", "custom_width": 0, "custom_height": 0}, ""),
        ({"custom_width": 854}, "warning custom_width"),
    ],
)
def test_the_loader_of_a_video_to_denoise(
    options: dict[str, Any], expected: str, graph: Graph, schemas: Schemas
) -> None:
    denoise_video(graph, **options)
    found = lint_workflow(graph, schemas)
    assert ", ".join(f"{each.severity} {each.input}" for each in found) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ""),
        ({"select_every_nth": 81}, "warning select_every_nth"),
        ({"frame_load_cap": 1}, "warning frame_load_cap"),
        ({"force_rate": 24}, "error force_rate"),
    ],
)
def test_the_loader_of_keyframes(
    options: dict[str, Any], expected: str, graph: Graph, schemas: Schemas
) -> None:
    use_keyframes(graph, **options)
    found = lint_workflow(graph, schemas)
    assert ", ".join(f"{each.severity} {each.input}" for each in found) == expected


def test_a_second_video_is_one_too_many(graph: Graph) -> None:
    graph["90"] = copy.deepcopy(graph[key_of(graph, "Video")]) | {"_meta": {"title": "Again"}}
    (finding,) = traps(graph)
    assert str(finding).startswith("warning: Again (VHS_VideoCombine, node 90): is a second video")


# ---- GUI files and files of no known form


def test_a_gui_file_gets_the_same_findings_as_its_graph(gui: Workflow, schemas: Schemas) -> None:
    sampler = next(node for node in gui["nodes"] if node.get("title") == "Sampler")
    set_widget(sampler, "steps", 6, schemas)
    in_gui = lint_workflow(gui, schemas)
    assert in_gui == lint_workflow(to_api(gui, schemas), schemas)
    assert [each.input for each in in_gui] == ["steps"]


def test_a_seed_that_the_gui_would_change_is_named(gui: Workflow, schemas: Schemas) -> None:
    sampler = next(node for node in gui["nodes"] if node.get("title") == "Sampler")
    sampler["widgets_values"][sampler["widgets_values"].index("fixed")] = "randomize"
    (finding,) = lint_workflow(gui, schemas)
    assert (finding.severity, finding.input) == ("warning", "seed")
    assert 'control_after_generate is "randomize"' in finding.message


def test_two_nodes_of_one_title_are_named(gui: Workflow, schemas: Schemas) -> None:
    for node in gui["nodes"]:
        if node.get("title") == "Sound":
            node["title"] = "Portrait"
    (finding,) = lint_workflow(gui, schemas)
    assert str(finding).startswith(
        "warning: Portrait: 2 nodes have this title (nodes 30, 44), and the worker finds nodes"
    )


def test_every_unknown_class_of_a_gui_file_is_named_with_the_nearest(
    gui: Workflow, schemas: Schemas
) -> None:
    for node in gui["nodes"]:
        if node.get("title") in ("VAE", "Sampler"):
            node["type"] += "X"
    assert [str(finding) for finding in lint_workflow(gui, schemas)] == [
        "error: VAE (WanVideoVAELoaderX, node 16): this ComfyUI has no node class "
        "WanVideoVAELoaderX; the nearest is WanVideoVAELoader",
        "error: Sampler (WanVideoSamplerX, node 50): this ComfyUI has no node class "
        "WanVideoSamplerX; the nearest is WanVideoSampler",
    ]


def test_an_unknown_class_of_a_graph_is_named_with_the_nearest(
    graph: Graph, schemas: Schemas
) -> None:
    graph[key_of(graph, "VAE")]["class_type"] = "WanVideoVAE"
    assert "no node class WanVideoVAE; the nearest is WanVideoVAELoader" in str(
        lint_workflow(graph, schemas)[0]
    )


def test_what_cannot_be_converted_is_a_finding(gui: Workflow, schemas: Schemas) -> None:
    sampler = next(node for node in gui["nodes"] if node.get("title") == "Sampler")
    sampler["widgets_values"] = {"steps": 4}
    (finding,) = lint_workflow(gui, schemas)
    assert finding.severity == "error"
    assert 'node 50 "Sampler" (WanVideoSampler): widgets_values is a mapping' in finding.message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, "neither a GUI workflow"),
        ([], "neither a GUI workflow"),
        ({"prompt": {}}, "neither a GUI workflow"),
        ({"nodes": [{}], "links": []}, "nodes without id or type"),
    ],
)
def test_what_is_no_workflow_is_a_finding(content: object, expected: str, schemas: Schemas) -> None:
    (finding,) = lint_workflow(content, schemas)
    assert (finding.severity, finding.node) == ("error", "")
    assert expected in finding.message


# ---- The command


@pytest.fixture
def saved(tmp_path: Path, graph: Graph) -> Callable[..., Path]:
    """Writes the graph with changes to a file: saved("name.json", Sampler={"steps": 6})."""

    def save(name: str, **changes: dict[str, Any]) -> Path:
        changed = copy.deepcopy(graph)
        change(changed, changes)
        path = tmp_path / name
        path.write_text(json.dumps(changed), encoding="utf-8")
        return path

    return save


def run_lint(*arguments: object) -> tuple[int, list[str]]:
    """The exit code and the lines, without that which says that no server was asked."""
    result = CliRunner().invoke(app, ["lint", *map(str, arguments)])
    lines = result.output.splitlines()
    asked = [line for line in lines if not line.startswith("no server was asked")]
    assert len(lines) - len(asked) == ("--server" not in arguments)
    return result.exit_code, asked


def test_the_command_ends_with_0_and_a_count(saved: Callable[..., Path]) -> None:
    assert run_lint(saved("a.json"), saved("b.json")) == (0, ["2 files, 0 errors, 0 warnings"])


def test_the_command_ends_with_0_on_warnings(saved: Callable[..., Path]) -> None:
    path = saved("a.json", Video={"save_output": False})
    code, lines = run_lint(path)
    assert code == 0
    assert lines[0].startswith(f"{path}: warning: Video (VHS_VideoCombine, node 70), input save_")
    assert lines[1:] == ["1 file, 0 errors, 1 warning"]


def test_the_command_ends_with_1_on_an_error(saved: Callable[..., Path]) -> None:
    path = saved("bad.json", Sampler={"steps": 6})
    code, lines = run_lint(saved("good.json"), path)
    assert code == 1
    assert lines[0].startswith(f"{path}: error: Sampler (WanVideoSampler, node 50), input steps:")
    assert lines[1:] == ["2 files, 1 error, 0 warnings"]


def test_the_command_ends_with_2_on_a_file_it_cannot_read(
    saved: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "text.json").write_text("no JSON", encoding="utf-8")
    bad = saved("bad.json", Sampler={"steps": 6})
    code, lines = run_lint(tmp_path / "text.json", tmp_path / "absent.json", bad)
    assert code == 2
    assert lines[0].startswith(f"{tmp_path / 'text.json'}: not readable as JSON")
    assert lines[-1] == "3 files, 1 error, 0 warnings, 2 unreadable"


def test_the_command_checks_against_the_schemas_of_a_server(
    saved: Callable[..., Path], files: FileServer, schemas: Schemas
) -> None:
    live = json.loads(json.dumps(schemas))
    live["WanVideoVAELoader"]["input"]["required"]["model_name"][0] = ["other.safetensors"]
    (files.folder / "object_info").write_text(json.dumps(live), encoding="utf-8")
    code, lines = run_lint(saved("a.json"), "--server", files.url("").partition("?")[0])
    assert code == 1
    assert "input model_name: is 'wan_2.1_vae.safetensors', allowed: other.safetensors" in lines[0]


def test_a_server_that_does_not_answer_is_said(saved: Callable[..., Path]) -> None:
    code, lines = run_lint(saved("a.json"), "--server", "http://127.0.0.1:9")
    assert code == 2
    assert any("no schemas from" in line for line in lines)


def test_the_command_looks_at_the_masks_file_beside_the_workflow(
    saved: Callable[..., Path], graph: Graph, tmp_path: Path
) -> None:
    give_voices(graph, 2)
    loaded = add(graph, "90", "LoadImage", image="m.gif")
    masks = add(graph, "91", "ImageToMask", image=loaded, channel="red")
    change(graph, {"Audio embeds": {"ref_target_masks": masks}})
    frames = [Image.new("1", (64, 64), index % 2) for index in range(3)]
    frames[0].save(tmp_path / "m.gif", save_all=True, append_images=frames[1:])
    code, lines = run_lint(saved("two.json"))
    assert code == 1
    told = f"{tmp_path / 'two.json'}: error: m.gif: its frames have no delay"
    assert any(line.startswith(told) for line in lines), lines


MANY_STEPS = {"steps": 30, "scheduler": "unipc", "cfg": 5.0}


@pytest.mark.parametrize("cache", ["WanVideoTeaCache", "WanVideoMagCache", "WanVideoEasyCache"])
@pytest.mark.parametrize(
    ("sampling", "audio_cfg", "expected"),
    [
        (MANY_STEPS, 0.8, []),
        (MANY_STEPS | {"steps": 9}, 0.8, ["warning: *leaves out some of 9 steps"]),
        (MANY_STEPS | {"cfg": 1.0}, 1.0, []),
        (MANY_STEPS | {"cfg": 1.0}, 2.0, ["error: *is one for both passes"]),
    ],
)
def test_a_cache_of_steps_is_for_many_steps_and_for_guidance_of_its_own(
    cache: str,
    sampling: dict[str, Any],
    audio_cfg: float,
    expected: list[str],
    *,
    window: Graph,
    schemas: Schemas,
) -> None:
    change(window, {"Sampler": sampling | {"cache_args": add(window, "90", cache)}})
    change(window, {"Audio embeds": {"audio_cfg_scale": audio_cfg}})
    found = [str(each) for each in traps(window, schemas)]
    assert len(found) == len(expected)
    for text, wanted in zip(found, expected, strict=True):
        severity, words = wanted.split("*")
        assert text.startswith(severity) and words in text


def test_a_cache_of_steps_in_one_prompt_is_told_to_fill_the_memory(
    graph: Graph, schemas: Schemas
) -> None:
    change(graph, {"Sampler": MANY_STEPS | {"cache_args": add(graph, "90", "WanVideoTeaCache")}})
    (found,) = traps(graph, schemas)
    assert found.severity == "warning" and "keeps what it cached of every window" in found.message


def test_a_small_vae_is_only_for_the_pictures_of_a_window(window: Graph, schemas: Schemas) -> None:
    small = add(window, "90", "WanVideoTinyVAELoader", model_name="lighttaew2_1.safetensors")
    change(window, {"Frames": {"light_vae": small}})
    assert traps(window, schemas) == []
    change(window, {"Frames": {"match_colours": True}})
    assert [each.message for each in traps(window, schemas)] == [
        "fails with match_colours: take one of them away"
    ]
    change(window, {"Frames": {"match_colours": False}, "Continue": {"vae": small}})
    (found,) = traps(window, schemas)
    assert found.severity == "error" and "which only decodes" in found.message
