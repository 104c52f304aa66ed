"""Model files of full size with random weights, made on the GPU and written as they are made.

Names and shapes are those of scripts/make-tiny-models, with other widths; the formats are those of
the files that the profiles name: fp16, scaled fp8, and GGUF in Q4_K and Q8_0. What they render is
noise: only how long it takes, and how much memory, is that of the real ones.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, Literal

import torch

from talkinghead.settings import PROJECT_DIR

GENERATOR = PROJECT_DIR / "scripts" / "make-tiny-models"
ALIGNMENT = 32
F32, F16, Q8_0, Q4_K = 0, 1, 8, 12  # GGUF's numbers of its types
Q8_0_BLOCK, Q4_K_BLOCK = 32, 256  # weights
# A Q4_K block whose eight scales and minima are all 32: w = d * 32 * q - dmin * 32, q of 0 to 15.
Q4_K_SCALES = [0xA0] * 8 + [0] * 4
Q4_K_SPREAD = 32 * 4.61  # of q, over the blocks' d
Q8_0_SPREAD = 73.9  # of -128 to 127

FP8_DEVIATION = 50.0  # its numbers end at 448, and beyond are none

Format = Literal["F32", "F16", "F8_E4M3"]
TORCH = {"F32": torch.float32, "F16": torch.float16, "F8_E4M3": torch.float8_e4m3fn}


@dataclass(frozen=True)
class Spec:
    """A tensor that is to be made: all `value`, or if that is None normal with this deviation."""

    shape: tuple[int, ...]
    value: float | None = None
    deviation: float = 1.0

    @property
    def count(self) -> int:
        """Of its numbers."""
        return math.prod(self.shape)

    @property
    def is_matrix(self) -> bool:
        """Whether it is the weight of a linear layer, and not of a norm."""
        return len(self.shape) == 2 and self.value is None

    def astype(self, dtype: object) -> Spec:
        """Itself: the format of the file decides."""
        return self

    def make(self, device: str) -> torch.Tensor:
        """The tensor, in 32 bits."""
        if self.value is not None:
            return torch.full(self.shape, self.value, device=device)
        return torch.randn(self.shape, device=device) * self.deviation


Specs = Mapping[str, Spec]


def layout(model: str, **widths: object) -> Specs:
    """The tensors of a model of the generator's, `base_model` say, with its constants so."""
    loader = importlib.machinery.SourceFileLoader("lab_layout", str(GENERATOR))
    spec = importlib.util.spec_from_loader("lab_layout", loader)
    assert spec is not None
    sizes = importlib.util.module_from_spec(spec)
    loader.exec_module(sizes)
    for name, value in widths.items():
        getattr(sizes, name)  # of that name
        setattr(sizes, name, value)
    sizes.Weights = _collector(sizes)  # type: ignore[attr-defined]
    made: Specs = getattr(sizes, model)()
    return made


def _collector(sizes: ModuleType) -> type:
    """The generator's class that collects weights, but that none is made."""

    class Collector(sizes.Weights):  # type: ignore[misc, name-defined]
        def normal(self, name: str, *shape: int, scale: float = 1.0) -> None:
            deviation = scale / math.sqrt(math.prod(shape[1:]))
            self.tensors[name] = Spec(shape, deviation=deviation)

        def ones(self, name: str, *shape: int) -> None:
            self.tensors[name] = Spec(shape, value=1.0)

        def zeros(self, name: str, *shape: int) -> None:
            self.tensors[name] = Spec(shape, value=0.0)

    return Collector


# ---- safetensors


def write_safetensors(path: Path, specs: Specs, *, fp8: bool, device: str) -> None:
    """Write the tensors in fp16; with `fp8` the blocks' matrices in it, with a scale for each."""
    entries = [*_entries(specs, fp8=fp8)]
    header: dict[str, object] = {}
    offset = 0
    for name, spec, kind in entries:
        size = spec.count * TORCH[kind].itemsize
        span = [offset, offset + size]
        header[name] = {"dtype": kind, "shape": list(spec.shape), "data_offsets": span}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with _written(path) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, spec, kind in entries:
            _write(file, spec.make(device).to(TORCH[kind]))


def _entries(specs: Specs, *, fp8: bool) -> Iterator[tuple[str, Spec, Format]]:
    if fp8:
        yield "scaled_fp8", Spec((2,), value=0.0), "F8_E4M3"
    for name, spec in specs.items():
        if not (fp8 and spec.is_matrix and name.startswith("blocks.")):
            yield name, spec, "F16"
            continue
        # As large as fp8 has numbers for, and the scale takes it back.
        yield name, replace(spec, deviation=FP8_DEVIATION), "F8_E4M3"
        yield f"{name.removesuffix('weight')}scale_weight", _scale(spec), "F32"


