"""The Wan part: image embeddings, the sampler with its windows, and what decodes it."""

import math
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypedDict

import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar, common_upscale
from tqdm import tqdm  # type: ignore[import-untyped]

from . import control
from .frames import SampledFrames, mouth_places, save_pngs
from .schemas import Behaviour, Outputs
from .speech import MultiTalkEmbeds

FIXED_STEPS = {"multitalk": 4, "rcm": 4}
CAUSVID_STEPS = 9
MODEL_TENSORS = 1233  # of the tiny models; of a 14B model with its talk module about as many


class Samples(TypedDict, total=False):
    """LATENT: pixels [T, H, W, 3] stand for the latents."""

    samples: torch.Tensor | SampledFrames
    video: SampledFrames | torch.Tensor
    noise_mask: torch.Tensor | None
    output_path: str


class ExtraLatent(TypedDict):
    samples: torch.Tensor
    index: int


class ImageEmbeds(TypedDict, total=False):
    """WANVIDIMAGE_EMBEDS; the keys are the real nodes'."""

    multitalk_sampling: bool
    multitalk_start_image: torch.Tensor | None
    multitalk_mode: str
    frame_window_size: int
    motion_frame: int
    num_frames: int
    target_h: int
    target_w: int
    output_path: str
    extra_latents: list[ExtraLatent]
    settings: dict[str, object]


@dataclass(frozen=True)
class Windows:
    """How the loop cuts `frames` frames of audio into windows that overlap."""

    frames: int
    size: int
    overlap: int

    @property
    def new(self) -> int:
        return self.size - self.overlap

    @property
    def count(self) -> int:
        if self.frames <= self.size:
            return 1
        return 1 + math.ceil((self.frames - self.size) / self.new)

    @property
    def estimated(self) -> int:
        # The real loop announces its progress by this formula, which at times is one too many.
        return 1 if self.frames <= self.size else self.frames // self.new + 1

    def until(self, window: int) -> int:
        """Frames there are when `window`, counted from 0, is done."""
        return self.size + self.new * window

    def window_of(self, frame: int) -> int:
        return 0 if frame < self.size else 1 + (frame - self.size) // self.new


def embed_for_windows(
    *,
    width: int,
    height: int,
    frame_window_size: int,
    motion_frame: int,
    start_image: torch.Tensor | None = None,
    mode: str = "multitalk",
    output_path: str = "",
    **settings: object,
) -> Outputs:
    folder = _dated_folder(output_path, mode) if output_path else ""
    embeds = ImageEmbeds(
        multitalk_sampling=True,
        multitalk_start_image=stretched(start_image, width, height),
        multitalk_mode=mode,
        frame_window_size=_whole_latents(frame_window_size),
        motion_frame=motion_frame,
        target_h=height,
        target_w=width,
        output_path=folder,
        settings=settings,
    )
    return (embeds, folder)


