"""Which of a plan's values goes into which titled node of its template. Pure.

A slot is a place in a template that a plan fills: a node's title and the name of a widget. The
code knows titles only; node ids and the rest of the layout are the template's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from talkinghead.plan.plan import Plan
from talkinghead.plan.windows import Window, prompt_of
from talkinghead.workflow.schemas import Value

MAX_SPEAKERS = 4
ALL_FRAMES = 4096  # as many as ImageFromBatch takes
FRAME_FOLDER = "Frame folder"  # the node that says where the frames are

MutableSlots = dict[str, dict[str, Value] | None]
Slots = Mapping[str, Mapping[str, Value] | None]  # title -> widget -> value; None removes the node


@dataclass(frozen=True)
class Inputs:
    """A job's files as ComfyUI knows them, and the prefix of what it shall write.

    `picture` is a picture, or the video of source frames. With a `frames_folder`, an absolute path
    on ComfyUI's disk, the frames are written there, and no video is made.
    """

    picture: str
    speech: tuple[str, ...]
    sound: str
    masks: str | None
    output_prefix: str
    frames_folder: str | None = None


@dataclass(frozen=True)
class WindowInputs:
    """One window's files, as ComfyUI knows them.

    `picture` is the first frame of the whole render and `reference` that of the window; `speech`
    is of the window's stretch, `motion` what the window before left.
    """

    picture: str
    reference: str
    speech: tuple[str, ...]
    masks: str | None
    motion: str | None
    output_prefix: str


def window_slots(plan: Plan, window: Window, inputs: WindowInputs) -> Slots:
    """What the plan puts into the template of one window, models apart."""
    size: dict[str, Value] = _render_size(plan)
    tiles: dict[str, Value] = {"tiled_vae": plan.tiled_vae}
    slots: MutableSlots = _people_slots(plan, inputs.speech, inputs.masks)
    slots |= _sampler_slots(plan, window.stretch.frames, window.seed)
    slots |= {
        "Prompt": {"text": prompt_of(plan, window)},
        "Portrait": {"image": inputs.picture},
        "Resize portrait": size,
        "Reference": {"image": inputs.reference},
        "Resize reference": size,
        "Talking image": {**size, **tiles, "num_frames": plan.window_frames},
        "Motion before": {"latent": inputs.motion} if inputs.motion else None,
        "Continue": tiles,
        "Window audio": {
            "start": window.start - window.stretch.first,
            "frames": plan.window_frames,
        },
        "Frames": {
            **tiles,
            "motion_frames": plan.model.motion_frames,
            "match_colours": plan.request.color_match,
        },
        "New frames": {"split_index": window.repeated},
        "Cut to length": {"split_index": window.new},
        "Crop to size": _crop(plan),
        "Video": {
            "filename_prefix": f"{inputs.output_prefix}/segment",
            "frame_rate": plan.fps,
            "crf": plan.crf,
        },
        "Motion after": {"filename_prefix": f"{inputs.output_prefix}/motion"},
    }
    return slots


def slots_of(plan: Plan, inputs: Inputs) -> Slots:
    """What the plan puts into its template, models apart."""
    slots: MutableSlots = {"Sound": {"audio": inputs.sound}}
    slots |= _picture_slots(plan, inputs)
    slots |= _people_slots(plan, inputs.speech, inputs.masks)
    slots |= _draft_slots(plan) if plan.request.draft else _talking_slots(plan)
    encoding: dict[str, Value] = (
        {} if plan.request.draft else {"frame_rate": plan.fps, "crf": plan.crf}
    )
    slots["Video"] = {"filename_prefix": inputs.output_prefix, **encoding}
    return slots | _frames_slots(plan, inputs, slots)


def _picture_slots(plan: Plan, inputs: Inputs) -> MutableSlots:
    size = _render_size(plan)
    if plan.source is None:
        return {"Portrait": {"image": inputs.picture}, "Resize portrait": size}
    if plan.request.draft:
        return {"Source video": {"file": inputs.picture}}
    # The frames that are used, and no others, are in the file.
    loader = {f"custom_{side}": size[side] for side in size}
    return {"Source video": {"video": inputs.picture, "select_every_nth": 1, **loader}}


def _render_size(plan: Plan) -> dict[str, Value]:
    return {"width": plan.framing.render_width, "height": plan.framing.render_height}


def _people_slots(plan: Plan, speech: Sequence[str], masks: str | None) -> MutableSlots:
    """Those who are there, switched on; the others, and masks that nobody needs, taken out."""
    slots: MutableSlots = {f"Speaker {number} audio": None for number in range(1, MAX_SPEAKERS + 1)}
    for number, track in enumerate(speech, 1):
        slots[f"Speaker {number} audio"] = {"audio": track}
    slots["Speaker masks"] = {"image": masks} if masks else None
    slots["Masks"] = {} if masks else None
    if plan.template == "draft_i2v":
        slots["Crop masks"] = _crop(plan) if masks else None
    return slots


def _crop(plan: Plan) -> dict[str, Value]:
    """From the middle of the rendered frame, what is delivered."""
    left, top, _, _ = plan.delivered_box
    return {"width": plan.width, "height": plan.height, "x": left, "y": top}


def _draft_slots(plan: Plan) -> MutableSlots:
    crop: MutableSlots = {} if plan.source else {"Crop to size": _crop(plan)}
    return crop | {"Draft": {"num_frames": plan.frames, "fps": plan.fps, "seed": plan.seed}}


def _talking_slots(plan: Plan) -> MutableSlots:
    source: MutableSlots = _source_slots(plan) if plan.source else {}
    slots: MutableSlots = {
        "Prompt": {"text": plan.request.prompt},
        "Talking image": {
            **_render_size(plan),
            "frame_window_size": plan.window_frames,
            "motion_frame": plan.model.motion_frames,
            "mode": plan.request.mode,
            "tiled_vae": plan.tiled_vae,
        },
        "Cut to length": {"split_index": plan.frames},
        "Crop to size": _crop(plan),
    }
    return source | slots | _sampler_slots(plan, plan.frames, plan.seed)


def _sampler_slots(plan: Plan, heard_frames: int, seed: int) -> MutableSlots:
    """What a whole render and a window have in common; `heard_frames` of sound lie ready."""
    sampling = plan.sampling
    # The template has a negative prompt of its own.
    asked = plan.request.negative_prompt
    negative: dict[str, Value] = {"text": asked} if asked else {}
    return {
        "Speed LoRA": {"strength": plan.request.speed_lora_strength},
        "Block swap": {"blocks_to_swap": plan.blocks_to_swap},
        "Negative prompt": negative,
        "Audio embeds": {
            # One more than needed: the node rounds the cut of its audio down, and would lose the
            # last frame of about one length in seventeen.
            "num_frames": heard_frames + 1,
            "fps": plan.fps,
            "audio_scale": sampling.audio_scale,
            "audio_cfg_scale": sampling.audio_cfg,
        },
        "Sampler": {
            "steps": sampling.steps,
            "start_step": sampling.start_step,
            "cfg": sampling.cfg,
            "shift": sampling.shift,
            "seed": seed,
            "scheduler": sampling.scheduler,
            "add_noise_to_samples": plan.video_method == "denoise",
        },
    }


def _frames_slots(plan: Plan, inputs: Inputs, slots: MutableSlots) -> MutableSlots:
    """The frames to disk, and without what makes a video of them; or no folder of frames."""
    if inputs.frames_folder is None:
        return {FRAME_FOLDER: None} if plan.template == "infinitetalk_i2v" else {}
    image = {**(slots["Talking image"] or {}), "output_path": inputs.frames_folder}
    video = ("Cut to length", "Crop to size", "Video", "Sound")
    return {"Talking image": image, FRAME_FOLDER: {}, **dict.fromkeys(video)}


def _source_slots(plan: Plan) -> MutableSlots:
    """Keyframes: window i is guided by frame i. Denoise: by the first, and starts from the clip."""
    if plan.video_method == "keyframes":
        return {"Reference frames": {"length": ALL_FRAMES}, "Encode source": None}
    return {"Reference frames": {"length": 1}, "Encode source": {}}