def _scale(spec: Spec) -> Spec:
    return Spec((), value=spec.deviation / FP8_DEVIATION)


# ---- GGUF


def write_gguf(path: Path, specs: Specs, *, kind: int, device: str) -> None:
    """Write the tensors as GGUF: the blocks' matrices as `kind`, others in 32 bits."""
    entries, offset = bytearray(), 0
    kinds = {name: _kind(name, spec, kind) for name, spec in specs.items()}
    for name, spec in specs.items():
        shape = spec.shape or (1,)
        entries += _string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        entries += struct.pack("<IQ", kinds[name], offset)
        offset += _padded(_bytes(spec, kinds[name]))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(specs), 1)
    head += _string("general.architecture") + struct.pack("<I", 8) + _string("wan") + entries
    with _written(path) as file:
        file.write(head + bytes(-len(head) % ALIGNMENT))
        for name, spec in specs.items():
            _write(file, _quantized(spec, kinds[name], device))
            file.write(bytes(-_bytes(spec, kinds[name]) % ALIGNMENT))


def _kind(name: str, spec: Spec, kind: int) -> int:
    block = {Q8_0: Q8_0_BLOCK, Q4_K: Q4_K_BLOCK}[kind]
    fits = spec.is_matrix and name.startswith("blocks.") and spec.shape[1] % block == 0
    if fits:
        return kind
    # Narrow rows, as of the tiny models.
    return Q8_0 if spec.is_matrix and spec.shape[1] % Q8_0_BLOCK == 0 and "blocks." in name else F32


def _bytes(spec: Spec, kind: int) -> int:
    if kind == Q4_K:
        return spec.count // Q4_K_BLOCK * 144
    return spec.count // Q8_0_BLOCK * 34 if kind == Q8_0 else spec.count * 4


