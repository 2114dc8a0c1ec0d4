"""A small encoder and nearest-neighbour up-scaling."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import Tensor

from medseg.networks.padding import AnySize
from medseg.networks.pooled_convs import PooledConvs


class FCNUpscaling(AnySize):
    """Three pooled convolutions, nearest x 8, 1 x 1 to the classes.

    The fastest rough mask: every 8 x 8 block of the output is constant. 77,320 +
    81 n parameters for one channel in and n out; sees 28 pixels.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        widths: Channels of the convolutions.
        kernels: Their sizes, ``(3, 4, 4)`` or ``(3, 3, 3)``.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: If ``spatial_dims`` or ``kernels`` cannot be.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        widths: Sequence[int] = (40, 40, 80),
        kernels: Sequence[int] = (3, 4, 4),
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        self.encoder = PooledConvs(in_channels, widths, kernels, spatial_dims)
        self.multiple = self.encoder.multiple
        self.head = Conv[Conv.CONV, spatial_dims](widths[-1], out_channels, 1)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits for images whose size :attr:`multiple` divides."""
        x, _ = self.encoder(x)
        x = F.interpolate(x, scale_factor=float(self.multiple), mode="nearest")
        return self.head(x)
