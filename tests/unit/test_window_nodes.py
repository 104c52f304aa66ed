"""What the window nodes compute, without ComfyUI."""

from __future__ import annotations

import pytest
import torch
from talkinghead_windows.audio import CONTEXT, window_features
from talkinghead_windows.colour import with_colours_of
from talkinghead_windows.sound import frames_of, together
from talkinghead_windows.weights import in_place

VOICE = torch.arange(200.0)[:, None]  # frame n says n
SILENCE = torch.full((90, 1), -1.0)


def heard(voice: torch.Tensor, start: int, frames: int) -> list[list[float]]:
    """What the sampler reads for each frame: it asks by an index that is clamped at both ends."""
    features = window_features(voice, start, frames, SILENCE)
    assert features.shape == (frames, 1)
    centres = torch.arange(frames)[:, None] + torch.arange(-CONTEXT, CONTEXT + 1)
    cut = features[centres.clamp(0, frames - 1)]
    return [[float(value) for value in row] for row in cut[..., 0]]


def test_a_window_hears_its_neighbours_beyond_its_ends() -> None:
    frames = heard(VOICE, 72, 81)
    assert frames[0] == [70, 71, 72, 73, 74]
    assert frames[80] == [150, 151, 152, 153, 154]


def test_before_the_first_frame_the_first_is_held() -> None:
    assert heard(VOICE, 0, 81)[0] == [0, 0, 0, 1, 2]


def test_after_the_voice_there_is_silence() -> None:
    frames = heard(VOICE, 144, 81)
    assert frames[55] == [197, 198, 199, -1, -1]
    assert frames[80] == [-1] * 5


def test_a_voice_shorter_than_the_first_window_is_held() -> None:
    assert heard(VOICE[:50], 0, 81)[80] == [49] * 5


def test_features_move_to_a_device_and_a_precision() -> None:
    moved = window_features(VOICE, 0, 9, SILENCE).to(torch.device("cpu"), torch.float16)
    assert moved[torch.zeros(9, 5, dtype=torch.long)].dtype == torch.float16


def test_colours_become_those_of_the_reference_for_all_frames_alike() -> None:
    torch.manual_seed(1)
    reference = torch.rand(1, 32, 32, 3) * 0.4 + 0.3
    drifted = (reference * torch.tensor([0.8, 1.0, 1.1]) + 0.05).repeat(4, 1, 1, 1)
    drifted[1:] += 0.01 * torch.rand(3, 32, 32, 3)
    matched = with_colours_of(reference, drifted)
    assert torch.allclose(matched.mean((0, 1, 2)), reference.mean((0, 1, 2)), atol=2e-3)
    assert torch.allclose(matched[0], reference[0], atol=0.02)
    gains = (matched - matched[:1]) / (drifted - drifted[:1]).where(drifted != drifted[:1], 1)
    assert float(gains[1:].std((0, 1, 2)).max()) < 1e-3


def test_a_picture_without_contrast_stays_finite() -> None:
    flat = torch.full((2, 8, 8, 3), 0.5)
    assert torch.isfinite(with_colours_of(torch.rand(1, 8, 8, 3), flat)).all()


def transformer(*devices: str, patched_linear: bool) -> torch.nn.Module:
    """Two blocks and a head, as the sampler has them on the GPU: here, "meta" is the GPU."""
    first, second, head = (torch.nn.Linear(2, 2, device=device) for device in devices)
    module = torch.nn.Module()
    module.blocks = torch.nn.ModuleList([first, second])
    module.head = head
    vars(module).update(patched_linear=patched_linear)  # as any attribute: no tensor
    return module


class Patcher:
    """What in_place reads of a ModelPatcher."""

    def __init__(
        self,
        *devices: str,
        swap: int = 0,
        patches: int = 1,
        patched_linear: bool = True,
        **pipeline: object,
    ) -> None:
        self.model = Pipeline(sd={}, gguf_reader=None, auto_cpu_offload=False)
        self.model.update(pipeline)
        self.model.diffusion_model = transformer(*devices, patched_linear=patched_linear)
        self.model_options = {"transformer_options": {"block_swap_args": {"blocks_to_swap": swap}}}
        self.patches = dict.fromkeys(range(patches))


class Pipeline(dict[str, object]):
    """The model, which is asked for its settings by name."""

    diffusion_model: torch.nn.Module


@pytest.mark.parametrize(
    ("patcher", "expected"),
    [
        (Patcher("meta", "meta", "meta"), True),
        (Patcher("meta", "cpu", "meta", swap=1), True),
        (Patcher("cpu", "cpu", "cpu"), False),  # taken off the GPU
        (Patcher("meta", "meta", "meta", swap=1), False),  # another swap than before
        (Patcher("meta", "cpu", "meta"), False),
        (Patcher("meta", "meta", "meta", swap=1, patched_linear=False, patches=0), True),
        (Patcher("meta", "meta", "meta", patched_linear=False), False),  # its first LoRA
        (Patcher("meta", "meta", "meta", gguf_reader=[]), False),
        (Patcher("meta", "meta", "meta", auto_cpu_offload=True), False),
        (Patcher("meta", "meta", "meta", sd=None), False),  # there is no file to leave out
    ],
)
def test_weights_stay_only_where_the_sampler_would_bring_them(
    patcher: Patcher, expected: bool
) -> None:
    assert in_place(patcher, torch.device("meta"), torch.device("cpu")) is expected


def test_one_voice_is_the_sound_as_it_is() -> None:
    voice = torch.rand(2, 480)
    samples, rate = together([(voice, 48_000)])
    assert samples is voice and rate == 48_000


def test_several_voices_are_heard_at_once_and_not_too_loud() -> None:
    samples, rate = together([(torch.full((2, 800), 0.8), 8_000), (torch.ones(1, 1_600), 16_000)])
    assert rate == 16_000 and samples.shape == (1, 1_600)
    assert float(samples.abs().max()) == 1
    short, _ = together([(torch.full((1, 100), 0.5), 8_000), (torch.full((1, 200), 0.25), 8_000)])
    assert short[0, :100].tolist() == [0.75] * 100 and short[0, 100:].tolist() == [0.25] * 100


@pytest.mark.parametrize(
    ("samples", "rate", "fps", "frames"),
    [
        (18_560, 16_000, 25, 29),
        (48_001, 48_000, 25, 26),
        (3, 48_000, 25, 1),
        (0, 48_000, 25, 1),
        (48_048, 48_000, 29.97, 30),
    ],
)
def test_a_video_is_as_many_frames_as_its_sound_lasts(
    samples: int, rate: int, fps: float, frames: int
) -> None:
    assert frames_of((torch.zeros(1, samples), rate), fps) == frames
