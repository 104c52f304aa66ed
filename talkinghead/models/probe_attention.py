"""A program for ComfyUI's Python: whether SageAttention computes rightly on this card, and quicker.

`probe_attention.py DEVICE TOKENS` prints what it found, as JSON. It stands alone: nothing of the
worker is in that Python. Kernels for another card import well, and fail when they run, or give
other numbers.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

HEADS, WIDTH = 40, 128  # of Wan's 14B
RELATIVE_ERROR = 0.05  # of the whole result; quantised to 8 bits it is 0.01 to 0.03
TRIES = 3  # the first compiles the kernels


def main(device: str, tokens: int) -> dict[str, object]:
    """How it compares with PyTorch's own attention: the worse of both half precisions."""
    if find_spec("sageattention") is None:
        return {"is_there": False, "error": 0.0, "times": 0.0, "is_good": False}
    import torch  # noqa: PLC0415
    from sageattention import sageattn  # type: ignore[import-not-found]  # noqa: PLC0415
    from torch.nn.functional import scaled_dot_product_attention  # noqa: PLC0415

    torch.manual_seed(0)

    def timed(
        attention: Callable[..., torch.Tensor], *qkv: torch.Tensor
    ) -> tuple[float, torch.Tensor]:
        seconds = []
        for _ in range(TRIES):
            start = time.perf_counter()
            result = attention(*qkv).float()
            result.sum().item()  # waits for the card
            seconds.append(time.perf_counter() - start)
        return min(seconds), result

    errors, times = [], []
    for precision in (torch.float16, torch.bfloat16):
        shape = (1, HEADS, tokens, WIDTH)
        qkv = [torch.randn(shape, device=device).to(precision) for _ in range(3)]
        theirs, found = timed(sageattn, *qkv)
        ours, right = timed(scaled_dot_product_attention, *qkv)
        errors.append(float((found - right).norm() / right.norm()))
        times.append(ours / theirs)
    # Written so that a NaN is no agreement.
    is_good = all(each < RELATIVE_ERROR for each in errors) and min(times) > 1
    return {"is_there": True, "error": max(errors), "times": min(times), "is_good": is_good}


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules are none of what is imported
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
