"""FCN-32s, FCN-16s and FCN-8s on VGG-16."""

from __future__ import annotations

from typing import Literal

from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.networks.blocks import (
    NormName,
    check_dims,
    point_conv_relu,
    scale_widths,
)
from medseg.networks.padding import AnySize
from medseg.networks.upsample import BilinearUp
from medseg.networks.vgg16 import DENSE, VGGEncoder


class FCN(AnySize):
    """FCN (Long, Shelhamer, Darrell 2015) with a step of 32, 16 or 8 pixels.

    134,346,581 parameters for RGB, 21 classes and step 32, the fixed up-sampling
    not counted; the two skip scores of step 8 add 16,170. Scores of pool4 and pool3
    are added to the up-sampled coarser scores. Instead of the original's border of
    100 zeros, fc6 is padded by 3: any input size is mirrored to a multiple of 32
    and the logits are cropped back.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        step: Pixels of the image a pixel of the finest score map: 32, 16 or 8.
        width: Factor on all widths of VGG-16, the dense layers included.
        norm: ``"batch"``, ``"instance"`` or ``"none"``; the dense layers have group
            norm instead.
        learnable: Whether training changes the bilinear up-sampling.
        dropout: Probability of dropping a channel after fc6 and fc7.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: If an argument cannot be.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        step: Literal[32, 16, 8] = 8,
        width: float = 1.0,
        norm: NormName = "batch",
        learnable: bool = False,
        dropout: float = 0.5,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        check_dims(spatial_dims)
        if step not in (32, 16, 8):
            raise ConfigError("network.step", f"is {step}", "Use 32, 16 or 8")
        dims = spatial_dims
        self.encoder = VGGEncoder(in_channels, width, norm, dims)
        widths = self.encoder.widths
        (dense,) = scale_widths((DENSE,), width)
        self.fc6 = point_conv_relu(dims, widths[4], dense, norm, kernel=7, padding=3)
        self.fc7 = point_conv_relu(dims, dense, dense, norm)
        self.dropout = nn.Dropout2d(dropout) if dims == 2 else nn.Dropout3d(dropout)
        conv = Conv[Conv.CONV, dims]
        self.score = conv(dense, out_channels, 1)
        # Pool 4 has a step of 16 pixels, pool 3 of 8.
        skips = {32: (), 16: (3,), 8: (3, 2)}[step]
        self.skips = nn.ModuleDict(
            {str(level): conv(widths[level], out_channels, 1) for level in skips}
        )
        self.up2 = nn.ModuleList(
            BilinearUp(out_channels, 2, dims, learnable) for _ in skips
        )
        self.up = BilinearUp(out_channels, step, dims, learnable)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits for images whose size :attr:`multiple` divides."""
        return self.up(self.coarse_scores(x))

    def coarse_scores(self, x: Tensor) -> Tensor:
        """Return the summed scores at 1/``step`` of a size that 32 divides."""
        pooled = [pool for pool, _ in self.encoder.levels(x)]
        x = self.dropout(self.fc6(pooled[-1]))
        x = self.score(self.dropout(self.fc7(x)))
        for up, (level, score) in zip(self.up2, self.skips.items(), strict=True):
            x = up(x) + score(pooled[int(level)])
        return x
