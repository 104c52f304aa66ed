"""A node pack for one test: WanVideoWrapper's loop gets each window's noise by a seed of its own.

The loop draws the noise of all windows from one generator, one after another; a chain of prompts
begins with a new one each time. SAME_NOISE_SEEDS names a JSON file with the windows' seeds.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nodes
import torch

NODE_CLASS_MAPPINGS: dict[str, type] = {}


class Seeded:
    """The module torch, but for `randn`: the n-th call of a render draws by the n-th seed."""

    def __init__(self) -> None:
        self.window = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(torch, name)

    def randn(self, *size: int, generator: torch.Generator, **options: Any) -> torch.Tensor:
        seeds = json.loads(Path(os.environ["SAME_NOISE_SEEDS"]).read_text())
        generator.manual_seed(seeds[self.window])
        self.window = (self.window + 1) % len(seeds)
        return torch.randn(*size, generator=generator, **options)


sampler = nodes.NODE_CLASS_MAPPINGS["WanVideoSampler"]
sampler.process.__globals__["multitalk_loop"].__globals__["torch"] = Seeded()
