"""PSPNet: averages over coarse grids tell every pixel what the whole image holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

from medseg.networks.blocks import NormName, conv_relu, point_conv_relu
from medseg.networks.padding import AnySize
from medseg.networks.resnet import ResNetEncoder, ResNetNorm
from medseg.networks.upsample import resize

BINS = (1, 2, 3, 6)


class PyramidPooling(nn.Module):
    """Averages over 1, 2, 3 and 6 bins an axis, each seen by every pixel.

    Args:
        channels: Channels C of the map; a level has C / 4, the result 2 C.
        dims: 2 or 3.
        norm: Any but ``"none"`` gives group norm: one bin has no batch statistics.
        bins: Grids of the averages.
    """

    def __init__(
        self, channels: int, dims: int, norm: NormName, bins: Sequence[int] = BINS
    ) -> None:
        super().__init__()
        level = max(1, channels // len(bins))
        self.channels = channels + level * len(bins)
        self.pools = nn.ModuleList(Pool[Pool.ADAPTIVEAVG, dims](b) for b in bins)
        self.levels = nn.ModuleList(
            point_conv_relu(dims, channels, level, norm) for _ in bins
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, 2 C, [Z,] Y, X)``: the map, then its levels."""
        maps = [x]
        for pool, level in zip(self.pools, self.levels, strict=True):
            maps.append(resize(level(pool(x)), x.shape[2:]))
        return torch.cat(maps, dim=1)


class PSPNet(AnySize):
    """PSPNet (Zhao 2016) on ResNet-18.

    Any input size: mirrored to a multiple of 32 and cropped back.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        width: Factor on all widths.
        norm: ``"batch"`` or ``"instance"``; the pooled levels have group norm.
        step: Pixels of the image a pixel of the pooled map.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: If an argument cannot be.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        width: float = 1.0,
        norm: ResNetNorm = "batch",
        step: Literal[32, 16, 8] = 8,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        dims = spatial_dims
        self.encoder = ResNetEncoder(in_channels, width, norm, dims, step)
        channels = self.encoder.widths[-1]
        self.pyramid = PyramidPooling(channels, dims, norm)
        self.conv = conv_relu(
            dims, self.pyramid.channels, channels, norm, point=step == 32
        )
        self.head = Conv[Conv.CONV, dims](channels, out_channels, 1)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits for images whose size :attr:`multiple` divides."""
        logits = self.head(self.conv(self.pyramid(self.encoder(x)[-1])))
        return resize(logits, x.shape[2:])
