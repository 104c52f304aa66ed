"""What the doubles of the GPU nodes promise, seen through a real ComfyUI process."""

import copy
import json
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from talkinghead.comfy.studio import Studio
from talkinghead.errors import ComfyUIUnavailable
from talkinghead.settings import PROJECT_DIR
from tests.comfy.doubles_graphs import (
    FPS,
    FRAMES,
    HEIGHT,
    INFINITETALK_MULTI,
    WIDTH,
    Graph,
    image_to_video,
    link,
    loaders,
    masks,
    multitalk,
    node,
    png_prompt,
    video_facts,
    video_to_video,
    write_masks,
    write_media,
    write_tone,
    write_video,
)
from tests.comfy.doubles_server import (
    DoublesServer,
    History,
    message,
    succeeded,
)
from tests.timing import wait_until

RECORDED = PROJECT_DIR / "talkinghead" / "workflow" / "node_schemas.json"
DOUBLED_PACKS = ("ComfyUI-WanVideoWrapper", "ComfyUI-VideoHelperSuite")
SEEDS = count(1000)


@pytest.fixture
def server(studio: Studio, control_file: Path) -> Iterator[DoublesServer]:
    server = DoublesServer(studio, control_file)
    with studio.comfy("unused", lambda: None):  # when it has let go of the last job
        server.ensure_started()
        write_media(server.input)
        yield server
    for folder in (server.input, server.output):
        shutil.rmtree(folder)
        folder.mkdir()


def uncached(graph: Graph) -> Graph:
    """A seed no other graph has, so that the sampler really runs."""
    graph["50"]["inputs"]["seed"] = next(SEEDS)
    return graph


def video_of(entry: History) -> Path:
    assert succeeded(entry), entry["status"]
    return Path(entry["outputs"]["70"]["gifs"][0]["fullpath"])


def error_of(entry: History) -> dict[str, Any]:
    assert not succeeded(entry)
    return message(entry, "execution_error")


def without_help(value: object) -> object:
    """Schemas are recorded without their tooltips."""
    if isinstance(value, dict):
        return {k: without_help(v) for k, v in value.items() if k not in ("tooltip", "placeholder")}
    if isinstance(value, list):
        return [v for v in map(without_help, value) if v != {}]
    return value


def file_lists_emptied(info: dict[str, Any], recorded: dict[str, Any]) -> dict[str, Any]:
    emptied: dict[str, Any] = copy.deepcopy(info)
    for section, inputs in recorded["input"].items():
        for key, spec in inputs.items():
            if spec[0] == []:
                emptied["input"][section][key][0] = []
    return emptied


# --- schemas -------------------------------------------------------------------------------


def test_object_info_equals_the_recorded_schemas_but_for_file_lists(server: DoublesServer) -> None:
    shown = server.object_info()
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))["nodes"]
    doubled = {n: r for n, r in recorded.items() if r["python_module"].endswith(DOUBLED_PACKS)}
    for name, schema in doubled.items():
        info = file_lists_emptied(shown[name], schema)
        assert {key: without_help(info[key]) for key in schema} == without_help(schema), name
    for name in ("CLIPLoader", "CLIPTextEncode", "CLIPVisionLoader"):  # newer ones offer more
        assert shown[name]["input_order"] == recorded[name]["input_order"]
        assert shown[name]["output"] == recorded[name]["output"]


def test_loaders_list_the_files_of_the_templates(server: DoublesServer) -> None:
    shown = server.object_info()
    for entry in loaders(INFINITETALK_MULTI).values():
        inputs = shown[entry["class_type"]]["input"]["required"]
        for key, value in entry["inputs"].items():
            if key in ("model", "lora", "model_name", "clip_name") and isinstance(value, str):
                assert value in inputs[key][0]


def test_a_class_without_behaviour_says_so_when_it_runs(server: DoublesServer) -> None:
    graph = {
        "1": node("SolidMask", value=1.0, width=8, height=8),
        "2": node(
            "VHS_MergeMasks",
            mask_A=link("1"),
            mask_B=link("1"),
            merge_strategy="match A",
            scale_method="bilinear",
            crop="disabled",
        ),
        "3": node("PreviewAny", source=link("2")),
    }
    error = error_of(server.run(graph))
    assert error["exception_type"] == "RuntimeError"
    assert "VHS_MergeMasks is a test double and has no behaviour" in error["exception_message"]


