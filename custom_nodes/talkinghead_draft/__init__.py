"""A ComfyUI node that makes a quick CPU preview of a talking portrait."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .node import DraftExtension


async def comfy_entrypoint() -> DraftExtension:
    """What ComfyUI calls to learn this pack's nodes."""
    # Here, so that face, voice, animate and mp4 can be used and tested without ComfyUI.
    from .node import DraftExtension  # noqa: PLC0415

    return DraftExtension()


WEB_DIRECTORY = "./web"
