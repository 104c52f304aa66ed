"""MultiTalkWav2VecEmbeds: the checks and the arithmetic of the real node, loudness for features."""

from typing import TypedDict

import torch
import torchaudio

from .schemas import Behaviour, Outputs

SAMPLE_RATE = 16000
LOUDNESS_BLOCK_SAMPLES = 6400  # 0.4 s, the shortest clip the real loudness meter takes


class Audio(TypedDict):
    """ComfyUI's AUDIO: waveform [batch, channels, samples]."""

    waveform: torch.Tensor
    sample_rate: int


class MultiTalkEmbeds(TypedDict):
    """The real node's keys. A feature is [frames, 1, 1]: the loudness of the frame, 0 to 1."""

    audio_features: list[torch.Tensor]
    audio_scale: float
    audio_cfg_scale: float
    ref_target_masks: torch.Tensor | None


def embed(
    *,
    audio_1: Audio,
    normalize_loudness: bool,
    num_frames: int,
    fps: float,
    audio_scale: float,
    audio_cfg_scale: float,
    multi_audio_type: str,
    audio_2: Audio | None = None,
    audio_3: Audio | None = None,
    audio_4: Audio | None = None,
    ref_target_masks: torch.Tensor | None = None,
    **_: object,
) -> Outputs:
    speakers = [audio for audio in (audio_1, audio_2, audio_3, audio_4) if audio is not None]
    voices = [_voice(audio, num_frames / fps, normalize_loudness) for audio in speakers]
    features = [_loudness(voice, int(len(voice) / SAMPLE_RATE * fps)) for voice in voices]
    arrange = _one_after_another if multi_audio_type == "add" else _together
    mixed = torch.stack(arrange(voices)).sum(dim=0)
    embeds = MultiTalkEmbeds(
        audio_features=arrange(features),
        audio_scale=audio_scale,
        audio_cfg_scale=audio_cfg_scale,
        ref_target_masks=ref_target_masks,
    )
    usable = min(num_frames, int(len(mixed) / SAMPLE_RATE * fps))
    return (embeds, Audio(waveform=mixed[None, None], sample_rate=SAMPLE_RATE), usable)


def embed_silence(num_frames: int) -> Outputs:
    silence = MultiTalkEmbeds(
        audio_features=[torch.zeros(num_frames, 1, 1)],
        audio_scale=1.0,
        audio_cfg_scale=1.0,
        ref_target_masks=None,
    )
    return (silence,)


def _voice(audio: Audio, seconds: float, normalize: bool) -> torch.Tensor:
    waveform = audio["waveform"]
    if audio["sample_rate"] != SAMPLE_RATE:
        waveform = torchaudio.functional.resample(waveform, audio["sample_rate"], SAMPLE_RATE)
    left = waveform[0][0][: int(seconds * SAMPLE_RATE)]
    if normalize and len(left) < LOUDNESS_BLOCK_SAMPLES:
        raise ValueError("Audio must have length greater than the block size.")
    return left


def _loudness(voice: torch.Tensor, frames: int) -> torch.Tensor:
    if frames == 0:
        return torch.zeros(0, 1, 1)
    blocks = voice[: len(voice) // frames * frames].reshape(frames, -1)
    return (blocks.square().mean(dim=1).sqrt() * 4).clamp(0, 1)[:, None, None]


def _together(parts: list[torch.Tensor]) -> list[torch.Tensor]:
    longest = max(len(part) for part in parts)
    return [_placed(part, 0, longest) for part in parts]


def _one_after_another(parts: list[torch.Tensor]) -> list[torch.Tensor]:
    starts = [sum(len(earlier) for earlier in parts[:i]) for i in range(len(parts))]
    total = sum(len(part) for part in parts)
    return [_placed(part, start, total) for part, start in zip(parts, starts, strict=True)]


def _placed(part: torch.Tensor, start: int, length: int) -> torch.Tensor:
    whole = torch.zeros(length, *part.shape[1:], dtype=part.dtype)
    whole[start : start + len(part)] = part
    return whole


BEHAVIOURS = {
    "MultiTalkWav2VecEmbeds": Behaviour(embed),
    "MultiTalkSilentEmbeds": Behaviour(embed_silence),
}