def test_a_model_shows_what_was_wired_to_it(server: DoublesServer) -> None:
    graph = {**loaders(INFINITETALK_MULTI), "90": node("PreviewAny", source=link("15"))}
    entry = server.run(graph)
    model = json.loads(entry["outputs"]["90"]["text"][0])
    assert model["multitalk_model"]["model"] == INFINITETALK_MULTI
    assert model["lora"][0]["strength"] == 1.0
    assert model["block_swap_args"]["blocks_to_swap"] == 20


# --- graphs --------------------------------------------------------------------------------


def picture_one_voice(_root: Path) -> Graph:
    return image_to_video(prefix="a/out")


def picture_two_voices(root: Path) -> Graph:
    graph = image_to_video(talk_model=INFINITETALK_MULTI, voices=2, prefix="b/out")
    return masks(graph, write_masks(root / "two", 2))


def video_denoised(root: Path) -> Graph:
    return video_to_video(write_video(root / "c1.mp4"), denoise=True, prefix="c1/out")


def video_keyframes(root: Path) -> Graph:
    return video_to_video(write_video(root / "c2.mp4"), denoise=False, prefix="c2/out")


def multitalk_one_voice(_root: Path) -> Graph:
    return multitalk(prefix="e1/out")


def multitalk_four_voices(root: Path) -> Graph:
    return masks(multitalk(voices=4, prefix="e2/out"), write_masks(root / "four", 4))


@pytest.mark.parametrize(
    "build",
    [
        picture_one_voice,
        picture_two_voices,
        video_denoised,
        video_keyframes,
        multitalk_one_voice,
        multitalk_four_voices,
    ],
)
def test_every_kind_of_graph_gives_the_video_it_should(
    server: DoublesServer, tmp_path: Path, build: Callable[[Path], Graph]
) -> None:
    facts = video_facts(video_of(server.run(build(tmp_path))))
    assert facts["size"] == (WIDTH, HEIGHT)
    assert facts["frames"] == FRAMES
    assert facts["pix_fmt"] == "yuv420p"
    assert (facts["sample_rate"], facts["channels"]) == (44100, 2)
    assert facts["sound_seconds"] == pytest.approx(2.0, abs=0.001)


def test_the_frames_change_and_the_mouth_follows_the_voice(server: DoublesServer) -> None:
    graph = image_to_video(prefix="mouth/out")
    frames = decoded(video_of(server.run(graph)))
    mouth = frames[:, HEIGHT * 2 // 3, WIDTH // 2]
    assert mouth[30:].mean() < mouth[:20].mean() - 40  # silence first, then the tone
    assert len({frame[:4].tobytes() for frame in frames}) > 10  # the bar runs


def test_a_seed_changes_the_picture_and_the_same_seed_does_not(server: DoublesServer) -> None:
    means = []
    for number, seed in enumerate((1, 2, 1)):
        graph = image_to_video(prefix=f"seed{number}/out")
        graph["50"]["inputs"]["seed"] = seed
        means.append(decoded(video_of(server.run(graph))).mean())
    assert means[0] == means[2] != means[1]


def test_keyframes_become_the_references_of_the_windows(
    server: DoublesServer, tmp_path: Path
) -> None:
    graph = video_to_video(write_video(tmp_path / "v.mp4"), denoise=False, prefix="key/out")
    means = video_facts(video_of(server.run(graph)))["means"]
    assert means[20] < means[21] - 30  # the first window's 21 frames, then the 16 of the next
    assert means[36] < means[37] - 30


def test_frames_go_to_disk_when_an_output_path_is_given(
    server: DoublesServer, tmp_path: Path
) -> None:
    graph = image_to_video()
    del graph["61"], graph["70"], graph["44"]
    graph["33"]["inputs"]["output_path"] = str(tmp_path)
    graph["71"] = node("PreviewAny", source=link("60", 1))
    folder = Path(server.run(graph)["outputs"]["71"]["text"][0])
    names = sorted(file.name for file in folder.iterdir())
    assert names == [f"frame_{i:05d}.png" for i in range(53)]


def test_one_window_starts_with_the_motion_frames_it_was_given(
    server: DoublesServer, tmp_path: Path
) -> None:
    motion = tmp_path / "motion"
    motion.mkdir()
    for i in range(5):
        Image.new("RGB", (WIDTH, 64), (10, 10, 10)).save(motion / f"{i}.png")
    frames = decoded(video_of(server.run(one_window(motion))))
    assert len(frames) == 21
    assert frames[:5].max() < 60 < frames[5:].mean()


def one_window(motion: Path) -> Graph:
    graph = image_to_video(prefix="window/out")
    sizes = {"width": WIDTH, "height": HEIGHT, "num_frames": 21}
    strengths = ("noise_aug_strength", "start_latent_strength", "end_latent_strength")
    graph["33"] = node(
        "WanVideoImageToVideoEncode",
        **sizes,
        **dict.fromkeys(strengths, 0.0),
        force_offload=True,
        vae=link("16"),
        start_image=link("31"),
    )
    tiles = {"tile_x": 272, "tile_y": 272, "tile_stride_x": 144, "tile_stride_y": 128}
    graph["36"] = node("VHS_LoadImagesPath", directory=str(motion))
    graph["34"] = node(
        "WanVideoEncode", vae=link("16"), image=link("36"), enable_vae_tiling=False, **tiles
    )
    graph["35"] = node(
        "WanVideoAddExtraLatent", embeds=link("33"), extra_latents=link("34"), latent_index=0
    )
    graph["50"]["inputs"]["image_embeds"] = link("35")
    graph["60"] = node(
        "WanVideoDecode", vae=link("16"), samples=link("50"), enable_vae_tiling=False, **tiles
    )
    graph["70"]["inputs"]["trim_to_audio"] = False
    return graph


def decoded(path: Path) -> NDArray[np.uint8]:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="gray") for f in container.decode(video=0)])


