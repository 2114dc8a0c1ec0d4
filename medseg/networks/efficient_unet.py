"""A U-Net whose contracting path is EfficientNet-Lite."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.networks.efficientnet import EfficientNetLite, Variant
from medseg.networks.padding import AnySize
from medseg.networks.patches import fold_patches, unfold_patches
from medseg.networks.unet import DoubleConv

_PATCH = 2


class EfficientUNet(AnySize):
    """U-Net (Ronneberger 2015) on the maps of EfficientNet-Lite (Tan, Le 2019).

    The encoder may start from weights learnt on photographs, see
    :func:`medseg.networks.pretrained.load_pretrained`. It halves the size first, so
    the last level also sees the image itself, as patches of 2 x 2, and writes patches
    of logits. Any input size: mirrored to a multiple of 32 and cropped back.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        variant: ``"lite0"`` to ``"lite4"``.
        widths: Channels of the expanding path, from 1/2 to 1/16 of the size.
        dropout: Probability of dropping a channel at the bottom.
        spatial_dims: 2, since photographs are.

    Raises:
        ConfigError: If there is no such variant, or not four widths or 2 axes.
    """

    multiple = 32

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        variant: Variant = "lite0",
        widths: Sequence[int] = (32, 48, 64, 96),
        dropout: float = 0.0,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        if spatial_dims != 2:
            raise ConfigError("network.spatial_dims", f"is {spatial_dims}", "Use 2")
        self.encoder = EfficientNetLite(in_channels, variant)
        *skips, bottom = self.encoder.widths
        if len(widths) != len(skips):
            problem = f"has {len(widths)} levels"
            raise ConfigError("network.widths", problem, f"Give {len(skips)}")
        cells = _PATCH**2
        skips[0] += in_channels * cells
        self.dropout = nn.Dropout2d(dropout)
        inputs = (*widths[1:], bottom)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(i, o, 2, stride=2)
            for i, o in zip(inputs, widths, strict=True)
        )
        self.decoder = nn.ModuleList(
            DoubleConv(2, skip + o, o, "batch")
            for skip, o in zip(skips, widths, strict=True)
        )
        self.head = nn.Conv2d(widths[0], out_channels * cells, 1)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits for images whose size 32 divides."""
        *skips, bottom = self.encoder(x)
        skips[0] = torch.cat([unfold_patches(x, _PATCH), skips[0]], dim=1)
        x = self.dropout(bottom)
        for level in reversed(range(len(skips))):
            x = self.decoder[level](torch.cat([skips[level], self.up[level](x)], dim=1))
        return fold_patches(self.head(x), _PATCH)
