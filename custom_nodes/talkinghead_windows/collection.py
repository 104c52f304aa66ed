"""ComfyUI collects garbage after a prompt, and says nothing meanwhile: less to look through."""

from __future__ import annotations

import gc
from typing import Any


def freeze_before_the_first_prompt(server: Any) -> None:  # noqa: ANN401 - ComfyUI has no types
    """Have the collector leave alone what is there before any model is: modules, classes, schemas.

    Those live as long as the process. With them a collection takes some tenths of a second, and
    meanwhile ComfyUI does not tell that a prompt has ended. Models come later, and are collected.
    """
    is_frozen = False

    def freeze(prompt: dict[str, Any]) -> dict[str, Any]:
        nonlocal is_frozen
        if not is_frozen:
            is_frozen = True
            gc.collect()
            gc.freeze()
        return prompt

    server.add_on_prompt_handler(freeze)