# --- what the real nodes refuse ------------------------------------------------------------


def test_two_voices_without_masks_die_in_the_sampler(server: DoublesServer) -> None:
    graph = image_to_video(talk_model=INFINITETALK_MULTI, voices=2)
    error = error_of(server.run(graph))
    assert (error["node_type"], error["exception_type"]) == ("WanVideoSampler", "AttributeError")
    assert "'NoneType' object has no attribute 'max'" in error["exception_message"]


def test_masks_must_be_as_many_as_the_voices_or_one_more(
    server: DoublesServer, tmp_path: Path
) -> None:
    graph = image_to_video(talk_model=INFINITETALK_MULTI, voices=2)
    error = error_of(server.run(masks(graph, write_masks(tmp_path / "m", 3))))
    assert error["exception_type"] == "IndexError"


def test_a_clip_too_short_for_loudness_is_refused(server: DoublesServer) -> None:
    write_tone(server.input / "short.wav", 16000, 1, 300.0, seconds=0.39)
    graph = image_to_video()
    graph["40"]["inputs"]["audio"] = "short.wav"
    error = error_of(server.run(graph))
    assert (error["node_type"], error["exception_type"]) == ("MultiTalkWav2VecEmbeds", "ValueError")


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"scheduler": "flowmatch_distill", "steps": 6}, "This scheduler is only for 4 steps"),
        ({"steps": 4, "start_step": 4}, "start_step must be less than end_step"),
        ({"denoise_strength": 0.5, "start_step": 1}, "start_step must be 0"),
    ],
)
def test_the_sampler_refuses_settings_that_leave_nothing_to_do(
    server: DoublesServer, inputs: dict[str, object], says: str
) -> None:
    graph = image_to_video()
    graph["50"]["inputs"].update(inputs)
    assert says in error_of(server.run(graph))["exception_message"]


# --- VideoCombine's files ------------------------------------------------------------------


def test_video_combine_leaves_a_png_and_a_silent_file_beside_the_video(
    server: DoublesServer,
) -> None:
    graph = image_to_video(prefix="side/out")
    entry = server.run(graph)
    shown = entry["outputs"]["70"]["gifs"][0]
    assert shown == {
        "filename": "out_00001-audio.mp4",
        "subfolder": "side",
        "type": "output",
        "format": "video/h264-mp4",
        "frame_rate": FPS,
        "workflow": "out_00001.png",
        "fullpath": str(server.output / "side" / "out_00001-audio.mp4"),
    }
    files = {file.name: file for file in (server.output / "side").iterdir()}
    assert set(files) == {"out_00001.png", "out_00001.mp4", "out_00001-audio.mp4"}
    assert png_prompt(files["out_00001.png"])["50"]["class_type"] == "WanVideoSampler"
    assert not video_facts(files["out_00001.mp4"])["sound"]


def test_the_side_files_can_be_switched_off(server: DoublesServer) -> None:
    extra: dict[str, object] = {"VHS_MetadataImage": False, "VHS_KeepIntermediate": False}
    entry = server.run(image_to_video(prefix="alone/out"), extra)
    assert [f.name for f in (server.output / "alone").iterdir()] == ["out_00001-audio.mp4"]
    assert entry["outputs"]["70"]["gifs"][0]["workflow"] == "out_00001.png"


