"""Convolutions at full resolution, no down-sampling."""

from __future__ import annotations

from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.networks.blocks import NormName, check_dims, conv_chain


class FCNFlat(nn.Module):
    """3 x 3 convolutions with ReLU at full resolution, then 1 x 1 to the classes.

    One output pixel sees ``1 + 2 * layers`` pixels: texture, no anatomy. Memory
    holds ``width`` maps of the image's size.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        layers: Number of 3 x 3 convolutions.
        width: Channels of each.
        norm: ``"batch"``, ``"instance"`` or ``"none"``.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: If ``norm``, ``spatial_dims`` or ``layers`` cannot be.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        layers: int = 10,
        width: int = 32,
        norm: NormName = "none",
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        check_dims(spatial_dims)
        if layers < 1:
            raise ConfigError("network.layers", f"is {layers}", "Use 1 or more")
        plan = (in_channels, *[width] * layers)
        self.layers = conv_chain(plan, spatial_dims, norm)
        self.head = Conv[Conv.CONV, spatial_dims](width, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, K, [Z,] Y, X)`` for images ``(N, C, [Z,] Y, X)``."""
        return self.head(self.layers(x))
