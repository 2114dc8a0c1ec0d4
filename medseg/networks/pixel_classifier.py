"""Logistic regression on the pixel value alone."""

from __future__ import annotations

from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from medseg.networks.blocks import check_dims


class PixelClassifier(nn.Module):
    """The naive baseline: one linear layer at every pixel, no context at all.

    A good score here means that the task is a threshold, or that data leaks.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: If ``spatial_dims`` is unknown.
    """

    def __init__(
        self, in_channels: int = 1, out_channels: int = 2, spatial_dims: int = 2
    ) -> None:
        super().__init__()
        check_dims(spatial_dims)
        self.head = Conv[Conv.CONV, spatial_dims](in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, K, [Z,] Y, X)`` for images ``(N, C, [Z,] Y, X)``."""
        return self.head(x)