def test_the_counter_goes_on_where_the_files_end(server: DoublesServer) -> None:
    graph = image_to_video(prefix="count/out")
    first = video_of(server.run(graph))
    graph["50"]["inputs"]["seed"] = 43
    second = video_of(server.run(graph))
    assert (first.name, second.name) == ("out_00001-audio.mp4", "out_00002-audio.mp4")


def test_an_unchanged_graph_is_cached_and_names_the_old_file(server: DoublesServer) -> None:
    graph = image_to_video(prefix="cached/out")
    assert video_of(server.run(graph)) == video_of(server.run(graph))


def test_output_that_is_not_saved_lies_in_the_temp_folder(server: DoublesServer) -> None:
    graph = image_to_video(prefix="loose/out")
    graph["70"]["inputs"]["save_output"] = False
    entry = server.run(graph)
    assert entry["outputs"]["70"]["gifs"][0]["type"] == "temp"
    assert video_of(entry).is_relative_to(server.comfy.folders.temp)


def test_sound_is_padded_to_the_video_unless_trimmed(server: DoublesServer) -> None:
    write_tone(server.input / "mix_short.wav", 44100, 2, 300.0, seconds=1.0)
    graph = image_to_video(prefix="pad/out")
    graph["44"]["inputs"]["audio"] = "mix_short.wav"
    trimmed = video_facts(video_of(server.run(graph)))
    graph["70"]["inputs"]["trim_to_audio"] = False
    padded = video_facts(video_of(server.run(graph)))
    assert FPS - 4 <= trimmed["frames"] <= FPS  # whole groups of B-frames go
    assert padded["frames"] == FRAMES
    assert trimmed["sound_seconds"] == pytest.approx(1.0, abs=0.001)
    assert padded["sound_seconds"] == pytest.approx(2.0, abs=1024 / 44100)


@pytest.mark.parametrize("saves", [True, False])
def test_the_prompt_is_in_the_file_only_when_metadata_is_saved(
    server: DoublesServer, saves: bool
) -> None:
    graph = image_to_video(prefix=f"tags_{saves}/out")
    graph["70"]["inputs"]["save_metadata"] = saves
    tags = video_facts(video_of(server.run(graph)))["tags"]
    assert ("prompt" in tags, "workflow" in tags) == (saves, saves)
    if saves:
        assert json.loads(tags["prompt"])["50"]["class_type"] == "WanVideoSampler"


def test_crf_zero_is_lossless_and_larger(server: DoublesServer) -> None:
    graph = image_to_video(prefix="crf/out")
    lossy = video_of(server.run(graph))
    graph["70"]["inputs"]["crf"] = 0
    lossless = video_of(server.run(graph))
    first = Image.open(lossless.with_name("out_00002.png")).convert("L")
    # Only the step from RGB to limited-range YUV is left.
    difference = np.abs(decoded(lossless)[0].astype(int) - np.asarray(first).astype(int))
    assert difference.max() <= 35
    assert lossless.stat().st_size > lossy.stat().st_size


def test_odd_sizes_are_padded_to_even(server: DoublesServer) -> None:
    graph = image_to_video(prefix="odd/out")
    graph["62"] = node("ImageCrop", image=link("61"), width=71, height=51, x=0, y=0)
    graph["70"]["inputs"]["images"] = link("62")
    assert video_facts(video_of(server.run(graph)))["size"] == (72, 52)


# --- VideoHelperSuite's loaders ------------------------------------------------------------


def test_a_video_is_loaded_at_the_rate_size_and_cut_asked_for(
    server: DoublesServer, tmp_path: Path
) -> None:
    graph = {
        "1": node(
            "VHS_LoadVideoPath",
            video=str(write_video(tmp_path / "in.mp4", frames=50)),
            force_rate=12.5,
            custom_width=64,
            custom_height=64,
            frame_load_cap=4,
            skip_first_frames=2,
            select_every_nth=3,
            format="AnimateDiff",
        ),
        "2": node("VHS_VideoInfo", video_info=link("1", 3)),
        **{str(10 + i): node("PreviewAny", source=link("2", i)) for i in range(10)},
    }
    outputs = server.run(graph)["outputs"]
    facts = [float(outputs[str(10 + i)]["text"][0]) for i in range(10)]
    assert facts[:5] == [25.0, 50, 2.0, 160, 120]
    assert facts[5:] == pytest.approx([12.5 / 3, 4, 0.96, 64, 64])


def test_images_can_be_split_at_an_index(server: DoublesServer, tmp_path: Path) -> None:
    graph = {
        "1": node("VHS_LoadImagesPath", directory=str(write_masks(tmp_path / "m", 4))),
        "2": node("VHS_SplitImages", images=link("1"), split_index=2),
        "3": node("PreviewAny", source=link("2", 1)),
        "4": node("PreviewAny", source=link("2", 3)),
    }
    outputs = server.run(graph)["outputs"]
    assert [outputs[n]["text"][0] for n in ("3", "4")] == ["2", "3"]