def _quantized(spec: Spec, kind: int, device: str) -> torch.Tensor:
    """The tensor's bytes."""
    if kind == F32:
        return spec.make(device)
    if kind == Q8_0:
        blocks = spec.count // Q8_0_BLOCK
        factors = _halves(spec.deviation / Q8_0_SPREAD, blocks, device)
        return torch.cat([factors, _random(blocks, Q8_0_BLOCK, device)], 1)
    blocks = spec.count // Q4_K_BLOCK
    d = spec.deviation / Q4_K_SPREAD
    scales = torch.tensor(Q4_K_SCALES, dtype=torch.uint8, device=device).expand(blocks, 12)
    halves = [_halves(d, blocks, device), _halves(7.5 * d, blocks, device)]
    return torch.cat([*halves, scales, _random(blocks, Q4_K_BLOCK // 2, device)], 1)


def _halves(value: float, count: int, device: str) -> torch.Tensor:
    whole = torch.full((count, 1), value, dtype=torch.float16, device=device)
    return whole.view(torch.uint8)


def _random(rows: int, width: int, device: str) -> torch.Tensor:
    return torch.randint(0, 256, (rows, width), dtype=torch.uint8, device=device)


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _padded(size: int) -> int:
    return size + -size % ALIGNMENT


# ---- Both


def _written(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")


def _write(file: BinaryIO, tensor: torch.Tensor) -> None:
    tensor.contiguous().reshape(-1).view(torch.uint8).cpu().numpy().tofile(file)


# ---- What a profile needs


@dataclass(frozen=True)
class Widths:
    """How large the models are: full, or the smallest that the loaders take."""

    base: Mapping[str, object]
    talk: Mapping[str, object]
    lora: Mapping[str, object]
    vae: Mapping[str, object]
    wav2vec: Mapping[str, object]


FULL_WIDTH = {"WIDTH": 5120, "BLOCKS": 40}
FULL = Widths(
    base={**FULL_WIDTH, "FFN_WIDTH": 13824, "FREE_WIDTH": 1280},
    talk={**FULL_WIDTH, "FREE_WIDTH": 512},
    lora={**FULL_WIDTH, "LORA_RANK": 64},
    vae={
        "ENCODER_STAGES": ((96, 96), (96, 192), (192, 384), (384, 384)),
        "DECODER_STAGES": ((384, 384), (192, 384), (192, 192), (96, 96)),
    },
    wav2vec={"FREE_WIDTH": 3072},
)
TINY = Widths({}, {}, {}, {}, {})


def lora_layout(widths: Mapping[str, object]) -> Specs:
    """The generator's LoRA, of the self attention, and the same of all other matrices."""
    specs = dict(layout("speed_lora", **widths))
    base = layout("base_model", **{**widths, "FFN_WIDTH": 13824})
    rank = next(iter(specs.values())).shape[0]
    for name, spec in base.items():
        if name.startswith("blocks.") and spec.is_matrix:
            outputs, inputs = spec.shape
            ours = f"diffusion_model.{name.removesuffix('.weight')}"
            down, up = (rank, inputs), (outputs, rank)
            specs[f"{ours}.lora_A.weight"] = Spec(down, deviation=0.1 / math.sqrt(inputs))
            specs[f"{ours}.lora_B.weight"] = Spec(up, deviation=0.1 / math.sqrt(rank))
    return specs


Writer = Callable[[Path, str], None]


def writers(widths: Widths) -> dict[str, Writer]:
    """How each file of the lab's profiles is written, by the name in the manifest."""

    def half(specs: Specs) -> Writer:
        return lambda path, device: write_safetensors(path, specs, fp8=False, device=device)

    def fp8(specs: Specs) -> Writer:
        return lambda path, device: write_safetensors(path, specs, fp8=True, device=device)

    def gguf(specs: Specs, kind: int) -> Writer:
        return lambda path, device: write_gguf(path, specs, kind=kind, device=device)

    base, talk = layout("base_model", **widths.base), layout("talk_model", **widths.talk)
    lora = lora_layout(widths.lora) if widths is FULL else layout("speed_lora")
    return {
        "wan2.1-i2v-14b-480p-Q4_K_M.gguf": gguf(base, Q4_K),
        "Wan2_1-I2V-14B-480p_fp8_e4m3fn_scaled_KJ.safetensors": fp8(base),
        "wan2.1_i2v_480p_scaled_fp8_e4m3_lightx2v_4step_comfyui.safetensors": fp8(base),
        "wan2.1_i2v_480p_14B_fp16.safetensors": half(base),
        "Wan2_1-InfiniteTalk_Single_Q8.gguf": gguf(talk, Q8_0),
        "Wan2_1-InfiniteTalk_Multi_Q8.gguf": gguf(talk, Q8_0),
        "Wan2_1-InfiniteTalk-Single_fp8_e4m3fn_scaled_KJ.safetensors": fp8(talk),
        "Wan2_1-InfiniteTalk-Multi_fp8_e4m3fn_scaled_KJ.safetensors": fp8(talk),
        "Wan2_1-InfiniTetalk-Single_fp16.safetensors": half(talk),
        "Wan2_1-InfiniteTalk-Multi_fp16.safetensors": half(talk),
        "lightx2v_I2V_14B_480p_cfg_step_distill_rank64_bf16.safetensors": half(lora),
        "wan_2.1_vae.safetensors": half(layout("vae", **widths.vae)),
        "tiny-t5-base.safetensors": half(layout("t5_base")),
        "wav2vec2-chinese-base_fp16.safetensors": half(layout("wav2vec2", **widths.wav2vec)),
        "clip_vision_h.safetensors": half(clip_vision()),
    }


def clip_vision() -> Specs:
    """CLIP's vision tower ViT-H/14: its size is the same in all, as ComfyUI knows it by it."""
    width, specs = 1280, dict[str, Spec]()

    def linear(name: str, outputs: int, inputs: int) -> None:
        specs[f"{name}.weight"] = Spec((outputs, inputs), deviation=1 / math.sqrt(inputs))
        specs[f"{name}.bias"] = Spec((outputs,), value=0.0)

    def norm(name: str) -> None:
        specs[f"{name}.weight"] = Spec((width,), value=1.0)
        specs[f"{name}.bias"] = Spec((width,), value=0.0)

    tower = "vision_model"
    specs[f"{tower}.embeddings.class_embedding"] = Spec((width,))
    specs[f"{tower}.embeddings.patch_embedding.weight"] = Spec((width, 3, 14, 14), deviation=0.04)
    specs[f"{tower}.embeddings.position_embedding.weight"] = Spec((257, width), deviation=0.1)
    norm(f"{tower}.pre_layrnorm")
    for number in range(32):
        layer = f"{tower}.encoder.layers.{number}"
        for each in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(f"{layer}.self_attn.{each}", width, width)
        norm(f"{layer}.layer_norm1")
        norm(f"{layer}.layer_norm2")
        linear(f"{layer}.mlp.fc1", 4 * width, width)
        linear(f"{layer}.mlp.fc2", width, 4 * width)
    norm(f"{tower}.post_layernorm")
    specs["visual_projection.weight"] = Spec((1024, width), deviation=0.03)
    return specs
