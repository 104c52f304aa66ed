"""Small graphs of the shapes the worker runs: one picture or video, one to four voices."""

import json
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

Graph = dict[str, dict[str, Any]]

WIDTH, HEIGHT = 96, 64
FPS = 25
AUDIO_SECONDS = 2.0
FRAMES = 50  # three windows of 21 frames with 5 of overlap make 53

INFINITETALK = "Wan2_1-InfiniteTalk_Single_Q8.gguf"
INFINITETALK_MULTI = "Wan2_1-InfiniteTalk_Multi_Q8.gguf"
MULTITALK = "WanVideo_2_1_Multitalk_14B_fp8_e4m3fn.safetensors"
LORA = "lightx2v_I2V_14B_480p_cfg_step_distill_rank64_bf16.safetensors"


def node(class_type: str, **inputs: object) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def link(node_id: str, output: int = 0) -> list[object]:
    return [node_id, output]


def loaders(talk_model: str) -> Graph:
    return {
        "10": node("MultiTalkModelLoader", model=talk_model),
        "11": node("WanVideoLoraSelect", lora=LORA, strength=1.0, merge_loras=False),
        "12": node(
            "WanVideoBlockSwap",
            blocks_to_swap=20,
            offload_img_emb=False,
            offload_txt_emb=False,
        ),
        "13": node(
            "WanVideoModelLoader",
            model="wan2.1-i2v-14b-480p-Q4_K_M.gguf",
            base_precision="fp16",
            quantization="disabled",
            load_device="offload_device",
            multitalk_model=link("10"),
        ),
        "14": node("WanVideoSetLoRAs", model=link("13"), lora=link("11")),
        "15": node("WanVideoSetBlockSwap", model=link("14"), block_swap_args=link("12")),
        "16": node("WanVideoVAELoader", model_name="wan_2.1_vae.safetensors", precision="bf16"),
        "17": node("CLIPVisionLoader", clip_name="clip_vision_h.safetensors"),
        "18": node(
            "Wav2VecModelLoader",
            model="wav2vec2-chinese-base_fp16.safetensors",
            base_precision="fp16",
            load_device="main_device",
        ),
        "19": node("CLIPLoader", clip_name="umt5_xxl_fp8_e4m3fn_scaled.safetensors", type="wan"),
    }


def speech(voices: int) -> Graph:
    audio = {f"audio_{i + 1}": link(str(40 + i)) for i in range(voices)}
    return {
        "20": node("CLIPTextEncode", text="a person is talking", clip=link("19")),
        "21": node("CLIPTextEncode", text="blurred", clip=link("19")),
        "22": node("WanVideoTextEmbedBridge", positive=link("20"), negative=link("21")),
        **{str(40 + i): node("LoadAudio", audio=f"voice_{i}.wav") for i in range(voices)},
        "44": node("LoadAudio", audio="mix.wav"),
        "45": node(
            "MultiTalkWav2VecEmbeds",
            wav2vec_model=link("18"),
            **audio,
            normalize_loudness=True,
            num_frames=1000,
            fps=float(FPS),
            audio_scale=1.0,
            audio_cfg_scale=1.0,
            multi_audio_type="para",
        ),
    }


def portrait() -> Graph:
    return {
        "30": node("LoadImage", image="image.png"),
        "31": node(
            "ImageScale",
            image=link("30"),
            upscale_method="lanczos",
            width=WIDTH,
            height=HEIGHT,
            crop="center",
        ),
        "32": node(
            "WanVideoClipVisionEncode",
            clip_vision=link("17"),
            image_1=link("31"),
            strength_1=1.0,
            strength_2=1.0,
            crop="center",
            combine_embeds="average",
            force_offload=True,
        ),
    }


def image_to_video(
    *, talk_model: str = INFINITETALK, voices: int = 1, motion_frame: int = 5, prefix: str = "a/out"
) -> Graph:
    """The picture speaks; more than one voice needs masks(graph, folder) as well."""
    return {
        **loaders(talk_model),
        **speech(voices),
        **portrait(),
        "33": node(
            "WanVideoImageToVideoMultiTalk",
            vae=link("16"),
            width=WIDTH,
            height=HEIGHT,
            frame_window_size=21,
            motion_frame=motion_frame,
            force_offload=False,
            colormatch="disabled",
            start_image=link("31"),
            clip_embeds=link("32"),
            mode="auto",
        ),
        "50": sampler(),
        "60": node("WanVideoPassImagesFromSamples", samples=link("50")),
        "61": node("VHS_SplitImages", images=link("60"), split_index=FRAMES),
        "70": combine(prefix),
    }


def sampler() -> dict[str, Any]:
    return node(
        "WanVideoSampler",
        model=link("15"),
        image_embeds=link("33"),
        steps=2,
        cfg=1.0,
        shift=11.0,
        seed=42,
        force_offload=True,
        scheduler="dpm++_sde",
        riflex_freq_index=0,
        text_embeds=link("22"),
        multitalk_embeds=link("45"),
    )