def test_images_can_be_selected_by_their_indexes(server: DoublesServer, tmp_path: Path) -> None:
    graph = {
        "1": node("VHS_LoadImagesPath", directory=str(write_masks(tmp_path / "m", 4))),
        "2": node(
            "VHS_SelectImages",
            image=link("1"),
            indexes="0,2:4,-1",
            err_if_missing=True,
            err_if_empty=True,
        ),
        "3": node("VHS_SplitImages", images=link("2"), split_index=0),
        "4": node("PreviewAny", source=link("3", 3)),
    }
    assert server.run(graph)["outputs"]["4"]["text"] == ["4"]


def test_a_folder_that_is_not_there_fails_validation(server: DoublesServer) -> None:
    graph = masks(image_to_video(voices=2), Path("/nowhere"))
    with pytest.raises(AssertionError, match="cannot be found"):
        server.submit(graph)


# --- progress, interrupts, faults ----------------------------------------------------------


def test_the_sampler_counts_tensors_then_steps_over_all_windows_and_the_video_frames(
    server: DoublesServer,
) -> None:
    graph = uncached(image_to_video(prefix="progress/out"))
    server.control({"step_seconds": 0.2})  # what comes within 0.1 s of another may be left out
    seen = list(server.progress(graph))
    tensors = [v for n, v, m in seen if n == "50" and m == 1233]
    assert (tensors[0], tensors[-2:]) == (1, [1233, 0]), "recorded on the real packs"
    assert not [n for n, _, _ in seen if n == "13"], "the loader counts nothing"
    assert [(v, m) for n, v, m in seen if n == "50"][-1] == (6, 8)  # announced one window too many
    assert [(v, m) for n, v, m in seen if n == "70"][-1] == (FRAMES, FRAMES)


def test_an_interrupt_stops_between_steps(server: DoublesServer) -> None:
    server.control({"WanVideoSampler": {"action": "hang", "at_step": 1, "times": 1}})
    prompt_id = server.submit(uncached(image_to_video(prefix="interrupted/out")))
    wait_until(server.has_tripped, "the second step begins")
    server.interrupt(prompt_id)
    assert server.history(prompt_id) is None
    server.control({})  # the step ends
    entry = server.wait(prompt_id)
    assert message(entry, "execution_interrupted")["node_type"] == "WanVideoSampler"
    assert not (server.output / "interrupted").exists()


def test_raise_fails_a_class_as_often_as_asked(server: DoublesServer) -> None:
    server.control({"WanVideoVAELoader": {"action": "raise", "times": 1, "message": "torn file"}})
    graph = image_to_video(prefix="torn/out")
    graph["16"]["inputs"]["precision"] = "fp32"  # not cached from the tests before
    assert "torn file" in error_of(server.run(graph))["exception_message"]
    assert succeeded(server.run(graph))


def test_out_of_memory_looks_like_a_gpus(server: DoublesServer) -> None:
    server.control({"WanVideoSampler": {"action": "oom", "at_step": 3}})
    error = error_of(server.run(uncached(image_to_video(prefix="oom/out"))))
    assert "OutOfMemoryError" in error["exception_type"]
    assert "CUDA out of memory" in error["exception_message"]
    assert "you ran out of memory on your GPU" in error["exception_message"]


def test_exit_ends_the_process_once_and_the_next_one_remembers(server: DoublesServer) -> None:
    server.control({"WanVideoSampler": {"action": "exit", "times": 1, "at_step": 1}})
    graph = uncached(image_to_video(prefix="exit/out"))
    server.submit(graph)
    wait_until(server.comfy.has_died, "the process ends")
    with pytest.raises(ComfyUIUnavailable, match="exit code 1"):
        server.comfy.check()
    server.ensure_started()
    write_media(server.input)  # a new process has new folders
    assert succeeded(server.run(graph))


def test_a_hanging_node_does_not_hear_the_interrupt(server: DoublesServer) -> None:
    server.control({"VHS_VideoCombine": {"action": "hang", "at_step": 10, "times": 1}})
    prompt_id = server.submit(image_to_video(prefix="hang/out"))
    wait_until(server.has_tripped, "the node hangs")
    server.interrupt(prompt_id)
    time.sleep(1.0)
    assert server.history(prompt_id) is None
    server.control({})
    server.wait(prompt_id)
