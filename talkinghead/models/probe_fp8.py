"""A program for ComfyUI's Python: whether this card multiplies fp8 rightly, and quicker than fp16.

`probe_fp8.py DEVICE TOKENS [WIDTH INNER]` prints what it found, as JSON. It multiplies as
WanVideoWrapper's `_fast` quantizations do: the input is cut off at what e4m3 holds, and rounded to
it without a scale; the weights have one. It stands alone: nothing of the worker is in that Python.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

WIDTH, INNER = 5120, 13_824  # of the feed-forward layers of Wan's 14B, its largest
LARGEST = 448.0  # that e4m3 holds
RELATIVE_ERROR = 0.05  # of the whole result; e4m3 has 3 bits, which make 0.02 to 0.03 of it
TRIES = 3


def main(device: str, tokens: int, width: int = WIDTH, inner: int = INNER) -> dict[str, object]:
    """How it compares with the same weights multiplied in half precision: the worse of both."""
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

    def timed(
        multiply: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor
    ) -> tuple[float, torch.Tensor]:
        seconds = []
        for _ in range(TRIES):
            start = time.perf_counter()
            result = multiply(x)
            result.sum().item()  # waits for the card
            seconds.append(time.perf_counter() - start)
        return min(seconds), result.float()

    errors, times = [], []
    for precision in (torch.float16, torch.bfloat16):
        x = torch.randn(tokens, width, device=device).to(precision)
        theirs, found = timed(in_fp8, x)
        ours, right = timed(in_half, x)
        errors.append(float((found - right).norm() / right.norm()))
        times.append(ours / theirs)
    # Written so that a NaN is no agreement.
    is_good = all(each < RELATIVE_ERROR for each in errors) and min(times) > 1
    return {"is_there": True, "error": max(errors), "times": min(times), "is_good": is_good}


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules are none of what is imported
    print(json.dumps(main(sys.argv[1], *map(int, sys.argv[2:]))))
