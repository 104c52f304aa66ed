"""The part of a voice that one window hears, cut as WanVideoWrapper's own loop cuts it."""

from __future__ import annotations

import torch

CONTEXT = 2  # frames before and after each frame that the talk model hears with it
PADDED_MORE = 3  # frames of silence that the loop adds beyond the end of a window


class WindowFeatures:
    """Features [frames, 5, ...]: each frame with its neighbours.

    WanVideoSampler cuts the neighbours out of a long tensor by an index that it clamps at the
    window's ends; this answers any index with the neighbours that were cut before, from beyond
    them.
    """

    def __init__(self, cut: torch.Tensor) -> None:
        self._cut = cut

    @property
    def shape(self) -> torch.Size:
        """That of the features without neighbours: [frames, ...]."""
        return torch.Size([len(self._cut), *self._cut.shape[2:]])

    def to(self, device: torch.device, dtype: torch.dtype) -> WindowFeatures:
        """The same features on that device."""
        return WindowFeatures(self._cut.to(device, dtype))

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        return self._cut[: len(index)]


def window_features(
    features: torch.Tensor, start: int, frames: int, silence: torch.Tensor
) -> WindowFeatures:
    """`frames` of the features [all frames, ...], from `start`.

    A window that reaches the end of the voice is filled with `silence`; the first one, whose voice
    is shorter than the window, holds its last frame.
    """
    end = start + frames
    if start > 0 and end >= len(features):
        missing = silence[-(end - len(features) + PADDED_MORE) :]
        features = torch.cat([features, missing.to(features)])
    centres = torch.arange(start, end)[:, None] + torch.arange(-CONTEXT, CONTEXT + 1)
    return WindowFeatures(features[centres.clamp(0, len(features) - 1)])
