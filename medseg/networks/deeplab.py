"""DeepLab: convolutions with holes at several rates side by side."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.networks.blocks import (
    NormName,
    conv_chain,
    conv_relu,
    point_conv_relu,
    scale_widths,
)
from medseg.networks.padding import AnySize
from medseg.networks.resnet import ResNetEncoder, ResNetNorm
from medseg.networks.upsample import resize

BRANCH = 256
LOW_LEVEL = 48

Version = Literal["v2", "v3", "v3+"]


class AtrousBranches(nn.Module):
    """Parallel 3 x 3 convolutions with holes, 1 x 1, and the image's mean (v3).

    Args:
        inputs: Channels of the map.
        outputs: Channels of each branch and of the result.
        rates: One branch each; rates larger than the map collapse to 1 x 1.
        norm: Any but ``"none"`` gives group norm on the mean: it is one pixel.
        dims: 2 or 3.
        point: Whether the map may be one pixel large, see `normalisation`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rates: Sequence[int],
        norm: NormName,
        dims: int,
        point: bool = False,
    ) -> None:
        super().__init__()
        conv = partial(conv_relu, dims, norm=norm, point=point)
        self.branches = nn.ModuleList([conv(inputs, outputs, kernel=1)])
        self.branches.extend(conv(inputs, outputs, dilation=rate) for rate in rates)
        self.mean = nn.Sequential(
            Pool[Pool.ADAPTIVEAVG, dims](1),
            point_conv_relu(dims, inputs, outputs, norm),
        )
        total = outputs * (len(self.branches) + 1)
        self.project = conv(total, outputs, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, outputs, [Z,] Y, X)``."""
        maps = [branch(x) for branch in self.branches]
        mean = self.mean(x).expand(-1, -1, *x.shape[2:])
        return self.project(torch.cat([*maps, mean], dim=1))


class SummedScores(nn.Module):
    """The v2 head: one 3 x 3 classifier with holes a rate, scores summed."""

    def __init__(
        self, inputs: int, classes: int, rates: Sequence[int], dims: int
    ) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, dims]
        self.scores = nn.ModuleList(
            conv(inputs, classes, 3, padding=rate, dilation=rate) for rate in rates
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return scores ``(N, K, [Z,] Y, X)``."""
        total = self.scores[0](x)
        for score in self.scores[1:]:
            total = total + score(x)
        return total


class DeepLab(AnySize):
    """DeepLab v2 (Chen 2016), v3 (2017) or v3+ (2018) on ResNet-18.

    Any input size: mirrored to a multiple of 32 and cropped back.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        version: ``"v2"``: scores at rates 6, 12, 18, 24, summed; ``"v3"``: 1 x 1,
            rates 6, 12, 18 and the image's mean, projected; ``"v3+"``: and a light
            decoder with the map at 1/4.
        rates: In place of the published rates.
        width: Factor on all widths.
        norm: ``"batch"`` or ``"instance"``.
        step: Pixels of the image a pixel of the last map.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: If an argument cannot be.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        version: Version = "v3+",
        rates: Sequence[int] | None = None,
        width: float = 1.0,
        norm: ResNetNorm = "batch",
        step: Literal[32, 16, 8] = 16,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        if version not in ("v2", "v3", "v3+"):
            raise ConfigError("network.version", f"is {version!r}", "Use v2, v3 or v3+")
        dims, self.version = spatial_dims, version
        self.encoder = ResNetEncoder(in_channels, width, norm, dims, step)
        widths = self.encoder.widths
        rates = rates or ((6, 12, 18, 24) if version == "v2" else (6, 12, 18))
        branch, low = scale_widths((BRANCH, LOW_LEVEL), width)
        if version == "v2":
            self.head = SummedScores(widths[-1], out_channels, rates, dims)
            return
        point = step == 32
        self.branches = AtrousBranches(widths[-1], branch, rates, norm, dims, point)
        self.head = Conv[Conv.CONV, dims](branch, out_channels, 1)
        if version == "v3+":
            self.low = conv_relu(dims, widths[0], low, norm, kernel=1)
            self.decoder = conv_chain((branch + low, branch, branch), dims, norm)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits for images whose size :attr:`multiple` divides."""
        fine, *_, coarse = self.encoder(x)
        if self.version != "v2":
            coarse = self.branches(coarse)
        if self.version == "v3+":
            low = self.low(fine)
            coarse = torch.cat([resize(coarse, low.shape[2:]), low], dim=1)
            coarse = self.decoder(coarse)
        return resize(self.head(coarse), x.shape[2:])
