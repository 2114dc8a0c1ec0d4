"""A small encoder, nearest-neighbour up-sampling and concatenated skips."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import Tensor

from medseg.networks.blocks import conv_chain
from medseg.networks.padding import AnySize
from medseg.networks.pooled_convs import PooledConvs


class FCNSkip(AnySize):
    """Three times nearest x 2, each followed by the encoder's map of that size.

    192,880 + 361 n parameters for one channel in and n out; 240, 320 and 360
    channels after the three concatenations.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        widths: Channels of the convolutions c1, c2, c3.
        kernels: Their sizes.
        dense: Channels of the two 1 x 1 convolutions at the bottom.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: If ``spatial_dims`` or ``kernels`` cannot be.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        widths: Sequence[int] = (40, 80, 80),
        kernels: Sequence[int] = (3, 4, 4),
        dense: int = 160,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        dims = spatial_dims
        self.encoder = PooledConvs(in_channels, widths, kernels, dims)
        self.multiple = self.encoder.multiple
        self.dense = conv_chain((widths[-1], dense, dense), dims, kernel=1)
        self.head = Conv[Conv.CONV, dims](dense + sum(widths), out_channels, 1)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits for images whose size :attr:`multiple` divides."""
        x, maps = self.encoder(x)
        x = self.dense(x)
        for skip in reversed(maps):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = torch.cat([x, skip], dim=1)
        return self.head(x)