def combine(prefix: str) -> dict[str, Any]:
    return node(
        "VHS_VideoCombine",
        images=link("61"),
        audio=link("44"),
        frame_rate=FPS,
        loop_count=0,
        filename_prefix=prefix,
        format="video/h264-mp4",
        pix_fmt="yuv420p",
        crf=19,
        save_metadata=False,
        trim_to_audio=True,
        pingpong=False,
        save_output=True,
    )


def multitalk(*, voices: int = 1, prefix: str = "e/out") -> Graph:
    graph = image_to_video(talk_model=MULTITALK, voices=voices, motion_frame=9, prefix=prefix)
    graph["50"]["inputs"].update(steps=4, scheduler="flowmatch_distill")
    return graph


def video_to_video(video: Path, *, denoise: bool, prefix: str) -> Graph:
    """Dubbing: every frame through the sampler, or every 16th frame as a window's reference."""
    graph = image_to_video(prefix=prefix)
    graph["30"] = node(
        "VHS_LoadVideoPath",
        video=str(video),
        force_rate=FPS,
        custom_width=WIDTH,
        custom_height=HEIGHT,
        frame_load_cap=0,
        skip_first_frames=0,
        select_every_nth=1 if denoise else 16,
        format="Wan" if denoise else "AnimateDiff",
    )
    graph["31"] = node("ImageFromBatch", image=link("30"), batch_index=0, length=1)
    if denoise:
        tiles = {"tile_x": 272, "tile_y": 272, "tile_stride_x": 144, "tile_stride_y": 128}
        graph["34"] = node(
            "WanVideoEncode", vae=link("16"), image=link("30"), enable_vae_tiling=False, **tiles
        )
        graph["50"]["inputs"].update(
            steps=4, start_step=2, add_noise_to_samples=True, samples=link("34")
        )
    else:
        graph["33"]["inputs"]["start_image"] = link("30")
    return graph


def masks(graph: Graph, folder: Path) -> Graph:
    graph["35"] = node("VHS_LoadImagesPath", directory=str(folder))
    graph["36"] = node("ImageToMask", image=link("35"), channel="red")
    graph["45"]["inputs"]["ref_target_masks"] = link("36")
    return graph


def write_media(folder: Path) -> None:
    """image.png, voice_0..3.wav (16 kHz mono) and mix.wav (44.1 kHz stereo)."""
    columns = np.linspace(40, 200, 120, dtype=np.uint8)
    Image.fromarray(np.repeat(columns[None, :, None], 80, axis=0).repeat(3, axis=2)).save(
        folder / "image.png"
    )
    for voice in range(4):
        write_tone(folder / f"voice_{voice}.wav", 16000, 1, 200.0 * (voice + 1))
    write_tone(folder / "mix.wav", 44100, 2, 300.0)


def write_tone(
    path: Path, rate: int, channels: int, hertz: float, seconds: float = AUDIO_SECONDS
) -> None:
    """A tone in its second half, silence in its first."""
    time = np.arange(round(rate * seconds)) / rate
    tone = np.sin(2 * np.pi * hertz * time) * 0.5 * (time >= seconds / 2)
    pcm = (tone * 32767).astype("<i2")
    with wave.open(str(path), "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(np.repeat(pcm[:, None], channels, axis=1).tobytes())


def write_masks(folder: Path, speakers: int) -> Path:
    """One strip per speaker, the background last."""
    folder.mkdir(exist_ok=True)
    edges = np.linspace(0, WIDTH, speakers + 1).astype(int)
    for i in range(speakers):
        mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        mask[8:-8, edges[i] + 2 : edges[i + 1] - 2] = 255
        Image.fromarray(mask).save(folder / f"{i}_speaker.png")
    Image.fromarray(np.zeros((HEIGHT, WIDTH), dtype=np.uint8)).save(folder / "9_background.png")
    return folder


def write_video(path: Path, frames: int = 60) -> Path:
    """A silent video that gets brighter, 160x120."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for t in range(frames):
            pixels = np.full((120, 160, 3), 40 + 3 * t, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def video_facts(path: Path) -> dict[str, Any]:
    """Size, frame count, seconds and tags of a finished file, read by decoding it."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        facts: dict[str, Any] = {
            "size": (frames[0].width, frames[0].height),
            "frames": len(frames),
            "pix_fmt": frames[0].format.name,
            "means": [float(f.to_ndarray(format="gray").mean()) for f in frames],
            "tags": dict(container.metadata),
            "sound": len(container.streams.audio) == 1,
        }
    if facts["sound"]:
        facts.update(sound_facts(path))
    return facts


def sound_facts(path: Path) -> dict[str, Any]:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return {
            "sample_rate": stream.codec_context.sample_rate,
            "channels": stream.codec_context.channels,
            "sound_seconds": float((stream.duration or 0) * (stream.time_base or 0)),
        }


def png_prompt(path: Path) -> dict[str, Any]:
    with Image.open(path) as image:
        found: dict[str, Any] = json.loads(image.info["prompt"])
        return found