def embed_for_one_window(
    width: int,
    height: int,
    num_frames: int,
    start_image: torch.Tensor | None = None,
    **settings: object,
) -> Outputs:
    length = _whole_latents(num_frames)
    count_to((length + 3) // 4)  # latents of the VAE
    embeds = ImageEmbeds(
        multitalk_start_image=stretched(start_image, width, height),
        num_frames=length,
        target_h=height,
        target_w=width,
        settings=settings,
    )
    return (embeds,)


def add_extra_latent(embeds: ImageEmbeds, extra_latents: Samples, latent_index: int) -> Outputs:
    samples = extra_latents["samples"]
    pixels = samples.paint() if isinstance(samples, SampledFrames) else samples
    entry = ExtraLatent(samples=pixels, index=latent_index)
    return ({**embeds, "extra_latents": [*embeds.get("extra_latents", []), entry]},)


def encode(image: torch.Tensor, mask: torch.Tensor | None = None, **_: object) -> Outputs:
    height, width = (size // 16 * 16 for size in image.shape[1:3])
    return (Samples(samples=_resized(image[..., :3], width, height), noise_mask=mask),)


def sample(
    *,
    model: dict[str, object],
    image_embeds: ImageEmbeds,
    steps: int,
    seed: int,
    scheduler: str,
    multitalk_embeds: MultiTalkEmbeds | None = None,
    samples: Samples | None = None,
    denoise_strength: float = 1.0,
    start_step: int = 0,
    end_step: int = -1,
    **_: object,
) -> Outputs:
    if denoise_strength < 1.0:
        if start_step != 0:
            raise ValueError("start_step must be 0 when denoise_strength is used")
        start_step = steps - int(steps * denoise_strength) - 1
    control.tell_seed(seed)
    count_to(MODEL_TENSORS)  # it takes the weights to the GPU, each time
    count = steps_to_run(scheduler, steps, start_step, end_step)
    check_masks(multitalk_embeds)
    check_model(model)
    black = control.is_black(model.get("attention_mode"))
    if "multitalk_sampling" in image_embeds:
        embeds = with_mode(image_embeds, model)
        return _sample_windows(embeds, multitalk_embeds, samples, seed, count, black=black)
    length = image_embeds["num_frames"]
    frames = picture(image_embeds, multitalk_embeds, samples, count=length, seed=seed)
    frames = replace(frames, black=black)
    run_steps(0, count, count)
    return (Samples(samples=frames), Samples(samples=frames))


def with_mode(image_embeds: ImageEmbeds, model: dict[str, object]) -> ImageEmbeds:
    """Mode "auto" is decided by the talk model's file name."""
    if image_embeds["multitalk_mode"] != "auto":
        return image_embeds
    is_infinite = "infinite" in str(model.get("multitalk_model")).lower()
    return {**image_embeds, "multitalk_mode": "infinitetalk" if is_infinite else "multitalk"}


def _sample_windows(
    image_embeds: ImageEmbeds,
    speech: MultiTalkEmbeds | None,
    samples: Samples | None,
    seed: int,
    steps: int,
    *,
    black: bool,
) -> Outputs:
    if speech is None:
        raise TypeError("'NoneType' object is not subscriptable")
    windows = Windows(
        len(speech["audio_features"][0]),
        image_embeds["frame_window_size"],
        image_embeds["motion_frame"],
    )
    length = windows.until(windows.count - 1)
    frames = picture(image_embeds, speech, samples, count=length, seed=seed, windows=windows)
    frames = replace(frames, black=black)
    folder = image_embeds["output_path"]
    for window in range(windows.count):
        run_steps(window * steps, (window + 1) * steps, windows.estimated * steps)
        if folder:
            done = windows.until(window - 1) if window else 0
            save_pngs(frames.paint(done, windows.until(window)), Path(folder), done)
    video = torch.zeros(1, 64, 64, 3) if folder else frames
    # The loop returns one output, whatever the schema says.
    return (Samples(video=video, output_path=folder),)


def count_to(total: int) -> None:
    """Progress that is not of the steps, as the real pack sends it: up one by one, and back to 0.

    Where ComfyUI leaves out events, the pack sees to it that the last one is sent.
    """
    progress = ProgressBar(total)
    for _ in range(total):
        progress.update(1)
    if hasattr(progress, "_last_sent_value"):
        progress._last_sent_value = -1
    progress.update_absolute(0)


def run_steps(first: int, stop: int, total: int) -> None:
    """The sampler's time, its progress, also in ComfyUI's log, and its faults."""
    progress = ProgressBar(total)
    for step in tqdm(range(first, stop)):
        throw_exception_if_processing_interrupted()
        control.trip("WanVideoSampler", step)
        time.sleep(control.step_seconds())
        progress.update_absolute(step + 1, total)


def steps_to_run(scheduler: str, steps: int, start_step: int, end_step: int) -> int:
    """Steps of one window; ValueError where the real schedulers refuse."""
    if scheduler == "flowmatch_distill" and steps != 4:
        raise ValueError("This scheduler is only for 4 steps")
    if scheduler == "flowmatch_causvid":
        steps = min(steps, CAUSVID_STEPS)
    if scheduler == "multitalk":
        return FIXED_STEPS[scheduler]
    steps = FIXED_STEPS.get(scheduler, steps)
    last = steps if end_step == -1 else min(steps, end_step)
    if start_step >= last:
        raise ValueError("start_step must be less than end_step")
    return last - start_step


def check_model(model: dict[str, object]) -> None:
    """What the real sampler refuses of a model, with its own exceptions."""
    if model.get("lora") and "fast" in str(model.get("quantization")):
        raise NotImplementedError("FP8 matmul with unmerged LoRAs is not supported")
    if model.get("attention_mode") == "comfy" and model.get("multitalk_model"):
        raise RuntimeError("shape '[21, -1, 16384]' is invalid for input of size 786432")


def check_masks(speech: MultiTalkEmbeds | None) -> None:
    """The real model's demands on the masks, with its own exceptions."""
    speakers = len(speech["audio_features"]) if speech else 0
    if speech is None or speakers < 2:
        return
    masks = speech["ref_target_masks"]
    if masks is None:
        raise AttributeError("'NoneType' object has no attribute 'max'")
    if len(masks) not in (speakers, speakers + 1):
        raise IndexError(f"{len(masks)} masks do not fit {speakers} speakers")


def picture(
    image_embeds: ImageEmbeds,
    speech: MultiTalkEmbeds | None,
    samples: Samples | None,
    *,
    count: int,
    seed: int,
    windows: Windows | None = None,
) -> SampledFrames:
    """What the frames will show: with `samples` frame by frame, else a reference per window."""
    width, height = image_embeds["target_w"], image_embeds["target_h"]
    openings = _openings(speech, count)
    masks = speech["ref_target_masks"] if speech else None
    pictures, shown = _pictures(image_embeds, samples, count, windows)
    extra = image_embeds.get("extra_latents")
    return SampledFrames(
        pictures=pictures,
        shown=shown,
        openings=openings,
        mouths=mouth_places(masks, len(openings), width, height),
        seed=seed,
        lead=_resized(_pixels(extra[0]["samples"]), width, height) if extra else None,
    )


def _pictures(
    image_embeds: ImageEmbeds, samples: Samples | None, count: int, windows: Windows | None
) -> tuple[torch.Tensor, list[int]]:
    width, height = image_embeds["target_w"], image_embeds["target_h"]
    if samples is not None:
        latents = samples["samples"]
        pixels = latents.paint() if isinstance(latents, SampledFrames) else latents
        pictures = _resized(pixels, width, height)
        return pictures, [min(t, len(pictures) - 1) for t in range(count)]
    start = image_embeds.get("multitalk_start_image")
    pictures = torch.zeros(1, height, width, 3) if start is None else start
    if windows is None or image_embeds["multitalk_mode"] == "multitalk":
        return pictures, [0] * count
    return pictures, [min(windows.window_of(t), len(pictures) - 1) for t in range(count)]


def _openings(speech: MultiTalkEmbeds | None, count: int) -> torch.Tensor:
    if speech is None:
        return torch.zeros(0, count)
    openings = torch.zeros(len(speech["audio_features"]), count)
    # As the real sampler reads them: each frame with two on either side, held at the ends.
    centres = torch.arange(count)[:, None] + torch.arange(-2, 3)
    for row, feature in zip(openings, speech["audio_features"], strict=True):
        heard = feature[centres.clamp(0, feature.shape[0] - 1)][:, 2, 0, 0]
        row[:] = heard * (centres[:, 2] < feature.shape[0]) * speech["audio_scale"]
    return openings


def _pixels(latents: torch.Tensor) -> torch.Tensor:
    """[1, 3, T, H, W] in -1..1, as our own nodes encode, as [T, H, W, 3] in 0..1."""
    return latents[0].permute(1, 2, 3, 0) / 2 + 0.5 if latents.dim() == 5 else latents


def pass_images(samples: Samples) -> Outputs:
    return (_painted(samples["video"]), samples.get("output_path", ""))


def decode(samples: Samples, **_: object) -> Outputs:
    return (_painted(samples["video"] if "video" in samples else samples["samples"]),)


def check_tiles(tile_x: int, tile_y: int, tile_stride_x: int, tile_stride_y: int) -> bool | str:
    if tile_x <= tile_stride_x:
        return "Tile width must be larger than the tile stride width."
    if tile_y <= tile_stride_y:
        return "Tile height must be larger than the tile stride height."
    return True


def stretched(images: torch.Tensor | None, width: int, height: int) -> torch.Tensor | None:
    """The real node stretches the start image to the size asked, whatever its aspect."""
    return None if images is None else _resized(images[..., :3], width, height)


def _resized(images: torch.Tensor, width: int, height: int) -> torch.Tensor:
    if images.shape[1:3] == (height, width):
        return images
    resized: torch.Tensor = common_upscale(
        images.movedim(-1, 1), width, height, "lanczos", "disabled"
    )
    return resized.movedim(1, -1)


def _painted(frames: torch.Tensor | SampledFrames) -> torch.Tensor:
    return frames.paint() if isinstance(frames, SampledFrames) else frames


def _whole_latents(frames: int) -> int:
    return (frames - 1) // 4 * 4 + 1


def _dated_folder(output_path: str, mode: str) -> str:
    folder = Path(output_path) / f"{datetime.now():%Y%m%d_%H%M%S}_{mode}_output"
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


BEHAVIOURS = {
    "WanVideoAddExtraLatent": Behaviour(add_extra_latent),
    "WanVideoDecode": Behaviour(decode, validate=check_tiles),
    "WanVideoEncode": Behaviour(encode),
    "WanVideoImageToVideoEncode": Behaviour(embed_for_one_window),
    "WanVideoImageToVideoMultiTalk": Behaviour(embed_for_windows),
    "WanVideoPassImagesFromSamples": Behaviour(pass_images),
    "WanVideoSampler": Behaviour(sample),
}
