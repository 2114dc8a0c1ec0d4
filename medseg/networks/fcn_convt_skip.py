"""A small encoder, transposed convolutions and concatenated skips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.networks.blocks import conv_chain
from medseg.networks.padding import AnySize
from medseg.networks.pooled_convs import PooledConvs


class FCNConvTSkip(AnySize):
    """The skip network with learned up-sampling: transposed convolution 3, stride 2.

    481,080 + 81 n parameters for one channel in and n out; 160, 160 and 80
    channels after the three concatenations. A kernel of 3 with stride 2 overlaps on
    every second row and column: watch for a checkerboard on smooth lungs.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        widths: Channels of the convolutions c1, c2, c3, and of the transposed
            convolutions backwards.
        kernels: Sizes of the convolutions.
        dense: Channels of the two 1 x 1 convolutions at the bottom.
        crop: Which end a doubling loses: ``"first"`` row and column as usual in
            PyTorch, ``"last"`` as in Keras, for weights that come from there.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: If ``spatial_dims``, ``kernels`` or ``crop`` cannot be.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        widths: Sequence[int] = (40, 80, 80),
        kernels: Sequence[int] = (3, 4, 4),
        dense: int = 160,
        crop: Literal["first", "last"] = "first",
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        if crop not in ("first", "last"):
            raise ConfigError("network.crop", f"is {crop!r}", "Use first or last")
        dims, self.crop = spatial_dims, crop
        self.encoder = PooledConvs(in_channels, widths, kernels, dims)
        self.multiple = self.encoder.multiple
        self.dense = conv_chain((widths[-1], dense, dense), dims, kernel=1)
        outputs = tuple(reversed(widths))
        inputs = (dense, *(2 * w for w in outputs[:-1]))
        up = Conv[Conv.CONVTRANS, dims]
        self.up = nn.ModuleList(
            up(i, o, 3, stride=2) for i, o in zip(inputs, outputs, strict=True)
        )
        self.head = Conv[Conv.CONV, dims](2 * widths[0], out_channels, 1)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits for images whose size :attr:`multiple` divides."""
        x, maps = self.encoder(x)
        x = self.dense(x)
        for up, skip in zip(self.up, reversed(maps), strict=True):
            # Stride 2 with kernel 3 gives 2 n + 1 pixels: one too many.
            x = crop_one(up(x), self.crop)
            x = torch.cat([x, skip], dim=1)
        return self.head(x)


def crop_one(x: Tensor, end: Literal["first", "last"]) -> Tensor:
    """Take one pixel off the first or last end of each spatial axis."""
    for axis in range(2, x.ndim):
        x = x.narrow(axis, int(end == "first"), x.shape[axis] - 1)
    return x
