"""A program for ComfyUI's Python: whether this card computes something rightly, and quicker.

`probe_card.py attention DEVICE TOKENS` asks it of SageAttention, `probe_card.py fp8 DEVICE TOKENS
[WIDTH INNER]` of products of fp8; each prints what it found, as JSON. It stands alone: nothing of
the worker is in that Python. Kernels for another card import well, and fail when they run, or give
other numbers.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

HEADS, HEAD_WIDTH = 40, 128  # of Wan's 14B
WIDTH, INNER = 5120, 13_824  # of its feed-forward layers, its largest
LARGEST = 448.0  # that e4m3 holds
# Of the whole result. Attention quantised to 8 bits has 0.01 to 0.03; e4m3 has 3 bits, which make
# 0.02 to 0.03.
RELATIVE_ERROR = 0.05
TRIES = 3  # the first compiles the kernels


def attention(device: str, tokens: int) -> dict[str, object]:
    """How SageAttention compares with PyTorch's own attention."""
    if find_spec("sageattention") is None:
        return {"is_there": False, "error": 0.0, "times": 0.0, "is_good": False}
    import torch  # noqa: PLC0415
    from sageattention import sageattn  # type: ignore[import-not-found]  # noqa: PLC0415
    from torch.nn.functional import scaled_dot_product_attention  # noqa: PLC0415

    def qkv(precision: torch.dtype) -> list[torch.Tensor]:
        shape = (1, HEADS, tokens, HEAD_WIDTH)
        return [torch.randn(shape, device=device).to(precision) for _ in range(3)]

    def in_full(compute: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        return lambda *given: compute(*given).float()

    torch.manual_seed(0)
    return _compared(in_full(sageattn), in_full(scaled_dot_product_attention), qkv)


def fp8(device: str, tokens: int, width: int = WIDTH, inner: int = INNER) -> dict[str, object]:
    """How products of fp8 compare with the same weights multiplied in half precision.

    It multiplies as WanVideoWrapper's `_fast` quantizations do: the input is cut off at what e4m3
    holds, and rounded to it without a scale; the weights have one.
    """
    import torch  # noqa: PLC0415
    from torch.nn.functional import linear  # noqa: PLC0415

    torch.manual_seed(0)
    plain = torch.randn(inner, width, device=device) / width**0.5
    scale = plain.abs().max() / LARGEST
    weight = (plain / scale).to(torch.float8_e4m3fn)
    one = torch.ones((), device=device)

    def in_fp8(x: torch.Tensor) -> torch.Tensor:
        rounded = x.clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
        product: torch.Tensor = torch._scaled_mm(
            rounded, weight.t(), out_dtype=x.dtype, scale_a=one, scale_b=scale
        )
        return product

    def in_half(x: torch.Tensor) -> torch.Tensor:
        # As the nodes do it without `_fast`: the weights are brought to the input's precision.
        return linear(x * scale.to(x.dtype), weight.to(x.dtype))

    def inputs(precision: torch.dtype) -> list[torch.Tensor]:
        return [torch.randn(tokens, width, device=device).to(precision)]

    return _compared(in_fp8, in_half, inputs)


def _compared(
    theirs: Callable[..., torch.Tensor],
    ours: Callable[..., torch.Tensor],
    inputs: Callable[[torch.dtype], list[torch.Tensor]],
) -> dict[str, object]:
    """How one compares with the other, of inputs in each half precision: the worse of both."""
    import torch  # noqa: PLC0415

    errors, times = [], []
    for precision in (torch.float16, torch.bfloat16):
        given = inputs(precision)
        quick, found = _timed(theirs, given)
        plain, right = _timed(ours, given)
        errors.append(float((found - right).norm() / right.norm()))
        times.append(plain / quick)
    # Written so that a NaN is no agreement.
    is_good = all(each < RELATIVE_ERROR for each in errors) and min(times) > 1
    return {"is_there": True, "error": max(errors), "times": min(times), "is_good": is_good}


def _timed(
    compute: Callable[..., torch.Tensor], inputs: list[torch.Tensor]
) -> tuple[float, torch.Tensor]:
    """The least seconds of a few tries, and the result."""
    seconds = []
    for _ in range(TRIES):
        start = time.perf_counter()
        result = compute(*inputs)
        result.sum().item()  # waits for the card
        seconds.append(time.perf_counter() - start)
    return min(seconds), result.float()


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules are none of what is imported
    asked = {"attention": attention, "fp8": fp8}[sys.argv[1]]
    print(json.dumps(asked(sys.argv[2], *map(int, sys.argv[3:]))))
