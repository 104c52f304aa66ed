"""ComfyUI nodes that render an InfiniteTalk video one window per prompt, and say who is where."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .node import WindowsExtension


async def comfy_entrypoint() -> WindowsExtension:
    """What ComfyUI calls to learn this pack's nodes."""
    # Here, so that audio, colour and boxes can be used and tested without ComfyUI.
    from server import PromptServer  # noqa: PLC0415

    from .collection import freeze_before_the_first_prompt  # noqa: PLC0415
    from .node import WindowsExtension  # noqa: PLC0415

    freeze_before_the_first_prompt(PromptServer.instance)
    return WindowsExtension()
