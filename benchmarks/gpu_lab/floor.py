"""What a step costs at least on this card: its operations over the rates that are measured here.

`python -m benchmarks.gpu_lab.floor DEVICE TOKENS` prints JSON. A process of its own: what it takes
of the GPU is free again afterwards.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

WIDTH, FFN_WIDTH, BLOCKS, HEADS = 5120, 13824, 40, 40
# Of a block, for a token: self attention, the queries and results of those to text and to sound,
# and the two layers after it.
MATRIX_OPERATIONS = 2 * (4 * WIDTH**2 + 2 * WIDTH**2 + 2 * WIDTH**2 + 2 * WIDTH * FFN_WIDTH)
TRIES = 5


def main(device: str, tokens: int) -> dict[str, Any]:
    """The rates (10^12 operations a second), the attentions (ms), and a step's floor (s)."""
    found: dict[str, Any] = {"torch": torch.__version__, "tokens": tokens}
    if device == "cuda":
        found["gpu"] = torch.cuda.get_device_name()

    def seconds(run: Callable[[], torch.Tensor]) -> float:
        taken = []
        for _ in range(TRIES):
            start = time.perf_counter()
            run().flatten()[0].item()  # waits for the card
            taken.append(time.perf_counter() - start)
        return min(taken)

    half = torch.float16
    left = torch.randn(tokens, WIDTH, device=device).to(half)
    right = torch.randn(WIDTH, WIDTH, device=device).to(half)
    product = 2 * tokens * WIDTH**2
    fp16 = product / seconds(lambda: left @ right)
    found["fp16_tflops"] = fp16 / 1e12
    with contextlib.suppress(RuntimeError, AttributeError, NotImplementedError):
        one = torch.ones((), device=device)
        a, b = left.to(torch.float8_e4m3fn), right.to(torch.float8_e4m3fn).t()
        rate = product / seconds(
            lambda: torch._scaled_mm(a, b, scale_a=one, scale_b=one, out_dtype=half)
        )
        found["fp8_tflops"] = rate / 1e12
    shape = (1, HEADS, tokens, WIDTH // HEADS)
    q, k, v = (torch.randn(shape, device=device).to(half) for _ in range(3))
    sdpa = seconds(lambda: scaled_dot_product_attention(q, k, v))
    found["sdpa_ms"] = 1e3 * sdpa
    try:
        from sageattention import sageattn  # type: ignore[import-not-found]  # noqa: PLC0415

        found["sageattn_ms"] = 1e3 * seconds(lambda: sageattn(q, k, v))
        right_one = scaled_dot_product_attention(q, k, v).float()
        error = (sageattn(q, k, v).float() - right_one).norm() / right_one.norm()
        found["sageattn_error"] = float(error)
    except Exception as error:  # noqa: BLE001 - whatever Triton says; the rest is worth having
        found["sageattn_fails"] = f"{type(error).__name__}: {error}"[:500]
    found["step_floor_seconds"] = BLOCKS * (tokens * MATRIX_OPERATIONS / fp16 + sdpa)
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
