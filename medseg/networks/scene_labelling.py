"""One net on an image pyramid: what a pixel is, from near and from afar."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor

from medseg.errors import ConfigError
from medseg.networks.padding import AnySize
from medseg.networks.pooled_convs import PooledConvs
from medseg.networks.upsample import resize


class SceneLabelling(AnySize):
    """Multi-scale net with shared weights (Farabet 2013), also recurrent.

    The same convolutions see the image, its half, its quarter and so on; their maps
    are brought to the finest one's size and stacked, so that each pixel is scored
    by 1 x 1 from all scales. ReLU in place of tanh and plain means in place of the
    Laplacian pyramid. Any input size: mirrored to a multiple and cropped back.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        widths: Channels of the convolutions, with a pool of 2 between two.
        kernels: Their sizes.
        scales: Levels of the pyramid; 1 is the plain net.
        passes: Times that the net is applied; with 2 or more it sees the image and
            its former logits, at first 0 (Pinheiro 2014).
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: If ``spatial_dims``, ``kernels``, ``scales`` or ``passes`` cannot
            be.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        widths: Sequence[int] = (16, 64, 256),
        kernels: Sequence[int] = (7, 7, 7),
        scales: int = 3,
        passes: int = 1,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        for name, value in (("scales", scales), ("passes", passes)):
            if value < 1:
                raise ConfigError(f"network.{name}", f"is {value}", "Use 1 or more")
        inputs = in_channels + (out_channels if passes > 1 else 0)
        self.net = PooledConvs(inputs, widths, kernels, spatial_dims)
        self.head = Conv[Conv.CONV, spatial_dims](scales * widths[-1], out_channels, 1)
        self.scales, self.passes = scales, passes
        self.multiple = self.net.multiple * 2 ** (scales - 1)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits for images whose size :attr:`multiple` divides."""
        if self.passes == 1:
            return self.scores(x)
        scores = x.new_zeros(x.shape[0], self.head.out_channels, *x.shape[2:])
        for _ in range(self.passes):
            scores = self.scores(torch.cat([x, scores], dim=1))
        return scores

    def scores(self, x: Tensor) -> Tensor:
        """Return the logits of one pass."""
        size = x.shape[2:]
        maps: list[Tensor] = []
        for _ in range(self.scales):
            maps.append(self.net(x)[1][-1])  # before its pooling
            # At half the size, linear interpolation is the mean of each block.
            x = resize(x, [n // 2 for n in x.shape[2:]])
        stack = torch.cat([resize(m, maps[0].shape[2:]) for m in maps], dim=1)
        return resize(self.head(stack), size)
